//! What an edit of the definitions does to units, counted over all buckets and not sampled.
//! In: two sets. Out: one [`Change`] for everything that can give a unit another variant, as a line of text or as JSON.
//! Where who is affected depends on attributes, that is said instead of a count.

mod split;

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};

pub use split::{SplitChange, allocation_change, rollout_change};

use super::set::{Allocation, Experiment, Flag, FlagSet, Outcome, Rebucket, Rule, Slot};

/// What changes for units from one version of the definitions to the next.
pub fn changes(before: &FlagSet, after: &FlagSet) -> Vec<Change> {
    let mut changes = Vec::new();
    for new in &after.experiments {
        let old = before.experiments.iter().find(|old| old.key == new.key);
        let kinds = experiment_changes(before, old, after, new);
        changes.extend(kinds.into_iter().map(|kind| Change::experiment(new, kind)));
    }
    let is_gone = |old: &&Experiment| after.experiments.iter().all(|new| new.key != old.key);
    let gone = before.experiments.iter().filter(is_gone);
    changes.extend(gone.map(|old| Change::experiment(old, Kind::Removed)));
    for new in &after.flags {
        let kinds = match before.flag(&new.key) {
            Some(old) => flag_changes(before, old, after, new),
            None => vec![Kind::Added],
        };
        changes.extend(kinds.into_iter().map(|kind| Change::flag(new, kind)));
    }
    let gone = before
        .flags
        .iter()
        .filter(|old| after.flag(&old.key).is_none());
    changes.extend(gone.map(|old| Change::flag(old, Kind::Removed)));
    changes
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `experiment` or `flag`.
    pub noun: &'static str,
    pub key: Box<str>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Added,
    Removed,
    /// A new allocation, and what it does to the units of the one before it.
    Appended {
        allocation: Box<str>,
        valid_from: DateTime<Utc>,
        follows: Option<Box<str>>,
        rebucket: Option<Box<str>>,
        change: SplitChange,
    },
    /// An allocation that was there has another content or begins at another time.
    Edited {
        allocation: Box<str>,
        change: SplitChange,
    },
    Withdrawn {
        allocation: Box<str>,
    },
    /// Buckets of the layer that enter and leave the experiment's slot.
    Slot {
        layer: Box<str>,
        buckets: u32,
        entered: u32,
        left: u32,
    },
    /// A rollout of a rule that stayed.
    Rollout {
        rule: Box<str>,
        change: SplitChange,
    },
    /// What no bucket counts: a condition, a default, a layer.
    Said {
        what: String,
    },
}

impl Change {
    fn experiment(experiment: &Experiment, kind: Kind) -> Self {
        let key = experiment.key.clone();
        Self {
            noun: "experiment",
            key,
            kind,
        }
    }

    fn flag(flag: &Flag, kind: Kind) -> Self {
        let key = flag.key.clone();
        Self {
            noun: "flag",
            key,
            kind,
        }
    }

    /// The same for machines.
    pub fn to_json(&self) -> Json {
        let (kind, subject, change) = match &self.kind {
            Kind::Added => ("added", None, None),
            Kind::Removed => ("removed", None, None),
            Kind::Appended {
                allocation, change, ..
            } => ("allocation_appended", Some(&**allocation), Some(change)),
            Kind::Edited { allocation, change } => {
                ("allocation_edited", Some(&**allocation), Some(change))
            }
            Kind::Withdrawn { allocation } => ("allocation_withdrawn", Some(&**allocation), None),
            Kind::Slot { layer, .. } => ("layer_slot", Some(&**layer), None),
            Kind::Rollout { rule, change } => ("rollout", Some(&**rule), Some(change)),
            Kind::Said { .. } => ("definition", None, None),
        };
        let mut json = json!({
            "noun": self.noun, "key": self.key, "change": kind, "subject": subject, "text": self.to_string(),
        });
        if let Some(change) = change {
            json["units"] = change.to_json();
        } else if let Kind::Slot {
            buckets,
            entered,
            left,
            ..
        } = self.kind
        {
            json["units"] = json!({"buckets": buckets, "entered": entered, "left": left});
        }
        json
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}`", self.noun, self.key)?;
        match &self.kind {
            Kind::Added => write!(out, " is new"),
            Kind::Removed => write!(out, " is gone"),
            Kind::Appended {
                allocation,
                valid_from,
                follows,
                rebucket,
                change,
            } => {
                let from = valid_from.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(out, ": `{allocation}` from {from}")?;
                if let Some(follows) = follows {
                    write!(out, " after `{follows}`")?;
                }
                write!(out, ": {change}")?;
                rebucket
                    .iter()
                    .try_for_each(|reason| write!(out, " (allowed: {reason})"))
            }
            Kind::Edited { allocation, change } => {
                write!(out, ": `{allocation}` was edited: {change}")
            }
            Kind::Withdrawn { allocation } => write!(out, ": `{allocation}` is gone"),
            Kind::Slot {
                layer,
                buckets,
                entered,
                left,
            } => write!(
                out,
                ": of {buckets} buckets of the layer `{layer}` {entered} enter, {left} leave"
            ),
            Kind::Rollout { rule, change } => write!(out, ": rule `{rule}`: {change}"),
            Kind::Said { what } => write!(out, ": {what}"),
        }
    }
}

fn said(what: impl Into<String>) -> Kind {
    Kind::Said { what: what.into() }
}

fn experiment_changes(
    before: &FlagSet,
    old: Option<&Experiment>,
    after: &FlagSet,
    new: &Experiment,
) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = old.is_none().then_some(Kind::Added).into_iter().collect();
    kinds.extend(allocation_changes(old, new));
    let Some(old) = old else { return kinds };
    let layer = |set: &FlagSet, of: &Experiment| of.layer.map(|at| set.layers[at].key.clone());
    let holdout =
        |set: &FlagSet, of: &Experiment| of.holdout.map(|at| set.holdouts[at].key.clone());
    let (from, to) = (layer(before, old), layer(after, new));
    match from == to {
        true => kinds.extend(slot_change(before, old, after, new)),
        false => kinds.push(redrawn("layer", &from, &to)),
    }
    let (from, to) = (holdout(before, old), holdout(after, new));
    if from != to {
        kinds.push(redrawn("holdout", &from, &to));
    }
    if old.is_sticky != new.is_sticky {
        let now = if new.is_sticky {
            "kept"
        } else {
            "no longer kept"
        };
        kinds.push(said(format!("first assignments are {now}")));
    }
    kinds
}

fn allocation_changes(old: Option<&Experiment>, new: &Experiment) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (index, allocation) in new.allocations.iter().enumerate() {
        let known = old.and_then(|old| Some((old, old.allocation_by_id(&allocation.id)?)));
        match known {
            None => kinds.push(appended(new, index)),
            Some((_, known))
                if known == allocation && old.map(|old| &old.variants) == Some(&new.variants) => {}
            Some((old, known)) => {
                let change = allocation_change(Some((old, known)), (new, allocation));
                if !change.is_empty()
                    || change.is_rehashed
                    || known.valid_from != allocation.valid_from
                {
                    let allocation = allocation.id.clone();
                    kinds.push(Kind::Edited { allocation, change });
                }
            }
        }
    }
    let gone = old
        .into_iter()
        .flat_map(|old| &old.allocations)
        .filter(|old| new.allocation_by_id(&old.id).is_none());
    kinds.extend(gone.map(|old| Kind::Withdrawn {
        allocation: old.id.clone(),
    }));
    kinds
}

fn appended(experiment: &Experiment, index: usize) -> Kind {
    let allocation: &Allocation = &experiment.allocations[index];
    let previous = index
        .checked_sub(1)
        .map(|index| &experiment.allocations[index]);
    let change = allocation_change(
        previous.map(|previous| (experiment, previous)),
        (experiment, allocation),
    );
    Kind::Appended {
        allocation: allocation.id.clone(),
        valid_from: allocation.valid_from,
        follows: previous.map(|previous| previous.id.clone()),
        rebucket: match &allocation.rebucket {
            Rebucket::Forbid => None,
            Rebucket::Allow { reason } => Some(reason.clone()),
        },
        change,
    }
}

fn redrawn(what: &str, from: &Option<Box<str>>, to: &Option<Box<str>>) -> Kind {
    let name = |name: &Option<Box<str>>| {
        name.as_ref()
            .map_or("none".to_owned(), |name| format!("`{name}`"))
    };
    said(format!(
        "the {what} was {} and is {}: other units are let in",
        name(from),
        name(to)
    ))
}

fn slot_change(
    before: &FlagSet,
    old: &Experiment,
    after: &FlagSet,
    new: &Experiment,
) -> Option<Kind> {
    let (old_layer, new_layer) = (&before.layers[old.layer?], &after.layers[new.layer?]);
    if (old_layer.algorithm, &old_layer.salt) != (new_layer.algorithm, &new_layer.salt) {
        let layer = &new_layer.key;
        return Some(said(format!(
            "the layer `{layer}` has another algorithm or salt: other units are let in"
        )));
    }
    let has = |set: &FlagSet, slots: &[Slot], key: &str, bucket: u32| {
        let own = slots
            .iter()
            .filter(|slot| *set.experiments[slot.experiment].key == *key);
        own.flat_map(|slot| &slot.ranges)
            .any(|(start, end)| (*start..*end).contains(&bucket))
    };
    let (mut entered, mut left) = (0, 0);
    let buckets = new_layer.algorithm.buckets();
    for bucket in 0..buckets {
        let was = has(before, &old_layer.slots, &old.key, bucket);
        let is = has(after, &new_layer.slots, &new.key, bucket);
        entered += u32::from(is && !was);
        left += u32::from(was && !is);
    }
    (entered + left > 0).then(|| Kind::Slot {
        layer: new_layer.key.clone(),
        buckets,
        entered,
        left,
    })
}

fn flag_changes(before: &FlagSet, old: &Flag, after: &FlagSet, new: &Flag) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let variant = |flag: &Flag, index: usize| flag.variants[index].key.clone();
    if old.is_enabled != new.is_enabled {
        let state = if new.is_enabled {
            "enabled"
        } else {
            "disabled"
        };
        kinds.push(said(format!("is {state} now")));
    }
    let default = |flag: &Flag| match flag.default_variant() {
        Some(variant) => format!("`{}`", variant.key),
        None => "the value in the code".to_owned(),
    };
    if default(old) != default(new) {
        let (from, to) = (default(old), default(new));
        kinds.push(said(format!("the default was {from} and is {to}")));
    }
    for (index, known) in old.variants.iter().enumerate() {
        match new.variant(&known.key) {
            Some(at) if new.variants[at].value == known.value => {}
            Some(at) => kinds.push(said(format!(
                "the value of `{}` was {} and is {}",
                known.key, known.value, new.variants[at].value
            ))),
            None => kinds.push(said(format!(
                "the variant `{}` is gone",
                variant(old, index)
            ))),
        }
    }
    let wanted = |set: &FlagSet, flag: &Flag| -> Vec<(Box<str>, Box<str>)> {
        let named = flag.prerequisites.iter().map(|wanted| {
            let other = &set.flags[wanted.flag];
            (other.key.clone(), variant(other, wanted.variant))
        });
        named.collect()
    };
    if wanted(before, old) != wanted(after, new) {
        kinds.push(said("has other prerequisites"));
    }
    let forced = |flag: &Flag| -> std::collections::BTreeMap<Box<str>, Box<str>> {
        let units = flag.forced.iter();
        units
            .map(|(unit, at)| (unit.clone(), variant(flag, *at)))
            .collect()
    };
    if forced(old) != forced(new) {
        kinds.push(said("forces other units"));
    }
    kinds.extend(rule_changes(before, old, after, new));
    kinds
}

fn rule_changes(before: &FlagSet, old: &Flag, after: &FlagSet, new: &Flag) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for rule in &new.rules {
        match old.rules.iter().find(|old| old.id == rule.id) {
            None => kinds.push(said(format!("rule `{}` is new", rule.id))),
            Some(known) => kinds.extend(rule_change((before, old, known), (after, new, rule))),
        }
    }
    let is_gone = |old: &&Rule| new.rules.iter().all(|rule| rule.id != old.id);
    let gone = old.rules.iter().filter(is_gone);
    kinds.extend(gone.map(|rule| said(format!("rule `{}` is gone", rule.id))));
    let order = |one: &Flag, other: &Flag| -> Vec<Box<str>> {
        let shared = one.rules.iter().map(|rule| rule.id.clone());
        shared
            .filter(|id| other.rules.iter().any(|rule| rule.id == *id))
            .collect()
    };
    if order(old, new) != order(new, old) {
        kinds.push(said("its rules have another order"));
    }
    kinds
}

type RuleOf<'a> = (&'a FlagSet, &'a Flag, &'a Rule);

fn rule_change(before: RuleOf<'_>, after: RuleOf<'_>) -> Vec<Kind> {
    let ((old_set, old_flag, old), (new_set, new_flag, new)) = (before, after);
    let mut kinds = Vec::new();
    let text = |rule: &Rule| {
        rule.when
            .as_ref()
            .map_or("always".to_owned(), |when| when.text().to_owned())
    };
    let mut differs = |what: String| kinds.push(said(format!("rule `{}`: {what}", new.id)));
    if text(old) != text(new) {
        differs(format!(
            "the condition was `{}` and is `{}`",
            text(old),
            text(new)
        ));
    }
    if old.active != new.active {
        differs("is active at other times".to_owned());
    }
    if old.falls_through != new.falls_through {
        differs("treats units in no range in another way".to_owned());
    }
    let outcome = |set: &FlagSet, flag: &Flag, rule: &Rule| match &rule.outcome {
        Outcome::Serve(variant) => format!("serves `{}`", flag.variants[*variant].key),
        Outcome::Experiment {
            experiment,
            variants,
        } => {
            let names: Vec<&str> = variants.iter().map(|at| &*flag.variants[*at].key).collect();
            format!(
                "delivers `{}` as {}",
                set.experiments[*experiment].key,
                names.join(", ")
            )
        }
        Outcome::Rollout(_) => "is a rollout".to_owned(),
    };
    let (from, to) = (
        outcome(old_set, old_flag, old),
        outcome(new_set, new_flag, new),
    );
    if from != to {
        differs(format!("{to}; before: {from}"));
    }
    if let (Outcome::Rollout(from), Outcome::Rollout(to)) = (&old.outcome, &new.outcome) {
        let change = rollout_change((old_flag, from), (new_flag, to));
        if !change.is_empty() || change.is_rehashed {
            let rule = new.id.clone();
            kinds.push(Kind::Rollout { rule, change });
        }
    }
    kinds
}
