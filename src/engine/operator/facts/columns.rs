//! The columns of a clustered table.
//! In: the columns of the rows that come, and of the table that there is. Out: the columns of its files, or why the two do not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::exec_err;
use datafusion::error::Result;
use deltalake::DeltaTable;

use super::{Clustering, PARTITIONS, TIME_TYPE, UNIT_KEY, external};
use crate::engine::operator::sources::check_unit;
use crate::sql::type_name;

/// The columns of a table as it is stored, with those that partition it.
pub(super) fn stored_columns(table: &DeltaTable) -> Result<SchemaRef> {
    let state = table.snapshot().map_err(external)?;
    Ok(state.snapshot().arrow_schema())
}

/// The columns of the files of a table that gets rows of the given ones; `known` are those of the table that there is.
pub(super) fn schema_of(
    columns: &Schema,
    clustering: &Clustering,
    known: Option<&Schema>,
) -> Result<SchemaRef> {
    let mut schema = file_schema(columns, clustering)?;
    if let Some(known) = known {
        schema = with_known_types(&schema, known);
        check_columns(known, &schema)?;
        schema = in_known_order(&schema, known)?;
    }
    check_types(&schema)?;
    Ok(schema)
}

/// Files of one table have the same columns; one with others would make it unreadable.
fn check_columns(stored: &Schema, schema: &SchemaRef) -> Result<()> {
    let is_own = |field: &&Arc<Field>| !PARTITIONS.contains(&field.name().as_str());
    let shape = |field: &Arc<Field>| (field.name().clone(), self::stored(field.data_type()));
    let known: BTreeMap<String, DataType> =
        stored.fields().iter().filter(is_own).map(shape).collect();
    let given: BTreeMap<String, DataType> = schema.fields().iter().map(shape).collect();
    let names = known.keys().chain(given.keys()).collect::<BTreeSet<_>>();
    let described = |kind: Option<&DataType>| kind.map_or("missing".to_string(), type_name);
    let different: Vec<String> = names
        .into_iter()
        .filter(|name| known.get(*name) != given.get(*name))
        .map(|name| {
            let (old, new) = (known.get(name), given.get(name));
            format!(
                "`{name}` is {} there and {} here",
                described(old),
                described(new)
            )
        })
        .collect();
    match different.is_empty() {
        true => Ok(()),
        false => exec_err!(
            "the table has other columns: {}; give the rows its columns, with `cast` where the types differ",
            different.join("; ")
        ),
    }
}

/// A column has the type that the table knows where it is null in all rows that come, or where each of its numbers is one of that type.
fn with_known_types(schema: &SchemaRef, known: &Schema) -> SchemaRef {
    let typed = |field: &Arc<Field>| {
        let kind = known.field_with_name(field.name());
        let kind = kind.map(|known| stored(known.data_type()));
        match kind {
            Ok(kind) if field.data_type().is_null() || is_part_of(field.data_type(), &kind) => {
                Arc::new(field.as_ref().clone().with_data_type(kind))
            }
            _ => Arc::clone(field),
        }
    };
    let fields: Vec<Arc<Field>> = schema.fields().iter().map(typed).collect();
    Arc::new(Schema::new(fields))
}

/// Whether every number of one type is one of the other, exactly.
fn is_part_of(numbers: &DataType, others: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64};
    matches!(
        (numbers, others),
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
            | (Int16, Int32 | Int64 | Float32 | Float64)
            | (Int32, Int64 | Float64)
            | (Float32, Float64)
    )
}

/// The order of the table: files are read by it, so that one in another order would make the table unreadable.
fn in_known_order(schema: &SchemaRef, known: &Schema) -> Result<SchemaRef> {
    let of_table = known.fields().iter();
    let places: Vec<usize> = of_table
        .filter_map(|field| schema.index_of(field.name()).ok())
        .collect();
    Ok(Arc::new(schema.project(&places)?))
}

/// A column without a type could never hold a value.
fn check_types(schema: &Schema) -> Result<()> {
    let mut fields = schema.fields().iter();
    match fields.find(|field| field.data_type().is_null()) {
        None => Ok(()),
        Some(field) => exec_err!(
            "the column `{}` is null in all rows, so nothing says its type: write `cast({} as <type>)`",
            field.name(),
            field.name()
        ),
    }
}

/// The unit key, then the columns with the types that are stored.
fn file_schema(columns: &Schema, clustering: &Clustering) -> Result<SchemaRef> {
    for name in [&clustering.unit, &clustering.time, &clustering.id] {
        columns.field_with_name(name)?;
    }
    let unit = columns.field_with_name(&clustering.unit)?;
    check_unit("the rows", unit.name(), unit.data_type())?;
    let mut fields = vec![Field::new(UNIT_KEY, DataType::Int64, false)];
    for field in columns.fields() {
        let is_time = *field.name() == clustering.time;
        let data_type = if is_time {
            TIME_TYPE
        } else {
            stored(field.data_type())
        };
        fields.push(Field::new(field.name(), data_type, !is_time));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The types of a Delta table, which has no unsigned integers and one kind of texts and of bytes.
pub(super) fn stored(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => stored(values),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

pub(super) fn with_partitions(schema: &SchemaRef) -> SchemaRef {
    let partitions = [
        Field::new(PARTITIONS[0], DataType::Date32, false),
        Field::new(PARTITIONS[1], DataType::Date32, false),
        Field::new(PARTITIONS[2], DataType::Int32, false),
    ];
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone())
        .chain(partitions);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
