//! One number per unit: the aggregates over a unit's rows, and what a unit without rows counts as.

use crate::manifest::identifier;
use crate::metrics::metric::{Aggregation, Fill, Kind, Level, Measure, Metric};

/// One column of a query that has a row per unit.
pub struct Column {
    /// `value`, `numerator` or `denominator`.
    pub part: &'static str,
    /// The aggregate over the unit's rows.
    pub sql: String,
}

/// The aggregates that a metric needs of a unit's rows; `when` says which of them, given their time column.
pub fn columns(metric: &Metric, when: &dyn Fn(&Measure) -> Option<String>) -> Vec<Column> {
    let value = |sql| vec![Column { part: "value", sql }];
    match &metric.kind {
        Kind::Ratio {
            numerator,
            denominator,
        }
        | Kind::MeanOfRatios {
            numerator,
            denominator,
        } => vec![
            Column {
                part: "numerator",
                sql: aggregate(numerator, when(numerator)),
            },
            Column {
                part: "denominator",
                sql: aggregate(denominator, when(denominator)),
            },
        ],
        Kind::Funnel { steps } => value(steps_in_order(steps, when(&steps[0]))),
        Kind::Quantile {
            measure,
            level: Level::Event,
            ..
        } => value(every_value(measure, when(measure))),
        kind => kind
            .measures()
            .first()
            .map(|measure| value(aggregate(measure, when(measure))))
            .unwrap_or_default(),
    }
}

/// What the unit counts as, from the aggregate of its rows; NULL where it is left out. Lists of events stay lists.
pub fn number(metric: &Metric, part: &str, column: &str) -> String {
    match &metric.kind {
        Kind::Quantile {
            level: Level::Event,
            ..
        } => column.to_string(),
        Kind::Retention { at_least, .. } => {
            format!("case when coalesce({column}, 0) >= {at_least} then 1.0 else 0.0 end")
        }
        Kind::Funnel { steps } => match metric.fill {
            Fill::Zero => format!(
                "case when coalesce({column}, 0) >= {} then 1.0 else 0.0 end",
                steps.len()
            ),
            Fill::Exclude | Fill::Fail => format!(
                "case when {column} >= {} then 1.0 when {column} >= 1 then 0.0 end",
                steps.len()
            ),
        },
        // A unit's own ratio is made of totals; whether the unit is left out is decided when they are divided.
        Kind::Ratio { .. } | Kind::MeanOfRatios { .. } => {
            filled(aggregation(metric, part), Fill::Zero, column)
        }
        _ => filled(aggregation(metric, part), metric.fill, column),
    }
}

/// The same before the experiment: a unit without rows had nothing.
pub fn number_before(metric: &Metric, part: &str, column: &str) -> String {
    filled(aggregation(metric, part), Fill::Zero, column)
}

fn aggregation(metric: &Metric, part: &str) -> Aggregation {
    let measures = metric.kind.measures();
    let at = usize::from(part == "denominator");
    measures[at.min(measures.len() - 1)].aggregation
}

fn filled(aggregation: Aggregation, fill: Fill, column: &str) -> String {
    use Aggregation::{Any, Count, CountDistinct};
    match (aggregation, fill) {
        (Any, Fill::Zero) => format!("case when coalesce({column}, 0) > 0 then 1.0 else 0.0 end"),
        (Any, Fill::Exclude | Fill::Fail) => format!("case when {column} > 0 then 1.0 end"),
        (Count | CountDistinct, Fill::Exclude | Fill::Fail) => {
            format!("cast(nullif({column}, 0) as double)")
        }
        (_, Fill::Exclude | Fill::Fail) => column.to_string(),
        (_, Fill::Zero) => format!("cast(coalesce({column}, 0) as double)"),
    }
}

/// A unit's own ratio.
pub fn own_ratio(fill: Fill, numerator: &str, denominator: &str) -> String {
    match fill {
        Fill::Exclude | Fill::Fail => format!("{numerator} / nullif({denominator}, 0)"),
        Fill::Zero => {
            format!("case when {denominator} <> 0 then {numerator} / {denominator} else 0.0 end")
        }
    }
}

/// The measure's aggregate over the rows that it asks for.
pub fn aggregate(measure: &Measure, when: Option<String>) -> String {
    let condition = both(measure.condition.clone(), when);
    let filter = filter(condition.as_deref());
    let expression = measure.expression.clone().unwrap_or_default();
    match measure.aggregation {
        Aggregation::Count if expression.is_empty() => format!("count(*){filter}"),
        Aggregation::Count => format!("count({expression}){filter}"),
        // A unit is one unit.
        Aggregation::CountDistinct if expression == measure.unit_column => {
            format!("least(count(*){filter}, 1)")
        }
        Aggregation::CountDistinct => match condition {
            Some(condition) => {
                format!("count(distinct case when {condition} then {expression} end)")
            }
            None => format!("count(distinct {expression})"),
        },
        Aggregation::Any => {
            let asked = measure
                .expression
                .as_ref()
                .map(|asked| format!("({asked})"));
            format!(
                "count(*){}",
                self::filter(both(condition, asked).as_deref())
            )
        }
        Aggregation::Sum => format!("sum(cast({expression} as double)){filter}"),
        Aggregation::Max => format!("max(cast({expression} as double)){filter}"),
        Aggregation::Min => format!("min(cast({expression} as double)){filter}"),
    }
}

/// Every value of the unit's rows as a list.
fn every_value(measure: &Measure, when: Option<String>) -> String {
    let expression = measure.expression.clone().unwrap_or_default();
    let there = Some(format!("({expression}) is not null"));
    let condition = both(both(measure.condition.clone(), when), there);
    format!(
        "array_agg(cast({expression} as double)){}",
        filter(condition.as_deref())
    )
}

/// A number whose bits say which steps a row is: bit k that it is step k + 1.
pub(in crate::metrics) fn step_bits(steps: &[Measure]) -> String {
    let bits = steps
        .iter()
        .enumerate()
        .map(|(at, step)| match &step.condition {
            Some(condition) => format!("case when {condition} then {} else 0 end", 1 << at),
            None => (1 << at).to_string(),
        });
    bits.collect::<Vec<_>>().join(" + ")
}

/// How many steps the unit went in their order. Each row is its time and a number whose bits say which steps it is, so that
/// one row can be several steps but is taken as one only. The function sorts: an ordered `array_agg` keeps a sorter per unit,
/// which took five times as long.
fn steps_in_order(steps: &[Measure], when: Option<String>) -> String {
    let bits = step_bits(steps);
    let any_step: Option<Vec<String>> = steps
        .iter()
        .map(|step| {
            step.condition
                .as_ref()
                .map(|condition| format!("({condition})"))
        })
        .collect();
    let condition = both(any_step.map(|any| format!("({})", any.join(" or "))), when);
    format!(
        "steps_reached(array_agg(make_array(date_part('epoch', {}), cast({} as double))){})",
        identifier(&steps[0].time_column),
        bits,
        filter(condition.as_deref())
    )
}

/// Two conditions that both must hold.
pub fn both(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one} and {other}")),
        (one, other) => one.or(other),
    }
}

pub fn filter(condition: Option<&str>) -> String {
    condition
        .map(|condition| format!(" filter (where {condition})"))
        .unwrap_or_default()
}
