//! Which way each metric goes, and its words in the plan.
//! In: a [`Metric`], and [`Sources`] that remember what is asked of the events. Out: a [`Way`], [`MetricStates`] or a [`SpecialMetric`].

use super::super::metric::{
    Aggregation, Cap, Fill, Kind, Level, Maturity as Wanted, Measure, Metric,
};
use super::super::plan::{
    self, Aggregate, Maturity, MetricStates, SpecialAggregate, SpecialMeasure, SpecialMetric,
    UnitNumber,
};
use super::super::sql::step_bits;
use super::sources::{Sources, place};

/// How the states of a metric are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The operator, windows being differences of running totals.
    RunningTotals,
    /// The operator, each unit's events looked at one by one.
    EventByEvent,
    PlainSql,
}

pub fn way(metric: &Metric) -> Way {
    match &metric.kind {
        Kind::Derived { .. } | Kind::Cumulative { .. } => Way::PlainSql,
        Kind::Mean(_)
        | Kind::Total(_)
        | Kind::Proportion(_)
        | Kind::Ratio { .. }
        | Kind::Retention { .. }
            if is_plain(metric) =>
        {
            Way::RunningTotals
        }
        // Rows of one fact in their order.
        Kind::Funnel { steps } if steps.iter().any(|step| place(step) != place(&steps[0])) => {
            Way::PlainSql
        }
        Kind::Quantile { .. }
        | Kind::Funnel { .. }
        | Kind::MeanOfRatios { .. }
        | Kind::Retention { .. }
            if metric.covariate.is_some() =>
        {
            Way::PlainSql
        }
        _ => Way::EventByEvent,
    }
}

/// Whether differences of running totals say everything.
fn is_plain(metric: &Metric) -> bool {
    let is_quantile = |cap: Option<Cap>| matches!(cap, Some(Cap::Quantile { .. }));
    let measures = metric.kind.measures();
    // Totals and returns are never left out.
    let is_filled = metric.fill == Fill::Zero
        || matches!(metric.kind, Kind::Ratio { .. } | Kind::Retention { .. });
    is_filled
        && metric.window.calendar.is_none()
        && !is_quantile(metric.cap)
        && measures
            .iter()
            .all(|measure| !counts_values(measure) && !is_quantile(measure.cap))
}

/// Distinct values of anything but the unit, of which there is one.
fn counts_values(measure: &Measure) -> bool {
    measure.aggregation == Aggregation::CountDistinct && !counts_units(measure)
}

fn counts_units(measure: &Measure) -> bool {
    measure.aggregation == Aggregation::CountDistinct
        && measure.expression.as_ref() == Some(&measure.unit_column)
}

/// The operator knows names alone, so the version is part of it.
pub fn versioned(metric: &Metric) -> String {
    format!("{}@{}", metric.plain_name(), metric.version)
}

/// `data_end` is the position of the metric's own among those of the plan.
pub fn metric_states(
    metric: &Metric,
    data_end: Option<usize>,
    sources: &mut Sources<'_>,
) -> MetricStates {
    let mut measures = metric
        .kind
        .measures()
        .into_iter()
        .map(|measure| planned_measure(metric, measure, sources));
    let value = measures.next().expect("every kind has a measure");
    let denominator = measures.next();
    drop(measures);
    MetricStates {
        name: versioned(metric),
        value,
        denominator,
        window_start: metric.window.start.seconds,
        window_length: metric.window.length.map(|length| length.seconds),
        lookback: lookback(metric),
        lookback_before_period: is_before_period(metric),
        maturity: maturity(metric),
        data_end,
    }
}

fn lookback(metric: &Metric) -> Option<i64> {
    metric.covariate.map(|covariate| covariate.lookback.seconds)
}

fn is_before_period(metric: &Metric) -> bool {
    metric
        .covariate
        .is_some_and(|covariate| covariate.before_period)
}

fn maturity(metric: &Metric) -> Maturity {
    match metric.maturity {
        Wanted::FullWindow => Maturity::FullWindow,
        Wanted::Partial => Maturity::Partial,
    }
}

fn planned_measure(metric: &Metric, measure: &Measure, sources: &mut Sources<'_>) -> plan::Measure {
    let (event, value) = value(measure, sources);
    plan::Measure {
        event,
        aggregate: match measure.aggregation {
            Aggregation::Count if matches!(metric.kind, Kind::Retention { .. }) => Aggregate::Any,
            Aggregation::Count => Aggregate::Count,
            Aggregation::Sum => Aggregate::Sum,
            Aggregation::Max => Aggregate::Max,
            Aggregation::Min => Aggregate::Min,
            Aggregation::Any | Aggregation::CountDistinct => Aggregate::Any,
        },
        value,
        cap: match (&metric.kind, measure.cap) {
            (Kind::Ratio { .. }, Some(Cap::At(cap))) => Some(cap),
            (Kind::Ratio { .. }, _) => None,
            _ => metric.frozen_cap(),
        },
        at_least: match metric.kind {
            Kind::Retention { at_least, .. } => u32::try_from(at_least).unwrap_or(u32::MAX),
            _ => 1,
        },
    }
}

pub fn special_metric(
    metric: &Metric,
    data_end: Option<usize>,
    sources: &mut Sources<'_>,
) -> SpecialMetric {
    let mut special = |measure| special_measure(measure, sources);
    let number = match &metric.kind {
        Kind::Ratio {
            numerator,
            denominator,
        } => UnitNumber::Ratio(special(numerator), special(denominator)),
        Kind::MeanOfRatios {
            numerator,
            denominator,
        } => UnitNumber::OwnRatio(special(numerator), special(denominator)),
        Kind::Quantile {
            measure,
            level: Level::Event,
            ..
        } => UnitNumber::Every(special(measure)),
        Kind::Retention { measure, at_least } => UnitNumber::One(SpecialMeasure {
            aggregate: SpecialAggregate::Any(u32::try_from(*at_least).unwrap_or(u32::MAX)),
            ..special(measure)
        }),
        Kind::Funnel { steps } => UnitNumber::One(steps_in_order(steps, sources)),
        kind => UnitNumber::One(special(kind.measures()[0])),
    };
    let quantile = match metric.kind {
        Kind::Quantile { q, .. } => Some(q),
        _ => None,
    };
    SpecialMetric {
        name: versioned(metric),
        number,
        caps: match &metric.kind {
            Kind::Ratio {
                numerator,
                denominator,
            } => [numerator, denominator]
                .map(|side| side.cap.map(cap))
                .to_vec(),
            _ if quantile.is_some() => vec![None],
            _ => vec![metric.cap.map(cap)],
        },
        fill: match (&metric.kind, metric.fill) {
            (Kind::Ratio { .. } | Kind::Retention { .. }, _) | (_, Fill::Zero) => plan::Fill::Zero,
            (_, Fill::Exclude) => plan::Fill::Exclude,
            (_, Fill::Fail) => plan::Fill::Fail,
        },
        window_start: metric.window.start.seconds,
        window_length: metric.window.length.map(|length| length.seconds),
        calendar: metric.window.calendar.clone(),
        lookback: lookback(metric),
        lookback_before_period: is_before_period(metric),
        maturity: maturity(metric),
        data_end,
        quantile,
    }
}

fn cap(cap: Cap) -> plan::Cap {
    match cap {
        Cap::At(cap) => plan::Cap::At(cap),
        Cap::Quantile { share, is_pooled } => plan::Cap::Quantile { share, is_pooled },
    }
}

fn special_measure(measure: &Measure, sources: &mut Sources<'_>) -> SpecialMeasure {
    if counts_values(measure) {
        let taken = sources.taken(measure);
        let expression = measure.expression.as_deref().unwrap_or_default();
        let code = only(&taken.filter, expression, None);
        return SpecialMeasure {
            event: taken.event,
            aggregate: SpecialAggregate::Distinct,
            value: Some(sources.code(measure, code)),
        };
    }
    let (event, value) = value(measure, sources);
    SpecialMeasure {
        event,
        aggregate: match measure.aggregation {
            Aggregation::Count => SpecialAggregate::Count,
            Aggregation::Sum => SpecialAggregate::Sum,
            Aggregation::Max => SpecialAggregate::Max,
            Aggregation::Min => SpecialAggregate::Min,
            Aggregation::Any | Aggregation::CountDistinct => SpecialAggregate::Any(1),
        },
        value,
    }
}

/// One row can be several steps: bit k of its number says that it is step k + 1.
fn steps_in_order(steps: &[Measure], sources: &mut Sources<'_>) -> SpecialMeasure {
    let bits = format!("nullif({}, 0)", step_bits(steps));
    SpecialMeasure {
        event: None,
        aggregate: SpecialAggregate::Steps(steps.len() as u32),
        value: Some(sources.value(&steps[0], bits)),
    }
}

/// The events that a measure takes, and the position of what it takes of them; without one events are counted.
fn value(measure: &Measure, sources: &mut Sources<'_>) -> (Option<String>, Option<usize>) {
    let taken = sources.taken(measure);
    let expression = measure.expression.as_deref();
    let counts = matches!(
        measure.aggregation,
        Aggregation::Count | Aggregation::Any | Aggregation::CountDistinct
    );
    // All events of one fact among several are told by a number that the others do not have.
    let needs_no_value = taken.filter.is_none() && (sources.is_one() || taken.event.is_some());
    let value = match expression {
        _ if counts_units(measure) && needs_no_value => None,
        _ if counts_units(measure) => Some(only(&taken.filter, "1", None)),
        None if counts && needs_no_value => None,
        None if counts => Some(only(&taken.filter, "1", None)),
        Some(asked) if measure.aggregation == Aggregation::Any => {
            Some(only(&taken.filter, "1", Some(format!("({asked})"))))
        }
        Some(counted) if counts => Some(only(
            &taken.filter,
            "1",
            Some(format!("({counted}) is not null")),
        )),
        expression => Some(only(&taken.filter, expression.unwrap_or_default(), None)),
    };
    let position = value.map(|value| sources.value(measure, value));
    (taken.event, position)
}

/// An expression where conditions hold, and NULL where not.
fn only(filter: &Option<String>, expression: &str, also: Option<String>) -> String {
    let conditions = filter
        .iter()
        .map(|filter| format!("({filter})"))
        .chain(also);
    let conditions: Vec<String> = conditions.collect();
    match conditions.is_empty() {
        true => expression.to_owned(),
        false => format!(
            "case when {} then {expression} end",
            conditions.join(" and ")
        ),
    }
}
