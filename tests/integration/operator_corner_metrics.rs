//! Metrics as `resolve` lets them through, with odd windows, names, numbers and caps.

use equipoise::metrics::{
    Aggregation, Cap, Covariate, Duration, Fill, Kind, Level, Maturity, Measure, Metric, Window,
};

use super::operator_planned::{measure, metric};
use super::operator_states::Random;

pub const DAY: i64 = 86_400;

pub fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}

const CONDITIONS: [Option<&str>; 14] = [
    None,
    None,
    Some("event_name = 'order'"),
    Some("event_name = 'visit'"),
    Some("event_name = 'order' and (amount > 100 or milliseconds < 10)"),
    Some("event_name = 'visit' and (amount is null)"),
    Some("(event_name = 'order' or event_name = 'visit')"),
    Some("(event_name is null)"),
    Some("event_name = 'it''s'"),
    Some("event_name = ''"),
    Some("event_name = '1:order'"),
    Some("event_name = 'nobody'"),
    Some("(amount > 1e9)"),
    Some("(event_name in ('order', 'load') and milliseconds % 2 = 0)"),
];

const NUMBERS: [&str; 17] = [
    "amount",
    "amount",
    "milliseconds",
    "amount * 2",
    "amount / 3",
    "0 - amount",
    "amount * 1e6",
    "milliseconds % 3 - 1",
    "cast(amount as decimal(12, 2))",
    "cast(amount as decimal(14, 3))",
    "milliseconds > 2500",
    "case when milliseconds % 40 = 0 then 3e13 + 1 else amount end",
    "coalesce(amount, 0.0)",
    "cast(null as double)",
    "amount * amount * amount * amount * 1e300",
    "cast(milliseconds as varchar)",
    "arrow_cast(milliseconds % 200, 'UInt8')",
];

/// No zeros of both signs: plain SQL counts them once or twice, as DataFusion happens to go about it.
const VALUES: [&str; 8] = [
    "event_name",
    "amount",
    "milliseconds % 3",
    "occurred_at",
    "user_id",
    "cast(occurred_at as date)",
    "cast(amount as decimal(10, 1))",
    "event_name = 'order'",
];

/// Half of all measures are of the other fact, whose columns have other names.
pub fn elsewhere(measure: Measure) -> Measure {
    let renamed = |text: String| {
        text.replace("event_name", "kind")
            .replace("amount", "price")
            .replace("milliseconds", "\"Seconds\"")
            .replace("occurred_at", "visited_at")
            .replace("user_id", "visitor")
    };
    Measure {
        fact: "visits".to_owned(),
        unit_column: "visitor".to_owned(),
        time_column: "visited_at".to_owned(),
        expression: measure.expression.map(renamed),
        condition: measure.condition.map(renamed),
        ..measure
    }
}

fn any_measure(random: &mut Random) -> Measure {
    use Aggregation::{Any, Count, CountDistinct, Max, Min, Sum};
    let aggregation = one_of(random, &[Sum, Sum, Count, Any, Max, Min, CountDistinct]);
    let expression = match aggregation {
        CountDistinct => Some(one_of(random, &VALUES)),
        Any => random
            .chance(40)
            .then_some("milliseconds > 1000 or amount > 50"),
        Count => random.chance(40).then_some("amount"),
        _ => Some(one_of(random, &NUMBERS)),
    };
    let measure = measure(aggregation, expression, one_of(random, &CONDITIONS));
    match random.chance(30) {
        true => elsewhere(measure),
        false => measure,
    }
}

fn any_cap(random: &mut Random) -> Option<Cap> {
    match random.below(4) {
        0 | 1 => None,
        2 => Some(Cap::At(one_of(
            random,
            &[0.01, 1.0, 2.5, 99.99, 1000.0 / 3.0, 1e9],
        ))),
        _ => Some(Cap::Quantile {
            share: one_of(random, &[0.01, 0.3, 0.5, 0.9, 0.99, 0.999]),
            is_pooled: random.chance(50),
        }),
    }
}

fn steps(random: &mut Random) -> Vec<Measure> {
    let count = one_of(random, &[2, 2, 3, 4, 16]);
    let is_elsewhere = random.chance(30);
    let step = |_| measure(Aggregation::Count, None, one_of(random, &CONDITIONS));
    let steps = (0..count).map(step).collect::<Vec<_>>();
    match is_elsewhere {
        true => steps.into_iter().map(elsewhere).collect(),
        false => steps,
    }
}

fn kind(random: &mut Random) -> Kind {
    let side = |random: &mut Random| Measure {
        cap: any_cap(random),
        ..any_measure(random)
    };
    match random.below(11) {
        0..=2 => Kind::Mean(any_measure(random)),
        3 => Kind::Total(any_measure(random)),
        4 => Kind::Proportion(Measure {
            aggregation: Aggregation::Any,
            expression: None,
            ..any_measure(random)
        }),
        5 => Kind::Retention {
            measure: Measure {
                aggregation: Aggregation::Count,
                expression: random.chance(30).then(|| "1".to_owned()),
                ..any_measure(random)
            },
            at_least: 1 + random.below(4) as i64,
        },
        6 => Kind::Ratio {
            numerator: side(random),
            denominator: side(random),
        },
        7 => Kind::MeanOfRatios {
            numerator: any_measure(random),
            denominator: any_measure(random),
        },
        8 => Kind::Quantile {
            measure: measure(
                Aggregation::Sum,
                Some(one_of(random, &NUMBERS)),
                one_of(random, &CONDITIONS),
            ),
            q: one_of(random, &[0.01, 0.5, 0.9, 0.99]),
            level: Level::Event,
        },
        9 => Kind::Quantile {
            measure: any_measure(random),
            q: one_of(random, &[0.01, 0.5, 0.9, 0.99]),
            level: Level::Unit,
        },
        _ => Kind::Funnel {
            steps: steps(random),
        },
    }
}

fn window(random: &mut Random, is_retention: bool) -> Window {
    let calendar = random.chance(30).then(|| {
        let zones = [
            "Europe/Berlin",
            "America/New_York",
            "Pacific/Apia",
            "Asia/Kolkata",
            "UTC",
        ];
        one_of(random, &zones).to_owned()
    });
    let starts: &[i64] = match (&calendar, is_retention) {
        (Some(_), _) => &[0, 0, DAY, 7 * DAY],
        (None, true) => &[1, 5_400, DAY, 7 * DAY],
        (None, false) => &[0, 0, 0, 1, 5_400, DAY, 30 * DAY, 9_000 * DAY],
    };
    let lengths: &[i64] = match calendar {
        Some(_) => &[DAY, 7 * DAY, 400 * DAY],
        None => &[1, 1_800, DAY, 25 * 3_600, 14 * DAY, 400 * DAY, 9_000 * DAY],
    };
    Window {
        start: Duration {
            seconds: one_of(random, starts).max(i64::from(is_retention)),
        },
        length: random.chance(70).then(|| Duration {
            seconds: one_of(random, lengths),
        }),
        calendar,
    }
}

/// Any metric that `resolve` lets through.
pub fn any_metric(random: &mut Random, index: usize) -> Metric {
    let kind = kind(random);
    let is_retention = matches!(kind, Kind::Retention { .. });
    let mut window = window(random, is_retention);
    if window.calendar.is_some() && is_retention {
        window.start.seconds = window.start.seconds.max(DAY) / DAY * DAY;
    }
    let takes_covariate = matches!(
        kind,
        Kind::Mean(_) | Kind::Total(_) | Kind::Proportion(_) | Kind::Ratio { .. }
    );
    let is_filled = matches!(
        kind,
        Kind::Ratio { .. }
            | Kind::Proportion(_)
            | Kind::Retention { .. }
            | Kind::Quantile {
                level: Level::Event,
                ..
            }
    );
    let takes_cap = matches!(
        kind,
        Kind::Mean(_) | Kind::Total(_) | Kind::MeanOfRatios { .. }
    );
    let lookback = |random: &mut Random| Covariate {
        lookback: Duration {
            seconds: one_of(random, &[1, 5_400, DAY, 14 * DAY, 9_000 * DAY]),
        },
        before_period: random.chance(40),
    };
    Metric {
        maturity: match window.length.is_some() && random.chance(50) {
            true => Maturity::FullWindow,
            false => Maturity::Partial,
        },
        fill: match is_filled || random.chance(60) {
            true => Fill::Zero,
            false => Fill::Exclude,
        },
        cap: any_cap(random).filter(|_| takes_cap),
        covariate: (takes_covariate && random.chance(50)).then(|| lookback(random)),
        kind,
        window,
        ..metric(random, index)
    }
}
