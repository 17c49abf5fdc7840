//! One assignment, four ways: the server's evaluation, the SQL function, SQL without our functions, and DuckDB.
//! And one predicate, two ways: the server's and DataFusion's.
//!
//! `EQUIPOISE_ASSIGNMENT_PAIRS` sets how many (unit, instant) pairs are compared, by default 20,000.

use std::process::Command;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::prelude::SessionContext;
use equipoise::flags::context::Value;
use equipoise::flags::dimensions::{Dimension, dimensions};
use equipoise::flags::set::{Pin, Pins};
use equipoise::flags::targeting::Predicate;
use equipoise::flags::{FlagSet, FlagSource, Schema, evaluate, resolve};
use equipoise::sql::functions;
use serde_json::Value as Json;

/// Core functions only: the first eight hex digits of the MD5 as a number, modulo 10,000. The same text runs in DuckDB.
const PLAIN_SQL: &str = "
with allocated as (
    select p.unit, p.assigned_at, p.served, a.experiment_key, a.allocation_id, md5(a.salt || '-' || p.unit) as digest
    from pairs p join dim_allocations a
      on p.assigned_at >= a.valid_from and (p.assigned_at < a.valid_to or a.valid_to is null)
),
bucketed as (
    select *, ({DIGITS}) % 10000 as bucket from allocated
)
select count(*) as pairs, sum(case when b.served is distinct from r.variant then 1 else 0 end) as mismatches
from bucketed b left join dim_allocation_ranges r
  on r.experiment_key = b.experiment_key and r.allocation_id = b.allocation_id
 and b.bucket >= r.range_start and b.bucket < r.range_end";

const FUNCTION_SQL: &str = "
select count(*) as pairs,
       sum(case when p.served is distinct from assign(a.algorithm, a.salt, a.buckets, a.split, p.unit)
                then 1 else 0 end) as mismatches
from pairs p join dim_allocations a
  on p.assigned_at >= a.valid_from and (p.assigned_at < a.valid_to or a.valid_to is null)";

#[tokio::test(flavor = "multi_thread")]
async fn server_function_plain_sql_and_duckdb_assign_alike() {
    let count: usize = std::env::var("EQUIPOISE_ASSIGNMENT_PAIRS")
        .ok()
        .map_or(20_000, |count| count.parse().unwrap());
    let set = twenty_versions();
    assert_eq!(set.experiments[0].allocations.len(), 20);
    let context = session(&set, served_pairs(&set, count));
    let plain = PLAIN_SQL.replace("{DIGITS}", &digits());
    assert_eq!(counts(&context, FUNCTION_SQL).await, (count as i64, 0));
    assert_eq!(counts(&context, &plain).await, (count as i64, 0));
    match duckdb_counts(&context, &plain).await {
        Some(counts) => assert_eq!(counts, (count as i64, 0)),
        None => println!("skipped DuckDB: no Python with the duckdb package"),
    }
    println!("assignment: {count} pairs over 20 allocation versions, no mismatch");
}

/// Holdout, slots that change hands, ramps, a new phase and kept first assignments: the SQL that templates get gives
/// what the server gave, at every instant.
#[tokio::test]
async fn the_history_of_an_experiment_is_one_sql_expression() {
    use equipoise::flags::sql::{Terms, assignments};
    let spec = serde_saphyr::from_str(HISTORY).expect("YAML of the right shape");
    let checked = resolve(&[FlagSource {
        file: "flags.yml".into(),
        spec,
    }]);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    let set = checked.value;
    let pinned = (0..6_000).step_by(7).map(|user| {
        let variant = if user % 2 == 0 { "a" } else { "b" };
        (
            format!("u{user}").into(),
            Pin {
                variant: variant.into(),
                allocation: "k1".into(),
            },
        )
    });
    let set = set.with_pins(Arc::new(Pins([("kept".into(), pinned.collect())].into())));
    let context = SessionContext::new();
    functions::register(&context);
    let rows = 24_000;
    context
        .register_batch("pairs", logged_pairs(&set, rows))
        .unwrap();
    let terms = Terms {
        unit: "unit",
        at: "assigned_at",
        allocation: Some("allocation"),
    };
    let derived = assignments(&set, "experiment", terms);
    // A kept assignment is what the log says it is: it is not derived from buckets.
    let sql = format!(
        "select count(*), sum(case when (served is distinct from derived) and not is_sticky then 1 else 0 end) \
         from (select *, {derived} as derived from pairs)"
    );
    assert_eq!(counts(&context, &sql).await, (rows as i64, 0));
    let kinds = "select count(distinct experiment), count(distinct coalesce(experiment || served, experiment)) from pairs";
    assert_eq!(
        counts(&context, kinds).await,
        (3, 10),
        "every variant, the holdout and nothing at all occur"
    );
}

const HISTORY: &str = "
holdouts:
  - {key: h, unit: user, salt: h, buckets: {holdout: [[0, 1000]]}, active: {from: 2026-01-20, to: 2026-03-10}}
layers:
  - key: l
    unit: user
    salt: l
    slots:
      - {experiment: ramped, ranges: [[0, 5000]], active: {to: 2026-02-15}}
      - {experiment: second, ranges: [[5000, 9000]]}
      - {experiment: second, ranges: [[0, 2500]], active: {from: 2026-02-15}}
      - {experiment: ramped, ranges: [[2500, 5000]], active: {from: 2026-02-15}}
flags:
  - {key: ramped, type: string, variants: {a: a, b: b}, default_variant: a, rules: [{id: r, experiment: ramped}]}
  - {key: second, type: string, variants: {a: a, b: b}, default_variant: a, rules: [{id: r, experiment: second}]}
  - {key: kept, type: string, variants: {a: a, b: b}, default_variant: a, rules: [{id: r, experiment: kept}]}
experiments:
  - key: ramped
    layer: l
    holdout: h
    allocations:
      - {id: r1, valid_from: 2026-01-10T08:30:00.5Z, salt: ramped.1, weights: {a: 2, b: 1}, ramp: [5, 30, 80], every: 10d}
      - {id: r2, valid_from: 2026-03-01, salt: ramped.2, rebucket: allow(new phase), weights: {a: 1, b: 1}}
  - key: second
    layer: l
    allocations:
      - {id: s1, valid_from: 2026-01-05, algorithm: murmur3-flagd/2, salt: \"it's\", buckets: 1000, weights: {a: 1, b: 1}}
  - key: kept
    holdout: h
    sticky: first_assignment
    allocations:
      - {id: k1, valid_from: 2026-01-01, salt: kept.1, split: {a: [[0, 6000]], b: [[6000, 10000]]}}
      - {id: k2, valid_from: 2026-02-01, extends: k1, split: {a: [[0, 6000]], b: [[6000, 10000]]}}
";

/// What the server logs for each experiment in turn.
fn logged_pairs(set: &FlagSet, count: usize) -> RecordBatch {
    let kind = &set.schema.kinds()[0];
    let first: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("an instant");
    let mut columns: [Vec<Option<String>>; 4] = Default::default();
    let (mut instants, mut sticky) = (Vec::new(), Vec::new());
    for index in 0..count {
        let experiment = ["ramped", "second", "kept"][index % 3];
        let now = first + Duration::seconds((index as i64).wrapping_mul(7_919) % (90 * 86_400));
        let mut context = set.schema.empty_context();
        let unit = format!("u{}", index / 3);
        context.set(kind.slot, Value::Text(unit.as_str().into()));
        let answer = evaluate(set, experiment, &context, now).expect("the unit is known");
        let assignment = answer.assignment.expect("an experiment decided");
        let cells = [
            Some(experiment.to_owned()),
            Some(assignment.unit.to_owned()),
            assignment.variant.map(str::to_owned),
            assignment.allocation.map(str::to_owned),
        ];
        columns
            .iter_mut()
            .zip(cells)
            .for_each(|(column, cell)| column.push(cell));
        instants.push(now.timestamp_micros());
        sticky.push(assignment.is_sticky);
    }
    let [experiments, units, served, allocations] =
        columns.map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
    RecordBatch::try_from_iter([
        ("experiment", experiments),
        ("unit", units),
        ("served", served),
        ("allocation", allocations),
        (
            "assigned_at",
            Arc::new(TimestampMicrosecondArray::from(instants)) as ArrayRef,
        ),
        (
            "is_sticky",
            Arc::new(BooleanArray::from(sticky)) as ArrayRef,
        ),
    ])
    .expect("the columns have one length")
}

#[tokio::test]
async fn every_algorithm_of_the_registry_is_a_function() {
    use equipoise::flags::bucketing::Algorithm;
    let context = SessionContext::new();
    functions::register(&context);
    for algorithm in Algorithm::all() {
        let sql = format!(
            "select bucket('{algorithm}', 'salt', unit) as bucket, unit from (values ('a'), ('é'), ('')) as t (unit)"
        );
        for batch in context.sql(&sql).await.unwrap().collect().await.unwrap() {
            let buckets = batch
                .column(0)
                .as_any()
                .downcast_ref::<Int64Array>()
                .unwrap()
                .clone();
            let units = datafusion::arrow::compute::cast(
                batch.column(1),
                &datafusion::arrow::datatypes::DataType::Utf8,
            )
            .unwrap();
            let units = units
                .as_any()
                .downcast_ref::<StringArray>()
                .unwrap()
                .clone();
            for row in 0..batch.num_rows() {
                assert_eq!(
                    buckets.value(row),
                    i64::from(algorithm.bucket("salt", units.value(row)).index)
                );
            }
        }
    }
    let error = context
        .sql("select bucket('md5', 's', 'u')")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("unknown bucketing algorithm `md5`"),
        "{error}"
    );
}

/// The server's three-valued logic is DataFusion's: every predicate over every row, null included.
#[tokio::test]
async fn a_predicate_means_the_same_on_history() {
    let (schema, batch) = history();
    let context = SessionContext::new();
    functions::register(&context);
    context.register_batch("history", batch.clone()).unwrap();
    for sql in PREDICATES {
        let predicate =
            Predicate::compile(sql, &schema).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let on_history = format!(
            "select ({sql}) as matches from (select *, semver(raw_version) as version from history)"
        );
        let result = context
            .sql(&on_history)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .collect()
            .await
            .unwrap();
        let truths: Vec<Option<bool>> = result
            .iter()
            .flat_map(|batch| {
                batch
                    .column(0)
                    .as_any()
                    .downcast_ref::<BooleanArray>()
                    .expect(sql)
                    .iter()
                    .collect::<Vec<_>>()
            })
            .collect();
        for (row, expected) in truths.into_iter().enumerate() {
            let served = predicate.truth(&context_of(&schema, &batch, row));
            assert_eq!(served, expected, "{sql} on row {row}");
        }
    }
}

const PREDICATES: &[&str] = &[
    "country = 'DE'",
    "country <> 'DE'",
    "NOT country = 'DE'",
    "country IN ('DE', 'FR')",
    "country NOT IN ('DE', 'FR')",
    "country IN ('DE', NULL)",
    "country NOT IN ('DE', NULL)",
    "country IS NULL OR age > 30",
    "country IS NOT NULL AND age > 30",
    "age BETWEEN 18 AND 30",
    "age NOT BETWEEN 18 AND 30",
    "age + 1 > 30",
    "age * 2 - 7 >= 29.5",
    "age / 4 = 7",
    "age % 7 = 3",
    "-age < -30",
    "age > score",
    "score = 0.5",
    "score < 1",
    "score <> 0.1 + 0.2",
    "member",
    "NOT member",
    "member IS TRUE",
    "member IS NOT TRUE",
    "member IS UNKNOWN",
    "member IS NOT FALSE",
    "member = true OR country = 'FR'",
    "country IS DISTINCT FROM 'DE'",
    "country IS NOT DISTINCT FROM 'DE'",
    "country LIKE 'D%'",
    "country LIKE '_R'",
    "country NOT LIKE '%E'",
    "country ILIKE 'd_'",
    "plan LIKE '%o%'",
    "plan LIKE '100\\%'",
    "lower(country) = 'de'",
    "upper(plan) = 'PRO'",
    "length(plan) > 3",
    "character_length(country) = 2",
    "starts_with(plan, 'p')",
    "ends_with(plan, 'e')",
    "contains(plan, 'r')",
    "strpos(plan, 'o') = 3",
    "plan || '-' || country = 'pro-DE'",
    "btrim(plan) = 'pro'",
    "split_part(plan, 'r', 1) = 'p'",
    "coalesce(country, 'none') = 'none'",
    "nullif(country, 'DE') IS NULL",
    "CASE WHEN age > 30 THEN country = 'DE' ELSE member END",
    "CASE country WHEN 'DE' THEN 1 WHEN 'FR' THEN 2 END > 1",
    "CASE WHEN member THEN age ELSE score END > 20",
    "regexp_like(plan, '^p.*o$')",
    "version >= semver('3.2.0')",
    "version < semver('3.2.0-rc.2')",
    "version = semver('v3.2')",
    "version IS NULL",
    "signup_at >= TIMESTAMP '2026-01-02T00:00:00'",
    "signup_at < '2026-01-02 12:00:00'",
    "bucket('md5-mod10000/1', 'salt', plan) < 5000",
    "'DE' = country AND true",
    "(country = 'DE' AND age > 30) OR (country = 'FR' AND NOT member) OR plan IS NULL",
    "country IN ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'DE')",
    "country NOT IN ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', NULL, 'DE')",
    "age IN (17, 31)",
    "NULL = country",
    "ltrim(plan) = 'pro'",
    "age > 9223372036854775807 - 1",
];

/// A hundred rows with every mixture of values and nulls.
fn history() -> (Schema, RecordBatch) {
    use equipoise::flags::context::Type;
    let mut schema = Schema::default();
    schema.add_kind("user", "user_id");
    let kinds = [
        ("country", Type::Text),
        ("plan", Type::Text),
        ("age", Type::Integer),
        ("score", Type::Float),
        ("member", Type::Boolean),
        ("version", Type::Version),
        ("signup_at", Type::Timestamp),
    ];
    for (name, kind) in kinds {
        schema.add_attribute(name, kind);
    }
    let pick = |step: usize, row: usize, size: usize| (row * step + row / 7) % (size + 1);
    let texts = |step: usize, values: &'static [&'static str]| -> ArrayRef {
        Arc::new(
            (0..100)
                .map(|row| values.get(pick(step, row, values.len())).copied())
                .collect::<StringArray>(),
        )
    };
    let micros = |row: usize| {
        [
            1_767_225_600_000_000_i64,
            1_767_312_000_000_000,
            1_767_400_000_123_456,
        ]
        .get(pick(3, row, 3))
        .copied()
    };
    let batch = RecordBatch::try_from_iter([
        ("country", texts(1, &["DE", "FR", "de", "Ägypten", ""])),
        (
            "plan",
            texts(3, &["pro", " pro", "free", "100%", "enterprise"]),
        ),
        (
            "age",
            Arc::new(
                (0..100)
                    .map(|row| [17, 29, 31, i64::MAX].get(pick(5, row, 4)).copied())
                    .collect::<Int64Array>(),
            ) as ArrayRef,
        ),
        (
            "score",
            Arc::new(
                (0..100)
                    .map(|row| {
                        [0.5, 0.3, -0.0, 0.30000000000000004]
                            .get(pick(2, row, 4))
                            .copied()
                    })
                    .collect::<Float64Array>(),
            ) as ArrayRef,
        ),
        (
            "member",
            Arc::new(
                (0..100)
                    .map(|row| [true, false].get(pick(1, row, 2)).copied())
                    .collect::<BooleanArray>(),
            ) as ArrayRef,
        ),
        (
            "raw_version",
            texts(2, &["3.2.0", "3.2.0-rc.1", "3.10.0", "none", "v4"]),
        ),
        (
            "signup_at",
            Arc::new((0..100).map(micros).collect::<TimestampMicrosecondArray>()) as ArrayRef,
        ),
    ]);
    (schema, batch.expect("the columns have one length"))
}

/// The row as a request would carry it.
fn context_of(schema: &Schema, batch: &RecordBatch, row: usize) -> equipoise::flags::Context {
    let mut context = schema.empty_context();
    let text = |name: &str| {
        let column = batch
            .column_by_name(name)
            .unwrap()
            .as_any()
            .downcast_ref::<StringArray>()
            .unwrap();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let mut set = |name: &str, value: Option<Value>| {
        context.set(schema.slot(name).unwrap(), value.unwrap_or(Value::Null))
    };
    for name in ["country", "plan"] {
        set(name, text(name).map(|text| Value::Text(text.into())));
    }
    let key = text("raw_version").and_then(|text| equipoise::flags::targeting::version_key(&text));
    set("version", key.map(|key| Value::Text(key.into())));
    macro_rules! column {
        ($name:literal, $array:ty, $value:path) => {
            let column = batch
                .column_by_name($name)
                .unwrap()
                .as_any()
                .downcast_ref::<$array>()
                .unwrap();
            set(
                $name,
                column.is_valid(row).then(|| $value(column.value(row))),
            );
        };
    }
    column!("age", Int64Array, Value::Integer);
    column!("score", Float64Array, Value::Float);
    column!("member", BooleanArray, Value::Boolean);
    column!("signup_at", TimestampMicrosecondArray, Value::Timestamp);
    context
}

/// Five phases with new salts, each a ramp of four steps.
fn twenty_versions() -> FlagSet {
    let mut yaml = String::from(
        "
flags:
  - key: f
    type: string
    variants: {control: c, blue: b, green: g}
    default_variant: control
    rules: [{id: r, experiment: e}]
experiments:
  - key: e
    allocations:
",
    );
    for phase in 0..5 {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("an instant");
        let from = (start + Duration::days(40 * phase)).to_rfc3339();
        let rebucket = if phase > 0 {
            ", rebucket: allow(next phase)"
        } else {
            ""
        };
        yaml += &format!(
            "      - {{id: p{phase}, valid_from: '{from}', salt: e.{phase}, weights: {{control: 3, blue: 2, green: 1}}, \
             ramp: [1, 10.5, 50, 100], every: 10d{rebucket}}}\n"
        );
    }
    let spec = serde_saphyr::from_str(&yaml).expect("YAML of the right shape");
    let checked = resolve(&[FlagSource {
        file: "flags.yml".into(),
        spec,
    }]);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    checked.value
}

/// Units of many shapes at instants over all versions, with the variant that the server gives.
fn served_pairs(set: &FlagSet, count: usize) -> RecordBatch {
    let first = set.experiments[0].allocations[0].valid_from;
    let kind = &set.schema.kinds()[0];
    let (mut units, mut instants, mut served) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..count {
        let unit = match index % 4 {
            0 => format!("user-{index}"),
            1 => format!(
                "{:032x}",
                (index as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            ),
            2 => index.to_string(),
            _ => format!("użytkownik-{index}-客户"),
        };
        let now = first + Duration::seconds((index as i64).wrapping_mul(7_919) % (200 * 86_400));
        let mut context = set.schema.empty_context();
        context.set(kind.slot, Value::Text(unit.as_str().into()));
        let answer = evaluate(set, "f", &context, now).expect("the unit is known");
        served.push(
            answer
                .assignment
                .and_then(|assignment| assignment.variant.map(str::to_owned)),
        );
        units.push(unit);
        instants.push(now.timestamp_micros());
    }
    RecordBatch::try_from_iter([
        ("unit", Arc::new(StringArray::from(units)) as ArrayRef),
        (
            "assigned_at",
            Arc::new(TimestampMicrosecondArray::from(instants)) as ArrayRef,
        ),
        ("served", Arc::new(StringArray::from(served)) as ArrayRef),
    ])
    .expect("the columns have one length")
}

fn session(set: &FlagSet, pairs: RecordBatch) -> SessionContext {
    let context = SessionContext::new();
    functions::register(&context);
    context.register_batch("pairs", pairs).unwrap();
    for dimension in dimensions(set) {
        context
            .register_batch(dimension.name, table(&dimension))
            .unwrap();
    }
    context
}

/// Columns named `valid_*` are timestamps, numbers are integers, the rest are texts.
fn table(dimension: &Dimension) -> RecordBatch {
    let columns = dimension.columns.iter().enumerate().map(|(index, name)| {
        let cells = || dimension.rows.iter().map(move |row| &row[index]);
        let array: ArrayRef = if name.starts_with("valid_") {
            let micros = |text: &str| {
                text.parse::<DateTime<Utc>>()
                    .expect("an instant")
                    .timestamp_micros()
            };
            Arc::new(
                cells()
                    .map(|cell| cell.as_str().map(micros))
                    .collect::<TimestampMicrosecondArray>(),
            )
        } else if name.starts_with("is_") {
            Arc::new(cells().map(Json::as_bool).collect::<BooleanArray>())
        } else if cells().any(Json::is_number) {
            Arc::new(cells().map(Json::as_i64).collect::<Int64Array>())
        } else {
            Arc::new(
                cells()
                    .map(|cell| cell.as_str().map(str::to_owned))
                    .collect::<StringArray>(),
            )
        };
        (*name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("the columns have one length")
}

fn digits() -> String {
    let digit = |place: usize| {
        let weight = 16_u64.pow(8 - place as u32);
        format!("(strpos('0123456789abcdef', substr(digest, {place}, 1)) - 1) * {weight}")
    };
    (1..=8).map(digit).collect::<Vec<_>>().join(" + ")
}

async fn counts(context: &SessionContext, sql: &str) -> (i64, i64) {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let number = |column: usize| {
        batches[0]
            .column(column)
            .as_any()
            .downcast_ref::<Int64Array>()
            .unwrap()
            .value(0)
    };
    (number(0), number(1))
}

/// Hands the tables over as Parquet; the query is the same text.
async fn duckdb_counts(context: &SessionContext, sql: &str) -> Option<(i64, i64)> {
    let python = std::env::var("EQUIPOISE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !Command::new(&python)
        .args(["-c", "import duckdb"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A long query would print how far it is.
    let mut script =
        String::from("import duckdb\nduckdb.sql(\"set enable_progress_bar = false\")\n");
    for table in ["pairs", "dim_allocations", "dim_allocation_ranges"] {
        let path = folder.path().join(format!("{table}.parquet"));
        let path = path.display();
        context
            .sql(&format!("copy {table} to '{path}' stored as parquet"))
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        script += &format!("duckdb.sql(\"create view {table} as select * from '{path}'\")\n");
    }
    script += &format!(
        "row = duckdb.sql(\"\"\"{sql}\"\"\").fetchall()[0]\nprint(int(row[0]), int(row[1]))\n"
    );
    let output = Command::new(&python)
        .args(["-c", &script])
        .output()
        .expect("Python ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let numbers: Vec<i64> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a count"))
        .collect();
    Some((numbers[0], numbers[1]))
}
