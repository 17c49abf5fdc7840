//! The operator as a DataFusion execution plan.
//! In: two child plans (events; assignments), co-partitioned and sorted by unit and time, or the sorted runs of clustered facts. Out: one
//! row per experiment x variant x metric x segment. Partitions are walked by as many workers as the session allows; their cells are
//! exact, so the rows are the same bytes for any number of them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::{ScalarSubqueryResults, SubqueryIndex};
use datafusion::physical_expr::{
    EquivalenceProperties, LexRequirement, OrderingRequirements, PhysicalExpr,
    PhysicalSortRequirement,
};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties,
};
use futures::{TryStreamExt, stream};

use super::ahead::{Opened, Partitions, Work};
use super::batches::{AssignmentBatch, AssignmentReader, EventBatch, is_decimal, read_events};
use super::cells::Cells;
use super::ends::Ends;
use super::kernel::Kernel;
use super::lanes::Lanes;
use super::merge::Runs;
use super::passes::{in_passes, least};
use super::queue::Queues;
use super::segments::Segments;
use super::special::Specials;
use super::states::{Filled, StateRows, output_schema, state_rows};
use super::unit::Unit;
use crate::metrics::plan::MetricPlan;

/// Memory for special metrics is reserved in steps of so many bytes.
const SPECIAL_STEP: usize = 1 << 16;

/// How the partitions of the children belong together.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// Partition i of both children holds the same units, sorted by unit and time.
    Hashed,
    /// Per unit bucket, the child partitions that are its sorted runs: of the events, of the assignments.
    Clustered(Vec<Partitions>),
}

#[derive(Debug)]
pub struct MetricStatesExec {
    plan: Arc<MetricPlan>,
    events: Arc<dyn ExecutionPlan>,
    assignments: Arc<dyn ExecutionPlan>,
    layout: Layout,
    /// What the plan's queries for the ends of data have found, once this is executed.
    data_ends: ScalarSubqueryResults,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MetricStatesExec {
    pub fn new(
        plan: Arc<MetricPlan>,
        events: Arc<dyn ExecutionPlan>,
        assignments: Arc<dyn ExecutionPlan>,
        layout: Layout,
        data_ends: ScalarSubqueryResults,
    ) -> MetricStatesExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(output_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        MetricStatesExec {
            plan,
            events,
            assignments,
            layout,
            data_ends,
            properties: Arc::new(properties),
            metrics,
        }
    }

    /// Child partitions per unit of work: of the events, of the assignments.
    fn partitions(&self) -> Vec<Partitions> {
        match &self.layout {
            Layout::Clustered(buckets) => buckets.clone(),
            Layout::Hashed => {
                let partitions = self.events.output_partitioning().partition_count();
                (0..partitions)
                    .map(|partition| (vec![partition], vec![partition]))
                    .collect()
            }
        }
    }
}

impl DisplayAs for MetricStatesExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter) -> fmt::Result {
        let layout = match &self.layout {
            Layout::Hashed => "hashed".to_owned(),
            Layout::Clustered(buckets) => format!("clustered in {} buckets", buckets.len()),
        };
        let (plan, segments) = (&self.plan, self.plan.segment_sets().len());
        write!(
            out,
            "MetricStatesExec: experiments={}, metrics={}, segments={segments}, {layout}",
            plan.experiments.len(),
            plan.metrics.len() + plan.specials.len()
        )
    }
}

impl ExecutionPlan for MetricStatesExec {
    fn name(&self) -> &str {
        "MetricStatesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.events, &self.assignments]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        match self.layout {
            Layout::Clustered(_) => {
                InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution; 2])
            }
            Layout::Hashed => {
                let by_unit = |child: &Arc<dyn ExecutionPlan>| {
                    Distribution::KeyPartitioned(vec![column(child, 0)])
                };
                InputDistributionRequirements::co_partitioned(vec![
                    by_unit(&self.events),
                    by_unit(&self.assignments),
                ])
            }
        }
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        match self.layout {
            Layout::Clustered(_) => vec![None, None],
            Layout::Hashed => [&self.events, &self.assignments]
                .map(|child| Some(by_unit_and_time(child)))
                .into(),
        }
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![self.layout == Layout::Hashed; 2]
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        if self.layout == Layout::Hashed {
            for child in self.children() {
                if apply(&column(child, 0))? == TreeNodeRecursion::Stop {
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(assignments), Some(events)) = (children.pop(), children.pop()) else {
            return Err(DataFusionError::Internal(
                "MetricStatesExec has two children".to_owned(),
            ));
        };
        Ok(Arc::new(MetricStatesExec::new(
            Arc::clone(&self.plan),
            events,
            assignments,
            self.layout.clone(),
            self.data_ends.clone(),
        )))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.partitions();
        let workers = match self.layout {
            // Every partition of a repartitioning child must be polled at once, or its buffers fill up.
            Layout::Hashed => partitions.len(),
            Layout::Clustered(_) => {
                let most = context.session_config().target_partitions();
                most.min(partitions.len())
            }
        };
        let plan = Arc::clone(&self.plan);
        let ends = (0..plan.data_ends.len()).map(SubqueryIndex::new);
        let ends = ends.map(|end| micros(self.data_ends.get(end)));
        let passes = Arc::new(Passes {
            ends: Arc::new(Ends(ends.collect())),
            children: [&self.events, &self.assignments].map(Arc::clone),
            partitions,
            workers,
            context,
            counters: Counters::new(&self.metrics),
        });
        let batches = async move { in_passes(&plan, |part| Arc::clone(&passes).make(part)).await };
        let batches = stream::once(batches)
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            output_schema(),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The result of a query that gives microseconds.
fn micros(result: Option<ScalarValue>) -> Option<i64> {
    match result {
        Some(ScalarValue::TimestampMicrosecond(instant, _)) => instant,
        _ => None,
    }
}

fn column(child: &Arc<dyn ExecutionPlan>, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(child.schema().field(index).name(), index))
}

fn by_unit_and_time(child: &Arc<dyn ExecutionPlan>) -> OrderingRequirements {
    let ascending = |index| PhysicalSortRequirement::new(column(child, index), None);
    let by_both =
        LexRequirement::new([ascending(0), ascending(1)]).expect("two columns are at least one");
    OrderingRequirements::new(by_both)
}

/// What all passes have in common.
struct Passes {
    children: [Arc<dyn ExecutionPlan>; 2],
    ends: Arc<Ends>,
    partitions: Vec<Partitions>,
    workers: usize,
    context: Arc<TaskContext>,
    counters: Counters,
}

impl Passes {
    /// One pass over the rows of both children, for the experiments of a plan.
    async fn make(self: Arc<Self>, plan: Arc<MetricPlan>) -> Result<Vec<StateRows>> {
        let [events, assignments] = match self.counters.passes.value() {
            0 => self.children.each_ref().map(Arc::clone),
            // What a pass before has taken of them is not there again.
            _ => [self.fresh(0)?, self.fresh(1)?],
        };
        self.counters.passes.add(1);
        let context = Arc::clone(&self.context);
        let partitions = self.partitions.clone();
        let job = Arc::new(Job {
            lanes: Lanes::new(&plan),
            plan,
            ends: Arc::clone(&self.ends),
            event_schema: events.schema(),
            work: Work::new([&events, &assignments], context, partitions, self.workers),
            context: Arc::clone(&self.context),
            counters: self.counters.clone(),
        });
        let filled = fill(&job, self.workers).await?;
        rows(&job, filled)
    }

    fn fresh(&self, child: usize) -> Result<Arc<dyn ExecutionPlan>> {
        reset_plan_states(Arc::clone(&self.children[child]))
    }
}

/// Everything the workers of a pass share.
struct Job {
    plan: Arc<MetricPlan>,
    lanes: Lanes,
    ends: Arc<Ends>,
    work: Work,
    event_schema: SchemaRef,
    context: Arc<TaskContext>,
    counters: Counters,
}

#[derive(Clone)]
struct Counters {
    /// More than one where the cells of all experiments did not fit into memory at once; rows are counted as often as they were read.
    passes: Count,
    units: Count,
    events: Count,
    assignments: Count,
    output_rows: Count,
    memory: datafusion::physical_plan::metrics::Gauge,
    read_time: Time,
    accumulate_time: Time,
}

impl Counters {
    fn new(metrics: &ExecutionPlanMetricsSet) -> Counters {
        let build = || MetricBuilder::new(metrics);
        Counters {
            passes: build().global_counter("passes"),
            units: build().global_counter("units"),
            events: build().global_counter("events"),
            assignments: build().global_counter("assignments"),
            output_rows: build().output_rows(0),
            memory: build().global_gauge("cell_bytes"),
            read_time: build().subset_time("read_time", 0),
            accumulate_time: build().subset_time("accumulate_time", 0),
        }
    }
}

/// The cells of all workers.
async fn fill(job: &Arc<Job>, workers: usize) -> Result<Filled> {
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..workers.max(1) {
        tasks.spawn(work(Arc::clone(job), worker));
    }
    let mut filled: Option<Filled> = None;
    while let Some(part) = tasks.join_next().await {
        let part = part.map_err(|panic| DataFusionError::External(Box::new(panic)));
        match (part.flatten(), &mut filled) {
            (Ok(part), None) => filled = Some(part),
            (Ok(part), Some(filled)) => filled.merge(part),
            (Err(error), _) => {
                // The others give back their memory before there is another pass.
                tasks.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(filled.expect("there is at least one worker"))
}

fn rows(job: &Job, filled: Filled) -> Result<Vec<StateRows>> {
    if let Some(refusal) = filled.specials.refusal(&job.plan) {
        return exec_err!("{refusal}");
    }
    let pool = job.context.memory_pool();
    let finishing = MemoryConsumer::new("MetricStatesExec[quantiles]").register(pool);
    finishing
        .try_grow(filled.specials.bytes_to_finish())
        .map_err(|error| keeps_numbers(&job.plan, error))?;
    let rows = state_rows(&job.plan, &job.lanes, filled)?;
    let batches = rows.iter().flat_map(|rows| &rows.batches);
    job.counters
        .output_rows
        .add(batches.map(RecordBatch::num_rows).sum());
    Ok(rows)
}

/// Why metrics whose numbers are kept may not fit where others do.
fn keeps_numbers(plan: &MetricPlan, error: DataFusionError) -> DataFusionError {
    error.context(format!(
        "{}: quantiles, and caps that are quantiles, keep the numbers of all units; allow more with `--memory-limit`, or freeze the cap",
        least(plan)
    ))
}

/// Why a metric may not fit of which only sums are kept.
fn keeps_sums(plan: &MetricPlan, error: DataFusionError) -> DataFusionError {
    error.context(format!(
        "{}: sums are kept for each combination of segment values; allow more with `--memory-limit`, or report by fewer segments",
        least(plan)
    ))
}

/// Walks units of work until none is left.
async fn work(job: Arc<Job>, worker: usize) -> Result<Filled> {
    let pool = job.context.memory_pool();
    let reservation = MemoryConsumer::new(format!("MetricStatesExec[{worker}]")).register(pool);
    let is_scaled: Vec<bool> = job.event_schema.fields()[3..]
        .iter()
        .map(|field| is_decimal(field.data_type()))
        .collect();
    let kernel = Kernel::new(&job.plan, &job.lanes, &job.ends, is_scaled.clone());
    let cells = kernel.cells_per_segment();
    let mut worker = Worker {
        job: &job,
        kernel,
        specials: Specials::new((&job.plan, &job.lanes), &job.ends, &is_scaled, cells),
        special_bytes: 0,
        reader: AssignmentReader::new(&job.plan),
        segments: Segments::default(),
        reservation,
        read_time: Duration::ZERO,
    };
    while let Some(opened) = job.work.next().await? {
        worker.walk(opened).await?;
    }
    Ok(worker.finish())
}

struct Worker<'a> {
    job: &'a Job,
    kernel: Kernel<'a>,
    specials: Specials<'a>,
    /// Memory that is reserved for them.
    special_bytes: usize,
    reader: AssignmentReader<'a>,
    segments: Segments,
    reservation: MemoryReservation,
    /// Time spent waiting for and decoding batches.
    read_time: Duration,
}

impl Worker<'_> {
    /// Adds all units of the sorted runs of a bucket or partition.
    async fn walk(&mut self, opened: Opened) -> Result<()> {
        let job = self.job;
        let mut events: Runs<EventBatch> = Runs::new(opened.events);
        let mut assignments: Runs<AssignmentBatch> = Runs::new(opened.assignments);
        let mut units = 0;
        let (started, read_before) = (Instant::now(), self.read_time);
        self.fill_assignments(&mut assignments).await?;
        self.fill_events(&mut events).await?;
        while let Some(key) = assignments.next_key() {
            assignments.begin(key);
            while assignments.take(key) {
                self.fill_assignments(&mut assignments).await?;
            }
            while events.skip_below(key) {
                self.fill_events(&mut events).await?;
            }
            events.begin(key);
            while events.take(key) {
                self.fill_events(&mut events).await?;
            }
            let mut unit = Unit::default();
            assignments.lend(&mut unit);
            events.lend(&mut unit);
            self.kernel.add(&unit);
            if !job.plan.specials.is_empty() {
                self.add_specials(&unit)?;
            }
            units += 1;
        }
        job.counters.units.add(units);
        job.counters.accumulate_time.add_duration(
            started
                .elapsed()
                .saturating_sub(self.read_time - read_before),
        );
        job.counters.events.add(events.rows);
        job.counters.assignments.add(assignments.rows);
        Ok(())
    }

    fn add_specials(&mut self, unit: &Unit) -> Result<()> {
        self.specials.add(unit, self.kernel.counted(unit));
        let bytes = self.specials.cells.bytes;
        if bytes > self.special_bytes {
            let more = (bytes - self.special_bytes).max(SPECIAL_STEP);
            let grown = self.reservation.try_grow(more);
            grown.map_err(|error| keeps_numbers(&self.job.plan, error))?;
            self.job.counters.memory.add(more);
            self.special_bytes += more;
        }
        Ok(())
    }

    /// New combinations of segment values get cells of their own, and memory for them.
    async fn fill_assignments(&mut self, runs: &mut Runs<AssignmentBatch>) -> Result<()> {
        let started = Instant::now();
        let (reader, segments) = (&mut self.reader, &mut self.segments);
        runs.fill(|batch, into| reader.read(batch, segments, into))
            .await?;
        self.count_reading(started);
        while self.kernel.cells.len() < self.segments.known.len() {
            let cells = self.kernel.cells_per_segment();
            let lanes = &self.job.lanes;
            let bytes = Cells::memory(lanes, cells) + Queues::memory(&lanes.layout, cells);
            let grown = self.reservation.try_grow(bytes);
            grown.map_err(|error| keeps_sums(&self.job.plan, error))?;
            self.job.counters.memory.add(bytes);
            self.kernel.cells.push(Cells::new(&self.job.lanes, cells));
        }
        Ok(())
    }

    async fn fill_events(&mut self, runs: &mut Runs<EventBatch>) -> Result<()> {
        let started = Instant::now();
        runs.fill(|batch, into| read_events(&self.job.lanes, batch, into))
            .await?;
        self.count_reading(started);
        Ok(())
    }

    fn count_reading(&mut self, started: Instant) {
        self.read_time += started.elapsed();
        self.job.counters.read_time.add_elapsed(started);
    }

    fn finish(mut self) -> Filled {
        self.kernel.finish();
        let scales = (0..self.job.plan.metrics.len())
            .map(|metric| self.kernel.metric_scales(metric))
            .collect();
        Filled {
            segments: self.segments,
            variants: self.kernel.variants,
            cells: self.kernel.cells,
            specials: self.specials.cells,
            scales,
            _memory: vec![self.reservation],
        }
    }
}
