//! Rotation of the event log into Delta tables: every record once, in its table, with its columns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::prelude::SessionContext;
use deltalake::DeltaTableBuilder;
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use equipoise::events::accept::{Reception, accept};
use equipoise::events::log::disk::RealDisk;
use equipoise::events::log::{Batch, EventLog, LogConfig};
use equipoise::events::plan::TrackingPlan;
use equipoise::events::record::SCHEMA_HASH;
use equipoise::events::rotate::rotate;
use equipoise::events::schema::Table;
use equipoise::events::tables::EventTables;
use url::Url;

const NOW: i64 = 1_793_491_200_000_000;

#[tokio::test]
async fn rows_have_the_columns_of_their_table() {
    let folder = tempfile::tempdir().unwrap();
    let body = r#"{"sent_at":"2026-10-31T23:50:00Z","events":[
        {"event_id":"a","event_type":"assignment","flag_key":"f","variant":"on","unit_id":"u1","bucket":17,"is_override":true,
         "attributes":{"country":"DE","nested":{"x":[1]}},"extra":null},
        {"event_id":"e","event_type":"exposure","experiment_key":"x","variant":"on","user_id":7,"surface":"top"},
        {"event_id":"m","event_type":"metric","event_name":"paid","value":9.5,"anonymous_id":"z","occurred_at":"2026-10-31T23:40:00Z",
         "properties":{"sku":"é\n"},"loose":true},
        {"event_id":"c","event_type":"flag_change","flag_key":"f","change_kind":"edit","units_moved":3,"merged_at":"2026-10-01T00:00:00Z"},
        {"event_id":"q","event_type":"exposure","user_id":"u9"}, 3
    ]}"#;
    store(folder.path(), body).await;
    rotate_all(folder.path()).await;
    let columns = async |sql: &str| rows(folder.path(), sql).await;
    let assignment = "select event_id, unit_id, flag_key, bucket, is_override, attributes['country'] as country,
        attributes['nested'] as nested, is_bot, environment, received_at, event_date from assignment_event";
    assert_eq!(
        columns(assignment).await,
        ["a u1 f 17 true DE {\"x\":[1]} false test 2026-11-01T00:00:00Z 2026-11-01"]
    );
    assert_eq!(
        columns("select unit_id, user_id, surface from exposure_event").await,
        ["7 7 top"]
    );
    let metric = "select unit_id, value, properties['sku'] = 'é\n' as sku, properties['loose'] as loose, occurred_at,
        sent_at, corrected_at, event_date from metric_event";
    assert_eq!(
        columns(metric).await,
        [
            "z 9.5 true true 2026-10-31T23:40:00Z 2026-10-31T23:50:00Z 2026-10-31T23:50:00Z 2026-10-31"
        ],
        "the client's clock is ten minutes slow and it kept the event for ten minutes"
    );
    assert_eq!(
        columns("select units_moved, merged_at from flag_change_event").await,
        ["3 2026-10-01T00:00:00Z"]
    );
    let quarantine =
        columns("select event_id, reason, payload from event_quarantine order by ingest_seq").await;
    assert_eq!(
        quarantine[0],
        "q `experiment_key` is missing; `variant` is missing {\"event_id\":\"q\",\"event_type\":\"exposure\",\"user_id\":\"u9\"}"
    );
    assert!(
        quarantine[1].starts_with("content-")
            && quarantine[1].ends_with(" the event is not a JSON object 3")
    );
}

#[tokio::test]
async fn a_process_killed_before_it_removed_the_segments_does_not_double_rows() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), &metrics(0..50)).await;
    let saved = segments(folder.path());
    rotate_all(folder.path()).await;
    restore(&saved);
    store(folder.path(), &metrics(40..60)).await;
    rotate_all(folder.path()).await;
    assert_eq!(
        ids(folder.path(), Table::Metric).await,
        (0..60).map(|id| (format!("m{id}"), 1)).collect()
    );
}

#[tokio::test]
async fn a_process_killed_between_two_tables_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flag_change =
        |id: &str| format!(r#"{{"event_id":"{id}","flag_key":"f","change_kind":"edit"}}"#);
    let exposure = |id: &str| {
        format!(r#"{{"event_id":"{id}","experiment_key":"e","variant":"v","user_id":"u"}}"#)
    };
    store(
        folder.path(),
        &format!("[{},{}]", flag_change("c1"), exposure("e1")),
    )
    .await;
    rotate_all(folder.path()).await;
    store(
        folder.path(),
        &format!("[{},{}]", flag_change("c2"), exposure("e2")),
    )
    .await;
    let saved = segments(folder.path());
    rotate_all(folder.path()).await;
    // As if the process had died after the first of two commits: the second table is one version behind.
    undo_last_commit(&folder.path().join("tables/flag_change_event"));
    restore(&saved);
    store(
        folder.path(),
        &format!("[{},{}]", flag_change("c3"), exposure("e3")),
    )
    .await;
    rotate_all(folder.path()).await;
    let once = |names: [&str; 3]| {
        names
            .into_iter()
            .map(|name| (name.to_string(), 1))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        ids(folder.path(), Table::Exposure).await,
        once(["e1", "e2", "e3"])
    );
    assert_eq!(
        ids(folder.path(), Table::FlagChange).await,
        once(["c1", "c2", "c3"])
    );
}

#[tokio::test]
async fn a_process_killed_while_it_created_a_table_creates_it_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tables/metric_event/_delta_log")).unwrap();
    store(folder.path(), &metrics(0..3)).await;
    rotate_all(folder.path()).await;
    assert_eq!(ids(folder.path(), Table::Metric).await.len(), 3);
}

#[tokio::test]
async fn many_rotations_keep_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    for step in 0..25 {
        store(folder.path(), &metrics(step * 10..step * 10 + 20)).await;
        rotate_all(folder.path()).await;
    }
    assert_eq!(
        ids(folder.path(), Table::Metric).await,
        (0..260).map(|id| (format!("m{id}"), 1)).collect()
    );
}

/// What a kill between the files and their commit leaves; the rows come again in other files.
#[tokio::test]
async fn files_that_no_commit_names_are_removed_once_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path(), &metrics(0..3)).await;
    rotate_all(folder.path()).await;
    let table = folder.path().join("tables/metric_event");
    let partition = fs::read_dir(&table)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let partition = partition.filter(|path| path.is_dir() && !path.ends_with("_delta_log"));
    let partition = partition.last().expect("a folder for a day");
    let stored = fs::read_dir(&partition)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let plant = |name: &str, hours: u64| {
        fs::copy(&stored, partition.join(name)).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(partition.join(name))
            .unwrap();
        let age = std::time::Duration::from_secs(hours * 3600);
        file.set_modified(std::time::SystemTime::now() - age)
            .unwrap();
    };
    for (name, hours) in [
        ("old.parquet", 2),
        ("half.parquet#1", 2),
        ("young.parquet", 0),
    ] {
        plant(name, hours);
    }
    let file = fs::File::options().write(true).open(&stored).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    store(folder.path(), &metrics(3..5)).await;
    rotate_all(folder.path()).await;
    let is_there = |name: &str| partition.join(name).exists();
    assert!(!is_there("old.parquet") && !is_there("half.parquet#1"));
    assert!(
        is_there("young.parquet"),
        "somebody else may be about to name it"
    );
    assert_eq!(ids(folder.path(), Table::Metric).await.len(), 5);
}

#[tokio::test]
async fn a_full_disk_is_named_and_the_log_keeps_what_was_not_moved() {
    let Some(disk) = super::full_disk::TinyDisk::mount() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(disk.path().join("tables")).unwrap();
    std::os::unix::fs::symlink(disk.path().join("tables"), folder.path().join("tables")).unwrap();
    store(folder.path(), &metrics(0..3)).await;
    rotate_all(folder.path()).await;
    let filler = disk.path().join("filler");
    let _ = fs::write(&filler, vec![1; 8 << 20]);
    store(folder.path(), &metrics(3..2000)).await;
    let log = open(folder.path());
    let mut tables = EventTables::new(&folder.path().join("tables"), log.id()).unwrap();
    let said = rotate(&log, &mut tables).await.unwrap_err().to_string();
    assert!(
        said.contains("metric_event") && said.contains("the disk is full"),
        "{said}"
    );
    assert!(!log.sealed().is_empty());
    drop((log, tables));
    fs::remove_file(&filler).unwrap();
    rotate_all(folder.path()).await;
    let ids = ids(folder.path(), Table::Metric).await;
    assert!(ids.len() == 2000 && ids.values().all(|times| *times == 1));
}

/// Commits a body to the log in `folder`, as a process that then ends.
async fn store(folder: &Path, body: &str) {
    let log = open(folder);
    let mut batch = Batch::default();
    let plan = TrackingPlan::default();
    let reception = Reception {
        received_at: NOW,
        environment: "test",
        bot_reason: "",
        sender: None,
        plan: &plan,
    };
    accept(body.as_bytes(), &reception, &mut batch).unwrap();
    log.submit(&batch).unwrap().wait().await.unwrap();
}

async fn rotate_all(folder: &Path) {
    let log = open(folder);
    let mut tables = EventTables::new(&folder.join("tables"), log.id()).unwrap();
    rotate(&log, &mut tables).await.unwrap();
    assert!(log.sealed().is_empty());
}

fn open(folder: &Path) -> EventLog {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..LogConfig::new(folder.join("log"), SCHEMA_HASH)
    };
    EventLog::open(config, Arc::new(RealDisk)).unwrap()
}

fn metrics(ids: std::ops::Range<u64>) -> String {
    let events = ids.map(|id| {
        format!(
            r#"{{"event_id":"m{id}","event_type":"metric","event_name":"paid","user_id":"u{id}"}}"#
        )
    });
    format!("[{}]", events.collect::<Vec<_>>().join(","))
}

fn segments(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let log = open(folder);
    log.sealed()
        .into_iter()
        .map(|segment| (segment.path.clone(), fs::read(&segment.path).unwrap()))
        .collect()
}

fn restore(saved: &[(PathBuf, Vec<u8>)]) {
    saved
        .iter()
        .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

fn undo_last_commit(table: &Path) {
    let mut commits: Vec<PathBuf> = fs::read_dir(table.join("_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    commits.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    fs::remove_file(commits.iter().max().unwrap()).unwrap();
}

/// How often each id is in a table.
pub async fn ids(folder: &Path, table: Table) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows(folder, &format!("select event_id from {}", table.name())).await {
        *counts.entry(row).or_insert(0) += 1;
    }
    counts
}

/// The rows of a query over the tables in `folder`, values separated by spaces.
pub async fn rows(folder: &Path, sql: &str) -> Vec<String> {
    let context = SessionContext::new();
    for table in Table::ALL {
        let path = folder.join("tables").join(table.name());
        if path.join("_delta_log/00000000000000000000.json").is_file() {
            let url = Url::from_directory_path(path).unwrap();
            let delta = DeltaTableBuilder::from_url(url)
                .unwrap()
                .load()
                .await
                .unwrap();
            let config = DeltaScanConfig::new().with_wrap_partition_values(false);
            let scan =
                DeltaScanNext::new(delta.snapshot().unwrap().snapshot().clone(), config).unwrap();
            context
                .register_table(table.name(), Arc::new(scan))
                .unwrap();
        }
    }
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(texts).collect()
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::DataType;
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| cast(column, &DataType::Utf8).unwrap())
        .collect();
    let row = |row: usize| {
        columns
            .iter()
            .map(move |column| column.as_string::<i32>().value(row))
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..batch.num_rows()).map(row).collect()
}
