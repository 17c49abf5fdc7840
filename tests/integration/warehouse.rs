//! The warehouse: what is written comes back, one publish is one step, and no death of a process loses what was published.

use datafusion::arrow::array::{
    ArrayRef, Date64Array, DictionaryArray, DurationSecondArray, FixedSizeBinaryArray,
    Float64Array, LargeListArray, LargeStringArray, RecordBatch, Time64MicrosecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Int32Type, Schema, UInt32Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::warehouse::{
    Environment, Keep, LockError, Relation, TableSummary, Warehouse, WarehouseError, stored_schema,
};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
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
    let schema = Arc::new(frame.schema().as_arrow().clone());
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
        let schema = Arc::new(direct.schema().as_arrow().clone());
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

/// A one-batch stream of these columns.
fn stream_of(columns: Vec<(&str, ArrayRef)>) -> SendableRecordBatchStream {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = batch.schema();
    Box::pin(RecordBatchStreamAdapter::new(
        schema,
        futures::stream::iter([Ok(batch)]),
    ))
}

/// Stores the columns and gives them back as text with their types.
fn stored(columns: Vec<(&str, ArrayRef)>) -> Result<(String, Schema), WarehouseError> {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let stream = stream_of(columns);
        let planned = stored_schema(&stream.schema())?;
        warehouse.write_table("things", "f1", stream, &[]).await?;
        let rows = read(&warehouse, "things", "f1", "select * from t").await;
        assert_eq!(planned.fields(), rows.schema().fields());
        Ok((table_of(&rows), rows.schema().as_ref().clone()))
    })
}

fn cells(table: &str) -> Vec<String> {
    let lines = table.lines().skip(3).filter(|line| line.starts_with('|'));
    lines
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[test]
fn types_that_delta_lacks_come_back_as_wider_ones_with_the_same_values() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(i64::MAX as u64), None])),
        ),
        (
            "f16",
            cast(
                &(Arc::new(Float64Array::from(vec![Some(1.5), None])) as ArrayRef),
                &DataType::Float16,
            )
            .unwrap(),
        ),
        (
            "large",
            Arc::new(LargeStringArray::from(vec![Some("x"), None])),
        ),
        (
            "dictionary",
            Arc::new(
                ["y", "z"]
                    .into_iter()
                    .collect::<DictionaryArray<Int32Type>>(),
            ),
        ),
        (
            "bytes",
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8, 2], [3, 4]].iter()).unwrap()),
        ),
        (
            "day",
            Arc::new(Date64Array::from(vec![Some(86_400_000), None])),
        ),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), None])),
        ),
        (
            "zoned",
            Arc::new(
                TimestampNanosecondArray::from(vec![Some(2_000), None])
                    .with_timezone("Europe/Berlin"),
            ),
        ),
        (
            "list",
            Arc::new(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
                Some(vec![Some(7), None]),
                None,
            ])),
        ),
    ];
    let (table, schema) = stored(columns).unwrap();
    assert_eq!(
        cells(&table),
        [
            "9223372036854775807 1.5 x y 0102 1970-01-02 1970-01-01T00:00:00.000001 1970-01-01T00:00:00.000002Z [7, ]",
            "   z 0304    ",
        ]
    );
    let types: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(
        types,
        [
            "Int64",
            "Float32",
            "Utf8View",
            "Utf8View",
            "BinaryView",
            "Date32",
            "Timestamp(µs)",
            "Timestamp(µs, \"UTC\")",
            "List(Int64, field: 'element')",
        ]
    );
}

#[test]
fn nested_values_and_nulls_come_back_as_they_were() {
    let (direct, stored, _) = round_trip(
        "select 1 as n, named_struct('a', 1, 'b', 'x', 'c', make_array('p', 'q')) as s, make_array(make_array(1, 2), make_array(3)) as l,
            map {'k': 1.5, 'j': null} as m, null as nothing
         union all select 2, null, null, null, null
         union all select 3, named_struct('a', null, 'b', null, 'c', make_array(null)), make_array(null), map {}, null
         order by n",
    );
    assert_eq!(direct, stored);
}

#[test]
fn not_a_number_and_infinity_are_kept_and_found_by_filters() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let sql = "select column1 as x from (values (1.0), (cast('NaN' as double)), (cast('inf' as double)), (cast('-inf' as double)))";
        write(&warehouse, "things", "f1", sql).await.unwrap();
        let memory = context();
        memory
            .sql(&format!("create table t as {sql}"))
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        for filter in [
            "true",
            "x > 5",
            "x < 0",
            "x = cast('NaN' as double)",
            "isnan(x)",
            "x > cast('inf' as double)",
            "x <> 1",
        ] {
            let sql = format!("select x from t where {filter} order by x");
            let expected = memory.sql(&sql).await.unwrap().collect().await.unwrap();
            let expected = pretty_format_batches(&expected).unwrap().to_string();
            let found = table_of(&read(&warehouse, "things", "f1", &sql).await);
            assert_eq!(cells(&found), cells(&expected), "{filter}");
        }
    });
}

#[test]
fn what_cannot_be_stored_is_refused_in_plain_words() {
    let error = |columns| stored(columns).unwrap_err().to_string();
    let (time, duration): (ArrayRef, ArrayRef) = (
        Arc::new(Time64MicrosecondArray::from(vec![1])),
        Arc::new(DurationSecondArray::from(vec![1])),
    );
    assert_eq!(
        error(vec![("at", time), ("took", duration)]),
        "column `at` has the type Time64(µs), which a Delta table cannot hold (cast it to `varchar`, or keep a timestamp); \
         column `took` has the type Duration(s), which a Delta table cannot hold (store a number of seconds or days instead)"
    );
    let one: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert!(
        error(vec![("n", one.clone())])
            .starts_with("a value of column `n` cannot be stored as Int64: ")
    );
    assert_eq!(
        error(vec![
            ("count(*)", one.clone()),
            ("a b", one.clone()),
            ("A", one.clone()),
            ("a", one.clone()),
            ("", one)
        ]),
        "the column name `count(*)` contains `(` (name the expression with `as`, using letters, digits and underscores); \
         the column name `a b` contains a space (name the expression with `as`, using letters, digits and underscores); \
         the column names `A` and `a` differ only in case (rename one of them with `as`); \
         a column has an empty name (name it with `as`)"
    );
    let nothing = stored_schema(&Schema::empty()).unwrap_err().to_string();
    assert_eq!(
        nothing,
        "the query has no columns (select at least one column)"
    );
}

#[test]
fn odd_names_that_delta_allows_are_kept() {
    let (direct, stored, _) = round_trip(
        "select 1 as \"größe\", 2 as \"Upper\", 3 as \"a.b\", 4 as \"x%y/z\", 5 as \"select\"",
    );
    assert_eq!(direct, stored);
}

#[test]
fn a_failing_query_leaves_no_table_and_says_that_the_query_failed() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let sql = "select 10 / (value - 90000) as n from generate_series(1, 100000)";
        let error = write(&warehouse, "things", "f1", sql).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Query(_)), "{error}");
        assert!(!warehouse.has_table("things", "f1").await.unwrap());
        assert_eq!(staged(&warehouse), 0);
        write(&warehouse, "things", "f1", "select 1 as n")
            .await
            .unwrap();
    });
}

fn staged(warehouse: &Warehouse) -> usize {
    std::fs::read_dir(warehouse.root().join("staging"))
        .unwrap()
        .count()
}

#[test]
fn partitions_keep_their_values_and_the_order_of_rows() {
    let (_folder, warehouse) = warehouse();
    let partition_by = ["day", "bucket", "w", "b"].map(str::to_string);
    let sql = "select value as n, case when value % 7 > 0 then date '2026-01-01' + cast(value % 3 as int) end as day, value % 2 as bucket,
        case value % 3 when 0 then 'a/b=c d%20ü' when 1 then '2026' end as w, value % 5 = 0 as b
        from generate_series(1, 20000) order by value";
    block_on(async {
        let summary = warehouse
            .write_table("things", "f1", query(sql).await, &partition_by)
            .await
            .unwrap();
        assert_eq!(summary.rows, 20_000);
        let stored = read(
            &warehouse,
            "things",
            "f1",
            "select n, day, bucket, w, b from t order by n",
        )
        .await;
        let direct = context().sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(
            table_of(&stored),
            pretty_format_batches(&direct).unwrap().to_string()
        );
        for file in data_files(&warehouse.root().join("relations/things/f1")) {
            let context = context();
            context
                .register_parquet("f", file.to_str().unwrap(), Default::default())
                .await
                .unwrap();
            let sql =
                "select count(*) from (select n, lag(n) over () as before from f) where before > n";
            let unsorted = context.sql(sql).await.unwrap().collect().await.unwrap();
            assert_eq!(
                cells(&pretty_format_batches(&unsorted).unwrap().to_string()),
                ["0"],
                "{}",
                file.display()
            );
        }
    });
}

fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(data_files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            files.push(path);
        }
    }
    files
}

#[test]
fn partition_columns_that_would_lose_rows_are_refused() {
    let (_folder, warehouse) = warehouse();
    let error = |sql: &'static str, partition_by: &[&str]| {
        let partition_by: Vec<String> = partition_by.iter().map(ToString::to_string).collect();
        block_on(async {
            warehouse
                .write_table("things", "f1", query(sql).await, &partition_by)
                .await
                .unwrap_err()
                .to_string()
        })
    };
    assert_eq!(
        error("select 1 as n, 1.5 as x", &["x", "y", "n", "n"]),
        "a table cannot be partitioned by `x`, which has the type Float64 (partition by dates, strings, whole numbers or booleans); \
         there is no column `y` to partition by (name a column of the query); \
         `n` is named twice in the list of partition columns (name it once); \
         all columns are partition columns (leave at least one column that is stored in the files)"
    );
    assert_eq!(
        error("select 1 as n, '' as w", &["w"]),
        "a value of column `w` cannot be stored as partition value: an empty string would come back as null; use `nullif` or another text"
    );
}

#[test]
fn names_that_are_no_folder_names_are_refused() {
    let (_folder, warehouse) = warehouse();
    for name in ["", "../up", "a/b", ".hidden", "a b", "a\0b"] {
        let error = block_on(warehouse.has_table(name, "f1")).unwrap_err();
        assert!(matches!(error, WarehouseError::Name { .. }), "{error}");
        assert!(warehouse.environment(name).is_err());
    }
}

#[test]
fn a_missing_table_and_a_missing_version_are_named() {
    let (_folder, warehouse) = warehouse();
    let error = block_on(warehouse.open_table("things", "f1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the warehouse has no table `things` with fingerprint f1"
    );
    let lock = warehouse.lock("dev").unwrap();
    assert!(matches!(
        warehouse.publish(&lock, environment("dev", "f1")),
        Err(WarehouseError::Missing { .. })
    ));
    let error = warehouse
        .rollback(&lock, 3, "2026-01-01T00:00:00Z")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment `dev` has no version 3; it was never published"
    );
    let error = warehouse
        .publish(&lock, environment("prod", "f1"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the lock is for environment `dev`, not for `prod`"
    );
}

#[test]
fn a_second_build_is_refused_with_the_name_of_the_first() {
    let (_folder, warehouse) = warehouse();
    let lock = warehouse.lock("dev").unwrap();
    let Err(LockError::Held {
        holder: Some(holder),
        ..
    }) = warehouse.lock("dev")
    else {
        panic!("the lock is held")
    };
    assert_eq!(holder.pid, std::process::id());
    assert!(
        warehouse.lock("prod").is_ok(),
        "another environment is free"
    );
    drop(lock);
    assert!(warehouse.lock("dev").is_ok());
}

#[test]
fn rollback_publishes_an_earlier_version_again() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        for fingerprint in ["f1", "f2"] {
            write(&warehouse, "things", fingerprint, "select 1 as n")
                .await
                .unwrap();
        }
    });
    let lock = warehouse.lock("dev").unwrap();
    warehouse.publish(&lock, environment("dev", "f1")).unwrap();
    warehouse.publish(&lock, environment("dev", "f2")).unwrap();
    let back = warehouse
        .rollback(&lock, 1, "2026-02-01T00:00:00Z")
        .unwrap();
    assert_eq!(
        (back.version, back.published_at.as_str()),
        (3, "2026-02-01T00:00:00Z")
    );
    assert_eq!(back.relations["things"].fingerprint(), "f1");
    assert_eq!(warehouse.history("dev").unwrap().len(), 3);
}

#[test]
fn an_environment_of_a_newer_format_is_not_guessed_at() {
    let (_folder, warehouse) = warehouse();
    std::fs::write(
        warehouse.root().join("environments/dev.json"),
        "{\"format\": 2, \"new\": true}",
    )
    .unwrap();
    let error = warehouse.environment("dev").unwrap_err().to_string();
    assert!(
        error.ends_with("is damaged: it has format 2, this program knows format 1"),
        "{error}"
    );
    std::fs::write(warehouse.root().join("environments/dev.json"), "").unwrap();
    assert!(matches!(
        warehouse.environment("dev"),
        Err(WarehouseError::Damaged { .. })
    ));
}

#[test]
fn vacuum_removes_what_no_kept_version_names() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        for fingerprint in ["f1", "f2", "f3", "f4"] {
            write(&warehouse, "things", fingerprint, "select 1 as n")
                .await
                .unwrap();
        }
        let lock = warehouse.lock("dev").unwrap();
        for fingerprint in ["f1", "f2", "f3"] {
            warehouse
                .publish(&lock, environment("dev", fingerprint))
                .unwrap();
        }
        drop(lock);
        let report = warehouse.vacuum(Keep::Versions(2)).await.unwrap();
        assert_eq!(
            (report.versions, report.tables, report.unfinished),
            (1, 2, 0)
        );
        assert!(report.bytes > 0);
        assert_eq!(kept(&warehouse), ["f2", "f3"]);
        let lock = warehouse.lock("dev").unwrap();
        let error = warehouse
            .rollback(&lock, 1, "2026-02-01T00:00:00Z")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "environment `dev` has no version 1; known: 2 to 3");
        drop(lock);
        warehouse.vacuum(Keep::Versions(0)).await.unwrap();
        assert_eq!(kept(&warehouse), ["f3"], "the current version always stays");
        assert_eq!(
            warehouse.vacuum(Keep::Versions(1)).await.unwrap(),
            Default::default()
        );
    });
}

#[test]
fn vacuum_by_age_counts_from_the_time_of_publishing() {
    let (_folder, warehouse) = warehouse();
    let lock = warehouse.lock("dev").unwrap();
    for (fingerprint, day) in [("f1", 1), ("f2", 2), ("f3", 3)] {
        block_on(write(&warehouse, "things", fingerprint, "select 1 as n")).unwrap();
        let published_at = format!("2026-01-0{day}T00:00:00Z");
        warehouse
            .publish(
                &lock,
                Environment {
                    published_at,
                    ..environment("dev", fingerprint)
                },
            )
            .unwrap();
    }
    drop(lock);
    let noon_of_the_third = 1_767_441_600;
    let day_and_a_half = std::time::Duration::from_secs(36 * 3600);
    block_on(warehouse.vacuum(Keep::age(day_and_a_half, noon_of_the_third))).unwrap();
    assert_eq!(kept(&warehouse), ["f2", "f3"]);
}

#[test]
fn vacuum_spares_what_a_running_build_has_made_or_found() {
    let (_folder, warehouse) = warehouse();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    block_on(async {
        for fingerprint in ["unused", "found"] {
            write(&warehouse, "things", fingerprint, "select 1 as n")
                .await
                .unwrap();
            let folder =
                std::fs::File::open(warehouse.root().join("relations/things").join(fingerprint))
                    .unwrap();
            folder.set_modified(old).unwrap();
        }
        let lock = warehouse.lock("dev").unwrap();
        assert!(warehouse.has_table("things", "found").await.unwrap());
        write(&warehouse, "things", "made", "select 1 as n")
            .await
            .unwrap();
        warehouse.vacuum(Keep::Versions(1)).await.unwrap();
        assert_eq!(kept(&warehouse), ["found", "made"]);
        drop(lock);
        warehouse.vacuum(Keep::Versions(1)).await.unwrap();
        assert!(kept(&warehouse).is_empty());
    });
}

#[test]
fn vacuum_spares_what_a_reader_has_pinned() {
    let (_folder, warehouse) = warehouse();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let publish = |fingerprint: &str| {
        block_on(write(&warehouse, "things", fingerprint, "select 1 as n")).unwrap();
        let lock = warehouse.lock("dev").unwrap();
        warehouse
            .publish(&lock, environment("dev", fingerprint))
            .unwrap();
    };
    publish("f1");
    let f1 = std::fs::File::open(warehouse.root().join("relations/things/f1")).unwrap();
    f1.set_modified(old).unwrap();
    let (published, pin) = warehouse.pin("dev").unwrap();
    assert!(pin.is_some() && published.version == 1);
    for newer in ["f2", "f3"] {
        publish(newer);
    }
    let report = block_on(warehouse.vacuum(Keep::Versions(1))).unwrap();
    assert_eq!(report.versions, 2, "the reader needs tables, not versions");
    assert!(kept(&warehouse).contains(&"f1".to_string()));
    let rows = block_on(read(&warehouse, "things", "f1", "select * from t"));
    assert_eq!(rows.num_rows(), 1);

    drop(pin);
    // As a reader leaves it that is killed.
    std::fs::write(warehouse.root().join("readers/dead.lock"), "").unwrap();
    block_on(warehouse.vacuum(Keep::Versions(1))).unwrap();
    assert_eq!(kept(&warehouse), ["f3"]);
    let readers = std::fs::read_dir(warehouse.root().join("readers")).unwrap();
    assert_eq!(readers.count(), 0);
}

/// As a copy that left folders out, or somebody's hand, makes it.
#[test]
fn a_table_that_lost_its_log_is_no_table_and_is_built_again() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        write(&warehouse, "things", "f1", "select 1 as n")
            .await
            .unwrap();
        let table = warehouse.root().join("relations/things/f1");
        std::fs::remove_dir_all(table.join("_delta_log")).unwrap();
        write(&warehouse, "things", "f1", "select 2 as n")
            .await
            .unwrap();
        let rows = read(&warehouse, "things", "f1", "select n from t").await;
        assert_eq!(rows.num_rows(), 1);
        assert_eq!(warehouse.damaged_file("things", "f1").await.unwrap(), None);
        warehouse.vacuum(Keep::Versions(1)).await.unwrap();
        assert_eq!(staged(&warehouse), 0, "what was moved away is gone");
    });
}

fn kept(warehouse: &Warehouse) -> Vec<String> {
    let entries = std::fs::read_dir(warehouse.root().join("relations/things")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn many_writers_of_one_table_agree_on_the_first() {
    let (_folder, warehouse) = warehouse();
    block_on(async {
        let writers = (0..8).map(|_| {
            write(
                &warehouse,
                "things",
                "f1",
                "select value as n from generate_series(1, 1000)",
            )
        });
        for summary in futures::future::join_all(writers).await {
            assert_eq!(summary.unwrap().rows, 1000);
        }
        assert_eq!(staged(&warehouse), 0);
        let sum = read(&warehouse, "things", "f1", "select sum(n) from t").await;
        assert_eq!(cells(&table_of(&sum)), ["500500"]);
    });
}

/// The other processes of these tests: this very test binary, told what to do by its environment.
const CHILD: &str = "EQUIPOISE_TEST_WAREHOUSE_CHILD";

struct Child {
    process: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Child {
    fn start(task: &str, root: &Path) -> Child {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "warehouse::another_process",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, task)
            .env("EQUIPOISE_TEST_WAREHOUSE_ROOT", root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Child { process, lines }
    }

    /// The next thing the child says.
    fn says(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("child: ")?.1.to_string()))
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "started by other tests, which kill it"]
fn another_process() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let warehouse = Warehouse::open(Path::new(
        &std::env::var("EQUIPOISE_TEST_WAREHOUSE_ROOT").unwrap(),
    ))
    .unwrap();
    match task.as_str() {
        "publish" => publish_for_ever(&warehouse),
        "write" => write_for_ever(&warehouse),
        "race" => {
            let sql = "select value as n from generate_series(1, 50000)";
            println!(
                "child: {}",
                block_on(write(&warehouse, "things", "race", sql))
                    .unwrap()
                    .rows
            );
        }
        other => panic!("no task {other}"),
    }
}

/// Each version says with its only row which version it is.
fn publish_for_ever(warehouse: &Warehouse) {
    let lock = warehouse.lock("dev").unwrap();
    loop {
        let version = warehouse.environment("dev").unwrap().version + 1;
        let fingerprint = format!("v{version}");
        block_on(write(
            warehouse,
            "things",
            &fingerprint,
            &format!("select {version} as n"),
        ))
        .unwrap();
        warehouse
            .publish(&lock, environment("dev", &fingerprint))
            .unwrap();
        println!("child: {version}");
    }
}

fn write_for_ever(warehouse: &Warehouse) {
    let batch = RecordBatch::try_from_iter([(
        "n",
        Arc::new(UInt64Array::from_iter_values(0..100_000)) as ArrayRef,
    )])
    .unwrap();
    let schema = batch.schema();
    let batches = futures::stream::iter(0..).map(move |number| {
        println!("child: {number}");
        Ok(batch.clone())
    });
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, batches));
    block_on(warehouse.write_table("things", "endless", stream, &[])).unwrap();
}

/// A version and the one number its table holds, which must be the same.
fn published_number(warehouse: &Warehouse) -> u64 {
    let environment = warehouse.environment("dev").unwrap();
    if environment.version == 0 {
        return 0;
    }
    let fingerprint = environment.relations["things"].fingerprint();
    let rows = block_on(read(warehouse, "things", fingerprint, "select n from t"));
    assert_eq!(cells(&table_of(&rows)), [environment.version.to_string()]);
    environment.version
}

#[test]
fn killed_while_it_publishes_a_build_leaves_the_last_version_and_the_next_build_works() {
    let (_folder, warehouse) = warehouse();
    let mut version = 0;
    // Reading in between makes the moment of the kill vary, and sees every state that a reader can see.
    for reads in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377] {
        let mut child = Child::start("publish", warehouse.root());
        let said: u64 = child.says().expect("the child publishes").parse().unwrap();
        let mut seen = said;
        for _ in 0..reads {
            let next = warehouse.environment("dev").unwrap().version;
            assert!(next >= seen, "versions only grow");
            seen = next;
        }
        child.kill();
        let after = published_number(&warehouse);
        assert!(
            said > version && after >= seen,
            "{version} {said} {seen} {after}"
        );
        assert_eq!(warehouse.history("dev").unwrap().len() as u64, after);
        version = after;
    }
    let lock = warehouse
        .lock("dev")
        .expect("a killed process holds no lock");
    block_on(write(&warehouse, "things", "last", "select 1 as n")).unwrap();
    assert_eq!(
        warehouse
            .publish(&lock, environment("dev", "last"))
            .unwrap()
            .version,
        version + 1
    );
    drop(lock);
    block_on(warehouse.vacuum(Keep::Versions(1))).unwrap();
    assert_eq!(
        (kept(&warehouse), staged(&warehouse)),
        (vec!["last".to_string()], 0)
    );
}

#[test]
fn killed_while_it_writes_a_table_a_build_leaves_none_and_the_next_build_writes_it() {
    let (_folder, warehouse) = warehouse();
    let lock = warehouse.lock("dev").unwrap();
    block_on(write(&warehouse, "things", "v1", "select 1 as n")).unwrap();
    warehouse.publish(&lock, environment("dev", "v1")).unwrap();
    drop(lock);
    for batches in [1, 2, 3, 10, 30] {
        let mut child = Child::start("write", warehouse.root());
        for _ in 0..batches {
            child.says().expect("the child writes");
        }
        assert!(!block_on(warehouse.has_table("things", "endless")).unwrap());
        child.kill();
        assert!(!block_on(warehouse.has_table("things", "endless")).unwrap());
        assert_eq!(published_number(&warehouse), 1);
    }
    let report = block_on(warehouse.vacuum(Keep::Versions(1))).unwrap();
    assert_eq!((report.unfinished, staged(&warehouse)), (5, 0));
    block_on(write(&warehouse, "things", "endless", "select 1 as n")).unwrap();
}

#[test]
fn vacuum_leaves_the_unfinished_table_of_a_living_process_alone() {
    let (_folder, warehouse) = warehouse();
    let mut child = Child::start("write", warehouse.root());
    child.says().expect("the child writes");
    let report = block_on(warehouse.vacuum(Keep::Versions(1))).unwrap();
    assert_eq!((report.unfinished, staged(&warehouse)), (0, 2));
    child.says().expect("the child goes on writing");
    child.kill();
    assert_eq!(
        block_on(warehouse.vacuum(Keep::Versions(1)))
            .unwrap()
            .unfinished,
        1
    );
}

#[test]
fn processes_that_write_the_same_table_agree_on_the_first() {
    let (_folder, warehouse) = warehouse();
    let children: Vec<Child> = (0..3)
        .map(|_| Child::start("race", warehouse.root()))
        .collect();
    for mut child in children {
        assert_eq!(child.says().as_deref(), Some("50000"));
        assert!(child.process.wait().unwrap().success());
    }
    assert_eq!(
        block_on(warehouse.table_summary("things", "race"))
            .unwrap()
            .rows,
        50_000
    );
    assert_eq!(staged(&warehouse), 0);
}

#[test]
fn a_second_process_is_refused_while_the_first_builds() {
    let (_folder, warehouse) = warehouse();
    let mut child = Child::start("publish", warehouse.root());
    child.says().expect("the child publishes");
    let error = warehouse.lock("dev").unwrap_err().to_string();
    let expected = format!(
        "environment `dev` is being built by another process (pid {}, since ",
        child.process.id()
    );
    assert!(error.starts_with(&expected), "{error}");
    child.kill();
    assert!(warehouse.lock("dev").is_ok());
}

#[test]
fn a_full_disk_is_named_and_leaves_the_last_version() {
    let Some(disk) = super::full_disk::TinyDisk::mount() else {
        return;
    };
    let warehouse = Warehouse::open(&disk.path().join("warehouse")).unwrap();
    let lock = warehouse.lock("dev").unwrap();
    block_on(write(&warehouse, "things", "v1", "select 1 as n")).unwrap();
    warehouse.publish(&lock, environment("dev", "v1")).unwrap();

    // Written as one object, and in parts.
    for rows in [200_000, 500_000] {
        let sql =
            format!("select md5(cast(value as varchar)) as w from generate_series(1, {rows})");
        let error = block_on(write(&warehouse, "things", "large", &sql)).unwrap_err();
        assert!(
            matches!(error, WarehouseError::DiskFull { .. }),
            "{error:?}"
        );
        assert_eq!((staged(&warehouse), published_number(&warehouse)), (0, 1));
    }

    block_on(write(&warehouse, "things", "v2", "select 2 as n")).unwrap();
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    assert_eq!(warehouse.pin("dev").unwrap().0.version, 1);
    let error = warehouse
        .publish(&lock, environment("dev", "v2"))
        .unwrap_err();
    assert!(
        matches!(error, WarehouseError::DiskFull { .. }),
        "{error:?}"
    );
    assert_eq!(
        (
            published_number(&warehouse),
            warehouse.history("dev").unwrap().len()
        ),
        (1, 1)
    );

    std::fs::remove_file(filler).unwrap();
    assert_eq!(
        warehouse
            .publish(&lock, environment("dev", "v2"))
            .unwrap()
            .version,
        2
    );
    assert_eq!(published_number(&warehouse), 2);
}

#[test]
fn the_python_package_reads_the_same_rows() {
    let (_folder, warehouse) = warehouse();
    let sql = "select value as n, value * 1.5 as x, 'ü' || value as w, value % 2 = 0 as b, date '2026-01-01' + cast(value as int) as day,
        timestamp '2026-01-01T00:00:00.000001' as at, cast(value as decimal(9, 2)) as d, make_array(value, null) as l,
        named_struct('a', value) as s, case when value > 1 then value end as bucket, null as nothing
        from generate_series(1, 3)";
    block_on(async {
        warehouse
            .write_table("things", "f1", query(sql).await, &["bucket".to_string()])
            .await
            .unwrap()
    });
    let script = "import sys\ntry:\n    from deltalake import DeltaTable\n    import pyarrow\nexcept ImportError as error:\n    sys.exit(f'skipped: {error}')\n\
        table = DeltaTable(sys.argv[1])\nassert table.version() == 0\n\
        for row in sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row['n']):\n    print(*row.values(), sep='|')";
    let table = warehouse.root().join("relations/things/f1");
    let output = match Command::new("python3")
        .args(["-c", script])
        .arg(table)
        .output()
    {
        Ok(output) => output,
        Err(error) => return println!("skipped: python3 cannot be started: {error}"),
    };
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if error.starts_with("skipped: ") {
        return println!("{error}");
    }
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "1|1.5|ü1|False|2026-01-02|2026-01-01 00:00:00.000001|1.00|[1, None]|{'a': 1}|None|None",
            "2|3.0|ü2|True|2026-01-03|2026-01-01 00:00:00.000001|2.00|[2, None]|{'a': 2}|2|None",
            "3|4.5|ü3|False|2026-01-04|2026-01-01 00:00:00.000001|3.00|[3, None]|{'a': 3}|3|None",
        ],
        "{error}"
    );
}
