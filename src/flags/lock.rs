//! The lock of everything that decides who gets what: what was merged is never edited.
//! In: a checked set and the text of the lock file. Out: which parts of it are new, and which no longer have the content
//! that was locked. Reading and writing the file is the caller's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::SecondsFormat;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::diagnostics::Span;

use super::set::{Allocation, Experiment, FlagSet, Holdout, Layer, Period, Rebucket, SplitRange};

/// Content hashes by the names of parts. As text: one line for each, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(pub BTreeMap<String, String>);

/// A lock and where each of its entries stands.
#[derive(Clone, Debug, Default)]
pub struct LockFile {
    pub path: Arc<str>,
    pub lock: Lock,
    /// From 1, by the names of parts.
    lines: BTreeMap<String, u32>,
}

/// How a set differs from the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockChanges {
    /// Parts that are not locked yet.
    pub new: Vec<Part>,
    /// Locked parts whose content is another one.
    pub edited: Vec<Part>,
    /// Names of locked parts that are gone. Of an experiment that is gone whole, its allocations.
    pub removed: Vec<String>,
}

/// What is locked as one, by the indexes of the set. Ends are parts of their own, so that what is open can be ended once, and
/// nothing else of it edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Allocation {
        experiment: usize,
        allocation: usize,
    },
    /// Unit, layer, holdout and stickiness of an experiment.
    Delivery {
        experiment: usize,
    },
    /// A slot with its layer's unit, algorithm and salt.
    Slot {
        layer: usize,
        slot: usize,
    },
    SlotEnd {
        layer: usize,
        slot: usize,
    },
    Holdout {
        holdout: usize,
    },
    HoldoutEnd {
        holdout: usize,
    },
}

/// The text of a line that is no lock entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSyntaxError {
    pub line: u32,
}

impl Lock {
    /// The lock that fits a set.
    pub fn of(set: &FlagSet) -> Self {
        let entries = parts(set).map(|part| (part.key(set), part.hash(set)));
        Self(entries.collect())
    }

    /// Compares a set with what is locked.
    pub fn changes(&self, set: &FlagSet) -> LockChanges {
        let mut changes = LockChanges::default();
        let mut gone = self.0.clone();
        for part in parts(set) {
            let key = part.key(set);
            gone.remove(&key);
            match self.0.get(&key) {
                None => changes.new.push(part),
                Some(locked) if *locked != part.hash(set) => changes.edited.push(part),
                Some(_) => {}
            }
        }
        changes.removed = without_followers(gone.into_keys().collect());
        changes
    }
}

/// Who takes an experiment out takes its slots and the rest of it out too: its allocations stand for all of that.
fn without_followers(gone: Vec<String>) -> Vec<String> {
    let is_gone = |experiment: &str| {
        let allocations = format!("{experiment}/");
        gone.iter().any(|key| key.starts_with(&allocations))
    };
    let follows = |key: &String| match (key.strip_prefix(EXPERIMENT), key.strip_prefix(SLOT)) {
        (Some(experiment), _) => is_gone(experiment),
        (None, Some(slot)) => slot
            .split_once(IN_LAYER)
            .is_some_and(|(experiment, _)| gone.contains(&format!("{EXPERIMENT}{experiment}"))),
        _ => false,
    };
    gone.iter().filter(|key| !follows(key)).cloned().collect()
}

impl LockFile {
    /// Reads the text of a lock file; the text of none is empty.
    ///
    /// # Errors
    /// The first line that is neither empty, a comment, nor a name with a hash.
    pub fn parse(path: Arc<str>, text: &str) -> Result<Self, LockSyntaxError> {
        let mut file = Self {
            path,
            ..Self::default()
        };
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (key, hash) = text
                .rsplit_once(' ')
                .filter(|(key, hash)| is_name(key) && hash.starts_with("sha256:"))
                .ok_or(LockSyntaxError { line })?;
            let is_twice = file.lines.insert(key.to_owned(), line).is_some();
            if is_twice {
                return Err(LockSyntaxError { line });
            }
            file.lock.0.insert(key.to_owned(), hash.to_owned());
        }
        Ok(file)
    }

    /// Where a part is locked.
    pub fn place(&self, key: &str) -> Option<Span> {
        let line = *self.lines.get(key)?;
        Some(Span::new(
            self.path.clone(),
            line,
            1,
            key.chars().count() as u32,
        ))
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "# Written by `equipoise flag lock`. What stands here was merged: add to it, never edit it."
        )?;
        self.0
            .iter()
            .try_for_each(|(key, hash)| writeln!(formatter, "{key} {hash}"))
    }
}

/// How the names of parts begin that are no allocations; those are named `experiment/allocation`.
const EXPERIMENT: &str = "experiment ";
const SLOT: &str = "slot ";
const HOLDOUT: &str = "holdout ";
/// Between a slot's experiment and its layer.
const IN_LAYER: &str = " in ";

fn is_name(key: &str) -> bool {
    let kinds = [EXPERIMENT, SLOT, HOLDOUT];
    key.contains('/') || kinds.iter().any(|kind| key.starts_with(kind))
}

/// All parts of a set.
fn parts(set: &FlagSet) -> impl Iterator<Item = Part> {
    let experiments = set.experiments.iter().enumerate();
    let experiments = experiments.flat_map(|(experiment, one)| {
        let allocation = move |allocation| Part::Allocation {
            experiment,
            allocation,
        };
        let allocations = (0..one.allocations.len()).map(allocation);
        allocations.chain([Part::Delivery { experiment }])
    });
    let slots = set.layers.iter().enumerate().flat_map(|(layer, one)| {
        one.slots.iter().enumerate().flat_map(move |(slot, one)| {
            let end = one.active.to.map(|_| Part::SlotEnd { layer, slot });
            [Part::Slot { layer, slot }].into_iter().chain(end)
        })
    });
    let holdouts = set.holdouts.iter().enumerate().flat_map(|(holdout, one)| {
        let end = one.active.to.map(|_| Part::HoldoutEnd { holdout });
        [Part::Holdout { holdout }].into_iter().chain(end)
    });
    experiments.chain(slots).chain(holdouts)
}

impl Part {
    /// Its name in the lock.
    fn key(self, set: &FlagSet) -> String {
        match self {
            Self::Allocation {
                experiment,
                allocation,
            } => {
                let experiment = &set.experiments[experiment];
                let allocation = &experiment.allocations[allocation];
                format!("{}/{}", experiment.key, allocation.id)
            }
            Self::Delivery { experiment } => {
                format!("{EXPERIMENT}{}", set.experiments[experiment].key)
            }
            Self::Slot { layer, slot } => slot_key(set, &set.layers[layer], slot),
            Self::SlotEnd { layer, slot } => slot_key(set, &set.layers[layer], slot) + " end",
            Self::Holdout { holdout } => format!("{HOLDOUT}{}", set.holdouts[holdout].key),
            Self::HoldoutEnd { holdout } => format!("{HOLDOUT}{} end", set.holdouts[holdout].key),
        }
    }

    /// SHA-256 of everything in it that decides a variant: spelling and sugar do not count, every bucket does.
    fn hash(self, set: &FlagSet) -> String {
        let content = match self {
            Self::Allocation {
                experiment,
                allocation,
            } => {
                let experiment = &set.experiments[experiment];
                allocation_content(experiment, &experiment.allocations[allocation])
            }
            Self::Delivery { experiment } => delivery_content(set, &set.experiments[experiment]),
            Self::Slot { layer, slot } => slot_content(set, &set.layers[layer], slot),
            Self::SlotEnd { layer, slot } => end_content(set.layers[layer].slots[slot].active),
            Self::Holdout { holdout } => holdout_content(set, &set.holdouts[holdout]),
            Self::HoldoutEnd { holdout } => end_content(set.holdouts[holdout].active),
        };
        let digest = Sha256::digest(content.to_string());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// Its name in a sentence.
    pub fn words(self, set: &FlagSet) -> String {
        match self {
            Self::Allocation {
                experiment,
                allocation,
            } => {
                let experiment = &set.experiments[experiment];
                let allocation = &experiment.allocations[allocation];
                format!("the allocation `{}` of `{}`", allocation.id, experiment.key)
            }
            Self::Delivery { experiment } => format!(
                "the unit, layer, holdout or `sticky` of `{}`",
                set.experiments[experiment].key
            ),
            Self::Slot { layer, slot } => {
                let layer = &set.layers[layer];
                let experiment = &set.experiments[layer.slots[slot].experiment];
                format!(
                    "the slot of `{}` in the layer `{}`",
                    experiment.key, layer.key
                )
            }
            Self::SlotEnd { layer, slot } => {
                format!("the end of {}", Self::Slot { layer, slot }.words(set))
            }
            Self::Holdout { holdout } => format!("the holdout `{}`", set.holdouts[holdout].key),
            Self::HoldoutEnd { holdout } => {
                format!("the end of {}", Self::Holdout { holdout }.words(set))
            }
        }
    }

    /// What to do instead of editing it.
    pub fn instead(self) -> &'static str {
        match self {
            Self::Allocation { .. } => {
                "restore it, and add a new allocation with a later `valid_from`"
            }
            Self::Delivery { .. } => {
                "restore it; to deliver otherwise, end this experiment with an empty `split` and begin another"
            }
            Self::Slot { .. } => {
                "restore it; for other buckets, end it with `active: {to: ...}` and add a slot from then on"
            }
            Self::SlotEnd { .. } => "restore it, and add a slot that begins where this one ends",
            Self::Holdout { .. } => {
                "restore it; to hold out other units, end it with `active: {to: ...}` and add another holdout"
            }
            Self::HoldoutEnd { .. } => "restore it, and add another holdout from then on",
        }
    }
}

/// A slot is known by its experiment, its layer and when it begins; of several that begin together, by their order too.
fn slot_key(set: &FlagSet, layer: &Layer, slot: usize) -> String {
    let one = &layer.slots[slot];
    let begin_together = |other: &&super::set::Slot| {
        other.experiment == one.experiment && other.active.from == one.active.from
    };
    let mut key = format!(
        "{SLOT}{}{IN_LAYER}{}",
        set.experiments[one.experiment].key, layer.key
    );
    if let Some(from) = one.active.from {
        key += &format!(
            " from {}",
            from.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        );
    }
    match layer.slots[..slot].iter().filter(begin_together).count() {
        0 => key,
        before => format!("{key} #{}", before + 1),
    }
}

fn allocation_content(experiment: &Experiment, allocation: &Allocation) -> Json {
    let joined = allocation.split.joined();
    let named =
        |range: &SplitRange| json!([range.start, range.end, experiment.variants[range.target]]);
    let ranges: Vec<_> = joined.ranges.iter().map(named).collect();
    let rebucket = match &allocation.rebucket {
        Rebucket::Forbid => None,
        Rebucket::Allow { reason } => Some(reason),
    };
    json!([
        allocation.valid_from.timestamp_micros(),
        allocation.algorithm.id(),
        allocation.salt,
        allocation.split.buckets,
        ranges,
        allocation.extends,
        rebucket,
    ])
}

fn delivery_content(set: &FlagSet, experiment: &Experiment) -> Json {
    json!([
        unit_content(set, experiment.unit),
        experiment.layer.map(|layer| &set.layers[layer].key),
        experiment.holdout.map(|holdout| &set.holdouts[holdout].key),
        experiment.is_sticky,
    ])
}

fn slot_content(set: &FlagSet, layer: &Layer, slot: usize) -> Json {
    let slot = &layer.slots[slot];
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (start, end) in &slot.ranges {
        match joined.last_mut() {
            Some(last) if last.1 == *start => last.1 = *end,
            _ => joined.push((*start, *end)),
        }
    }
    json!([
        unit_content(set, layer.unit),
        layer.algorithm.id(),
        layer.salt,
        joined,
        slot.active.from.map(|from| from.timestamp_micros()),
    ])
}

fn holdout_content(set: &FlagSet, holdout: &Holdout) -> Json {
    let joined = holdout.split.joined();
    let ranges: Vec<_> = joined
        .ranges
        .iter()
        .map(|range| json!([range.start, range.end, range.target]))
        .collect();
    json!([
        unit_content(set, holdout.unit),
        holdout.algorithm.id(),
        holdout.salt,
        ranges,
        holdout.active.from.map(|from| from.timestamp_micros()),
    ])
}

fn unit_content(set: &FlagSet, unit: usize) -> Json {
    let kind = &set.schema.kinds()[unit];
    json!([kind.name, kind.unit])
}

fn end_content(active: Period) -> Json {
    json!(active.to.map(|to| to.timestamp_micros()))
}
