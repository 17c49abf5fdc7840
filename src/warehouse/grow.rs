//! Tables that grow, and tables that others write.
//! In: new rows, the table that they join, and which of its files give way. Out: a table under a new fingerprint that shares every other
//! file with the one before, complete or absent like any other. Which rows are new, and which files hold rows that they
//! replace, is the caller's business.
//!
//! Files are shared by hard links: a version that is vacuumed takes nothing from later ones. Where a file system has no
//! links, files are copied.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use deltalake::DeltaTableBuilder;
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake::kernel::Add;

use super::error::{IoContext, delta_error};
use super::staging::Staging;
use super::table::{check_partitions, entry_of, folder_url, write_staged, write_with};
use super::types::stored_schema;
use super::{Result, TableSummary, Warehouse, WarehouseError};

/// Beside the rows, where Delta readers do not look: what the caller wants to remember of how the table came to be.
const NOTE: &str = "_note.json";

/// Rows that are written but belong to no table yet; they are gone with the value.
pub struct StagedRows {
    staging: Staging,
    schema: SchemaRef,
    partition_by: Vec<String>,
    rows: u64,
}

/// What gives way to new rows.
pub struct Replaced {
    /// Files of the old table, as [`Warehouse::open_with_files`] names them.
    pub files: BTreeSet<String>,
    /// The rows of those files that stay.
    pub survivors: SendableRecordBatchStream,
}

/// A folder in which a table is being made by other means than a stream of rows.
pub struct Unfinished {
    staging: Staging,
    place: PathBuf,
}

impl StagedRows {
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Warehouse {
    /// What was noted beside a table, if anything.
    pub fn note(&self, relation: &str, fingerprint: &str) -> Option<String> {
        let folder = self.table_folder(relation, fingerprint).ok()?;
        fs::read_to_string(folder.join(NOTE)).ok()
    }

    /// Writes rows to disk, so that they can be read as often as it takes to find their place.
    pub async fn stage_rows(
        &self,
        stream: SendableRecordBatchStream,
        partition_by: &[String],
    ) -> Result<StagedRows> {
        let schema = stored_schema(&stream.schema())?;
        check_partitions(&schema, partition_by)?;
        let staging = Staging::create(self)?;
        let summary = write_staged(staging.folder(), &schema, stream, partition_by).await?;
        Ok(StagedRows {
            staging,
            schema,
            partition_by: partition_by.to_vec(),
            rows: summary.rows,
        })
    }

    /// Staged rows for queries.
    pub async fn open_staged(&self, rows: &StagedRows) -> Result<Arc<dyn TableProvider>> {
        let files = files_of(rows.staging.folder()).await?;
        scan(files.1, rows.staging.folder(), DeltaScanConfig::new())
    }

    /// A table for queries, with a column that names each row's file.
    pub async fn open_with_files(
        &self,
        relation: &str,
        fingerprint: &str,
        column: &str,
    ) -> Result<Arc<dyn TableProvider>> {
        let folder = self.table_folder(relation, fingerprint)?;
        let table = self.load_table(relation, fingerprint).await?;
        let config = DeltaScanConfig::new().with_file_column_name(column);
        scan(table, &folder, config)
    }

    /// A table of staged rows alone.
    pub async fn found_table(
        &self,
        relation: &str,
        fingerprint: &str,
        rows: StagedRows,
        note: &str,
    ) -> Result<TableSummary> {
        let place = self.table_folder(relation, fingerprint)?;
        write_note(rows.staging.folder(), note)?;
        rows.staging.move_to(self, &place)?;
        self.table_summary(relation, fingerprint).await
    }

    /// The table `from` and staged rows as one table, without the files that gave way.
    pub async fn grow_table(
        &self,
        relation: &str,
        (from, to): (&str, &str),
        rows: StagedRows,
        replaced: Replaced,
        note: &str,
    ) -> Result<TableSummary> {
        let (before, after) = (
            self.table_folder(relation, from)?,
            self.table_folder(relation, to)?,
        );
        // As a file of two folders, a new one would look like one of the older version, which is durable.
        rows.staging.make_durable()?;
        let staging = Staging::create(self)?;
        let mut shared = Vec::new();
        // By their names alone, which are unique: folders of partitions are written differently in paths and in the log.
        let mut gone: BTreeSet<&str> = replaced.files.iter().map(|name| last_part(name)).collect();
        for (folder, gives_way) in [(before.as_path(), true), (rows.staging.folder(), false)] {
            for (path, file) in files_of(folder).await?.0 {
                if gives_way && gone.remove(last_part(&file.path)) {
                    continue;
                }
                link(&folder.join(&path), &staging.folder().join(&path))?;
                shared.push(file);
            }
        }
        if let Some(unknown) = gone.first() {
            return Err(WarehouseError::Damaged {
                path: before,
                detail: format!("its log does not know the file {unknown}"),
            });
        }
        write_with(
            staging.folder(),
            &rows.schema,
            replaced.survivors,
            &rows.partition_by,
            shared,
        )
        .await?;
        write_note(staging.folder(), note)?;
        staging.move_to(self, &after)?;
        self.table_summary(relation, to).await
    }

    /// An empty folder that becomes the table once it is finished.
    pub fn begin_table(&self, relation: &str, fingerprint: &str) -> Result<Unfinished> {
        Ok(Unfinished {
            place: self.table_folder(relation, fingerprint)?,
            staging: Staging::create(self)?,
        })
    }
}

impl Unfinished {
    pub fn folder(&self) -> &Path {
        self.staging.folder()
    }

    /// Begins with all that a table holds but its log: its files, as its log has them, and its columns. Small files beside the log are
    /// copied, so that they may be written over.
    pub async fn begin_from(
        &self,
        warehouse: &Warehouse,
        relation: &str,
        from: &str,
    ) -> Result<(Vec<Add>, SchemaRef)> {
        let folder = warehouse.table_folder(relation, from)?;
        let (files, table) = files_of(&folder).await?;
        for (path, _) in &files {
            link(&folder.join(path), &self.folder().join(path))?;
        }
        for entry in fs::read_dir(&folder).context("list", &folder)? {
            let entry = entry.context("list", &folder)?.path();
            let is_data = entry.extension().is_some_and(|end| end == "parquet");
            if entry.is_file() && !is_data {
                let name = entry.file_name().expect("an entry of a folder has a name");
                copy(&entry, &self.folder().join(name))?;
            }
        }
        let state = table.snapshot();
        let state = state.map_err(|error| delta_error(&error, self.folder()))?;
        let files = files.into_iter().map(|(_, file)| file).collect();
        Ok((files, state.snapshot().arrow_schema()))
    }

    /// Gives the folder its place, or says that a table is there already, which stays.
    pub fn finish(self, warehouse: &Warehouse, note: &str) -> Result<bool> {
        write_note(self.staging.folder(), note)?;
        self.staging.move_to(warehouse, &self.place)
    }
}

/// The name of a file without its folders.
fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn write_note(folder: &Path, note: &str) -> Result<()> {
    let path = folder.join(NOTE);
    fs::write(&path, note).context("write", &path)
}

/// Where the files of a table lie in its folder, with their entries in its log.
async fn files_of(folder: &Path) -> Result<(Vec<(PathBuf, Add)>, deltalake::DeltaTable)> {
    let failed = |error: deltalake::DeltaTableError| delta_error(&error, folder);
    let builder = DeltaTableBuilder::from_url(folder_url(folder)).map_err(failed)?;
    let table = builder.load().await.map_err(failed)?;
    let state = table.snapshot().map_err(failed)?;
    let file = |file: deltalake::kernel::LogicalFileView| {
        let path = PathBuf::from(file.object_store_path().as_ref());
        (path, entry_of(&file))
    };
    let files = state.log_data().iter().map(file).collect();
    Ok((files, table))
}

fn scan(
    table: deltalake::DeltaTable,
    folder: &Path,
    config: DeltaScanConfig,
) -> Result<Arc<dyn TableProvider>> {
    let state = table
        .snapshot()
        .map_err(|error| delta_error(&error, folder))?;
    let config = config.with_wrap_partition_values(false);
    let scan = DeltaScanNext::new(state.snapshot().clone(), config)
        .map_err(|error| delta_error(&error, folder))?;
    Ok(Arc::new(scan))
}

fn link(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => copy(from, to),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).context("copy to", to).map(drop)
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(parent).context("create the folder", parent)
}
