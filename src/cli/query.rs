//! `show` and `sql`: rows of what is published.

use std::collections::BTreeMap;
use std::ops::Deref;

use clap::Args;

use super::options::LogFormat;
use super::{Common, Exit, context, output};
use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use crate::engine::{Engine, EngineOptions, Failure, clustered_facts};
use crate::manifest::{Materialization, NodeKind, identifier};
use crate::run::{Prepared, exhausted};
use crate::sql::{self, Schema, SqlError, SqlErrorKind};
use crate::warehouse::{Environment, Pin, Relation, Warehouse, WarehouseError};

#[derive(Debug, Clone, Args)]
pub struct Show {
    /// Rows to show
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Clone, Args)]
pub struct Sql {
    /// The query; `-` reads it from standard input
    pub query: String,
    /// Rows to show at most
    #[arg(long)]
    pub limit: Option<usize>,
}

pub async fn show(common: &Common, show: &Show) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    if common.select.is_empty() {
        tell!("error: `show` needs `--select MODEL`");
        return Ok(Exit::Wrong);
    }
    let Some(selection) = context::selection(common, &prepared) else {
        return Ok(Exit::Wrong);
    };
    let asked: Vec<&str> = common.select.iter().map(String::as_str).collect();
    let is_asked = |name: &str| {
        asked
            .iter()
            .any(|term| term.trim_matches(['+', '@']) == name)
    };
    let named =
        prepared.manifest.nodes.iter().filter(|node| {
            selection.contains(node.id) && (!node.is_test() || is_asked(&node.name))
        });
    let warehouse = context::warehouse(&prepared)?;
    let engine = published(&prepared, &warehouse).await?;
    for node in named {
        let query = match (
            &node.kind,
            prepared.compiled.nodes[&node.id].rows_sql.clone(),
        ) {
            (NodeKind::Test { .. }, Some(sql)) => sql,
            (NodeKind::Model(_), _) if !node.settings.keeps_versions => {
                prepared.compiled.nodes[&node.id].sql.clone()
            }
            _ => format!("select * from {}", node.relation()),
        };
        match engine.rows(&query, Some(show.limit)).await {
            Ok(rows) => output::rows(&rows, common.output)?,
            Err(error) => {
                let what = format!("`{}`", node.name);
                let known = exhausted(&prepared, &what, &error.strip_backtrace());
                let known = match known {
                    Some(large) => Some(large),
                    None => engine.damage(&warehouse, &query, &error).await,
                };
                if let Some(known) = known {
                    context::report(common, &[known], &prepared);
                    return Ok(Exit::Failed);
                }
                tell!(
                    "error[E0801]: `{}` cannot be shown: {}",
                    node.name,
                    error.strip_backtrace()
                );
                tell!(
                    "   = hint: build what it reads first: `equipoise build --select +{}`",
                    node.name
                );
                return Ok(Exit::Failed);
            }
        }
    }
    Ok(Exit::Good)
}

pub async fn sql(common: &Common, sql: &Sql) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let query = text(&sql.query)?;
    let warehouse = context::warehouse(&prepared)?;
    let engine = published(&prepared, &warehouse).await?;
    if let Some(refused) = engine.unanswerable(&query) {
        say(common, &prepared, &query, refused);
        return Ok(Exit::Wrong);
    }
    match engine.rows(&query, sql.limit).await {
        Ok(rows) => {
            output::rows(&rows, common.output)?;
            Ok(Exit::Good)
        }
        Err(error) => match sql::refused(&query, &error) {
            Some(refused) => {
                say(common, &prepared, &query, refused);
                Ok(Exit::Wrong)
            }
            None => {
                let message = error.strip_backtrace();
                let known = match exhausted(&prepared, "the query", &message) {
                    Some(large) => Some(large),
                    None => engine.damage(&warehouse, &query, &error).await,
                };
                match known {
                    Some(known) => context::report(common, &[known], &prepared),
                    None => tell!("error[E0801]: {message}"),
                }
                Ok(Exit::Failed)
            }
        },
    }
}

/// Prints what is wrong with a query, and where.
pub fn say(common: &Common, prepared: &Prepared, query: &str, refused: SqlError) {
    const NAME: &str = "query";
    let place = refused.range.unwrap_or((0, query.len()));
    let mut diagnostic = Diagnostic::error(refused.kind.code(), &*refused.message)
        .at(Span::of_bytes(NAME, query, place.0, place.1));
    diagnostic.hint = refused.hint;
    if refused.kind == SqlErrorKind::UnknownTable {
        diagnostic.hint = Some(hint_for_unknown(prepared, &refused.word));
    }
    match common.log_format {
        LogFormat::Text => {
            output::diagnostics(
                &[diagnostic],
                &BTreeMap::from([(NAME.into(), query.into())]),
            );
        }
        LogFormat::Json => output::diagnostics_as_json(&[diagnostic]),
    }
}

/// A query as it was given, or from standard input.
pub fn text(query: &str) -> std::io::Result<String> {
    match query {
        "-" => std::io::read_to_string(std::io::stdin()),
        query => Ok(query.to_string()),
    }
}

/// Of a relation that is not there: how to get it, or which one was meant.
fn hint_for_unknown(prepared: &Prepared, word: &str) -> String {
    let nodes = || prepared.manifest.nodes.iter();
    if let Some(node) = nodes().find(|node| node.relation() == word || node.name == word) {
        return format!(
            "`{}` is not published in `{}`: `equipoise build --select +{}`",
            node.name, prepared.environment, node.name
        );
    }
    let known: Vec<String> = nodes().map(|node| node.relation()).collect();
    match nearest(word, known.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`equipoise ls` lists the relations of the project".to_string(),
    }
}

/// What is published, for queries; no vacuum takes it away while this is held.
pub struct Published {
    engine: Engine,
    pub environment: Environment,
    _pin: Option<Pin>,
}

impl Deref for Published {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// An engine that knows everything that is published, the sources, and ephemeral models.
pub async fn published(prepared: &Prepared, warehouse: &Warehouse) -> anyhow::Result<Published> {
    published_in(prepared, warehouse, prepared.engine).await
}

/// The same with other limits.
pub async fn published_in(
    prepared: &Prepared,
    warehouse: &Warehouse,
    options: EngineOptions,
) -> anyhow::Result<Published> {
    let engine = Engine::new(options)?;
    let (environment, pin) = warehouse.pin(&prepared.environment)?;
    for id in prepared.graph.order() {
        let node = prepared.manifest.node(*id);
        if let NodeKind::Source(_) = node.kind {
            prepared.offer_source(&engine, node).await?;
        }
    }
    for (name, fingerprint) in environment.tables() {
        let relation = identifier(name);
        let added = engine
            .add_table(&relation, warehouse, fingerprint, name)
            .await;
        if let Err(error) = added {
            // Whoever reads it hears of it; who reads something else does not need it.
            let path = warehouse.table_path(name, fingerprint)?;
            engine.add_unreadable(&relation, columns_of(prepared, name), path, &error)?;
        }
    }
    for (name, folder) in clustered_facts(&prepared.warehouse)? {
        if let Err(error) = engine.add_clustered(&name, &folder).await {
            let relation = format!("clustered.{name}");
            let error = WarehouseError::Query(error);
            engine.add_unreadable(&relation, None, folder, &error)?;
        }
    }
    // Views in the order of the graph; one whose inputs are gone is simply not there to be asked.
    for id in prepared.graph.order() {
        let node = prepared.manifest.node(*id);
        let is_ephemeral = node.settings.materialized == Materialization::Ephemeral;
        let sql = match (environment.relations.get(&node.name), &node.kind) {
            (Some(Relation::View { sql, .. }), _) => sql,
            (None, NodeKind::Model(_)) if is_ephemeral => &prepared.compiled.nodes[id].sql,
            _ => continue,
        };
        engine.add_view(&node.relation(), sql).await.ok();
    }
    Ok(Published {
        engine,
        environment,
        _pin: pin,
    })
}

/// The columns of a relation as the project has them now; none of one that it has no more.
fn columns_of(prepared: &Prepared, name: &str) -> Option<Schema> {
    let mut nodes = prepared.manifest.nodes.iter();
    let node = nodes.find(|node| node.name == name)?;
    let compiled = prepared.compiled.nodes.get(&node.id)?;
    Some(compiled.schema.clone())
}

impl Published {
    /// The damaged table that a query failed of, if that is why it failed; `error` is what the engine said.
    async fn damage(
        &self,
        warehouse: &Warehouse,
        query: &str,
        error: &Failure,
    ) -> Option<Diagnostic> {
        let tables = self.environment.tables();
        let tables: Vec<(String, &str, &str)> = tables
            .map(|(name, fingerprint)| (identifier(name), name, fingerprint))
            .collect();
        let damaged = self.engine.damage(warehouse, &tables, query, error).await?;
        let WarehouseError::Unreadable { relation, path, .. } = &damaged else {
            return None;
        };
        let hint = format!(
            "remove `{}` and build it again: `equipoise build --select {relation}`; or go back with `equipoise rollback`",
            path.display()
        );
        Some(Diagnostic::error(Code::E0901, damaged.to_string()).hint(hint))
    }
}
