//! One metric's meaning: five hashes and what they were made of.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::{Fields, Part, part_of};
use crate::sql::canonical::words::{Fact, columns, facts};
use crate::sql::canonical::{Canonical, VERSION};

/// What a metric means today.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    pub name: String,
    pub version: String,
    pub fields: Fields,
    pub plan: Plan,
}

/// The whole lineage of a metric down to its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Equal hashes mean equal numbers on all data that meets the assumptions.
    pub hash: String,
    /// The version of the rules that made the hash.
    pub rules: u32,
    pub assumptions: BTreeSet<String>,
    /// What each query of the lineage does, the metric itself first.
    pub models: Vec<ModelFacts>,
}

/// What one model of the lineage does, as people read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// Empty for the metric's own query.
    pub model: String,
    /// How many models up from the metric.
    pub distance: usize,
    pub facts: BTreeSet<Fact>,
    /// Columns that do not reach the metric, and what they are in terms of base tables; a lock does not say.
    pub unused: Option<BTreeMap<String, String>>,
}

/// Five separate hashes, so that a change says what kind it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    pub plan: String,
    pub definition: String,
    pub decision: String,
    pub people: String,
    pub documentation: String,
}

impl Meaning {
    /// Whether a lock would say the same of both, whatever it does not write down.
    pub fn is_same(&self, other: &Meaning) -> bool {
        let facts = |meaning: &Meaning| -> BTreeSet<(String, usize, Fact)> {
            let models = meaning.plan.models.iter();
            let lines = models.flat_map(|model| {
                let place = (model.model.clone(), model.distance);
                model
                    .facts
                    .iter()
                    .map(move |fact| (place.0.clone(), place.1, fact.clone()))
            });
            lines.collect()
        };
        self.version == other.version
            && self.fields == other.fields
            && self.plan.rules == other.plan.rules
            && self.plan.assumptions == other.plan.assumptions
            && facts(self) == facts(other)
    }

    /// Fields that say how to estimate count as definition in the hash; the comparison tells them apart.
    pub fn hashes(&self) -> Hashes {
        let of = |parts: &[Part]| {
            let fields = self
                .fields
                .iter()
                .filter(|(field, _)| parts.contains(&part_of(field)));
            let text: String = fields
                .map(|(field, value)| format!("{field:?}={value:?}\n"))
                .collect();
            short(&text)
        };
        Hashes {
            plan: self.plan.hash.clone(),
            definition: of(&[Part::Definition, Part::Method]),
            decision: of(&[Part::Decision]),
            people: of(&[Part::People]),
            documentation: of(&[Part::Documentation]),
        }
    }
}

impl Plan {
    /// A plan of one or several queries: a ratio has two.
    pub fn of(queries: &[Canonical], models: Vec<ModelFacts>) -> Plan {
        let mut hashes: Vec<&str> = queries.iter().map(|query| query.hash.as_str()).collect();
        if hashes.len() > 1 {
            hashes.dedup();
        }
        let hash = match hashes.as_slice() {
            [only] if queries.len() == 1 => (*only).to_string(),
            _ => short(
                &queries
                    .iter()
                    .map(|query| format!("{}\n", query.hash))
                    .collect::<String>(),
            ),
        };
        let assumptions = queries
            .iter()
            .flat_map(|query| query.assumptions.iter().cloned())
            .collect();
        Plan {
            hash,
            rules: VERSION,
            assumptions,
            models,
        }
    }
}

impl Plan {
    /// A plan that is made of the plans of other metrics, one hash per line.
    pub fn of_inputs(plans: &str, assumptions: BTreeSet<String>, models: Vec<ModelFacts>) -> Plan {
        Plan {
            hash: short(plans),
            rules: VERSION,
            assumptions,
            models,
        }
    }
}

/// What one model does, whoever reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelWords {
    /// Over its parents.
    facts: Vec<Fact>,
    /// What each column is in terms of base tables, whatever the models between are called; only for comparisons with
    /// another state of the project, since a lock does not say.
    columns: Option<Vec<(String, String)>>,
}

impl ModelWords {
    pub fn of(local: &Canonical, inlined: Option<&Canonical>) -> ModelWords {
        ModelWords {
            facts: facts(local),
            columns: inlined.map(columns),
        }
    }

    /// The part of it that a metric sees; `used` are the columns that reach the metric.
    pub fn for_metric(
        &self,
        model: &str,
        distance: usize,
        used: &dyn Fn(&str) -> bool,
    ) -> ModelFacts {
        let is_kept = |fact: &&Fact| fact.subject.is_empty() || used(&fact.subject);
        let unused = self.columns.as_ref().map(|columns| {
            let unused = columns.iter().filter(|(name, _)| !used(name));
            unused.cloned().collect()
        });
        ModelFacts {
            model: model.into(),
            distance,
            facts: self.facts.iter().filter(is_kept).cloned().collect(),
            unused,
        }
    }
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_string()
}
