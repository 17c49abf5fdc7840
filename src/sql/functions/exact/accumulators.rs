//! Accumulators of doubles whose order does not matter, for one group, for many, and for windows that rows leave again.
//! In: columns of doubles; a row with a NULL among them does not count. Out: what [`OfMoments`] makes of the rest.

use super::OfMoments;
use crate::stats::double_sum::DoubleSum;
use crate::stats::moments::Moments;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, UInt64Array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// Bytes that a sum takes which two numbers cannot hold.
const REST: usize = 256;

/// The rows of one group, or of a window.
#[derive(Debug)]
pub struct One<const VALUES: usize, const SUMS: usize, R> {
    result: R,
    moments: Moments<VALUES, SUMS>,
}

impl<const VALUES: usize, const SUMS: usize, R> One<VALUES, SUMS, R> {
    pub fn new(result: R) -> Self {
        Self {
            result,
            moments: Moments::default(),
        }
    }
}

impl<const VALUES: usize, const SUMS: usize, R> Accumulator for One<VALUES, SUMS, R>
where
    R: OfMoments<VALUES, SUMS>,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = Rows::open(values)?;
        rows.visit(None, |_, row| self.moments.add(row));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = Rows::open(values)?;
        rows.visit(None, |_, row| self.moments.remove(row));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let partials = Partials::open(states)?;
        for row in 0..partials.counts.len() {
            self.moments.merge(&partials.at(row)?);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = vec![ScalarValue::UInt64(Some(self.moments.n()))];
        for sum in self.moments.sums_mut() {
            let (high, low, rest) = sum.parts();
            state.push(ScalarValue::Float64(Some(high)));
            state.push(ScalarValue::Float64(Some(low)));
            state.push(ScalarValue::Binary(rest));
        }
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result.of(&self.moments)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + unusual(&self.moments) * REST
    }
}

/// Adds the distinct values that another accumulator knows, which are in no order.
#[derive(Debug)]
pub struct Distinct<const VALUES: usize, const SUMS: usize, R> {
    values: Box<dyn Accumulator>,
    result: R,
}

impl<const VALUES: usize, const SUMS: usize, R> Distinct<VALUES, SUMS, R> {
    pub fn new(values: Box<dyn Accumulator>, result: R) -> Self {
        Self { values, result }
    }
}

impl<const VALUES: usize, const SUMS: usize, R> Accumulator for Distinct<VALUES, SUMS, R>
where
    R: OfMoments<VALUES, SUMS>,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let Some(ScalarValue::List(distinct)) = state.first() else {
            return Err(exec_datafusion_err!("expected a list of distinct values"));
        };
        let mut moments = Moments::default();
        let distinct = [distinct.values().clone()];
        Rows::open(&distinct)?.visit(None, |_, row| moments.add(row));
        Ok(ScalarValue::Float64(self.result.of(&moments)))
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}

/// All groups of an aggregation.
#[derive(Debug)]
pub struct Many<const VALUES: usize, const SUMS: usize, R> {
    result: R,
    groups: Vec<Moments<VALUES, SUMS>>,
    /// Sums that take more memory.
    unusual: usize,
}

impl<const VALUES: usize, const SUMS: usize, R> Many<VALUES, SUMS, R> {
    pub fn new(result: R) -> Self {
        Self {
            result,
            groups: Vec::new(),
            unusual: 0,
        }
    }

    #[inline]
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Moments<VALUES, SUMS>)) {
        let moments = &mut self.groups[group];
        let before = unusual(moments);
        change(moments);
        self.unusual += unusual(moments) - before;
    }

    fn take(&mut self, emit: EmitTo) -> Vec<Moments<VALUES, SUMS>> {
        let groups = emit.take_needed(&mut self.groups);
        self.unusual -= groups.iter().map(unusual).sum::<usize>();
        groups
    }
}

impl<const VALUES: usize, const SUMS: usize, R> GroupsAccumulator for Many<VALUES, SUMS, R>
where
    R: OfMoments<VALUES, SUMS>,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.groups.resize_with(total, Moments::default);
        let rows = Rows::open(values)?;
        rows.visit(filter, |at, row| {
            self.change(groups[at], |moments| moments.add(row));
        });
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize_with(total, Moments::default);
        let partials = Partials::open(states)?;
        for (row, group) in groups.iter().enumerate() {
            let partial = partials.at(row)?;
            self.change(*group, |moments| moments.merge(&partial));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = self.take(emit);
        let values = groups.iter().map(|moments| self.result.of(moments));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(columns(self.take(emit)))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = Rows::open(values)?;
        let mut groups = vec![Moments::<VALUES, SUMS>::default(); rows.length];
        rows.visit(filter, |at, row| groups[at].add(row));
        Ok(columns(groups))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.groups.capacity() * size_of::<Moments<VALUES, SUMS>>()
            + self.unusual * REST
    }
}

/// Sums that two numbers cannot hold.
#[inline]
fn unusual<const VALUES: usize, const SUMS: usize>(moments: &Moments<VALUES, SUMS>) -> usize {
    let sums = moments.sums().iter();
    sums.map(|sum| usize::from(!sum.is_usual())).sum()
}

/// Columns of doubles.
struct Rows<'a, const VALUES: usize> {
    values: [&'a [f64]; VALUES],
    /// Rows without a NULL.
    valid: Option<NullBuffer>,
    length: usize,
}

impl<'a, const VALUES: usize> Rows<'a, VALUES> {
    fn open(columns: &'a [ArrayRef]) -> Result<Self> {
        let (mut values, mut valid) = ([&[][..]; VALUES], None);
        for (slice, column) in values.iter_mut().zip(columns) {
            let doubles = column.as_primitive_opt::<Float64Type>().ok_or_else(|| {
                exec_datafusion_err!("expected doubles, got {}", column.data_type())
            })?;
            *slice = doubles.values();
            valid = NullBuffer::union(valid.as_ref(), doubles.nulls());
        }
        Ok(Self {
            values,
            valid: valid.filter(|valid| valid.null_count() > 0),
            length: values.iter().map(|slice| slice.len()).min().unwrap_or(0),
        })
    }

    /// Rows without a NULL that the filter keeps, with their places.
    #[inline]
    fn visit(&self, filter: Option<&BooleanArray>, mut with: impl FnMut(usize, [f64; VALUES])) {
        let is_kept = |at: usize| {
            self.valid.as_ref().is_none_or(|valid| valid.is_valid(at))
                && filter.is_none_or(|filter| filter.is_valid(at) && filter.value(at))
        };
        let keeps_all = self.valid.is_none() && filter.is_none();
        for at in 0..self.length {
            if keeps_all || is_kept(at) {
                with(at, self.values.map(|values| values[at]));
            }
        }
    }
}

/// Partial sums as they travel: counts, and three columns a sum.
fn columns<const VALUES: usize, const SUMS: usize>(
    mut groups: Vec<Moments<VALUES, SUMS>>,
) -> Vec<ArrayRef> {
    let counts = groups.iter().map(Moments::n);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(counts.collect::<UInt64Array>())];
    for sum in 0..SUMS {
        let (mut high, mut low) = (Vec::new(), Vec::new());
        let parts = groups
            .iter_mut()
            .map(|moments| moments.sums_mut()[sum].parts());
        let rest: BinaryArray = parts
            .map(|parts| {
                high.push(parts.0);
                low.push(parts.1);
                parts.2
            })
            .collect();
        columns.push(Arc::new(Float64Array::from(high)));
        columns.push(Arc::new(Float64Array::from(low)));
        columns.push(Arc::new(rest));
    }
    columns
}

/// Partial sums that arrived.
struct Partials<'a, const VALUES: usize, const SUMS: usize> {
    counts: &'a UInt64Array,
    /// High, low and rest of each sum.
    sums: Vec<(&'a Float64Array, &'a Float64Array, &'a BinaryArray)>,
}

impl<'a, const VALUES: usize, const SUMS: usize> Partials<'a, VALUES, SUMS> {
    fn open(states: &'a [ArrayRef]) -> Result<Self> {
        let found = states.split_first().and_then(|(counts, sums)| {
            let sums = sums.chunks(3).map(|parts| match parts {
                [high, low, rest] => Some((
                    high.as_primitive_opt()?,
                    low.as_primitive_opt()?,
                    rest.as_binary_opt()?,
                )),
                _ => None,
            });
            Some(Self {
                counts: counts.as_primitive_opt::<UInt64Type>()?,
                sums: sums.collect::<Option<Vec<_>>>()?,
            })
        });
        found
            .filter(|partials| partials.sums.len() == SUMS)
            .ok_or_else(|| exec_datafusion_err!("expected the parts of {SUMS} sums"))
    }

    fn at(&self, row: usize) -> Result<Moments<VALUES, SUMS>> {
        let mut sums = std::array::from_fn(|_| DoubleSum::default());
        for (sum, (high, low, rest)) in sums.iter_mut().zip(&self.sums) {
            let rest = rest.is_valid(row).then(|| rest.value(row));
            *sum = DoubleSum::from_parts(high.value(row), low.value(row), rest)
                .ok_or_else(|| exec_datafusion_err!("a partial sum is damaged"))?;
        }
        Ok(Moments::from_parts(self.counts.value(row), sums))
    }
}
