//! The arguments of a call, opened once per batch. In: columns and constants. Out: plain numbers, samples and lists per row.

use super::state_type::{States, Values, is_state, list_type, state_type};
use crate::sql::words::type_name;
use crate::stats::sample::{Moments, Sample};
use crate::stats::state::State;
use crate::stats::status::Status;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Number,
    Flag,
    Text,
    Numbers,
    /// Lists of numbers of any lengths: looks, rows of a table.
    NumberLists,
    State,
    States,
}

/// One parameter of a SQL function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    /// Taken when the argument is left out or NULL.
    pub default: Option<Default>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Default {
    Number(f64),
    Flag(bool),
    Text(&'static str),
    /// The argument may be left out and then holds nothing.
    Nothing,
}

impl Kind {
    pub fn arrow_type(self) -> DataType {
        let list_of = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
        match self {
            Self::Number => DataType::Float64,
            Self::Flag => DataType::Boolean,
            Self::Text => DataType::Utf8,
            Self::Numbers => list_type(),
            Self::NumberLists => list_of(list_type()),
            Self::State => state_type(),
            Self::States => list_of(state_type()),
        }
    }

    /// The type to convert an argument to, or why it cannot be one.
    pub fn coerced(self, function: &str, parameter: &str, found: &DataType) -> Result<DataType> {
        let wanted = self.arrow_type();
        let is_convertible = match self {
            _ if found.is_null() => true,
            Self::Number => found.is_numeric(),
            Self::Flag => *found == DataType::Boolean,
            Self::Text => matches!(
                found,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ),
            Self::State => is_state(found),
            Self::Numbers => item_of(found).is_some_and(is_number),
            Self::NumberLists => item_of(found)
                .is_some_and(|item| item.is_null() || item_of(item).is_some_and(is_number)),
            Self::States => item_of(found).is_some_and(|item| item.is_null() || is_state(item)),
        };
        if is_convertible {
            return Ok(wanted);
        }
        plan_err!(
            "`{function}` takes {} as `{parameter}`, not {}",
            self.description(),
            type_name(found)
        )
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Flag => "a boolean",
            Self::Text => "a text",
            Self::Numbers => "a list of numbers",
            Self::NumberLists => "a list of lists of numbers",
            Self::State => "a state (of state_agg, state_merge or state_of)",
            Self::States => "a list of states",
        }
    }
}

/// The type of a list's items.
fn item_of(kind: &DataType) -> Option<&DataType> {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type())
        }
        _ => None,
    }
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || kind.is_null()
}

/// The opened arguments of one call.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    parameters: &'static [Parameter],
    columns: Vec<Column<'a>>,
}

/// A column opened for its kind; constants stay constants.
#[derive(Debug)]
enum Column<'a> {
    Constant(f64),
    Missing,
    Numbers(&'a Float64Array),
    Flags(&'a BooleanArray),
    Texts(&'a StringArray),
    Lists(Values<'a>),
    Nested(&'a ListArray),
    States(States<'a>),
}

/// Expands constants that are not plain numbers, so that every column can be opened by reference.
pub(super) fn materialise(
    arguments: &[ColumnarValue],
    rows: usize,
) -> Result<Vec<Option<ArrayRef>>> {
    let expand = |argument: &ColumnarValue| match argument {
        ColumnarValue::Scalar(ScalarValue::Float64(_)) => Ok(None),
        other => other.to_array(rows).map(Some),
    };
    arguments.iter().map(expand).collect()
}

impl<'a> Arguments<'a> {
    pub fn open(
        parameters: &'static [Parameter],
        values: &[ColumnarValue],
        arrays: &'a [Option<ArrayRef>],
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(parameters.len());
        for (place, parameter) in parameters.iter().enumerate() {
            columns.push(match (values.get(place), arrays.get(place)) {
                (Some(ColumnarValue::Scalar(ScalarValue::Float64(value))), _) => {
                    value.map_or(Column::Missing, Column::Constant)
                }
                (_, Some(Some(array))) => Column::open(parameter, array)?,
                _ => Column::Missing,
            });
        }
        Ok(Self {
            parameters,
            columns,
        })
    }

    /// A number; NaN when it is NULL and has no default.
    #[inline]
    pub fn number(&self, place: usize, row: usize) -> f64 {
        match &self.columns[place] {
            Column::Constant(value) => *value,
            Column::Numbers(array) if array.is_valid(row) => array.value(row),
            _ => match self.parameters[place].default {
                Some(Default::Number(value)) => value,
                _ => f64::NAN,
            },
        }
    }

    pub fn flag(&self, place: usize, row: usize) -> bool {
        match &self.columns[place] {
            Column::Flags(array) if array.is_valid(row) => array.value(row),
            _ => matches!(self.parameters[place].default, Some(Default::Flag(true))),
        }
    }

    pub fn text(&self, place: usize, row: usize) -> &'a str {
        match &self.columns[place] {
            Column::Texts(array) if array.is_valid(row) => array.value(row),
            _ => match self.parameters[place].default {
                Some(Default::Text(text)) => text,
                _ => "",
            },
        }
    }

    /// The numbers of a list; NULL elements are NaN, a NULL list is empty.
    pub fn numbers(&self, place: usize, row: usize) -> Vec<f64> {
        match &self.columns[place] {
            Column::Lists(lists) if !lists.is_null(row) => lists.of_or(row, f64::NAN),
            _ => Vec::new(),
        }
    }

    pub fn number_lists(&self, place: usize, row: usize) -> Result<Vec<Vec<f64>>> {
        let Column::Nested(lists) = &self.columns[place] else {
            return Ok(Vec::new());
        };
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let rows = lists.value(row);
        let values = Values::open(&rows, self.parameters[place].name)?;
        Ok((0..rows.len())
            .map(|row| values.of_or(row, f64::NAN))
            .collect())
    }

    #[inline]
    pub fn sample(&self, place: usize, row: usize) -> std::result::Result<Sample, Status> {
        match &self.columns[place] {
            Column::States(states) => states.sample(row),
            _ => Ok(Sample::new(0.0, 0.0, f64::NAN)),
        }
    }

    #[inline]
    pub fn moments<const P: usize>(
        &self,
        place: usize,
        row: usize,
    ) -> std::result::Result<Moments<P>, Status> {
        match &self.columns[place] {
            Column::States(states) => states.moments(row),
            _ => Err(Status::OneArmMissing),
        }
    }

    pub fn state(&self, place: usize, row: usize) -> State {
        match &self.columns[place] {
            Column::States(states) => states.state(row),
            _ => State::default(),
        }
    }

    /// The states of a list.
    pub fn states(&self, place: usize, row: usize) -> Result<Vec<State>> {
        let Column::Nested(lists) = &self.columns[place] else {
            return Ok(Vec::new());
        };
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let values = lists.value(row);
        let states = States::open(&values)?;
        Ok((0..states.len()).map(|row| states.state(row)).collect())
    }
}

impl<'a> Column<'a> {
    fn open(parameter: &Parameter, array: &'a ArrayRef) -> Result<Self> {
        if array.data_type().is_null() {
            return Ok(Self::Missing);
        }
        let opened = match parameter.kind {
            Kind::Number => array.as_primitive_opt::<Float64Type>().map(Self::Numbers),
            Kind::Flag => array.as_boolean_opt().map(Self::Flags),
            Kind::Text => array.as_string_opt::<i32>().map(Self::Texts),
            Kind::Numbers => Some(Self::Lists(Values::open(array, parameter.name)?)),
            Kind::NumberLists | Kind::States => array.as_list_opt::<i32>().map(Self::Nested),
            Kind::State => Some(Self::States(States::open(array)?)),
        };
        match opened {
            Some(column) => Ok(column),
            None => exec_err!(
                "`{}` takes {}, not {}",
                parameter.name,
                parameter.kind.description(),
                array.data_type()
            ),
        }
    }
}
