//! The statistics as SQL sees them: registration, states that do not depend on how the work is cut, NULLs, missing arms.

use datafusion::arrow::array::{
    Array, AsArray, Float64Array, Int64Array, RecordBatch, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::sql::functions;
use std::sync::Arc;

#[tokio::test]
async fn states_are_the_same_bytes_at_any_thread_count_batch_size_and_order() {
    const QUERY: &str = "select arm, state_agg(y, x) as state from units group by arm order by arm";
    let reference = query(&session(1, 8192, unit_batches(1, false)), QUERY).await;
    for (threads, batch_size, pieces, is_reversed) in [
        (1, 7, 1, true),
        (2, 64, 3, false),
        (4, 1000, 8, true),
        (8, 8192, 40, false),
    ] {
        let other = query(
            &session(threads, batch_size, unit_batches(pieces, is_reversed)),
            QUERY,
        )
        .await;
        assert_eq!(
            reference, other,
            "{threads} threads, batches of {batch_size}, {pieces} pieces, reversed: {is_reversed}"
        );
    }
}

#[tokio::test]
async fn merged_states_are_the_state_of_all_rows() {
    let context = session(4, 100, unit_batches(8, false));
    let merged =
        "with parts as (select arm, day, state_agg(y) as state from units group by arm, day)
                  select arm, state_merge(state) as state from parts group by arm order by arm";
    let whole = "select arm, state_agg(y) as state from units group by arm order by arm";
    let (merged, whole) = (
        states(&context, merged).await,
        states(&context, whole).await,
    );
    for field in ["mean", "min", "max"] {
        assert_eq!(numbers(&merged, field), numbers(&whole, field), "{field}");
    }
    for (merged, whole) in numbers(&merged, "cross_products")
        .iter()
        .zip(numbers(&whole, "cross_products"))
    {
        // The parts were rounded once each.
        assert!((merged / whole - 1.0).abs() < 1e-15, "{merged} {whole}");
    }
}

#[tokio::test]
async fn a_group_too_large_for_partial_aggregation_gives_the_same_state() {
    // Every row its own group first: DataFusion then skips partial aggregation and converts rows to states.
    let config = SessionConfig::new().with_target_partitions(4).set_u64(
        "datafusion.execution.skip_partial_aggregation_probe_rows_threshold",
        1,
    );
    let skipping = SessionContext::new_with_config(config);
    functions::register(&skipping);
    register_units(&skipping, unit_batches(8, false));
    let plain = session(1, 8192, unit_batches(1, false));
    let by_unit = "select unit, state_agg(y) as state from units group by unit order by unit";
    assert_eq!(
        query(&skipping, by_unit).await,
        query(&plain, by_unit).await
    );
}

#[tokio::test]
async fn nulls_follow_the_declared_policy_and_infinities_are_counted() {
    let context = empty_session();
    let rows = "(values (1.0), (null), (3.0), ('NaN'::double)) as rows(v)";
    let table = table(&context, &format!("select get_field(state_agg(v), 'n') as excluded, get_field(state_agg(v), 'nulls') as nulls,
         get_field(state_agg(v), 'non_finite') as non_finite, get_field(state_agg_zero(v), 'n') as with_zero from {rows}")).await;
    insta::assert_snapshot!(table, @r"
    +----------+-------+------------+-----------+
    | excluded | nulls | non_finite | with_zero |
    +----------+-------+------------+-----------+
    | 2        | 1     | 1          | 3         |
    +----------+-------+------------+-----------+
    ");
}

#[tokio::test]
async fn a_null_under_the_policy_fail_fails_the_query_and_says_how_many() {
    let context = empty_session();
    let rows = "(values ('a', 1.0), ('a', null), ('b', 3.0)) as rows(arm, v)";
    for sql in [
        format!("select state_agg_fail(v) from {rows}"),
        format!("select arm, state_agg_fail(v) from {rows} group by arm"),
    ] {
        let frame = context.sql(&sql).await.expect("the query is valid");
        let error = frame.collect().await.expect_err("a value is NULL");
        assert!(
            error
                .to_string()
                .contains("state_agg_fail met a NULL in 1 of "),
            "{error}"
        );
    }
    let good = format!("select get_field(state_agg_fail(v), 'n') as n from {rows} where arm = 'b'");
    assert!(table(&context, &good).await.contains("| 1 |"));
}

#[tokio::test]
async fn a_test_says_why_it_has_no_result() {
    let context = empty_session();
    let table = table(&context, "with arms as (
            select 'ok' as name, state_of(50, 3.0, 1.0) as control
            union all select 'one unit', state_of(1, 3.0, null)
            union all select 'no arm', null
            union all select 'no spread', state_of(50, 3.0, 0.0)
            union all select 'infinite', state_agg(v) from (values (1.0), ('Infinity'::double)) as rows(v)),
        tests as (select name, welch_t(control, state_of(60, 3.0, 0.0)) as test from arms)
        select name, get_field(test, 'status') as status, get_field(test, 'effect') as effect, get_field(test, 'p_two_sided') as p
        from tests order by name").await;
    insta::assert_snapshot!(table, @r"
    +-----------+-------------------+--------+-----+
    | name      | status            | effect | p   |
    +-----------+-------------------+--------+-----+
    | infinite  | non_finite        |        |     |
    | no arm    | one_arm_missing   |        |     |
    | no spread | zero_variance     | 0.0    |     |
    | ok        | ok                | 0.0    | 1.0 |
    | one unit  | insufficient_data | 0.0    |     |
    +-----------+-------------------+--------+-----+
    ");
}

#[tokio::test]
async fn a_wrong_call_says_how_to_call() {
    let context = empty_session();
    for (sql, complaint) in [
        (
            "select welch_t(1.0, 2.0)",
            "`welch_t` takes a state (of state_agg, state_merge or state_of) as `control`, not double",
        ),
        (
            "select welch_t(state_of(1, 2, 3))",
            "`welch_t` is called as welch_t(control, treatment, [alpha]), not with 1 arguments",
        ),
        (
            "select state_agg('a')",
            "`state_agg` takes numbers, not varchar",
        ),
        (
            "select prop_z_pooled(1, 2)",
            "`prop_z_pooled` is called as prop_z_pooled(x1, n1, x2, n2, [alpha])",
        ),
    ] {
        let error = context
            .sql(sql)
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains(complaint), "{sql}: {error}");
    }
}

#[tokio::test]
async fn the_published_example_of_welch_is_reproduced() {
    // R: t.test(extra ~ group, data = sleep): t = -1.8608, df = 17.776, p = 0.07939.
    let context = empty_session();
    let table = table(&context, "with sleep(arm, extra) as (values
            (1, 0.7), (1, -1.6), (1, -0.2), (1, -1.2), (1, -0.1), (1, 3.4), (1, 3.7), (1, 0.8), (1, 0.0), (1, 2.0),
            (2, 1.9), (2, 0.8), (2, 1.1), (2, 0.1), (2, -0.1), (2, 4.4), (2, 5.5), (2, 1.6), (2, 4.6), (2, 3.4)),
        arms as (select state_agg(extra) filter (where arm = 2) as control, state_agg(extra) filter (where arm = 1) as treatment from sleep),
        tests as (select welch_t(control, treatment, 0.05) as test from arms)
        select round(get_field(test, 't'), 4) as t, round(get_field(test, 'df'), 3) as df, round(get_field(test, 'p_two_sided'), 5) as p from tests").await;
    insta::assert_snapshot!(table, @r"
    +---------+--------+---------+
    | t       | df     | p       |
    +---------+--------+---------+
    | -1.8608 | 17.776 | 0.07939 |
    +---------+--------+---------+
    ");
}

fn empty_session() -> SessionContext {
    let context = SessionContext::new();
    functions::register(&context);
    context
}

fn session(threads: usize, batch_size: usize, partitions: Vec<Vec<RecordBatch>>) -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(batch_size);
    let context = SessionContext::new_with_config(config);
    functions::register(&context);
    register_units(&context, partitions);
    context
}

fn register_units(context: &SessionContext, partitions: Vec<Vec<RecordBatch>>) {
    let table = MemTable::try_new(partitions[0][0].schema(), partitions)
        .expect("all batches have one schema");
    context
        .register_table("units", Arc::new(table))
        .expect("the name is free");
}

/// 4,000 units near 1e9, some NULL, cut into so many partitions, forwards or backwards.
fn unit_batches(pieces: usize, is_reversed: bool) -> Vec<Vec<RecordBatch>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("unit", DataType::Int64, false),
        Field::new("arm", DataType::Int64, false),
        Field::new("day", DataType::Int64, false),
        Field::new("y", DataType::Float64, true),
        Field::new("x", DataType::Float64, true),
    ]));
    let mut units: Vec<i64> = (0..4000).collect();
    if is_reversed {
        units.reverse();
    }
    let value = |unit: i64| (unit % 97 != 0).then(|| 1e9 + (unit as f64 * 0.7).sin());
    units
        .chunks(4000 / pieces)
        .map(|piece| {
            let whole = |each: fn(i64) -> i64| {
                Arc::new(piece.iter().map(|unit| each(*unit)).collect::<Int64Array>())
            };
            let y = Arc::new(
                piece
                    .iter()
                    .map(|unit| value(*unit))
                    .collect::<Float64Array>(),
            );
            let x = Arc::new(
                piece
                    .iter()
                    .map(|unit| Some((*unit as f64 * 0.3).cos() * 1e-3))
                    .collect::<Float64Array>(),
            );
            let columns: Vec<Arc<dyn Array>> = vec![
                whole(|unit| unit),
                whole(|unit| unit % 3),
                whole(|unit| unit % 14),
                y,
                x,
            ];
            vec![RecordBatch::try_new(schema.clone(), columns).expect("the columns fit the schema")]
        })
        .collect()
}

async fn query(context: &SessionContext, sql: &str) -> RecordBatch {
    let frame = context.sql(sql).await.expect("the query is valid");
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.expect("the query runs");
    datafusion::arrow::compute::concat_batches(&schema, &batches)
        .expect("all batches have one schema")
}

async fn table(context: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&[query(context, sql).await])
        .expect("batches can be printed")
        .to_string()
}

async fn states(context: &SessionContext, sql: &str) -> StructArray {
    query(context, sql)
        .await
        .column_by_name("state")
        .expect("the query has a state")
        .as_struct()
        .clone()
}

fn numbers(states: &StructArray, field: &str) -> Vec<f64> {
    let lists = states
        .column_by_name(field)
        .expect("states have this field")
        .as_list::<i32>();
    assert_eq!(
        states
            .column_by_name("n")
            .map(|n| n.as_primitive::<Int64Type>().null_count()),
        Some(0)
    );
    lists
        .values()
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}
