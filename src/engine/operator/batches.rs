//! Batches as the kernel wants them: keys and times as integers, names as codes, values as whole numbers where possible.
//! In: record batches of the two sources. Out: [`EventBatch`] and [`AssignmentBatch`]. Rows of unknown events keep a code that feeds
//! nothing; assignments of unknown experiments or variants are dropped.

use std::collections::HashMap;
use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray};
use datafusion::arrow::buffer::{NullBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::gathered::Gathered;
use super::lanes::Lanes;
use super::numbers::{NULL, scaled, surely_scaled};
use super::segments::Segments;
use super::texts::{Codes, Texts};
use super::unit::{AssignmentRow, AssignmentRows, EventRows, LimitColumns, Unit};
use super::vectors::for_long_vectors;
use crate::metrics::plan::MetricPlan;

/// A text that no row of an experiment had before, and one that is none of its variants.
const UNSEEN: u16 = u16::MAX;
const NONE: u16 = u16::MAX - 1;

/// The type of columns that hold codes of values rather than values.
pub const CODE: DataType = DataType::FixedSizeBinary(8);

/// Rows of one source, sorted by unit; the memory of one batch is that of the next.
pub trait Batch: Default + Send {
    /// Rows of one unit that stand in several batches.
    type Rows: Default + Send;
    fn keys(&self) -> &[i64];
    /// Makes room for the rows of another unit.
    fn clear(rows: &mut Self::Rows);
    /// Appends the rows of a range.
    fn append(&self, range: Range<usize>, rows: &mut Self::Rows);
    /// Makes the rows those of the unit.
    fn lend<'a>(rows: &'a mut Self::Rows, unit: &mut Unit<'a>);
    /// Makes the rows of a range those of the unit where they lie; what lies otherwise than a unit has it is put into `rows`.
    fn lend_range<'a>(&'a self, range: Range<usize>, rows: &'a mut Self::Rows, unit: &mut Unit<'a>);
}

#[derive(Default)]
pub struct EventBatch {
    keys: ScalarBuffer<i64>,
    times: ScalarBuffer<i64>,
    names: Codes,
    values: Vec<Vec<f64>>,
}

#[derive(Default)]
pub struct AssignmentBatch {
    keys: ScalarBuffer<i64>,
    rows: Vec<AssignmentRow>,
    limits: LimitColumns<ScalarBuffer<i64>>,
    /// Of the batch's rows: their experiments, and their texts by column. Each run has its own, as its file has dictionaries of its own.
    experiments: Codes,
    texts: Vec<Codes>,
}

impl Batch for EventBatch {
    type Rows = EventRows;

    fn keys(&self) -> &[i64] {
        &self.keys
    }

    fn clear(rows: &mut EventRows) {
        rows.clear();
    }

    fn append(&self, range: Range<usize>, rows: &mut EventRows) {
        let last = rows.times.as_slice().last();
        rows.has_overlaps |= last.is_some_and(|last| self.times[range.start] < *last);
        rows.times.append(&self.times, &range);
        rows.names.append(&self.names.rows, &range);
        self.append_values(range, rows);
    }

    fn lend<'a>(rows: &'a mut EventRows, unit: &mut Unit<'a>) {
        rows.put_in_order();
        unit.times = rows.times.as_slice();
        unit.names = rows.names.as_slice();
        unit.values = rows.values.as_slice();
    }

    #[inline]
    fn lend_range<'a>(&'a self, range: Range<usize>, rows: &'a mut EventRows, unit: &mut Unit<'a>) {
        unit.times = &self.times[range.clone()];
        unit.names = &self.names.rows[range.clone()];
        unit.values = match self.values.as_slice() {
            [only] => &only[range],
            _ => {
                rows.values.clear();
                self.append_values(range, rows);
                rows.values.as_slice()
            }
        };
    }
}

impl EventBatch {
    /// The values of several columns event by event.
    fn append_values(&self, range: Range<usize>, rows: &mut EventRows) {
        match self.values.as_slice() {
            [] => {}
            [only] => rows.values.append(only, &range),
            several => rows.values.append_rows(several, &range),
        }
    }
}

impl Batch for AssignmentBatch {
    type Rows = AssignmentRows;

    fn keys(&self) -> &[i64] {
        &self.keys
    }

    fn clear(rows: &mut AssignmentRows) {
        rows.rows.clear();
        rows.limits.iter_mut().for_each(Gathered::clear);
    }

    fn append(&self, range: Range<usize>, rows: &mut AssignmentRows) {
        rows.rows.append(&self.rows, &range);
        for (to, from) in rows.limits.iter_mut().zip(&self.limits) {
            if !from.is_empty() {
                to.append(from, &range);
            }
        }
    }

    fn lend<'a>(rows: &'a mut AssignmentRows, unit: &mut Unit<'a>) {
        unit.assignments = rows.rows.as_slice();
        unit.limits = rows.limits.each_ref().map(Gathered::as_slice);
    }

    #[inline]
    fn lend_range<'a>(
        &'a self,
        range: Range<usize>,
        _: &'a mut AssignmentRows,
        unit: &mut Unit<'a>,
    ) {
        unit.assignments = &self.rows[range.clone()];
        let own = |column: &'a ScalarBuffer<i64>| column.get(range.clone()).unwrap_or_default();
        unit.limits = self.limits.each_ref().map(own);
    }
}

/// Whether the numbers of a value column are decimals rather than integers.
pub fn is_decimal(data_type: &DataType) -> bool {
    !(data_type.is_integer() || [DataType::Boolean, CODE].contains(data_type))
}

/// Columns: unit key, time, name, values, codes.
pub fn read_events(lanes: &Lanes, batch: &RecordBatch, into: &mut EventBatch) -> Result<()> {
    into.keys = keys(batch.column(0))?;
    into.times = times(batch.column(1))?;
    let code = |name: Option<&str>| name.map_or(lanes.no_code(), |name| lanes.code(name));
    into.names.read(batch.column(2), code)?;
    let columns = &batch.columns()[3..];
    into.values.resize_with(columns.len(), Vec::new);
    for (column, values) in columns.iter().zip(&mut into.values) {
        read_values(column, values)?;
    }
    Ok(())
}

/// What is remembered from batch to batch while reading assignments.
pub struct AssignmentReader<'a> {
    plan: &'a MetricPlan,
    experiments: HashMap<&'a str, u16>,
    /// Distinct texts of the variant column and of each segment column.
    texts: Vec<Texts>,
    /// Variant by experiment and text, [`UNSEEN`] or [`NONE`].
    variants: Vec<u16>,
    /// Texts that the variants have room for.
    room: usize,
    segments: HashMap<Vec<u16>, u32>,
}

impl<'a> AssignmentReader<'a> {
    pub fn new(plan: &'a MetricPlan) -> AssignmentReader<'a> {
        let experiments = plan
            .experiments
            .iter()
            .enumerate()
            .map(|(index, planned)| (planned.key.as_str(), index as u16));
        let texts: Vec<Texts> = (0..=plan.assignments.segments.len())
            .map(|_| Texts::default())
            .collect();
        AssignmentReader {
            plan,
            experiments: experiments.collect(),
            texts,
            variants: Vec::new(),
            room: 0,
            segments: HashMap::new(),
        }
    }

    /// Columns: unit key, time, experiment, variant, segment columns, start and end of what is measured if rows say so.
    pub fn read(
        &mut self,
        batch: &RecordBatch,
        segments: &mut Segments,
        into: &mut AssignmentBatch,
    ) -> Result<()> {
        into.keys = keys(batch.column(0))?;
        let times = times(batch.column(1))?;
        let unknown = self.plan.experiments.len() as u16;
        let experiment = |key: Option<&str>| {
            let known = key.and_then(|key| self.experiments.get(key));
            known.copied().unwrap_or(unknown)
        };
        into.experiments.read(batch.column(2), experiment)?;
        into.texts.resize_with(self.texts.len(), Codes::default);
        let columns = batch.columns()[3..].iter().zip(&mut into.texts);
        for (known, (column, codes)) in self.texts.iter_mut().zip(columns) {
            codes.read(column, |text| known.position(text))?;
        }
        check_values(&self.texts)?;
        self.make_room();
        into.rows.clear();
        into.rows.reserve(batch.num_rows());
        let mut all_known = true;
        let known = into.experiments.rows.iter().zip(&into.texts[0].rows);
        let known = known.zip(times.iter());
        into.rows.extend(known.map(|((experiment, text), time)| {
            let variant = self.variant(*experiment, *text);
            all_known &= variant != NONE;
            AssignmentRow {
                time: *time,
                segment: 0,
                experiment: if variant == NONE {
                    unknown
                } else {
                    *experiment
                },
                variant: variant as u8,
            }
        }));
        self.put_segments(segments, &into.texts[1..], &mut into.rows);
        self.read_limits(batch, into)?;
        if !all_known {
            into.retain(|row| row.experiment != unknown);
        }
        Ok(())
    }

    /// Rows of a unit stand together and have the same values, nearly always.
    fn put_segments(
        &mut self,
        segments: &mut Segments,
        columns: &[Codes],
        rows: &mut [AssignmentRow],
    ) {
        if columns.is_empty() && !rows.is_empty() {
            // Without segments there is one combination, and rows are made with its number.
            let everybody = self.segment(&[], segments);
            debug_assert_eq!(everybody, 0);
            return;
        }
        let mut last: Option<(Vec<u16>, u32)> = None;
        for (at, row) in rows.iter_mut().enumerate() {
            let is_last = |(known, _): &(Vec<u16>, u32)| {
                let mut pairs = columns.iter().zip(known);
                pairs.all(|(column, known)| column.rows[at] == *known)
            };
            row.segment = match &last {
                Some(last) if is_last(last) => last.1,
                _ => {
                    let codes: Vec<u16> = columns.iter().map(|column| column.rows[at]).collect();
                    let segment = self.segment(&codes, segments);
                    last = Some((codes, segment));
                    segment
                }
            };
        }
    }

    /// What the rows themselves say of what is measured.
    fn read_limits(&self, batch: &RecordBatch, into: &mut AssignmentBatch) -> Result<()> {
        into.limits = LimitColumns::default();
        let (source, columns) = (&self.plan.assignments, batch.columns());
        if source.period.is_some() {
            let period = &columns[3 + self.texts.len()..];
            into.limits = [instants(&period[0])?, instants(&period[1])?];
        }
        Ok(())
    }

    /// [`NONE`] for a text that is no variant of the experiment.
    #[inline(always)]
    fn variant(&mut self, experiment: u16, text: u16) -> u16 {
        let at = usize::from(experiment) * self.room + usize::from(text);
        match self.variants[at] {
            UNSEEN => self.look_up_variant(experiment, text),
            known => known,
        }
    }

    #[cold]
    fn look_up_variant(&mut self, experiment: u16, text: u16) -> u16 {
        let planned = self.plan.experiments.get(usize::from(experiment));
        let variants = planned.map_or(&[][..], |planned| &planned.variants);
        let name = self.texts[0].known[usize::from(text)].as_deref();
        let position = variants
            .iter()
            .position(|variant| Some(variant.as_str()) == name);
        let at = usize::from(experiment) * self.room + usize::from(text);
        self.variants[at] = position.map_or(NONE, |position| position as u16);
        self.variants[at]
    }

    /// Room for the variants of all texts; what was known is looked up again.
    fn make_room(&mut self) {
        if self.room < self.texts[0].known.len() {
            self.room = self.texts[0].known.len().next_power_of_two();
            self.variants = vec![UNSEEN; self.room * (self.plan.experiments.len() + 1)];
        }
    }

    fn segment(&mut self, codes: &[u16], segments: &mut Segments) -> u32 {
        if let Some(known) = self.segments.get(codes) {
            return *known;
        }
        let texts = codes.iter().zip(&self.texts[1..]);
        let values = texts.map(|(code, texts)| texts.known[usize::from(*code)].clone());
        let segment = segments.position(values.collect());
        self.segments.insert(codes.to_vec(), segment);
        segment
    }
}

impl AssignmentBatch {
    fn retain(&mut self, is_kept: impl Fn(&AssignmentRow) -> bool) {
        let kept: Vec<bool> = self.rows.iter().map(is_kept).collect();
        let keys = self.keys.iter().zip(&kept);
        self.keys = keys
            .filter_map(|(key, kept)| kept.then_some(*key))
            .collect();
        let mut rows = kept.iter();
        self.rows
            .retain(|_| *rows.next().expect("one for each row"));
        for column in &mut self.limits {
            let instants = column.iter().zip(&kept);
            *column = instants
                .filter_map(|(instant, kept)| kept.then_some(*instant))
                .collect();
        }
    }
}

/// Codes have 16 bits; the cells would not fit into memory long before.
fn check_values(texts: &[Texts]) -> Result<()> {
    match texts
        .iter()
        .all(|texts| texts.known.len() < usize::from(UNSEEN))
    {
        true => Ok(()),
        false => {
            let message = "a segment or the variant has more than 65,534 values".to_owned();
            Err(ArrowError::ComputeError(message).into())
        }
    }
}

fn keys(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    Ok(cast(column, &DataType::Int64)?
        .as_primitive::<Int64Type>()
        .values()
        .clone())
}

fn times(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(micros
        .as_primitive::<TimestampMicrosecondType>()
        .values()
        .clone())
}

/// Times as microseconds; a NULL is before everything, so that nothing is measured.
fn instants(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    Ok(match micros.null_count() {
        0 => micros.values().clone(),
        _ => {
            let known = micros.iter();
            known.map(|instant| instant.unwrap_or(i64::MIN)).collect()
        }
    })
}

fn read_values(column: &ArrayRef, into: &mut Vec<f64>) -> Result<()> {
    if *column.data_type() == CODE {
        *into = code_column(column.as_fixed_size_binary());
        return Ok(());
    }
    let scales = is_decimal(column.data_type());
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    copy_values(numbers.values(), numbers.nulls(), scales, into);
    Ok(())
}

for_long_vectors! {
    /// Numbers as the kernel wants them.
    fn copy_values(numbers: &[f64], nulls: Option<&NullBuffer>, scales: bool, into: &mut Vec<f64>) {
        match scales {
            true => scale_values(numbers, into),
            false => {
                into.clear();
                into.extend_from_slice(numbers);
            }
        }
        let Some(nulls) = nulls else { return };
        let validity = nulls.inner().bit_chunks().iter_padded();
        for (values, validity) in into.chunks_mut(64).zip(validity) {
            for (at, value) in values.iter_mut().enumerate() {
                *value = if validity >> at & 1 == 1 { *value } else { NULL };
            }
        }
    }
}

#[inline(always)]
fn scale_values(numbers: &[f64], into: &mut Vec<f64>) {
    into.resize(numbers.len(), 0.0);
    let mut all_known = true;
    for (to, number) in into.iter_mut().zip(numbers) {
        let (scaled, is_known) = surely_scaled(*number);
        *to = scaled;
        all_known &= is_known;
    }
    if !all_known {
        // Hardly ever, and too much for a loop without branches.
        let numbers = into.iter_mut().zip(numbers);
        numbers.for_each(|(to, number)| *to = scaled(*number));
    }
}

/// Codes travel as the bits of numbers with which nobody calculates.
fn code_column(codes: &FixedSizeBinaryArray) -> Vec<f64> {
    let number = |code: Option<&[u8]>| match code.map(<[u8; 8]>::try_from) {
        Some(Ok(bytes)) => f64::from_le_bytes(bytes),
        _ => NULL,
    };
    codes.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Float64Array;

    use super::*;

    #[test]
    fn values_without_one_are_null_whatever_their_place() {
        // More than two words of validity, and a part of one.
        let value = |at: usize| (at % 3 != 1).then_some(at as f64 / 4.0);
        let numbers: Vec<Option<f64>> = (0..150).map(value).collect();
        let expected: Vec<u64> = numbers
            .iter()
            .map(|number| number.map_or(NULL, scaled).to_bits())
            .collect();
        let array: ArrayRef = Arc::new(Float64Array::from(numbers));
        let found = |array: &ArrayRef| {
            let mut values = vec![7.0];
            read_values(array, &mut values).unwrap();
            values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(found(&array), expected);
        assert_eq!(found(&array.slice(5, 131)), expected[5..136]);
    }
}
