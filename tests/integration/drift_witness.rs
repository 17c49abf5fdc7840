//! The smallest counter-examples: for a change of meaning, at most three rows per table on which the numbers differ.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::contracts::witness::{Column, Database, Kind, ROWS, Space, Value, search};
use serde_json::json;

use super::drift_project::Project;

fn base() -> Project {
    Project::base(&serde_json::from_str(include_str!("drift_base.json")).expect("JSON"))
}

#[test]
fn drift_witness_shows_a_fan_out_on_few_rows() {
    let before = base();
    let after = base().overlaid(&json!({"models": {"fct_orders":
        "SELECT o.order_id, o.user_id, o.amount_cents, o.status FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id \
         LEFT JOIN raw_refunds r ON r.order_id = o.order_id"}}));
    let witness = search(&space(&before), 1, 400, &mut |database| {
        differs(&before, &after, database)
    })
    .expect("they differ");
    assert!(
        witness.values().all(|rows| rows.len() <= ROWS),
        "{witness:?}"
    );
    assert_eq!(
        witness["raw_refunds"].len(),
        2,
        "two refunds of one order: {witness:?}"
    );
    assert_eq!(witness["raw_orders"].len(), 1, "{witness:?}");
}

#[test]
fn drift_witness_finds_none_where_the_meaning_is_the_same() {
    let before = base();
    let after = base().overlaid(&json!({"metric":
        "SELECT user_id AS unit, SUM(CASE WHEN status = 'paid' THEN amount_cents END) AS value FROM fct_orders \
         WHERE status IN ('paid') GROUP BY user_id"}));
    assert_eq!(
        search(&space(&before), 1, 20, &mut |database| differs(
            &before, &after, database
        )),
        None
    );
}

fn space(project: &Project) -> Space {
    let kind = |data_type: &DataType| match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Utf8 => Kind::Text,
        DataType::Timestamp(..) => Kind::Timestamp,
        _ => Kind::Integer,
    };
    let column = |column: &super::drift_project::Column| Column {
        name: column.name.clone(),
        kind: kind(&column.data_type),
        is_not_null: column.is_not_null,
        is_unique: column.is_unique,
    };
    let wanted = ["raw_orders", "raw_users", "raw_refunds"];
    let tables = project
        .tables
        .iter()
        .filter(|(name, _)| wanted.contains(&name.as_str()));
    Space {
        tables: tables
            .map(|(name, columns)| (name.clone(), columns.iter().map(column).collect()))
            .collect(),
        integers: vec![],
        texts: vec!["paid".into()],
    }
}

fn differs(before: &Project, after: &Project, database: &Database) -> bool {
    crate::runtime().block_on(async { rows(before, database).await != rows(after, database).await })
}

async fn rows(project: &Project, database: &Database) -> Vec<String> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for (table, rows) in database {
        let schema = project.schema(table);
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(place, field)| array(rows, place, field.data_type()))
            .collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("a batch");
        let table_rows = MemTable::try_new(schema, vec![vec![batch]]).expect("a table");
        context
            .register_table(table.as_str(), Arc::new(table_rows))
            .expect("a fresh name");
    }
    for model in ["stg_orders", "stg_users", "fct_orders"] {
        let sql = format!(
            "CREATE VIEW {model} AS {}",
            project.rendered(&project.models[model])
        );
        context.sql(&sql).await.expect("a view");
    }
    let batches = context
        .sql(&project.metric_sql())
        .await
        .expect("a query")
        .collect()
        .await
        .expect("rows");
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches)
        .expect("a table")
        .to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines
}

fn array(rows: &[Vec<Value>], place: usize, data_type: &DataType) -> ArrayRef {
    let integer = |row: &Vec<Value>| match row[place] {
        Value::Integer(value) => Some(value),
        _ => None,
    };
    match data_type {
        DataType::Boolean => {
            let truth = |row: &Vec<Value>| matches!(row[place], Value::Boolean(true));
            Arc::new(BooleanArray::from(
                rows.iter()
                    .map(|row| (row[place] != Value::Null).then(|| truth(row)))
                    .collect::<Vec<_>>(),
            ))
        }
        DataType::Utf8 => {
            let text = |row: &Vec<Value>| match &row[place] {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            };
            Arc::new(StringArray::from(rows.iter().map(text).collect::<Vec<_>>()))
        }
        DataType::Timestamp(..) => Arc::new(TimestampNanosecondArray::from(
            rows.iter().map(integer).collect::<Vec<_>>(),
        )),
        _ => Arc::new(Int64Array::from(
            rows.iter().map(integer).collect::<Vec<_>>(),
        )),
    }
}
