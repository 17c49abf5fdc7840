//! From the tables a plan names to the operator over their scans.
//! In: a [`MetricPlan`] and a session. Out: a [`MetricStatesExec`], below the queries of the plan's ends of data if it has any. Clustered
//! facts are merged as they lie; any other table or view is hash-partitioned and sorted by what the operator requires of its children.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::physical_planning_context::{ScalarSubqueryResults, SubqueryIndex};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility,
    cast, create_udf,
};
use datafusion::physical_plan::scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::codes::value_code_function;
use super::exec::{Layout, MetricStatesExec};
use super::facts::{ClusteredTable, RunFile, UNIT_KEY};
use super::keys::{IdKind, unit_keys};
use super::lanes::SECOND;
use super::union::{Part, aligned, united};
use crate::metrics::plan::{DataEnd, EventSource, MetricPlan};
use crate::sql::type_name;

pub async fn operator(
    state: &SessionState,
    plan: &Arc<MetricPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let results = ScalarSubqueryResults::new(plan.data_ends.len());
    let operator: Arc<dyn ExecutionPlan> =
        Arc::new(over_children(state, plan, results.clone()).await?);
    if plan.data_ends.is_empty() {
        return Ok(operator);
    }
    let mut ends = Vec::new();
    for (index, end) in plan.data_ends.iter().enumerate() {
        ends.push(ScalarSubqueryLink {
            plan: data_end(state, end).await?,
            index: SubqueryIndex::new(index),
        });
    }
    Ok(Arc::new(ScalarSubqueryExec::new(operator, ends, results)))
}

/// One row with an end of data, in microseconds.
async fn data_end(state: &SessionState, end: &DataEnd) -> Result<Arc<dyn ExecutionPlan>> {
    // Beside a timestamp, what is none is refused as in plain SQL; NULL takes no part.
    let instants = end.0.join(", ");
    let query = format!("select least(cast(null as timestamp), {instants}) as data_end");
    let query = state.create_logical_plan(&query).await?;
    let instant = Expr::Column(Column::from(query.schema().qualified_field(0)));
    let micros = cast(instant, micros_type()).alias("data_end");
    let query = LogicalPlanBuilder::from(query).project([micros])?.build()?;
    state.create_physical_plan(&query).await
}

async fn over_children(
    state: &SessionState,
    plan: &Arc<MetricPlan>,
    data_ends: ScalarSubqueryResults,
) -> Result<MetricStatesExec> {
    let mut assignments =
        Source::find(state, &plan.assignments.table, assignment_columns(plan)).await?;
    let mut sources = Vec::new();
    for source in plan.sources() {
        let mut source = Source::find(state, &source.table, event_columns(source)).await?;
        compare_units(state, &mut source, &mut assignments)?;
        sources.push(source);
    }
    // One of them may have made the assignments' units texts after another was compared.
    for source in &mut sources {
        compare_units(state, source, &mut assignments)?;
    }
    let runs = (sources.as_slice(), &assignments);
    if let Some(operator) = over_runs(state, plan, runs, &data_ends).await? {
        return Ok(operator);
    }
    let mut parts = Vec::new();
    for source in &sources {
        parts.push(source.part(source.logical(state).await?));
    }
    let events = state.create_physical_plan(&united(parts)?).await?;
    let assignments = assignments.plan(state).await?;
    Ok(MetricStatesExec::new(
        Arc::clone(plan),
        events,
        assignments,
        Layout::Hashed,
        data_ends,
    ))
}

/// Ids of other types have other keys, so that no event would be anybody's and every metric 0. Integers beside texts become texts.
fn compare_units(
    state: &SessionState,
    events: &mut Source<'_>,
    assignments: &mut Source<'_>,
) -> Result<()> {
    let (left, right) = (events.unit_type(state)?, assignments.unit_type(state)?);
    let kinds = (IdKind::of(&left), IdKind::of(&right));
    if kinds.0.can_equal(&kinds.1) {
        return Ok(());
    }
    let as_text = |unit: &str| format!("cast({unit} as varchar)").into();
    match kinds {
        (IdKind::Integer, IdKind::Text) => {
            events.columns.unit = as_text(&events.columns.unit);
            Ok(())
        }
        (IdKind::Text, IdKind::Integer) => {
            assignments.columns.unit = as_text(&assignments.columns.unit);
            Ok(())
        }
        _ => plan_err!(
            "the units of `{}` are {}, and those of the assignments are {}: cast one of them, so that they can be equal",
            events.reference,
            type_name(&left),
            type_name(&right)
        ),
    }
}

/// SQL expressions of a source, by what they are for.
struct SourceColumns<'a> {
    unit: Cow<'a, str>,
    time: &'a str,
    others: Vec<&'a str>,
    /// Expressions of which only codes are taken.
    codes: &'a [String],
    condition: Option<&'a str>,
}

fn event_columns(source: &EventSource) -> SourceColumns<'_> {
    let others =
        std::iter::once(source.name.as_str()).chain(source.values.iter().map(String::as_str));
    SourceColumns {
        unit: source.unit.as_str().into(),
        time: &source.time,
        others: others.collect(),
        codes: &source.codes,
        condition: None,
    }
}

fn assignment_columns(plan: &MetricPlan) -> SourceColumns<'_> {
    let source = &plan.assignments;
    let named = [source.experiment.as_str(), source.variant.as_str()];
    let period = source.period.iter();
    let others = named
        .into_iter()
        .chain(source.segments.iter().map(String::as_str))
        .chain(period.flat_map(|period| [period.starts_at.as_str(), &period.measured_until]));
    SourceColumns {
        unit: source.unit.as_str().into(),
        time: &source.time,
        others: others.collect(),
        codes: &[],
        condition: source.condition.as_deref(),
    }
}

/// A table of the session and what is taken from it.
struct Source<'a> {
    reference: TableReference,
    provider: Arc<dyn TableProvider>,
    columns: SourceColumns<'a>,
}

impl<'a> Source<'a> {
    async fn find(
        state: &SessionState,
        table: &str,
        columns: SourceColumns<'a>,
    ) -> Result<Source<'a>> {
        let reference = TableReference::parse_str(table);
        let found = state
            .schema_for_ref(reference.clone())?
            .table(reference.table())
            .await?;
        let Some(provider) = found else {
            return plan_err!("table `{table}` does not exist");
        };
        Ok(Source {
            reference,
            provider,
            columns,
        })
    }

    fn unit_type(&self, state: &SessionState) -> Result<DataType> {
        let columns = self.provider.schema();
        let schema = DFSchema::try_from_qualified_schema(self.reference.clone(), &columns)?;
        let unit = state.create_logical_expr(&self.columns.unit, &schema)?;
        let data_type = unit.get_type(&schema)?;
        let table = format!("`{}`", self.reference);
        check_unit(&table, &self.columns.unit, &data_type)?;
        Ok(data_type)
    }

    /// The table's runs, when it is clustered by the unit and time that are asked for.
    fn clustered(&self, state: &SessionState) -> Option<ClusteredTable> {
        let table = (self.provider.as_ref() as &dyn Any).downcast_ref::<ClusteredTable>()?;
        let schema = DFSchema::try_from(table.schema()).ok()?;
        // What is asked for is SQL, in which a name may need quotation marks.
        let is_column = |sql: &str, name: &String| match state.create_logical_expr(sql, &schema) {
            Ok(Expr::Column(column)) => column.name == *name,
            _ => false,
        };
        let clustering = table.clustering();
        let is_clustered = is_column(&self.columns.unit, &clustering.unit)
            && is_column(self.columns.time, &clustering.time);
        is_clustered.then(|| table.as_runs())
    }

    async fn plan(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.logical(state).await?;
        state.create_physical_plan(&plan).await
    }

    async fn logical(&self, state: &SessionState) -> Result<LogicalPlan> {
        let provider = Arc::clone(&self.provider);
        self.logical_over(state, provider, &self.columns).await
    }

    /// The rows of a table's runs, by the key that they are sorted by.
    async fn logical_runs(
        &self,
        state: &SessionState,
        table: ClusteredTable,
    ) -> Result<LogicalPlan> {
        let columns = SourceColumns {
            unit: UNIT_KEY.into(),
            time: self.columns.time,
            others: self.columns.others.clone(),
            codes: self.columns.codes,
            condition: self.columns.condition,
        };
        self.logical_over(state, Arc::new(table), &columns).await
    }

    fn part(&self, rows: LogicalPlan) -> Part {
        Part {
            rows,
            codes: self.columns.codes.len(),
        }
    }

    async fn logical_over(
        &self,
        state: &SessionState,
        provider: Arc<dyn TableProvider>,
        columns: &SourceColumns<'_>,
    ) -> Result<LogicalPlan> {
        let scan =
            LogicalPlanBuilder::scan(self.reference.clone(), provider_as_source(provider), None)?
                .build()?;
        projection(state, scan, columns).await
    }
}

/// A plan with one partition per run, or `None` when the planner could not keep it so.
async fn plan_runs(
    state: &SessionState,
    rows: &LogicalPlan,
    runs: usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let plan = state.create_physical_plan(rows).await?;
    let is_kept = plan.output_partitioning().partition_count() == runs && !is_repartitioned(&plan);
    Ok(is_kept.then_some(plan))
}

fn is_repartitioned(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == "RepartitionExec" || plan.children().into_iter().any(is_repartitioned)
}

/// The operator over the runs as they lie, without those that no window can reach.
async fn over_runs(
    state: &SessionState,
    plan: &Arc<MetricPlan>,
    (sources, assignments): (&[Source<'_>], &Source<'_>),
    data_ends: &ScalarSubqueryResults,
) -> Result<Option<MetricStatesExec>> {
    let clustered = |source: &Source<'_>| source.clustered(state);
    let tables: Option<Vec<ClusteredTable>> = sources.iter().map(clustered).collect();
    let (Some(tables), Some(assignment_table)) = (tables, clustered(assignments)) else {
        return Ok(None);
    };
    let reach = Reach::of(plan);
    let restricted = |table: ClusteredTable| table.restricted(|run| reach.events.overlaps(run));
    let tables: Vec<ClusteredTable> = tables.into_iter().map(restricted).collect();
    let assignment_table = assignment_table.restricted(|run| reach.assignments.overlaps(run));
    let buckets = assignment_table.clustering().buckets;
    let fits =
        |table: &ClusteredTable| !table.runs().is_empty() && table.clustering().buckets == buckets;
    if !(fits(&assignment_table) && tables.iter().all(fits)) {
        return Ok(None);
    }
    let of_bucket = |bucket| {
        let assigned = runs_of(&assignment_table, bucket);
        (runs_of_all(&tables, bucket), assigned)
    };
    let layout = Layout::Clustered((0..buckets).map(of_bucket).collect());
    let Some(events) = events_of_runs(state, sources, tables).await? else {
        return Ok(None);
    };
    let runs = assignment_table.runs().len();
    let assigned = assignments.logical_runs(state, assignment_table).await?;
    let Some(assigned) = plan_runs(state, &assigned, runs).await? else {
        return Ok(None);
    };
    Ok(Some(MetricStatesExec::new(
        Arc::clone(plan),
        events,
        assigned,
        layout,
        data_ends.clone(),
    )))
}

/// The runs of all tables, one table's after the other's.
async fn events_of_runs(
    state: &SessionState,
    sources: &[Source<'_>],
    tables: Vec<ClusteredTable>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (mut parts, mut runs) = (Vec::new(), Vec::new());
    for (source, table) in sources.iter().zip(tables) {
        runs.push(table.runs().len());
        parts.push(source.part(source.logical_runs(state, table).await?));
    }
    let mut plans = Vec::new();
    for (rows, runs) in aligned(parts)?.iter().zip(runs) {
        let Some(plan) = plan_runs(state, rows, runs).await? else {
            return Ok(None);
        };
        plans.push(plan);
    }
    match plans.len() {
        1 => Ok(plans.pop()),
        _ => UnionExec::try_new(plans).map(Some),
    }
}

/// Positions of a bucket's runs among those of all tables.
fn runs_of_all(tables: &[ClusteredTable], bucket: u16) -> Vec<usize> {
    let mut first = 0;
    let mut runs = Vec::new();
    for table in tables {
        runs.extend(runs_of(table, bucket).into_iter().map(|run| first + run));
        first += table.runs().len();
    }
    runs
}

fn runs_of(table: &ClusteredTable, bucket: u16) -> Vec<usize> {
    (0..table.runs().len())
        .filter(|&run| table.runs()[run].bucket == bucket)
        .collect()
}

/// The days that the experiments' windows can reach.
struct Reach {
    events: Days,
    assignments: Days,
}

/// Days since 1970, inclusive.
struct Days {
    first: i64,
    last: i64,
}

impl Reach {
    fn of(plan: &MetricPlan) -> Reach {
        let from = plan
            .experiments
            .iter()
            .map(|experiment| experiment.from)
            .min()
            .unwrap_or(i64::MIN);
        let to = plan
            .experiments
            .iter()
            .map(|experiment| experiment.to)
            .max()
            .unwrap_or(i64::MAX);
        let until = plan
            .experiments
            .iter()
            .map(|experiment| experiment.measured_until)
            .max()
            .unwrap_or(i64::MAX);
        let before = plan
            .windows()
            .map(|(start, _, lookback)| lookback.unwrap_or(0).max(-start))
            .max();
        let after = |(start, length, _): (i64, Option<i64>, _)| {
            length.map_or(i64::MAX / SECOND, |length| start + length)
        };
        let after = plan.windows().map(after).max().unwrap_or(0).max(0);
        // What is before an assignment is looked at however late the assignment is.
        let looks_back = plan.windows().any(|(_, _, lookback)| lookback.is_some());
        let looked_at = if looks_back { to } else { from };
        let day = |micros: i64| micros.div_euclid(86_400 * SECOND);
        let first = day(from.saturating_sub(before.unwrap_or(0).max(0) * SECOND));
        let measured = to.saturating_add(after.saturating_mul(SECOND)).min(until);
        let last = day(measured.max(looked_at));
        Reach {
            events: Days { first, last },
            assignments: Days {
                first: day(from),
                last: day(to),
            },
        }
    }
}

impl Days {
    fn overlaps(&self, run: &RunFile) -> bool {
        i64::from(run.day) <= self.last && self.first <= i64::from(run.through)
    }
}

/// Unit key, time in microseconds, and the other expressions under neutral names; rows without a unit or time are nobody's.
async fn projection(
    state: &SessionState,
    scan: LogicalPlan,
    columns: &SourceColumns<'_>,
) -> Result<LogicalPlan> {
    let schema: Arc<DFSchema> = Arc::clone(scan.schema());
    let parse = |text: &str| state.create_logical_expr(text, &schema);
    let (unit, time) = (parse(&columns.unit)?, parse(columns.time)?);
    let micros = cast(time.clone(), micros_type());
    let mut selected = vec![
        unit_key_expression(&unit, &schema)?.alias("unit_key"),
        micros.alias("time"),
    ];
    for (index, text) in columns.others.iter().enumerate() {
        selected.push(parse(text)?.alias(format!("c{index}")));
    }
    for (index, text) in columns.codes.iter().enumerate() {
        let value = parse(text)?;
        let code = value_code_function(&value.get_type(&schema)?);
        selected.push(code.call(vec![value]).alias(format!("code{index}")));
    }
    let mut condition = unit.is_not_null().and(time.is_not_null());
    if let Some(text) = columns.condition {
        condition = condition.and(parse(text)?);
    }
    LogicalPlanBuilder::from(scan)
        .filter(condition)?
        .project(selected)?
        .build()
}

fn micros_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn unit_key_expression(unit: &Expr, schema: &DFSchema) -> Result<Expr> {
    let data_type = unit.get_type(schema)?;
    if data_type.is_integer() && data_type != DataType::UInt64 {
        return Ok(cast(unit.clone(), DataType::Int64));
    }
    Ok(unit_key_function(&data_type).call(vec![unit.clone()]))
}

/// `unit_key(unit_id)`: the 64 bits by which facts are clustered.
pub fn unit_key_function(data_type: &DataType) -> ScalarUDF {
    let function = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        Ok(ColumnarValue::Array(
            Arc::new(unit_keys(&arrays[0])?) as ArrayRef
        ))
    };
    create_udf(
        "unit_key",
        vec![data_type.clone()],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(function),
    )
}

/// An error for ids that have no key: lists, structs and what else has values inside.
pub fn check_unit(table: &str, column: &str, data_type: &DataType) -> Result<()> {
    let has_key = match IdKind::of(data_type) {
        IdKind::Other(DataType::RunEndEncoded(..)) => false,
        IdKind::Other(kind) => !kind.is_nested(),
        _ => true,
    };
    match has_key {
        true => Ok(()),
        false => plan_err!(
            "the unit `{column}` of {table} is {}, by which units are not told apart: name a column of plain values, or cast it to varchar",
            type_name(data_type)
        ),
    }
}
