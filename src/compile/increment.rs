//! Models that grow: `materialized: incremental`.
//! In: a model whose whole query is compiled. Out: the query for its new rows, and whether the settings fit the columns. The query for new
//! rows is the same template with `is_incremental()` true, over what is published as `this`, checked like any other. A model that
//! never asks, and whose rows each come of one row of a file, needs none: its own query is run over the new files alone.
//! When a table grows and when it is built anew is decided by the run's plan.

use std::sync::Arc;

use super::domain::{Domain, Resolved};
use super::node::sql_diagnostic;
use super::{Compiled, CompiledNode};
use crate::diagnostics::{Checked, Code, Diagnostic, did_you_mean};
use crate::manifest::{Manifest, Materialization, Node, Strategy};
use crate::project::SqlFile;
use crate::sql::{Analyzed, Analyzer, Rows, Schema, is_timestamp, rows_of, same_type, type_name};

/// How SQL names the table of a model as it was published before this run.
pub fn published(node: &Node) -> String {
    format!("equipoise_published.{}", node.relation())
}

/// How a table gets its new rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Increment {
    pub sql: String,
    /// Whether the query is run over the files that are new instead of over all of them.
    pub is_over_new_files: bool,
}

/// The query for new rows of a table whose whole query is `whole`.
pub(super) async fn compile(
    manifest: &Arc<Manifest>,
    node: &Node,
    file: &SqlFile,
    analyzer: &Analyzer,
    domain: &Arc<Domain>,
    whole: &CompiledNode,
) -> Checked<Option<Increment>> {
    let schema = &whole.schema;
    let relations = Arc::new(Resolved::new(manifest.clone(), domain.clone()));
    let mut scope = manifest.scope(node, relations, true);
    scope.is_incremental = true;
    scope.this = published(node);
    let rendered = manifest.templates.render(file, &Arc::new(scope));
    let mut checked = Checked::with(None, rendered.diagnostics);
    if checked.has_errors() {
        return checked;
    }
    if let Err(error) = analyzer.add_relation(&published(node), schema.clone()) {
        checked.push(Diagnostic::error(Code::E0801, error.to_string()).at(node.span.clone()));
        return checked;
    }
    let map = &rendered.value.map;
    match analyzer.analyze(&rendered.value.sql).await {
        Err(error) => {
            let mut diagnostic = sql_diagnostic(manifest, node, map, &error);
            diagnostic.message = format!("when it grows: {}", diagnostic.message);
            checked.push(diagnostic);
        }
        Ok(analyzed) => match difference(schema, &analyzed.schema) {
            None if whole.sql == rendered.value.sql && whole.rows == Rows::ByFile => {
                checked.value = Some(Increment {
                    sql: rendered.value.sql,
                    is_over_new_files: true,
                });
            }
            None if would_repeat(node, &whole.sql, &rendered.value.sql) => checked.push(
                Diagnostic::error(
                    Code::E0416,
                    format!("`{}` would append all of its rows again whenever it grows", node.name),
                )
                .at(node.span.clone())
                .hint("its rows do not each come of one row of a file, so select new rows where `is_incremental()` is true, or say by which `unique_key` rows are replaced"),
            ),
            None => {
                checked.value = Some(Increment {
                    sql: rendered.value.sql,
                    is_over_new_files: false,
                });
            }
            Some(difference) => checked.push(
                Diagnostic::error(Code::E0416, format!("`{}`: {difference}", node.name))
                    .at(map.whole().unwrap_or(node.span.clone()))
                    .hint("give the same columns in the same order, whether `is_incremental()` is true or not"),
            ),
        },
    }
    checked
}

/// How the rows of a query come to be. What is stored is fixed only where no file of a source reaches it: else it may change as a whole.
pub(super) fn rows(
    manifest: &Manifest,
    node: &Node,
    analyzed: &Analyzed,
    compiled: &Compiled,
) -> Rows {
    let of_relation = |relation: &str| {
        let read = node
            .depends_on
            .iter()
            .find(|id| manifest.node(**id).relation() == relation);
        let known = read.and_then(|id| Some((manifest.node(*id), compiled.nodes.get(id)?.rows)));
        match known {
            Some((parent, Rows::ByFile)) if parent.settings.materialized.is_stored() => {
                Rows::Together
            }
            Some((_, rows)) => rows,
            None => Rows::Together,
        }
    };
    match analyzed.volatile.is_empty() {
        true => rows_of(&analyzed.plan, &of_relation),
        false => Rows::Together,
    }
}

/// Whether nothing keeps rows that are there from coming again.
fn would_repeat(node: &Node, whole: &str, increment: &str) -> bool {
    let settings = &node.settings;
    whole == increment
        && settings.growth.strategy() == Strategy::Append
        && settings.cluster_by.is_none()
}

/// How the columns of new rows differ from those of the table, if they do.
fn difference(table: &Schema, rows: &Schema) -> Option<String> {
    let rows = match crate::warehouse::stored_schema(rows) {
        Ok(rows) => rows,
        Err(error) => return Some(error.to_string()),
    };
    if table.fields().len() != rows.fields().len() {
        let (table, rows) = (table.fields().len(), rows.fields().len());
        return Some(format!(
            "new rows have {rows} columns when it grows, but the table has {table}"
        ));
    }
    let mut pairs = table.fields().iter().zip(rows.fields());
    let (table, row) = pairs.find(|(table, row)| {
        table.name() != row.name() || !same_type(table.data_type(), row.data_type())
    })?;
    Some(format!(
        "new rows have `{}` ({}) when it grows where the table has `{}` ({})",
        row.name(),
        type_name(row.data_type()),
        table.name(),
        type_name(table.data_type())
    ))
}

/// Everything that `unique_key`, `incremental_strategy` and `cluster_by` say and the columns do not bear out.
pub(super) fn check_settings(node: &Node, schema: &Schema) -> Vec<Diagnostic> {
    let settings = &node.settings;
    if !settings.materialized.is_stored() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut wrong = |message: String, hint: String| {
        found.push(
            Diagnostic::error(Code::E0416, message)
                .at(node.span.clone())
                .hint(hint),
        );
    };
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let mut check = |setting: &str, column: &str| {
        if !names.contains(&column) {
            let message = format!(
                "`{}` has no column `{column}` for its `{setting}`",
                node.name
            );
            wrong(message, did_you_mean(column, names.iter().copied()));
        }
    };
    let keys = match settings.materialized {
        Materialization::Incremental => settings.growth.unique_key.as_slice(),
        _ => &[],
    };
    keys.iter().for_each(|key| check("unique_key", key));
    if let Some(by) = &settings.cluster_by {
        check("cluster_by.unit", &by.unit);
        check("cluster_by.time", &by.time);
        check("cluster_by.id", &by.id);
        let is_taken = |name: &&&str| ["unit_key", "day", "through", "bucket"].contains(*name);
        if let Some(taken) = names.iter().find(is_taken) {
            wrong(
                format!(
                    "`{}` has a column `{taken}`, and so has every table with `cluster_by`",
                    node.name
                ),
                "give the column another name".to_string(),
            );
        }
        let is_instant = schema
            .field_with_name(&by.time)
            .is_ok_and(|field| is_timestamp(field.data_type()));
        if names.contains(&by.time.as_str()) && !is_instant {
            wrong(
                format!(
                    "`{}` cannot be stored by the time `{}`, which is no timestamp",
                    node.name, by.time
                ),
                "name the column that says when the row happened".to_string(),
            );
        }
        if !settings.partition_by.is_empty() {
            wrong(
                format!("`{}` has `partition_by` and `cluster_by`", node.name),
                "keep `cluster_by`: its table is stored by day and unit already".to_string(),
            );
        }
        if !keys.is_empty() && keys != std::slice::from_ref(&by.id) {
            wrong(
                format!(
                    "`{}` tells rows apart by `{}` in `unique_key` and by `{}` in `cluster_by`",
                    node.name,
                    keys.join(", "),
                    by.id
                ),
                "leave `unique_key` out: of two rows with one unit, time and id, one stays"
                    .to_string(),
            );
        }
    }
    let replaces = settings.growth.strategy == Some(Strategy::Replace);
    if settings.materialized == Materialization::Incremental && replaces {
        if settings.cluster_by.is_some() {
            wrong(
                format!(
                    "`{}` is stored by unit, where rows do not replace each other by the order in which they come",
                    node.name
                ),
                "leave `incremental_strategy` out, or `cluster_by`".to_string(),
            );
        } else if keys.is_empty() {
            wrong(
                format!("`{}` replaces rows, but nothing says which", node.name),
                "add `unique_key: <column>`".to_string(),
            );
        }
    }
    found
}
