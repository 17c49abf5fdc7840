//! Runs a plan in parallel, in the order of the graph. What fails skips only what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use petgraph::Direction;
use tokio::task::JoinSet;

use super::events::{Event, Observer};
use super::job::{Job, failed};
use super::plan::{RunPlan, Step};
use super::prepare::Prepared;
use super::results::{Began, Outcome, RunResults, StepResult};
use crate::diagnostics::{Code, Diagnostic};
use crate::engine::Engine;
use crate::manifest::{Materialization, Node, NodeId, NodeKind};
use crate::warehouse::{Relation, Warehouse};

pub async fn execute(
    prepared: &Arc<Prepared>,
    plan: &RunPlan,
    engine: &Engine,
    warehouse: &Warehouse,
    observer: &dyn Observer,
) -> RunResults {
    let started = Instant::now();
    for line in prepared
        .compiled
        .nodes
        .values()
        .flat_map(|node| &node.logs)
        .filter(|log| log.is_info)
    {
        observer.notice(&Event::Said(&line.message));
    }
    let mut run = Run {
        prepared,
        plan,
        engine,
        warehouse,
        results: RunResults::default(),
        unavailable: BTreeMap::new(),
    };
    run.offer_what_exists().await;
    run.steps(observer).await;
    run.results.elapsed = started.elapsed();
    run.results
}

struct Run<'a> {
    prepared: &'a Arc<Prepared>,
    plan: &'a RunPlan,
    engine: &'a Engine,
    warehouse: &'a Warehouse,
    results: RunResults,
    /// Relations that are neither built here nor published, with the reason.
    unavailable: BTreeMap<NodeId, String>,
}

impl Run<'_> {
    /// Sources, and what is published of relations that this run reads but does not build.
    async fn offer_what_exists(&mut self) {
        let built: BTreeSet<NodeId> = self.plan.steps.iter().map(|step| step.id).collect();
        let needed = self.needed(&built);
        for id in self
            .prepared
            .graph
            .order()
            .iter()
            .filter(|id| needed.contains(id) && !built.contains(id))
        {
            let node = self.prepared.manifest.node(*id);
            if let Err(reason) = self.offer(node).await {
                self.unavailable.insert(*id, reason);
            }
        }
    }

    /// Everything upstream of the steps, as far as views and ephemeral models reach.
    fn needed(&self, built: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        built
            .iter()
            .flat_map(|id| self.prepared.graph.reach(*id, Direction::Incoming, None))
            .collect()
    }

    async fn offer(&self, node: &Node) -> Result<(), String> {
        let relation = node.relation();
        if let Some((files, table)) = self
            .prepared
            .inspected
            .get(&node.id)
            .filter(|_| matches!(node.kind, NodeKind::Source(_)))
        {
            return self
                .engine
                .add_source(&relation, files, table)
                .await
                .map_err(|error| error.to_string());
        }
        if node.settings.materialized == Materialization::Ephemeral && !node.is_test() {
            let sql = &self.prepared.compiled.nodes[&node.id].sql;
            return self
                .engine
                .add_view(&relation, sql)
                .await
                .map_err(|error| error.to_string());
        }
        match self.plan.before.relations.get(&node.name) {
            Some(Relation::Table { fingerprint, .. }) => self
                .engine
                .add_table(&relation, self.warehouse, fingerprint, &node.name)
                .await
                .map_err(|error| error.to_string()),
            Some(Relation::View { sql, .. }) => self
                .engine
                .add_view(&relation, sql)
                .await
                .map_err(|error| error.to_string()),
            None => Err(format!(
                "`{}` was never built in `{}`",
                node.name, self.prepared.environment
            )),
        }
    }

    async fn steps(&mut self, observer: &dyn Observer) {
        let mut waiting: Vec<(&Step, BTreeSet<NodeId>)> = self
            .plan
            .steps
            .iter()
            .map(|step| (step, self.waits_for(step)))
            .collect();
        let mut running: JoinSet<(NodeId, StepResult)> = JoinSet::new();
        let mut idle: BTreeSet<usize> = (1..=self.prepared.threads).collect();
        let steps: BTreeMap<NodeId, &Step> =
            self.plan.steps.iter().map(|step| (step.id, step)).collect();
        loop {
            self.skip_hopeless(&mut waiting, observer);
            while running.len() < self.prepared.threads {
                let Some(at) = waiting.iter().position(|(_, needs)| {
                    needs.iter().all(|id| self.results.steps.contains_key(id))
                }) else {
                    break;
                };
                let (step, _) = waiting.remove(at);
                observer.notice(&Event::Started(step));
                let job = Job {
                    prepared: self.prepared.clone(),
                    step: step.clone(),
                    engine: self.engine.clone(),
                    warehouse: self.warehouse.clone(),
                    published: self.plan.before.relations.get(&step.name).cloned(),
                };
                let began = Began {
                    after: self.prepared.opened.elapsed(),
                    thread: idle
                        .pop_first()
                        .expect("no more run at once than there are"),
                };
                running.spawn(async move {
                    let (id, mut result) = job.run().await;
                    result.began = Some(began);
                    (id, result)
                });
            }
            let Some(finished) = running.join_next().await else {
                break;
            };
            let (id, result) =
                finished.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            idle.extend(result.began.map(|began| began.thread));
            observer.notice(&Event::Finished(steps[&id], &result));
            self.results.steps.insert(id, result);
        }
    }

    /// A step waits for the steps that it reads, and for the tests of everything upstream.
    fn waits_for(&self, step: &Step) -> BTreeSet<NodeId> {
        let planned: BTreeSet<NodeId> = self.plan.steps.iter().map(|step| step.id).collect();
        let upstream = self
            .prepared
            .graph
            .reach(step.id, Direction::Incoming, None);
        let mut needs: BTreeSet<NodeId> = upstream
            .iter()
            .copied()
            .filter(|id| planned.contains(id))
            .collect();
        if self.prepared.manifest.node(step.id).is_test() {
            return needs;
        }
        for other in &self.plan.steps {
            let node = self.prepared.manifest.node(other.id);
            if node.is_test()
                && !node.depends_on.is_empty()
                && node.depends_on.iter().all(|id| upstream.contains(id))
            {
                needs.insert(other.id);
            }
        }
        needs
    }

    /// Steps whose inputs failed, were skipped or do not exist will never run.
    fn skip_hopeless(
        &mut self,
        waiting: &mut Vec<(&Step, BTreeSet<NodeId>)>,
        observer: &dyn Observer,
    ) {
        loop {
            let lost = |id: &NodeId| {
                self.results.steps.get(id).is_some_and(|result| {
                    matches!(result.outcome, Outcome::Failed | Outcome::Skipped)
                })
            };
            let missing = |step: &Step| {
                self.prepared
                    .manifest
                    .node(step.id)
                    .depends_on
                    .iter()
                    .find_map(|id| self.unavailable.get(id))
            };
            let Some(at) = waiting
                .iter()
                .position(|(step, needs)| needs.iter().any(lost) || missing(step).is_some())
            else {
                return;
            };
            let (step, _) = waiting.remove(at);
            let node = self.prepared.manifest.node(step.id);
            let result = match missing(step) {
                Some(reason) => failed(
                    Diagnostic::error(Code::E0803, format!("`{}` cannot run: {reason}", step.name))
                        .at(node.span.clone())
                        .hint(format!(
                            "build what it reads as well: `--select +{}`",
                            step.name
                        )),
                ),
                None => StepResult {
                    outcome: Outcome::Skipped,
                    elapsed: Default::default(),
                    began: None,
                    rows: None,
                    diagnostic: None,
                },
            };
            observer.notice(&Event::Finished(step, &result));
            self.results.steps.insert(step.id, result);
        }
    }
}
