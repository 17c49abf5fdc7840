//! As many passes over the facts as memory asks for: one, or several where the cells of all experiments do not fit at once.
//! In: a plan, and how one pass over some of its experiments is made. Out: the rows of all of them, in the order of a single pass.
//!
//! An experiment's rows need nothing of another's, so a pass over half of the experiments takes half of the memory. What a pass that did
//! not fit has read is read again: slower, but an answer.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};

use super::states::{BATCH, StateRows, output_schema};
use crate::metrics::plan::MetricPlan;

/// Makes passes until all experiments have their rows. One whose own cells do not fit is an error.
pub async fn in_passes<F>(
    plan: &Arc<MetricPlan>,
    pass: impl Fn(Arc<MetricPlan>) -> F,
) -> Result<Vec<RecordBatch>>
where
    F: Future<Output = Result<Vec<StateRows>>>,
{
    let mut rows = Vec::new();
    let all = 0..plan.experiments.len();
    let mut waiting = Vec::from([all]);
    while let Some(experiments) = waiting.pop() {
        match pass(part(plan, &experiments)).await {
            Ok(more) => rows.extend(more),
            Err(error) if experiments.len() > 1 && is_out_of_memory(&error) => {
                let middle = experiments.start + experiments.len() / 2;
                // The last one that is put there is taken first, so that experiments stay in their order.
                waiting.push(middle..experiments.end);
                waiting.push(experiments.start..middle);
            }
            Err(error) => return Err(error),
        }
    }
    recut(in_order(plan, rows))
}

/// The plan of some experiments.
fn part(plan: &Arc<MetricPlan>, experiments: &Range<usize>) -> Arc<MetricPlan> {
    if *experiments == (0..plan.experiments.len()) {
        return Arc::clone(plan);
    }
    Arc::new(MetricPlan {
        experiments: plan.experiments[experiments.clone()].to_vec(),
        ..MetricPlan::clone(plan)
    })
}

fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// Segments in the order of the whole plan, then their values; within one the passes follow each other.
fn in_order(plan: &MetricPlan, mut rows: Vec<StateRows>) -> impl Iterator<Item = RecordBatch> {
    let sets = plan.segment_sets();
    let position = |columns: &[String]| sets.iter().position(|set| set == columns);
    rows.sort_by(|a, b| {
        let (first, second) = (position(&a.columns), position(&b.columns));
        first.cmp(&second).then_with(|| a.value.cmp(&b.value))
    });
    rows.into_iter().flat_map(|rows| rows.batches)
}

/// The same rows in batches of one length. What comes next deals batches out, so where they end must say nothing of passes or processors.
fn recut(batches: impl Iterator<Item = RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut coalescer = BatchCoalescer::new(output_schema(), BATCH);
    for batch in batches {
        coalescer.push_batch(batch)?;
    }
    coalescer.finish_buffered_batch()?;
    Ok(std::iter::from_fn(|| coalescer.next_completed_batch()).collect())
}
