//! What must hold over all buckets, instants and contexts, proved when the definitions are read.
//! In: a set whose names are right. Out: findings about slots that overlap, splits that move units, salts used twice,
//! rules and prerequisites that can never count, and circles. The findings name indexes; places are the caller's.

use std::collections::HashMap;

use super::changes::allocation_change;
use super::lock::{Lock, Part};
use super::set::{Allocation, Experiment, Flag, FlagSet, Layer, Outcome, Rebucket, Rule, Slot};
use super::targeting::{Predicate, Reach, reach};
use crate::diagnostics::Code;

/// The end of what is said of a locked definition that is missing.
pub const WAS_REMOVED: &str = "was removed after it was merged";

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub subject: Subject,
    pub message: String,
    pub hint: String,
}

/// What a finding is about, by the indexes of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Allocation {
        experiment: usize,
        allocation: usize,
    },
    /// What was locked.
    Part(Part),
    /// An entry of the lock, and what it names is gone.
    Locked(Box<str>),
    Layer(usize),
    Salt(SaltOwner),
    Rule {
        flag: usize,
        rule: usize,
    },
    Prerequisite {
        flag: usize,
        prerequisite: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaltOwner {
    Layer(Box<str>),
    Holdout(Box<str>),
    Experiment(Box<str>),
}

/// Everything that does not hold.
pub fn findings(set: &FlagSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, layer) in set.layers.iter().enumerate() {
        findings.extend(slot_overlaps(set, index, layer));
    }
    findings.extend(shared_salts(set));
    for (index, experiment) in set.experiments.iter().enumerate() {
        findings.extend(history(index, experiment));
    }
    for (index, flag) in set.flags.iter().enumerate() {
        findings.extend(unreachable_rules(set, index, flag));
        findings.extend(prerequisites(set, index, flag));
    }
    findings
}

/// What was merged keeps its content and its place in the history.
pub fn edits(set: &FlagSet, lock: &Lock) -> Vec<Finding> {
    let changes = lock.changes(set);
    let edited = changes.edited.iter().map(|part| Finding {
        code: Code::E0606,
        subject: Subject::Part(*part),
        message: format!("{} was edited after it was merged", part.words(set)),
        hint: part.instead().into(),
    });
    let removed = changes.removed.iter().map(|key| Finding {
        code: Code::E0606,
        subject: Subject::Locked(key.as_str().into()),
        message: match key.contains('/') {
            true => format!("the allocation `{key}` {WAS_REMOVED}"),
            false => format!("`{key}` {WAS_REMOVED}"),
        },
        hint: "restore it: what it assigned could not be derived again".into(),
    });
    edited.chain(removed).collect()
}

/// Two slots of a layer may share buckets only at different times.
fn slot_overlaps(set: &FlagSet, index: usize, layer: &Layer) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (position, one) in layer.slots.iter().enumerate() {
        for other in &layer.slots[position + 1..] {
            let shared = shared_buckets(one, other);
            if shared > 0 && one.active.overlaps(&other.active) {
                let (left, right) = (
                    &set.experiments[one.experiment].key,
                    &set.experiments[other.experiment].key,
                );
                findings.push(Finding {
                    code: Code::E0606,
                    subject: Subject::Layer(index),
                    message: format!(
                        "`{left}` and `{right}` share {shared} buckets of the layer `{}`",
                        layer.key
                    ),
                    hint: "give them different ranges, or periods (`active`) that do not overlap"
                        .into(),
                });
            }
        }
    }
    findings
}

fn shared_buckets(one: &Slot, other: &Slot) -> u32 {
    let pairs = one
        .ranges
        .iter()
        .flat_map(|left| other.ranges.iter().map(move |right| (left, right)));
    pairs
        .map(|(left, right)| left.1.min(right.1).saturating_sub(left.0.max(right.0)))
        .sum()
}

/// One salt in two places makes their splits the same split, and so the experiments dependent.
fn shared_salts(set: &FlagSet) -> Vec<Finding> {
    let mut owners: HashMap<(usize, &str), SaltOwner> = HashMap::new();
    let mut findings = Vec::new();
    let mut claim = |unit: usize, salt, owner: SaltOwner| {
        match owners.get(&(unit, salt)) {
        Some(known) if *known != owner => findings.push(Finding {
            code: Code::E0606,
            message: format!("{} uses the salt `{salt}` of {}", owner.words(), known.words()),
            subject: Subject::Salt(owner),
            hint: "the same salt gives the same buckets: choose another, so that the splits are independent".into(),
        }),
        Some(_) => {}
        None => {
            owners.insert((unit, salt), owner);
        }
    }
    };
    for layer in &set.layers {
        claim(
            layer.unit,
            &*layer.salt,
            SaltOwner::Layer(layer.key.clone()),
        );
    }
    for holdout in &set.holdouts {
        claim(
            holdout.unit,
            &*holdout.salt,
            SaltOwner::Holdout(holdout.key.clone()),
        );
    }
    for experiment in &set.experiments {
        for allocation in &experiment.allocations {
            claim(
                experiment.unit,
                &*allocation.salt,
                SaltOwner::Experiment(experiment.key.clone()),
            );
        }
    }
    findings.dedup();
    findings
}

impl SaltOwner {
    fn words(&self) -> String {
        match self {
            Self::Layer(key) => format!("the layer `{key}`"),
            Self::Holdout(key) => format!("the holdout `{key}`"),
            Self::Experiment(key) => format!("the experiment `{key}`"),
        }
    }
}

/// Allocations follow each other in time, and move no unit unless that is allowed.
fn history(index: usize, experiment: &Experiment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (position, pair) in experiment.allocations.windows(2).enumerate() {
        let subject = Subject::Allocation {
            experiment: index,
            allocation: position + 1,
        };
        let mut add = |code, message, hint: &str| {
            findings.push(Finding {
                code,
                subject: subject.clone(),
                message,
                hint: hint.into(),
            });
        };
        let (before, after) = (&pair[0], &pair[1]);
        if after.valid_from <= before.valid_from {
            let message = format!(
                "`{}` is valid from {}, not after `{}`",
                after.id, after.valid_from, before.id
            );
            add(
                Code::E0605,
                message,
                "allocations are append-only: each begins after the one before it",
            );
        }
        if after.rebucket != Rebucket::Forbid {
            continue;
        }
        let change = allocation_change(Some((experiment, before)), (experiment, after));
        if change.moved() > 0.0 {
            let message = format!(
                "`{}` moves units that `{}` assigned: {change}",
                after.id, before.id
            );
            add(
                Code::E0604,
                message,
                "keep the ranges of each variant, or write `rebucket: allow(reason)`",
            );
        } else if let Some(shrunk) = shrinks(experiment, after) {
            add(
                Code::E0604,
                shrunk,
                "what extends an allocation only grows; to stop, add one that extends nothing",
            );
        }
    }
    findings
}

/// An allocation that extends another takes no bucket from it.
fn shrinks(experiment: &Experiment, after: &Allocation) -> Option<String> {
    let base = experiment.allocation_by_id(after.extends.as_deref()?)?;
    let change = allocation_change(Some((experiment, base)), (experiment, after));
    (change.left() + change.moved() > 0.0).then(|| {
        format!(
            "`{}` extends `{}` but does not contain it: {change}",
            after.id, base.id
        )
    })
}

fn unreachable_rules(set: &FlagSet, index: usize, flag: &Flag) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut earlier: Vec<(&Rule, Option<&Predicate>)> = Vec::new();
    for (position, rule) in flag.rules.iter().enumerate() {
        let predicates: Vec<Option<&Predicate>> =
            earlier.iter().map(|(_, predicate)| *predicate).collect();
        let why = match reach(rule.when.as_ref(), &predicates) {
            Reach::Contradiction => Some("no context makes its condition true".to_owned()),
            Reach::Covered(covers) => {
                let names: Vec<String> = covers
                    .iter()
                    .map(|cover| format!("`{}`", earlier[*cover].0.id))
                    .collect();
                Some(format!(
                    "{} before it takes everything it would match",
                    names.join(", ")
                ))
            }
            Reach::Possible => no_room(set, rule),
        };
        if let Some(why) = why {
            findings.push(Finding {
                code: Code::E0606,
                subject: Subject::Rule {
                    flag: index,
                    rule: position,
                },
                message: format!(
                    "the rule `{}` of `{}` can never match: {why}",
                    rule.id, flag.key
                ),
                hint: "take the rule away, or move it before the rules that hide it".into(),
            });
        }
        if keeps_all(rule) {
            earlier.push((rule, rule.when.as_ref()));
        }
    }
    findings
}

/// A rule that leaves no unit it matches to the rules after it.
fn keeps_all(rule: &Rule) -> bool {
    let is_always_active = rule.active.from.is_none() && rule.active.to.is_none();
    is_always_active && (matches!(rule.outcome, Outcome::Serve(_)) || !rule.falls_through)
}

/// An experiment without a bucket in its layer reaches nobody.
fn no_room(set: &FlagSet, rule: &Rule) -> Option<String> {
    let Outcome::Experiment { experiment, .. } = rule.outcome else {
        return None;
    };
    let layer = &set.layers[set.experiments[experiment].layer?];
    let has_room = layer
        .slots
        .iter()
        .any(|slot| slot.experiment == experiment && !slot.ranges.is_empty());
    (!has_room).then(|| format!("its experiment has no bucket in the layer `{}`", layer.key))
}

fn prerequisites(set: &FlagSet, index: usize, flag: &Flag) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (position, wanted) in flag.prerequisites.iter().enumerate() {
        let other = &set.flags[wanted.flag];
        let subject = Subject::Prerequisite {
            flag: index,
            prerequisite: position,
        };
        if let Some(circle) = circle(set, index, wanted.flag) {
            findings.push(Finding {
                code: Code::E0606,
                subject,
                message: format!("flags require each other in a circle: {circle}"),
                hint: "take one of the prerequisites away".into(),
            });
        } else if !can_serve(set, other, wanted.variant) {
            findings.push(Finding {
                code: Code::E0606,
                subject,
                message: format!(
                    "`{}` never gives `{}`",
                    other.key, other.variants[wanted.variant].key
                ),
                hint: format!(
                    "so `{}` is always at its default: require another variant",
                    flag.key
                ),
            });
        }
    }
    findings
}

/// The way from `from` back to `start` along prerequisites, if there is one.
fn circle(set: &FlagSet, start: usize, from: usize) -> Option<String> {
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut open = vec![from];
    came_from.insert(from, start);
    while let Some(flag) = open.pop() {
        if flag == start {
            return Some(way_back(set, &came_from, start));
        }
        for next in &set.flags[flag].prerequisites {
            came_from.entry(next.flag).or_insert_with(|| {
                open.push(next.flag);
                flag
            });
        }
    }
    None
}

fn way_back(set: &FlagSet, came_from: &HashMap<usize, usize>, start: usize) -> String {
    let mut names = vec![format!("`{}`", set.flags[start].key)];
    let mut flag = came_from[&start];
    while flag != start {
        names.push(format!("`{}`", set.flags[flag].key));
        flag = came_from[&flag];
    }
    names.push(format!("`{}`", set.flags[start].key));
    names.reverse();
    names.join(" -> ")
}

/// Whether any path through the flag ends at the variant.
fn can_serve(set: &FlagSet, flag: &Flag, variant: usize) -> bool {
    let by_rule = |rule: &Rule| match &rule.outcome {
        Outcome::Serve(served) => *served == variant,
        Outcome::Rollout(rollout) => rollout
            .split
            .ranges
            .iter()
            .any(|range| range.target == variant),
        Outcome::Experiment {
            experiment,
            variants,
        } => {
            let splits = set.experiments[*experiment]
                .allocations
                .iter()
                .map(|allocation| &allocation.split);
            splits.into_iter().any(|split| {
                split
                    .ranges
                    .iter()
                    .any(|range| variants[range.target] == variant)
            })
        }
    };
    flag.default == Some(variant)
        || (flag.is_enabled
            && (flag.forced.values().any(|forced| *forced == variant)
                || flag.rules.iter().any(by_rule)))
}
