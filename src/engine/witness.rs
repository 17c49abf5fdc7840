//! Two definitions run on invented rows.
//! In: base tables, and what each side makes of them. Out: at most three rows per table on which the two differ, found by
//! [`crate::contracts::witness`].

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::error::Result;

use super::session::{Engine, EngineOptions};
use crate::contracts::witness::{Column, Database, Kind, Space, Value, search};

/// A base table whose rows are invented.
#[derive(Debug, Clone)]
pub struct Invented {
    pub relation: String,
    pub schema: SchemaRef,
    pub not_null: Vec<String>,
    /// Sets of columns whose values occur once.
    pub unique: Vec<Vec<String>>,
    pub references: Vec<Reference>,
}

/// Every value of `column` stands in `target_column` of `target`.
#[derive(Debug, Clone)]
pub struct Reference {
    pub column: String,
    pub target: String,
    pub target_column: String,
}

/// One side: its models in order, as relation and SQL, and the queries whose rows are compared.
#[derive(Clone, Default)]
pub struct Definition {
    /// Knows the tables that are not invented; the others are added to it.
    pub engine: Option<Engine>,
    pub views: Vec<(String, String)>,
    pub queries: Vec<String>,
}

/// Rows of one table of a counter-example, with what each query says about them.
#[derive(Debug, Clone, Default)]
pub struct CounterExample {
    /// Relation, columns, rows.
    pub tables: Vec<(String, Vec<String>, Vec<Vec<String>>)>,
    pub old: Vec<String>,
    pub new: Vec<String>,
}

/// Searches for rows on which the two sides differ. A side that fails on some rows says nothing about them.
pub async fn counter_example(
    tables: &[Invented],
    old: &Definition,
    new: &Definition,
    literals: &Literals,
    tries: usize,
) -> Result<Option<CounterExample>> {
    let (old, new) = (Side::new(old, tables).await?, Side::new(new, tables).await?);
    let space = space(tables, literals);
    let handle = tokio::runtime::Handle::current();
    let answers = |database: &Database| {
        let both = async {
            Ok::<_, datafusion::error::DataFusionError>((
                old.answer(tables, database).await?,
                new.answer(tables, database).await?,
            ))
        };
        tokio::task::block_in_place(|| handle.block_on(both))
    };
    let found = search(&space, 1, tries, &mut |database| {
        keeps_constraints(tables, database) && answers(database).is_ok_and(|(old, new)| old != new)
    });
    let Some(database) = found else {
        return Ok(None);
    };
    let (old, new) = answers(&database)?;
    Ok(Some(CounterExample {
        tables: tables.iter().map(|table| shown(table, &database)).collect(),
        old,
        new,
    }))
}

/// Values that definitions compare with: boundaries are where they differ.
#[derive(Debug, Clone, Default)]
pub struct Literals {
    pub integers: Vec<i64>,
    pub texts: Vec<String>,
}

struct Side {
    engine: Engine,
    queries: Vec<String>,
}

impl Side {
    async fn new(definition: &Definition, tables: &[Invented]) -> Result<Side> {
        let engine = match &definition.engine {
            Some(engine) => engine.clone(),
            None => Engine::new(EngineOptions {
                threads: Some(1),
                memory_limit: None,
            })?,
        };
        for table in tables {
            engine.add_batch(
                &table.relation,
                RecordBatch::new_empty(table.schema.clone()),
            )?;
        }
        let queries = definition
            .queries
            .iter()
            .map(|query| with_views(&definition.views, query))
            .collect();
        Ok(Side { engine, queries })
    }

    async fn answer(&self, tables: &[Invented], database: &Database) -> Result<Vec<String>> {
        for table in tables {
            let rows = &database[&table.relation];
            self.engine
                .add_batch(&table.relation, batch(table, rows)?)?;
        }
        let mut lines = vec![];
        for query in &self.queries {
            let rows = self.engine.rows(query, None).await?.cells()?;
            let mut of_query: Vec<String> = rows.iter().map(|row| line(row)).collect();
            of_query.sort();
            lines.extend(of_query);
        }
        Ok(lines)
    }
}

/// Rows that break what is declared would prove nothing.
fn keeps_constraints(tables: &[Invented], database: &Database) -> bool {
    tables.iter().all(|table| {
        let keys = table.unique.iter().all(|key| {
            let mut seen = vec![];
            let rows = values(table, database, key);
            let rows = rows.into_iter().filter(|row| !row.contains(&&Value::Null));
            rows.into_iter().all(|row| {
                let is_new = !seen.contains(&row);
                seen.push(row);
                is_new
            })
        });
        let references = table.references.iter().all(|reference| {
            let Some(target) = tables
                .iter()
                .find(|other| other.relation == reference.target)
            else {
                return true;
            };
            let targets = values(
                target,
                database,
                std::slice::from_ref(&reference.target_column),
            );
            let own = values(table, database, std::slice::from_ref(&reference.column));
            own.iter()
                .all(|row| row.contains(&&Value::Null) || targets.contains(row))
        });
        keys && references
    })
}

fn values<'a>(table: &Invented, database: &'a Database, columns: &[String]) -> Vec<Vec<&'a Value>> {
    let place = |name: &String| table.schema.index_of(name).ok();
    let places: Vec<usize> = columns.iter().filter_map(place).collect();
    let rows = database[&table.relation].iter();
    rows.map(|row| places.iter().map(|place| &row[*place]).collect())
        .collect()
}

fn line(row: &[Option<String>]) -> String {
    let cells = row.iter().map(|cell| cell.as_deref().unwrap_or("null"));
    cells.collect::<Vec<_>>().join(", ")
}

/// The models as common table expressions: views would keep the tables that they were planned on.
fn with_views(views: &[(String, String)], query: &str) -> String {
    if views.is_empty() {
        return query.to_string();
    }
    let parts: Vec<String> = views
        .iter()
        .map(|(relation, sql)| format!("{relation} as (\n{}\n)", sql.trim()))
        .collect();
    format!("with {}\n{query}", parts.join(",\n"))
}

fn space(tables: &[Invented], literals: &Literals) -> Space {
    let column = |table: &Invented, name: &str, data_type: &DataType| Column {
        name: name.into(),
        kind: kind(data_type),
        is_not_null: table.not_null.iter().any(|known| known == name),
        is_unique: table.unique.iter().any(|known| known == &[name]),
    };
    let columns = |table: &Invented| {
        let fields = table.schema.fields().iter();
        fields
            .map(|field| column(table, field.name(), field.data_type()))
            .collect()
    };
    Space {
        tables: tables
            .iter()
            .map(|table| (table.relation.clone(), columns(table)))
            .collect::<BTreeMap<_, _>>(),
        integers: literals.integers.clone(),
        texts: literals.texts.clone(),
    }
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Date32 | DataType::Date64 => Kind::Date,
        DataType::Timestamp(..) => Kind::Timestamp,
        _ => Kind::Integer,
    }
}

fn batch(table: &Invented, rows: &[Vec<Value>]) -> Result<RecordBatch> {
    let mut arrays = vec![];
    for (place, field) in table.schema.fields().iter().enumerate() {
        arrays.push(array(rows, place, field.data_type())?);
    }
    Ok(RecordBatch::try_new_with_options(
        table.schema.clone(),
        arrays,
        &datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len())),
    )?)
}

/// A column of invented values in the table's own type; of a type that cannot be invented all are NULL.
fn array(rows: &[Vec<Value>], place: usize, data_type: &DataType) -> Result<ArrayRef> {
    let cells = || rows.iter().map(|row| &row[place]);
    let plain: ArrayRef = match kind(data_type) {
        Kind::Boolean => Arc::new(BooleanArray::from_iter(cells().map(|cell| match cell {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }))),
        Kind::Float => Arc::new(Float64Array::from_iter(cells().map(|cell| match cell {
            Value::Float(value) => Some(*value),
            _ => None,
        }))),
        Kind::Text => Arc::new(StringArray::from_iter(cells().map(|cell| match cell {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }))),
        Kind::Integer | Kind::Date | Kind::Timestamp => {
            Arc::new(Int64Array::from_iter(cells().map(|cell| match cell {
                Value::Integer(value) => Some(*value),
                _ => None,
            })))
        }
    };
    let typed = match kind(data_type) {
        Kind::Timestamp => cast(&plain, &DataType::Timestamp(TimeUnit::Nanosecond, None))?,
        Kind::Date => cast(&plain, &DataType::Int32)?,
        _ => plain,
    };
    Ok(cast(&typed, data_type).unwrap_or_else(|_| new_null_array(data_type, rows.len())))
}

fn shown(table: &Invented, database: &Database) -> (String, Vec<String>, Vec<Vec<String>>) {
    let columns = table
        .schema
        .fields()
        .iter()
        .map(|field| field.name().clone());
    let kinds: Vec<Kind> = table
        .schema
        .fields()
        .iter()
        .map(|field| kind(field.data_type()))
        .collect();
    let rows = database[&table.relation].iter();
    let cells = rows.map(|row| {
        row.iter()
            .zip(&kinds)
            .map(|(value, kind)| cell(value, *kind))
            .collect()
    });
    (table.relation.clone(), columns.collect(), cells.collect())
}

fn cell(value: &Value, kind: Kind) -> String {
    match (value, kind) {
        (Value::Null, _) => "null".into(),
        (Value::Integer(days), Kind::Date) => {
            let day = i32::try_from(*days)
                .ok()
                .and_then(chrono::NaiveDate::from_epoch_days);
            day.map_or_else(|| days.to_string(), |day| day.to_string())
        }
        (Value::Integer(nanoseconds), Kind::Timestamp) => {
            chrono::DateTime::from_timestamp_nanos(*nanoseconds)
                .naive_utc()
                .to_string()
        }
        (Value::Integer(value), _) => value.to_string(),
        (Value::Float(value), _) => value.to_string(),
        (Value::Text(text), _) => format!("'{text}'"),
        (Value::Boolean(value), _) => value.to_string(),
    }
}
