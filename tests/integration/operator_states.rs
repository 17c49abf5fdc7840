//! The operator against its oracle, plain SQL from the same plan, on random projects and data.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::engine::operator::{register, sql};
use equipoise::engine::spilling_safely;
use equipoise::metrics::plan::{
    Aggregate, AssignmentSource, EventSource, ExperimentPlan, Maturity, Measure, MetricPlan,
    MetricStates,
};

const DAY: i64 = 86_400;
const START: i64 = 1_772_000_000_000_000;

/// SplitMix64: the tests' own draws.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Rows of the two tables; ids tell them apart.
#[derive(Clone)]
pub struct Data {
    pub events: Vec<EventRow>,
    pub assignments: Vec<AssignmentRow>,
}

#[derive(Clone)]
pub struct EventRow {
    pub id: String,
    pub unit: String,
    pub at: i64,
    name: &'static str,
    pub amount: Option<f64>,
    milliseconds: i64,
}

#[derive(Clone)]
pub struct AssignmentRow {
    id: String,
    pub unit: String,
    pub at: i64,
    experiment: String,
    variant: String,
    country: Option<&'static str>,
    platform: &'static str,
}

const NAMES: [&str; 4] = ["visit", "order", "load", "ignored"];

pub fn data(random: &mut Random, experiments: usize) -> Data {
    let mut data = Data {
        events: Vec::new(),
        assignments: Vec::new(),
    };
    for unit in 0..40 + random.below(60) {
        let unit = format!("unit-{unit}");
        // Sums of some units are too large for the fast way, though each number is not.
        let is_rich = random.chance(10);
        for _ in 0..random.below(30) {
            let amount = match random.below(5) {
                0 => None,
                _ if is_rich => Some(100_000.0 + random.below(6_000_000) as f64 / 100.0),
                1 => Some(random.below(1_000) as f64 / 7.0),
                _ => Some(random.below(1_000_000) as f64 / 100.0),
            };
            let name = NAMES[random.below(4) as usize];
            data.events.push(EventRow {
                id: format!("e{}", data.events.len()),
                unit: unit.clone(),
                at: moment(random, 60),
                name,
                amount,
                milliseconds: random.below(5_000) as i64,
            });
        }
        for experiment in 0..experiments {
            if random.chance(60) {
                assign(random, &mut data, &unit, experiment);
            }
        }
    }
    data
}

fn moment(random: &mut Random, days: u64) -> i64 {
    // Whole minutes, so that events and assignments fall on the same instant now and then.
    START + random.below(days * 24 * 60) as i64 * 60_000_000
}

fn assign(random: &mut Random, data: &mut Data, unit: &str, experiment: usize) {
    let country = [Some("DE"), Some("FR"), None][random.below(3) as usize];
    let platform = ["web", "ios"][random.below(2) as usize];
    let rows = 1 + random.below(2) * random.below(3);
    let variant = random.below(3);
    for _ in 0..rows {
        let variant = if random.chance(90) {
            variant
        } else {
            random.below(4)
        };
        let variant = ["control", "treatment", "second treatment", "not planned"][variant as usize]
            .to_owned();
        data.assignments.push(AssignmentRow {
            id: format!("a{}", data.assignments.len()),
            unit: unit.to_owned(),
            at: moment(random, 60),
            experiment: format!("experiment {experiment}"),
            variant,
            country,
            platform,
        });
    }
}

fn measure(random: &mut Random) -> Measure {
    let all = [
        Aggregate::Count,
        Aggregate::Sum,
        Aggregate::Any,
        Aggregate::Max,
        Aggregate::Min,
    ];
    let aggregate = all[random.below(5) as usize];
    let needs_value = matches!(aggregate, Aggregate::Sum | Aggregate::Max | Aggregate::Min);
    Measure {
        event: random
            .chance(85)
            .then(|| NAMES[random.below(3) as usize].to_owned()),
        aggregate,
        value: (needs_value || random.chance(30)).then(|| random.below(2) as usize),
        cap: random.chance(25).then(|| random.below(500) as f64 / 4.0),
        at_least: 1 + random.below(3) as u32,
    }
}

pub fn metric(random: &mut Random, index: usize) -> MetricStates {
    MetricStates {
        name: format!("it's metric {index}"),
        value: measure(random),
        denominator: random.chance(40).then(|| measure(random)),
        window_start: [0, 0, DAY, 7 * DAY][random.below(4) as usize],
        window_length: [Some(DAY), Some(7 * DAY), Some(14 * DAY), None][random.below(4) as usize],
        lookback: random
            .chance(60)
            .then(|| [7 * DAY, 14 * DAY][random.below(2) as usize]),
        lookback_before_period: random.chance(30),
        maturity: if random.chance(50) {
            Maturity::FullWindow
        } else {
            Maturity::Partial
        },
        data_end: None,
    }
}

fn experiment(random: &mut Random, index: usize) -> ExperimentPlan {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    ExperimentPlan {
        key: format!("experiment {index}"),
        variants: names(&["control", "treatment", "second treatment"][..2 + index % 2]),
        from: START + random.below(10) as i64 * DAY * 1_000_000,
        to: if random.chance(50) {
            i64::MAX
        } else {
            START + 50 * DAY * 1_000_000
        },
        measured_until: if random.chance(50) {
            i64::MAX
        } else {
            START + 52 * DAY * 1_000_000
        },
        excludes_crossed_over: random.chance(70),
        metrics: None,
        segments: vec![vec![], names(&["country"]), names(&["platform", "country"])],
    }
}

pub fn plan(random: &mut Random, experiments: usize) -> MetricPlan {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    MetricPlan {
        events: EventSource {
            table: "events".into(),
            unit: "user_id".into(),
            time: "occurred_at".into(),
            name: "event_name".into(),
            values: names(&["amount", "milliseconds"]),
            codes: Vec::new(),
        },
        more_events: Vec::new(),
        assignments: AssignmentSource {
            table: "assignments".into(),
            unit: "unit_id".into(),
            time: "assigned_at".into(),
            experiment: "experiment_key".into(),
            variant: "variant".into(),
            segments: names(&["country", "platform"]),
            condition: None,
            period: None,
        },
        experiments: (0..experiments)
            .map(|index| experiment(random, index))
            .collect(),
        metrics: (0..1 + random.below(6) as usize)
            .map(|index| metric(random, index))
            .collect(),
        specials: Vec::new(),
        complete_through: START + 60 * DAY * 1_000_000,
        data_ends: Vec::new(),
    }
}

/// The tables, cut into several partitions and in no particular order.
pub fn session(data: &Data, partitions: usize) -> SessionContext {
    session_within(data, partitions, usize::MAX)
}

pub fn session_within(data: &Data, partitions: usize, memory_limit: usize) -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_sort_spill_reservation_bytes(0)
        .with_batch_size(37);
    let config = spilling_safely(config);
    let pool = Arc::new(FairSpillPool::new(memory_limit));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool);
    let context = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
    register(&context);
    let events = data.events.chunks(101).map(event_batch).collect::<Vec<_>>();
    let assignments = data
        .assignments
        .chunks(53)
        .map(assignment_batch)
        .collect::<Vec<_>>();
    for (name, batches) in [("events", events), ("assignments", assignments)] {
        let schema = batches[0].schema();
        let parts = batches.into_iter().map(|batch| vec![batch]).collect();
        context
            .register_table(name, Arc::new(MemTable::try_new(schema, parts).unwrap()))
            .unwrap();
    }
    context
}

pub fn event_batch(rows: &[EventRow]) -> RecordBatch {
    let text = |of: fn(&EventRow) -> &str| {
        Arc::new(
            rows.iter()
                .map(|row| Some(of(row)))
                .collect::<StringArray>(),
        ) as ArrayRef
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_id", text(|row| &row.id)),
        ("user_id", text(|row| &row.unit)),
        ("occurred_at", times(rows.iter().map(|row| row.at))),
        ("event_name", text(|row| row.name)),
        (
            "amount",
            Arc::new(rows.iter().map(|row| row.amount).collect::<Float64Array>()),
        ),
        (
            "milliseconds",
            Arc::new(
                rows.iter()
                    .map(|row| Some(row.milliseconds))
                    .collect::<Int64Array>(),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

pub fn assignment_batch(rows: &[AssignmentRow]) -> RecordBatch {
    let text = |of: fn(&AssignmentRow) -> Option<&str>| {
        Arc::new(rows.iter().map(of).collect::<StringArray>()) as ArrayRef
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("assignment_id", text(|row| Some(&row.id))),
        ("unit_id", text(|row| Some(&row.unit))),
        ("assigned_at", times(rows.iter().map(|row| row.at))),
        ("experiment_key", text(|row| Some(&row.experiment))),
        ("variant", text(|row| Some(&row.variant))),
        ("country", text(|row| row.country)),
        ("platform", text(|row| Some(row.platform))),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(times.map(Some).collect::<TimestampMicrosecondArray>())
}

pub fn rows_of(context: &SessionContext, query: &str) -> Vec<RecordBatch> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { context.sql(query).await.unwrap().collect().await.unwrap() })
}

pub fn operator_query(plan: &MetricPlan) -> String {
    format!(
        "select * from metric_states('{}')",
        serde_json::to_string(plan).unwrap().replace('\'', "''")
    )
}

/// The operator's rows with the columns of the oracle.
fn flat(query: &str) -> String {
    let fields = ["n", "nulls", "non_finite"]
        .map(|field| format!("state['{field}'] as {field}"))
        .join(", ");
    let lists = ["min", "max", "mean", "mean_low", "cross_products"]
        .map(|field| format!("state['{field}'] as {field}"))
        .join(", ");
    format!(
        "select experiment_key, variant, metric_name, segment_dimension, segment, {fields}, crossed_over, {lists} from ({query})"
    )
}

#[derive(Debug, PartialEq)]
struct StateRow {
    counts: Vec<i64>,
    min: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
    mean: Vec<Option<f64>>,
    cross_products: Vec<Option<f64>>,
}

fn states(batches: &[RecordBatch]) -> BTreeMap<Vec<String>, StateRow> {
    let mut rows = BTreeMap::new();
    for batch in batches {
        let text = |index: usize, row: usize| {
            let column = datafusion::arrow::compute::cast(
                batch.column(index),
                &datafusion::arrow::datatypes::DataType::Utf8,
            )
            .unwrap();
            column.as_string::<i32>().value(row).to_owned()
        };
        let list = |index: usize, row: usize| {
            batch
                .column(index)
                .as_list::<i32>()
                .value(row)
                .as_primitive::<Float64Type>()
                .iter()
                .collect::<Vec<_>>()
        };
        for row in 0..batch.num_rows() {
            let counts = (5..9)
                .map(|index| batch.column(index).as_primitive::<Int64Type>().value(row))
                .collect();
            let state = StateRow {
                counts,
                min: list(9, row),
                max: list(10, row),
                mean: list(11, row),
                cross_products: list(13, row),
            };
            assert!(
                rows.insert((0..5).map(|index| text(index, row)).collect(), state)
                    .is_none(),
                "a cell has two rows"
            );
        }
    }
    rows
}

fn assert_close(
    found: &[Option<f64>],
    expected: &[Option<f64>],
    relative: f64,
    scale: f64,
    place: &[String],
) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.unwrap_or(0.0), expected.unwrap_or(0.0));
        let bound = relative * expected.abs().max(scale);
        assert!(
            (found - expected).abs() <= bound,
            "{place:?}: {found} is not {expected}"
        );
    }
}

/// Cells without a unit have no row in the operator.
fn assert_equal_states(
    found: &BTreeMap<Vec<String>, StateRow>,
    expected: &BTreeMap<Vec<String>, StateRow>,
) -> usize {
    let has_units = |(_, state): &(&Vec<String>, &StateRow)| state.counts[0] > 0;
    let places = |states| {
        BTreeMap::iter(states)
            .filter(has_units)
            .map(|(place, _)| place.clone())
            .collect::<Vec<_>>()
    };
    assert!(
        places(found) == places(expected),
        "the two have units in different cells"
    );
    let mut units = 0;
    for (place, state) in found {
        let oracle = &expected[place];
        assert_eq!(state.counts, oracle.counts, "{place:?}");
        assert_close(&state.min, &oracle.min, 1e-15, 0.0, place);
        assert_close(&state.max, &oracle.max, 1e-15, 0.0, place);
        assert_close(&state.mean, &oracle.mean, 1e-15, 0.0, place);
        // A cross product of nearly uncorrelated values is small beside its squares.
        let largest = oracle
            .cross_products
            .iter()
            .flatten()
            .fold(0.0_f64, |most, product| most.max(product.abs()));
        assert_close(
            &state.cross_products,
            &oracle.cross_products,
            1e-12,
            largest * 1e-3,
            place,
        );
        units += state.counts[0];
    }
    units as usize
}

#[test]
fn random_plans_give_the_states_of_plain_sql() {
    let mut units = 0;
    for seed in 0..5 {
        let mut random = Random(seed);
        let experiments = 1 + random.below(4) as usize;
        let (plan, data) = (
            plan(&mut random, experiments),
            data(&mut random, experiments),
        );
        let context = session(&data, 1 + seed as usize % 3);
        let found = states(&rows_of(&context, &flat(&operator_query(&plan))));
        let expected = states(&rows_of(&context, &sql(&plan)));
        units += assert_equal_states(&found, &expected);
    }
    assert!(units > 1_000, "only {units} units were compared");
}

#[test]
fn sums_that_are_too_large_leave_other_metrics_alone() {
    let mut random = Random(11);
    let mut plan = plan(&mut random, 1);
    let total = |event: &str, lookback| MetricStates {
        name: format!("total of {event}"),
        value: Measure {
            event: Some(event.to_owned()),
            aggregate: Aggregate::Sum,
            value: Some(0),
            cap: None,
            at_least: 1,
        },
        denominator: None,
        window_start: 0,
        window_length: Some(50 * DAY),
        lookback,
        lookback_before_period: false,
        maturity: Maturity::Partial,
        data_end: None,
    };
    plan.metrics = vec![total("visit", None), total("order", Some(DAY))];
    let mut data = data(&mut random, 1);
    for row in &mut data.events {
        // 1.6e7 hundredths each fit, and their sum does not.
        row.amount = Some(if row.name == "order" { 160_000.0 } else { 1.25 });
    }
    let context = session(&data, 1);
    let found = states(&rows_of(&context, &flat(&operator_query(&plan))));
    let expected = states(&rows_of(&context, &sql(&plan)));
    assert!(assert_equal_states(&found, &expected) > 20);
}

#[test]
fn the_number_of_partitions_and_the_order_of_rows_change_no_byte() {
    let mut random = Random(99);
    let (plan, data) = (plan(&mut random, 3), data(&mut random, 3));
    let mut turned = data.clone();
    turned.events.reverse();
    turned.assignments.reverse();
    let one = rows_of(&session(&data, 1), &operator_query(&plan));
    assert_eq!(one, rows_of(&session(&data, 4), &operator_query(&plan)));
    assert_eq!(one, rows_of(&session(&turned, 3), &operator_query(&plan)));
}

#[test]
fn events_of_one_instant_count_alike_in_any_order() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (plan, mut data) = (plan(&mut random, 3), data(&mut random, 3));
        for (number, event) in data.events.iter_mut().enumerate() {
            event.at = START + DAY * 1_000_000 * (40 + number as i64 % 2);
            event.amount = Some((1 + number * number % 89) as f64 / 7.0);
        }
        let mut turned = data.clone();
        turned.events.reverse();
        let states = |data| rows_of(&session(data, 1), &operator_query(&plan));
        assert!(states(&data) == states(&turned), "seed {seed}");
    }
}

#[test]
fn explain_shows_the_operator_and_what_it_read() {
    let mut random = Random(5);
    let (plan, data) = (plan(&mut random, 2), data(&mut random, 2));
    let batches = rows_of(
        &session(&data, 2),
        &format!("explain analyze {}", operator_query(&plan)),
    );
    let text = pretty_format_batches(&batches).unwrap().to_string();
    assert!(text.contains("MetricStatesExec: experiments=2"), "{text}");
    for metric in [
        "passes=1",
        "units=",
        "events=",
        "cell_bytes=",
        "read_time=",
        "accumulate_time=",
    ] {
        assert!(text.contains(metric), "{metric} is missing in {text}");
    }
}

#[test]
fn a_plan_that_cannot_be_computed_is_refused_in_words() {
    let mut random = Random(1);
    let (mut plan, data) = (plan(&mut random, 1), data(&mut random, 1));
    plan.experiments[0].segments = vec![vec!["planet".to_owned()]];
    let context = session(&data, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime
        .block_on(context.sql(&operator_query(&plan)))
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("segment `planet` is not a column of the assignments"),
        "{refused}"
    );
    let refused = runtime
        .block_on(context.sql("select * from metric_states('{}')"))
        .unwrap_err();
    assert!(
        refused.to_string().contains("cannot read its plan"),
        "{refused}"
    );
}
