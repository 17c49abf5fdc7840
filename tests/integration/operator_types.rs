//! The operator and plain SQL over columns of every type: of units, and of values.

use std::collections::BTreeMap;

use equipoise::metrics::planned::planned_aggregates;
use equipoise::metrics::{Aggregation, Cap, Fill, Kind, Level, Measure, Metric};

use super::operator_planned::{Case, experiments, measure, metric, refused};
use super::operator_states::Random;

/// The columns of the events beside the unit, and those of the assignments.
const OTHERS: [&str; 2] = [
    "occurred_at, event_name, amount, milliseconds",
    "assigned_at, experiment_key, variant, country, platform",
];

/// A random case whose units are SQL of `text`, such as `unit-7`, and of `number`, such as 7.
fn of_units(seed: u64, events: &str, assignments: &str) -> Case {
    let mut case = Case::random(seed, metric);
    case.metrics.truncate(3);
    let of = |table: &str, unit: &str, id: &str, others: &str| {
        let units = format!(
            "select *, {unit} as text, cast(split_part({unit}, '-', 2) as bigint) as number from raw_{table}"
        );
        format!("select {id} as {unit}, {others} from ({units})")
    };
    case.tables = Some([
        of("events", "user_id", events, OTHERS[0]),
        of("assignments", "unit_id", assignments, OTHERS[1]),
    ]);
    case
}

/// Ids that are no texts.
const BYTES: &str = "decode(md5(text), 'hex')";

fn cast(id: &str, arrow: &str) -> String {
    format!("arrow_cast({id}, '{arrow}')")
}

#[test]
fn units_of_every_type_are_told_apart_as_in_plain_sql() {
    let mut ids = vec![BYTES.to_owned()];
    let bytes = ["LargeBinary", "BinaryView", "FixedSizeBinary(16)"];
    ids.extend(bytes.map(|kind| cast(BYTES, kind)));
    ids.push(cast(BYTES, "Dictionary(Int32, Binary)"));
    ids.push(cast(
        &cast(BYTES, "BinaryView"),
        "Dictionary(UInt8, LargeBinary)",
    ));
    let texts = ["LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)"];
    ids.extend(texts.map(|kind| cast("text", kind)));
    for bits in [8, 16, 32, 64] {
        ids.push(cast("number", &format!("Int{bits}")));
        ids.push(cast("number", &format!("UInt{bits}")));
    }
    ids.push(
        "arrow_cast('18446744073709551615', 'UInt64') - arrow_cast(number, 'UInt64')".to_owned(),
    );
    ids.push(cast("number", "Dictionary(Int32, Int64)"));
    ids.push("cast(number as decimal(20, 3)) / 8".to_owned());
    ids.push(cast("number", "Decimal256(50, 4)"));
    ids.extend(["Float32", "Float64"].map(|kind| cast("number / 7.0", kind)));
    ids.push("to_timestamp(number)".to_owned());
    ids.push(cast("arrow_cast(number, 'Int32')", "Date32"));
    for (seed, id) in ids.iter().enumerate() {
        println!("{id}");
        assert!(of_units(500 + seed as u64, id, id).compare() > 10, "{id}");
    }
}

#[test]
fn units_of_two_types_that_can_be_equal_are_the_same_units() {
    let dictionary = cast("text", "Dictionary(Int32, Utf8)");
    let fixed = cast(BYTES, "FixedSizeBinary(16)");
    let unsigned = cast("number", "UInt64");
    let pairs = [
        ("text", dictionary.as_str()),
        (&dictionary, "text"),
        (BYTES, &fixed),
        ("number", &unsigned),
        ("number", "cast(number as varchar)"),
    ];
    for (seed, (events, assignments)) in pairs.into_iter().enumerate() {
        println!("{events} and {assignments}");
        let case = of_units(600 + seed as u64, events, assignments);
        assert!(case.compare() > 10, "{events} and {assignments}");
    }
}

#[test]
fn units_that_have_values_inside_are_refused_by_name_and_type() {
    for (id, kind) in [
        ("named_struct('id', number)", "a struct"),
        ("make_array(number)", "a list of bigint"),
    ] {
        let case = of_units(700, id, id);
        let none = BTreeMap::new();
        let operator = planned_aggregates(&case.uses(), "units", &none, &experiments(), None);
        let said = refused(&operator, &case);
        assert!(
            said.contains(&format!("the unit `user_id` of `events` is {kind}")),
            "{said}"
        );
    }
}

/// A measure of the values, some with a cap that is no whole number of hundredths.
fn of_value(random: &mut Random) -> Measure {
    use Aggregation::{Count, Max, Min, Sum};
    let aggregations = [Sum, Sum, Max, Min, Count];
    let condition = random.chance(50).then_some("event_name = 'order'");
    Measure {
        cap: cap(random),
        ..measure(
            aggregations[random.below(5) as usize],
            Some("amount"),
            condition,
        )
    }
}

fn cap(random: &mut Random) -> Option<Cap> {
    let caps = [0.125, 1.0 / 3.0, 12.34, 70.0, 1e5, 3e13 + 1.0];
    let cap = caps[random.below(6) as usize];
    random.chance(40).then_some(Cap::At(cap))
}

fn metric_of_value(random: &mut Random, index: usize) -> Metric {
    let mut metric = metric(random, index);
    metric.kind = match random.below(8) {
        0..=2 => Kind::Mean(of_value(random)),
        3 | 4 => Kind::Ratio {
            numerator: of_value(random),
            denominator: of_value(random),
        },
        5 => Kind::MeanOfRatios {
            numerator: of_value(random),
            denominator: of_value(random),
        },
        6 => Kind::Quantile {
            measure: of_value(random),
            q: 0.75,
            level: Level::Unit,
        },
        _ => Kind::Quantile {
            measure: Measure {
                aggregation: Aggregation::Sum,
                ..of_value(random)
            },
            q: 0.75,
            level: Level::Event,
        },
    };
    let is_mean = matches!(metric.kind, Kind::Mean(_));
    metric.cap = cap(random).filter(|_| is_mean);
    metric.covariate = metric
        .covariate
        .filter(|_| is_mean || matches!(metric.kind, Kind::Ratio { .. }));
    if random.chance(30) {
        metric.fill = Fill::Exclude;
    }
    metric
}

fn without_extremes(metric: &mut Metric) {
    let sides = match &mut metric.kind {
        Kind::Mean(one) | Kind::Quantile { measure: one, .. } => vec![one],
        Kind::Ratio {
            numerator,
            denominator,
        }
        | Kind::MeanOfRatios {
            numerator,
            denominator,
        } => vec![numerator, denominator],
        _ => vec![],
    };
    for side in sides {
        if side.aggregation != Aggregation::Count {
            side.aggregation = Aggregation::Sum;
        }
    }
}

/// A random case whose events have SQL of `amount`, a decimal or NULL, and `milliseconds`, a whole number, as value.
fn of_values(seed: u64, value: &str) -> Case {
    let mut case = Case::random(seed, metric_of_value);
    case.tables = Some([
        format!(
            "select user_id, occurred_at, event_name, {value} as amount, milliseconds from raw_events"
        ),
        "select * from raw_assignments".to_owned(),
    ]);
    case
}

#[test]
fn values_of_every_type_give_the_states_of_plain_sql() {
    let mut values = vec![
        "amount".to_owned(),
        "amount / 7".to_owned(),
        "milliseconds / 7.0".to_owned(),
        "amount * 1e302".to_owned(),
        "amount * 1e-304".to_owned(),
        "milliseconds * 1e10".to_owned(),
        "milliseconds * 1e11 + 1".to_owned(),
        "milliseconds % 2 = 0".to_owned(),
        cast("amount", "Float32"),
        cast("amount / 7", "Float32"),
    ];
    for (digits, scale) in [(20, 0), (20, 1), (20, 2), (20, 3), (25, 6), (38, 15)] {
        values.push(cast(
            "amount / 7",
            &format!("Decimal128({digits}, {scale})"),
        ));
    }
    for (digits, scale) in [(50, 2), (76, 8)] {
        values.push(cast(
            "amount / 7",
            &format!("Decimal256({digits}, {scale})"),
        ));
    }
    for bits in [8, 16, 32, 64] {
        values.push(cast("milliseconds % 128", &format!("Int{bits}")));
        values.push(cast("milliseconds % 128", &format!("UInt{bits}")));
    }
    values.push("milliseconds * 9007199254741".to_owned());
    values.push(
        "arrow_cast('9223372036854775808', 'UInt64') + arrow_cast(milliseconds, 'UInt64')"
            .to_owned(),
    );
    for (number, value) in values.iter().enumerate() {
        println!("{value}");
        assert!(of_values(800 + number as u64, value).compare() > 20);
    }
}

/// Two of a unit's values are large and cancel out: what is left is as exact as each of them.
#[test]
fn numbers_that_cancel_out_leave_what_plain_sql_leaves() {
    for (seed, value) in [
        "amount / 7 + 1 / 3.0 + case when milliseconds % 2 = 0 then 1e6 else -1e6 end",
        "case when milliseconds % 3 = 0 then 1e300 when milliseconds % 3 = 1 then -1e300 else amount / 7 + 1 / 3.0 end",
        "case when milliseconds % 2 = 0 then 1e14 + milliseconds else -1e14 end",
    ]
    .into_iter()
    .enumerate()
    {
        println!("{value}");
        assert!(of_values(900 + seed as u64, value).compare() > 20);
    }
}

#[test]
fn values_that_are_not_finite_are_seen_whatever_the_cap() {
    for (seed, value) in ["NaN", "Infinity", "-Infinity"].into_iter().enumerate() {
        for other in ["amount", "amount / 7"] {
            let value = format!(
                "case when milliseconds % 50 = 0 then cast('{value}' as double) else {other} end"
            );
            println!("{value}");
            let mut case = of_values(950 + seed as u64, &value);
            // Of a NaN and a number, DataFusion's `max` and `min` are the last.
            case.metrics.iter_mut().for_each(without_extremes);
            // The operator leaves such units out of the state of the time before, too.
            for metric in &mut case.metrics {
                metric.covariate = None;
            }
            let seen: i64 = case.states()[0].values().map(|state| state.counts[2]).sum();
            assert!(case.compare() > 20 && seen > 0);
        }
    }
}

/// Some units are whole hundredths, some are large, some are neither.
#[test]
fn a_mean_that_cancels_out_is_zero() {
    let mut case = Case::random(980, metric);
    case.metrics.truncate(1);
    case.metrics[0].kind = Kind::Mean(measure(Aggregation::Sum, Some("amount"), None));
    (case.metrics[0].cap, case.metrics[0].covariate) = (None, None);
    case.metrics[0].window.start.seconds = 0;
    case.metrics[0].maturity = equipoise::metrics::Maturity::Partial;
    let instant = "timestamp '2026-03-01T10:00:00'";
    let rows = "(values ('a', 5.0), ('b', 0.375), ('c', -0.125), ('d', 400000.0), ('e', -400005.0), ('f', -0.25), ('g', 0.0)) as rows(unit, number)";
    case.tables = Some([
        format!(
            "select unit as user_id, {instant} as occurred_at, 'order' as event_name, cast(number as double) as amount, 1 as milliseconds from {rows}"
        ),
        format!(
            "select unit as unit_id, {instant} as assigned_at, 'experiment 0' as experiment_key, 'control' as variant, 'DE' as country, 'web' as platform from {rows}"
        ),
    ]);
    for states in case.states() {
        let found: Vec<_> = states
            .values()
            .map(|state| (state.counts[0], state.close[0]))
            .collect();
        assert_eq!(found, [(7, 0.0); 2]);
    }
}
