//! When a table grows and when it is built anew, and what its versions are called.
//! In: an incremental model, what is published of it, the files that it is made of. Out: its next fingerprint and, if it grows, the
//! fingerprint it grows from. A table grows only where that can end in what a full build gives: its queries are those
//! it was built by, and every file that it was made of is still there as it was.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use serde::{Deserialize, Serialize};

use super::prepare::Prepared;
use crate::manifest::Node;
use crate::warehouse::{Relation, Warehouse};

/// What a table was made of; kept beside its rows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeOf {
    /// Hash of each file, by its source or seed and by its name.
    files: BTreeMap<String, BTreeMap<String, String>>,
}

/// Names of files, by source.
pub type NewFiles = BTreeMap<String, BTreeSet<String>>;

/// The next version of a growing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub fingerprint: String,
    /// The version that it grows from.
    pub from: Option<String>,
    pub why: String,
}

impl MadeOf {
    /// All files that reach a node.
    pub fn of(prepared: &Prepared, node: &Node) -> Self {
        let upstream = prepared.graph.reach(node.id, Direction::Incoming, None);
        let inputs = upstream.iter().filter_map(|id| {
            let (_, table) = prepared.inspected.get(id)?;
            let file =
                |file: &crate::engine::sources::SourceFile| (file.name.clone(), file.hash.clone());
            let files = table.files.iter().map(file).collect();
            Some((prepared.manifest.node(*id).relation(), files))
        });
        Self {
            files: inputs.collect(),
        }
    }

    /// What is here and was not in what a note says; a note that cannot be read would make everything new once more.
    pub fn new_since(&self, note: &str) -> serde_json::Result<NewFiles> {
        let earlier: Self = serde_json::from_str(note)?;
        let is_new = |relation: &String, name: &String| {
            let known = earlier.files.get(relation);
            known.is_none_or(|files| !files.contains_key(name))
        };
        let of_relation = |(relation, files): (&String, &BTreeMap<String, String>)| {
            let names = files.keys().filter(|name| is_new(relation, name));
            (relation.clone(), names.cloned().collect())
        };
        Ok(self.files.iter().map(of_relation).collect())
    }

    pub fn note(&self) -> String {
        serde_json::to_string(self).expect("maps of texts are JSON")
    }

    /// A file of `earlier` that is not what it was, or is gone.
    fn lost_since(&self, earlier: &Self) -> Option<String> {
        for (relation, files) in &earlier.files {
            for (name, hash) in files {
                match self.files.get(relation).and_then(|files| files.get(name)) {
                    Some(now) if now == hash => {}
                    Some(_) => return Some(format!("`{name}` is not what it was")),
                    None => return Some(format!("`{name}` is gone")),
                }
            }
        }
        None
    }
}

/// The version that a run makes, or the published one if nothing has changed. `inputs` names the query with all its data.
pub fn next(
    prepared: &Prepared,
    node: &Node,
    published: Option<&Relation>,
    inputs: &str,
    is_refresh_asked: bool,
    warehouse: &Warehouse,
) -> Version {
    let logic = prepared
        .compiled
        .nodes
        .get(&node.id)
        .map_or("", |node| node.logic.as_str());
    let anew = |why: &str, salt: &str| Version {
        fingerprint: name(logic, inputs, salt),
        from: None,
        why: why.to_owned(),
    };
    let is_refresh = node
        .settings
        .growth
        .full_refresh
        .unwrap_or(is_refresh_asked);
    let Some(Relation::Table { fingerprint, .. }) = published else {
        return anew("not in this environment yet", "");
    };
    if is_refresh {
        return anew("full refresh", &prepared.now);
    }
    if !fingerprint.starts_with(head(logic)) {
        return anew(
            "its query, its settings or a query that it reads has changed",
            "",
        );
    }
    if fingerprint.starts_with(&format!("{}{}", head(logic), head(inputs))) {
        return Version {
            fingerprint: fingerprint.clone(),
            from: None,
            why: "unchanged".to_owned(),
        };
    }
    let earlier = warehouse
        .note(&node.name, fingerprint)
        .and_then(|note| serde_json::from_str::<MadeOf>(&note).ok());
    match earlier.map(|earlier| MadeOf::of(prepared, node).lost_since(&earlier)) {
        None => anew(
            "its published table is gone, or says not what it was made of",
            fingerprint,
        ),
        Some(Some(lost)) => anew(&lost, fingerprint),
        Some(None) => Version {
            fingerprint: name(logic, inputs, fingerprint),
            from: Some(fingerprint.clone()),
            why: "grows: what it reads has more".to_owned(),
        },
    }
}

/// What the queries are, what they were given, and what was there before.
fn name(logic: &str, inputs: &str, before: &str) -> String {
    let chain = blake3::hash(format!("{inputs} {before}").as_bytes()).to_hex();
    format!("{}{}{}", head(logic), head(inputs), &chain[..16])
}

fn head(hash: &str) -> &str {
    hash.get(..24).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::MadeOf;

    fn made_of(files: &[(&str, &str)]) -> MadeOf {
        let file = |(name, hash): &(&str, &str)| (name.to_string(), hash.to_string());
        let files = files.iter().map(file).collect();
        MadeOf {
            files: [("shop.events".to_owned(), files)].into(),
        }
    }

    #[test]
    fn a_table_grows_only_by_files_that_are_new() {
        let before = made_of(&[("monday", "1"), ("tuesday", "2")]);
        let more = made_of(&[("monday", "1"), ("tuesday", "2"), ("wednesday", "3")]);
        assert_eq!(more.lost_since(&before), None);
        let changed = made_of(&[("monday", "1"), ("tuesday", "9")]);
        assert_eq!(
            changed.lost_since(&before).as_deref(),
            Some("`tuesday` is not what it was")
        );
        let gone = made_of(&[("tuesday", "2")]);
        assert_eq!(
            gone.lost_since(&before).as_deref(),
            Some("`monday` is gone")
        );
    }
}
