//! The log of a clustered table: which files it has, and what it says of them.
//! In: files that come and go. Out: commits, each whole or not at all; for a table that is being made, one commit of all.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder};
use url::Url;

use super::columns::with_partitions;
use super::{ClusteredFacts, Clustering, DAY, PARTITIONS, RunFile, StoredFile, external};
use crate::warehouse::{IoContext as _, TableSummary, first_commit};

impl ClusteredFacts {
    /// Files come and go. New ones are durable before the log names them, and the log is before anybody is told.
    pub(super) async fn commit(
        &mut self,
        actions: Vec<Action>,
        operation: DeltaOperation,
    ) -> Result<()> {
        let mut gone = HashSet::new();
        let mut files = Vec::new();
        for action in &actions {
            match action {
                Action::Add(file) => files.push(file.clone()),
                Action::Remove(file) => drop(gone.insert(file.path.clone())),
                _ => {}
            }
        }
        match self.is_logged() {
            true => self.log(actions, &files, operation).await?,
            // Nobody else knows these files.
            false => gone
                .iter()
                .try_for_each(|path| fs::remove_file(self.folder.join(path)))?,
        }
        self.files.retain(|file| !gone.contains(&file.run.path));
        self.files
            .extend(stored_files(files.into_iter(), &self.clustering)?);
        sort(&mut self.files);
        Ok(())
    }

    /// Whether each change is a commit; else [`ClusteredFacts::finish`] makes one of all.
    fn is_logged(&self) -> bool {
        self.table.version().is_some()
    }

    async fn log(
        &mut self,
        actions: Vec<Action>,
        files: &[Add],
        operation: DeltaOperation,
    ) -> Result<()> {
        for file in files {
            sync(&self.folder.join(&file.path))?;
        }
        sync(&self.folder)?;
        let state = self.table.snapshot().map_err(external)?.clone();
        let log = self.table.log_store();
        let done = CommitBuilder::default()
            .with_actions(actions)
            .build(Some(&state), log, operation)
            .await
            .map_err(external)?;
        self.table.state = Some(done.snapshot);
        let version = done.version;
        sync(&self.folder.join(LOG).join(format!("{version:020}.json")))?;
        sync(&self.folder.join(LOG))
    }

    pub(super) fn append_operation(&self) -> DeltaOperation {
        let partition_by = Some(PARTITIONS.map(str::to_owned).to_vec());
        DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by,
            predicate: None,
        }
    }

    /// One commit of all files of a table that was begun.
    pub async fn finish(self) -> Result<TableSummary> {
        let mut summary = TableSummary::default();
        let mut files = Vec::new();
        for StoredFile { run, entry } in self.files {
            summary.files += 1;
            summary.bytes += run.size;
            summary.rows += run.rows;
            files.push(Add {
                data_change: true,
                ..entry
            });
        }
        create(self.table, &self.schema, files).await?;
        Ok(summary)
    }
}

/// The folder of the table's commits.
const LOG: &str = "_delta_log";

/// Whether a folder holds a table; the folder of its log is made before the first commit.
pub(super) fn has_commits(folder: &Path) -> bool {
    let is_commit = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(|first: char| first.is_ascii_digit()) && name.ends_with(".json")
    };
    fs::read_dir(folder.join(LOG)).is_ok_and(|entries| entries.flatten().any(is_commit))
}

/// Makes the content of a file, or the entries of a folder, survive a power failure.
pub(super) fn sync(path: &Path) -> Result<()> {
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    Ok(synced.context("make durable", path)?)
}

fn url_of(folder: &Path) -> Url {
    Url::from_directory_path(folder).expect("a canonical path is absolute")
}

pub(super) async fn load(folder: &Path) -> Result<DeltaTable> {
    let folder = fs::canonicalize(folder)?;
    DeltaTableBuilder::from_url(url_of(&folder))
        .map_err(external)?
        .load()
        .await
        .map_err(external)
}

/// Without a log yet.
pub(super) fn new_table(folder: &Path) -> Result<DeltaTable> {
    DeltaTableBuilder::from_url(url_of(folder))
        .and_then(|builder| builder.build())
        .map_err(external)
}

pub(super) async fn create(
    table: DeltaTable,
    schema: &SchemaRef,
    files: Vec<Add>,
) -> Result<DeltaTable> {
    let partition_by = PARTITIONS.map(str::to_owned);
    first_commit(table, &with_partitions(schema), &partition_by, files)
        .await
        .map_err(external)
}

/// By bucket, day and path.
pub(super) fn stored_files(
    entries: impl Iterator<Item = Add>,
    clustering: &Clustering,
) -> Result<Vec<StoredFile>> {
    let file = |entry: Add| {
        let run = run_file(&entry, &clustering.time)?;
        Ok(StoredFile { run, entry })
    };
    let mut files = entries.map(file).collect::<Result<Vec<_>>>()?;
    sort(&mut files);
    Ok(files)
}

fn sort(files: &mut [StoredFile]) {
    files.sort_by(|a, b| place(&a.run).cmp(&place(&b.run)));
}

fn place(run: &RunFile) -> (u16, i32, &str) {
    (run.bucket, run.day, &run.path)
}

fn run_file(file: &Add, time: &str) -> Result<RunFile> {
    let value = |name: &str| {
        let value = file.partition_values.get(name).cloned().flatten();
        value.ok_or_else(|| damaged(&file.path, name))
    };
    let day = |name: &str| {
        let text = value(name)?;
        let date = chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d")
            .map_err(|_| damaged(&file.path, name))?;
        Ok::<i32, DataFusionError>(
            date.signed_duration_since(chrono::NaiveDate::default())
                .num_days() as i32,
        )
    };
    let through = day("through")?;
    let last_moment = (i64::from(through) + 1) * DAY - 1;
    let stats = file.stats.as_deref().unwrap_or_default();
    let stats: Statistics =
        serde_json::from_str(stats).map_err(|_| damaged(&file.path, "numRecords"))?;
    Ok(RunFile {
        until: stats.latest(time).unwrap_or(last_moment).min(last_moment),
        bucket: value("bucket")?
            .parse()
            .map_err(|_| damaged(&file.path, "bucket"))?,
        day: day("day")?,
        through,
        path: file.path.clone(),
        size: file.size.unsigned_abs(),
        rows: stats.num_records,
    })
}

/// What is asked of the statistics that the log has of a file.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    num_records: u64,
    max_values: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Statistics {
    /// The latest time that they allow for, if they say; they leave out what is below a millisecond.
    fn latest(&self, time: &str) -> Option<i64> {
        let text = self.max_values.as_ref()?.get(time)?.as_str()?;
        let latest = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        Some(latest.and_utc().timestamp_micros() + 999)
    }
}

fn damaged(path: &str, column: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the file {path} of a clustered table has no readable `{column}`"
    ))
}
