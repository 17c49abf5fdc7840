//! From the tables a plan names to the operator over their scans.
//! In: a [`MetricPlan`] and a session. Out: a [`MetricStatesExec`]. Clustered facts are merged as they lie; any other table or view is
//! hash-partitioned and sorted by what the operator requires of its children.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility,
    cast, create_udf, scalar_subquery,
};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::least;

use super::batches::unit_keys;
use super::exec::{Layout, MetricStatesExec};
use super::facts::{ClusteredTable, RunFile, UNIT_KEY};
use super::lanes::SECOND;
use crate::metrics::plan::{AssignmentSource, MetricPlan, MetricStates};

pub async fn operator(state: &SessionState, plan: &Arc<MetricPlan>) -> Result<MetricStatesExec> {
    let events = Source::find(state, &plan.events.table, event_columns(plan)).await?;
    let assignments =
        Source::find(state, &plan.assignments.table, assignment_columns(plan)).await?;
    if let Some(operator) = over_runs(state, plan, &events, &assignments).await? {
        return Ok(operator);
    }
    let (events, assignments) = (events.plan(state).await?, assignments.plan(state).await?);
    Ok(MetricStatesExec::new(
        Arc::clone(plan),
        events,
        assignments,
        Layout::Hashed,
    ))
}

/// SQL expressions of a source, by what they are for.
struct SourceColumns<'a> {
    unit: &'a str,
    time: &'a str,
    others: Vec<&'a str>,
    condition: Option<&'a str>,
    /// Another instant of each row: the least of the first and the others, which are no expressions of the row.
    least: Option<(&'a str, &'a [String])>,
}

fn event_columns(plan: &MetricPlan) -> SourceColumns<'_> {
    let source = &plan.events;
    let others =
        std::iter::once(source.name.as_str()).chain(source.values.iter().map(String::as_str));
    SourceColumns {
        unit: &source.unit,
        time: &source.time,
        others: others.collect(),
        condition: None,
        least: None,
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
        unit: &source.unit,
        time: &source.time,
        others: others.collect(),
        condition: source.condition.as_deref(),
        least: complete_until(source),
    }
}

/// When a row is measured until, and the instants beside it up to which its data are complete.
fn complete_until(source: &AssignmentSource) -> Option<(&str, &[String])> {
    let measured_until = source
        .period
        .as_ref()
        .map_or("null", |period| &period.measured_until);
    let others = source.complete_through.as_slice();
    (!others.is_empty()).then_some((measured_until, others))
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

    /// The table's runs, when it is clustered by the unit and time that are asked for.
    fn clustered(&self) -> Option<ClusteredTable> {
        let table = (self.provider.as_ref() as &dyn Any).downcast_ref::<ClusteredTable>()?;
        let clustering = table.clustering();
        (clustering.unit == self.columns.unit && clustering.time == self.columns.time)
            .then(|| table.as_runs())
    }

    async fn plan(&self, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
        self.plan_over(state, Arc::clone(&self.provider), &self.columns)
            .await
    }

    /// One partition per run of the table, or `None` when the planner could not keep it so.
    async fn plan_runs(
        &self,
        state: &SessionState,
        table: ClusteredTable,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let runs = table.runs().len();
        let columns = SourceColumns {
            unit: UNIT_KEY,
            time: self.columns.time,
            others: self.columns.others.clone(),
            condition: self.columns.condition,
            least: self.columns.least,
        };
        let plan = self.plan_over(state, Arc::new(table), &columns).await?;
        Ok(
            (plan.output_partitioning().partition_count() == runs && !is_repartitioned(&plan))
                .then_some(plan),
        )
    }

    async fn plan_over(
        &self,
        state: &SessionState,
        provider: Arc<dyn TableProvider>,
        columns: &SourceColumns<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan =
            LogicalPlanBuilder::scan(self.reference.clone(), provider_as_source(provider), None)?
                .build()?;
        let plan = projection(state, scan, columns).await?;
        state.create_physical_plan(&plan).await
    }
}

fn is_repartitioned(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == "RepartitionExec" || plan.children().into_iter().any(is_repartitioned)
}

/// The operator over the runs as they lie, without those that no window can reach.
async fn over_runs(
    state: &SessionState,
    plan: &Arc<MetricPlan>,
    events: &Source<'_>,
    assignments: &Source<'_>,
) -> Result<Option<MetricStatesExec>> {
    let (Some(event_table), Some(assignment_table)) = (events.clustered(), assignments.clustered())
    else {
        return Ok(None);
    };
    let buckets = event_table.clustering().buckets;
    let reach = Reach::of(plan);
    let event_table = event_table.restricted(|run| reach.events.overlaps(run));
    let assignment_table = assignment_table.restricted(|run| reach.assignments.overlaps(run));
    let is_empty = event_table.runs().is_empty() || assignment_table.runs().is_empty();
    if is_empty || buckets != assignment_table.clustering().buckets {
        return Ok(None);
    }
    let of_bucket = |bucket| {
        (
            runs_of(&event_table, bucket),
            runs_of(&assignment_table, bucket),
        )
    };
    let layout = Layout::Clustered((0..buckets).map(of_bucket).collect());
    let events = events.plan_runs(state, event_table).await?;
    let assignments = assignments.plan_runs(state, assignment_table).await?;
    let (Some(events), Some(assignments)) = (events, assignments) else {
        return Ok(None);
    };
    Ok(Some(MetricStatesExec::new(
        Arc::clone(plan),
        events,
        assignments,
        layout,
    )))
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
            .metrics
            .iter()
            .map(|metric| metric.lookback.unwrap_or(0).max(-metric.window_start))
            .max();
        let after = |metric: &MetricStates| {
            metric
                .window_length
                .map_or(i64::MAX / SECOND, |length| metric.window_start + length)
        };
        let after = plan.metrics.iter().map(after).max().unwrap_or(0).max(0);
        let day = |micros: i64| micros.div_euclid(86_400 * SECOND);
        let first = day(from.saturating_sub(before.unwrap_or(0).max(0) * SECOND));
        let last = day(to.saturating_add(after * SECOND).min(until).max(from));
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
    let (unit, time) = (parse(columns.unit)?, parse(columns.time)?);
    let micros = cast(time.clone(), micros_type());
    let mut selected = vec![
        unit_key_expression(&unit, &schema)?.alias("unit_key"),
        micros.alias("time"),
    ];
    for (index, text) in columns.others.iter().enumerate() {
        selected.push(parse(text)?.alias(format!("c{index}")));
    }
    if let Some((first, others)) = columns.least {
        let mut instants = vec![parse(first)?];
        for other in others {
            let query = state
                .create_logical_plan(&format!("select {other}"))
                .await?;
            instants.push(scalar_subquery(Arc::new(query)));
        }
        selected.push(cast(least(instants), micros_type()).alias("complete_until"));
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
    if data_type.is_integer() {
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
