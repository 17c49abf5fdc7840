//! The first row of each key, as `qualify row_number() over (partition by ... order by ...) = 1` asks for it.
//! In: a physical plan. Out: the same plan, in which a filter that keeps only rows with the number 1 stands above [`FirstRowsExec`] instead of
//! a window function. Which rows there are, and in which order, is decided by the sort below.
//!
//! Staging models say so to leave out what was delivered twice, so keys are nearly as many as rows. A window function keeps a state and
//! a buffer for each key, which takes most of such a query; in rows that are sorted by key, the first of each is the one that differs
//! from the row before.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, UInt64Array, make_comparator,
};
use datafusion::arrow::compute::{BatchCoalescer, SortOptions, partition};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::OrderingRequirements;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::window::StandardWindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements,
    InputOrderMode, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, stream};

/// Replaces what numbers rows by key where a filter keeps only the first.
#[derive(Debug)]
pub struct FirstRows;

impl PhysicalOptimizerRule for FirstRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|node| {
            Ok(match below_filter(&node) {
                Some(below) => Transformed::yes(replace_children_if_necessary(node, vec![below])?),
                None => Transformed::no(node),
            })
        });
        replaced.data()
    }

    fn name(&self) -> &str {
        "first_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What may stand below a filter instead.
fn below_filter(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let filter = node.downcast_ref::<FilterExec>()?;
    let conditions = split_conjunction(filter.predicate());
    let mut numbers = conditions.into_iter().filter_map(is_one);
    numbers.find_map(|number| with_first_rows(filter.input(), number))
}

/// The column that a condition wants to be 1, of numbers that start there.
fn is_one(condition: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let condition = condition.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (condition.left(), condition.right());
    let (column, operator, literal) = match left.downcast_ref::<Column>() {
        Some(column) => (column, *condition.op(), right),
        None => (right.downcast_ref()?, condition.op().swap()?, left),
    };
    let literal = literal.downcast_ref::<Literal>()?.value();
    if !literal.data_type().is_integer() {
        return None;
    }
    let number = literal.cast_to(&DataType::Int64);
    let wants_one = matches!(
        (operator, number.ok()?),
        (Operator::Eq | Operator::LtEq, ScalarValue::Int64(Some(1)))
            | (Operator::Lt, ScalarValue::Int64(Some(2)))
    );
    wants_one.then(|| column.index())
}

/// The plan without its window function, if the column is made by one that numbers rows.
fn with_first_rows(plan: &Arc<dyn ExecutionPlan>, column: usize) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = projection.expr()[column].expr.downcast_ref::<Column>()?;
        let below = with_first_rows(projection.input(), below.index())?;
        return replace_children_if_necessary(Arc::clone(plan), vec![below]).ok();
    }
    let window = plan.downcast_ref::<BoundedWindowAggExec>()?;
    let [function] = window.window_expr() else {
        return None;
    };
    let standard = function.as_any().downcast_ref::<StandardWindowExpr>()?;
    let function_of_window = standard.get_standard_func_expr();
    let numbering = function_of_window
        .as_any()
        .downcast_ref::<WindowUDFExpr>()?;
    let numbers_rows = numbering.fun().name() == "row_number"
        && column == window.input().schema().fields().len()
        && !function.partition_by().is_empty()
        && window.input_order_mode == InputOrderMode::Sorted;
    numbers_rows.then(|| {
        Arc::new(FirstRowsExec {
            keys: function.partition_by().to_vec(),
            window: Arc::clone(plan),
            metrics: ExecutionPlanMetricsSet::new(),
        }) as Arc<dyn ExecutionPlan>
    })
}

/// Of rows that are sorted by key, the first of each, with the number 1.
#[derive(Debug)]
struct FirstRowsExec {
    /// What it stands for: it needs and says of its rows what this does.
    window: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl DisplayAs for FirstRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(out, "FirstRowsExec: by=[{}]", keys.join(", "))
    }
}

impl ExecutionPlan for FirstRowsExec {
    fn name(&self) -> &str {
        "FirstRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.window.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.window.children()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.window.required_input_ordering()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.input_distribution_requirements().into_per_child()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.window.input_distribution_requirements()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.window.maintains_input_order()
    }

    fn apply_expressions(
        &self,
        apply: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.window.apply_expressions(apply)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(FirstRowsExec {
            window: Arc::clone(&self.window).replace_children(children, options)?,
            keys: self.keys.clone(),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.children()[0].execute(partition, Arc::clone(&context))?;
        let state = State {
            rows,
            kept: Kept::new(
                self.schema(),
                self.keys.clone(),
                context.session_config().batch_size(),
            ),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            stream::try_unfold(state, State::next),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A partition on its way.
struct State {
    rows: SendableRecordBatchStream,
    kept: Kept,
    metrics: BaselineMetrics,
}

impl State {
    async fn next(mut self) -> Result<Option<(RecordBatch, State)>> {
        loop {
            if let Some(batch) = self.kept.batches.next_completed_batch() {
                return Ok(Some((batch.record_output(&self.metrics), self)));
            }
            if self.kept.is_finished {
                self.metrics.done();
                return Ok(None);
            }
            let batch = self.rows.next().await.transpose()?;
            let _timer = self.metrics.elapsed_compute().timer();
            match batch {
                Some(batch) => self.kept.add(&batch)?,
                None => self.kept.finish()?,
            }
        }
    }
}

/// The rows that stay.
struct Kept {
    schema: SchemaRef,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The keys of the last row so far.
    last: Vec<ArrayRef>,
    batches: BatchCoalescer,
    is_finished: bool,
}

impl Kept {
    fn new(schema: SchemaRef, keys: Vec<Arc<dyn PhysicalExpr>>, batch_size: usize) -> Kept {
        Kept {
            batches: BatchCoalescer::new(Arc::clone(&schema), batch_size),
            schema,
            keys,
            last: Vec::new(),
            is_finished: false,
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let keys = self.keys.iter();
        let keys = keys.map(|key| key.evaluate(batch)?.into_array(rows));
        let keys = keys.collect::<Result<Vec<ArrayRef>>>()?;
        let is_first = self.first_of_each(&keys)?;
        self.last = keys.iter().map(|key| key.slice(rows - 1, 1)).collect();
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from_value(1, rows)));
        let numbered = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(self.batches.push_batch_with_filter(numbered, &is_first)?)
    }

    /// Which rows have another key than the one before.
    fn first_of_each(&self, keys: &[ArrayRef]) -> Result<BooleanArray> {
        let rows = keys[0].len();
        let mut is_first = BooleanBufferBuilder::new(rows);
        is_first.append_n(rows, false);
        for range in partition(keys)?.ranges() {
            is_first.set_bit(range.start, true);
        }
        if !self.last.is_empty() {
            is_first.set_bit(0, self.differs(keys)?);
        }
        Ok(BooleanArray::new(is_first.finish(), None))
    }

    /// Whether the first row has another key than the last of the batch before.
    fn differs(&self, keys: &[ArrayRef]) -> Result<bool> {
        for (last, key) in self.last.iter().zip(keys) {
            // Any order tells what is equal; NULL is equal to NULL.
            let compare = make_comparator(last, key, SortOptions::default())?;
            if compare(0, 0).is_ne() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn finish(&mut self) -> Result<()> {
        self.is_finished = true;
        let finished = self.batches.finish_buffered_batch();
        finished.map_err(DataFusionError::from)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array, StringViewArray};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::MemTable;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// Rows whose keys come often, once, or not at all, in batches that are shorter than a key's rows.
    fn rows() -> MemTable {
        let batches: Vec<RecordBatch> = (0..40).map(batch).collect();
        let partitions = batches.chunks(7).map(<[RecordBatch]>::to_vec).collect();
        MemTable::try_new(batch(0).schema(), partitions).unwrap()
    }

    fn batch(number: i64) -> RecordBatch {
        // Numbers that look random: multiples of a large odd number, cut.
        let random = |at: i64, below: i64| ((number * 11 + at + 1) * 7_919 % 10_007) % below;
        let key = |at| match random(at, 9) {
            0 => None,
            1..6 => Some(format!("often {}", random(at, 5))),
            _ => Some(format!(
                "a key that is longer than twelve bytes {}",
                number * 11 + at
            )),
        };
        let part = |at| match random(at, 7) {
            0 => None,
            1 => Some(f64::NAN),
            other => Some((other % 3) as f64),
        };
        let ids = (0..11).map(|at| number * 11 + at);
        RecordBatch::try_from_iter_with_nullable([
            (
                "key",
                Arc::new((0..11).map(key).collect::<StringViewArray>()) as ArrayRef,
                true,
            ),
            (
                "part",
                Arc::new((0..11).map(part).collect::<Float64Array>()),
                true,
            ),
            ("id", Arc::new(ids.collect::<Int64Array>()), false),
        ])
        .unwrap()
    }

    fn context(batch_size: usize, has_rule: bool) -> SessionContext {
        let config = SessionConfig::new()
            .with_target_partitions(3)
            .with_batch_size(batch_size);
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features();
        if has_rule {
            state = state.with_physical_optimizer_rule(Arc::new(FirstRows));
        }
        let context = SessionContext::new_with_state(state.build());
        context.register_table("given", Arc::new(rows())).unwrap();
        context
    }

    async fn answer(context: &SessionContext, query: &str) -> String {
        let rows = context.sql(query).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }

    async fn plan(context: &SessionContext, query: &str) -> String {
        answer(context, &format!("explain {query}")).await
    }

    const FIRST: &str = "row_number() over (partition by key order by id)";

    #[tokio::test]
    async fn the_first_row_of_each_key_is_the_one_that_a_window_numbers_so() {
        let queries = [
            format!("select * from given qualify {FIRST} = 1"),
            format!("select * from given qualify 1 >= {FIRST}"),
            format!("select id, key from given qualify {FIRST} < 2 and part > 0"),
            format!("select * from (select id * 2 as id, {FIRST} as number, part from given) where number <= 1"),
            "select * from given qualify row_number() over (partition by part, key order by id desc) = 1".to_owned(),
            "select * from given qualify row_number() over (partition by id % 3, part order by key, id) = 1".to_owned(),
            "select id from given where id < 0 qualify row_number() over (partition by key order by id) = 1".to_owned(),
        ];
        for query in queries {
            for batch_size in [1, 3, 8192] {
                let (with, without) = (context(batch_size, true), context(batch_size, false));
                assert!(
                    plan(&with, &query).await.contains("FirstRowsExec"),
                    "{query}"
                );
                assert!(
                    !plan(&with, &query).await.contains("WindowAggExec"),
                    "{query}"
                );
                let sorted = format!("select * from ({query}) order by id");
                let expected = answer(&without, &sorted).await;
                assert_eq!(answer(&with, &sorted).await, expected, "{query}");
            }
        }
    }

    #[tokio::test]
    async fn a_window_stays_where_more_than_the_first_row_is_asked_for() {
        let context = context(8192, true);
        for query in [
            &format!("select * from given qualify {FIRST} = 2"),
            &format!("select * from given qualify {FIRST} <= 2"),
            &format!("select * from given qualify {FIRST} > 1"),
            &format!("select * from given qualify {FIRST} = 1 or part > 0"),
            &format!("select *, {FIRST} as number from given"),
            &format!("select * from (select *, {FIRST} + 1 as number from given) where number = 1"),
            "select * from given qualify rank() over (partition by key order by part) = 1",
            "select * from given qualify row_number() over (order by id) = 1",
        ] {
            assert!(
                !plan(&context, query).await.contains("FirstRowsExec"),
                "{query}"
            );
        }
    }
}
