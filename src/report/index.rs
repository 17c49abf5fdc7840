//! The first page: how many experiments ended how, and a row for each.

use serde::Serialize;

use super::evidence::{Decision, Evidence};
use super::plot::{Interval, Scale, Tick};
use super::{experiment, values};

#[derive(Serialize)]
pub struct Index {
    counts: Vec<Count>,
    rows: Vec<Row>,
    ticks: Vec<Tick>,
}

/// Experiments with one decision.
#[derive(Serialize)]
struct Count {
    decision: String,
    class: &'static str,
    experiments: usize,
}

#[derive(Serialize)]
struct Row {
    key: String,
    path: String,
    decision: String,
    class: &'static str,
    reasons: Vec<String>,
    metric: Option<String>,
    lift: Option<String>,
    interval: Option<Interval>,
    p: Option<String>,
    units: Option<String>,
    owner: Option<String>,
}

pub fn view(evidence: &Evidence) -> Index {
    let mut decisions: Vec<&Decision> = evidence.decisions.iter().collect();
    decisions.sort_by_key(|row| {
        (
            values::urgency(&row.decision),
            &row.decision,
            &row.experiment_key,
        )
    });
    let bounds = decisions
        .iter()
        .flat_map(|row| [row.lift_low, row.lift_high]);
    let scale = Scale::over(bounds.flatten());
    let alike = decisions.chunk_by(|a, b| a.decision == b.decision);
    Index {
        counts: alike.map(count).collect(),
        rows: decisions
            .iter()
            .map(|decision| row(evidence, decision, scale))
            .collect(),
        ticks: scale.ticks(),
    }
}

fn count(alike: &[&Decision]) -> Count {
    let word = &alike[0].decision;
    Count {
        decision: values::decision(word),
        class: values::class(word),
        experiments: alike.len(),
    }
}

fn row(evidence: &Evidence, decision: &Decision, scale: Scale) -> Row {
    let metric = decision.primary_metric.as_deref();
    Row {
        key: decision.experiment_key.clone(),
        path: experiment::path(&decision.experiment_key),
        decision: values::decision(&decision.decision),
        class: values::class(&decision.decision),
        reasons: decision.reasons.clone(),
        metric: metric.map(|name| evidence.label(name).to_string()),
        lift: values::lift(decision.lift, decision.lift_low, decision.lift_high),
        interval: scale.interval((decision.lift_low, decision.lift, decision.lift_high), None),
        p: values::p(decision.p_value),
        units: decision
            .analysed_units
            .or(decision.units)
            .map(values::count),
        owner: decision.owner.clone(),
    }
}
