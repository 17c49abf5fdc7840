//! Which Arrow types a Delta table holds, and what becomes of the others. In: a query's schema and batches.
//! Out: the schema of the stored table, which is also the schema it is read back with, and batches of that schema.
//!
//! | from | stored and read as | |
//! |---|---|---|
//! | every kind of string, binary and list; dictionaries | `Utf8View`, `BinaryView`, `List`; the dictionary's values | same values |
//! | `UInt8`, `UInt16`, `UInt32` | `Int16`, `Int32`, `Int64` | same values |
//! | `UInt64` | `Int64` | same values; a value above 2^63-1 is an error |
//! | `Float16` | `Float32` | same values |
//! | `Decimal32`, `Decimal64`, `Decimal256` | `Decimal128` | same values; more than 38 digits is an error |
//! | `Date64` | `Date32` | same day |
//! | timestamps of any unit and zone | microseconds, UTC or without zone | same instant; digits below a microsecond are cut off |
//! | `Null` | `Utf8View` | all null |
//! | times of day, intervals, durations, unions | | error: Delta Lake has no such type |
//!
//! All columns are nullable. Delta Lake has no unsigned, view or zoned types (Delta protocol, "Schema serialization format").

use super::{ColumnProblem, Result, WarehouseError};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The schema of a table that holds the rows of a query with `schema`. Compile against this, not against the query's own.
///
/// # Errors
/// [`WarehouseError::Columns`] with every column whose name or type cannot be stored.
pub fn stored_schema(schema: &Schema) -> Result<SchemaRef> {
    let mut problems = name_problems(schema);
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        match stored_type(field.data_type(), Nesting::Column) {
            Ok(data_type) => fields.push(Field::new(field.name(), data_type, true)),
            Err(unsupported) => problems.push(unsupported.in_column(field.name())),
        }
    }
    match problems.is_empty() {
        true => Ok(Arc::new(Schema::new(fields))),
        false => Err(WarehouseError::Columns(problems)),
    }
}

/// The batch as it is stored; `schema` is what [`stored_schema`] made of the batch's schema.
pub(super) fn stored_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| stored_column(column, field))
        .collect();
    RecordBatch::try_new(schema.clone(), columns?)
        .map_err(|error| WarehouseError::Query(error.into()))
}

/// Whether a table can be split into folders by the values of a column of this type.
pub(super) fn can_partition_by(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(
        data_type,
        Boolean | Int8 | Int16 | Int32 | Int64 | Utf8View | Date32 | Decimal128(_, _)
    )
}

fn stored_column(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, field.data_type(), &strict).map_err(|error| WarehouseError::Value {
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
        detail: error.to_string(),
    })
}

/// A type that Delta Lake lacks, and what to do about it.
struct Unsupported {
    data_type: String,
    hint: &'static str,
}

impl Unsupported {
    fn in_column(self, column: &str) -> ColumnProblem {
        ColumnProblem {
            column: column.to_string(),
            message: format!(
                "column `{column}` has the type {}, which a Delta table cannot hold",
                self.data_type
            ),
            hint: self.hint.to_string(),
        }
    }
}

/// Where a type stands: inside a map the reader keeps plain strings, elsewhere it gives string views.
#[derive(Clone, Copy, PartialEq)]
enum Nesting {
    Column,
    Map,
}

fn stored_type(data_type: &DataType, nesting: Nesting) -> Result<DataType, Unsupported> {
    use DataType::*;
    let unsupported = |hint| {
        Err(Unsupported {
            data_type: data_type.to_string(),
            hint,
        })
    };
    let is_view = nesting == Nesting::Column;
    Ok(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 => data_type.clone(),
        Null | Utf8 | LargeUtf8 | Utf8View => {
            if is_view {
                Utf8View
            } else {
                Utf8
            }
        }
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => {
            if is_view {
                BinaryView
            } else {
                Binary
            }
        }
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 | UInt64 => Int64,
        Float16 => Float32,
        Date64 => Date32,
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Decimal32(digits, scale)
        | Decimal64(digits, scale)
        | Decimal128(digits, scale)
        | Decimal256(digits, scale) => match stored_decimal(*digits, *scale) {
            Some(decimal) => decimal,
            None => {
                return unsupported(
                    "a decimal can have at most 38 digits; cast it to `decimal(38, n)` or `double`",
                );
            }
        },
        Dictionary(_, values) => stored_type(values, nesting)?,
        RunEndEncoded(_, values) => stored_type(values.data_type(), nesting)?,
        List(item)
        | LargeList(item)
        | ListView(item)
        | LargeListView(item)
        | FixedSizeList(item, _) => List(Arc::new(Field::new(
            "element",
            stored_type(item.data_type(), nesting)?,
            true,
        ))),
        Struct(fields) => Struct(stored_fields(fields, nesting)?),
        Map(entries, _) => stored_map(entries)?,
        Time32(_) | Time64(_) => return unsupported("cast it to `varchar`, or keep a timestamp"),
        Interval(_) | Duration(_) => {
            return unsupported("store a number of seconds or days instead");
        }
        Union(_, _) => return unsupported("cast it to one type"),
    })
}

/// A negative scale means trailing zeros; Delta Lake stores them as digits.
fn stored_decimal(digits: u8, scale: i8) -> Option<DataType> {
    let zeros = if scale < 0 { scale.unsigned_abs() } else { 0 };
    let digits = digits.checked_add(zeros).filter(|digits| *digits <= 38)?;
    Some(DataType::Decimal128(digits, scale.max(0)))
}

fn stored_fields(fields: &Fields, nesting: Nesting) -> Result<Fields, Unsupported> {
    if fields.is_empty() {
        return Err(Unsupported {
            data_type: "struct without fields".to_string(),
            hint: "give the struct a field",
        });
    }
    let stored = |field: &FieldRef| {
        Ok(Field::new(
            field.name(),
            stored_type(field.data_type(), nesting)?,
            true,
        ))
    };
    fields
        .iter()
        .map(stored)
        .collect::<Result<Vec<_>, _>>()
        .map(Fields::from)
}

/// The names are those of the Delta reader; a key is never null.
fn stored_map(entries: &FieldRef) -> Result<DataType, Unsupported> {
    let DataType::Struct(pair) = entries.data_type() else {
        unreachable!("Arrow defines a map as a list of key-value structs");
    };
    let key = Field::new(
        "key",
        stored_type(pair[0].data_type(), Nesting::Map)?,
        false,
    );
    let value = Field::new(
        "value",
        stored_type(pair[1].data_type(), Nesting::Map)?,
        true,
    );
    let entry = Field::new(
        "key_value",
        DataType::Struct(vec![key, value].into()),
        false,
    );
    Ok(DataType::Map(Arc::new(entry), false))
}

/// Delta Lake compares names without case, and Parquet files of a plain table exclude these characters
/// (Delta protocol, "Column Mapping").
fn name_problems(schema: &Schema) -> Vec<ColumnProblem> {
    if schema.fields().is_empty() {
        return vec![problem(
            "",
            "the query has no columns".to_string(),
            "select at least one column",
        )];
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut problems = Vec::new();
    for field in schema.fields() {
        let name = field.name();
        if name.is_empty() {
            problems.push(problem(
                name,
                "a column has an empty name".to_string(),
                "name it with `as`",
            ));
        } else if let Some(character) = name.chars().find(|character| is_forbidden(*character)) {
            let message = format!("the column name `{name}` contains {}", in_words(character));
            problems.push(problem(
                name,
                message,
                "name the expression with `as`, using letters, digits and underscores",
            ));
        }
        match seen.insert(name.to_lowercase(), name) {
            Some(earlier) if earlier == name => {
                problems.push(problem(
                    name,
                    format!("two columns are named `{name}`"),
                    "rename one of them with `as`",
                ));
            }
            Some(earlier) => {
                let message =
                    format!("the column names `{earlier}` and `{name}` differ only in case");
                problems.push(problem(name, message, "rename one of them with `as`"));
            }
            None => {}
        }
    }
    problems
}

fn problem(column: &str, message: String, hint: &str) -> ColumnProblem {
    ColumnProblem {
        column: column.to_string(),
        message,
        hint: hint.to_string(),
    }
}

fn is_forbidden(character: char) -> bool {
    matches!(
        character,
        ' ' | ',' | ';' | '{' | '}' | '(' | ')' | '\n' | '\t' | '='
    ) || character.is_control()
}

fn in_words(character: char) -> String {
    match character {
        ' ' => "a space".to_string(),
        other if other.is_control() => "a control character".to_string(),
        other => format!("`{other}`"),
    }
}
