//! Clustered facts: merged as they lie, and the same after any history of appends. In which files they lie is tested in
//! `operator_facts_runs`.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::engine::operator::facts::{Appended, ClusteredFacts, Clustering};
use equipoise::engine::operator::register;
use equipoise::metrics::plan::{Aggregate, EventSource, MetricPlan};
use tempfile::TempDir;

use super::operator_states::{
    Data, Random, assignment_batch, data, event_batch, operator_query, plan, rows_of, session,
};

pub const BUCKETS: u16 = 3;
pub const DAY: i64 = 86_400_000_000;

/// Both fact tables in one folder.
pub struct Facts {
    pub context: SessionContext,
    pub events: ClusteredFacts,
    assignments: ClusteredFacts,
}

impl Facts {
    pub async fn open(folder: &Path) -> Facts {
        let context = SessionContext::new_with_config(
            SessionConfig::new()
                .with_target_partitions(2)
                .with_batch_size(41),
        );
        register(&context);
        let clustering = |unit: &str, time: &str, id: &str| Clustering {
            unit: unit.to_owned(),
            time: time.to_owned(),
            id: id.to_owned(),
            buckets: BUCKETS,
        };
        let by_event = clustering("user_id", "occurred_at", "event_id");
        let by_assignment = clustering("unit_id", "assigned_at", "assignment_id");
        let (events, assignments) = (event_batch(&[]).schema(), assignment_batch(&[]).schema());
        let events = ClusteredFacts::open(&folder.join("events"), &events, by_event)
            .await
            .unwrap();
        let folder = folder.join("assignments");
        let assignments = ClusteredFacts::open(&folder, &assignments, by_assignment)
            .await
            .unwrap();
        Facts {
            context,
            events,
            assignments,
        }
    }

    pub async fn append(&mut self, data: &Data) -> (Appended, Appended) {
        let events = self.context.read_batch(event_batch(&data.events)).unwrap();
        let assignments = self
            .context
            .read_batch(assignment_batch(&data.assignments))
            .unwrap();
        let events = self.events.append(&self.context, events).await.unwrap();
        (
            events,
            self.assignments
                .append(&self.context, assignments)
                .await
                .unwrap(),
        )
    }

    pub async fn compact(&mut self, most_runs: usize) {
        self.events.compact(&self.context, most_runs).await.unwrap();
        self.assignments
            .compact(&self.context, most_runs)
            .await
            .unwrap();
    }

    async fn query(&self, query: &str) -> Vec<RecordBatch> {
        for (name, facts) in [("events", &self.events), ("assignments", &self.assignments)] {
            self.context.deregister_table(name).unwrap();
            self.context
                .register_table(name, Arc::new(facts.provider().unwrap()))
                .unwrap();
        }
        self.context
            .sql(query)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap()
    }

    pub async fn states(&self, plan: &MetricPlan) -> Vec<RecordBatch> {
        self.query(&operator_query(plan)).await
    }
}

pub fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub fn between(data: &Data, from: i64, to: i64) -> Data {
    Data {
        events: data
            .events
            .iter()
            .filter(|row| (from..to).contains(&row.at))
            .cloned()
            .collect(),
        assignments: data
            .assignments
            .iter()
            .filter(|row| (from..to).contains(&row.at))
            .cloned()
            .collect(),
    }
}

pub fn random_project(seed: u64) -> (MetricPlan, Data) {
    let mut random = Random(seed);
    let experiments = 2 + random.below(2) as usize;
    (
        plan(&mut random, experiments),
        data(&mut random, experiments),
    )
}

/// What `explain` says of the operator over clustered facts, which gives the states that it gives over rows in any order.
fn merged_as_they_lie((plan, data): (MetricPlan, Data)) -> String {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&data).await;
        let expected = {
            let (plan, data) = (plan.clone(), data.clone());
            std::thread::spawn(move || rows_of(&session(&data, 2), &operator_query(&plan)))
                .join()
                .unwrap()
        };
        assert_eq!(facts.states(&plan).await, expected);
        let explained = facts
            .query(&format!("explain {}", operator_query(&plan)))
            .await;
        let text = pretty_format_batches(&explained).unwrap().to_string();
        assert!(text.contains("clustered in 3 buckets"), "{text}");
        assert!(!text.contains("RepartitionExec"), "{text}");
        text
    })
}

#[test]
fn clustered_facts_are_merged_without_a_sort_and_give_the_same_bytes() {
    let text = merged_as_they_lie(random_project(21));
    assert!(!text.contains("SortExec"), "{text}");
}

/// The plan with one more table of events, here the same one under other names.
/// The same rows under other names.
fn renamed(batch: &RecordBatch, names: [(&str, &str); 3]) -> RecordBatch {
    let name = |field: &str| {
        let other = names.iter().find(|(known, _)| *known == field);
        other.map_or(field, |(_, other)| other).to_owned()
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| (name(field.name()), Arc::clone(column), true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn columns_that_need_quotation_marks_are_merged_as_they_lie() {
    let (mut plan, data) = random_project(23);
    let expected = rows_of(&session(&data, 1), &operator_query(&plan));
    let names = [
        ("event_id", "Event \"Id\""),
        ("user_id", "User Id"),
        ("occurred_at", "order"),
    ];
    let events = renamed(&event_batch(&data.events), names);
    let assigned = [
        ("assignment_id", "Id"),
        ("unit_id", "Unit"),
        ("assigned_at", "At"),
    ];
    let assignments = renamed(&assignment_batch(&data.assignments), assigned);
    (plan.events.unit, plan.events.time) = ("\"User Id\"".into(), "\"order\"".into());
    (plan.assignments.unit, plan.assignments.time) = ("\"Unit\"".into(), "\"At\"".into());
    let folder = tempfile::tempdir().unwrap();
    let query = operator_query(&plan);
    let (explained, found) = on_a_runtime(async {
        let context = SessionContext::new();
        register(&context);
        for (table, rows, names) in [
            ("events", events, names),
            ("assignments", assignments, assigned),
        ] {
            let [id, unit, time] = names.map(|(_, name)| name.to_owned());
            let buckets = BUCKETS;
            let clustering = Clustering {
                unit,
                time,
                id,
                buckets,
            };
            let folder = folder.path().join(table);
            let mut facts = ClusteredFacts::open(&folder, &rows.schema(), clustering)
                .await
                .unwrap();
            let half = rows.num_rows() / 2;
            for rows in [
                rows.slice(0, half),
                rows.slice(half, rows.num_rows() - half),
            ] {
                let rows = context.read_batch(rows).unwrap();
                facts.append(&context, rows).await.unwrap();
            }
            let compacted = facts.compact(&context, 1).await.unwrap();
            assert_eq!(compacted.files_after, usize::from(BUCKETS));
            context
                .register_table(table, Arc::new(facts.provider().unwrap()))
                .unwrap();
        }
        let explain = context.sql(&format!("explain {query}")).await.unwrap();
        let explained = explain.collect().await.unwrap();
        let rows = context.sql(&query).await.unwrap();
        (explained, rows.collect().await.unwrap())
    });
    let text = pretty_format_batches(&explained).unwrap().to_string();
    assert!(
        text.contains("clustered in 3 buckets") && !text.contains("SortExec"),
        "{text}"
    );
    assert!(expected == found);
}

fn over_two_tables(mut plan: MetricPlan) -> MetricPlan {
    plan.more_events = vec![EventSource {
        name: "'1:' || event_name".to_owned(),
        values: vec!["milliseconds * 2".to_owned()],
        codes: vec!["event_name".to_owned()],
        ..plan.events.clone()
    }];
    let mut states = plan.metrics[0].clone();
    states.name = "of the other table".to_owned();
    states.value.event = Some("1:order".to_owned());
    states.value.value = Some(2);
    states.value.aggregate = Aggregate::Sum;
    plan.metrics.push(states);
    plan
}

#[test]
fn facts_of_two_tables_are_merged_in_one_pass() {
    let (plan, data) = random_project(22);
    merged_as_they_lie((over_two_tables(plan), data));
}

#[test]
fn a_sorted_query_on_clustered_facts_merges_instead_of_sorting() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&random_project(3).1).await;
        let explained = facts
            .query("explain select * from events order by unit_key, occurred_at")
            .await;
        let text = pretty_format_batches(&explained).unwrap().to_string();
        assert!(
            text.contains("SortPreservingMergeExec") && !text.contains("SortExec:"),
            "{text}"
        );
    });
}

#[test]
fn any_history_of_appends_ends_in_the_states_of_one_full_build() {
    for seed in 0..2 {
        let (plan, data) = random_project(100 + seed);
        let (whole, pieces) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        on_a_runtime(async {
            let mut full = Facts::open(whole.path()).await;
            full.append(&data).await;
            let expected = full.states(&plan).await;

            let mut facts = Facts::open(pieces.path()).await;
            live_through_a_history(&mut facts, &data, &mut Random(seed)).await;
            assert_eq!(facts.states(&plan).await, expected, "history {seed}");
            assert_eq!(
                count(&facts).await,
                (data.events.len(), data.assignments.len())
            );
        });
    }
}

/// Days in random order, some of them delivered in overlapping pieces, again, or late; now and then a compaction or a restart.
async fn live_through_a_history(facts: &mut Facts, data: &Data, random: &mut Random) {
    let start = data.events.iter().map(|row| row.at).min().unwrap() / DAY * DAY;
    let mut spans: Vec<(i64, i64)> = (0..72)
        .step_by(9)
        .map(|day| (start + (day - 4) * DAY, start + (day + 5) * DAY))
        .collect();
    for _ in 0..3 {
        let first = random.below(60) as i64;
        spans.push((
            start + first * DAY,
            start + (first + 1 + random.below(6) as i64) * DAY,
        ));
    }
    for index in (1..spans.len()).rev() {
        spans.swap(index, random.below(index as u64 + 1) as usize);
    }
    for (from, to) in spans {
        let delivery = between(data, from, to);
        facts.append(&delivery).await;
        if random.chance(20) {
            let again = facts.append(&delivery).await;
            assert_eq!((again.0.rows, again.1.rows), (0, 0), "a retry stored rows");
        }
        if random.chance(25) {
            facts.compact(1 + random.below(4) as usize).await;
        }
    }
}

pub async fn count(facts: &Facts) -> (usize, usize) {
    let rows = |table: &str| format!("select * from {table}");
    let length = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum();
    (
        length(facts.query(&rows("events")).await),
        length(facts.query(&rows("assignments")).await),
    )
}

#[test]
fn a_row_that_comes_twice_in_one_delivery_is_stored_once() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (_, mut data) = random_project(8);
        let rows = data.events.len() as u64;
        data.events.extend(data.events.clone());
        let mut facts = Facts::open(folder.path()).await;
        let (events, _) = facts.append(&data).await;
        assert_eq!((events.rows, events.repeated), (rows, rows));
    });
}

/// Rows that say they are one and differ: one stays, whatever came first, in however many pieces, and whatever was merged between.
#[test]
fn rows_that_differ_end_the_same_in_any_history() {
    let rows = "select * from events order by event_id, occurred_at, user_id";
    for seed in 0..3 {
        let (_, mut data) = random_project(40 + seed);
        let mut random = Random(seed);
        let unique = data.events.len() as u64;
        let others: Vec<_> = data
            .events
            .iter()
            .filter(|_| random.chance(30))
            .cloned()
            .collect();
        for mut row in others {
            row.amount = [None, Some(-1.0), Some(f64::NAN), Some(0.5)][random.below(4) as usize];
            data.events.push(row);
        }
        let mut expected = Vec::new();
        for history in 0..4 {
            for at in (1..data.events.len()).rev() {
                data.events.swap(at, random.below(at as u64 + 1) as usize);
            }
            let folder = TempDir::new().unwrap();
            on_a_runtime(async {
                let mut facts = Facts::open(folder.path()).await;
                let pieces = [1, 2, 5, 9][history];
                let (mut rows_stored, mut replaced) = (0, 0);
                for piece in data.events.chunks(data.events.len().div_ceil(pieces)) {
                    let piece = Data {
                        events: piece.to_vec(),
                        assignments: Vec::new(),
                    };
                    let (appended, _) = facts.append(&piece).await;
                    rows_stored += appended.rows;
                    replaced += appended.replaced;
                    let (again, _) = facts.append(&piece).await;
                    assert_eq!((again.rows, again.replaced), (0, 0), "a retry changed rows");
                    if random.chance(30) {
                        facts.compact(1 + random.below(3) as usize).await;
                    }
                }
                assert_eq!(rows_stored - replaced, unique, "history {history}");
                assert!(history == 0 || replaced > 0, "history {history}");
                let ends = pretty_format_batches(&facts.query(rows).await)
                    .unwrap()
                    .to_string();
                expected.push(ends);
            });
        }
        assert!(
            expected.iter().all(|ends| *ends == expected[0]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_run_that_cannot_be_read_is_named_and_nothing_is_stored() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (_, data) = random_project(12);
        let mut facts = Facts::open(folder.path()).await;
        let rows = facts.append(&data).await.0.rows;
        let run = facts.events.runs()[0].path.clone();
        let path = folder.path().join("events").join(&run);
        let whole = std::fs::read(&path).unwrap();
        let damages: [(&str, &dyn Fn()); 2] = [
            ("truncated", &|| {
                std::fs::write(&path, &whole[..whole.len() / 2]).unwrap()
            }),
            ("missing", &|| std::fs::remove_file(&path).unwrap()),
        ];
        for (damage, harm) in damages {
            harm();
            let late = facts
                .context
                .read_batch(event_batch(&data.events[..]))
                .unwrap();
            let refused = facts.events.append(&facts.context, late).await.unwrap_err();
            let root = refused.find_root().to_string();
            assert!(root.contains(&run), "{damage}: {root}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(count(&facts).await.0 as u64, rows);
    });
}

#[test]
fn a_compaction_that_fails_leaves_the_files_that_there_were() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (_, data) = random_project(12);
        let mut facts = Facts::open(folder.path()).await;
        let half = data.events.len() / 2;
        for part in [&data.events[..half], &data.events[half..]] {
            let rows = facts.context.read_batch(event_batch(part)).unwrap();
            facts.events.append(&facts.context, rows).await.unwrap();
        }
        let files = || {
            let entries = std::fs::read_dir(folder.path().join("events")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (before, runs) = (files(), facts.events.runs());
        let last = runs.last().unwrap();
        assert!(
            runs.iter()
                .filter(|run| run.bucket == runs[0].bucket)
                .count()
                > 1
        );
        assert_ne!(last.bucket, runs[0].bucket);
        let path = folder.path().join("events").join(&last.path);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let refused = facts.events.compact(&facts.context, 1).await.unwrap_err();
        let root = refused.find_root().to_string();
        assert!(root.contains(&last.path), "{root}");
        assert_eq!((files(), facts.events.runs()), (before, runs.clone()));
        std::fs::write(&path, &whole).unwrap();
        facts.events.compact(&facts.context, 1).await.unwrap();
        assert!(facts.events.runs().len() < runs.len());
    });
}

#[test]
fn a_table_that_is_opened_again_holds_what_was_appended() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (plan, data) = random_project(10);
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&data).await;
        let expected = facts.states(&plan).await;
        drop(facts);
        assert_eq!(
            Facts::open(folder.path()).await.states(&plan).await,
            expected
        );
    });
}

/// What kill -9 or a full disk can leave of the first append.
#[test]
fn a_first_append_that_was_cut_short_is_no_hindrance_to_the_next() {
    for left in ["_delta_log", "_clustering.json", "both"] {
        let folder = TempDir::new().unwrap();
        on_a_runtime(async {
            let (plan, data) = random_project(11);
            let events = folder.path().join("events");
            std::fs::create_dir_all(&events).unwrap();
            if left != "_clustering.json" {
                std::fs::create_dir(events.join("_delta_log")).unwrap();
                std::fs::write(events.join("_delta_log/00000000000000000000.json#1"), "{").unwrap();
            }
            if left != "_delta_log" {
                std::fs::write(
                    events.join("_clustering.json"),
                    r#"{"unit":"a","time":"b","id":"c","buckets":1}"#,
                )
                .unwrap();
            }
            assert!(!ClusteredFacts::is_at(&events), "{left}");
            let mut facts = Facts::open(folder.path()).await;
            facts.append(&data).await;
            let expected = facts.states(&plan).await;
            assert!(ClusteredFacts::is_at(&events), "{left}");
            let again = ClusteredFacts::reopen(&events).await.unwrap();
            assert_eq!(again.runs(), facts.events.runs());
            assert_eq!(
                Facts::open(folder.path()).await.states(&plan).await,
                expected
            );
        });
    }
}

#[test]
fn a_table_without_its_clustering_gets_it_back_and_keeps_its_own() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (_, data) = random_project(12);
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&data).await;
        let events = folder.path().join("events");
        std::fs::remove_file(events.join("_clustering.json")).unwrap();
        let facts = Facts::open(folder.path()).await;
        assert!(ClusteredFacts::is_at(&events));
        let other = Clustering {
            unit: "user_id".to_owned(),
            time: "occurred_at".to_owned(),
            id: "event_id".to_owned(),
            buckets: BUCKETS + 1,
        };
        let columns = event_batch(&[]).schema();
        let refused = ClusteredFacts::open(&events, &columns, other).await;
        let said = refused.err().expect("it has other buckets").to_string();
        assert!(
            said.contains("is clustered in another way than asked for"),
            "{said}"
        );
        assert_eq!(count(&facts).await.0, data.events.len());
    });
}

#[test]
fn files_of_a_killed_append_are_removed_with_those_that_were_replaced() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (plan, data) = random_project(13);
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&data).await;
        let expected = facts.states(&plan).await;
        let events = folder.path().join("events");
        let run = facts.events.runs().remove(0);
        std::fs::copy(events.join(run.path), events.join("part-of-nobody.parquet")).unwrap();
        let keep = chrono::Duration::days(1);
        assert_eq!(
            facts.events.vacuum(keep).await.unwrap(),
            0,
            "it may be one that is being written"
        );
        assert_eq!(
            facts.events.vacuum(chrono::Duration::zero()).await.unwrap(),
            1
        );
        assert_eq!(
            facts.events.vacuum(chrono::Duration::zero()).await.unwrap(),
            0
        );
        assert!(!events.join("part-of-nobody.parquet").exists());
        assert!(ClusteredFacts::is_at(&events));
        assert_eq!(facts.states(&plan).await, expected);
    });
}

/// Ids of bytes, as UUIDs are, and ids that a Delta table holds in another type.
#[test]
fn units_of_other_types_are_clustered_and_read_as_those_of_any_table() {
    for id in [
        "decode(md5({}), 'hex')",
        "arrow_cast(decode(md5({}), 'hex'), 'FixedSizeBinary(16)')",
        "arrow_cast(decode(md5({}), 'hex'), 'Dictionary(Int32, Binary)')",
        "arrow_cast({}, 'Dictionary(Int32, Utf8)')",
        "arrow_cast(cast(split_part({}, '-', 2) as bigint), 'UInt16')",
        "arrow_cast(cast(split_part({}, '-', 2) as bigint), 'UInt64')",
        "cast(split_part({}, '-', 2) as decimal(10, 2))",
    ] {
        println!("{id}");
        let (plan, data) = random_project(77);
        let folder = TempDir::new().unwrap();
        on_a_runtime(async {
            let as_they_come = session(&data, 2);
            let clustered = session(&data, 2);
            for (name, unit, time, row) in [
                ("events", "user_id", "occurred_at", "event_id"),
                ("assignments", "unit_id", "assigned_at", "assignment_id"),
            ] {
                let id = id.replace("{}", unit);
                let query = format!("select * replace ({id} as {unit}) from {name}");
                let rows = as_they_come.sql(&query).await.unwrap();
                let clustering = Clustering {
                    unit: unit.to_owned(),
                    time: time.to_owned(),
                    id: row.to_owned(),
                    buckets: BUCKETS,
                };
                let folder = folder.path().join(name);
                let columns = rows.schema().as_arrow().clone();
                let mut facts = ClusteredFacts::open(&folder, &columns, clustering)
                    .await
                    .unwrap();
                let first = facts.append(&clustered, rows.clone()).await.unwrap();
                let mut facts = ClusteredFacts::reopen(&folder).await.unwrap();
                let again = facts.append(&clustered, rows.clone()).await.unwrap();
                assert_eq!((again.rows, again.repeated), (0, first.rows));
                let rows = rows.into_view();
                for (context, table) in [
                    (&as_they_come, rows),
                    (&clustered, Arc::new(facts.provider().unwrap())),
                ] {
                    context.deregister_table(name).unwrap();
                    context.register_table(name, table).unwrap();
                }
            }
            let query = operator_query(&plan);
            let states = async |context: &SessionContext| {
                context.sql(&query).await.unwrap().collect().await.unwrap()
            };
            let found = states(&clustered).await;
            assert_eq!(found, states(&as_they_come).await);
            assert!(found.iter().map(RecordBatch::num_rows).sum::<usize>() > 10);
        });
    }
}
