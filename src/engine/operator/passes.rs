//! As many passes over the facts as memory asks for: one, or several where the cells of all experiments do not fit at once.
//! In: a plan, and how one pass over some of it is made. Out: the rows of all of it, in the order of a single pass.
//!
//! An experiment's rows need nothing of another's, so a pass over half of the experiments takes half of the memory; and within one, a
//! metric's rows need nothing of another's. What a pass that did not fit has read is read again: slower, but an answer.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, UInt32Array};
use datafusion::arrow::compute::{BatchCoalescer, concat_batches, take_record_batch};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};

use super::states::{BATCH, StateRows, VARIANT, output_schema};
use crate::metrics::plan::{ExperimentPlan, MetricPlan};

/// Makes passes until all experiments have their rows. A metric of an experiment that does not fit alone is an error.
pub async fn in_passes<F>(
    plan: &Arc<MetricPlan>,
    pass: impl Fn(Arc<MetricPlan>) -> F,
) -> Result<Vec<RecordBatch>>
where
    F: Future<Output = Result<Vec<StateRows>>>,
{
    let mut found = Vec::new();
    let mut waiting = Vec::from([Part::whole(plan)]);
    while let Some(part) = waiting.pop() {
        match pass(part.plan(plan)).await {
            Ok(rows) => found.extend(rows.into_iter().map(|rows| (part.split_experiment(), rows))),
            Err(error) if is_out_of_memory(&error) => match part.halves(plan) {
                // The last one that is put there is taken first, so that experiments and metrics stay in their order.
                Some(halves) => waiting.extend(halves.into_iter().rev()),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    recut(in_order(plan, found)?)
}

/// What one pass is over.
struct Part {
    experiments: Range<usize>,
    /// Positions among the plan's metrics, followed by its specials.
    metrics: Vec<usize>,
    /// Whether other parts are over other metrics of the same experiment.
    is_split: bool,
}

impl Part {
    /// What a plan asks for itself is not looked through: most of the time it is all that there is.
    fn whole(plan: &MetricPlan) -> Part {
        Part {
            experiments: 0..plan.experiments.len(),
            metrics: (0..plan.metrics.len() + plan.specials.len()).collect(),
            is_split: false,
        }
    }

    /// Some experiments with the metrics that one of them reports.
    fn of_experiments(plan: &MetricPlan, experiments: Range<usize>) -> Part {
        let names = plan.metrics.iter().map(|metric| &metric.name);
        let names = names.chain(plan.specials.iter().map(|metric| &metric.name));
        let asking = &plan.experiments[experiments.clone()];
        let is_wanted = |name: &str| asking.iter().any(|experiment| experiment.wants(name));
        let wanted = names.enumerate().filter(|(_, name)| is_wanted(name));
        Part {
            metrics: wanted.map(|(at, _)| at).collect(),
            experiments,
            is_split: false,
        }
    }

    /// Parts that take less memory, in their order; none where this is but one metric of one experiment. What has no rows is no part.
    fn halves(&self, plan: &MetricPlan) -> Option<Vec<Part>> {
        let Range { start, end } = self.experiments.clone();
        if end - start > 1 {
            let middle = start + (end - start) / 2;
            let halves = [start..middle, middle..end];
            let halves = halves.map(|half| Part::of_experiments(plan, half));
            let has_rows = |half: &Part| !half.metrics.is_empty();
            return Some(halves.into_iter().filter(has_rows).collect());
        }
        let mut own = Part::of_experiments(plan, start..end).metrics;
        own.retain(|metric| self.metrics.contains(metric));
        let is_least = own.len() == self.metrics.len() && own.len() < 2;
        let half = |metrics: &[usize]| Part {
            experiments: start..end,
            metrics: metrics.to_vec(),
            is_split: true,
        };
        let length = own.len().div_ceil(2).max(1);
        (!is_least).then(|| own.chunks(length).map(half).collect())
    }

    fn split_experiment(&self) -> Option<usize> {
        self.is_split.then_some(self.experiments.start)
    }

    fn plan(&self, plan: &Arc<MetricPlan>) -> Arc<MetricPlan> {
        let metrics = plan.metrics.len();
        if self.experiments == (0..plan.experiments.len())
            && self.metrics.len() == metrics + plan.specials.len()
        {
            return Arc::clone(plan);
        }
        let specials = self.metrics.partition_point(|at| *at < metrics);
        let (plain, special) = self.metrics.split_at(specials);
        let plain = plain.iter().map(|at| plan.metrics[*at].clone());
        let special = special.iter().map(|at| plan.specials[at - metrics].clone());
        Arc::new(MetricPlan {
            experiments: plan.experiments[self.experiments.clone()].to_vec(),
            metrics: plain.collect(),
            specials: special.collect(),
            ..MetricPlan::clone(plan)
        })
    }
}

/// What does not fit, where no smaller part could be made of it.
pub fn least(plan: &MetricPlan) -> String {
    let names = plan.metrics.iter().map(|metric| &metric.name);
    let mut names = names.chain(plan.specials.iter().map(|metric| &metric.name));
    match (names.next(), plan.experiments.as_slice()) {
        (Some(name), [experiment]) if names.next().is_none() => {
            let name = name.split('@').next().unwrap_or(name);
            format!("`{name}` of `{}` does not fit, even alone", experiment.key)
        }
        _ => "the metrics of all experiments do not fit".to_owned(),
    }
}

fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// Rows, and which experiment they are of if others have its other metrics.
type Found = (Option<usize>, StateRows);

/// Segments in the order of the whole plan, then their values; within one the passes follow each other.
fn in_order(plan: &MetricPlan, mut found: Vec<Found>) -> Result<Vec<RecordBatch>> {
    let sets = plan.segment_sets();
    let position = |columns: &[String]| sets.iter().position(|set| set == columns);
    found.sort_by(|(_, a), (_, b)| {
        let (first, second) = (position(&a.columns), position(&b.columns));
        first.cmp(&second).then_with(|| a.value.cmp(&b.value))
    });
    let is_one = |(of, one): &Found, (other, next): &Found| {
        of.is_some() && of == other && one.columns == next.columns && one.value == next.value
    };
    let mut batches = Vec::new();
    for rows in found.chunk_by(is_one) {
        let own = rows
            .iter()
            .flat_map(|(_, rows)| rows.batches.iter().cloned());
        match rows {
            [(Some(of), _), _, ..] => {
                batches.push(by_variant(&plan.experiments[*of], own.collect())?);
            }
            _ => batches.extend(own),
        }
    }
    Ok(batches)
}

/// The rows of one experiment in one segment, of which several passes have each found all variants: variant by variant.
fn by_variant(experiment: &ExperimentPlan, batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    let rows = concat_batches(&output_schema(), &batches)?;
    let variants = rows.column(VARIANT).as_string::<i32>();
    let position = |row: u32| {
        let variant = variants.value(row as usize);
        experiment.variants.iter().position(|name| name == variant)
    };
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_by_key(|row| position(*row));
    Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
}

/// The same rows in batches of one length. What comes next deals batches out, so where they end must say nothing of passes or processors.
fn recut(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut coalescer = BatchCoalescer::new(output_schema(), BATCH);
    for batch in batches {
        coalescer.push_batch(batch)?;
    }
    coalescer.finish_buffered_batch()?;
    Ok(std::iter::from_fn(|| coalescer.next_completed_batch()).collect())
}
