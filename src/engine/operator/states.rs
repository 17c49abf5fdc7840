//! Filled cells as rows: one per experiment x variant x metric x segment.
//! In: the cells of all workers. Out: record batches in a fixed order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, ListBuilder, StringBuilder, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;

use super::apart::fill_before;
use super::cells::Cells;
use super::lanes::Lanes;
use super::segments::Segments;
use super::special_cells::{Caps, SpecialCells};
use crate::metrics::plan::{MetricPlan, dimension};
use crate::sql::functions::state_type;
use crate::stats::state::State;

/// What one or more workers have filled.
pub struct Filled {
    pub segments: Segments,
    pub variants: usize,
    pub cells: Vec<Cells>,
    pub specials: SpecialCells,
    /// Per metric and position, what whole numbers are divided by.
    pub scales: Vec<Vec<f64>>,
    /// Held until the rows are made.
    pub _memory: Vec<MemoryReservation>,
}

impl Filled {
    pub fn merge(&mut self, other: Filled) {
        let mut positions = Vec::new();
        for (values, cells) in other.segments.known.into_iter().zip(other.cells) {
            let position = self.segments.position(values) as usize;
            positions.push(position);
            match self.cells.get_mut(position) {
                Some(known) => known.merge(&cells),
                None => self.cells.push(cells),
            }
        }
        self.specials.merge(other.specials, &positions);
        self._memory.extend(other._memory);
    }
}

/// Position of the variant's name among the columns.
pub const VARIANT: usize = 1;

/// Columns of the operator's rows: those of `metric_aggregates`, and how many units were seen in two variants.
pub fn output_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        Arc::new(Schema::new(vec![
            text("experiment_key"),
            text("variant"),
            text("metric_name"),
            text("segment_dimension"),
            text("segment"),
            Field::new("state", state_type(), false),
            Field::new("before_state", state_type(), true),
            Field::new("crossed_over", DataType::Int64, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Rows per batch.
pub const BATCH: usize = 8192;

/// Rows of one value of a segment.
pub struct StateRows {
    /// The columns that make up the segment.
    pub columns: Vec<String>,
    pub value: String,
    pub batches: Vec<RecordBatch>,
}

/// One row per cell with a unit, in the order of the plan's segments, their values, experiments, variants and metrics.
pub fn state_rows(plan: &MetricPlan, lanes: &Lanes, filled: Filled) -> Result<Vec<StateRows>> {
    let caps = filled.specials.caps(plan, filled.variants);
    let mut places = Vec::new();
    for columns in plan.segment_sets() {
        for (value, positions) in by_value(plan, &filled, &columns) {
            places.push(Place {
                columns: columns.clone(),
                value,
                positions,
            });
        }
    }
    let parts = parts(&places, plan.experiments.len());
    let rows_of = |(place, experiments): &(&Place, Range<usize>)| {
        let mut rows = Rows::default();
        let rolled_up;
        let cells = match place.positions.as_slice() {
            [position] => &filled.cells[*position],
            positions => {
                rolled_up = roll_up(plan, lanes, &filled, positions);
                &rolled_up
            }
        };
        let experiments = experiments.clone();
        add_rows(
            &mut rows,
            (plan, lanes),
            (&filled, cells, &caps),
            place,
            experiments,
        )?;
        Ok(StateRows {
            columns: place.columns.clone(),
            value: place.value.clone(),
            batches: rows.finish()?,
        })
    };
    in_parallel(&parts, rows_of).into_iter().collect()
}

/// What is made into rows at once: a place with all experiments, or with some where one place is all there is.
fn parts(places: &[Place], experiments: usize) -> Vec<(&Place, Range<usize>)> {
    let step = match places {
        [_] => experiments.div_ceil(processors()).max(1),
        _ => experiments.max(1),
    };
    let starts = |place| {
        let starts = (0..experiments).step_by(step);
        starts.map(move |start| (place, start..(start + step).min(experiments)))
    };
    places.iter().flat_map(starts).collect()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` over all items, on as many threads as there are processors, and gives the results in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.get(index) {
                Some(item) => done.push((index, work(item))),
                None => return done,
            }
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors().min(items.len()))
            .map(|_| scope.spawn(take))
            .collect();
        let mut results = take();
        for other in others {
            let found = other.join();
            results.extend(found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A segment and one of its values.
struct Place {
    columns: Vec<String>,
    value: String,
    /// Combinations of segment values that belong to it.
    positions: Vec<usize>,
}

/// Which combinations of segment values belong to each value of a segment.
fn by_value(
    plan: &MetricPlan,
    filled: &Filled,
    segment: &[String],
) -> BTreeMap<String, Vec<usize>> {
    let known = &plan.assignments.segments;
    let columns: Vec<usize> = segment
        .iter()
        .filter_map(|name| known.iter().position(|known| known == name))
        .collect();
    let mut by_value: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (position, values) in filled.segments.known.iter().enumerate() {
        let texts: Vec<&str> = columns
            .iter()
            .map(|column| values[*column].as_deref().unwrap_or("(none)"))
            .collect();
        let value = if segment.is_empty() {
            "all".to_owned()
        } else {
            texts.join(" x ")
        };
        by_value.entry(value).or_default().push(position);
    }
    by_value
}

/// The cells of some combinations of segment values taken together.
fn roll_up(plan: &MetricPlan, lanes: &Lanes, filled: &Filled, positions: &[usize]) -> Cells {
    let mut cells = Cells::new(lanes, plan.experiments.len() * filled.variants);
    for position in positions {
        cells.merge(&filled.cells[*position]);
    }
    cells
}

fn add_rows(
    rows: &mut Rows,
    (plan, lanes): (&MetricPlan, &Lanes),
    (filled, cells, caps): (&Filled, &Cells, &Caps),
    place: &Place,
    experiments: Range<usize>,
) -> Result<()> {
    let dimension = dimension(&place.columns);
    // Used again from row to row: rows are many, and memory for each costs more than its numbers.
    let (mut state, mut before) = (State::default(), State::default());
    for experiment in experiments {
        let planned = &plan.experiments[experiment];
        if !planned.segments.contains(&place.columns) {
            continue;
        }
        for (variant, name) in planned.variants.iter().enumerate() {
            let cell = experiment * filled.variants + variant;
            let crossed_over = cells.crossed_over(cell);
            let texts = |metric| [&planned.key, name, metric, dimension.as_str(), &place.value];
            for (metric, states) in plan.metrics.iter().enumerate() {
                if !planned.wants(&states.name) {
                    continue;
                }
                let scales = &filled.scales[metric];
                cells.fill(&mut state, (plan, lanes), (cell, metric), scales);
                if state.n + state.non_finite > 0 {
                    let has_before = states.lookback.is_some();
                    if has_before {
                        fill_before(&mut before, &state, cells.apart(cell, metric));
                    }
                    let before = has_before.then_some(&before);
                    rows.push(texts(&states.name), &state, before, crossed_over)?;
                }
            }
            for (at, metric) in plan.specials.iter().enumerate() {
                let found = filled
                    .specials
                    .state(plan, &place.positions, (cell, at), caps);
                if let Some((state, before)) = found {
                    rows.push(texts(&metric.name), &state, before.as_ref(), crossed_over)?;
                }
            }
        }
    }
    Ok(())
}

/// Rows being collected into batches.
#[derive(Default)]
struct Rows {
    texts: [StringBuilder; 5],
    states: StateColumn,
    before_states: StateColumn,
    crossed_over: Int64Builder,
    length: usize,
    done: Vec<RecordBatch>,
}

impl Rows {
    fn push(
        &mut self,
        texts: [&str; 5],
        state: &State,
        before: Option<&State>,
        crossed_over: u64,
    ) -> Result<()> {
        self.texts
            .iter_mut()
            .zip(texts)
            .for_each(|(column, text)| column.append_value(text));
        self.states.push(Some(state));
        self.before_states.push(before);
        self.crossed_over.append_value(crossed_over as i64);
        self.length += 1;
        if self.length == BATCH {
            self.cut()
        } else {
            Ok(())
        }
    }

    fn cut(&mut self) -> Result<()> {
        self.length = 0;
        let texts = self
            .texts
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        let mut columns: Vec<ArrayRef> = texts.collect();
        columns.push(self.states.finish()?);
        columns.push(self.before_states.finish()?);
        columns.push(Arc::new(self.crossed_over.finish()));
        self.done
            .push(RecordBatch::try_new(output_schema(), columns)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>> {
        if self.length > 0 {
            self.cut()?;
        }
        Ok(self.done)
    }
}

/// States as the structs that the SQL functions of the statistics take.
#[derive(Default)]
struct StateColumn {
    counts: [Int64Builder; 3],
    numbers: [ListBuilder<Float64Builder>; 5],
    is_valid: Vec<bool>,
}

impl StateColumn {
    fn push(&mut self, state: Option<&State>) {
        self.is_valid.push(state.is_some());
        let Some(state) = state else {
            self.counts.iter_mut().for_each(Int64Builder::append_null);
            self.numbers.iter_mut().for_each(ListBuilder::append_null);
            return;
        };
        let counts = [state.n, state.nulls, state.non_finite];
        self.counts
            .iter_mut()
            .zip(counts)
            .for_each(|(column, count)| column.append_value(count as i64));
        // Without a unit there are no extremes: NULL rather than an infinity.
        let limit = |limit: &f64| limit.is_finite().then_some(*limit);
        append(&mut self.numbers[0], state.min.iter().map(limit));
        append(&mut self.numbers[1], state.max.iter().map(limit));
        append(
            &mut self.numbers[2],
            state.mean.iter().map(|mean| Some(mean.high)),
        );
        append(
            &mut self.numbers[3],
            state.mean.iter().map(|mean| Some(mean.low)),
        );
        append(
            &mut self.numbers[4],
            state.cross_products.iter().map(|product| Some(*product)),
        );
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let DataType::Struct(fields) = state_type() else {
            unreachable!("a state is a struct")
        };
        let counts = self
            .counts
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        let numbers = self
            .numbers
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        let validity = std::mem::take(&mut self.is_valid).into();
        Ok(Arc::new(StructArray::try_new(
            fields,
            counts.chain(numbers).collect(),
            Some(validity),
        )?))
    }
}

fn append(column: &mut ListBuilder<Float64Builder>, numbers: impl Iterator<Item = Option<f64>>) {
    numbers.for_each(|number| column.values().append_option(number));
    column.append(true);
}
