//! One truth: no second name for a metric, no metric derived again by hand.
//! In: meanings of metrics, measures of models. Out: findings, for the caller to report with their places.

use std::collections::{BTreeMap, BTreeSet};

use super::class::Class;
use super::drift::{Change, compare};
use super::meaning::Meaning;
use crate::sql::canonical::Measure;

/// Two names for one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub first: String,
    pub second: String,
}

/// Two metrics that differ in their filters alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearDuplicate {
    pub first: String,
    pub second: String,
    pub only_first: BTreeSet<String>,
    pub only_second: BTreeSet<String>,
}

/// A column of a model that computes what a metric defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rederivation {
    pub model: String,
    pub column: String,
    pub metric: String,
    /// Conditions of the metric that the column lacks.
    pub missing: BTreeSet<String>,
    /// Conditions of the column that the metric lacks.
    pub extra: BTreeSet<String>,
}

/// Metrics with equal plans and equal definitions; one that says `alias_of` the other is wanted.
pub fn duplicates(metrics: &[&Meaning]) -> Vec<Duplicate> {
    let mut first: BTreeMap<(String, String), &Meaning> = BTreeMap::new();
    let mut found = vec![];
    for metric in metrics {
        let hashes = metric.hashes();
        match first.get(&(hashes.plan.clone(), hashes.definition.clone())) {
            None => {
                first.insert((hashes.plan, hashes.definition), metric);
            }
            Some(earlier) if is_alias(metric, earlier) || is_alias(earlier, metric) => {}
            Some(earlier) => found.push(Duplicate {
                first: earlier.name.clone(),
                second: metric.name.clone(),
            }),
        }
    }
    found
}

/// What one metric means otherwise than another, in words; nothing for a second name.
pub fn differences(one: &Meaning, other: &Meaning) -> Vec<String> {
    let moved = |change: &&Change| change.class >= Class::Method && change.class != Class::Decision;
    let drift = compare(one, other, &|_| true);
    drift
        .changes
        .iter()
        .filter(moved)
        .map(Change::words)
        .collect()
}

fn is_alias(metric: &Meaning, of: &Meaning) -> bool {
    metric.fields.get("alias_of") == Some(&of.name)
}

/// Metrics with one computation and different filters. Bare counts are left out: they count anything.
pub fn near_duplicates(metrics: &[(String, Measure)]) -> Vec<NearDuplicate> {
    let mut found = vec![];
    for (index, (first, one)) in metrics.iter().enumerate() {
        for (second, other) in &metrics[index + 1..] {
            if first != second
                && one.signature == other.signature
                && one.filters != other.filters
                && !one.is_plain_count
            {
                found.push(NearDuplicate {
                    first: first.clone(),
                    second: second.clone(),
                    only_first: &one.filters - &other.filters,
                    only_second: &other.filters - &one.filters,
                });
            }
        }
    }
    found
}

/// Columns that compute a metric's aggregate at some grain: under the same filters, or under the metric's with some
/// missing or some added. Another filter in a filter's place is another question and not reported.
pub fn rederivations(
    metrics: &[(String, Measure)],
    models: &[(String, Vec<Measure>)],
) -> Vec<Rederivation> {
    let mut found: Vec<Rederivation> = vec![];
    for (model, measures) in models {
        for measure in measures {
            let Some((metric, missing, extra)) = best_match(metrics, measure) else {
                continue;
            };
            let is_known = found
                .iter()
                .any(|known| known.model == *model && known.column == measure.output);
            if !is_known {
                found.push(Rederivation {
                    model: model.clone(),
                    column: measure.output.clone(),
                    metric,
                    missing,
                    extra,
                });
            }
        }
    }
    found
}

/// The metric with the fewest differing conditions.
fn best_match(
    metrics: &[(String, Measure)],
    measure: &Measure,
) -> Option<(String, BTreeSet<String>, BTreeSet<String>)> {
    let candidates = metrics
        .iter()
        .filter(|(_, known)| known.signature == measure.signature);
    let compared = candidates.filter_map(|(name, known)| {
        let (missing, extra) = (
            &known.filters - &measure.filters,
            &measure.filters - &known.filters,
        );
        let is_exact = missing.is_empty() && extra.is_empty();
        let is_close = missing.is_empty() != extra.is_empty()
            && !known.is_plain_count
            && !known.filters.is_disjoint(&measure.filters);
        let lacks_all = measure.filters.is_empty() && !known.is_plain_count;
        (is_exact || is_close || lacks_all).then(|| (name.clone(), missing, extra))
    });
    compared.min_by_key(|(name, missing, extra)| (missing.len() + extra.len(), name.clone()))
}
