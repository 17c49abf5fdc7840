//! The definitions as rows, for tables that history is joined with.
//! In: a checked set. Out: one table per noun, with names and texts only. Versions over time are the warehouse's work,
//! except for allocations, which carry the time they are valid in themselves.

use serde_json::{Value as Json, json};

use super::set::{Experiment, FlagSet, HELD_OUT, NamedSplit, Outcome, Period, Rule, Split};

/// A table: its name, its columns, and rows in the order of the definitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimension {
    pub name: &'static str,
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<Json>>,
}

/// The SQL type of a column; it does not depend on the rows, so that a table without any has its types.
pub fn column_type(column: &str) -> &'static str {
    match column {
        "position" | "buckets" | "phase" | "range_start" | "range_end" => "bigint",
        _ if column.starts_with("is_") => "boolean",
        _ if column.ends_with("_from") || column.ends_with("_to") => "timestamp",
        _ => "varchar",
    }
}

/// All tables. Instants are RFC 3339 texts, absent ends are null.
pub fn dimensions(set: &FlagSet) -> Vec<Dimension> {
    vec![
        flags(set),
        variants(set),
        rules(set),
        layers(set),
        holdouts(set),
        allocations(set),
        allocation_ranges(set),
    ]
}

/// One row per flag.
fn flags(set: &FlagSet) -> Dimension {
    let row = |flag: &super::set::Flag| {
        let default = flag.default_variant().map(|variant| &variant.key);
        vec![
            json!(flag.key),
            json!(flag.kind.name()),
            json!(flag.is_enabled),
            json!(default),
            json!(flag.owner),
            json!(flag.description),
        ]
    };
    let columns = &[
        "flag_key",
        "value_type",
        "is_enabled",
        "default_variant",
        "owner",
        "description",
    ];
    Dimension {
        name: "dim_flags",
        columns,
        rows: set.flags.iter().map(row).collect(),
    }
}

/// One row per flag and variant; values are JSON texts.
fn variants(set: &FlagSet) -> Dimension {
    let rows = set.flags.iter().flat_map(|flag| {
        let row = |(index, variant): (usize, &super::set::Variant)| {
            let is_default = flag.default == Some(index);
            vec![
                json!(flag.key),
                json!(variant.key),
                json!(variant.value.to_string()),
                json!(is_default),
            ]
        };
        flag.variants.iter().enumerate().map(row)
    });
    let columns = &["flag_key", "variant", "value", "is_default"];
    Dimension {
        name: "dim_flag_variants",
        columns,
        rows: rows.collect(),
    }
}

/// One row per flag and rule, in the order of evaluation.
fn rules(set: &FlagSet) -> Dimension {
    let rows = set.flags.iter().flat_map(|flag| {
        let row = |(index, rule): (usize, &Rule)| {
            let (kind, subject) = match &rule.outcome {
                Outcome::Serve(variant) => ("serve", &flag.variants[*variant].key),
                Outcome::Experiment { experiment, .. } => {
                    ("experiment", &set.experiments[*experiment].key)
                }
                Outcome::Rollout(rollout) => ("rollout", &rollout.salt),
            };
            let when = rule.when.as_ref().map(|when| when.text());
            let (from, to) = period(rule.active);
            vec![
                json!(flag.key),
                json!(index),
                json!(rule.id),
                json!(when),
                json!(kind),
                json!(subject),
                from,
                to,
            ]
        };
        flag.rules.iter().enumerate().map(row)
    });
    let columns = &[
        "flag_key",
        "position",
        "rule_id",
        "condition",
        "outcome",
        "subject",
        "active_from",
        "active_to",
    ];
    Dimension {
        name: "dim_rules",
        columns,
        rows: rows.collect(),
    }
}

/// One row per layer, experiment and range of buckets.
fn layers(set: &FlagSet) -> Dimension {
    let mut rows = Vec::new();
    for layer in &set.layers {
        for slot in &layer.slots {
            let (from, to) = period(slot.active);
            for (start, end) in &slot.ranges {
                rows.push(vec![
                    json!(layer.key),
                    json!(set.schema.kinds()[layer.unit].name),
                    json!(layer.algorithm.id()),
                    json!(layer.salt),
                    json!(set.experiments[slot.experiment].key),
                    json!(start),
                    json!(end),
                    from.clone(),
                    to.clone(),
                ]);
            }
        }
    }
    let columns = &[
        "layer_key",
        "unit_type",
        "algorithm",
        "salt",
        "experiment_key",
        "range_start",
        "range_end",
        "active_from",
        "active_to",
    ];
    Dimension {
        name: "dim_layers",
        columns,
        rows,
    }
}

/// One row per holdout, group and range of buckets.
fn holdouts(set: &FlagSet) -> Dimension {
    let mut rows = Vec::new();
    for holdout in &set.holdouts {
        let (from, to) = period(holdout.active);
        for range in &holdout.split.ranges {
            rows.push(vec![
                json!(holdout.key),
                json!(set.schema.kinds()[holdout.unit].name),
                json!(holdout.algorithm.id()),
                json!(holdout.salt),
                json!(if range.target == HELD_OUT {
                    "holdout"
                } else {
                    "measured"
                }),
                json!(range.start),
                json!(range.end),
                from.clone(),
                to.clone(),
            ]);
        }
    }
    let columns = &[
        "holdout_key",
        "unit_type",
        "algorithm",
        "salt",
        "holdout_group",
        "range_start",
        "range_end",
        "active_from",
        "active_to",
    ];
    Dimension {
        name: "dim_holdouts",
        columns,
        rows,
    }
}

/// One row per experiment and allocation; each is valid until the next one is.
fn allocations(set: &FlagSet) -> Dimension {
    let mut rows = Vec::new();
    for experiment in &set.experiments {
        for (index, allocation) in experiment.allocations.iter().enumerate() {
            let next = experiment
                .allocations
                .get(index + 1)
                .map(|next| next.valid_from.to_rfc3339());
            rows.push(vec![
                json!(experiment.key),
                json!(allocation.id),
                json!(set.schema.kinds()[experiment.unit].name),
                json!(allocation.algorithm.id()),
                json!(allocation.salt),
                json!(allocation.split.buckets),
                json!(NamedSplit::of(experiment, allocation).to_string()),
                json!(allocation.phase),
                json!(experiment.layer.map(|layer| &set.layers[layer].key)),
                json!(experiment.holdout.map(|holdout| &set.holdouts[holdout].key)),
                json!(allocation.valid_from.to_rfc3339()),
                json!(next),
                json!(next.is_none()),
            ]);
        }
    }
    let columns = &[
        "experiment_key",
        "allocation_id",
        "unit_type",
        "algorithm",
        "salt",
        "buckets",
        "split",
        "phase",
        "layer_key",
        "holdout_key",
        "valid_from",
        "valid_to",
        "is_current",
    ];
    Dimension {
        name: "dim_allocations",
        columns,
        rows,
    }
}

/// One row per experiment, allocation and range of buckets: what plain SQL joins with.
fn allocation_ranges(set: &FlagSet) -> Dimension {
    let mut rows = Vec::new();
    for experiment in &set.experiments {
        for allocation in &experiment.allocations {
            rows.extend(
                ranges(experiment, &allocation.split).map(|[variant, start, end]| {
                    vec![
                        json!(experiment.key),
                        json!(allocation.id),
                        variant,
                        start,
                        end,
                    ]
                }),
            );
        }
    }
    let columns = &[
        "experiment_key",
        "allocation_id",
        "variant",
        "range_start",
        "range_end",
    ];
    Dimension {
        name: "dim_allocation_ranges",
        columns,
        rows,
    }
}

fn ranges<'a>(
    experiment: &'a Experiment,
    split: &'a Split,
) -> impl Iterator<Item = [Json; 3]> + 'a {
    split.joined().ranges.into_iter().map(|range| {
        [
            json!(experiment.variants[range.target]),
            json!(range.start),
            json!(range.end),
        ]
    })
}

fn period(period: Period) -> (Json, Json) {
    let text = |instant: Option<chrono::DateTime<chrono::Utc>>| {
        json!(instant.map(|instant| instant.to_rfc3339()))
    };
    (text(period.from), text(period.to))
}
