//! `state_agg` and `state_merge`: rows or states in, one mergeable state per group out.
//! In: numbers (one column per value) or states. Out: the struct of [`mod@super::state_type`].
//! Partial states travel as exact sums, not as rounded states, so the result is the same bytes at any thread count, batch size and
//! partition order; see `stats::exact_sum`.

use super::state_type::{States, is_state, state_type, write_states};
use crate::sql::words::type_name;
use crate::stats::state::{Accumulator, NullPolicy, State, missing_values};
use crate::stats::status::Status;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator as SqlAccumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator,
    Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;
use std::sync::Arc;

/// How the aggregates are called.
pub(super) const USAGE: &[&str] = &[
    "state_agg(value, ...)",
    "state_agg_zero(value, ...)",
    "state_agg_fail([name,] value, ...)",
    "state_merge(state)",
];

/// `state_agg(value, ...)`, its variants with another NULL policy, and `state_merge(state)`.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    [
        ("state_agg", Source::Rows(NullPolicy::Exclude)),
        ("state_agg_zero", Source::Rows(NullPolicy::Zero)),
        ("state_agg_fail", Source::Rows(NullPolicy::Fail)),
        ("state_merge", Source::States),
    ]
    .into_iter()
    .map(|(name, source)| Arc::new(AggregateUDF::from(StateAggregate::new(name, source))))
    .collect()
}

/// What an aggregate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Rows(NullPolicy),
    States,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct StateAggregate {
    name: &'static str,
    source: Source,
    signature: Signature,
}

impl StateAggregate {
    fn new(name: &'static str, source: Source) -> Self {
        Self {
            name,
            source,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for StateAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(state_type())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match self.source {
            Source::States => match types {
                [found] if found.is_null() || is_state(found) => Ok(vec![state_type()]),
                [found] => plan_err!(
                    "`{}` takes a state (of state_agg, state_merge or state_of), not {}",
                    self.name,
                    type_name(found)
                ),
                _ => plan_err!(
                    "`{}` takes one state, not {} arguments",
                    self.name,
                    types.len()
                ),
            },
            Source::Rows(_) if types.is_empty() => {
                plan_err!("`{}` takes at least one value per unit", self.name)
            }
            Source::Rows(policy) => types
                .iter()
                .enumerate()
                .map(|(position, found)| match found {
                    _ if position == 0 && types.len() > 1 && is_name(policy, found) => {
                        Ok(DataType::Utf8)
                    }
                    _ if found.is_numeric() || found.is_null() => Ok(DataType::Float64),
                    other => plan_err!(
                        "`{}` takes numbers, not {}; cast a boolean to int",
                        self.name,
                        type_name(other)
                    ),
                })
                .collect(),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format!("{}[exact]", arguments.name),
            DataType::Binary,
            true,
        ))])
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn SqlAccumulator>> {
        let reading = self.reading(&arguments)?;
        Ok(Box::new(OneState {
            accumulator: Accumulator::new(reading.width),
            reading,
        }))
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(ManyStates {
            reading: self.reading(&arguments)?,
            accumulators: Vec::new(),
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, _type: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from(&state_type())
    }
}

impl StateAggregate {
    /// Rows have as many values as columns; states bring their own width.
    fn reading(&self, arguments: &AccumulatorArgs) -> Result<Reading> {
        let Source::Rows(policy) = self.source else {
            return Ok(Reading {
                source: self.source,
                name: None,
                width: 0,
            });
        };
        let first = &arguments.expr_fields[0];
        let name = match is_name(policy, first.data_type()) {
            true => Some(constant_text(self.name, arguments)?),
            false => None,
        };
        Ok(Reading {
            source: self.source,
            width: arguments.exprs.len() - usize::from(name.is_some()),
            name,
        })
    }
}

/// Whether an aggregate's first argument says what is aggregated: for the message where a NULL is forbidden.
fn is_name(policy: NullPolicy, found: &DataType) -> bool {
    policy == NullPolicy::Fail && found.is_string()
}

fn constant_text(function: &str, arguments: &AccumulatorArgs) -> Result<String> {
    let text = arguments.exprs[0]
        .downcast_ref::<Literal>()
        .and_then(|literal| literal.value().try_as_str().flatten());
    match text {
        Some(text) => Ok(text.to_owned()),
        None => plan_err!("the name that `{function}` takes is a constant text"),
    }
}

/// What an aggregate reads, and how its arguments are to be understood.
#[derive(Clone, Debug)]
struct Reading {
    source: Source,
    /// The first argument, where it names what is aggregated.
    name: Option<String>,
    width: usize,
}

impl Reading {
    /// The arguments without the name.
    fn columns<'a>(&self, arguments: &'a [ArrayRef]) -> &'a [ArrayRef] {
        &arguments[usize::from(self.name.is_some())..]
    }
}

/// The state of one group.
#[derive(Debug)]
struct OneState {
    reading: Reading,
    accumulator: Accumulator,
}

impl SqlAccumulator for OneState {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let accumulator = &mut self.accumulator;
        visit(&self.reading, values, None, |_, row| push(accumulator, row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for partial in read_partials(&states[0])? {
            if let Some(partial) = partial? {
                self.accumulator.merge(&partial);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.accumulator.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = finished(&self.reading, &self.accumulator)?;
        Ok(ScalarValue::Struct(Arc::new(write_states(&[Some(state)])?)))
    }

    fn size(&self) -> usize {
        self.accumulator.memory()
    }
}

/// The states of all groups of an aggregation.
#[derive(Debug)]
struct ManyStates {
    reading: Reading,
    accumulators: Vec<Accumulator>,
}

impl ManyStates {
    fn grow(&mut self, groups: usize) {
        self.accumulators
            .resize_with(groups, || Accumulator::new(self.reading.width));
    }
}

impl GroupsAccumulator for ManyStates {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let accumulators = &mut self.accumulators;
        visit(&self.reading, values, filter, |row, unit| {
            push(&mut accumulators[groups[row]], unit)
        })
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        for (partial, group) in read_partials(&values[0])?.zip(groups) {
            if let Some(partial) = partial? {
                self.accumulators[*group].merge(&partial);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let states: Vec<Option<State>> = emit
            .take_needed(&mut self.accumulators)
            .iter()
            .map(|accumulator| finished(&self.reading, accumulator).map(Some))
            .collect::<Result<_>>()?;
        Ok(Arc::new(write_states(&states)?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut accumulators = emit.take_needed(&mut self.accumulators);
        Ok(vec![Arc::new(BinaryArray::from_iter_values(
            accumulators.iter_mut().map(Accumulator::to_bytes),
        ))])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut accumulators: Vec<Option<Accumulator>> = vec![None; rows];
        visit(&self.reading, values, filter, |row, unit| {
            push(
                accumulators[row].get_or_insert_with(|| Accumulator::new(self.reading.width)),
                unit,
            );
        })?;
        let bytes = accumulators
            .iter_mut()
            .map(|accumulator| accumulator.as_mut().map(Accumulator::to_bytes));
        Ok(vec![Arc::new(BinaryArray::from_iter(bytes))])
    }

    fn size(&self) -> usize {
        self.accumulators
            .iter()
            .map(Accumulator::memory)
            .sum::<usize>()
            + size_of::<Self>()
    }
}

/// The state of a group. NULLs under `fail` fail the query: a count in a column that nobody reads would be a swallowed error.
fn finished(reading: &Reading, accumulator: &Accumulator) -> Result<State> {
    let state = accumulator.finish();
    let is_forbidden = matches!(reading.source, Source::Rows(policy) if policy.check(&state) == Status::NullsPresent);
    if !is_forbidden {
        return Ok(state);
    }
    let (nulls, units) = (state.nulls, state.n + state.nulls + state.non_finite);
    match &reading.name {
        Some(name) => exec_err!("{}", missing_values(name, nulls, units)),
        None => exec_err!(
            "state_agg_fail met a NULL in {nulls} of {units} units; look for them with `is null`, or say what they mean: state_agg \
             leaves such units out, state_agg_zero counts a NULL as 0"
        ),
    }
}

/// One row of the input.
enum Unit<'a> {
    Values(&'a [f64]),
    Null,
    State(State),
}

fn push(accumulator: &mut Accumulator, unit: Unit<'_>) {
    match unit {
        Unit::Values(values) => accumulator.push(values),
        Unit::Null => accumulator.push_nulls(1),
        Unit::State(state) => accumulator.push_state(&state),
    }
}

/// Calls `each` with every row the filter keeps.
fn visit(
    reading: &Reading,
    arguments: &[ArrayRef],
    filter: Option<&BooleanArray>,
    mut each: impl FnMut(usize, Unit<'_>),
) -> Result<()> {
    let is_kept =
        |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
    let values = reading.columns(arguments);
    match reading.source {
        Source::States => {
            let states = States::open(&values[0])?;
            (0..states.len())
                .filter(|row| is_kept(*row) && !states.is_null(*row))
                .for_each(|row| each(row, Unit::State(states.state(row))));
        }
        Source::Rows(policy) => {
            let columns = values
                .iter()
                .map(open_numbers)
                .collect::<Result<Vec<_>>>()?;
            let mut unit = vec![0.0; columns.len()];
            for row in (0..columns[0].len()).filter(|row| is_kept(*row)) {
                let mut has_null = false;
                for (value, column) in unit.iter_mut().zip(&columns) {
                    let is_null = column.is_null(row);
                    has_null |= is_null;
                    *value = if is_null { 0.0 } else { column.value(row) };
                }
                each(
                    row,
                    if has_null && policy != NullPolicy::Zero {
                        Unit::Null
                    } else {
                        Unit::Values(&unit)
                    },
                );
            }
        }
    }
    Ok(())
}

fn open_numbers(array: &ArrayRef) -> Result<&Float64Array> {
    array
        .as_primitive_opt::<Float64Type>()
        .ok_or_else(|| exec_datafusion_err!("expected numbers, got {}", array.data_type()))
}

/// The partial states of a batch; NULL stands for a row that was filtered away.
fn read_partials(array: &ArrayRef) -> Result<impl Iterator<Item = Result<Option<Accumulator>>>> {
    let partials = array.as_binary_opt::<i32>().ok_or_else(|| {
        exec_datafusion_err!("expected partial states, got {}", array.data_type())
    })?;
    Ok(partials.iter().map(|bytes| match bytes {
        Some(bytes) => match Accumulator::from_bytes(bytes) {
            Some(accumulator) => Ok(Some(accumulator)),
            None => Err(exec_datafusion_err!(
                "a partial state of {} bytes is damaged",
                bytes.len()
            )),
        },
        None => Ok(None),
    }))
}
