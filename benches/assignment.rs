//! How many units a second and core SQL assigns, beside the server's own evaluation and SQL without our functions.
//! `cargo bench --bench assignment`: medians of seven runs on one thread, in CPU time, so that a busy machine counts less.
//! Fails below 5 million units a second for the function `assign` over one allocation.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::flags::context::Value;
use equipoise::flags::sql::{Terms, assignment};
use equipoise::flags::{FlagSet, FlagSource, evaluate, resolve};
use equipoise::sql::functions;

const UNITS: usize = 2_000_000;
const BATCH: usize = 8_192;
const RUNS: usize = 7;
const BAR: f64 = 5e6;

const FLAGS: &str = "
flags:
  - key: f
    type: string
    variants: {control: c, blue: b, green: g}
    default_variant: control
    rules: [{id: r, experiment: e}]
experiments:
  - key: e
    allocations:
      - {id: a, valid_from: 2026-01-01, salt: e.1, weights: {control: 2, blue: 1, green: 1}, ramp: [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100], every: 1d}
";

fn main() {
    let set = set();
    let context = session();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let sql = |query: String| {
        let context = context.clone();
        runtime.block_on(async move {
            let frame = context.sql(&query).await.expect("a query");
            frame.collect().await.expect("rows")
        });
    };
    let allocation = set.experiments[0]
        .allocations
        .last()
        .expect("twenty of them");
    let split = equipoise::flags::set::NamedSplit::of(&set.experiments[0], allocation);
    let assign = format!("assign('md5-mod10000/1', 'e.1', 10000, '{split}', unit)");
    let history = assignment(
        &set,
        &set.experiments[0],
        Terms {
            unit: "unit",
            at: "assigned_at",
            allocation: None,
        },
    );
    let plain = format!("({}) % 10000", digits());
    let cases: Vec<(&str, Box<dyn Fn() + '_>)> = vec![
        ("server: evaluate", Box::new(|| served(&set))),
        (
            "SQL: scan only",
            Box::new(|| sql("select count(unit) from units".into())),
        ),
        (
            "SQL: assign, one allocation",
            Box::new(|| sql(format!("select count({assign}) from units"))),
        ),
        (
            "SQL: assign, in a row of a table",
            Box::new(|| {
                sql(format!(
                    "select count(assign(algorithm, salt, buckets, '{split}', unit)) from units"
                ));
            }),
        ),
        (
            "SQL: assignment(), 20 allocations",
            Box::new(|| sql(format!("select count({history}) from units"))),
        ),
        (
            "SQL: core functions only",
            Box::new(|| {
                sql(format!(
                    "select sum({plain}) from (select md5('e.1-' || unit) as digest from units) as d"
                ))
            }),
        ),
    ];
    println!(
        "{UNITS} units, median CPU time of {RUNS} runs on one thread, DataFusion {}",
        datafusion::DATAFUSION_VERSION
    );
    let mut rates = Vec::new();
    for (name, run) in &cases {
        let rate = UNITS as f64 / median(run);
        rates.push(rate);
        println!(
            "{name:<36} {:>7.2} M units/s  {:>5.2} x the server's evaluation",
            rate / 1e6,
            rate / rates[0]
        );
    }
    assert!(
        rates[2] >= BAR,
        "{:.0} units a second and core, wanted {BAR:.0}",
        rates[2]
    );
}

fn set() -> FlagSet {
    let spec = serde_saphyr::from_str(FLAGS).expect("YAML of the right shape");
    let file = "flags.yml".into();
    let checked = resolve(&[FlagSource { file, spec }]);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    checked.value
}

fn unit(index: usize) -> String {
    format!("user-{index:08}")
}

fn served(set: &FlagSet) {
    let kind = &set.schema.kinds()[0];
    let now = "2026-06-01T00:00:00Z".parse().expect("an instant");
    let mut assigned = 0;
    for index in 0..UNITS {
        let mut context = set.schema.empty_context();
        context.set(kind.slot, Value::Text(unit(index).into()));
        let answer = evaluate(set, "f", &context, now).expect("the unit is known");
        assigned += usize::from(answer.variant.is_some());
    }
    assert_eq!(std::hint::black_box(assigned), UNITS);
}

fn session() -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH);
    let context = SessionContext::new_with_config(config);
    functions::register(&context);
    let batch = |start: usize| {
        let rows = start..(start + BATCH).min(UNITS);
        let texts = |text: &str| Arc::new(StringArray::from(vec![text; rows.len()])) as ArrayRef;
        // Instants over all allocations and some time after.
        let instant =
            |index: usize| 1_767_225_600_000_000 + (index as i64 * 7_919 % 2_000_000) * 1_000_000;
        RecordBatch::try_from_iter([
            (
                "unit",
                Arc::new(
                    rows.clone()
                        .map(|index| Some(unit(index)))
                        .collect::<StringArray>(),
                ) as ArrayRef,
            ),
            ("algorithm", texts("md5-mod10000/1")),
            ("salt", texts("e.1")),
            (
                "buckets",
                Arc::new(Int64Array::from(vec![10_000; rows.len()])) as ArrayRef,
            ),
            (
                "assigned_at",
                Arc::new(
                    rows.map(instant)
                        .map(Some)
                        .collect::<TimestampMicrosecondArray>(),
                ) as ArrayRef,
            ),
        ])
        .expect("the columns have one length")
    };
    let batches: Vec<RecordBatch> = (0..UNITS).step_by(BATCH).map(batch).collect();
    let table = MemTable::try_new(batches[0].schema(), vec![batches]).expect("one schema");
    context
        .register_table("units", Arc::new(table))
        .expect("a free name");
    context
}

fn digits() -> String {
    let digit = |place: u32| {
        let weight = 16_u64.pow(8 - place);
        format!("(strpos('0123456789abcdef', substr(digest, {place}, 1)) - 1) * {weight}")
    };
    (1..=8).map(digit).collect::<Vec<_>>().join(" + ")
}

fn median(run: &dyn Fn()) -> f64 {
    run();
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let before = cpu_seconds();
            run();
            cpu_seconds() - before
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

/// CPU time of this thread, on which everything runs.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says it");
    let nanoseconds = text.split_whitespace().next().expect("three numbers");
    nanoseconds.parse::<f64>().expect("a number") / 1e9
}
