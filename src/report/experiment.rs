//! The page of one experiment: the decision, every metric on one scale, the units that came and went, segments.

use serde::Serialize;

use super::evidence::{Decision, Definition, Evidence, Outcome, SampleRatio};
use super::plot::{Interval, Scale, Tick};
use super::values;
use crate::experiments::words::{number, percent};

#[derive(Serialize)]
pub struct Experiment {
    key: String,
    decision: String,
    class: &'static str,
    reasons: Vec<String>,
    hypothesis: Option<String>,
    facts: Vec<(&'static str, String)>,
    metrics: Vec<Row>,
    ticks: Vec<Tick>,
    /// Whether the drawing needs to be explained.
    has_margins: bool,
    is_cut: bool,
    segments: Vec<Segments>,
    segment_ticks: Vec<Tick>,
    sample_ratios: Vec<Ratio>,
    steps: Vec<Bar>,
}

/// A metric of a treatment, everybody or one segment.
#[derive(Serialize)]
struct Row {
    name: String,
    label: String,
    description: Option<String>,
    version: Option<String>,
    variant: String,
    segment: String,
    role: String,
    control: Option<String>,
    treatment: Option<String>,
    control_units: Option<String>,
    treatment_units: Option<String>,
    lift: Option<String>,
    interval: Option<Interval>,
    p: Option<String>,
    tendency: &'static str,
    /// What a guardrail may lose.
    margin: Option<String>,
    is_adjusted: bool,
    /// The smallest change that the experiment would have seen, where it saw none.
    detectable: Option<String>,
    /// Why there is no result.
    problem: Option<String>,
}

/// A metric by the values of one dimension.
#[derive(Serialize)]
struct Segments {
    label: String,
    dimension: String,
    rows: Vec<Row>,
}

/// A check of the sample ratio.
#[derive(Serialize)]
struct Ratio {
    population: String,
    arms: Vec<Arm>,
    p: Option<String>,
    verdict: String,
    is_wrong: bool,
    is_decisive: bool,
}

#[derive(Serialize)]
struct Arm {
    variant: String,
    units: String,
    found: String,
    planned: String,
}

/// Units after a step, of those at the start.
#[derive(Serialize)]
struct Bar {
    step: String,
    left_out: Option<String>,
    units_left: String,
    share: String,
    width: f64,
}

/// Where the page of an experiment is; no two keys have the same, on any file system.
pub fn path(key: &str) -> String {
    let name: String = key
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("~{other:02x}"),
        })
        .collect();
    format!("experiments/{name}.html")
}

pub fn view(evidence: &Evidence, decision: &Decision) -> Experiment {
    let key = &decision.experiment_key;
    let results = || {
        evidence
            .results
            .iter()
            .filter(|row| row.experiment_key == *key)
    };
    let all: Vec<&Outcome> = results()
        .filter(|row| row.segment_dimension == "all")
        .collect();
    let parts: Vec<&Outcome> = results()
        .filter(|row| row.segment_dimension != "all")
        .collect();
    let (scale, segment_scale) = (scale(&all), scale(&parts));
    let definition = evidence.experiments.get(key);
    let checks = evidence.sample_ratios.iter();
    let metrics: Vec<Row> = all
        .iter()
        .map(|outcome| row(evidence, outcome, scale))
        .collect();
    let drawn = || metrics.iter().filter_map(|row| row.interval.as_ref());
    Experiment {
        has_margins: drawn().any(|interval| interval.margin.is_some()),
        is_cut: drawn().any(|interval| interval.is_cut_low || interval.is_cut_high),
        key: key.clone(),
        decision: values::decision(&decision.decision),
        class: values::class(&decision.decision),
        reasons: decision.reasons.clone(),
        hypothesis: definition.and_then(|definition| definition.hypothesis.clone()),
        facts: facts(decision, definition),
        metrics,
        ticks: scale.ticks(),
        segments: segments(evidence, &parts, segment_scale),
        segment_ticks: segment_scale.ticks(),
        sample_ratios: checks
            .filter(|check| check.experiment_key == *key)
            .map(ratio)
            .collect(),
        steps: steps(evidence, key),
    }
}

fn scale(outcomes: &[&Outcome]) -> Scale {
    let bounds = outcomes
        .iter()
        .flat_map(|outcome| [outcome.lift_low, outcome.lift_high]);
    Scale::over(bounds.flatten())
}

fn facts(decision: &Decision, definition: Option<&Definition>) -> Vec<(&'static str, String)> {
    let of = |field: fn(&Definition) -> &Option<String>| {
        definition.and_then(|found| field(found).clone())
    };
    let starts = of(|definition| &definition.starts_at).map(|instant| values::day(&instant));
    let ends = of(|definition| &definition.ends_at).map(|instant| values::last_day(&instant));
    let period = match (starts, ends) {
        (Some(starts), Some(ends)) => Some(format!("{starts} to {ends}")),
        (Some(starts), None) => Some(format!("from {starts} on")),
        _ => None,
    };
    let alpha = definition.and_then(|definition| definition.alpha);
    let facts = [
        (
            "Owner",
            decision
                .owner
                .clone()
                .or(of(|definition| &definition.owner)),
        ),
        ("Period", period),
        ("Unit", of(|definition| &definition.unit)),
        ("Control", of(|definition| &definition.control_variant)),
        ("Flag", of(|definition| &definition.flag_key)),
        ("Level", alpha.map(|alpha| alpha.to_string())),
        ("Units analysed", decision.analysed_units.map(values::count)),
    ];
    facts
        .into_iter()
        .filter_map(|(name, fact)| Some((name, fact?)))
        .collect()
}

fn row(evidence: &Evidence, outcome: &Outcome, scale: Scale) -> Row {
    let kind = outcome.kind.as_deref();
    let tendency = values::tendency(outcome);
    // A margin is a loss: below zero where more is better.
    let loss = match outcome.direction.as_deref() {
        Some("decrease") => outcome.margin,
        _ => outcome.margin.map(|margin| -margin),
    };
    let bounds = (outcome.lift_low, outcome.lift, outcome.lift_high);
    let status = outcome.status.as_deref().filter(|status| *status != "ok");
    let described = evidence.metrics.get(&outcome.metric_name);
    let effect = outcome
        .effect
        .map(|effect| format!("{} (absolute)", number(effect)));
    Row {
        name: outcome.metric_name.clone(),
        label: evidence.label(&outcome.metric_name).to_string(),
        description: described.and_then(|metric| metric.description.clone()),
        version: outcome.metric_version.clone(),
        variant: outcome.variant.clone(),
        segment: outcome.segment.clone(),
        role: outcome.role.clone(),
        control: values::value(kind, outcome.control_value),
        treatment: values::value(kind, outcome.treatment_value),
        control_units: outcome.control_units.map(values::count),
        treatment_units: outcome.treatment_units.map(values::count),
        lift: values::lift(outcome.lift, outcome.lift_low, outcome.lift_high).or(effect),
        interval: scale.interval(bounds, loss),
        p: values::p(outcome.p_value),
        tendency,
        margin: outcome.margin.map(percent),
        is_adjusted: outcome.is_adjusted.unwrap_or(false),
        detectable: outcome
            .detectable_lift
            .filter(|_| tendency == "unclear")
            .map(percent),
        problem: status.map(|status| status.replace('_', " ")),
    }
}

/// By metric, the primary one first, and by dimension.
fn segments(evidence: &Evidence, parts: &[&Outcome], scale: Scale) -> Vec<Segments> {
    let place = |name: &str| parts.iter().position(|row| row.metric_name == name);
    let mut sorted = parts.to_vec();
    sorted.sort_by_key(|row| (place(&row.metric_name), &row.segment_dimension));
    let alike = sorted.chunk_by(|a, b| {
        a.metric_name == b.metric_name && a.segment_dimension == b.segment_dimension
    });
    alike
        .map(|rows| Segments {
            label: evidence.label(&rows[0].metric_name).to_string(),
            dimension: rows[0].segment_dimension.clone(),
            rows: rows
                .iter()
                .map(|outcome| row(evidence, outcome, scale))
                .collect(),
        })
        .collect()
}

fn ratio(check: &SampleRatio) -> Ratio {
    let total: f64 = check.units.iter().sum();
    let arms = check
        .variants
        .iter()
        .zip(check.units.iter().zip(&check.shares));
    let arm = |(variant, (units, planned)): (&String, (&f64, &f64))| Arm {
        variant: variant.clone(),
        units: values::count(*units as i64),
        found: match total > 0.0 {
            true => percent(units / total),
            false => "none".into(),
        },
        planned: percent(*planned),
    };
    Ratio {
        population: check.population.clone(),
        arms: arms.map(arm).collect(),
        p: values::p(check.p_value),
        verdict: check.verdict.replace('_', " "),
        is_wrong: check.verdict == "mismatch",
        is_decisive: check.is_decisive,
    }
}

/// Of the units at the start, those that each step left.
fn steps(evidence: &Evidence, key: &str) -> Vec<Bar> {
    let of_key = || {
        evidence
            .steps
            .iter()
            .filter(|step| step.experiment_key == key)
    };
    let first = of_key().next().map_or(0, |step| step.units);
    let bar = |(at, step): (usize, &super::evidence::Step)| {
        let share = if first > 0 {
            step.units_left as f64 / first as f64
        } else {
            0.0
        };
        Bar {
            step: step.step.replace('_', " "),
            left_out: (at > 0).then(|| values::count(step.units)),
            units_left: values::count(step.units_left),
            share: percent(share),
            width: (share * 2000.0).round() / 10.0,
        }
    };
    of_key().enumerate().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_an_experiment_stays_in_its_folder() {
        assert_eq!(path("hero_banner"), "experiments/hero_banner.html");
        assert_eq!(path("../up"), "experiments/~2e~2e~2fup.html");
        // Where case does not count, these are one file if they are not told apart.
        assert_ne!(path("Hero").to_lowercase(), path("hero"));
        assert_eq!(path("größe"), "experiments/gr~c3~b6~c3~9fe.html");
    }
}
