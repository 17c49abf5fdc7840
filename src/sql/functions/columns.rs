//! Records as Arrow structs. In: records, one per row. Out: one struct array with a column per field.

use crate::stats::{Kind, Record, Sink};
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder, StructArray,
};
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
        if let Column::Number(builder) = &mut self.columns[column] {
            builder.append_option(value);
        }
    }

    #[inline]
    fn whole(&mut self, column: usize, value: Option<i64>) {
        if let Column::Whole(builder) = &mut self.columns[column] {
            builder.append_option(value);
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
        if let Column::Text(builder) = &mut self.columns[column] {
            builder.append_value(value);
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
    Number(Float64Builder),
    Whole(Int64Builder),
    Flag(BooleanBuilder),
    Text(StringBuilder),
    Numbers(ListBuilder<Float64Builder>),
}

impl Column {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Number => Self::Number(Float64Builder::with_capacity(rows)),
            Kind::Whole => Self::Whole(Int64Builder::with_capacity(rows)),
            Kind::Flag => Self::Flag(BooleanBuilder::with_capacity(rows)),
            Kind::Text => Self::Text(StringBuilder::with_capacity(rows, 2 * rows)),
            Kind::Numbers => Self::Numbers(ListBuilder::with_capacity(Float64Builder::new(), rows)),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Number(mut builder) => Arc::new(builder.finish()),
            Self::Whole(mut builder) => Arc::new(builder.finish()),
            Self::Flag(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Numbers(mut builder) => Arc::new(builder.finish()),
        }
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
