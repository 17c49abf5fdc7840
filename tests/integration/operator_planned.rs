//! Metrics as the project defines them, by the operator and by plain SQL: the rows of `metric_aggregates` are equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use equipoise::diagnostics::Span;
use equipoise::metrics::plan::ExperimentPlan;
use equipoise::metrics::planned::planned_aggregates;
use equipoise::metrics::sql::{Use, aggregates};
use equipoise::metrics::{
    Aggregation, Cap, Covariate, Direction, Duration, Fill, Kind, Level, Maturity, Measure, Metric,
    Sla, Tier, Window,
};

use super::operator_states::{Data, Random, data, session};

const DAY: i64 = 86_400;
const START: i64 = 1_772_000_000_000_000;

fn days(days: i64) -> Duration {
    Duration {
        seconds: days * DAY,
    }
}

pub fn measure(
    aggregation: Aggregation,
    expression: Option<&str>,
    condition: Option<&str>,
) -> Measure {
    Measure {
        fact: "events".to_owned(),
        unit_column: "user_id".to_owned(),
        time_column: "occurred_at".to_owned(),
        aggregation,
        expression: expression.map(str::to_owned),
        condition: condition.map(str::to_owned),
        cap: None,
    }
}

fn random_measure(random: &mut Random) -> Measure {
    let condition = match random.below(5) {
        0 => None,
        1 => Some("event_name = 'order' and (amount > 100)"),
        2 => Some("(milliseconds < 2500)"),
        3 => Some("event_name = 'visit'"),
        _ => Some("event_name = 'order'"),
    };
    match random.below(6) {
        0 => measure(Aggregation::Count, None, condition),
        1 => measure(Aggregation::Count, Some("amount"), condition),
        2 => measure(Aggregation::Any, Some("milliseconds > 1000"), condition),
        3 => measure(Aggregation::Max, Some("amount"), condition),
        4 => measure(Aggregation::Min, Some("0 - milliseconds"), condition),
        _ => measure(Aggregation::Sum, Some("amount * 2"), condition),
    }
}

/// A side of a ratio, some with a frozen cap.
fn random_side(random: &mut Random) -> Measure {
    Measure {
        cap: random.chance(30).then_some(Cap::At(120.0)),
        ..random_measure(random)
    }
}

pub fn metric(random: &mut Random, index: usize) -> Metric {
    let kind = match random.below(3) {
        0 => Kind::Mean(random_measure(random)),
        1 => Kind::Proportion(measure(
            Aggregation::Any,
            None,
            Some("event_name = 'order'"),
        )),
        _ => Kind::Ratio {
            numerator: random_side(random),
            denominator: random_side(random),
        },
    };
    let lookback = |random: &mut Random| Covariate {
        lookback: days(7 + random.below(14) as i64),
        before_period: random.chance(40),
    };
    Metric {
        name: format!("metric_{index}"),
        span: Span {
            file: Arc::from("metrics.yml"),
            line: 1,
            column: 1,
            length: 1,
        },
        label: String::new(),
        description: String::new(),
        area: None,
        owner: String::new(),
        team: None,
        approvers: Vec::new(),
        sla: Sla::default(),
        tier: Tier::Driver,
        drives: Vec::new(),
        required_for: Vec::new(),
        margin: None,
        version: "1.0.0".to_owned(),
        alias_of: None,
        kind,
        fill: Fill::Zero,
        window: Window {
            start: days(random.below(3) as i64),
            length: random.chance(70).then(|| days(1 + random.below(20) as i64)),
            calendar: None,
        },
        maturity: match random.chance(50) {
            true => Maturity::FullWindow,
            false => Maturity::Partial,
        },
        direction: Direction::Increase,
        cap: random
            .chance(30)
            .then(|| Cap::At(10.0 + random.below(500) as f64)),
        covariate: random.chance(60).then(|| lookback(random)),
        unit_of_measure: None,
    }
}

/// Of the other fact, whose columns have other names.
fn visit(aggregation: Aggregation, expression: Option<&str>, condition: Option<&str>) -> Measure {
    Measure {
        fact: "visits".to_owned(),
        unit_column: "visitor".to_owned(),
        time_column: "visited_at".to_owned(),
        ..measure(aggregation, expression, condition)
    }
}

fn distinct(random: &mut Random) -> Measure {
    let expressions = [
        "event_name",
        "amount",
        "milliseconds % 3",
        "occurred_at",
        "user_id",
    ];
    let condition = [
        "event_name = 'order'",
        "event_name <> 'load'",
        "amount > 5000",
    ];
    measure(
        Aggregation::CountDistinct,
        Some(expressions[random.below(5) as usize]),
        random
            .chance(70)
            .then(|| condition[random.below(3) as usize]),
    )
}

fn any_measure(random: &mut Random) -> Measure {
    match random.below(4) {
        0 => distinct(random),
        1 => visit(Aggregation::Sum, Some("seconds"), None),
        2 => visit(
            Aggregation::Count,
            None,
            Some("kind = 'order' and (seconds > 10)"),
        ),
        _ => random_measure(random),
    }
}

fn any_cap(random: &mut Random) -> Option<Cap> {
    match random.below(3) {
        0 => None,
        1 => Some(Cap::At(10.0 + random.below(500) as f64)),
        _ => Some(Cap::Quantile {
            share: 0.5 + random.below(5) as f64 / 10.0,
            is_pooled: random.chance(50),
        }),
    }
}

/// Any metric that an experiment can have.
pub fn any_metric(random: &mut Random, index: usize) -> Metric {
    let mut metric = metric(random, index);
    let order = || measure(Aggregation::Count, None, Some("event_name = 'order'"));
    metric.kind = match random.below(9) {
        0 | 1 => Kind::Mean(any_measure(random)),
        2 => Kind::Proportion(measure(
            Aggregation::Any,
            None,
            Some("event_name = 'order'"),
        )),
        3 => Kind::Retention {
            measure: order(),
            at_least: 1 + random.below(2) as i64,
        },
        4 => Kind::Ratio {
            numerator: Measure {
                cap: any_cap(random),
                ..any_measure(random)
            },
            denominator: Measure {
                cap: any_cap(random),
                ..any_measure(random)
            },
        },
        5 => Kind::MeanOfRatios {
            numerator: any_measure(random),
            denominator: any_measure(random),
        },
        6 => Kind::Quantile {
            measure: measure(
                Aggregation::Sum,
                Some("amount"),
                Some("event_name = 'order'"),
            ),
            q: 0.5,
            level: Level::Event,
        },
        7 => Kind::Quantile {
            measure: any_measure(random),
            q: 0.5,
            level: Level::Unit,
        },
        _ => Kind::Funnel {
            steps: vec![
                measure(Aggregation::Count, None, Some("event_name = 'visit'")),
                order(),
                measure(Aggregation::Count, None, Some("(milliseconds > 1500)")),
            ],
        },
    };
    let takes_covariate = matches!(
        metric.kind,
        Kind::Mean(_) | Kind::Proportion(_) | Kind::Ratio { .. }
    );
    metric.covariate = metric.covariate.filter(|_| takes_covariate);
    metric.cap = any_cap(random)
        .filter(|_| matches!(metric.kind, Kind::Mean(_) | Kind::MeanOfRatios { .. }));
    if random.chance(50) {
        metric.fill = Fill::Exclude;
    }
    if random.chance(40) {
        let zone = ["Europe/Berlin", "America/New_York", "Pacific/Apia"][random.below(3) as usize];
        metric.window.calendar = Some(zone.to_owned());
    }
    metric
}

pub const KEYS: [&str; 3] = ["experiment 0", "experiment 1", "experiment 2"];

pub fn experiments() -> Vec<ExperimentPlan> {
    let variants = ["control", "treatment", "second treatment"]
        .map(str::to_owned)
        .to_vec();
    let experiment = |(index, key): (usize, &&str)| ExperimentPlan {
        key: (*key).to_owned(),
        variants: variants.clone(),
        from: START + index as i64 * 5 * DAY * 1_000_000,
        to: i64::MAX,
        measured_until: START + (45 + index as i64) * DAY * 1_000_000,
        excludes_crossed_over: false,
        metrics: None,
        segments: Vec::new(),
    };
    KEYS.iter().enumerate().map(experiment).collect()
}

/// One row per experiment and unit, as `fact_assignments` has them, some of which do not say until when they are measured.
const UNITS: &str = "create view units as
select experiment_key, unit_id, first_value(variant order by assigned_at, variant) as variant, min(assigned_at) as assigned_at,
    cast(case experiment_key when 'experiment 0' then {0} when 'experiment 1' then {1} else {2} end as timestamp) as period_starts_at,
    cast(case when cast(min(assigned_at) as bigint) % 7 = 0 then null when experiment_key = 'experiment 0' then {3}
        when experiment_key = 'experiment 1' then {4} else {5} end as timestamp) as measured_until,
    count(distinct variant) = 1 and min(variant) <> 'not planned' as is_analysed, min(country) as country, min(platform) as platform
from assignments group by 1, 2";

fn units() -> String {
    let instant = |micros: i64| {
        let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
        format!("timestamp '{}'", time.format("%Y-%m-%d %H:%M:%S%.f"))
    };
    let experiments = experiments();
    let mut sql = UNITS.to_owned();
    for (index, experiment) in experiments.iter().enumerate() {
        sql = sql.replace(&format!("{{{index}}}"), &instant(experiment.from));
        sql = sql.replace(
            &format!("{{{}}}", index + 3),
            &instant(experiment.measured_until),
        );
    }
    sql
}

async fn rows(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    context
        .sql(&format!("select * from {sql} as computed"))
        .await
        .unwrap()
        .collect()
        .await
        .unwrap()
}

/// What a state holds, numbers by the relative error that they may have.
#[derive(Debug)]
pub struct Numbers {
    pub counts: [i64; 3],
    /// Means, then least and largest values.
    pub close: Vec<f64>,
    pub products: Vec<f64>,
}

/// States by the six key columns and which state it is.
pub fn states_of(batches: &[RecordBatch]) -> BTreeMap<Vec<String>, Numbers> {
    let mut states = BTreeMap::new();
    for batch in batches {
        let texts: Vec<_> = (0..6)
            .map(|index| {
                datafusion::arrow::compute::cast(
                    batch.column(index),
                    &datafusion::arrow::datatypes::DataType::Utf8,
                )
                .unwrap()
            })
            .collect();
        for (column, name) in [(6, "state"), (7, "before")] {
            let structs = batch.column(column).as_struct();
            let [n, nulls, non_finite] = ["n", "nulls", "non_finite"].map(|name| {
                structs
                    .column_by_name(name)
                    .unwrap()
                    .as_primitive::<Int64Type>()
            });
            let numbers = |row: usize, name: &str| {
                structs
                    .column_by_name(name)
                    .unwrap()
                    .as_list::<i32>()
                    .value(row)
                    .as_primitive::<Float64Type>()
                    .values()
                    .to_vec()
            };
            for row in 0..batch.num_rows() {
                if structs.is_null(row) {
                    continue;
                }
                let mut key: Vec<String> = texts
                    .iter()
                    .map(|column| column.as_string::<i32>().value(row).to_owned())
                    .collect();
                key.push(name.to_owned());
                let close = ["mean", "min", "max"].map(|name| numbers(row, name));
                let found = Numbers {
                    counts: [n.value(row), nulls.value(row), non_finite.value(row)],
                    close: close.concat(),
                    products: numbers(row, "cross_products"),
                };
                assert!(states.insert(key, found).is_none(), "a cell has two rows");
            }
        }
    }
    states
}

fn assert_close(found: &[f64], expected: &[f64], relative: f64, place: &[String]) {
    assert_eq!(found.len(), expected.len(), "{place:?}");
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, number| most.max(number.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.to_bits() == expected.to_bits()
                || (found - expected).abs() <= relative * expected.abs().max(largest * 1e-3),
            "{place:?}: {found} is not {expected}"
        );
    }
}

/// Another fact of the same users.
const VISITS: &str = "create view visits as
select user_id as visitor, occurred_at + interval '90 minutes' as visited_at, event_name as kind, milliseconds / 7 as seconds
from events where milliseconds > 500";

/// A fact that ends before the others.
const EARLY: &str =
    "create view early as select * from events where occurred_at < timestamp '2026-03-12 00:00:00'";

/// What both ways are asked on random data.
pub struct Case {
    pub metrics: Vec<Metric>,
    pub data: Data,
    /// SQL for the instant up to which the data are complete.
    pub complete_through: Option<&'static str>,
    pub has_events: bool,
    /// Queries that take the place of `events` and `assignments`; they read `raw_events` and `raw_assignments`.
    pub tables: Option<[String; 2]>,
}

impl Case {
    pub fn random(seed: u64, metric: impl Fn(&mut Random, usize) -> Metric) -> Case {
        let mut random = Random(seed);
        let mut data = data(&mut random, KEYS.len());
        put_on_edges(&mut random, &mut data);
        Case {
            metrics: (0..6).map(|index| metric(&mut random, index)).collect(),
            data,
            complete_through: None,
            has_events: true,
            tables: None,
        }
    }

    pub fn uses(&self) -> Vec<Use<'_>> {
        let of = |(index, metric)| Use {
            metric,
            experiments: KEYS[..1 + index % 3]
                .iter()
                .map(|&key| key.to_owned())
                .collect(),
        };
        self.metrics.iter().enumerate().map(of).collect()
    }

    async fn session(&self) -> SessionContext {
        let context = session(&self.data, 2);
        equipoise::sql::functions::register(&context);
        let run = async |sql: &str| {
            context.sql(sql).await.unwrap().collect().await.unwrap();
        };
        for (name, query) in ["events", "assignments"]
            .into_iter()
            .zip(self.tables.iter().flatten())
        {
            let raw = context.deregister_table(name).unwrap().unwrap();
            context.register_table(format!("raw_{name}"), raw).unwrap();
            run(&format!("create table {name} as {query}")).await;
        }
        run(&units()).await;
        run(VISITS).await;
        run(EARLY).await;
        if !self.has_events {
            let all = context.deregister_table("events").unwrap().unwrap();
            context.register_table("all_events", all).unwrap();
            run("create view events as select * from all_events where false").await;
        }
        context
    }

    /// Builds both ways, demands that the states are equal, and says how many there were.
    pub fn compare(&self) -> usize {
        let [found, expected] = self.states();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for (place, state) in &found {
            let oracle = &expected[place];
            assert_eq!(state.counts, oracle.counts, "{place:?}");
            assert_close(&state.close, &oracle.close, 1e-15, place);
            assert_close(&state.products, &oracle.products, 1e-12, place);
        }
        found.len()
    }

    /// The states of the operator, and of plain SQL.
    pub fn states(&self) -> [BTreeMap<Vec<String>, Numbers>; 2] {
        let segments = BTreeMap::from([
            (KEYS[0].to_owned(), vec!["country".to_owned()]),
            (KEYS[1].to_owned(), vec!["platform".to_owned()]),
        ]);
        // Shown where a test fails.
        let kinds = self
            .metrics
            .iter()
            .map(|metric| (&metric.name, &metric.kind));
        println!("{:?}", kinds.collect::<Vec<_>>());
        let (uses, through) = (self.uses(), self.complete_through);
        let operator = planned_aggregates(&uses, "units", &segments, &experiments(), through);
        assert!(
            operator.contains("metric_states") && !operator.contains("unit_values"),
            "{operator}"
        );
        let calls = operator.matches("metric_states(").count();
        assert_eq!(calls, 1, "all metrics are of one pass: {operator}");
        let oracle = aggregates(&uses, "units", &segments, through);
        super::runtime().block_on(async {
            let context = self.session().await;
            let found = rows(&context, &operator).await;
            [states_of(&found), states_of(&rows(&context, &oracle).await)]
        })
    }
}

/// Moves some events to whole days after an assignment of their unit, where windows start and end.
pub fn put_on_edges(random: &mut Random, data: &mut Data) {
    for event in &mut data.events {
        let own = data
            .assignments
            .iter()
            .find(|assignment| assignment.unit == event.unit);
        if let Some(assignment) = own.filter(|_| random.chance(20)) {
            event.at = assignment.at + (random.below(24) as i64 - 3) * DAY * 1_000_000;
        }
    }
}

#[test]
fn the_operator_and_plain_sql_give_the_same_metric_aggregates() {
    let compared: usize = (0..4)
        .map(|seed| Case::random(1_000 + seed, metric).compare())
        .sum();
    assert!(compared > 200, "only {compared} states were compared");
}

#[test]
fn windows_are_full_when_plain_sql_says_so() {
    let full = |random: &mut Random, index| Metric {
        maturity: Maturity::FullWindow,
        ..metric(random, index)
    };
    for (seed, through) in ["timestamp '2026-03-20 00:00:00'", "cast(null as timestamp)"]
        .into_iter()
        .enumerate()
    {
        let mut case = Case::random(2_000 + seed as u64, full);
        case.complete_through = Some(through);
        assert!(case.compare() > 20);
    }
    let mut without_events = Case::random(2_002, full);
    without_events.has_events = false;
    assert!(without_events.compare() > 20);
}

#[test]
fn a_fact_that_ends_early_takes_no_units_from_metrics_that_do_not_read_it() {
    let full = |random: &mut Random, index| Metric {
        maturity: Maturity::FullWindow,
        ..metric(random, index)
    };
    let mut case = Case::random(2_100, full);
    let alone = case.states();
    let orders = |fact: &str| Measure {
        fact: fact.to_owned(),
        ..measure(Aggregation::Count, None, None)
    };
    let kinds = [
        Kind::Mean(orders("events")),
        Kind::Mean(orders("early")),
        Kind::Ratio {
            numerator: orders("early"),
            denominator: orders("events"),
        },
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        case.metrics.push(Metric {
            kind,
            window: Window {
                start: days(0),
                length: Some(days(5)),
                calendar: None,
            },
            ..full(&mut Random(7), 6 + index)
        });
    }
    case.compare();
    let together = case.states();
    for (alone, together) in alone.iter().zip(&together) {
        for (place, state) in alone {
            assert_eq!(
                format!("{state:?}"),
                format!("{:?}", together[place]),
                "{place:?}"
            );
        }
        let units = |name: &str| -> i64 {
            let own = together.iter();
            let own = own.filter(|(place, _)| {
                place[0] == KEYS[0] && place[2] == name && place[6] == "state"
            });
            own.map(|(_, state)| state.counts[0]).sum()
        };
        let [all, early, both] = ["metric_6", "metric_7", "metric_8"].map(units);
        assert!(
            0 < early && early == both && both < all,
            "{all} {early} {both}"
        );
    }
}

#[test]
fn an_end_of_the_data_that_is_no_time_is_refused_both_ways() {
    let full = |random: &mut Random, index| Metric {
        maturity: Maturity::FullWindow,
        ..metric(random, index)
    };
    let case = Case::random(2_003, full);
    let (uses, none) = (case.uses(), BTreeMap::new());
    let both = [
        planned_aggregates(&uses, "units", &none, &experiments(), Some("5")),
        aggregates(&uses, "units", &none, Some("5")),
    ];
    super::runtime().block_on(async {
        let context = case.session().await;
        for sql in both {
            let rows = context
                .sql(&format!("select * from {sql} as computed"))
                .await;
            let is_refused = match rows {
                Ok(rows) => rows.collect().await.is_err(),
                Err(_) => true,
            };
            assert!(is_refused, "{sql}");
        }
    });
}

/// Metrics of every kind with full windows, each side of which reads a fact that ends when it does.
fn of_facts_with_their_own_ends(random: &mut Random, index: usize) -> Metric {
    let mut metric = any_metric(random, index);
    metric.maturity = match random.chance(80) {
        true => Maturity::FullWindow,
        false => Maturity::Partial,
    };
    let mut fact = |measure: &mut Measure| {
        if measure.fact == "events" && random.chance(50) {
            measure.fact = "early".to_owned();
        }
    };
    match &mut metric.kind {
        Kind::Ratio {
            numerator,
            denominator,
        }
        | Kind::MeanOfRatios {
            numerator,
            denominator,
        } => {
            fact(numerator);
            fact(denominator);
        }
        Kind::Mean(measure)
        | Kind::Proportion(measure)
        | Kind::Quantile { measure, .. }
        | Kind::Retention { measure, .. } => fact(measure),
        _ => {}
    }
    metric
}

#[test]
fn facts_that_end_at_different_times_are_read_in_one_pass() {
    let random = |seed| Case::random(seed, of_facts_with_their_own_ends);
    let compared: usize = (2_200..2_206).map(|seed| random(seed).compare()).sum();
    assert!(compared > 200, "only {compared} states were compared");
    let mut without_events = random(2_206);
    without_events.has_events = false;
    without_events.compare();
}

#[test]
fn every_kind_of_metric_has_the_states_of_plain_sql() {
    let random = |seed| Case {
        complete_through: Some("timestamp '2026-04-10 12:00:00'"),
        ..Case::random(seed, any_metric)
    };
    let compared: usize = [3_001, 3_002, 3_005, 3_008]
        .map(|seed| random(seed).compare())
        .iter()
        .sum();
    assert!(compared > 400, "only {compared} states were compared");
    let mut without_events = random(3_100);
    without_events.has_events = false;
    assert!(without_events.compare() > 10);
}

#[test]
fn what_units_did_before_is_known_though_a_number_of_their_window_is_not_finite() {
    let amount = || measure(Aggregation::Sum, Some("amount"), None);
    let with_covariate = |random: &mut Random, index: usize| {
        let mut metric = metric(random, index);
        metric.kind = match index {
            1 => Kind::Ratio {
                numerator: amount(),
                denominator: measure(Aggregation::Count, None, None),
            },
            _ => Kind::Mean(amount()),
        };
        metric.cap = (index == 2).then_some(Cap::Quantile {
            share: 0.8,
            is_pooled: true,
        });
        metric.window.calendar = (index == 3).then(|| "Europe/Berlin".to_owned());
        metric.fill = match index {
            4 => Fill::Exclude,
            _ => Fill::Zero,
        };
        metric.covariate = Some(Covariate {
            lookback: days(21),
            before_period: index == 5,
        });
        metric
    };
    let mut case = Case::random(3_500, with_covariate);
    for (at, event) in case.data.events.iter_mut().enumerate() {
        event.amount = match at % 29 {
            0 => Some(f64::NAN),
            11 => Some(f64::INFINITY),
            17 => Some(f64::NEG_INFINITY),
            _ => event.amount,
        };
    }
    assert!(case.compare() > 100);
    let [found, _] = case.states();
    let left_out = |(place, state): &(&Vec<String>, &Numbers)| {
        let mut other = (*place).clone();
        let is_state = other.pop().is_some_and(|name| name == "state");
        other.push("before".to_owned());
        is_state && found[&other].counts[0] > state.counts[0]
    };
    assert!(found.iter().filter(left_out).count() > 50);
}

/// What a build says that is asked for a value of every unit.
pub fn refused(sql: &str, case: &Case) -> String {
    super::runtime().block_on(async {
        let context = case.session().await;
        let query = context
            .sql(&format!("select * from {sql} as computed"))
            .await;
        query.unwrap().collect().await.unwrap_err().to_string()
    })
}

#[test]
fn units_without_a_value_are_refused_in_the_words_of_plain_sql() {
    let mut case = Case::random(4_000, metric);
    case.metrics.truncate(1);
    case.metrics[0].kind = Kind::Mean(measure(Aggregation::Sum, Some("amount"), None));
    case.metrics[0].fill = Fill::Fail;
    let (uses, none) = (case.uses(), BTreeMap::new());
    let operator = planned_aggregates(&uses, "units", &none, &experiments(), None);
    assert!(operator.contains("metric_states"), "{operator}");
    let found = refused(&operator, &case);
    assert!(
        found.contains("`metric_0` has no value for ")
            && found.contains(" units of a variant or segment"),
        "{found}"
    );
    let counts = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    let expected = refused(&aggregates(&uses, "units", &none, None), &case);
    let words = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
    assert_eq!(words(&found), words(&expected));
    assert!(counts(&found) > 2);
}

#[test]
fn what_the_operator_does_not_know_stays_plain_sql() {
    let mut case = Case::random(7, metric);
    case.metrics.truncate(1);
    case.metrics[0].kind = Kind::Funnel {
        steps: vec![
            visit(Aggregation::Count, None, None),
            Measure {
                unit_column: "other".to_owned(),
                ..visit(Aggregation::Count, None, None)
            },
        ],
    };
    let sql = planned_aggregates(
        &case.uses(),
        "units",
        &BTreeMap::new(),
        &experiments(),
        None,
    );
    assert!(sql.contains("-- in plain SQL: metric_0"), "{sql}");
    case.metrics[0].kind = Kind::Mean(measure(Aggregation::Count, None, None));
    let of_query = |units: &str| {
        planned_aggregates(&case.uses(), units, &BTreeMap::new(), &experiments(), None)
    };
    assert!(!of_query("units").contains("in plain SQL"));
    assert!(of_query("(select * from units)").contains("in plain SQL"));
}
