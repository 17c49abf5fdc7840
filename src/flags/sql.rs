//! Assignment as SQL: what an experiment's holdout, layer and allocations give a unit at an instant.
//! In: a checked set and the SQL of a unit and an instant. Out: one scalar expression of the functions `assign` and
//! `bucket`, over the whole history of allocations. Rules are not in it: it says what a unit gets that reaches the
//! experiment. The server's answer is the oracle, see `tests/integration/flags_sql.rs`.

use chrono::{DateTime, Utc};

use super::evaluate::HOLDOUT_VARIANT;
use super::set::{
    Allocation, Experiment, FlagSet, HELD_OUT, Holdout, Layer, NamedSplit, Period, Slot,
};

/// The SQL that a derivation is made over.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub unit: &'a str,
    /// A timestamp.
    pub at: &'a str,
    /// The logged allocation, for experiments that keep first assignments: it decided, whatever the instant.
    pub allocation: Option<&'a str>,
}

/// The variant that an experiment gives, [`HOLDOUT_VARIANT`] for held-out units, null where it gives none.
pub fn assignment(set: &FlagSet, experiment: &Experiment, terms: Terms<'_>) -> String {
    let index = set
        .experiments
        .iter()
        .position(|one| one.key == experiment.key);
    let allocated = allocated(experiment, terms);
    let layer = experiment.layer.map(|layer| &set.layers[layer]);
    let admitted = match layer.zip(index) {
        Some((layer, index)) => {
            let is_admitted = is_admitted(layer, index, terms);
            format!("case when {is_admitted} then {allocated} end")
        }
        None => allocated,
    };
    match experiment.holdout.map(|holdout| &set.holdouts[holdout]) {
        Some(holdout) => {
            let is_held_out = is_held_out(holdout, terms);
            format!("case when {is_held_out} then '{HOLDOUT_VARIANT}' else {admitted} end")
        }
        None => admitted,
    }
}

/// The same for any experiment, by the SQL of its key; null for a key without allocations.
pub fn assignments(set: &FlagSet, experiment: &str, terms: Terms<'_>) -> String {
    if set.experiments.is_empty() {
        return "cast(null as varchar)".to_owned();
    }
    let branches: String = set
        .experiments
        .iter()
        .map(|one| {
            format!(
                "\n    when {} then {}",
                text(&one.key),
                assignment(set, one, terms)
            )
        })
        .collect();
    format!("case {experiment}{branches}\nend")
}

/// The allocation that is valid at the instant, latest first; or the logged one where first assignments are kept.
fn allocated(experiment: &Experiment, terms: Terms<'_>) -> String {
    let by_time: String = experiment
        .allocations
        .iter()
        .rev()
        .map(|allocation| {
            let from = instant(allocation.valid_from);
            let variant = drawn(experiment, allocation, terms);
            format!(" when {} >= {from} then {variant}", terms.at)
        })
        .collect();
    let by_time = format!("case{by_time} end");
    let Some(logged) = terms.allocation.filter(|_| experiment.is_sticky) else {
        return by_time;
    };
    let by_id: String = experiment
        .allocations
        .iter()
        .map(|allocation| {
            let variant = drawn(experiment, allocation, terms);
            format!(" when {} then {variant}", text(&allocation.id))
        })
        .collect();
    format!("case when {logged} is null then {by_time} else case {logged}{by_id} end end")
}

fn drawn(experiment: &Experiment, allocation: &Allocation, terms: Terms<'_>) -> String {
    let split = NamedSplit::of(experiment, allocation).to_string();
    assign(
        allocation.algorithm.id(),
        &allocation.salt,
        allocation.split.buckets,
        &split,
        terms.unit,
    )
}

fn is_admitted(layer: &Layer, experiment: usize, terms: Terms<'_>) -> String {
    let own = layer
        .slots
        .iter()
        .filter(|slot| slot.experiment == experiment);
    let slots: Vec<String> = own
        .map(|slot| is_in_slot(layer, slot, terms) + &during(slot.active, terms))
        .collect();
    match slots.is_empty() {
        true => "false".to_owned(),
        false => format!("({})", slots.join(" or ")),
    }
}

fn is_in_slot(layer: &Layer, slot: &Slot, terms: Terms<'_>) -> String {
    let ranges: Vec<String> = slot
        .ranges
        .iter()
        .map(|(start, end)| format!("{start}-{end}"))
        .collect();
    let split = format!("in:{}", ranges.join(","));
    let (id, buckets) = (layer.algorithm.id(), layer.algorithm.buckets());
    assign(id, &layer.salt, buckets, &split, terms.unit) + " is not null"
}

fn is_held_out(holdout: &Holdout, terms: Terms<'_>) -> String {
    let ranges: Vec<String> = holdout
        .split
        .ranges
        .iter()
        .filter(|range| range.target == HELD_OUT)
        .map(|range| format!("{}-{}", range.start, range.end))
        .collect();
    let split = format!("out:{}", ranges.join(","));
    let (id, buckets) = (holdout.algorithm.id(), holdout.split.buckets);
    assign(id, &holdout.salt, buckets, &split, terms.unit)
        + " is not null"
        + &during(holdout.active, terms)
}

/// A further condition where a period has an end.
fn during(period: Period, terms: Terms<'_>) -> String {
    let from = period
        .from
        .map(|from| format!(" and {} >= {}", terms.at, instant(from)));
    let to = period
        .to
        .map(|to| format!(" and {} < {}", terms.at, instant(to)));
    from.unwrap_or_default() + &to.unwrap_or_default()
}

fn assign(algorithm: &str, salt: &str, buckets: u32, split: &str, unit: &str) -> String {
    let (algorithm, salt, split) = (text(algorithm), text(salt), text(split));
    format!("assign({algorithm}, {salt}, {buckets}, {split}, {unit})")
}

fn instant(instant: DateTime<Utc>) -> String {
    format!("timestamp '{}'", instant.format("%Y-%m-%d %H:%M:%S%.f"))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
