//! The warehouse: what is written comes back, one publish is one step, and no death of a process loses what was published.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::warehouse::{
    Environment, Relation, TableSummary, Warehouse, WarehouseError, stored_schema,
};
use std::collections::BTreeMap;
use std::future::Future;
use tempfile::TempDir;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn warehouse() -> (TempDir, Warehouse) {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = Warehouse::open(&folder.path().join("a warehouse, 100%")).unwrap();
    (folder, warehouse)
}

fn context() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2))
}

async fn query(sql: &str) -> SendableRecordBatchStream {
    context()
        .sql(sql)
        .await
        .unwrap()
        .execute_stream()
        .await
        .unwrap()
}

async fn write(
    warehouse: &Warehouse,
    relation: &str,
    fingerprint: &str,
    sql: &str,
) -> Result<TableSummary, WarehouseError> {
    warehouse
        .write_table(relation, fingerprint, query(sql).await, &[])
        .await
}

/// All rows of `sql`, in which the table is called `t`.
async fn read(warehouse: &Warehouse, relation: &str, fingerprint: &str, sql: &str) -> RecordBatch {
    let context = context();
    context
        .register_table(
            "t",
            warehouse.open_table(relation, fingerprint).await.unwrap(),
        )
        .unwrap();
    let frame = context.sql(sql).await.unwrap();
    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
    concat_batches(&schema, &frame.collect().await.unwrap()).unwrap()
}

fn table_of(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch))
        .unwrap()
        .to_string()
}

/// Writes the query's rows, reads them back, and gives both as text with the schema they came back with.
fn round_trip(sql: &str) -> (String, String, Schema) {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let direct = context().sql(sql).await.unwrap();
        let planned = stored_schema(direct.schema().as_arrow()).unwrap();
        let schema = std::sync::Arc::new(direct.schema().as_arrow().clone());
        let direct = concat_batches(&schema, &direct.collect().await.unwrap()).unwrap();
        write(&warehouse, "things", "f1", sql).await.unwrap();
        let stored = read(&warehouse, "things", "f1", "select * from t").await;
        assert_eq!(
            planned.fields(),
            stored.schema().fields(),
            "stored_schema() is the schema that is read back"
        );
        (
            table_of(&direct),
            table_of(&stored),
            stored.schema().as_ref().clone(),
        )
    })
}

fn type_of(schema: &Schema, column: &str) -> DataType {
    schema.field_with_name(column).unwrap().data_type().clone()
}

fn environment(name: &str, fingerprint: &str) -> Environment {
    let table = Relation::Table {
        fingerprint: fingerprint.to_string(),
        rows: 1,
        bytes: 1,
        files: 1,
    };
    Environment::new(
        name,
        "2026-01-01T00:00:00Z",
        BTreeMap::from([("things".to_string(), table)]),
    )
}

#[test]
fn plain_types_come_back_as_they_were() {
    let (direct, stored, schema) = round_trip(
        "select * from (values
            (1, true, cast(1 as tinyint), cast(-2 as smallint), cast(3 as int), 1.5, 'a', date '2026-02-28',
             timestamp '2026-02-28T10:11:12.123456', cast('12.30' as decimal(10, 2)), cast(1.25 as float)),
            (null, null, null, null, null, null, null, null, null, null, null),
            (9223372036854775807, false, cast(-128 as tinyint), cast(32767 as smallint), cast(-2147483648 as int),
             -0.0, '', date '0001-01-01', timestamp '1969-12-31T23:59:59.999999', cast('-0.01' as decimal(10, 2)),
             cast(0.1 as float))
        ) as v(l, b, t, s, i, d, w, day, at, money, f)",
    );
    assert_eq!(direct, stored);
    assert_eq!(type_of(&schema, "l"), DataType::Int64);
    assert_eq!(type_of(&schema, "w"), DataType::Utf8View);
    assert_eq!(type_of(&schema, "at").to_string(), "Timestamp(µs)");
    assert_eq!(type_of(&schema, "money"), DataType::Decimal128(10, 2));
}

#[test]
fn a_table_is_one_delta_commit_and_says_how_large_it_is() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let summary = write(
            &warehouse,
            "things",
            "f1",
            "select value as n from generate_series(1, 100000)",
        )
        .await
        .unwrap();
        assert_eq!((summary.rows, summary.files), (100_000, 1));
        assert_eq!(
            warehouse.table_summary("things", "f1").await.unwrap(),
            summary
        );
        let log = warehouse.root().join("relations/things/f1/_delta_log");
        let commits: Vec<_> = std::fs::read_dir(log)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(commits, ["00000000000000000000.json"]);
        assert_eq!(
            std::fs::read_dir(warehouse.root().join("staging"))
                .unwrap()
                .count(),
            0
        );
    });
}

#[test]
fn a_query_without_rows_makes_an_empty_table_with_its_columns() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let summary = write(
            &warehouse,
            "things",
            "f1",
            "select 1 as n, 'a' as w where false",
        )
        .await
        .unwrap();
        assert_eq!(summary, TableSummary::default());
        let rows = read(&warehouse, "things", "f1", "select n, w from t").await;
        assert_eq!((rows.num_rows(), rows.num_columns()), (0, 2));
    });
}

#[test]
fn a_published_environment_is_numbered_and_read_back() {
    let (_folder, warehouse) = warehouse();
    block_on(write(&warehouse, "things", "f1", "select 1 as n")).unwrap();
    assert_eq!(warehouse.environment("dev").unwrap().version, 0);
    let lock = warehouse.lock("dev").unwrap();
    assert_eq!(
        warehouse
            .publish(&lock, environment("dev", "f1"))
            .unwrap()
            .version,
        1
    );
    assert_eq!(
        warehouse
            .publish(&lock, environment("dev", "f1"))
            .unwrap()
            .version,
        2
    );
    let versions: Vec<u64> = warehouse
        .history("dev")
        .unwrap()
        .iter()
        .map(|version| version.version)
        .collect();
    assert_eq!(versions, [1, 2]);
    assert_eq!(
        warehouse.environment("dev").unwrap().relations,
        environment("dev", "f1").relations
    );
    assert_eq!(warehouse.environments().unwrap(), ["dev"]);
}
