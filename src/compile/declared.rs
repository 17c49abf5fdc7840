//! What tests and seeds say about base tables.
//! In: the data tests of sources, the rows of seeds. Out: a [`Catalog`] of constraints that proofs may lean on. A test
//! that may pass although rows break it (a warning, a limit on rows, a condition) declares nothing.

use super::meanings::plain;
use crate::manifest::{Generic, Manifest, Node, NodeId, NodeKind, TestSettings, TestSeverity};
use crate::sql::canonical::{Catalog, ForeignKey, Seed, Table};

/// The constraints of all sources and seeds. `seed_text` reads a seed's CSV.
pub(super) fn catalog(
    manifest: &Manifest,
    seed_text: &(dyn Fn(&Node) -> Option<String> + Sync),
) -> Catalog {
    let mut catalog = Catalog::default();
    for node in &manifest.nodes {
        if let NodeKind::Seed = node.kind {
            let seed = seed_text(node).and_then(|text| Seed::parse(&text).ok());
            catalog
                .tables
                .entry(plain(&node.relation()))
                .or_default()
                .seed = seed;
        }
        declare(manifest, node, &mut catalog);
    }
    catalog
}

fn declare(manifest: &Manifest, test: &Node, catalog: &mut Catalog) {
    let NodeKind::Test {
        generic: Some(generic),
        attached_to: Some(owner),
        column,
        settings,
        ..
    } = &test.kind
    else {
        return;
    };
    let owner = manifest.node(*owner);
    if !matches!(owner.kind, NodeKind::Source(_)) || !is_strict(settings) {
        return;
    }
    let facts = catalog.tables.entry(plain(&owner.relation())).or_default();
    match (generic.name.as_str(), column) {
        ("not_null", Some(column)) => {
            facts.not_null.insert(column.clone());
        }
        ("unique", Some(column)) => facts.unique.push(vec![column.clone()]),
        ("unique_combination", None) => facts.unique.extend(columns(generic)),
        ("relationships", Some(column)) => refer(manifest, test, generic, column, facts),
        _ => {}
    }
}

/// The relation and the columns whose uniqueness a strict test checks.
pub(super) fn key(test: &Node) -> Option<(NodeId, Vec<String>)> {
    let NodeKind::Test {
        generic: Some(generic),
        attached_to: Some(owner),
        column,
        settings,
        ..
    } = &test.kind
    else {
        return None;
    };
    let columns = match (generic.name.as_str(), column) {
        ("unique", Some(column)) => vec![column.clone()],
        ("unique_combination", None) => columns(generic)?,
        _ => return None,
    };
    is_strict(settings).then_some((*owner, columns))
}

/// One wrong row fails the build.
fn is_strict(settings: &TestSettings) -> bool {
    let default = TestSettings::default();
    settings.severity == TestSeverity::Error
        && settings.condition.is_none()
        && settings.error_if == default.error_if
        && settings.fail_calc == default.fail_calc
}

/// The names of columns that an argument lists.
fn columns(generic: &Generic) -> Option<Vec<String>> {
    let names = generic.arguments.get("columns")?.as_array()?.iter();
    let is_name = |name: &&str| {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        !name.is_empty() && name.chars().all(is_part)
    };
    names
        .map(|name| name.as_str().filter(is_name).map(ToString::to_string))
        .collect()
}

fn refer(manifest: &Manifest, test: &Node, generic: &Generic, column: &str, facts: &mut Table) {
    let field = generic
        .arguments
        .get("field")
        .and_then(|field| field.as_str());
    let target = test.depends_on.get(1).map(|id| manifest.node(*id));
    // Of a model the rows may come and go with its query; only a base table stays what it was declared to be.
    if let (Some(field), Some(target)) = (field, target)
        && !matches!(target.kind, NodeKind::Model(_))
    {
        facts.foreign_keys.push(ForeignKey {
            column: column.into(),
            target: plain(&target.relation()),
            target_column: field.into(),
        });
    }
}
