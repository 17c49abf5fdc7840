//! The Delta tables of events.
//! In: batches of rows, each with the log segment it ends at. Out: one commit per batch that carries the segment's number as
//! the transaction of the log, so that a batch offered again is recognized. Which rows, and when, is left to [`super::rotate`].

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use deltalake::arrow::array::RecordBatch;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, StructType, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use url::Url;

use super::leftovers;
use super::rows;
use super::schema::{PARTITION_COLUMN, Table};
use crate::warehouse::FirstFailure;

/// The tables of one log, in folders named after them.
pub struct EventTables {
    root: PathBuf,
    /// Application id of the log in the Delta protocol's transaction identifiers.
    application: String,
    open: HashMap<Table, DeltaTable>,
    /// When leftovers were last looked for.
    swept: HashMap<Table, Instant>,
}

impl EventTables {
    /// The tables in `root`, written from the log with id `log_id`. Nothing is created yet.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(root: &Path, log_id: u128) -> io::Result<EventTables> {
        fs::create_dir_all(root)?;
        let application = format!("equipoise-events-{}", uuid::Uuid::from_u128(log_id));
        Ok(EventTables {
            root: fs::canonicalize(root)?,
            application,
            open: HashMap::new(),
            swept: HashMap::new(),
        })
    }

    /// The last segment of the log whose rows the table holds.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn last_segment(&mut self, table: Table) -> Result<Option<u64>, DeltaTableError> {
        let application = self.application.clone();
        let Some(table) = self.find(table).await? else {
            return Ok(None);
        };
        let version = table
            .snapshot()?
            .transaction_version(table.log_store().as_ref(), &application)
            .await?;
        Ok(version.and_then(|version| u64::try_from(version).ok()))
    }

    /// Appends rows in one durable commit that says they reach to `last_segment`. After a crash at any point the table has all
    /// of them and [`last_segment`](Self::last_segment) says so, or none of them.
    ///
    /// # Errors
    /// The table cannot be written.
    pub async fn append(
        &mut self,
        table: Table,
        rows: &RecordBatch,
        last_segment: u64,
    ) -> Result<(), DeltaTableError> {
        let folder = self.root.join(table.name());
        let application = self.application.clone();
        let started = SystemTime::now();
        if self.find(table).await?.is_none() {
            let created = create(&folder, table).await?;
            self.open.insert(table, created);
        }
        let delta = self.open.get_mut(&table).expect("it was found or created");
        let files = write_files(delta, &folder, table, rows).await?;
        let paths: Vec<PathBuf> = files.iter().map(|file| folder.join(&file.path)).collect();
        sync_files(&paths)?;
        commit(
            delta,
            files,
            Transaction::new(application, last_segment as i64),
        )
        .await?;
        sync_log(&folder, started)?;
        delta.update_state().await?;
        self.sweep(table, &folder).await;
        Ok(())
    }

    /// Removes what attempts that failed have left, when the process starts to write and then now and then. The rows are stored: what
    /// goes wrong here is tried again.
    async fn sweep(&mut self, table: Table, folder: &Path) {
        let is_recent = |at: &Instant| at.elapsed() < leftovers::AGE;
        if self.swept.get(&table).is_some_and(is_recent) {
            return;
        }
        if let Some(delta) = self.open.get(&table)
            && leftovers::remove(delta, folder).await.is_ok()
        {
            self.swept.insert(table, Instant::now());
        }
    }

    /// Closes all tables; they are read again when they are needed.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// The folder of a table.
    pub fn folder(&self, table: Table) -> PathBuf {
        self.root.join(table.name())
    }

    async fn find(&mut self, table: Table) -> Result<Option<&DeltaTable>, DeltaTableError> {
        let folder = self.folder(table);
        if !self.open.contains_key(&table) && folder.join("_delta_log").is_dir() {
            match DeltaTableBuilder::from_url(url_of(&folder))?.load().await {
                Ok(found) => _ = self.open.insert(table, found),
                // A process that was killed while it created the table.
                Err(DeltaTableError::NotATable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.open.get(&table))
    }
}

async fn create(folder: &Path, table: Table) -> Result<DeltaTable, DeltaTableError> {
    fs::create_dir_all(folder)?;
    let columns: StructType = rows::schema(table).as_ref().try_into_kernel()?;
    CreateBuilder::new()
        .with_location(url_of(folder))
        .with_save_mode(SaveMode::Ignore)
        .with_table_name(table.name())
        .with_columns(columns.fields().cloned())
        .with_partition_columns([PARTITION_COLUMN])
        .await
}

async fn write_files(
    delta: &DeltaTable,
    folder: &Path,
    table: Table,
    batch: &RecordBatch,
) -> Result<Vec<Add>, DeltaTableError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let partitions = vec![PARTITION_COLUMN.to_string()];
    let config = WriterConfig::new(
        rows::schema(table),
        partitions,
        Some(properties),
        None,
        None,
        Default::default(),
        None,
    );
    let first_failure = FirstFailure::in_folder(folder);
    let store = first_failure.watch(delta.log_store().object_store(None));
    let failed = |error| DeltaTableError::GenericError {
        source: Box::new(error),
    };
    let mut writer = DeltaWriter::new(store, config);
    writer.write(batch).await?;
    first_failure.take().map_err(failed)?;
    let files = writer.close().await?;
    first_failure.take().map_err(failed)?;
    Ok(files)
}

async fn commit(
    delta: &DeltaTable,
    files: Vec<Add>,
    transaction: Transaction,
) -> Result<(), DeltaTableError> {
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(vec![PARTITION_COLUMN.to_string()]),
        predicate: None,
    };
    let properties = CommitProperties::default().with_application_transaction(transaction);
    CommitBuilder::from(properties)
        .with_actions(files.into_iter().map(Action::Add).collect())
        .build(Some(delta.snapshot()?), delta.log_store(), operation)
        .await?;
    Ok(())
}

fn url_of(folder: &Path) -> Url {
    Url::from_directory_path(folder).expect("EventTables::new made the root absolute")
}

/// The object store does not fsync; the log may only be discarded when its rows would survive a power failure.
fn sync_files(paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        File::open(path)?.sync_all()?;
        sync_folders_of(path)?;
    }
    Ok(())
}

/// The commit, and a checkpoint if one was made: everything in the Delta log that changed since `started`.
fn sync_log(folder: &Path, started: SystemTime) -> io::Result<()> {
    let log = folder.join("_delta_log");
    // Clocks of file systems are coarse.
    let since = started - Duration::from_secs(2);
    for entry in fs::read_dir(&log)? {
        let entry = entry?;
        if entry.metadata()?.modified()? >= since {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(&log)?.sync_all()?;
    sync_folders_of(&log)
}

/// The folder of a file or table, the one above, and the root: any of them may be new.
fn sync_folders_of(path: &Path) -> io::Result<()> {
    path.ancestors()
        .skip(1)
        .take(3)
        .try_for_each(|folder| File::open(folder)?.sync_all())
}
