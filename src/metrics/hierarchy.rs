//! The hierarchy of metrics: north stars, what drives them, and what guards them.
//! In: the metric specs of a manifest. Out: what is wrong with their tiers.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::project::MetricSpec;

/// Every rule over all metrics.
pub(super) fn check(metrics: &[MetricSpec]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    north_stars(metrics, &mut diagnostics);
    drivers(metrics, &mut diagnostics);
    if let Some(circle) = circle(metrics, "drive each other", &|metric| {
        metric
            .drives
            .iter()
            .map(|name| name.value.clone())
            .collect()
    }) {
        diagnostics.push(circle);
    }
    if let Some(circle) = circle(metrics, "are derived from each other", &inputs) {
        diagnostics.push(circle);
    }
    guardrails(metrics, &mut diagnostics);
    aliases(metrics, &mut diagnostics);
    diagnostics
}

fn has_tier(metric: &MetricSpec, tier: &str) -> bool {
    metric.tier.as_ref().is_some_and(|own| own.value == tier)
}

/// Exactly one north star per area. Metrics without an area are an area too, which needs one as soon as something drives it.
fn north_stars(metrics: &[MetricSpec], diagnostics: &mut Vec<Diagnostic>) {
    let mut areas: BTreeMap<Option<&str>, Vec<&MetricSpec>> = BTreeMap::new();
    for metric in metrics {
        let area = metric.area.as_ref().map(|area| area.value.as_str());
        areas.entry(area).or_default().push(metric);
    }
    for (area, members) in areas {
        let place = match area {
            Some(area) => format!("the area `{area}`"),
            None => "the project".to_string(),
        };
        let stars: Vec<&&MetricSpec> = members
            .iter()
            .filter(|metric| has_tier(metric, "north_star"))
            .collect();
        if let [first, second, ..] = stars.as_slice() {
            let tier = second.tier.as_ref().expect("a north star has a tier");
            diagnostics.push(
                Diagnostic::error(Code::E0607, format!("{place} has two north stars"))
                    .at(tier.span.clone())
                    .also(first.name.span.clone(), format!("`{}` is one", first.name.value))
                    .hint("keep one; make the other a `driver` of it, or give it an `area` of its own"),
            );
        }
        let driver = members.iter().find(|metric| has_tier(metric, "driver"));
        let needs_one = area.is_some() || driver.is_some();
        if stars.is_empty() && needs_one {
            let metric = driver.unwrap_or(&members[0]);
            let span = metric
                .area
                .as_ref()
                .map_or(&metric.name.span, |area| &area.span);
            diagnostics.push(
                Diagnostic::error(Code::E0607, format!("{place} has no north star"))
                    .at(span.clone())
                    .hint("give the one metric that it is run by `tier: north_star`"),
            );
        }
    }
}

/// An alias names a metric that is there and no alias itself; whether both mean the same is found when they are compiled.
fn aliases(metrics: &[MetricSpec], diagnostics: &mut Vec<Diagnostic>) {
    for metric in metrics {
        let Some(of) = &metric.alias_of else {
            continue;
        };
        let others = metrics
            .iter()
            .filter(|other| other.name.value != metric.name.value);
        let names: Vec<&str> = others.map(|other| other.name.as_str()).collect();
        let original = metrics.iter().find(|other| other.name.value == of.value);
        let found = match original.map(|original| &original.alias_of) {
            _ if of.value == metric.name.value => Some((
                Code::E0607,
                format!("`{}` is an alias of itself", of.value),
                did_you_mean(of, names),
            )),
            None => Some((
                Code::E0206,
                format!("unknown metric `{}`", of.value),
                did_you_mean(of, names),
            )),
            Some(Some(further)) => Some((
                Code::E0607,
                format!("`{}` is itself an alias", of.value),
                format!("name what it stands for: `alias_of: {}`", further.value),
            )),
            Some(None) => None,
        };
        diagnostics.extend(found.map(|(code, message, hint)| {
            Diagnostic::error(code, message)
                .at(of.span.clone())
                .hint(hint)
        }));
    }
}

/// A driver says what it drives, and that exists.
fn drivers(metrics: &[MetricSpec], diagnostics: &mut Vec<Diagnostic>) {
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    for metric in metrics {
        if has_tier(metric, "driver") && metric.drives.is_empty() {
            let tier = metric.tier.as_ref().expect("a driver has a tier");
            diagnostics.push(
                Diagnostic::error(
                    Code::E0607,
                    format!(
                        "the driver `{}` does not say what it drives",
                        metric.name.value
                    ),
                )
                .at(tier.span.clone())
                .hint("add `drives: [<metric>]`, or make it a `diagnostic`"),
            );
        }
        for driven in &metric.drives {
            if !names.contains(&driven.as_str()) {
                diagnostics.push(
                    Diagnostic::error(Code::E0206, format!("unknown metric `{}`", driven.value))
                        .at(driven.span.clone())
                        .hint(did_you_mean(driven, names.iter().copied())),
                );
            }
        }
    }
}

/// What a derived metric names in its expression.
fn inputs(metric: &MetricSpec) -> Vec<String> {
    let is_derived = metric
        .kind
        .as_ref()
        .is_some_and(|kind| kind.value == "derived");
    let expression = metric
        .value
        .as_ref()
        .and_then(|value| value.expression.as_ref());
    match expression.filter(|_| is_derived) {
        Some(expression) => crate::sql::expression_columns(expression).unwrap_or_default(),
        None => Vec::new(),
    }
}

/// The first circle of arrows, in words.
fn circle(
    metrics: &[MetricSpec],
    what: &str,
    arrows: &dyn Fn(&MetricSpec) -> Vec<String>,
) -> Option<Diagnostic> {
    let by_name: BTreeMap<&str, &MetricSpec> = metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric))
        .collect();
    let mut cleared: BTreeSet<String> = BTreeSet::new();
    for start in metrics {
        let mut path: Vec<(String, Vec<String>)> = vec![(start.name.value.clone(), arrows(start))];
        while let Some((name, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                cleared.insert(name.clone());
                path.pop();
                continue;
            };
            if let Some(from) = path.iter().position(|(name, _)| *name == next) {
                let mut names: Vec<&str> =
                    path[from..].iter().map(|(name, _)| name.as_str()).collect();
                names.push(&next);
                let span = by_name[names[0]].name.span.clone();
                let chain = names.join("` -> `");
                return Some(
                    Diagnostic::error(Code::E0607, format!("metrics {what}: `{chain}`"))
                        .at(span)
                        .hint("remove one of these arrows"),
                );
            }
            if let Some(metric) = by_name
                .get(next.as_str())
                .filter(|_| !cleared.contains(&next))
            {
                path.push((next, arrows(metric)));
            }
        }
    }
    None
}

/// Only a guardrail is required of experiments, and only it has a margin.
fn guardrails(metrics: &[MetricSpec], diagnostics: &mut Vec<Diagnostic>) {
    for metric in metrics
        .iter()
        .filter(|metric| !has_tier(metric, "guardrail"))
    {
        let keys = [
            (
                "required_for",
                metric.required_for.first().map(|name| &name.span),
            ),
            ("margin", metric.margin.as_ref().map(|margin| &margin.span)),
        ];
        for (key, span) in keys {
            if let Some(span) = span {
                diagnostics.push(
                    Diagnostic::error(
                        Code::E0607,
                        format!(
                            "`{}` is no guardrail, so `{key}` says nothing",
                            metric.name.value
                        ),
                    )
                    .at(span.clone())
                    .hint("add `tier: guardrail`, or remove it"),
                );
            }
        }
    }
}
