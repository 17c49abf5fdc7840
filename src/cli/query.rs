//! `show` and `sql`: rows of what is published.

use std::collections::BTreeMap;

use clap::Args;

use super::options::LogFormat;
use super::{Common, Exit, context, output};
use crate::diagnostics::{Diagnostic, Span, nearest};
use crate::engine::{Engine, EngineOptions, clustered_facts};
use crate::manifest::{NodeKind, identifier};
use crate::run::Prepared;
use crate::sql::{self, SqlError, SqlErrorKind};
use crate::warehouse::{Relation, Warehouse};

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
                tell!("error[E0801]: {}", error.strip_backtrace());
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
        let known: Vec<String> = prepared
            .manifest
            .nodes
            .iter()
            .map(|node| node.relation())
            .collect();
        diagnostic.hint = nearest(&refused.word, known.iter().map(String::as_str))
            .map(|name| format!("did you mean `{name}`?"));
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

/// An engine that knows everything that is published, the sources, and ephemeral models.
pub async fn published(prepared: &Prepared, warehouse: &Warehouse) -> anyhow::Result<Engine> {
    published_in(prepared, warehouse, prepared.engine).await
}

/// The same with other limits.
pub async fn published_in(
    prepared: &Prepared,
    warehouse: &Warehouse,
    options: EngineOptions,
) -> anyhow::Result<Engine> {
    let engine = Engine::new(options)?;
    let environment = warehouse.environment(&prepared.environment)?;
    for id in prepared.graph.order() {
        let node = prepared.manifest.node(*id);
        if let NodeKind::Source(_) = node.kind {
            prepared.offer_source(&engine, node).await?;
        }
    }
    for (name, relation) in &environment.relations {
        if let Relation::Table { fingerprint, .. } = relation {
            engine
                .add_table(&identifier(name), warehouse, fingerprint, name)
                .await?;
        }
    }
    for (name, folder) in clustered_facts(&prepared.warehouse)? {
        engine.add_clustered(&name, &folder).await?;
    }
    // Views in the order of the graph; one whose inputs are gone is simply not there to be asked.
    for id in prepared.graph.order() {
        let node = prepared.manifest.node(*id);
        let sql = match (environment.relations.get(&node.name), &node.kind) {
            (Some(Relation::View { sql, .. }), _) => sql,
            (None, NodeKind::Model(_)) => &prepared.compiled.nodes[id].sql,
            _ => continue,
        };
        engine.add_view(&node.relation(), sql).await.ok();
    }
    Ok(engine)
}
