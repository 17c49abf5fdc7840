//! Clustered facts as a table: one partition per sorted run, its order declared.
//! In: the runs of a fact table. Out: scans whose partitions are the runs in the order of [`ClusteredTable::runs`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path as StorePath;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::expressions::Column;

use super::{Clustering, RunFile, UNIT_KEY};

#[derive(Debug, Clone)]
pub struct ClusteredTable {
    folder: PathBuf,
    /// Columns of the files.
    stored: SchemaRef,
    /// Columns that are read.
    schema: SchemaRef,
    clustering: Clustering,
    runs: Vec<RunFile>,
}

impl ClusteredTable {
    pub(super) fn new(
        folder: &Path,
        stored: SchemaRef,
        clustering: Clustering,
        runs: Vec<RunFile>,
    ) -> ClusteredTable {
        ClusteredTable {
            folder: folder.to_path_buf(),
            schema: read_schema(&stored, &clustering),
            stored,
            clustering,
            runs,
        }
    }

    /// The same rows as a relation of a project: the columns of its query as any table stores them, without the unit key.
    pub fn as_relation(&self) -> Result<ClusteredTable> {
        let own = self.stored.fields().iter().skip(1).cloned();
        let own = Schema::new(own.collect::<Vec<_>>());
        let schema = crate::warehouse::stored_schema(&own)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ClusteredTable {
            schema,
            ..self.clone()
        })
    }

    /// The same rows as the operator merges them: with the unit key, texts as dictionaries.
    pub fn as_runs(&self) -> ClusteredTable {
        ClusteredTable {
            schema: read_schema(&self.stored, &self.clustering),
            ..self.clone()
        }
    }

    pub fn clustering(&self) -> &Clustering {
        &self.clustering
    }

    pub fn runs(&self) -> &[RunFile] {
        &self.runs
    }

    /// The same table without the runs for which `keeps` is false.
    pub fn restricted(&self, keeps: impl Fn(&RunFile) -> bool) -> ClusteredTable {
        let runs = self.runs.iter().filter(|run| keeps(run)).cloned().collect();
        ClusteredTable {
            runs,
            ..self.clone()
        }
    }

    fn file_group(&self, run: &RunFile) -> FileGroup {
        let path = self.folder.join(&run.path);
        // From a text it would be encoded: `ö` would be looked for as `%C3%B6`.
        let location = StorePath::from_absolute_path(&path)
            .expect("the folder of a table is absolute and has a UTF-8 path");
        let file = PartitionedFile::new_from_meta(ObjectMeta {
            location,
            last_modified: DateTime::UNIX_EPOCH,
            size: run.size,
            e_tag: None,
            version: None,
        });
        FileGroup::new(vec![file.with_arrow_schema(self.file_schema())])
    }

    /// The columns of a file in the types that are read.
    fn file_schema(&self) -> SchemaRef {
        let typed = |field: &Arc<Field>| {
            let read = self.schema.field_with_name(field.name());
            let data_type = read.map_or(field.data_type(), Field::data_type);
            field.as_ref().clone().with_data_type(data_type.clone())
        };
        let fields: Vec<Field> = self.stored.fields().iter().map(typed).collect();
        Arc::new(Schema::new(fields))
    }

    fn ordering(&self) -> Option<LexOrdering> {
        let names = [UNIT_KEY, &self.clustering.time, &self.clustering.id];
        let ascending = |name: &str| {
            let index = self.schema.index_of(name).ok()?;
            Some(PhysicalSortExpr::new_default(Arc::new(Column::new(
                name, index,
            ))))
        };
        LexOrdering::new(
            names
                .map(ascending)
                .into_iter()
                .collect::<Option<Vec<_>>>()?,
        )
    }
}

/// Texts other than the id come as dictionaries: few distinct ones, looked at once per batch.
fn read_schema(stored: &Schema, clustering: &Clustering) -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = stored.fields().iter().map(|field| {
        let is_repeated_text =
            *field.data_type() == DataType::Utf8 && *field.name() != clustering.id;
        let data_type = if is_repeated_text {
            text.clone()
        } else {
            field.data_type().clone()
        };
        Field::new(field.name(), data_type, field.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[async_trait]
impl TableProvider for ClusteredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.runs.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let options = state.table_options().parquet.clone();
        let source =
            ParquetSource::new(Arc::clone(&self.schema)).with_table_parquet_options(options);
        let config =
            FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
                .with_file_groups(self.runs.iter().map(|run| self.file_group(run)).collect())
                .with_projection_indices(projection.cloned())?
                .with_output_ordering(self.ordering().into_iter().collect())
                .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
