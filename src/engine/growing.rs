//! Tables that grow from build to build, and facts that lie by unit.
//! In: a query, the table that its rows join. Out: a table of the warehouse under a new fingerprint. Which query brings new rows, and
//! whether a table may grow at all, is decided by the run's plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::{JoinType, exec_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarUDF, Volatility, create_udf, ident, lit,
};

use super::Engine;
use super::operator::facts::{ClusteredFacts, Clustering, Shared};
use crate::warehouse::{Replaced, StagedRows, TableSummary, Warehouse, WarehouseError};

/// Where a table goes.
pub struct Place<'a> {
    pub warehouse: &'a Warehouse,
    pub name: &'a str,
    pub fingerprint: &'a str,
    /// The fingerprint of the table that grows; without it the rows are all there is.
    pub from: Option<&'a str>,
    /// Kept beside the table.
    pub note: &'a str,
}

/// The column that names a row's file; no model has one like it.
const FILE: &str = "__equipoise_file";
/// Files with fewer rows are small; when there are more such files than this, they are written anew as one.
const SMALL_FILE_ROWS: i64 = 1 << 16;
const MOST_SMALL_FILES: usize = 32;
/// About so many large runs per bucket of a clustered table, beyond one per span of days, before they are merged.
// A month of daily builds. Eight, within shorter spans, made a day cost 1.5 times of what it costs alone on average, and 3 at worst. What a
// reader pays is a millisecond for each run more.
const SPARE_RUNS: usize = 32;

impl Engine {
    /// Writes the rows of a query beside those that are there; with a key, a row takes the place of those with its key.
    pub async fn grow(
        &self,
        query: &str,
        place: &Place<'_>,
        unique_key: &[String],
        partition_by: &[String],
    ) -> Result<TableSummary, WarehouseError> {
        let _turn = self.turn().await;
        let rows = self.context.sql(query).await;
        let rows = rows.map_err(WarehouseError::Query)?.execute_stream().await;
        let rows = rows.map_err(WarehouseError::Query)?;
        let warehouse = place.warehouse;
        let staged = warehouse.stage_rows(rows, partition_by).await?;
        self.check_unique(warehouse, &staged, unique_key).await?;
        let Some(from) = place.from else {
            let (name, fingerprint) = (place.name, place.fingerprint);
            return warehouse
                .found_table(name, fingerprint, staged, place.note)
                .await;
        };
        let replaced = self.replaced(place, from, &staged, unique_key).await?;
        let versions = (from, place.fingerprint);
        warehouse
            .grow_table(place.name, versions, staged, replaced, place.note)
            .await
    }

    /// Which of two new rows with one key should stay nobody has said.
    async fn check_unique(
        &self,
        warehouse: &Warehouse,
        staged: &StagedRows,
        unique_key: &[String],
    ) -> Result<(), WarehouseError> {
        if unique_key.is_empty() {
            return Ok(());
        }
        let rows = warehouse.open_staged(staged).await?;
        let repeated = async {
            let keys = || unique_key.iter().map(ident).collect::<Vec<Expr>>();
            let known = |all: Expr, key: Expr| all.and(key.is_not_null());
            let rows = self.context.read_table(rows)?;
            let rows = rows.filter(keys().into_iter().fold(lit(true), known))?;
            let rows = rows.aggregate(keys(), vec![count(lit(1)).alias("__rows")])?;
            let rows = rows.filter(ident("__rows").gt(lit(1)))?;
            let sorted = keys()
                .into_iter()
                .map(|key| key.sort(true, false))
                .collect();
            let key = first_row(rows.sort(sorted)?.select(keys())?.limit(0, Some(1))?).await?;
            match key {
                None => Ok(()),
                Some(key) => exec_err!(
                    "the `unique_key` ({}) of the new rows is not unique: {key} comes more than once; say which row stays, such as by `qualify row_number() over (partition by {} order by ...) = 1`",
                    unique_key.join(", "),
                    unique_key.join(", ")
                ),
            }
        };
        repeated.await.map_err(WarehouseError::Query)
    }

    /// Files with rows whose key comes again, and small files when there are many; with their rows that stay.
    async fn replaced(
        &self,
        place: &Place<'_>,
        from: &str,
        staged: &StagedRows,
        unique_key: &[String],
    ) -> Result<Replaced, WarehouseError> {
        let old = place
            .warehouse
            .open_with_files(place.name, from, FILE)
            .await?;
        let old = self
            .context
            .read_table(old)
            .map_err(WarehouseError::Query)?;
        let new = place.warehouse.open_staged(staged).await?;
        let new = self
            .context
            .read_table(new)
            .map_err(WarehouseError::Query)?;
        replaced(old, new, unique_key)
            .await
            .map_err(WarehouseError::Query)
    }

    /// Writes the rows of a query as a fact that lies by unit, or adds them to one: of rows with one unit, time and id, one stays.
    pub async fn cluster(
        &self,
        query: &str,
        place: &Place<'_>,
        clustering: Clustering,
    ) -> Result<TableSummary, WarehouseError> {
        let _turn = self.turn().await;
        let context = self.sorting();
        let unfinished = place.warehouse.begin_table(place.name, place.fingerprint)?;
        let mut shared = None;
        if let Some(from) = place.from {
            let begun = unfinished.begin_from(place.warehouse, place.name, from);
            let (files, schema) = begun.await?;
            shared = Some(Shared { files, schema });
        }
        let folder = unfinished.folder();
        let write = async {
            let rows = self.sorting_at_once().sql(query).await?;
            let rows = with_required(rows, &clustering)?;
            let schema = crate::warehouse::stored_schema(rows.schema().as_arrow())?;
            let mut facts = ClusteredFacts::begin(folder, &schema, clustering, shared)?;
            facts.append(&context, rows).await?;
            facts.tidy(&context, SPARE_RUNS).await?;
            facts.finish().await
        };
        let summary = write
            .await
            .map_err(|error| crate::warehouse::query_error(error, folder))?;
        match unfinished.finish(place.warehouse, place.note)? {
            true => Ok(summary),
            false => {
                let (name, fingerprint) = (place.name, place.fingerprint);
                place.warehouse.table_summary(name, fingerprint).await
            }
        }
    }
}

/// The rows, as long as each has a unit, a time and an id: without them it would be nobody's and silently lost.
fn with_required(rows: DataFrame, clustering: &Clustering) -> Result<DataFrame> {
    let required = [&clustering.unit, &clustering.time, &clustering.id];
    let fields = rows.schema().fields().clone();
    let column = |field: &Arc<Field>| {
        let column = ident(field.name());
        match required.contains(&field.name()) {
            true => not_null(field).call(vec![column]).alias(field.name()),
            false => column,
        }
    };
    rows.select(fields.iter().map(column).collect::<Vec<Expr>>())
}

/// The identity, which fails where there is no value.
fn not_null(field: &Field) -> ScalarUDF {
    let name = field.name().clone();
    let function = move |arguments: &[ColumnarValue]| {
        let array = arguments[0].to_array(1)?;
        match array.null_count() {
            0 => Ok(arguments[0].clone()),
            _ => exec_err!(
                "`{name}` is null in some row, but a table with `cluster_by` needs it in every row: filter those rows, or give them a value"
            ),
        }
    };
    let kind = field.data_type();
    create_udf(
        &format!("required_{}", field.name()),
        vec![kind.clone()],
        kind.clone(),
        Volatility::Immutable,
        Arc::new(function),
    )
}

async fn replaced(old: DataFrame, new: DataFrame, unique_key: &[String]) -> Result<Replaced> {
    let mut files = small_files(old.clone()).await?;
    let renamed = |name: &String| format!("__new_{name}");
    let new_names: Vec<String> = unique_key.iter().map(renamed).collect();
    let same = || {
        let pairs = unique_key.iter().zip(&new_names);
        pairs
            .map(|(old, new)| ident(old).eq(ident(new)))
            .collect::<Vec<Expr>>()
    };
    let new: Option<DataFrame> = match unique_key {
        [] => None,
        names => {
            let key = |name: &String| ident(name).alias(renamed(name));
            Some(new.select(names.iter().map(key).collect::<Vec<Expr>>())?)
        }
    };
    if let Some(new) = &new {
        let met = old
            .clone()
            .join_on(new.clone(), JoinType::LeftSemi, same())?;
        files.extend(texts(met.select(vec![ident(FILE)])?.distinct()?).await?);
    }
    let is_touched = files.iter().map(|file| lit(file.as_str())).collect();
    let mut survivors = old.filter(ident(FILE).in_list(is_touched, false))?;
    if let Some(new) = new {
        survivors = survivors.join_on(new, JoinType::LeftAnti, same())?;
    }
    let survivors = survivors.drop_columns(&[FILE])?.execute_stream().await?;
    Ok(Replaced { files, survivors })
}

/// Small files, once there are too many.
async fn small_files(table: DataFrame) -> Result<BTreeSet<String>> {
    let by_file = table.aggregate(vec![ident(FILE)], vec![count(lit(1)).alias("rows")])?;
    let small = by_file.filter(ident("rows").lt(lit(SMALL_FILE_ROWS)))?;
    let files = texts(small.select(vec![ident(FILE)])?).await?;
    Ok(match files.len() > MOST_SMALL_FILES {
        true => files.into_iter().collect(),
        false => BTreeSet::new(),
    })
}

/// The first row of a query, if there is one.
async fn first_row(rows: DataFrame) -> Result<Option<String>> {
    let batches = rows.collect().await?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
        return Ok(None);
    };
    let cell = |column: &ArrayRef| array_value_to_string(column, 0);
    let cells: Result<Vec<String>, _> = batch.columns().iter().map(cell).collect();
    Ok(Some(format!("({})", cells?.join(", "))))
}

/// The only column of a query, as texts.
async fn texts(rows: DataFrame) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for batch in rows.collect().await? {
        let column = cast(batch.column(0), &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        found.extend(column.iter().flatten().map(str::to_owned));
    }
    Ok(found)
}
