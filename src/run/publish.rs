//! Moves the environment, once, after everything passed.

use std::collections::BTreeMap;

use super::plan::{RunPlan, Scope};
use super::prepare::Prepared;
use super::results::RunResults;
use crate::manifest::{Materialization, NodeKind};
use crate::warehouse::{Environment, EnvironmentLock, Relation, Warehouse, WarehouseError};

/// What became of the environment.
#[derive(Debug, Clone)]
pub enum Published {
    /// The new version.
    Version(u64),
    /// It was what it should be already.
    Unchanged(u64),
    /// Something failed, so it stays as it was.
    Withheld(u64),
}

impl Published {
    /// The version that is current afterwards.
    pub fn version(&self) -> u64 {
        match self {
            Self::Version(version) | Self::Unchanged(version) | Self::Withheld(version) => *version,
        }
    }
}

pub async fn publish(
    prepared: &Prepared,
    plan: &RunPlan,
    results: &RunResults,
    warehouse: &Warehouse,
    lock: &EnvironmentLock,
) -> Result<Published, WarehouseError> {
    let version = plan.before.version;
    if results.has_failed() {
        return Ok(Published::Withheld(version));
    }
    if plan.scope == Scope::Test {
        return Ok(Published::Unchanged(version));
    }
    let relations = relations(prepared, plan, warehouse).await?;
    if relations == plan.before.relations && version > 0 {
        return Ok(Published::Unchanged(version));
    }
    let next = Environment::new(&prepared.environment, &prepared.now, relations);
    warehouse
        .publish(lock, next)
        .map(|environment| Published::Version(environment.version))
}

/// What was built, over what was there; a build of everything leaves out what the project no longer has.
async fn relations(
    prepared: &Prepared,
    plan: &RunPlan,
    warehouse: &Warehouse,
) -> Result<BTreeMap<String, Relation>, WarehouseError> {
    let mut relations = if plan.is_everything {
        BTreeMap::new()
    } else {
        plan.before.relations.clone()
    };
    for step in &plan.steps {
        let node = prepared.manifest.node(step.id);
        let relation = match (&node.kind, node.settings.materialized) {
            (NodeKind::Test { .. } | NodeKind::Source(_), _) => continue,
            (NodeKind::Model(_), Materialization::Ephemeral) => {
                relations.remove(&node.name);
                continue;
            }
            (NodeKind::Model(_), Materialization::View) => {
                let sql = prepared.compiled.nodes[&step.id].sql.clone();
                Relation::View {
                    fingerprint: step.fingerprint.clone(),
                    sql,
                }
            }
            _ => match plan.before.relations.get(&node.name) {
                Some(known) if known.fingerprint() == step.fingerprint => known.clone(),
                _ => {
                    let summary = warehouse
                        .table_summary(&node.name, &step.fingerprint)
                        .await?;
                    Relation::Table {
                        fingerprint: step.fingerprint.clone(),
                        rows: summary.rows,
                        bytes: summary.bytes,
                        files: summary.files,
                    }
                }
            },
        };
        relations.insert(node.name.clone(), relation);
    }
    Ok(relations)
}
