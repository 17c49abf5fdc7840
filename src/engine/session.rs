//! One DataFusion session: every function and operator of the product, and the relations of one run.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider,
};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::MemTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::decision;
use super::first_rows::FirstRows;
use super::memory::SharedMemory;
use super::operator;
use super::operator::facts::ClusteredFacts;
use super::sources::{self, SourceFiles, SourceTable};
use crate::sql::{self, Analyzer, SqlError};
use crate::warehouse::{TableSummary, Warehouse, WarehouseError};

/// How a session is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineOptions {
    /// Partitions that one query runs on; all cores if absent.
    pub threads: Option<usize>,
    /// Bytes that sorts, joins and groups may hold before they spill to disk.
    pub memory_limit: Option<usize>,
}

/// Runs queries over the relations that were added to it.
#[derive(Clone)]
pub struct Engine {
    pub(super) context: SessionContext,
    /// Under a memory limit, tables are written one at a time: sorts that share it can take what another needs to spill.
    turns: Option<Arc<Semaphore>>,
}

/// Settings under which tasks that spill rows they exchange do not wait for each other for ever.
// With two files that are still written, a reader waits for the older one while its rows are in the newer one, and the query never ends
// (apache/datafusion#24883). A file of one batch is never open when it is read. To be dropped with a DataFusion that mends it.
pub fn spilling_safely(config: SessionConfig) -> SessionConfig {
    config.set_u64("datafusion.execution.max_spill_file_size_bytes", 1)
}

impl Engine {
    pub fn new(options: EngineOptions) -> Result<Self> {
        let mut config = SessionConfig::new().with_information_schema(true);
        if let Some(threads) = options.threads {
            config = config.with_target_partitions(threads.max(1));
        }
        config.options_mut().sql_parser.collect_spans = true;
        // Statistics of the written files say which can be skipped.
        config.options_mut().execution.parquet.pushdown_filters = true;
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(bytes) = options.memory_limit {
            // What a sort holds is merged before it spills, which takes memory of its own: kept back beforehand, or sorts that
            // share the pool take all of it and then fail.
            let sorts = config.target_partitions().max(1);
            config.options_mut().execution.sort_spill_reservation_bytes = bytes / (3 * sorts);
            config = spilling_safely(config);
            runtime = runtime.with_memory_pool(Arc::new(SharedMemory::of(bytes)));
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(FirstRows));
        let context = SessionContext::new_with_state(state.build());
        sql::functions::register(&context);
        operator::register(&context);
        context.register_udf(decision::decide_function());
        let turns = options.memory_limit.map(|_| Arc::new(Semaphore::new(1)));
        Ok(Self { context, turns })
    }

    /// Waits until a table may be written; without a memory limit, at once.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turns = self.turns.clone()?;
        turns.acquire_owned().await.ok()
    }

    /// A context in which all rows can be sorted: under a memory limit by one sort alone.
    pub(super) fn sorting(&self) -> SessionContext {
        self.on_one_partition(true)
    }

    /// The same for a query whose rows come in no order, such as those of a union: under a memory limit they are brought together first,
    /// for the parts would be sorted apart, by sorts that can take what another needs to spill.
    pub(super) fn sorting_at_once(&self) -> SessionContext {
        self.on_one_partition(false)
    }

    /// Under a memory limit; sorts may be made of sorted parts or not.
    fn on_one_partition(&self, may_merge: bool) -> SessionContext {
        if self.turns.is_none() {
            return self.context.clone();
        }
        // The relations are those of this session: a default catalog would take their place.
        let config = self
            .context
            .copied_config()
            .with_target_partitions(1)
            .with_repartition_sorts(may_merge)
            .with_create_default_catalog_and_schema(false);
        let state = SessionStateBuilder::new_from_existing(self.context.state());
        SessionContext::new_with_state(state.with_config(config).build())
    }

    /// An analyzer with the same functions and no relations.
    pub fn analyzer(&self) -> Result<Analyzer> {
        let other = Self::new(EngineOptions {
            threads: Some(1),
            memory_limit: None,
        })?;
        Ok(Analyzer::new(other.context))
    }

    pub async fn add_source(
        &self,
        relation: &str,
        files: &SourceFiles,
        table: &SourceTable,
    ) -> Result<()> {
        sql::register(
            &self.context,
            relation,
            sources::provider(files, table).await?,
        )
    }

    /// A session beside this one: the same functions and memory, and of the relations only those that are named.
    pub async fn beside(&self, relations: &[String]) -> Result<Self> {
        let state = self.context.state();
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let names = &state.config_options().catalog;
        let catalog = Arc::new(MemoryCatalogProvider::new());
        let schema = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(&names.default_schema, schema)?;
        catalogs.register_catalog(names.default_catalog.clone(), catalog);
        let state = SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(catalogs)
            .build();
        let beside = Self {
            context: SessionContext::new_with_state(state),
            turns: self.turns.clone(),
        };
        for relation in relations {
            let table = self.context.table_provider(relation.as_str()).await?;
            sql::register(&beside.context, relation, table)?;
        }
        Ok(beside)
    }

    /// Some files of a source.
    pub async fn add_files(
        &self,
        relation: &str,
        files: &SourceFiles,
        table: &SourceTable,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut some = table.clone();
        some.files.retain(|file| is_wanted(&file.name));
        if some.files.is_empty() {
            let none = Arc::new(EmptyTable::new(table.schema.clone()));
            return sql::register(&self.context, relation, none);
        }
        self.add_source(relation, files, &some).await
    }

    pub async fn add_table(
        &self,
        relation: &str,
        warehouse: &Warehouse,
        fingerprint: &str,
        name: &str,
    ) -> Result<(), WarehouseError> {
        let table = match clustered_relation(warehouse, name, fingerprint).await? {
            Some(table) => table,
            None => warehouse.open_table(name, fingerprint).await?,
        };
        sql::register(&self.context, relation, table).map_err(WarehouseError::Query)
    }

    pub async fn add_view(&self, relation: &str, query: &str) -> Result<()> {
        let plan = self.context.state().create_logical_plan(query).await?;
        sql::register(
            &self.context,
            relation,
            Arc::new(ViewTable::new(plan, Some(query.to_string()))),
        )
    }

    /// Offers rows in memory, in place of what had the name.
    pub fn add_batch(&self, relation: &str, batch: RecordBatch) -> Result<()> {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        // Before its schema is known, a relation is not there either.
        if self.context.table_exist(relation).unwrap_or(false) {
            self.context.deregister_table(relation)?;
        }
        sql::register(&self.context, relation, Arc::new(table))
    }

    /// Writes the rows of a query as a table of the warehouse.
    pub async fn materialize(
        &self,
        query: &str,
        warehouse: &Warehouse,
        name: &str,
        fingerprint: &str,
        partition_by: &[String],
    ) -> Result<TableSummary, WarehouseError> {
        let _turn = self.turn().await;
        let frame = self
            .context
            .sql(query)
            .await
            .map_err(WarehouseError::Query)?;
        let stream = frame
            .execute_stream()
            .await
            .map_err(WarehouseError::Query)?;
        warehouse
            .write_table(name, fingerprint, stream, partition_by)
            .await
    }

    /// The one number that a query returns; none for null.
    pub async fn number(&self, query: &str) -> Result<Option<i64>> {
        let rows = self.rows(query, None).await?;
        let cell = rows
            .cells()?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten();
        match cell {
            None => Ok(None),
            Some(text) => text
                .parse::<f64>()
                .map(|number| Some(number as i64))
                .map_err(|_| {
                    DataFusionError::Execution(format!("expected a number, found `{text}`"))
                }),
        }
    }

    /// What is wrong with a query that the engine would plan as another one.
    pub fn unanswerable(&self, query: &str) -> Option<SqlError> {
        sql::unanswerable(&self.context, query)
    }

    /// Names of the relations that a query reads in the end, through all views.
    pub async fn read_by(&self, query: &str) -> Result<BTreeSet<String>> {
        let plan = self.context.sql(query).await?.into_optimized_plan()?;
        let mut names = BTreeSet::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                names.insert(scan.table_name.to_string());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(names)
    }

    /// The columns of a relation that can be read; no row is.
    pub async fn schema_of(&self, relation: &str) -> Result<SchemaRef> {
        let frame = self.context.table(relation).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        frame.create_physical_plan().await?;
        Ok(schema)
    }

    pub async fn rows(&self, query: &str, limit: Option<usize>) -> Result<Rows> {
        let options = datafusion::execution::context::SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let mut frame = self.context.sql_with_options(query, options).await?;
        if let Some(limit) = limit {
            frame = frame.limit(0, Some(limit))?;
        }
        let schema = Arc::new(frame.schema().as_arrow().clone());
        Ok(Rows {
            schema,
            batches: frame.collect().await?,
        })
    }
}

/// The table of a model that is stored by unit.
async fn clustered_relation(
    warehouse: &Warehouse,
    name: &str,
    fingerprint: &str,
) -> Result<Option<Arc<dyn TableProvider>>, WarehouseError> {
    let folder = warehouse.table_path(name, fingerprint)?;
    if !ClusteredFacts::is_at(&folder) || !warehouse.has_table(name, fingerprint).await? {
        return Ok(None);
    }
    let table = async {
        let facts = ClusteredFacts::reopen(&folder).await?;
        facts.provider()?.as_relation()
    };
    let table = table.await.map_err(WarehouseError::Query)?;
    Ok(Some(Arc::new(table)))
}

/// The answer of a query, small enough to hold.
#[derive(Debug, Clone)]
pub struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Rows {
    pub fn columns(&self) -> Vec<&str> {
        self.schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect()
    }

    /// Whether a column holds numbers, which are printed to the right.
    pub fn is_numeric(&self, column: usize) -> bool {
        self.schema.field(column).data_type().is_numeric()
    }

    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every value as text; none for null.
    pub fn cells(&self) -> Result<Vec<Vec<Option<String>>>> {
        let options = FormatOptions::default().with_types_info(false);
        let mut rows = Vec::with_capacity(self.len());
        for batch in &self.batches {
            let formatters: Vec<ArrayFormatter<'_>> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
                .collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                let cell = |(column, formatter): (usize, &ArrayFormatter<'_>)| {
                    (!batch.column(column).is_null(row)).then(|| formatter.value(row).to_string())
                };
                rows.push(formatters.iter().enumerate().map(cell).collect());
            }
        }
        Ok(rows)
    }

    /// One JSON object per row, with the types of the columns.
    pub fn json_lines(&self) -> Result<String> {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        String::from_utf8(writer.into_inner())
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }
}
