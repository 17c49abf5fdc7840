//! One step of a run: a view named, a table written or found, a test counted.
//! In: a [`Step`] of the plan and the session of the run. Out: a [`StepResult`], with what went wrong at its place. Which steps there
//! are, and when each may run, is decided elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::increment::MadeOf;
use super::memory::{self, causes, first_line};
use super::plan::{Action, Step};
use super::prepare::Prepared;
use super::results::{Outcome, StepResult};
use super::testing::verdict;
use crate::compile::{published, snapshot};
use crate::diagnostics::{Code, Diagnostic};
use crate::engine::{Clustering, Engine, Place};
use crate::manifest::{Materialization, Node, NodeId, NodeKind, Strategy};
use crate::warehouse::{Relation, TableSummary, Warehouse, WarehouseError};

/// One step, on a task of its own.
pub(super) struct Job {
    pub prepared: Arc<Prepared>,
    pub step: Step,
    pub engine: Engine,
    pub warehouse: Warehouse,
    /// What is published under the step's name.
    pub published: Option<Relation>,
}

impl Job {
    pub async fn run(self) -> (NodeId, StepResult) {
        let started = Instant::now();
        let node = self.prepared.manifest.node(self.step.id);
        let outcome = match &node.kind {
            NodeKind::Test { .. } if self.step.action == Action::Reuse => {
                Ok((Outcome::Reused, None))
            }
            NodeKind::Test { settings, .. } => {
                let result = self.test(node, settings).await;
                return (
                    self.step.id,
                    StepResult {
                        elapsed: started.elapsed(),
                        ..result
                    },
                );
            }
            NodeKind::Seed => self.seed(node).await,
            _ => self.model(node).await,
        };
        let result = match outcome {
            Ok((outcome, rows)) => StepResult {
                outcome,
                elapsed: started.elapsed(),
                began: None,
                rows,
                diagnostic: None,
            },
            Err(diagnostic) => StepResult {
                elapsed: started.elapsed(),
                ..failed(*diagnostic)
            },
        };
        (self.step.id, result)
    }

    async fn model(&self, node: &Node) -> Result<(Outcome, Option<u64>), Box<Diagnostic>> {
        let compiled = &self.prepared.compiled.nodes[&node.id];
        let sql = compiled.sql.clone();
        let relation = node.relation();
        if !node.settings.materialized.is_stored() {
            self.engine
                .add_view(&relation, &sql)
                .await
                .map_err(|error| self.failure(node, &error.to_string()))?;
            let outcome = if self.step.action == Action::Reuse {
                Outcome::Reused
            } else {
                Outcome::Done
            };
            return Ok((outcome, None));
        }
        if node.settings.keeps_versions && self.step.action == Action::Build {
            let versions = self.versions(node, &sql).await;
            let versions = versions.map_err(|error| self.failure(node, &error))?;
            return self.table(node, &versions).await;
        }
        if let (Some(from), Action::Build) = (&self.step.from, self.step.action) {
            let relation = published(node);
            let added = self
                .engine
                .add_table(&relation, &self.warehouse, from, &node.name);
            added
                .await
                .map_err(|error| self.storage_failure(node, &error))?;
            let Some(increment) = &compiled.increment else {
                return self.table(node, &sql).await;
            };
            if increment.is_over_new_files {
                let beside = self.over_new_files(node, from).await;
                let engine = beside.map_err(|error| self.failure(node, &error.to_string()))?;
                return self.table_by(&engine, node, &increment.sql).await;
            }
            return self.table(node, &increment.sql).await;
        }
        self.table(node, &sql).await
    }

    /// The query of a snapshot over the versions that are published.
    async fn versions(&self, node: &Node, sql: &str) -> Result<String, String> {
        let previous = match &self.published {
            Some(Relation::Table { fingerprint, .. }) => {
                let relation = published(node);
                let added =
                    self.engine
                        .add_table(&relation, &self.warehouse, fingerprint, &node.name);
                added.await.map_err(|error| error.to_string())?;
                let columns = self
                    .columns_of(&format!("select * from {relation}"))
                    .await?;
                Some(snapshot::Previous { relation, columns })
            }
            _ => None,
        };
        let now = &self.prepared.now;
        let columns = self.columns_of(sql).await?;
        Ok(snapshot::versions(sql, &columns, previous.as_ref(), now))
    }

    async fn columns_of(&self, query: &str) -> Result<Vec<String>, String> {
        let rows = self.engine.rows(query, Some(0)).await;
        let rows = rows.map_err(|error| error.to_string())?;
        Ok(rows.columns().iter().map(ToString::to_string).collect())
    }

    async fn seed(&self, node: &Node) -> Result<(Outcome, Option<u64>), Box<Diagnostic>> {
        // The file is read under a name of its own, so that the seed's name is free for the table.
        let (files, table) = &self.prepared.inspected[&node.id];
        let staged = format!("equipoise_seed_files.{}", node.relation());
        self.engine
            .add_source(&staged, files, table)
            .await
            .map_err(|error| self.failure(node, &error.to_string()))?;
        self.table(node, &format!("select * from {staged}")).await
    }

    /// A session in which the sources are only those files that the table has not been given yet.
    async fn over_new_files(&self, node: &Node, from: &str) -> anyhow::Result<Engine> {
        let prepared = &self.prepared;
        let note = self.warehouse.note(&node.name, from).unwrap_or_default();
        let new = MadeOf::of(prepared, node).new_since(&note)?;
        let nodes = self.read_through_views(node);
        let is_source = |node: &Node| matches!(node.kind, NodeKind::Source(_));
        let stored: Vec<String> = nodes
            .iter()
            .filter(|node| !is_source(node) && !is_view(node))
            .map(|node| node.relation())
            .collect();
        let engine = self.engine.beside(&stored).await?;
        for node in nodes {
            let relation = node.relation();
            if let (true, Some((files, table))) =
                (is_source(node), prepared.inspected.get(&node.id))
            {
                let names = new.get(&relation);
                let is_new = |name: &str| names.is_some_and(|names| names.contains(name));
                engine.add_files(&relation, files, table, is_new).await?;
            } else if is_view(node) {
                let sql = &prepared.compiled.nodes[&node.id].sql;
                engine.add_view(&relation, sql).await?;
            }
        }
        Ok(engine)
    }

    /// The relations that a query reads, and those that their queries read if they are not stored, in the order of the graph.
    fn read_through_views(&self, node: &Node) -> Vec<&Node> {
        let mut found = BTreeSet::new();
        let mut open = node.depends_on.clone();
        while let Some(id) = open.pop() {
            let parent = self.prepared.manifest.node(id);
            if found.insert(id) && is_view(parent) {
                open.extend(&parent.depends_on);
            }
        }
        let order = self.prepared.graph.order().iter();
        order
            .filter(|id| found.contains(id))
            .map(|id| self.prepared.manifest.node(*id))
            .collect()
    }

    async fn table(
        &self,
        node: &Node,
        sql: &str,
    ) -> Result<(Outcome, Option<u64>), Box<Diagnostic>> {
        self.table_by(&self.engine, node, sql).await
    }

    /// The step's table, by a query that runs in a session which need not be the run's.
    async fn table_by(
        &self,
        engine: &Engine,
        node: &Node,
        sql: &str,
    ) -> Result<(Outcome, Option<u64>), Box<Diagnostic>> {
        let storage = |error: WarehouseError| self.storage_failure(node, &error);
        let mut rows = None;
        if self.step.action == Action::Build {
            rows = Some(self.write(engine, node, sql).await.map_err(storage)?.rows);
        }
        self.engine
            .add_table(
                &node.relation(),
                &self.warehouse,
                &self.step.fingerprint,
                &node.name,
            )
            .await
            .map_err(storage)?;
        Ok((
            if rows.is_some() {
                Outcome::Done
            } else {
                Outcome::Reused
            },
            rows,
        ))
    }

    /// Writes the rows of a query as the step's table: whole, or beside those that stay.
    async fn write(
        &self,
        engine: &Engine,
        node: &Node,
        sql: &str,
    ) -> Result<TableSummary, WarehouseError> {
        let (settings, fingerprint) = (&node.settings, &self.step.fingerprint);
        let grows = settings.materialized == Materialization::Incremental;
        let note = match grows {
            true => MadeOf::of(&self.prepared, node).note(),
            false => String::new(),
        };
        let place = Place {
            warehouse: &self.warehouse,
            name: &node.name,
            fingerprint,
            from: self.step.from.as_deref(),
            note: &note,
        };
        if let Some(by) = &settings.cluster_by {
            let clustering = Clustering {
                unit: by.unit.clone(),
                time: by.time.clone(),
                id: by.id.clone(),
                buckets: by.buckets,
            };
            return engine.cluster(sql, &place, clustering).await;
        }
        if grows {
            let keys = match settings.growth.strategy() {
                Strategy::Replace => settings.growth.unique_key.as_slice(),
                Strategy::Append => &[],
            };
            let partition_by = &settings.partition_by;
            return engine.grow(sql, &place, keys, partition_by).await;
        }
        engine
            .materialize(
                sql,
                &self.warehouse,
                &node.name,
                fingerprint,
                &settings.partition_by,
            )
            .await
    }

    async fn test(&self, node: &Node, settings: &crate::manifest::TestSettings) -> StepResult {
        let compiled = &self.prepared.compiled.nodes[&node.id];
        let failures = match self.engine.number(&compiled.sql).await {
            Ok(failures) => failures.unwrap_or(0),
            Err(error) => return failed(*self.failure(node, &error.to_string())),
        };
        let outcome = verdict(failures, settings);
        let diagnostic = match outcome {
            Outcome::Done => None,
            _ => Some(
                self.failed_test(node, failures, outcome, compiled.rows_sql.as_deref())
                    .await,
            ),
        };
        StepResult {
            outcome,
            elapsed: Default::default(),
            began: None,
            rows: Some(failures.unsigned_abs()),
            diagnostic,
        }
    }

    async fn failed_test(
        &self,
        node: &Node,
        failures: i64,
        outcome: Outcome,
        rows_sql: Option<&str>,
    ) -> Diagnostic {
        let message = format!(
            "the test `{}` found {failures} wrong row{}",
            node.name,
            if failures == 1 { "" } else { "s" }
        );
        let mut diagnostic = match outcome {
            Outcome::Warned => Diagnostic::warning(Code::E0802, message),
            _ => Diagnostic::error(Code::E0802, message),
        };
        diagnostic = diagnostic.at(node.span.clone());
        for row in self.sample(rows_sql.unwrap_or_default()).await {
            diagnostic = diagnostic.note(row);
        }
        diagnostic.hint(format!(
            "see all of them with `equipoise show --select {}`",
            node.name
        ))
    }

    /// The first wrong rows, as `column: value`.
    async fn sample(&self, rows_sql: &str) -> Vec<String> {
        let Ok(rows) = self.engine.rows(rows_sql, Some(3)).await else {
            return Vec::new();
        };
        let columns: Vec<String> = rows.columns().iter().map(ToString::to_string).collect();
        let cells = rows.cells().unwrap_or_default();
        let text = |row: Vec<Option<String>>| {
            let pairs =
                columns.iter().zip(row).take(8).map(|(name, value)| {
                    format!("{name}: {}", value.unwrap_or("null".to_string()))
                });
            pairs.collect::<Vec<_>>().join(", ")
        };
        cells.into_iter().map(text).collect()
    }

    fn failure(&self, node: &Node, message: &str) -> Box<Diagnostic> {
        if let Some(diagnostic) =
            memory::exhausted(&self.prepared, &format!("`{}`", node.name), message)
        {
            return Box::new(diagnostic.at(node.span.clone()));
        }
        let reason = first_line(causes(message).1);
        let diagnostic =
            Diagnostic::error(Code::E0801, format!("`{}` failed: {reason}", node.name))
                .at(node.span.clone());
        let compiled = match self.step.from {
            Some(_) => self.prepared.increment_path(&node.path),
            None => self.prepared.compiled_path(&node.path),
        };
        Box::new(match node.kind {
            NodeKind::Model(_) => diagnostic.hint(format!(
                "the SQL that ran is `{}`",
                compiled
                    .strip_prefix(&self.prepared.root)
                    .unwrap_or(&compiled)
                    .display()
            )),
            _ => diagnostic,
        })
    }

    fn storage_failure(&self, node: &Node, error: &WarehouseError) -> Box<Diagnostic> {
        match error {
            WarehouseError::Query(error) => self.failure(node, &error.strip_backtrace()),
            WarehouseError::DiskFull { .. } => Box::new(
                Diagnostic::error(Code::E0903, error.to_string())
                    .at(node.span.clone())
                    .hint("nothing was published; free some space and build again"),
            ),
            _ => Box::new(Diagnostic::error(Code::E0901, error.to_string()).at(node.span.clone())),
        }
    }
}

/// Whether a relation is a query of the project that nothing stores.
fn is_view(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Model(_)) && !node.settings.materialized.is_stored()
}

pub(super) fn failed(diagnostic: Diagnostic) -> StepResult {
    StepResult {
        outcome: Outcome::Failed,
        elapsed: Default::default(),
        began: None,
        rows: None,
        diagnostic: Some(diagnostic),
    }
}
