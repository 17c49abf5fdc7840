//! From metrics to the plan of the operator that fills their states in one pass.
//! In: used metrics, the relation of units, the experiments' variants. Out: SQL with the columns of [`super::sql::aggregates`], which
//! stays the oracle and takes over the metrics that the operator does not know: counts of distinct values, ratios of two
//! facts, quantiles, funnels, units that are left out, calendars and caps that are quantiles. A comment in the
//! SQL names them.

use std::collections::BTreeMap;

use super::metric::{Aggregation, Cap, Fill, Kind, Maturity as Wanted, Measure, Metric};
use super::plan::{
    self, Aggregate, AssignmentSource, EventSource, ExperimentPlan, Maturity, MetricPlan,
    MetricStates, PeriodColumns,
};
use super::sql::{Use, aggregates_until, complete_ends};
use crate::manifest::identifier;

/// States of every used metric by way of the table function `metric_states`; `experiments` says what each one's variants are, its
/// metrics and segments are taken from the other arguments, and its period from the relation of units. `complete_through` as
/// for [`super::sql::aggregates`].
pub fn planned_aggregates(
    uses: &[Use<'_>],
    units: &str,
    segments: &BTreeMap<String, Vec<String>>,
    experiments: &[ExperimentPlan],
    complete_through: Option<&str>,
) -> String {
    let ends = complete_ends(uses, complete_through);
    let (plans, rest) = plans(uses, units, segments, experiments, &ends);
    let mut parts: Vec<String> = plans.iter().map(select).collect();
    if !rest.is_empty() || parts.is_empty() {
        let names: Vec<&str> = rest.iter().map(|used| used.metric.name.as_str()).collect();
        parts.push(format!(
            "    -- in plain SQL: {}\n    select * from {} as computed",
            names.join(", "),
            aggregates_until(&rest, units, segments, &ends)
        ));
    }
    format!("(\n{}\n)", parts.join("\n    union all\n"))
}

/// One plan per fact, and the metrics that need plain SQL; `ends` are those of [`complete_ends`].
pub fn plans<'a>(
    uses: &[Use<'a>],
    units: &str,
    segments: &BTreeMap<String, Vec<String>>,
    experiments: &[ExperimentPlan],
    ends: &[String],
) -> (Vec<MetricPlan>, Vec<Use<'a>>) {
    let mut by_fact: BTreeMap<(&str, &str, &str), Vec<&Use<'a>>> = BTreeMap::new();
    let mut rest = Vec::new();
    for used in uses {
        match fact(used.metric) {
            Some(fact) if is_name(units) => by_fact.entry(fact).or_default().push(used),
            _ => rest.push(used.clone()),
        }
    }
    let plan = |((fact, unit, time), uses): (_, Vec<&Use<'a>>)| {
        let mut sources = Values {
            values: Vec::new(),
            name_column: name_column(&uses),
        };
        let metrics = uses
            .iter()
            .map(|used| metric_states(used.metric, &mut sources))
            .collect();
        MetricPlan {
            metrics,
            experiments: experiments
                .iter()
                .map(|experiment| planned(experiment, &uses, segments))
                .collect(),
            assignments: AssignmentSource {
                complete_through: match uses.iter().any(|used| asks_full_windows(used.metric)) {
                    true => ends.to_vec(),
                    false => Vec::new(),
                },
                ..assignment_source(units, segments)
            },
            events: EventSource {
                table: identifier(fact),
                unit: identifier(unit),
                time: identifier(time),
                name: sources.name_column.map_or("''".to_owned(), str::to_owned),
                values: sources.values,
            },
            complete_through: i64::MAX,
        }
    };
    let mut plans = Vec::new();
    for (fact, uses) in by_fact {
        let planned = plan((fact, uses.clone()));
        match planned.fault() {
            None => plans.push(planned),
            Some(_) => rest.extend(uses.into_iter().cloned()),
        }
    }
    (plans, rest)
}

/// Whether a relation is one that a session knows by name, rather than a query in brackets.
fn is_name(relation: &str) -> bool {
    relation
        .chars()
        .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '"'))
}

fn select(plan: &MetricPlan) -> String {
    let json = serde_json::to_string(plan).expect("a plan of texts and numbers is JSON");
    format!(
        "    select experiment_key, variant, split_part(metric_name, '@', 1) as metric_name, split_part(metric_name, '@', 2) as metric_version,\n        \
         segment_dimension, segment, state, before_state\n    from metric_states('{}')",
        json.replace('\'', "''")
    )
}

/// Fact, unit and time column of a metric whose states the operator can fill.
fn fact(metric: &Metric) -> Option<(&str, &str, &str)> {
    let measures = metric.kind.measures();
    let place = |measure: &'_ Measure| {
        (
            measure.fact.clone(),
            measure.unit_column.clone(),
            measure.time_column.clone(),
        )
    };
    let first = measures.first()?;
    let is_known_kind = matches!(
        metric.kind,
        Kind::Mean(_)
            | Kind::Total(_)
            | Kind::Proportion(_)
            | Kind::Retention { .. }
            | Kind::Ratio { .. }
    );
    let is_known = is_known_kind
        && metric.fill == Fill::Zero
        && metric.window.calendar.is_none()
        && !matches!(metric.cap, Some(Cap::Quantile { .. }))
        && measures.iter().all(|measure| {
            measure.aggregation != Aggregation::CountDistinct
                && !matches!(measure.cap, Some(Cap::Quantile { .. }))
                && place(measure) == place(first)
        });
    is_known.then_some((&first.fact, &first.unit_column, &first.time_column))
}

fn planned(
    experiment: &ExperimentPlan,
    uses: &[&Use<'_>],
    segments: &BTreeMap<String, Vec<String>>,
) -> ExperimentPlan {
    let used = uses
        .iter()
        .filter(|used| used.experiments.contains(&experiment.key));
    let dimensions = segments.get(&experiment.key).into_iter().flatten();
    ExperimentPlan {
        // The relation of units has judged crossed-over units and those outside the period already.
        from: i64::MIN,
        to: i64::MAX,
        measured_until: i64::MAX,
        excludes_crossed_over: false,
        metrics: Some(used.map(|used| versioned(used.metric)).collect()),
        segments: std::iter::once(Vec::new())
            .chain(dimensions.map(|dimension| vec![identifier(dimension)]))
            .collect(),
        ..experiment.clone()
    }
}

fn assignment_source(units: &str, segments: &BTreeMap<String, Vec<String>>) -> AssignmentSource {
    let mut columns: Vec<String> = segments
        .values()
        .flatten()
        .map(|dimension| identifier(dimension))
        .collect();
    columns.sort();
    columns.dedup();
    AssignmentSource {
        table: units.to_owned(),
        unit: "unit_id".to_owned(),
        time: "assigned_at".to_owned(),
        experiment: "experiment_key".to_owned(),
        variant: "variant".to_owned(),
        segments: columns,
        condition: Some("is_analysed".to_owned()),
        period: Some(PeriodColumns {
            starts_at: "period_starts_at".to_owned(),
            measured_until: "measured_until".to_owned(),
        }),
        complete_through: Vec::new(),
    }
}

/// What is asked of the events, each thing once.
struct Values<'a> {
    values: Vec<String>,
    name_column: Option<&'a str>,
}

impl Values<'_> {
    fn position(&mut self, expression: String) -> usize {
        self.values
            .iter()
            .position(|known| *known == expression)
            .unwrap_or_else(|| {
                self.values.push(expression);
                self.values.len() - 1
            })
    }
}

/// The operator knows names alone, so the version is part of it.
fn versioned(metric: &Metric) -> String {
    format!("{}@{}", metric.plain_name(), metric.version)
}

fn metric_states(metric: &Metric, sources: &mut Values<'_>) -> MetricStates {
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
        lookback: metric.covariate.map(|covariate| covariate.lookback.seconds),
        lookback_before_period: metric
            .covariate
            .is_some_and(|covariate| covariate.before_period),
        maturity: match metric.maturity {
            Wanted::FullWindow => Maturity::FullWindow,
            Wanted::Partial => Maturity::Partial,
        },
    }
}

fn asks_full_windows(metric: &Metric) -> bool {
    metric.maturity == Wanted::FullWindow
}

fn planned_measure(metric: &Metric, measure: &Measure, sources: &mut Values<'_>) -> plan::Measure {
    let (event, filter) = split(measure.condition.as_deref(), sources.name_column);
    let taken = |value: &str, also: Option<String>| {
        let conditions: Vec<String> = filter
            .iter()
            .map(|filter| format!("({filter})"))
            .chain(also)
            .collect();
        match conditions.is_empty() {
            true => value.to_owned(),
            false => format!("case when {} then {value} end", conditions.join(" and ")),
        }
    };
    let expression = measure.expression.as_deref();
    let value = match (measure.aggregation, expression) {
        (Aggregation::Count | Aggregation::Any, None) if filter.is_none() => None,
        (Aggregation::Count | Aggregation::Any, None) => Some(taken("1", None)),
        (Aggregation::Any, Some(expression)) => Some(taken("1", Some(format!("({expression})")))),
        (Aggregation::Count, Some(expression)) => {
            Some(taken("1", Some(format!("({expression}) is not null"))))
        }
        (_, expression) => Some(taken(expression.unwrap_or_default(), None)),
    };
    let at_least = match metric.kind {
        Kind::Retention { at_least, .. } => u32::try_from(at_least).unwrap_or(u32::MAX),
        _ => 1,
    };
    plan::Measure {
        event,
        aggregate: match measure.aggregation {
            Aggregation::Count if matches!(metric.kind, Kind::Retention { .. }) => Aggregate::Any,
            Aggregation::Count | Aggregation::CountDistinct => Aggregate::Count,
            Aggregation::Sum => Aggregate::Sum,
            Aggregation::Max => Aggregate::Max,
            Aggregation::Min => Aggregate::Min,
            Aggregation::Any => Aggregate::Any,
        },
        value: value.map(|value| sources.position(value)),
        cap: match (&metric.kind, measure.cap) {
            (Kind::Ratio { .. }, Some(Cap::At(cap))) => Some(cap),
            (Kind::Ratio { .. }, _) => None,
            _ => metric.frozen_cap(),
        },
        at_least,
    }
}

/// The column that holds event names: the left side of the first condition `column = 'name'`.
fn name_column<'a>(uses: &[&Use<'a>]) -> Option<&'a str> {
    let measures = uses.iter().flat_map(|used| used.metric.kind.measures());
    measures
        .filter_map(|measure| named(measure.condition.as_deref()?))
        .map(|(column, _, _)| column)
        .next()
}

/// The event's name, where the condition starts with one, and what else it asks.
fn split(condition: Option<&str>, name_column: Option<&str>) -> (Option<String>, Option<String>) {
    let Some(condition) = condition else {
        return (None, None);
    };
    match named(condition) {
        Some((column, event, rest)) if Some(column) == name_column => {
            (Some(event), rest.map(str::to_owned))
        }
        _ => (None, Some(condition.to_owned())),
    }
}

/// `column = 'name'`, alone or followed by ` and ...`.
fn named(condition: &str) -> Option<(&str, String, Option<&str>)> {
    let (column, rest) = condition.split_once(" = '")?;
    let is_plain = |text: &str| {
        text.chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '"')
    };
    if !is_plain(column) {
        return None;
    }
    let mut end = rest.find('\'')?;
    while rest[end + 1..].starts_with('\'') {
        end = end + 2 + rest[end + 2..].find('\'')?;
    }
    let (event, after) = (rest[..end].replace("''", "'"), &rest[end + 1..]);
    match after {
        "" => Some((column, event, None)),
        _ => after
            .strip_prefix(" and ")
            .map(|filter| (column, event, Some(filter))),
    }
}
