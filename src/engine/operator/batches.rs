//! Batches as the kernel wants them: keys and times as integers, names as codes, values as whole numbers where possible.
//! In: record batches of the two sources. Out: [`EventBatch`] and [`AssignmentBatch`]. Rows of unknown events keep a code that feeds
//! nothing; assignments of unknown experiments or variants are dropped.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, UInt32Array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt32Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::kernel::{AssignmentRow, Limits, NULL, Segments, Unit, scaled};
use super::lanes::Lanes;
use crate::metrics::plan::MetricPlan;

const UNKNOWN: u16 = u16::MAX;

/// A text that no row of an experiment had before, and one that is none of its variants.
const UNSEEN: u16 = u16::MAX;
const NONE: u16 = u16::MAX - 1;

/// The type of columns that hold codes of values rather than values.
pub const CODE: DataType = DataType::FixedSizeBinary(8);

/// Rows of one source, sorted by unit.
pub trait Batch: Sized + Send {
    fn keys(&self) -> &[i64];
    /// Appends the rows of a range to the unit.
    fn append(&self, range: std::ops::Range<usize>, unit: &mut Unit);
}

pub struct EventBatch {
    keys: ScalarBuffer<i64>,
    times: ScalarBuffer<i64>,
    names: Vec<u16>,
    values: Vec<Vec<f64>>,
}

pub struct AssignmentBatch {
    keys: Vec<i64>,
    rows: Vec<AssignmentRow>,
    /// One per row, or none where those of the experiments hold.
    limits: Vec<Limits>,
}

impl Batch for EventBatch {
    fn keys(&self) -> &[i64] {
        &self.keys
    }

    #[inline]
    fn append(&self, range: std::ops::Range<usize>, unit: &mut Unit) {
        unit.times.extend_from_slice(&self.times[range.clone()]);
        unit.names.extend_from_slice(&self.names[range.clone()]);
        match self.values.as_slice() {
            [] => {}
            [only] => unit.values.extend_from_slice(&only[range]),
            several => {
                range.for_each(|row| unit.values.extend(several.iter().map(|column| column[row])))
            }
        }
    }
}

impl Batch for AssignmentBatch {
    fn keys(&self) -> &[i64] {
        &self.keys
    }

    #[inline]
    fn append(&self, range: std::ops::Range<usize>, unit: &mut Unit) {
        unit.assignments
            .extend_from_slice(&self.rows[range.clone()]);
        if !self.limits.is_empty() {
            unit.limits.extend_from_slice(&self.limits[range]);
        }
    }
}

/// Whether the numbers of a value column are decimals rather than integers.
pub fn is_decimal(data_type: &DataType) -> bool {
    !(data_type.is_integer() || [DataType::Boolean, CODE].contains(data_type))
}

/// Columns: unit key, time, name, values, codes.
pub fn event_batch(lanes: &Lanes, batch: &RecordBatch) -> Result<EventBatch> {
    let names = optional_codes(batch.column(2), |name| lanes.code(name.unwrap_or_default()))?;
    let values = batch.columns()[3..]
        .iter()
        .map(value_column)
        .collect::<Result<_>>()?;
    Ok(EventBatch {
        keys: keys(batch.column(0))?,
        times: times(batch.column(1))?,
        names,
        values,
    })
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

#[derive(Default)]
struct Texts {
    known: Vec<Option<String>>,
    positions: HashMap<Option<String>, u16>,
}

impl Texts {
    fn position(&mut self, text: Option<&str>) -> u16 {
        let text = text.map(str::to_owned);
        let next = self.known.len() as u16;
        let known = &mut self.known;
        *self.positions.entry(text).or_insert_with_key(|text| {
            known.push(text.clone());
            next
        })
    }
}

impl<'a> AssignmentReader<'a> {
    pub fn new(plan: &'a MetricPlan) -> AssignmentReader<'a> {
        let experiments = plan
            .experiments
            .iter()
            .enumerate()
            .map(|(index, planned)| (planned.key.as_str(), index as u16));
        let texts = (0..=plan.assignments.segments.len())
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

    /// Columns: unit key, time, experiment, variant, segment columns, start and end of what is measured if rows say so, and up to
    /// where it is complete if they say that.
    pub fn batch(
        &mut self,
        batch: &RecordBatch,
        segments: &mut Segments,
    ) -> Result<AssignmentBatch> {
        let (all_keys, times) = (keys(batch.column(0))?, times(batch.column(1))?);
        let experiments = codes(batch.column(2), |key| {
            self.experiments.get(key).copied().unwrap_or(UNKNOWN)
        })?;
        let mut texts = Vec::with_capacity(self.texts.len());
        for (known, column) in self.texts.iter_mut().zip(&batch.columns()[3..]) {
            texts.push(optional_codes(column, |text| known.position(text))?);
        }
        check_values(&self.texts)?;
        self.make_room();
        let period = match &self.plan.assignments.period {
            None => None,
            Some(_) => {
                let columns = &batch.columns()[3 + self.texts.len()..];
                Some([instants(&columns[0])?, instants(&columns[1])?])
            }
        };
        let complete = match self.plan.assignments.complete_through.is_empty() {
            true => None,
            false => Some(instants(
                batch.columns().last().expect("it is the last column"),
            )?),
        };
        let (mut kept, mut rows) = (
            Vec::with_capacity(batch.num_rows()),
            Vec::with_capacity(batch.num_rows()),
        );
        let mut limits = Vec::new();
        let mut last: (Vec<u16>, u32) = (Vec::new(), 0);
        for row in 0..batch.num_rows() {
            let experiment = experiments[row];
            let Some(variant) = self.variant(experiment, texts[0][row]) else {
                continue;
            };
            if last.0.is_empty()
                || texts[1..]
                    .iter()
                    .zip(&last.0[1..])
                    .any(|(column, known)| column[row] != *known)
            {
                let codes: Vec<u16> = std::iter::once(0)
                    .chain(texts[1..].iter().map(|column| column[row]))
                    .collect();
                last = (codes.clone(), self.segment(codes, segments));
            }
            kept.push(all_keys[row]);
            rows.push(AssignmentRow {
                time: times[row],
                segment: last.1,
                experiment,
                variant,
            });
            if period.is_none() && complete.is_none() {
                continue;
            }
            let mut own = Limits::of(self.plan, usize::from(experiment));
            if let Some([start, end]) = &period {
                (own.period_start, own.measured_until) = (start[row], end[row]);
            }
            if let Some(complete) = &complete {
                own.complete_until = complete[row];
            }
            limits.push(own);
        }
        Ok(AssignmentBatch {
            keys: kept,
            rows,
            limits,
        })
    }

    #[inline]
    fn variant(&mut self, experiment: u16, text: u16) -> Option<u8> {
        if experiment == UNKNOWN {
            return None;
        }
        let at = usize::from(experiment) * self.room + usize::from(text);
        match self.variants[at] {
            NONE => None,
            UNSEEN => self.look_up_variant(experiment, text),
            known => Some(known as u8),
        }
    }

    #[cold]
    fn look_up_variant(&mut self, experiment: u16, text: u16) -> Option<u8> {
        let planned = &self.plan.experiments[usize::from(experiment)].variants;
        let name = self.texts[0].known[usize::from(text)].as_deref();
        let position = planned
            .iter()
            .position(|variant| Some(variant.as_str()) == name);
        let position = position.map(|position| position as u8);
        let at = usize::from(experiment) * self.room + usize::from(text);
        self.variants[at] = position.map_or(NONE, u16::from);
        position
    }

    /// Room for the variants of all texts; what was known is looked up again.
    fn make_room(&mut self) {
        if self.room < self.texts[0].known.len() {
            self.room = self.texts[0].known.len().next_power_of_two();
            self.variants = vec![UNSEEN; self.room * self.plan.experiments.len()];
        }
    }

    fn segment(&mut self, codes: Vec<u16>, segments: &mut Segments) -> u32 {
        let texts = &self.texts[1..];
        *self.segments.entry(codes).or_insert_with_key(|codes| {
            let values = codes[1..]
                .iter()
                .zip(texts)
                .map(|(code, texts)| texts.known[usize::from(*code)].clone());
            segments.position(values.collect())
        })
    }
}

/// Codes have 16 bits; the cells would not fit into memory long before.
fn check_values(texts: &[Texts]) -> Result<()> {
    match texts
        .iter()
        .all(|texts| texts.known.len() < usize::from(UNKNOWN))
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
fn instants(column: &ArrayRef) -> Result<Vec<i64>> {
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    Ok(micros
        .iter()
        .map(|instant| instant.unwrap_or(i64::MIN))
        .collect())
}

fn value_column(column: &ArrayRef) -> Result<Vec<f64>> {
    if *column.data_type() == CODE {
        return Ok(code_column(column.as_fixed_size_binary()));
    }
    let scales = is_decimal(column.data_type());
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    let mut values: Vec<f64> = match scales {
        true => numbers
            .values()
            .iter()
            .map(|value| scaled(*value))
            .collect(),
        false => numbers.values().to_vec(),
    };
    if let Some(nulls) = numbers.nulls() {
        for (value, is_valid) in values.iter_mut().zip(nulls) {
            *value = if is_valid { *value } else { NULL };
        }
    }
    Ok(values)
}

/// Codes travel as the bits of numbers with which nobody calculates.
fn code_column(codes: &FixedSizeBinaryArray) -> Vec<f64> {
    let number = |code: Option<&[u8]>| match code.map(<[u8; 8]>::try_from) {
        Some(Ok(bytes)) => f64::from_le_bytes(bytes),
        _ => NULL,
    };
    codes.iter().map(number).collect()
}

fn codes(column: &ArrayRef, mut code: impl FnMut(&str) -> u16) -> Result<Vec<u16>> {
    optional_codes(column, |text| text.map_or(UNKNOWN, &mut code))
}

/// A code per row; the text of a dictionary is looked at once per batch.
fn optional_codes(
    column: &ArrayRef,
    mut code: impl FnMut(Option<&str>) -> u16,
) -> Result<Vec<u16>> {
    if let DataType::Dictionary(..) = column.data_type() {
        let dictionary = column.as_any_dictionary();
        let values = cast(dictionary.values(), &DataType::Utf8)?;
        let by_value: Vec<u16> = values.as_string::<i32>().iter().map(&mut code).collect();
        let keys = cast(
            &(Arc::new(dictionary.keys().slice(0, dictionary.len())) as ArrayRef),
            &DataType::UInt32,
        )?;
        let keys = keys.as_primitive::<UInt32Type>();
        return Ok(coded(
            keys,
            &by_value,
            keys.null_count().gt(&0).then(|| code(None)),
        ));
    }
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut last: Option<(Option<&str>, u16)> = None;
    let code_of = |text| match last {
        Some((known, code)) if known == text => code,
        _ => {
            let found = code(text);
            last = Some((text, found));
            found
        }
    };
    Ok(texts.iter().map(code_of).collect())
}

fn coded(keys: &UInt32Array, by_value: &[u16], of_null: Option<u16>) -> Vec<u16> {
    match of_null {
        None => keys
            .values()
            .iter()
            .map(|key| by_value[*key as usize])
            .collect(),
        Some(of_null) => keys
            .iter()
            .map(|key| key.map_or(of_null, |key| by_value[key as usize]))
            .collect(),
    }
}

/// 64 bits that stand for a unit: an integer id itself, or the head of a hash of a text id.
// Two of a million text ids share a key with probability 3e-8, two of a hundred million with 3e-4.
pub fn unit_keys(column: &ArrayRef) -> Result<Int64Array> {
    if column.data_type().is_integer() {
        return Ok(cast(column, &DataType::Int64)?
            .as_primitive::<Int64Type>()
            .clone());
    }
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts
        .as_string::<i32>()
        .iter()
        .map(|text| text.map(unit_key))
        .collect())
}

/// The key of a text id: the first eight bytes of its BLAKE3 hash.
pub fn unit_key(text: &str) -> i64 {
    let hash = blake3::hash(text.as_bytes());
    i64::from_le_bytes(
        hash.as_bytes()[..8]
            .try_into()
            .expect("a hash has 32 bytes"),
    )
}
