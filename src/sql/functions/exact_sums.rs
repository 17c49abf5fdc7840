//! `sum` and `avg` of doubles, rounded once: SQL's own depend on the order in which rows arrive, so that a table that is built twice
//! differs from itself in last digits.
//! In: DataFusion's functions, which still say what types they take and sum all others. Out: functions of the same names.
//! Partial sums travel as they are, see `stats::double_sum`. A mean is the rounded sum divided by the count, as `sum(x) / count(x)` is.

use crate::stats::double_sum::DoubleSum;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::average::Avg;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator,
    Operator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    let sum = Exact {
        inner: Sum::new(),
        result: Of::Sum,
    };
    let mean = Exact {
        inner: Avg::new(),
        result: Of::Mean,
    };
    vec![
        Arc::new(AggregateUDF::from(sum)),
        Arc::new(AggregateUDF::from(mean)),
    ]
}

/// What is made of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Sum,
    Mean,
}

impl Of {
    fn value(self, sum: &DoubleSum, count: u64) -> Option<f64> {
        match (count, self) {
            (0, _) => None,
            (_, Of::Sum) => Some(sum.rounded()),
            (_, Of::Mean) => Some(sum.rounded() / count as f64),
        }
    }
}

/// A function of DataFusion whose sums of doubles are exact.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact<F> {
    inner: F,
    result: Of,
}

impl<F: AggregateUDFImpl + Eq + std::hash::Hash> AggregateUDFImpl for Exact<F> {
    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = self.result;
        Ok(match (is_double(&arguments), arguments.is_distinct) {
            (false, _) => self.inner.accumulator(arguments)?,
            (true, false) => Box::new(OneSum::new(result)),
            (true, true) => Box::new(DistinctSum {
                inner: self.inner.accumulator(arguments)?,
                result,
            }),
        })
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn Accumulator>> {
        match is_double(&arguments) && !arguments.is_distinct {
            true => Ok(Box::new(OneSum::new(self.result))),
            false => self.inner.create_sliding_accumulator(arguments),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if *arguments.return_type() != DataType::Float64 || arguments.is_distinct {
            return self.inner.state_fields(arguments);
        }
        let field = |name: &str, kind| {
            let name = format!("{}[{name}]", arguments.name);
            Arc::new(Field::new(name, kind, true))
        };
        Ok(vec![
            field("count", DataType::UInt64),
            field("high", DataType::Float64),
            field("low", DataType::Float64),
            field("rest", DataType::Binary),
        ])
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match is_double(&arguments) {
            true => Ok(Box::new(ManySums::new(self.result))),
            false => self.inner.create_groups_accumulator(arguments),
        }
    }

    fn value_from_stats(&self, arguments: &StatisticsArgs) -> Option<ScalarValue> {
        match arguments.return_type {
            DataType::Float64 => None,
            _ => self.inner.value_from_stats(arguments),
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(arguments)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        is_left: bool,
    ) -> Result<Option<Expr>> {
        let inner = &self.inner;
        inner.simplify_expr_op_literal(function, argument, operator, literal, is_left)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(kind)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn is_double(arguments: &AccumulatorArgs) -> bool {
    *arguments.return_field.data_type() == DataType::Float64
}

/// The sum of one group, or of the rows of a window.
#[derive(Debug)]
struct OneSum {
    result: Of,
    sum: DoubleSum,
    count: u64,
}

impl OneSum {
    fn new(result: Of) -> Self {
        Self {
            result,
            sum: DoubleSum::default(),
            count: 0,
        }
    }
}

impl Accumulator for OneSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(&values[0])?;
        self.count += (values.len() - values.null_count()) as u64;
        match values.null_count() {
            0 => values
                .values()
                .iter()
                .for_each(|value| self.sum.add(*value)),
            _ => values
                .iter()
                .flatten()
                .for_each(|value| self.sum.add(value)),
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in doubles(&values[0])?.iter().flatten() {
            self.sum.remove(value);
            self.count -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let partials = Partials::open(states)?;
        for row in 0..partials.len() {
            let (count, sum) = partials.at(row)?;
            self.count += count;
            self.sum.merge(&sum);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (high, low, rest) = self.sum.parts();
        Ok(vec![
            ScalarValue::UInt64(Some(self.count)),
            ScalarValue::Float64(Some(high)),
            ScalarValue::Float64(Some(low)),
            ScalarValue::Binary(rest),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.result.value(&self.sum, self.count);
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + usize::from(!self.sum.is_usual()) * REST
    }
}

/// Adds the distinct values that another accumulator knows, which are in no order.
#[derive(Debug)]
struct DistinctSum {
    inner: Box<dyn Accumulator>,
    result: Of,
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.inner.state()?;
        let Some(ScalarValue::List(distinct)) = state.first() else {
            return Err(exec_datafusion_err!("expected a list of distinct values"));
        };
        let distinct = doubles(distinct.values())?;
        let sum = distinct.iter().flatten().collect();
        let count = (distinct.len() - distinct.null_count()) as u64;
        Ok(ScalarValue::Float64(self.result.value(&sum, count)))
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// Bytes that a sum takes which two numbers cannot hold.
const REST: usize = 256;

/// The sums of all groups of an aggregation.
#[derive(Debug)]
struct ManySums {
    result: Of,
    sums: Vec<DoubleSum>,
    counts: Vec<u64>,
    /// Sums that take more memory.
    unusual: usize,
}

impl ManySums {
    fn new(result: Of) -> Self {
        Self {
            result,
            sums: Vec::new(),
            counts: Vec::new(),
            unusual: 0,
        }
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize_with(groups, DoubleSum::default);
        self.counts.resize(groups, 0);
    }

    #[inline]
    fn add(&mut self, group: usize, value: f64) {
        let sum = &mut self.sums[group];
        let was_usual = sum.is_usual();
        sum.add(value);
        self.unusual += usize::from(was_usual && !sum.is_usual());
        self.counts[group] += 1;
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<DoubleSum>, Vec<u64>) {
        let (sums, counts) = (
            emit.take_needed(&mut self.sums),
            emit.take_needed(&mut self.counts),
        );
        self.unusual -= sums.iter().filter(|sum| !sum.is_usual()).count();
        (sums, counts)
    }
}

impl GroupsAccumulator for ManySums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let values = doubles(&values[0])?;
        if values.null_count() == 0 && filter.is_none() {
            for (group, value) in groups.iter().zip(values.values()) {
                self.add(*group, *value);
            }
            return Ok(());
        }
        for (row, group) in groups.iter().enumerate() {
            if values.is_valid(row) && is_kept(filter, row) {
                self.add(*group, values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let partials = Partials::open(states)?;
        for (row, group) in groups.iter().enumerate() {
            let (count, partial) = partials.at(row)?;
            let sum = &mut self.sums[*group];
            let was_usual = sum.is_usual();
            sum.merge(&partial);
            self.unusual += usize::from(was_usual && !sum.is_usual());
            self.counts[*group] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.take(emit);
        let values = sums.iter().zip(counts);
        let values = values.map(|(sum, count)| self.result.value(sum, count));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (mut sums, counts) = self.take(emit);
        Ok(columns(sums.iter_mut().map(DoubleSum::parts), counts))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = doubles(&values[0])?;
        let counts = |row: &usize| values.is_valid(*row) && is_kept(filter, *row);
        let rows = 0..values.len();
        let sums = rows.clone().map(|row| {
            let value = Some(values.value(row)).filter(|_| counts(&row));
            value.into_iter().collect::<DoubleSum>().parts()
        });
        let counts = rows.clone().map(|row| u64::from(counts(&row))).collect();
        Ok(columns(sums, counts))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.sums.capacity() * size_of::<DoubleSum>()
            + self.counts.capacity() * size_of::<u64>()
            + self.unusual * REST
    }
}

fn is_kept(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn doubles(array: &ArrayRef) -> Result<&Float64Array> {
    array
        .as_primitive_opt::<Float64Type>()
        .ok_or_else(|| exec_datafusion_err!("expected doubles, got {}", array.data_type()))
}

/// Partial sums as they travel.
fn columns(
    sums: impl Iterator<Item = (f64, f64, Option<Vec<u8>>)>,
    counts: Vec<u64>,
) -> Vec<ArrayRef> {
    let (mut high, mut low) = (Vec::new(), Vec::new());
    let rest: BinaryArray = sums
        .map(|parts| {
            high.push(parts.0);
            low.push(parts.1);
            parts.2
        })
        .collect();
    vec![
        Arc::new(UInt64Array::from(counts)),
        Arc::new(Float64Array::from(high)),
        Arc::new(Float64Array::from(low)),
        Arc::new(rest),
    ]
}

/// Partial sums that arrived.
struct Partials<'a> {
    counts: &'a UInt64Array,
    high: &'a Float64Array,
    low: &'a Float64Array,
    rest: &'a BinaryArray,
}

impl<'a> Partials<'a> {
    fn open(states: &'a [ArrayRef]) -> Result<Self> {
        let found = match states {
            [counts, high, low, rest] => Option::zip(
                Option::zip(
                    counts.as_primitive_opt::<UInt64Type>(),
                    rest.as_binary_opt::<i32>(),
                ),
                Option::zip(high.as_primitive_opt(), low.as_primitive_opt()),
            ),
            _ => None,
        };
        let ((counts, rest), (high, low)) =
            found.ok_or_else(|| exec_datafusion_err!("expected the parts of sums"))?;
        Ok(Self {
            counts,
            high,
            low,
            rest,
        })
    }

    fn len(&self) -> usize {
        self.counts.len()
    }

    fn at(&self, row: usize) -> Result<(u64, DoubleSum)> {
        let rest = self.rest.is_valid(row).then(|| self.rest.value(row));
        let sum = DoubleSum::from_parts(self.high.value(row), self.low.value(row), rest);
        let sum = sum.ok_or_else(|| exec_datafusion_err!("a partial sum is damaged"))?;
        Ok((self.counts.value(row), sum))
    }
}
