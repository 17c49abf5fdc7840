//! Two meanings of a metric compared.
//! In: what was locked, what is computed, what is still declared. Out: a [`Drift`]: its class, what it needs, and the
//! changes in words.

use std::collections::{BTreeMap, BTreeSet};

use super::class::Class;
use super::definition::{Fields, Part, part_of};
use super::meaning::{Meaning, ModelFacts, Plan};
use crate::sql::canonical::words::{Fact, FactKind};

/// What happened to one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub metric: String,
    pub class: Class,
    pub changes: Vec<Change>,
}

/// One change, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub class: Class,
    pub place: Place,
    /// `filter removed`.
    pub what: String,
    /// What was removed and what that does; may be empty.
    pub detail: String,
}

/// Where a change happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A field of the definition.
    Definition,
    /// The metric's own query, or a model so many models up.
    Query {
        model: Option<String>,
        distance: usize,
    },
    /// Somewhere in the lineage.
    Lineage,
}

/// Compares two meanings. `declares` says whether a constraint is still declared.
pub fn compare(old: &Meaning, new: &Meaning, declares: &dyn Fn(&str) -> bool) -> Drift {
    if sees_inputs_now(old, new) {
        return compare(&with_inputs_of(old, new), new, declares);
    }
    let mut changes = field_changes(&old.fields, &new.fields);
    if old.plan.hash == new.plan.hash {
        changes.extend(additions(&old.plan.models, &new.plan.models));
    } else {
        changes.extend(plan_changes(old, new, declares));
    }
    Drift {
        metric: new.name.clone(),
        class: gravest(&changes),
        changes,
    }
}

/// Whether a derived metric was locked before its meaning covered what it is made of.
fn sees_inputs_now(old: &Meaning, new: &Meaning) -> bool {
    let is_derived = |meaning: &Meaning| {
        let kind = meaning.fields.get("kind");
        kind.is_some_and(|kind| kind == "derived")
    };
    is_derived(old) && is_derived(new) && old.plan.models.is_empty() && !new.plan.models.is_empty()
}

/// The old meaning with the inputs of today, of which nothing was agreed to.
fn with_inputs_of(old: &Meaning, new: &Meaning) -> Meaning {
    let inputs = new
        .fields
        .iter()
        .filter(|(field, _)| field.starts_with("inputs."));
    let mut fields = old.fields.clone();
    fields.extend(inputs.map(|(field, value)| (field.clone(), value.clone())));
    Meaning {
        fields,
        plan: new.plan.clone(),
        ..old.clone()
    }
}

fn gravest(changes: &[Change]) -> Class {
    let classes = changes.iter().map(|change| change.class);
    classes.max().unwrap_or(Class::None)
}

impl Drift {
    /// The same drift after a search for a counter-example found none: a person may say that both mean the same.
    pub fn without_witness(mut self) -> Drift {
        for change in &mut self.changes {
            if change.class == Class::Breaking && change.place != Place::Definition {
                change.class = Class::Unproven;
            }
        }
        self.class = gravest(&self.changes);
        self
    }
}

impl Change {
    /// The change and its place: `filter removed two models up, in stg_users: ...`.
    pub fn words(&self) -> String {
        let head = match &self.place {
            Place::Definition | Place::Lineage => self.what.clone(),
            Place::Query { model, distance } => {
                format!("{} {}", self.what, here(model.as_deref(), *distance))
            }
        };
        match self.detail.as_str() {
            "" => head,
            detail => format!("{head}: {detail}"),
        }
    }

    /// The metric in which it happened, for one that is made of it.
    pub fn input(&self) -> Option<&str> {
        self.model().and_then(input)
    }

    /// The model in which it happened; `None` for the metric itself.
    pub fn model(&self) -> Option<&str> {
        match &self.place {
            Place::Query { model, .. } => model.as_deref(),
            _ => None,
        }
    }
}

fn here(model: Option<&str>, distance: usize) -> String {
    match (model, distance) {
        (None, _) => "in the metric".into(),
        (Some(model), _) if input(model).is_some() => {
            format!(
                "in `{}`, which it is made of",
                input(model).unwrap_or_default()
            )
        }
        (Some(model), 1) => format!("one model up, in {model}"),
        (Some(model), 2) => format!("two models up, in {model}"),
        (Some(model), 3) => format!("three models up, in {model}"),
        (Some(model), distance) => format!("{distance} models up, in {model}"),
    }
}

/// The name of a metric among what a derived metric is made of.
fn input(model: &str) -> Option<&str> {
    model.strip_prefix("metric.")
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
        place: Place::Definition,
        what: words,
        detail: String::new(),
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
                format!("column `{name}` {verb}"),
                format!("{text}; the metric does not read it"),
            ));
        }
        for (name, _) in values(old_unused, after) {
            if !new_unused.contains_key(&name) {
                changes.push(addition(
                    after,
                    format!("column `{name}` removed"),
                    "the metric does not read it".into(),
                ));
            }
        }
    }
    changes
}

fn addition(model: &ModelFacts, what: String, detail: String) -> Change {
    Change {
        class: Class::Additive,
        place: place(model),
        what,
        detail,
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
            place: Place::Lineage,
            what: format!(
                "the constraint `{assumption}` is no longer declared, and the locked meaning leans on it"
            ),
            detail: String::new(),
        })
        .collect();
    changes.extend(model_changes(&old.plan.models, &new.plan.models));
    if changes.is_empty() {
        changes.push(unexplained(&old.plan, &new.plan));
    }
    changes
}

/// The plan differs and no line of the lineage does.
fn unexplained(old: &Plan, new: &Plan) -> Change {
    let (class, what) = match old.rules == new.rules {
        true => (
            Class::Breaking,
            "the rows of a seed that the lineage reads changed".to_string(),
        ),
        // The lines say all that each model does: what they agree on was renamed by the rules alone.
        false => (
            Class::Cosmetic,
            format!(
                "locked under version {} of the rules, which are now version {}",
                old.rules, new.rules
            ),
        ),
    };
    Change {
        class,
        place: Place::Lineage,
        what,
        detail: String::new(),
    }
}

fn model_changes(old: &[ModelFacts], new: &[ModelFacts]) -> Vec<Change> {
    let mut found: Vec<FactChange> = vec![];
    let none = ModelFacts::default();
    for before in old {
        let after = new.iter().find(|after| after.model == before.model);
        if after.is_none() {
            found.extend(fact_changes(before, before, &none));
        }
    }
    for after in new {
        let before = old
            .iter()
            .find(|before| before.model == after.model)
            .unwrap_or(&none);
        found.extend(fact_changes(after, before, after));
    }
    // A column that is read from now on, or no longer, follows from what changed nearer to the metric.
    let others = found.iter().filter(|one| !one.is_use);
    let nearest = others.map(|one| one.distance).min();
    let follows = |one: &FactChange| one.is_use && nearest.is_some_and(|near| near < one.distance);
    found.retain(|one| !follows(one));
    found.into_iter().map(|one| one.change).collect()
}

/// A change of what one model does.
struct FactChange {
    change: Change,
    distance: usize,
    /// A column came or went: the model changed, or what reads it.
    is_use: bool,
}

/// What one model lost and gained; one lost and one gained of a kind is a change.
fn fact_changes(place: &ModelFacts, old: &ModelFacts, new: &ModelFacts) -> Vec<FactChange> {
    let mut lost: Vec<&Fact> = old.facts.difference(&new.facts).collect();
    let mut gained: Vec<&Fact> = new.facts.difference(&old.facts).collect();
    let mut changes = vec![];
    let mut add = |what: String, detail: String, is_use: bool| {
        changes.push(FactChange {
            change: breaking(place, what, detail),
            distance: place.distance,
            is_use,
        });
    };
    while let Some((from, to)) = pair(&lost, &gained) {
        let (from, to) = (lost.remove(from), gained.remove(to));
        let detail = format!("`{}` became `{}`", from.text, to.text);
        add(format!("{} changed", named(to)), detail, false);
    }
    let mut one_sided = |facts: Vec<&Fact>, verb: &str, is_added: bool| {
        for fact in facts {
            let detail = format!("`{}`{}", fact.text, effect(fact, is_added));
            let is_use = fact.kind == FactKind::Column;
            add(format!("{} {verb}", named(fact)), detail, is_use);
        }
    };
    one_sided(lost, "removed", false);
    one_sided(gained, "added", true);
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
fn effect(fact: &Fact, is_added: bool) -> String {
    let rows = match fact.text.strip_prefix("not ") {
        Some(condition) if is_name(condition) => format!("rows with `{condition}`"),
        _ => "rows that do not meet it".to_string(),
    };
    match (fact.kind, is_added) {
        (FactKind::Filter, true) => format!("; {rows} are no longer counted"),
        (FactKind::Filter, false) => format!("; {rows} are counted again"),
        (FactKind::Join, true) => "; rows may be lost or repeated by it".to_string(),
        _ => String::new(),
    }
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_')
}

fn breaking(model: &ModelFacts, what: String, detail: String) -> Change {
    Change {
        class: Class::Breaking,
        place: place(model),
        what,
        detail,
    }
}

fn place(model: &ModelFacts) -> Place {
    Place::Query {
        model: (!model.model.is_empty()).then(|| model.model.clone()),
        distance: model.distance,
    }
}
