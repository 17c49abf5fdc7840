//! Two meanings of a metric compared.
//! In: what was locked, what is computed, what is still declared. Out: a [`Drift`]: its class, what it needs, and the
//! changes in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::definition::{Fields, Part, part_of};
use super::meaning::{Meaning, ModelFacts};
use crate::sql::canonical::words::{Fact, FactKind};

/// How grave a change is, from nothing to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    None,
    Cosmetic,
    People,
    Additive,
    Method,
    Decision,
    /// The plan differs and no rows were found on which the numbers do.
    Unproven,
    Breaking,
    AssumptionLost,
}

/// The step of the version that a change needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bump {
    None,
    Patch,
    Minor,
    Major,
}

/// Who must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Approval {
    Owner,
    NewOwner,
    Analyst,
    Approvers,
}

/// What happened to one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub metric: String,
    pub class: Class,
    pub changes: Vec<Change>,
}

/// One change, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub class: Class,
    /// The model in which it happened; `None` for the metric itself.
    pub model: Option<String>,
    pub words: String,
}

/// Compares two meanings. `declares` says whether a constraint is still declared.
pub fn compare(old: &Meaning, new: &Meaning, declares: &dyn Fn(&str) -> bool) -> Drift {
    let mut changes = field_changes(&old.fields, &new.fields);
    if old.plan.hash == new.plan.hash {
        changes.extend(additions(&old.plan.models, &new.plan.models));
    } else {
        changes.extend(plan_changes(old, new, declares));
    }
    let class = changes
        .iter()
        .map(|change| change.class)
        .max()
        .unwrap_or(Class::None);
    Drift {
        metric: new.name.clone(),
        class,
        changes,
    }
}

impl Drift {
    /// The same drift after a search for a counter-example found none: a person may say that both mean the same.
    pub fn without_witness(mut self) -> Drift {
        for change in self
            .changes
            .iter_mut()
            .filter(|change| change.class == Class::Breaking && is_of_plan(change))
        {
            change.class = Class::Unproven;
        }
        self.class = self
            .changes
            .iter()
            .map(|change| change.class)
            .max()
            .unwrap_or(Class::None);
        self
    }
}

fn is_of_plan(change: &Change) -> bool {
    !change.words.starts_with("field ")
}

impl Class {
    pub fn bump(self) -> Bump {
        match self {
            Class::None | Class::Cosmetic => Bump::None,
            Class::People => Bump::Patch,
            Class::Additive | Class::Method => Bump::Minor,
            Class::Decision | Class::Unproven | Class::Breaking | Class::AssumptionLost => {
                Bump::Major
            }
        }
    }

    pub fn approvals(self) -> &'static [Approval] {
        match self {
            Class::None | Class::Cosmetic => &[],
            Class::People => &[Approval::Owner, Approval::NewOwner],
            Class::Additive | Class::Unproven => &[Approval::Owner],
            Class::Method => &[Approval::Owner, Approval::Analyst],
            Class::Decision | Class::Breaking | Class::AssumptionLost => {
                &[Approval::Owner, Approval::Approvers]
            }
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Cosmetic => "cosmetic",
            Class::People => "people",
            Class::Additive => "additive",
            Class::Method => "method",
            Class::Decision => "decision",
            Class::Unproven => "unproven",
            Class::Breaking => "breaking",
            Class::AssumptionLost => "assumption lost",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

fn field_changes(old: &Fields, new: &Fields) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| field_change(name, old.get(name), new.get(name)))
        .collect()
}

fn field_change(name: &str, old: Option<&String>, new: Option<&String>) -> Change {
    let class = match part_of(name) {
        Part::Definition => Class::Breaking,
        Part::Method => Class::Method,
        Part::Decision if name == "tier" && !decides_otherwise(old) && !decides_otherwise(new) => {
            Class::People
        }
        Part::Decision => Class::Decision,
        Part::People => Class::People,
        Part::Documentation => Class::Cosmetic,
    };
    let words = match (old, new) {
        (Some(old), Some(new)) => format!("field `{name}` changed from `{old}` to `{new}`"),
        (Some(old), None) => format!("field `{name}` removed, it was `{old}`"),
        (None, Some(new)) => format!("field `{name}` added: `{new}`"),
        (None, None) => unreachable!("a changed field is on one side at least"),
    };
    Change {
        class,
        model: None,
        words,
    }
}

/// A guardrail stops experiments and a component decides nothing: moving there or back changes decisions, between the
/// other tiers only the approvers change.
fn decides_otherwise(tier: Option<&String>) -> bool {
    tier.is_none_or(|tier| matches!(tier.as_str(), "guardrail" | "component"))
}

/// Columns of the lineage that do not reach the metric: new ones and changed ones are additions to the models.
fn additions(old: &[ModelFacts], new: &[ModelFacts]) -> Vec<Change> {
    let mut changes = vec![];
    for after in new {
        let Some(before) = old
            .iter()
            .find(|before| before.model == after.model && !after.model.is_empty())
        else {
            continue;
        };
        let (Some(old_unused), Some(new_unused)) = (&before.unused, &after.unused) else {
            continue;
        };
        let values =
            |unused: &BTreeMap<String, String>, known: &ModelFacts| -> Vec<(String, String)> {
                let known_unused = known.unused.as_ref().expect("both sides know");
                let is_known = |name: &String, text: &String| {
                    known.facts.iter().any(|fact| fact.subject == *name)
                        || known_unused.values().any(|other| other == text)
                };
                unused
                    .iter()
                    .filter(|(name, text)| !is_known(name, text))
                    .map(|(name, text)| (name.clone(), text.clone()))
                    .collect()
            };
        for (name, text) in values(new_unused, before) {
            let verb = if old_unused.contains_key(&name) {
                "changed"
            } else {
                "added"
            };
            changes.push(addition(
                after,
                format!(
                    "column `{name}` {verb} in {}: {text}; the metric does not read it",
                    after.model
                ),
            ));
        }
        for (name, _) in values(old_unused, after) {
            if !new_unused.contains_key(&name) {
                changes.push(addition(
                    after,
                    format!(
                        "column `{name}` removed from {}; the metric does not read it",
                        after.model
                    ),
                ));
            }
        }
    }
    changes
}

fn addition(model: &ModelFacts, words: String) -> Change {
    Change {
        class: Class::Additive,
        model: Some(model.model.clone()),
        words,
    }
}

fn plan_changes(old: &Meaning, new: &Meaning, declares: &dyn Fn(&str) -> bool) -> Vec<Change> {
    let mut changes: Vec<Change> = old
        .plan
        .assumptions
        .iter()
        .filter(|assumption| !declares(assumption))
        .map(|assumption| Change {
            class: Class::AssumptionLost,
            model: None,
            words: format!("the constraint `{assumption}` is no longer declared, and the locked meaning leans on it"),
        })
        .collect();
    changes.extend(model_changes(&old.plan.models, &new.plan.models));
    if changes.is_empty() {
        let words = match old.plan.rules == new.plan.rules {
            true => "the data that the lineage reads changed: a seed's rows or a source's columns"
                .to_string(),
            false => format!(
                "the plan was locked under version {} of the rules, now they are {}",
                old.plan.rules, new.plan.rules
            ),
        };
        changes.push(Change {
            class: Class::Breaking,
            model: None,
            words,
        });
    }
    changes
}

fn model_changes(old: &[ModelFacts], new: &[ModelFacts]) -> Vec<Change> {
    let mut changes = vec![];
    let none = ModelFacts::default();
    for before in old {
        let after = new.iter().find(|after| after.model == before.model);
        if after.is_none() {
            changes.extend(fact_changes(before, before, &none));
        }
    }
    for after in new {
        let before = old
            .iter()
            .find(|before| before.model == after.model)
            .unwrap_or(&none);
        changes.extend(fact_changes(after, before, after));
    }
    changes
}

/// What one model lost and gained; one lost and one gained of a kind is a change.
fn fact_changes(place: &ModelFacts, old: &ModelFacts, new: &ModelFacts) -> Vec<Change> {
    let mut lost: Vec<&Fact> = old.facts.difference(&new.facts).collect();
    let mut gained: Vec<&Fact> = new.facts.difference(&old.facts).collect();
    let mut changes = vec![];
    while let Some((from, to)) = pair(&lost, &gained) {
        let (from, to) = (lost.remove(from), gained.remove(to));
        let words = format!(
            "{} changed {}: `{}` became `{}`",
            named(to),
            here(place),
            from.text,
            to.text
        );
        changes.push(breaking(place, words));
    }
    for fact in lost {
        changes.push(breaking(
            place,
            format!(
                "{} removed {}: `{}`{}",
                named(fact),
                here(place),
                fact.text,
                effect(fact, false)
            ),
        ));
    }
    for fact in gained {
        changes.push(breaking(
            place,
            format!(
                "{} added {}: `{}`{}",
                named(fact),
                here(place),
                fact.text,
                effect(fact, true)
            ),
        ));
    }
    changes
}

/// A lost and a gained fact of one kind and subject; of several, those whose first words agree.
fn pair(lost: &[&Fact], gained: &[&Fact]) -> Option<(usize, usize)> {
    let start = |fact: &Fact| fact.text.split(' ').next().unwrap_or_default().to_string();
    let fits = |from: &Fact, to: &Fact| from.kind == to.kind && from.subject == to.subject;
    let all = || {
        lost.iter().enumerate().flat_map(|(left, from)| {
            gained
                .iter()
                .enumerate()
                .map(move |(right, to)| (left, right, *from, *to))
        })
    };
    let best = all().find(|(_, _, from, to)| fits(from, to) && start(from) == start(to));
    let only = || {
        all().find(|(_, _, from, to)| {
            let count = |facts: &[&Fact]| facts.iter().filter(|fact| fits(fact, to)).count();
            fits(from, to) && count(lost) == 1 && count(gained) == 1
        })
    };
    best.or_else(only).map(|(left, right, _, _)| (left, right))
}

fn named(fact: &Fact) -> String {
    match fact.kind {
        FactKind::Column => format!("column `{}`", fact.subject),
        kind => kind.word().to_string(),
    }
}

/// What a filter does to the rows, for readers who do not read conditions.
fn effect(fact: &Fact, is_added: bool) -> &'static str {
    match (fact.kind, is_added) {
        (FactKind::Filter, true) => "; rows that do not meet it are no longer counted",
        (FactKind::Filter, false) => "; rows that do not meet it are counted again",
        (FactKind::Join, true) => "; rows may be lost or repeated by it",
        _ => "",
    }
}

fn here(place: &ModelFacts) -> String {
    match (place.model.as_str(), place.distance) {
        ("", _) => "in the metric".into(),
        (model, 1) => format!("one model up, in {model}"),
        (model, 2) => format!("two models up, in {model}"),
        (model, 3) => format!("three models up, in {model}"),
        (model, distance) => format!("{distance} models up, in {model}"),
    }
}

fn breaking(place: &ModelFacts, words: String) -> Change {
    Change {
        class: Class::Breaking,
        model: (!place.model.is_empty()).then(|| place.model.clone()),
        words,
    }
}
