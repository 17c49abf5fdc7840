//! Records as Arrow structs. In: records, one per row. Out: one struct array with a column per field.

use crate::stats::{Kind, Record, Sink};
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Array, Float64Builder, Int64Array, ListBuilder, StringArray,
    StructArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use std::sync::Arc;

/// The Arrow type of a record.
pub(super) fn record_type<R: Record>() -> DataType {
    DataType::Struct(record_fields::<R>())
}

/// Collects records into the columns of a struct.
#[derive(Debug)]
pub(super) struct Columns {
    fields: Fields,
    columns: Vec<Column>,
}

impl Columns {
    pub fn of<R: Record>(rows: usize) -> Self {
        Self {
            fields: record_fields::<R>(),
            columns: R::FIELDS
                .iter()
                .map(|(_, kind)| Column::new(*kind, rows))
                .collect(),
        }
    }

    pub fn finish(self) -> Result<ArrayRef> {
        let columns = self.columns.into_iter().map(Column::finish).collect();
        Ok(Arc::new(StructArray::try_new(self.fields, columns, None)?))
    }
}

impl Sink for Columns {
    #[inline]
    fn number(&mut self, column: usize, value: Option<f64>) {
        if let Column::Number(numbers) = &mut self.columns[column] {
            numbers.push(value);
        }
    }

    #[inline]
    fn whole(&mut self, column: usize, value: Option<i64>) {
        if let Column::Whole(numbers) = &mut self.columns[column] {
            numbers.push(value);
        }
    }

    #[inline]
    fn flag(&mut self, column: usize, value: Option<bool>) {
        if let Column::Flag(builder) = &mut self.columns[column] {
            builder.append_option(value);
        }
    }

    #[inline]
    fn text(&mut self, column: usize, value: &'static str) {
        if let Column::Text(texts) = &mut self.columns[column] {
            texts.push(value);
        }
    }

    #[inline]
    fn numbers(&mut self, column: usize, values: &[f64]) {
        if let Column::Numbers(builder) = &mut self.columns[column] {
            // What is not a number must not look like one in SQL either.
            builder.append_value(
                values
                    .iter()
                    .map(|value| value.is_finite().then_some(*value)),
            );
        }
    }
}

/// The kinds of a record's fields are fixed by its type, so a value always meets the builder of its kind.
#[derive(Debug)]
enum Column {
    Number(Sparse<f64>),
    Whole(Sparse<i64>),
    Flag(BooleanBuilder),
    Text(Vec<&'static str>),
    Numbers(ListBuilder<Float64Builder>),
}

impl Column {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Number => Self::Number(Sparse::with_capacity(rows)),
            Kind::Whole => Self::Whole(Sparse::with_capacity(rows)),
            Kind::Flag => Self::Flag(BooleanBuilder::with_capacity(rows)),
            Kind::Text => Self::Text(Vec::with_capacity(rows)),
            Kind::Numbers => Self::Numbers(ListBuilder::with_capacity(Float64Builder::new(), rows)),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Number(numbers) => {
                let (values, nulls) = numbers.finish();
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Self::Whole(numbers) => {
                let (values, nulls) = numbers.finish();
                Arc::new(Int64Array::new(values.into(), nulls))
            }
            Self::Flag(mut builder) => Arc::new(builder.finish()),
            Self::Text(texts) => Arc::new(StringArray::from_iter_values(texts)),
            Self::Numbers(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Numbers of which few are missing: the places of those, rather than a bit for every number as it arrives.
#[derive(Debug)]
struct Sparse<T> {
    values: Vec<T>,
    missing: Vec<usize>,
}

impl<T: Default> Sparse<T> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows),
            missing: Vec::new(),
        }
    }

    #[inline]
    fn push(&mut self, value: Option<T>) {
        if value.is_none() {
            self.missing.push(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    fn finish(self) -> (Vec<T>, Option<NullBuffer>) {
        if self.missing.is_empty() {
            return (self.values, None);
        }
        let mut is_there = vec![true; self.values.len()];
        self.missing.iter().for_each(|row| is_there[*row] = false);
        let nulls = NullBuffer::new(BooleanBuffer::from(is_there));
        (self.values, Some(nulls))
    }
}

fn record_fields<R: Record>() -> Fields {
    R::FIELDS
        .iter()
        .map(|(name, kind)| Field::new(*name, arrow_type(*kind), true))
        .collect()
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Number => DataType::Float64,
        Kind::Whole => DataType::Int64,
        Kind::Flag => DataType::Boolean,
        Kind::Text => DataType::Utf8,
        Kind::Numbers => super::state_type::list_type(),
    }
}
