//! Sticky buckets: the variation that a user had before, by attribute, as GrowthBook's SDKs store it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

/// Assignment documents by `attribute||value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StickyDocuments(pub BTreeMap<String, Json>);

/// What the documents say about an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    Nothing,
    /// Index of the variation.
    Variation(usize),
    /// An assignment of a version that is no longer wanted.
    Blocked,
}

impl StickyDocuments {
    /// The documents that belong to a user: those of attributes that the user has.
    pub fn of_user(documents: &[Json], attributes: &Map<String, Json>) -> Self {
        let belongs = |document: &&Json| {
            let name = document["attributeName"].as_str().unwrap_or_default();
            attributes
                .get(name)
                .is_some_and(|value| text(value) == text(&document["attributeValue"]))
        };
        let key = |document: &Json| {
            format!(
                "{}||{}",
                text(&document["attributeName"]),
                text(&document["attributeValue"])
            )
        };
        Self(
            documents
                .iter()
                .filter(belongs)
                .map(|document| (key(document), document.clone()))
                .collect(),
        )
    }

    /// What is known about an experiment, the first attribute before the one that stands in for it.
    pub fn remembered(
        &self,
        experiment: &str,
        version: u64,
        least_version: u64,
        attributes: &[(&str, &Json)],
        keys: &[Option<&str>],
    ) -> Remembered {
        let assignment = |version: u64| {
            let name = assignment_key(experiment, version);
            attributes.iter().find_map(|(attribute, value)| {
                self.0
                    .get(&format!("{attribute}||{}", text(value)))?
                    .get("assignments")?
                    .get(&name)?
                    .as_str()
            })
        };
        if (0..least_version).any(|version| assignment(version).is_some()) {
            return Remembered::Blocked;
        }
        assignment(version)
            .and_then(|wanted| keys.iter().position(|key| *key == Some(wanted)))
            .map_or(Remembered::Nothing, Remembered::Variation)
    }

    /// Keeps an assignment.
    pub fn remember(
        &mut self,
        experiment: &str,
        version: u64,
        attribute: (&str, &Json),
        key: &str,
    ) {
        let (name, value) = (attribute.0, text(attribute.1));
        let empty = || json!({"attributeName": name, "attributeValue": value, "assignments": {}});
        let document = self
            .0
            .entry(format!("{name}||{value}"))
            .or_insert_with(empty);
        if !document["assignments"].is_object() {
            document["assignments"] = json!({});
        }
        document["assignments"][assignment_key(experiment, version)] = json!(key);
    }
}

fn assignment_key(experiment: &str, version: u64) -> String {
    format!("{experiment}__{version}")
}

/// Texts as they are, everything else as JSON.
fn text(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
