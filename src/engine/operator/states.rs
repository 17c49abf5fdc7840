//! Filled cells as rows: one per experiment x variant x metric x segment.
//! In: the cells of all workers. Out: record batches in a fixed order.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;

use super::cells::Cells;
use super::kernel::Segments;
use super::lanes::Lanes;
use super::plan::MetricPlan;
use crate::stats::state::State;

/// What one or more workers have filled.
pub struct Filled {
    pub segments: Segments,
    pub variants: usize,
    pub cells: Vec<Cells>,
    /// Per metric and position, what whole numbers are divided by.
    pub scales: Vec<Vec<f64>>,
    /// Held until the rows are made.
    pub _memory: Vec<MemoryReservation>,
}

impl Filled {
    pub fn merge(&mut self, other: Filled) {
        for (values, mut cells) in other.segments.known.into_iter().zip(other.cells) {
            let position = self.segments.position(values) as usize;
            match self.cells.get_mut(position) {
                Some(known) => known.merge(&mut cells),
                None => self.cells.push(cells),
            }
        }
        self._memory.extend(other._memory);
    }
}

/// Columns of the operator's rows. `segment` names the columns it is made of, joined by ` x `, and is empty for everybody.
pub fn output_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let whole = |name: &str| Field::new(name, DataType::Int64, false);
        let numbers =
            |name: &str| Field::new(name, DataType::new_list(DataType::Float64, true), false);
        Arc::new(Schema::new(vec![
            text("experiment_key"),
            text("variant"),
            text("metric"),
            text("segment"),
            text("segment_value"),
            whole("n"),
            whole("nulls"),
            whole("non_finite"),
            whole("crossed_over"),
            numbers("min"),
            numbers("max"),
            numbers("mean"),
            numbers("mean_low"),
            numbers("cross_products"),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Rows per batch.
const BATCH: usize = 8192;

pub fn state_rows(
    plan: &MetricPlan,
    lanes: &Lanes,
    mut filled: Filled,
) -> Result<Vec<RecordBatch>> {
    let mut rows = Rows::default();
    for segment in &plan.segments {
        for (value, mut cells) in rolled_up(plan, lanes, &mut filled, segment) {
            let place = (segment.join(" x "), value);
            add_rows(
                &mut rows,
                plan,
                lanes,
                &mut cells,
                (&filled.scales, filled.variants),
                &place,
            )?;
        }
    }
    rows.finish()
}

/// The cells of each value of a segment, by value.
fn rolled_up(
    plan: &MetricPlan,
    lanes: &Lanes,
    filled: &mut Filled,
    segment: &[String],
) -> BTreeMap<String, Cells> {
    let columns: Vec<usize> = segment
        .iter()
        .filter_map(|name| plan.assignments.segments.iter().position(|s| s == name))
        .collect();
    let size = plan.experiments.len() * filled.variants;
    let mut by_value: BTreeMap<String, Cells> = BTreeMap::new();
    if segment.is_empty() {
        by_value.insert(String::new(), Cells::new(lanes, size));
    }
    for (values, cells) in filled.segments.known.iter().zip(&mut filled.cells) {
        let texts: Vec<&str> = columns
            .iter()
            .map(|column| values[*column].as_deref().unwrap_or("(null)"))
            .collect();
        by_value
            .entry(texts.join(" x "))
            .or_insert_with(|| Cells::new(lanes, size))
            .merge(cells);
    }
    by_value
}

fn add_rows(
    rows: &mut Rows,
    plan: &MetricPlan,
    lanes: &Lanes,
    cells: &mut Cells,
    (scales, variants): (&[Vec<f64>], usize),
    place: &(String, String),
) -> Result<()> {
    for (experiment, planned) in plan.experiments.iter().enumerate() {
        for (variant, name) in planned.variants.iter().enumerate() {
            let cell = experiment * variants + variant;
            for (metric, states) in plan.metrics.iter().enumerate() {
                let state = cells.state(plan, lanes, cell, metric, &scales[metric]);
                rows.push(
                    [&planned.key, name, &states.name, &place.0, &place.1],
                    &state,
                    cells.crossed_over(cell),
                )?;
            }
        }
    }
    Ok(())
}

/// Rows being collected into batches.
#[derive(Default)]
struct Rows {
    texts: [StringBuilder; 5],
    counts: [Int64Builder; 4],
    numbers: [ListBuilder<Float64Builder>; 5],
    length: usize,
    done: Vec<RecordBatch>,
}

impl Rows {
    fn push(&mut self, texts: [&String; 5], state: &State, crossed_over: u64) -> Result<()> {
        self.texts
            .iter_mut()
            .zip(texts)
            .for_each(|(column, text)| column.append_value(text));
        let counts = [state.n, state.nulls, state.non_finite, crossed_over];
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
        let counts = self
            .counts
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        let numbers = self
            .numbers
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef);
        let columns = texts.chain(counts).chain(numbers).collect();
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

fn append(column: &mut ListBuilder<Float64Builder>, numbers: impl Iterator<Item = Option<f64>>) {
    numbers.for_each(|number| column.values().append_option(number));
    column.append(true);
}
