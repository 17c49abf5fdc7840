//! Inspected source files as a table for queries. In: a source and what [`inspect`](super::inspect()) found. Out: a
//! [`TableProvider`] with that schema, which reads only the columns a query needs, file by file in parallel.

use super::builders::ColumnBuilder;
use super::declared::ColumnType;
use super::files::FileState;
use super::problems::Problems;
use super::rows::{Row, Wanted, read};
use super::{CsvOptions, Format, SourceFile, SourceFiles, SourceTable, parquet_files};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// The files as a table. `table` is what [`inspect`](super::inspect()) found for the same `source`.
///
/// # Errors
/// Only for Parquet files whose place cannot be used. A file that changes after its inspection fails the query that reads it.
pub async fn provider(source: &SourceFiles, table: &SourceTable) -> Result<Arc<dyn TableProvider>> {
    match table.format {
        Format::Parquet => parquet_files::provider(table),
        Format::Csv | Format::JsonLines => Ok(Arc::new(TextTable {
            schema: table.schema.clone(),
            format: table.format,
            csv: source.csv.clone(),
            names: source
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            files: table.files.clone(),
        })),
    }
}

/// CSV or JSON lines files.
#[derive(Debug)]
struct TextTable {
    schema: SchemaRef,
    format: Format,
    csv: CsvOptions,
    /// The declared names, which a file without a header goes by.
    names: Vec<String>,
    files: Vec<SourceFile>,
}

#[async_trait::async_trait]
impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = self.files.iter().map(|file| file.rows as usize).sum();
        Some(Statistics {
            num_rows: Precision::Exact(rows),
            ..Statistics::new_unknown(&self.schema)
        })
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.schema, projection)?;
        let partition_count = state
            .config()
            .target_partitions()
            .clamp(1, self.files.len());
        let partitions = self
            .files
            .chunks(self.files.len().div_ceil(partition_count))
            .map(|files| {
                Arc::new(Partition {
                    schema: schema.clone(),
                    format: self.format,
                    csv: self.csv.clone(),
                    names: self.names.clone(),
                    files: files.to_vec(),
                }) as Arc<dyn PartitionStream>
            });
        Ok(Arc::new(StreamingTableExec::try_new(
            schema.clone(),
            partitions.collect(),
            None,
            [],
            false,
            limit,
        )?))
    }
}

/// Some of the files, read one after the other, with the columns of one query.
#[derive(Debug, Clone)]
struct Partition {
    schema: SchemaRef,
    format: Format,
    csv: CsvOptions,
    names: Vec<String>,
    files: Vec<SourceFile>,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let (sender, partition) = (stream.tx(), self.clone());
        let batch_rows = context.session_config().batch_size();
        stream.spawn_blocking(move || partition.send_all(&sender, batch_rows));
        stream.build()
    }
}

impl Partition {
    fn send_all(&self, sender: &Sender<Result<RecordBatch>>, batch_rows: usize) -> Result<()> {
        let mut batches = Batches::new(&self.schema, batch_rows)?;
        let columns: Vec<String> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let wanted = Wanted {
            columns: Some(&columns),
            names: &self.names,
            csv: &self.csv,
        };
        for file in &self.files {
            check_unchanged(file)?;
            let mut problems = Problems::default();
            let mut outcome = Ok(true);
            read(self.format, file, wanted, &mut problems, &mut |_, row| {
                outcome = batches.add(&row, file).map(|full| match full {
                    Some(batch) => sender.blocking_send(Ok(batch)).is_ok(),
                    None => true,
                });
                matches!(outcome, Ok(true))
            });
            check_unchanged(file)?;
            // Nobody listens any more, for example after a LIMIT.
            if !outcome? {
                return Ok(());
            }
            if let Some(problem) = problems.into_list().into_iter().next() {
                return Err(DataFusionError::Execution(problem.to_string()));
            }
        }
        if let Some(batch) = batches.rest()? {
            // Nobody listening is no error.
            let _ = sender.blocking_send(Ok(batch));
        }
        Ok(())
    }
}

/// The rows must be those whose content hash the table goes by, so a file that changed after its inspection is no good.
pub(super) fn check_unchanged(file: &SourceFile) -> Result<()> {
    match FileState::of(&file.path)? == file.state {
        true => Ok(()),
        false => Err(DataFusionError::Execution(format!(
            "`{}` changed after it was inspected; run again",
            file.name
        ))),
    }
}

/// Collects rows into batches.
struct Batches<'a> {
    schema: &'a SchemaRef,
    builders: Vec<ColumnBuilder>,
    rows: usize,
    batch_rows: usize,
}

impl<'a> Batches<'a> {
    fn new(schema: &'a SchemaRef, batch_rows: usize) -> Result<Self> {
        let builders = schema
            .fields()
            .iter()
            .map(|field| Ok(ColumnBuilder::new(column_type(field.data_type())?)));
        Ok(Self {
            schema,
            builders: builders.collect::<Result<_>>()?,
            rows: 0,
            batch_rows,
        })
    }

    /// The batch that this row fills, if it does.
    fn add(&mut self, row: &Row<'_>, file: &SourceFile) -> Result<Option<RecordBatch>> {
        for (position, (builder, cell)) in self.builders.iter_mut().zip(row.cells).enumerate() {
            if !builder.append(*cell) {
                let place = (row.locate)(position);
                let column = self.schema.field(position).name();
                let words = format!(
                    "{}:{}: a value of column `{column}` no longer fits its type",
                    file.name, place.line
                );
                return Err(DataFusionError::Execution(format!(
                    "{words}; the file changed, run again"
                )));
            }
        }
        self.rows += 1;
        if self.rows == self.batch_rows {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            Ok(None)
        } else {
            self.take().map(Some)
        }
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let columns = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect();
        // The count matters to `select count(*)`, which wants rows without columns.
        let options =
            RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}

/// The way back from the schema that the inspection made.
fn column_type(data_type: &DataType) -> Result<ColumnType> {
    ColumnType::of_arrow(data_type)
        .ok_or_else(|| DataFusionError::Internal(format!("no text is read as {data_type}")))
}
