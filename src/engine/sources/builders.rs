//! Columns of Arrow arrays from the text of cells. In: cells of one column. Out: an array of the column's type.

use super::declared::ColumnType;
use super::rows::Cell;
use super::values;
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringViewBuilder,
    TimestampMicrosecondBuilder,
};
use std::sync::Arc;

pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    TinyInt(Int8Builder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Varchar(StringViewBuilder),
}

impl ColumnBuilder {
    pub(super) fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            ColumnType::TinyInt => ColumnBuilder::TinyInt(Int8Builder::new()),
            ColumnType::SmallInt => ColumnBuilder::SmallInt(Int16Builder::new()),
            ColumnType::Integer => ColumnBuilder::Integer(Int32Builder::new()),
            ColumnType::BigInt => ColumnBuilder::BigInt(Int64Builder::new()),
            ColumnType::Real => ColumnBuilder::Real(Float32Builder::new()),
            ColumnType::Double => ColumnBuilder::Double(Float64Builder::new()),
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_data_type(column_type.arrow());
                ColumnBuilder::Decimal(builder, precision, scale)
            }
            ColumnType::Date => ColumnBuilder::Date(Date32Builder::new()),
            ColumnType::Timestamp | ColumnType::TimestampUtc => ColumnBuilder::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(column_type.arrow()),
            ),
            ColumnType::Varchar => ColumnBuilder::Varchar(StringViewBuilder::new()),
        }
    }

    /// False if the cell is not of the column's type, which only happens to a file that changed after its inspection.
    pub(super) fn append(&mut self, cell: Cell<'_>) -> bool {
        match (self, cell.text()) {
            (ColumnBuilder::Varchar(builder), text) => {
                appended(text, Some, |text| builder.append_option(text))
            }
            (builder, text) => builder.append_parsed(text.map(str::trim)),
        }
    }

    fn append_parsed(&mut self, text: Option<&str>) -> bool {
        match self {
            ColumnBuilder::Boolean(builder) => {
                appended(text, values::boolean, |value| builder.append_option(value))
            }
            ColumnBuilder::TinyInt(builder) => {
                appended(text, whole, |value| builder.append_option(value))
            }
            ColumnBuilder::SmallInt(builder) => {
                appended(text, whole, |value| builder.append_option(value))
            }
            ColumnBuilder::Integer(builder) => {
                appended(text, whole, |value| builder.append_option(value))
            }
            ColumnBuilder::BigInt(builder) => {
                appended(text, values::whole, |value| builder.append_option(value))
            }
            ColumnBuilder::Real(builder) => {
                appended(text, real, |value| builder.append_option(value))
            }
            ColumnBuilder::Double(builder) => {
                appended(text, values::double, |value| builder.append_option(value))
            }
            ColumnBuilder::Decimal(builder, precision, scale) => appended(
                text,
                |text| values::decimal(text, *precision, *scale),
                |value| builder.append_option(value),
            ),
            ColumnBuilder::Date(builder) => {
                appended(text, values::date, |value| builder.append_option(value))
            }
            ColumnBuilder::Timestamp(builder) => appended(text, values::timestamp, |value| {
                builder.append_option(value)
            }),
            ColumnBuilder::Varchar(builder) => {
                appended(text, Some, |text| builder.append_option(text))
            }
        }
    }

    /// The array so far; the builder is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
            ColumnBuilder::TinyInt(builder) => Arc::new(builder.finish()),
            ColumnBuilder::SmallInt(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Integer(builder) => Arc::new(builder.finish()),
            ColumnBuilder::BigInt(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Real(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Double(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Decimal(builder, _, _) => Arc::new(builder.finish()),
            ColumnBuilder::Date(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Varchar(builder) => Arc::new(builder.finish()),
        }
    }
}

/// Appends the parsed value or null; false, and null, if there is a text that does not parse.
fn appended<'a, T>(
    text: Option<&'a str>,
    parse: impl Fn(&'a str) -> Option<T>,
    append: impl FnOnce(Option<T>),
) -> bool {
    let value = text.and_then(parse);
    let is_good = text.is_none() || value.is_some();
    append(value);
    is_good
}

fn whole<T: TryFrom<i64>>(text: &str) -> Option<T> {
    T::try_from(values::whole(text)?).ok()
}

fn real(text: &str) -> Option<f32> {
    values::double(text)
        .map(|number| number as f32)
        .filter(|number| number.is_finite())
}
