//! From metrics to the plan of the operator that fills their states in one pass.
//! In: used metrics, the relation of units, the experiments' variants. Out: SQL with the columns of [`super::sql::aggregates`], which
//! stays the oracle and takes over what the operator does not know ([`ways`] says which way each metric goes). A comment in
//! the SQL names what it takes over.

use std::collections::BTreeMap;

use super::plan::{
    AssignmentSource, ExperimentPlan, MetricPlan, MetricStates, PeriodColumns, SpecialMetric,
};
use super::sql::{DataEnds, Use, aggregates};
use crate::manifest::identifier;
use sources::Sources;
use ways::Way;

mod sources;
mod ways;

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
    let (plan, rest) = plan(uses, units, segments, experiments, complete_through);
    let mut parts: Vec<String> = plan.iter().map(select).collect();
    if !rest.is_empty() || plan.is_none() {
        let names: Vec<&str> = rest.iter().map(|used| used.metric.name.as_str()).collect();
        parts.push(format!(
            "    -- in plain SQL: {}\n    select * from {} as computed",
            names.join(", "),
            aggregates(&rest, units, segments, complete_through)
        ));
    }
    format!("(\n{}\n)", parts.join("\n    union all\n"))
}

/// The plan of all metrics that the operator knows, over all of their facts, and the metrics that need plain SQL.
pub fn plan<'a>(
    uses: &[Use<'a>],
    units: &str,
    segments: &BTreeMap<String, Vec<String>>,
    experiments: &[ExperimentPlan],
    complete_through: Option<&str>,
) -> (Option<MetricPlan>, Vec<Use<'a>>) {
    let is_known = |used: &&Use<'a>| is_name(units) && ways::way(used.metric) != Way::PlainSql;
    let (known, rest): (Vec<&Use<'a>>, Vec<&Use<'a>>) = uses.iter().partition(is_known);
    let all = || uses.to_vec();
    if known.is_empty() {
        return (None, all());
    }
    let mut sources = Sources::of(&known);
    let ends = DataEnds::of(known.iter().map(|used| used.metric), complete_through);
    // Where a value stands is known once all facts have said theirs.
    planned_metrics(&known, &ends, &mut sources);
    let (metrics, specials) = planned_metrics(&known, &ends, &mut sources);
    let mut events = sources.events();
    let planned = MetricPlan {
        metrics,
        specials,
        experiments: experiments
            .iter()
            .map(|experiment| planned_experiment(experiment, &known, segments))
            .collect(),
        assignments: assignment_source(units, segments),
        events: events.remove(0),
        more_events: events,
        complete_through: i64::MAX,
        data_ends: ends.known,
    };
    match planned.fault() {
        None => (Some(planned), rest.into_iter().cloned().collect()),
        Some(_) => (None, all()),
    }
}

fn planned_metrics(
    uses: &[&Use<'_>],
    ends: &DataEnds<'_>,
    sources: &mut Sources<'_>,
) -> (Vec<MetricStates>, Vec<SpecialMetric>) {
    let (mut metrics, mut specials) = (Vec::new(), Vec::new());
    for used in uses {
        let (metric, data_end) = (used.metric, ends.position(used.metric));
        match ways::way(metric) {
            Way::RunningTotals => metrics.push(ways::metric_states(metric, data_end, sources)),
            Way::EventByEvent => specials.push(ways::special_metric(metric, data_end, sources)),
            Way::PlainSql => {}
        }
    }
    (metrics, specials)
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

fn planned_experiment(
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
        metrics: Some(used.map(|used| ways::versioned(used.metric)).collect()),
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
    }
}
