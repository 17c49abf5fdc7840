//! What a run will do, and why, before it does it.

use std::collections::BTreeMap;

use super::increment::{self, Version};
use super::prepare::Prepared;
use super::testing::PassedTests;
use crate::compile::snapshot;
use crate::graph::Selection;
use crate::manifest::{Materialization, Node, NodeId, NodeKind};
use crate::warehouse::{Environment, Relation, Warehouse, WarehouseError};

/// Which kinds of nodes a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Seeds, models and tests.
    Build,
    /// Models.
    Run,
    /// Seeds.
    Seed,
    /// Tests, of what is published.
    Test,
}

/// All steps in an order that respects what reads what.
#[derive(Debug, Clone)]
pub struct RunPlan {
    pub scope: Scope,
    pub steps: Vec<Step>,
    /// The published state that the plan starts from.
    pub before: Environment,
    pub is_everything: bool,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub id: NodeId,
    pub name: String,
    /// `table`, `view`, `seed`, `test`.
    pub kind: &'static str,
    pub action: Action,
    pub why: String,
    pub fingerprint: String,
    /// The version of a growing table that stays and gets new rows.
    pub from: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Build,
    /// Exists under the same fingerprint.
    Reuse,
}

/// Compares fingerprints with what exists.
pub async fn plan(
    prepared: &Prepared,
    selection: &Selection,
    scope: Scope,
    full_refresh: bool,
    warehouse: &Warehouse,
    passed: &PassedTests,
) -> Result<RunPlan, WarehouseError> {
    let before = warehouse.environment(&prepared.environment)?;
    let mut planner = Planner {
        prepared,
        before: &before,
        full_refresh,
        warehouse,
        fingerprints: BTreeMap::new(),
        versions: BTreeMap::new(),
    };
    let mut steps = Vec::new();
    for id in prepared.graph.order() {
        let node = prepared.manifest.node(*id);
        let is_selected = selection.contains(*id) && in_scope(node, scope);
        let fingerprint = planner.fingerprint(node, is_selected);
        if !is_selected {
            continue;
        }
        let (action, why) = decide(&planner, node, &fingerprint, scope, warehouse, passed).await?;
        steps.push(Step {
            id: *id,
            name: node.name.clone(),
            kind: kind(node),
            action,
            why,
            fingerprint,
            from: planner.versions.remove(id).and_then(|version| version.from),
        });
    }
    Ok(RunPlan {
        scope,
        steps,
        is_everything: selection.is_everything && scope == Scope::Build,
        before,
    })
}

fn in_scope(node: &Node, scope: Scope) -> bool {
    match (&node.kind, scope) {
        (NodeKind::Source(_), _) => false,
        (_, Scope::Build) => true,
        (NodeKind::Model(_), Scope::Run)
        | (NodeKind::Seed, Scope::Seed)
        | (NodeKind::Test { .. }, Scope::Test) => true,
        _ => false,
    }
}

fn kind(node: &Node) -> &'static str {
    match (&node.kind, node.settings.materialized) {
        (NodeKind::Test { .. }, _) => "test",
        (NodeKind::Seed, _) => "seed",
        (_, materialized) => materialized.word(),
    }
}

struct Planner<'a> {
    prepared: &'a Prepared,
    before: &'a Environment,
    full_refresh: bool,
    warehouse: &'a Warehouse,
    /// What incremental models will be.
    versions: BTreeMap<NodeId, Version>,
    /// What each relation will be when the run ends: the compiled one, or what is published of those that are not built.
    fingerprints: BTreeMap<NodeId, String>,
}

impl Planner<'_> {
    fn fingerprint(&mut self, node: &Node, is_selected: bool) -> String {
        let compiled = self
            .prepared
            .compiled
            .nodes
            .get(&node.id)
            .map(|node| node.fingerprint.clone())
            .unwrap_or_default();
        let fingerprint = match self.before.relations.get(&node.name) {
            Some(published) if !is_selected && !matches!(node.kind, NodeKind::Source(_)) => {
                published.fingerprint().to_string()
            }
            published => {
                let fingerprint = self.of_inputs(node, &compiled);
                if node.settings.materialized == Materialization::Incremental {
                    return self.grown(node, published, &fingerprint, is_selected);
                }
                let published = published.map(Relation::fingerprint);
                match node.settings.keeps_versions {
                    true => snapshot::chained(&fingerprint, published),
                    false if self.full_refresh && is_selected => {
                        refreshed(&fingerprint, &self.prepared.now)
                    }
                    false => published
                        .filter(|published| is_refresh_of(published, &fingerprint))
                        .map_or(fingerprint, str::to_string),
                }
            }
        };
        self.fingerprints.insert(node.id, fingerprint.clone());
        fingerprint
    }

    /// The version of a table that grows.
    fn grown(
        &mut self,
        node: &Node,
        published: Option<&Relation>,
        inputs: &str,
        is_selected: bool,
    ) -> String {
        let is_refresh_asked = self.full_refresh && is_selected;
        let version = increment::next(
            self.prepared,
            node,
            published,
            inputs,
            is_refresh_asked,
            self.warehouse,
        );
        let fingerprint = version.fingerprint.clone();
        self.versions.insert(node.id, version);
        self.fingerprints.insert(node.id, fingerprint.clone());
        fingerprint
    }

    /// The compiled fingerprint, mixed with those of parents that differ from what was compiled.
    fn of_inputs(&self, node: &Node, compiled: &str) -> String {
        let mut mixed = Vec::new();
        for parent in &node.depends_on {
            let actual = self
                .fingerprints
                .get(parent)
                .map(String::as_str)
                .unwrap_or_default();
            let expected = self
                .prepared
                .compiled
                .nodes
                .get(parent)
                .map(|parent| parent.fingerprint.as_str())
                .unwrap_or_default();
            if actual != expected {
                mixed.push(format!("{} {actual}", parent.0));
            }
        }
        if mixed.is_empty() {
            return compiled.to_string();
        }
        blake3::hash(format!("{compiled} {}", mixed.join(" ")).as_bytes()).to_hex()[..32]
            .to_string()
    }
}

/// The same query over the same data, built again at `now`: half of its name says what it is, so that the next plain
/// build keeps it instead of going back to what was there before the refresh.
fn refreshed(fingerprint: &str, now: &str) -> String {
    let again = blake3::hash(format!("{fingerprint} {now}").as_bytes());
    format!(
        "{}{}",
        fingerprint.get(..16).unwrap_or(fingerprint),
        &again.to_hex()[..16]
    )
}

fn is_refresh_of(published: &str, fingerprint: &str) -> bool {
    fingerprint
        .get(..16)
        .is_some_and(|head| published.starts_with(head))
}

async fn decide(
    planner: &Planner<'_>,
    node: &Node,
    fingerprint: &str,
    scope: Scope,
    warehouse: &Warehouse,
    passed: &PassedTests,
) -> Result<(Action, String), WarehouseError> {
    let published = planner.before.relations.get(&node.name);
    let is_same = published.is_some_and(|relation| relation.fingerprint() == fingerprint);
    let volatile = planner
        .prepared
        .compiled
        .nodes
        .get(&node.id)
        .map(|node| node.volatile.join(", "))
        .unwrap_or_default();
    Ok(match kind(node) {
        "test" if scope == Scope::Build && passed.contains(fingerprint) => {
            (Action::Reuse, "passed before on the same data".to_string())
        }
        "test" => (Action::Build, "checks what was built".to_string()),
        "ephemeral" => (Action::Reuse, "is a part of what reads it".to_string()),
        "view" if is_same => (Action::Reuse, "unchanged".to_string()),
        "view" => (Action::Build, changed(published).to_string()),
        "incremental" => match (
            planner.versions.get(&node.id),
            warehouse.has_table(&node.name, fingerprint).await?,
        ) {
            (Some(version), false) => (Action::Build, version.why.clone()),
            _ if is_same => (Action::Reuse, "unchanged".to_string()),
            _ => (
                Action::Reuse,
                "built before under the same fingerprint".to_string(),
            ),
        },
        _ if planner.full_refresh => (Action::Build, "full refresh".to_string()),
        _ if !volatile.is_empty() => (
            Action::Build,
            format!("asks {volatile}(), so it is never the same"),
        ),
        _ if warehouse.has_table(&node.name, fingerprint).await? => (
            Action::Reuse,
            if is_same {
                "unchanged"
            } else {
                "built before under the same fingerprint"
            }
            .to_string(),
        ),
        _ => (Action::Build, changed(published).to_string()),
    })
}

fn changed(published: Option<&Relation>) -> &'static str {
    match published {
        None => "not in this environment yet",
        Some(_) => "its query, its settings or what it reads has changed",
    }
}
