//! Tables under a fingerprint. In: a stream of record batches. Out: a Delta table with exactly one commit, or none at all.
//! Rows keep the order of the stream within each partition; sorting and naming are the query's business.

use super::disk::FirstFailure;
use super::error::{IoContext, delta_error, query_error};
use super::lock::is_forbidden;
use super::staging::Staging;
use super::types::{can_partition_by, stored_batch, stored_schema};
use super::{ColumnProblem, Result, Warehouse, WarehouseError};
use datafusion::arrow::array::{Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Fields, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{Action, Add, LogicalFileView, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::StreamExt;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use url::Url;

/// A file of this size still reads in one go; more files read in parallel.
const TARGET_FILE_BYTES: NonZeroU64 = NonZeroU64::new(128 << 20).expect("not zero");
/// Smaller than Parquet's usual million, so that a writer holds less and a reader skips more.
const ROW_GROUP_ROWS: usize = 1 << 18;

impl Warehouse {
    /// Whether the table exists, complete. A table that is found is kept by vacuum while any build is running.
    pub async fn has_table(&self, relation: &str, fingerprint: &str) -> Result<bool> {
        let folder = self.table_folder(relation, fingerprint)?;
        let _no_sweep = self.hold_off_sweep()?;
        if !folder.join(FIRST_COMMIT).is_file() {
            return Ok(false);
        }
        mark_as_used(&folder)?;
        Ok(true)
    }

    /// The folder of a table, which may not exist.
    pub fn table_path(&self, relation: &str, fingerprint: &str) -> Result<PathBuf> {
        self.table_folder(relation, fingerprint)
    }

    /// Writes all rows of `stream` as one Delta table with one commit, or, on any error, nothing.
    ///
    /// Holds at most one row group per partition in memory. A stream without rows makes an empty table with its schema.
    /// A table that exists already, or that another process completes meanwhile, is reused.
    ///
    /// # Errors
    /// [`WarehouseError::Columns`] before the stream is read, [`WarehouseError::Query`] if the stream fails,
    /// [`WarehouseError::DiskFull`], [`WarehouseError::Value`].
    pub async fn write_table(
        &self,
        relation: &str,
        fingerprint: &str,
        stream: SendableRecordBatchStream,
        partition_by: &[String],
    ) -> Result<TableSummary> {
        let schema = stored_schema(&stream.schema())?;
        check_partitions(&schema, partition_by)?;
        let place = self.table_folder(relation, fingerprint)?;
        if self.has_table(relation, fingerprint).await? {
            return self.table_summary(relation, fingerprint).await;
        }
        let staging = Staging::create(self)?;
        let summary = write_staged(staging.folder(), &schema, stream, partition_by).await?;
        match staging.move_to(self, &place)? {
            true => Ok(summary),
            false => self.table_summary(relation, fingerprint).await,
        }
    }

    /// The table for queries. Its schema is the one [`stored_schema`] gives.
    pub async fn open_table(
        &self,
        relation: &str,
        fingerprint: &str,
    ) -> Result<Arc<dyn TableProvider>> {
        let folder = self.table_folder(relation, fingerprint)?;
        let table = self.load_table(relation, fingerprint).await?;
        let snapshot = table
            .snapshot()
            .map_err(|error| delta_error(&error, &folder))?
            .snapshot()
            .clone();
        // Partition columns otherwise come as dictionaries, unlike the same column of an unpartitioned table.
        let config = DeltaScanConfig::new().with_wrap_partition_values(false);
        let scan =
            DeltaScanNext::new(snapshot, config).map_err(|error| delta_error(&error, &folder))?;
        Ok(Arc::new(scan))
    }

    /// A file of the table that is not what the log says it is, if there is one. Nothing is read but sizes.
    pub async fn damaged_file(&self, relation: &str, fingerprint: &str) -> Result<Option<String>> {
        let folder = self.table_folder(relation, fingerprint)?;
        let table = self.load_table(relation, fingerprint).await?;
        let state = table
            .snapshot()
            .map_err(|error| delta_error(&error, &folder))?;
        let wrong = state.log_data().iter().find_map(|file| {
            let path = folder.join(file.object_store_path().as_ref());
            let expected = file.size().unsigned_abs();
            match path.metadata().map(|metadata| metadata.len()) {
                Ok(bytes) if bytes == expected => None,
                Ok(bytes) => Some(format!(
                    "`{}` has {bytes} bytes and should have {expected}",
                    path.display()
                )),
                Err(_) => Some(format!("`{}` is not there", path.display())),
            }
        });
        Ok(wrong)
    }

    /// Rows, bytes and files of a table, from its commit.
    pub async fn table_summary(&self, relation: &str, fingerprint: &str) -> Result<TableSummary> {
        let folder = self.table_folder(relation, fingerprint)?;
        let table = self.load_table(relation, fingerprint).await?;
        let state = table
            .snapshot()
            .map_err(|error| delta_error(&error, &folder))?;
        let mut summary = TableSummary::default();
        for file in state.log_data().iter() {
            summary.files += 1;
            summary.bytes += file.size().unsigned_abs();
            summary.rows += file.num_records().ok_or_else(|| WarehouseError::Damaged {
                path: folder.clone(),
                detail: "its commit does not say how many rows a file has".to_string(),
            })? as u64;
        }
        Ok(summary)
    }

    pub(super) async fn load_table(&self, relation: &str, fingerprint: &str) -> Result<DeltaTable> {
        let folder = self.table_folder(relation, fingerprint)?;
        if !self.has_table(relation, fingerprint).await? {
            let (relation, fingerprint) = (relation.to_string(), fingerprint.to_string());
            return Err(WarehouseError::Missing {
                relation,
                fingerprint,
            });
        }
        let builder = DeltaTableBuilder::from_url(folder_url(&folder))
            .map_err(|error| delta_error(&error, &folder))?;
        builder
            .load()
            .await
            .map_err(|error| delta_error(&error, &folder))
    }
}

/// The one commit of a table.
pub(super) const FIRST_COMMIT: &str = "_delta_log/00000000000000000000.json";

/// How large a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSummary {
    pub rows: u64,
    /// Of the data files, compressed.
    pub bytes: u64,
    pub files: u64,
}

/// Vacuum reads this time: what was used since the oldest running build began may be needed by it.
pub(super) fn mark_as_used(folder: &Path) -> Result<()> {
    let marked = File::open(folder).and_then(|folder| folder.set_modified(SystemTime::now()));
    match marked {
        // Who may only read does not build: vacuum leaves what is published.
        Err(error) if is_forbidden(&error) => Ok(()),
        marked => marked.context("set the time of", folder),
    }
}

pub(super) fn folder_url(folder: &Path) -> Url {
    Url::from_directory_path(folder).expect("Warehouse::open made the root absolute")
}

pub(super) async fn write_staged(
    folder: &Path,
    schema: &SchemaRef,
    stream: SendableRecordBatchStream,
    partition_by: &[String],
) -> Result<TableSummary> {
    write_with(folder, schema, stream, partition_by, Vec::new()).await
}

/// As [`write_staged`], with files in the commit that lie in the folder already.
pub(super) async fn write_with(
    folder: &Path,
    schema: &SchemaRef,
    stream: SendableRecordBatchStream,
    partition_by: &[String],
    known: Vec<Add>,
) -> Result<TableSummary> {
    let as_delta_error = |error| delta_error(&error, folder);
    let table = DeltaTableBuilder::from_url(folder_url(folder))
        .and_then(|builder| builder.build())
        .map_err(as_delta_error)?;
    let config = writer_config(schema, partition_by);
    let first_failure = FirstFailure::in_folder(folder);
    let store = first_failure.watch(table.log_store().object_store(None));
    let mut writer = DeltaWriter::new(store, config);
    let rows = write_rows(
        &mut writer,
        &first_failure,
        folder,
        schema,
        stream,
        partition_by,
    )
    .await?;
    let mut files = writer.close().await.map_err(as_delta_error)?;
    first_failure.take()?;
    files.extend(known);
    let summary = TableSummary {
        rows,
        ..of_files(&files)
    };
    first_commit(table, schema, partition_by, files)
        .await
        .map_err(as_delta_error)?;
    Ok(summary)
}

/// What the log of a table says of one of its files, as another log would be told.
pub fn entry_of(file: &LogicalFileView) -> Add {
    Add {
        path: file.path().into_owned(),
        partition_values: file.partition_values_map(),
        size: file.size(),
        modification_time: file.modification_time(),
        data_change: true,
        stats: file.stats(),
        ..Add::default()
    }
}

/// How large files are, without their rows.
pub(super) fn of_files(files: &[Add]) -> TableSummary {
    TableSummary {
        rows: 0,
        bytes: files.iter().map(|file| file.size.unsigned_abs()).sum(),
        files: files.len() as u64,
    }
}

/// The number of rows written.
async fn write_rows(
    writer: &mut DeltaWriter,
    first_failure: &FirstFailure,
    folder: &Path,
    schema: &SchemaRef,
    mut stream: SendableRecordBatchStream,
    partition_by: &[String],
) -> Result<u64> {
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = stored_batch(&batch.map_err(|error| query_error(error, folder))?, schema)?;
        check_partition_values(&batch, partition_by)?;
        rows += batch.num_rows() as u64;
        writer
            .write(&batch)
            .await
            .map_err(|error| delta_error(&error, folder))?;
        first_failure.take()?;
    }
    Ok(rows)
}

fn writer_config(schema: &SchemaRef, partition_by: &[String]) -> WriterConfig {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    // Minimum and maximum leave NaN out, so a reader that trusts them would skip a file whose NaN a filter asks for.
    for column in float_columns(schema.fields(), &[]) {
        properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
    }
    let rows_per_write = Some(8192);
    WriterConfig::new(
        schema.clone(),
        partition_by.to_vec(),
        Some(properties.build()),
        Some(TARGET_FILE_BYTES),
        rows_per_write,
        Default::default(),
        None,
    )
}

/// The paths of floating-point columns, also inside structs.
fn float_columns(fields: &Fields, parents: &[String]) -> Vec<ColumnPath> {
    let mut paths = Vec::new();
    for field in fields {
        let path = [parents, &[field.name().clone()]].concat();
        match field.data_type() {
            DataType::Float32 | DataType::Float64 => paths.push(ColumnPath::new(path)),
            DataType::Struct(fields) => paths.extend(float_columns(fields, &path)),
            _ => {}
        }
    }
    paths
}

/// The first commit of a table, with its files.
pub async fn first_commit(
    table: DeltaTable,
    schema: &Schema,
    partition_by: &[String],
    mut files: Vec<Add>,
) -> Result<DeltaTable, deltalake::DeltaTableError> {
    let columns: StructType = schema.try_into_kernel()?;
    // Partitions are closed in any order; the commit lists them in theirs.
    files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    CreateBuilder::new()
        .with_log_store(table.log_store())
        .with_save_mode(SaveMode::ErrorIfExists)
        .with_columns(columns.fields().cloned())
        .with_partition_columns(partition_by)
        .with_actions(files.into_iter().map(Action::Add))
        .await
}

pub(super) fn check_partitions(schema: &Schema, partition_by: &[String]) -> Result<()> {
    let mut problems = Vec::new();
    let mut problem = |column: &str, message: String, hint: &str| {
        problems.push(ColumnProblem {
            column: column.to_string(),
            message,
            hint: hint.to_string(),
        });
    };
    for (position, column) in partition_by.iter().enumerate() {
        match schema.field_with_name(column) {
            Err(_) => problem(
                column,
                format!("there is no column `{column}` to partition by"),
                "name a column of the query",
            ),
            Ok(field) if !can_partition_by(field.data_type()) => {
                let message = format!(
                    "a table cannot be partitioned by `{column}`, which has the type {}",
                    field.data_type()
                );
                problem(
                    column,
                    message,
                    "partition by dates, strings, whole numbers or booleans",
                );
            }
            Ok(_) if partition_by[..position].contains(column) => {
                problem(
                    column,
                    format!("`{column}` is named twice in the list of partition columns"),
                    "name it once",
                );
            }
            Ok(_) => {}
        }
    }
    if !partition_by.is_empty() && partition_by.len() >= schema.fields().len() {
        let message = "all columns are partition columns".to_string();
        problem(
            &partition_by[0],
            message,
            "leave at least one column that is stored in the files",
        );
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(WarehouseError::Columns(problems)),
    }
}

/// Delta Lake writes an empty string and a missing value of a partition column alike (Delta protocol, "Partition Value
/// Serialization"); so an empty string would come back as null.
fn check_partition_values(batch: &RecordBatch, partition_by: &[String]) -> Result<()> {
    for column in partition_by {
        let values = batch
            .column_by_name(column)
            .and_then(|values| values.as_any().downcast_ref::<StringViewArray>());
        if values.is_some_and(|values| values.iter().any(|value| value == Some(""))) {
            return Err(WarehouseError::Value {
                column: column.clone(),
                data_type: "partition value".to_string(),
                detail: "an empty string would come back as null; use `nullif` or another text"
                    .to_string(),
            });
        }
    }
    Ok(())
}
