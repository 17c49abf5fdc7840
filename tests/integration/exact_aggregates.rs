//! `sum`, `avg`, `var`, `stddev`, `corr` and their kin of doubles have the same bits whatever the order of rows, the number of threads and the way in which groups are merged.

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::sql::functions;
use equipoise::stats::exact_sum::ExactSum;
use equipoise::stats::random::Stream;
use equipoise::stats::state::State;
use std::sync::Arc;

use crate::runtime;

#[derive(Clone, Copy)]
struct Row {
    group: i64,
    value: Option<f64>,
    is_kept: bool,
}

/// Numbers of very different sizes, most of the large ones cancelled by others, so that sums as they come have hardly a right digit.
fn hostile_rows() -> Vec<Row> {
    let mut random = Stream::new(11);
    let mut rows = Vec::new();
    for number in 0..3_000 {
        let value = (random.uniform() - 0.5) * 10f64.powi((random.uniform() * 60.0) as i32 - 30);
        let row = Row {
            group: number % 7,
            value: (number % 11 != 0).then_some(value),
            is_kept: random.uniform() < 0.6,
        };
        rows.push(row);
        if number % 3 > 0 {
            let value = row.value.map(|value| -value);
            rows.push(Row { value, ..row });
        }
    }
    // The order is no longer that of pairs.
    for at in (1..rows.len()).rev() {
        rows.swap(at, random.below(at as u64 + 1) as usize);
    }
    rows
}

/// Rows cut into so many partitions of batches of some rows.
fn session(rows: &[Row], threads: usize, length: usize) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(length);
    // Groups that repeat seldom are handed on as they are, after so many rows.
    let execution = &mut config.options_mut().execution;
    execution.skip_partial_aggregation_probe_rows_threshold = 200;
    execution.skip_partial_aggregation_probe_ratio_threshold = 0.1;
    let context = SessionContext::new_with_config(config);
    functions::register(&context);
    let batches: Vec<RecordBatch> = rows.chunks(length).map(batch).collect();
    let schema = batches[0].schema();
    let partitions = batches.chunks(batches.len().div_ceil(threads));
    let table = MemTable::try_new(schema, partitions.map(<[_]>::to_vec).collect());
    context
        .register_table("given", Arc::new(table.expect("batches of one schema")))
        .expect("a new name");
    context
}

fn batch(rows: &[Row]) -> RecordBatch {
    let of = |number: fn(&Row) -> i64| rows.iter().map(number).collect::<Int64Array>();
    let values = rows.iter().map(|row| row.value);
    let kept = rows.iter().map(|row| Some(row.is_kept));
    RecordBatch::try_from_iter_with_nullable([
        ("place", Arc::new(of(|row| row.group)) as ArrayRef, false),
        ("value", Arc::new(values.collect::<Float64Array>()), true),
        ("is_kept", Arc::new(kept.collect::<BooleanArray>()), true),
    ])
    .expect("columns of one length")
}

/// The last column of the answer, in its order: bits of doubles, or none.
fn bits(context: &SessionContext, query: &str) -> Vec<Option<u64>> {
    let batches = runtime().block_on(async {
        let answer = context.sql(query).await.expect(query);
        answer.collect().await.expect(query)
    });
    let of_batch = |batch: &RecordBatch| {
        let column = batch.column(batch.num_columns() - 1);
        let doubles = column.as_primitive::<Float64Type>().iter();
        doubles
            .map(|value| value.map(f64::to_bits))
            .collect::<Vec<_>>()
    };
    batches.iter().flat_map(of_batch).collect()
}

#[test]
fn sums_have_the_same_bits_however_the_work_is_cut() {
    let rows = hostile_rows();
    let mut reversed = rows.clone();
    reversed.reverse();
    let one = session(&rows, 1, 8_192);
    for query in [
        "select sum(value) from given",
        "select avg(value) from given",
        "select mean(value) from given where is_kept",
        "select place, sum(value) from given group by place order by place",
        "select place, avg(value) from given group by place order by place",
        "select place, sum(value) filter (where is_kept) from given group by place order by place",
        "select abs(value) as size, sum(value) from given group by abs(value) order by size",
        "select place, sum(distinct round(value, 3)) from given group by place order by place",
        "select place, sum(distinct round(value, 3)) + count(distinct is_kept) from given group by place order by place",
        "select avg(distinct round(value, 3)) from given",
        "select place, sum(value) from given group by grouping sets ((place), ()) order by place",
        "select place, sum(sum(value)) over (order by place) from given group by place order by place",
        "select stddev(value) from given",
        "select place, var_samp(value) filter (where is_kept) from given group by place order by place",
        "select abs(value) as size, var_pop(value) from given group by abs(value) order by size",
        "select place, stddev(distinct round(value, 3)) from given group by place order by place",
        "select place, stddev_pop(value) + var_pop(distinct value) from given group by place order by place",
        "select corr(value, value * value) from given",
        "select place, corr(value, 1e12 + place * value) from given group by place order by place",
        "select place, covar_samp(value, place + value) + covar_pop(place, value) from given group by place order by place",
        "select abs(value) as size, regr_slope(value, size * place) from given, (select 0.1 as size) group by abs(value) order by 1",
        "select place, regr_intercept(value, value + place) + regr_r2(value, abs(value)) from given group by place order by place",
        "select regr_sxx(value, place) + regr_syy(value, place) + regr_sxy(value, place) from given",
        "select place, regr_avgx(value, place) + regr_avgy(place, value) from given group by place order by place",
    ] {
        let expected = bits(&one, query);
        assert!(!expected.is_empty(), "{query}");
        for (rows, threads, length) in [(&rows, 4, 7), (&reversed, 1, 100), (&reversed, 3, 1_000)] {
            let found = bits(&session(rows, threads, length), query);
            assert!(
                found == expected,
                "{query}: {threads} threads, batches of {length}"
            );
        }
    }
}

#[test]
fn sums_are_rounded_once() {
    let rows = hostile_rows();
    let exact = |rows: &mut dyn Iterator<Item = &Row>| {
        let mut sum = ExactSum::default();
        rows.filter_map(|row| row.value)
            .for_each(|value| sum.add(value));
        Some(sum.to_wide().rounded().to_bits())
    };
    let context = session(&rows, 3, 50);
    let all = bits(&context, "select sum(value) from given");
    assert_eq!(all, [exact(&mut rows.iter())]);
    let of_places = "select place, sum(value) from given group by place order by place";
    let expected: Vec<_> = (0..7)
        .map(|place| exact(&mut rows.iter().filter(|row| row.group == place)))
        .collect();
    assert_eq!(bits(&context, of_places), expected);
    // What has passed through a window leaves nothing behind.
    let running = "select number, sum(value) over (order by number rows between 2 preceding and current row)
        from (values (1, 1e20), (2, 0.1), (3, -1e20), (4, 0.2), (5, 0.3), (6, 'NaN'::double), (7, 1), (8, 2), (9, 3)) as given(number, value)
        order by number";
    let found = bits(&context, running).into_iter().flatten();
    let found: Vec<f64> = found.map(f64::from_bits).collect();
    assert_eq!(found[..2], [1e20, 1e20]);
    assert_eq!(found[2..5], [0.1, -1e20, -1e20]);
    assert!(found[5..8].iter().all(|value| value.is_nan()));
    assert_eq!(found[8], 6.0);
}

/// The same as the statistics library makes of them.
#[test]
fn variances_and_correlations_are_those_of_states() {
    let mut random = Stream::new(5);
    let rows: Vec<[f64; 2]> = (0..500)
        .map(|_| [1e9 + random.uniform(), -1e12 + random.uniform() * 1e3])
        .collect();
    let columns = [0, 1].map(|column| rows.iter().map(|row| row[column]).collect::<Vec<_>>());
    let state = State::of_columns(&[&columns[0], &columns[1]]);
    let (yy, xy, xx) = (
        state.cross_product(0, 0),
        state.cross_product(0, 1),
        state.cross_product(1, 1),
    );
    let values: Vec<String> = rows
        .iter()
        .map(|[y, x]| format!("({y:e}, {x:e})"))
        .collect();
    let given = format!("(values {}) as given(y, x)", values.join(", "));
    let context = session(&hostile_rows(), 2, 100);
    for (call, expected) in [
        ("var(y)", yy / 499.0),
        ("var_pop(x)", xx / 500.0),
        ("stddev(x)", (xx / 499.0).sqrt()),
        ("stddev_pop(y)", (yy / 500.0).sqrt()),
        ("covar_samp(y, x)", xy / 499.0),
        ("covar_pop(x, y)", xy / 500.0),
        ("regr_sxx(y, x)", xx),
        ("regr_syy(y, x)", yy),
        ("regr_sxy(y, x)", xy),
        ("regr_slope(y, x)", xy / xx),
    ] {
        for grouped in ["", " group by y > 0"] {
            let found = bits(&context, &format!("select {call} from {given}{grouped}"));
            assert_eq!(found, [Some(expected.to_bits())], "{call}{grouped}");
        }
    }
    for (call, expected) in [
        ("corr(y, x)", xy / (xx * yy).sqrt()),
        ("regr_r2(y, x)", xy / xx * xy / yy),
    ] {
        let found = bits(
            &context,
            &format!("select {call} from {given} group by y > 0"),
        );
        let found = found[0].map(f64::from_bits).expect("both vary");
        assert!((found / expected - 1.0).abs() < 1e-15, "{call}: {found}");
    }
    let query = format!("select corr(y, 2 * y) + corr(x, -x) from {given}");
    assert_eq!(bits(&context, &query), [Some(0f64.to_bits())]);
}

#[test]
fn rows_that_leave_a_window_leave_nothing_in_a_variance() {
    let context = session(&hostile_rows(), 2, 100);
    let running = "select number, {call} over (order by number rows between 2 preceding and current row)
        from (values (1, 1e20), (2, 0.1), (3, 'inf'::double), (4, 2), (5, 4), (6, 6), (7, 9), (8, null)) as given(number, value)
        order by number";
    let last = |call: &str| {
        let found = bits(&context, &running.replace("{call}", call));
        found[5..]
            .iter()
            .map(|bits| bits.map(f64::from_bits))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        last("var_pop(value)"),
        [Some(8.0 / 3.0), Some(38.0 / 9.0), Some(2.25)]
    );
    assert_eq!(last("stddev(value)")[0], Some(2.0));
    assert_eq!(last("corr(value, number)")[0], Some(1.0));
    assert_eq!(
        last("regr_slope(value, number)"),
        [Some(2.0), Some(2.5), Some(3.0)]
    );
}

#[test]
fn pairs_cannot_be_distinct() {
    let context = session(&hostile_rows(), 2, 100);
    let query = "select corr(distinct value, place) from given";
    let found = runtime().block_on(async { context.sql(query).await?.collect().await });
    let message = found
        .expect_err("it would count pairs several times")
        .to_string();
    assert!(
        message.contains("`corr` does not take `distinct`"),
        "{message}"
    );
}

#[test]
fn sums_of_nothing_are_null_and_infinities_add_as_they_should() {
    let context = session(&hostile_rows(), 2, 100);
    let sum = |values: &str| {
        let query = format!("select sum(value::double) from (values {values}) as given(value)");
        bits(&context, &query)[0].map(f64::from_bits)
    };
    assert_eq!(sum("(null)"), None);
    assert_eq!(
        bits(&context, "select avg(value) from given where false"),
        [None]
    );
    assert_eq!(sum("('inf'), ('1')"), Some(f64::INFINITY));
    assert_eq!(sum("('1e308'), ('1e308'), ('-1e308')"), Some(1e308));
    assert!(sum("('inf'), ('-inf')").is_some_and(f64::is_nan));
    assert!(sum("('nan'), (null)").is_some_and(f64::is_nan));
}

#[test]
fn other_types_are_summed_as_before() {
    let context = session(&hostile_rows(), 2, 100);
    let kind = |call: &str| {
        let query = format!(
            "select {call} from (values (1::int, 2.50::decimal(5, 2), 1::float)) as given(whole, price, small)"
        );
        let answer = runtime().block_on(context.sql(&query)).expect("it plans");
        let batches = runtime().block_on(answer.collect()).expect("it runs");
        batches[0].schema().field(0).data_type().clone()
    };
    assert_eq!(kind("sum(whole)"), DataType::Int64);
    assert_eq!(kind("avg(whole)"), DataType::Float64);
    assert_eq!(kind("sum(small)"), DataType::Float64);
    assert_eq!(kind("sum(price)"), DataType::Decimal128(15, 2));
    assert_eq!(kind("avg(price)"), DataType::Decimal128(9, 6));
    assert_eq!(kind("sum(distinct whole)"), DataType::Int64);
}

/// 2^63 - 1 and what brings it back, on several threads.
#[test]
fn sums_of_whole_numbers_do_not_wrap_around() {
    let context = session(&hostile_rows(), 3, 100);
    let answer = |query: &str| {
        runtime().block_on(async {
            let answer = context.sql(query).await.expect(query);
            answer.collect().await
        })
    };
    let given = "(select place, case when place < 3 then 9223372036854775807 else -9223372036854775807 end as number from given where place < 6)";
    let numbers = |query: &str| -> Vec<Option<i64>> {
        let batches = answer(query).expect(query);
        let columns = batches.iter().map(|batch| {
            let column = batch.column(batch.num_columns() - 1);
            column
                .as_primitive::<datafusion::arrow::datatypes::Int64Type>()
                .iter()
                .collect::<Vec<_>>()
        });
        columns.flatten().collect()
    };
    let balanced = format!(
        "select sum(number) from (select *, row_number() over (partition by place) as at from {given}) where at <= 100"
    );
    assert_eq!(numbers(&balanced), [Some(0)]);
    let window = "select n, sum(number) over (order by n rows between 1 preceding and current row) from (values (1, 9223372036854775807), (2, -7), (3, 7), (4, null)) as given(n, number) order by n";
    let most = 9_223_372_036_854_775_807;
    assert_eq!(
        numbers(window),
        [Some(most), Some(most - 7), Some(0), Some(7)]
    );
    let nothing = "select place, sum(cast(null as bigint)) from given group by place";
    assert_eq!(numbers(nothing), [None; 7]);
    for query in [
        format!("select sum(number) from {given}  where place < 3"),
        format!("select place, sum(number) from {given} group by place"),
        "select sum(arrow_cast(number, 'UInt64')) from (values (9223372036854775807), (9223372036854775807), (2)) as given(number)".to_owned(),
    ] {
        let said = answer(&query).expect_err(&query).to_string();
        assert!(
            said.contains("which no `bigint` holds: cast what is summed to `decimal(38, 0)`"),
            "{said}"
        );
    }
}
