//! Sums of whole numbers that never wrap around: SQL's own say that two halves of the largest number are -2.
//! In: columns of `bigint`, signed or not. Out: their sum of the same type, or an error where it does not fit; whether partial sums would have
//! fitted does not matter, so that the order of rows does not either.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// Whether sums are of this type.
pub fn is_whole(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::UInt64)
}

/// Partial sums travel as a count of numbers and their sum.
pub const PARTS: [(&str, DataType); 2] = [
    ("count", DataType::UInt64),
    ("sum", DataType::Decimal128(38, 0)),
];

/// The sum of some numbers, of which a table cannot hold enough to leave it.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    numbers: u64,
    total: i128,
}

impl Sum {
    fn add(&mut self, number: i128) {
        self.numbers += 1;
        self.total += number;
    }

    fn remove(&mut self, number: i128) {
        self.numbers -= 1;
        self.total -= number;
    }

    fn merge(&mut self, other: Sum) {
        self.numbers += other.numbers;
        self.total += other.total;
    }

    /// NULL without a number.
    fn known(self) -> Option<i128> {
        (self.numbers > 0).then_some(self.total)
    }
}

/// The sum of one group, or of a window.
#[derive(Debug)]
pub struct OneWhole {
    data_type: DataType,
    sum: Sum,
}

impl OneWhole {
    pub fn new(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            sum: Sum::default(),
        }
    }
}

impl Accumulator for OneWhole {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        visit(&values[0], None, |_, number| self.sum.add(number))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        visit(&values[0], None, |_, number| self.sum.remove(number))
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        partials(states)?.for_each(|part| self.sum.merge(part));
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::UInt64(Some(self.sum.numbers)),
            ScalarValue::Decimal128(Some(self.sum.total), 38, 0),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&column(&self.data_type, &[self.sum])?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// The sums of all groups of an aggregation.
#[derive(Debug)]
pub struct ManyWhole {
    data_type: DataType,
    groups: Vec<Sum>,
}

impl ManyWhole {
    pub fn new(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            groups: Vec::new(),
        }
    }
}

impl GroupsAccumulator for ManyWhole {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.groups.resize_with(total, Sum::default);
        visit(&values[0], filter, |row, number| {
            self.groups[groups[row]].add(number);
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize_with(total, Sum::default);
        for (part, group) in partials(states)?.zip(groups) {
            self.groups[*group].merge(part);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        column(&self.data_type, &emit.take_needed(&mut self.groups))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        parts(&emit.take_needed(&mut self.groups))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let mut rows = vec![Sum::default(); values[0].len()];
        visit(&values[0], filter, |row, number| rows[row].add(number))?;
        parts(&rows)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Sum>()
    }
}

/// Calls `with` with every number that the filter keeps, and its place.
fn visit(
    column: &ArrayRef,
    filter: Option<&BooleanArray>,
    mut with: impl FnMut(usize, i128),
) -> Result<()> {
    let is_kept = |row: usize| {
        column.is_valid(row)
            && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    };
    let rows = (0..column.len()).filter(|row| is_kept(*row));
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        rows.for_each(|row| with(row, i128::from(numbers.value(row))));
    } else if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
        rows.for_each(|row| with(row, i128::from(numbers.value(row))));
    } else {
        let found = column.data_type();
        return Err(exec_datafusion_err!("expected whole numbers, got {found}"));
    }
    Ok(())
}

fn column(data_type: &DataType, sums: &[Sum]) -> Result<ArrayRef> {
    let sums = sums.iter().map(|sum| sum.known());
    Ok(match data_type {
        DataType::UInt64 => Arc::new(sums.map(fitting).collect::<Result<UInt64Array>>()?),
        _ => Arc::new(sums.map(fitting).collect::<Result<Int64Array>>()?),
    })
}

fn fitting<T: TryFrom<i128>>(sum: Option<i128>) -> Result<Option<T>> {
    let Some(total) = sum else { return Ok(None) };
    match T::try_from(total) {
        Ok(total) => Ok(Some(total)),
        Err(_) => Err(exec_datafusion_err!(
            "a sum of whole numbers is {total}, which no `bigint` holds: cast what is summed to `decimal(38, 0)` or `double`"
        )),
    }
}

fn parts(sums: &[Sum]) -> Result<Vec<ArrayRef>> {
    let counts = sums.iter().map(|sum| sum.numbers);
    let totals = sums.iter().map(|sum| Some(sum.total));
    let totals = totals.collect::<Decimal128Array>();
    Ok(vec![
        Arc::new(counts.map(Some).collect::<UInt64Array>()),
        Arc::new(totals.with_precision_and_scale(38, 0)?),
    ])
}

fn partials(states: &[ArrayRef]) -> Result<impl Iterator<Item = Sum>> {
    let found = match states {
        [counts, totals] => counts
            .as_primitive_opt::<UInt64Type>()
            .zip(totals.as_primitive_opt::<Decimal128Type>()),
        _ => None,
    };
    let (counts, totals) = found.ok_or_else(|| exec_datafusion_err!("expected partial sums"))?;
    let pairs = counts.values().iter().zip(totals.values());
    Ok(pairs.map(|(numbers, total)| Sum {
        numbers: *numbers,
        total: *total,
    }))
}
