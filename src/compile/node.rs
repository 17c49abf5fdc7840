//! One node at a time: render, plan, check, name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::checks::of_snippet;
use super::domain::{Domain, Resolved};
use super::{Compiled, CompiledNode, Inputs, contract, fingerprint, increment};
use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::manifest::{Manifest, Materialization, Node, NodeKind, TestSettings};
use crate::project::SqlFile;
use crate::sql::{Analyzer, Rows, SqlError, SqlErrorKind, surplus};
use crate::template::{Rendered, SourceMap};

type Outcome = Checked<Option<CompiledNode>>;

pub(super) async fn compile_input(node: &Node, analyzer: &Analyzer, inputs: &Inputs) -> Outcome {
    let Some(input) = inputs.by_node.get(&node.id) else {
        return Checked::new(None);
    };
    let mut diagnostics = contract::check(node, &input.schema, analyzer).await;
    if let Err(error) = analyzer.add_relation(&node.relation(), input.schema.clone()) {
        diagnostics.push(Diagnostic::error(Code::E0801, error.to_string()).at(node.span.clone()));
    }
    let compiled = CompiledNode {
        sql: String::new(),
        analyzed: None,
        rows_sql: None,
        schema: input.schema.clone(),
        fingerprint: fingerprint::of_input(input),
        logic: fingerprint::logic_of_input(input),
        rows: match node.kind {
            NodeKind::Source(_) => Rows::ByFile,
            _ => Rows::Fixed,
        },
        increment: None,
        volatile: Vec::new(),
        map: SourceMap::default(),
        logs: Vec::new(),
    };
    Checked::with(Some(compiled), diagnostics)
}

pub(super) async fn compile_model(
    manifest: &Arc<Manifest>,
    node: &Node,
    analyzer: &Analyzer,
    domain: &Arc<Domain>,
    compiled: &Compiled,
    now: &str,
) -> Outcome {
    let NodeKind::Model(file) = &node.kind else {
        unreachable!("only models come here")
    };
    let mut checked = compile_query(manifest, node, file, analyzer, domain, compiled, now).await;
    let Some(query) = &mut checked.value else {
        return checked;
    };
    if node.settings.keeps_versions {
        let versions = super::snapshot::versions(&query.sql, &[], None, now);
        match analyzer.analyze(&versions).await {
            Ok(analyzed) => query.schema = analyzed.schema,
            Err(error) => {
                let span = query.map.whole().unwrap_or(node.span.clone());
                let message = format!(
                    "a snapshot adds `valid_from`, `valid_to` and `is_current`: {}",
                    error.message
                );
                checked.diagnostics.push(
                    Diagnostic::error(Code::E0408, message)
                        .at(span)
                        .hint("give columns of these names others"),
                );
                return Checked::with(None, checked.diagnostics);
            }
        }
    }
    if node.settings.materialized.is_stored() {
        match crate::warehouse::stored_schema(&query.schema) {
            Ok(schema) => query.schema = schema,
            Err(error) => {
                let span = query.map.whole().unwrap_or(node.span.clone());
                checked.diagnostics.push(
                    Diagnostic::error(Code::E0408, error.to_string())
                        .at(span)
                        .hint("cast the column in the model's last select"),
                );
                return Checked::with(None, checked.diagnostics);
            }
        }
    }
    let mut broken = contract::check(node, &query.schema, analyzer).await;
    broken.extend(increment::check_settings(node, &query.schema));
    if let Err(error) = analyzer.add_relation(&node.relation(), query.schema.clone()) {
        checked
            .diagnostics
            .push(Diagnostic::error(Code::E0801, error.to_string()).at(node.span.clone()));
    }
    checked.diagnostics.extend(broken);
    if node.settings.materialized == Materialization::Incremental {
        let increment = increment::compile(manifest, node, file, analyzer, domain, query).await;
        let increment = checked.absorb(increment);
        match (&mut checked.value, increment) {
            (Some(query), Some(increment)) => query.increment = Some(increment),
            (value, _) => *value = None,
        }
    }
    checked
}

pub(super) async fn compile_test(
    manifest: &Arc<Manifest>,
    node: &Node,
    analyzer: &Analyzer,
    domain: &Arc<Domain>,
    compiled: &Compiled,
    now: &str,
) -> Outcome {
    let NodeKind::Test {
        template,
        settings,
        column,
        generic,
        ..
    } = &node.kind
    else {
        unreachable!("only tests come here")
    };
    if tests_missing_column(manifest, node, compiled) {
        return Checked::new(None);
    }
    let broken_out: Vec<Diagnostic> = settings
        .expressions
        .iter()
        .filter_map(|spot| {
            let mut diagnostic = sql_error(&surplus(spot)?).at(spot.span.clone());
            diagnostic.message = format!("in the test `{}`: {}", node.name, diagnostic.message);
            Some(diagnostic)
        })
        .collect();
    if !broken_out.is_empty() {
        return Checked::with(None, broken_out);
    }
    let mut checked =
        compile_query(manifest, node, template, analyzer, domain, compiled, now).await;
    if let Some(generic) = generic {
        for diagnostic in &mut checked.diagnostics {
            let places = &generic.places;
            places.bring_home(template, &node.span, diagnostic);
            diagnostic.message = format!("in the test `{}`: {}", node.name, diagnostic.message);
            let is_folded = |column: &String| {
                let folded = format!("`{}`", column.to_lowercase());
                folded != format!("`{column}`") && diagnostic.message.ends_with(&folded)
            };
            if let Some(column) = column.as_ref().filter(|column| is_folded(column)) {
                diagnostic.hint = Some(format!(
                    "write `{{name: {column}, quote: true}}` where the column has capital letters"
                ));
            }
        }
    }
    let Some(query) = &mut checked.value else {
        return checked;
    };
    let counted = count_failures(&query.sql, settings);
    // A test that passed under other settings may fail under these.
    query.fingerprint = fingerprint::of_test(&query.fingerprint, &counted, settings);
    match analyzer.analyze(&counted).await {
        Ok(_) => query.rows_sql = Some(std::mem::replace(&mut query.sql, counted)),
        Err(error) => {
            checked
                .diagnostics
                .push(wrong_calculation(node, settings, error));
            checked.value = None;
        }
    }
    checked
}

/// `fail_calc` stands at the front of the query that counts.
fn wrong_calculation(node: &Node, settings: &TestSettings, error: SqlError) -> Diagnostic {
    let mut expressions = settings.expressions.iter();
    let written = expressions.find(|spot| spot.value == settings.fail_calc);
    let mut wrong = match written {
        Some(spot) => of_snippet(spot, error, "select ".len()),
        None => sql_error(&error).at(node.span.clone()),
    };
    wrong.code = Code::E0205;
    wrong.message = format!("`fail_calc` does not work: {}", wrong.message);
    wrong
}

/// A test of a declared column that the relation does not have; that it does not is said where it is declared.
fn tests_missing_column(manifest: &Manifest, node: &Node, compiled: &Compiled) -> bool {
    let NodeKind::Test {
        attached_to: Some(owner),
        column: Some(column),
        ..
    } = &node.kind
    else {
        return false;
    };
    let is_declared = manifest
        .node(*owner)
        .columns
        .iter()
        .any(|declared| declared.name == *column);
    let has = |relation: &CompiledNode| {
        relation
            .schema
            .fields()
            .iter()
            .any(|field| field.name().eq_ignore_ascii_case(column))
    };
    is_declared
        && compiled
            .nodes
            .get(owner)
            .is_some_and(|relation| !has(relation))
}

/// Wraps a test's query so that it returns one row: the number of failures.
fn count_failures(sql: &str, settings: &TestSettings) -> String {
    let limit = settings
        .limit
        .map(|limit| format!("\nlimit {limit}"))
        .unwrap_or_default();
    format!(
        "select {} as failures\nfrom (\nselect * from (\n{}\n) as rows_found{limit}\n) as failing_rows",
        settings.fail_calc,
        sql.trim()
    )
}

#[allow(clippy::too_many_arguments)] // one query and all that it is compiled against
async fn compile_query(
    manifest: &Arc<Manifest>,
    node: &Node,
    file: &SqlFile,
    analyzer: &Analyzer,
    domain: &Arc<Domain>,
    compiled: &Compiled,
    now: &str,
) -> Outcome {
    // What reads a broken model would only repeat its errors.
    if manifest.is_broken(node.id)
        || node
            .depends_on
            .iter()
            .any(|parent| !compiled.nodes.contains_key(parent))
    {
        return Checked::new(None);
    }
    let relations = Arc::new(Resolved::new(manifest.clone(), domain.clone()));
    let scope = Arc::new(manifest.scope(node, relations.clone(), true));
    let rendered = manifest.templates.render(file, &scope);
    let mut checked: Outcome = Checked::with(None, rendered.diagnostics);
    if checked.has_errors() || relations.met_broken_definition() {
        return checked;
    }
    let Rendered { sql, map } = rendered.value;
    // Before the query is planned: whether such a relation is known by now depends on what is compiled meanwhile.
    let undeclared = undeclared_relations(manifest, node, &map, analyzer, &sql);
    if !undeclared.is_empty() {
        checked.diagnostics.extend(undeclared);
        return checked;
    }
    let analyzed = match analyzer.analyze(&sql).await {
        Ok(analyzed) => analyzed,
        Err(error) => {
            let kept = match domain.pins.is_empty() || !file.text.contains("metric_aggregates(") {
                true => None,
                false => super::kept::broken_pin(&domain.pins, analyzer).await,
            };
            checked.push(kept.unwrap_or_else(|| sql_diagnostic(manifest, node, &map, &error)));
            return checked;
        }
    };
    let fingerprint = fingerprint::of_query(node, &sql, compiled, &analyzed.volatile, now);
    checked.value = Some(CompiledNode {
        logic: fingerprint::logic_of_query(node, &sql, compiled),
        sql,
        rows_sql: None,
        schema: analyzed.schema.clone(),
        fingerprint,
        rows: increment::rows(manifest, node, &analyzed, compiled),
        increment: None,
        volatile: analyzed.volatile.clone(),
        analyzed: Some(Arc::new(analyzed)),
        map,
        logs: scope.take_logs(),
    });
    checked
}

/// An error in SQL, without a place.
pub(super) fn sql_error(error: &SqlError) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(error.kind.code(), error.message.clone());
    diagnostic.hint = error.hint.clone();
    diagnostic
}

/// An error in rendered SQL, at its place in the file the user wrote.
pub(super) fn sql_diagnostic(
    manifest: &Manifest,
    node: &Node,
    map: &SourceMap,
    error: &SqlError,
) -> Diagnostic {
    let place = error
        .range
        .and_then(|(start, end)| map.span(start, end, &error.word))
        .or(map.whole())
        .unwrap_or(node.span.clone());
    let mut diagnostic = sql_error(error).at(place);
    if error.kind == SqlErrorKind::UnknownTable {
        diagnostic.hint = Some(match manifest.model(&error.word) {
            Some(model) => format!("read it as `{{{{ ref('{}') }}}}`", model.name),
            None => match crate::diagnostics::nearest(
                &error.word,
                manifest.model_names().filter(|name| *name != node.name),
            ) {
                Some(name) => format!("did you mean `{{{{ ref('{name}') }}}}`?"),
                None => {
                    "read a model or seed with `ref`, and declare files as a source".to_string()
                }
            },
        });
    }
    diagnostic
}

/// A relation named in SQL without `ref` or `source` is invisible to the graph, so it could be read before it is built.
fn undeclared_relations(
    manifest: &Manifest,
    node: &Node,
    map: &SourceMap,
    analyzer: &Analyzer,
    sql: &str,
) -> Vec<Diagnostic> {
    let declared: BTreeSet<String> = node
        .depends_on
        .iter()
        .map(|id| manifest.node(*id).relation())
        .collect();
    let used = analyzer.relations(sql).unwrap_or_default();
    let undeclared = used
        .into_iter()
        .filter(|relation| !declared.contains(relation));
    undeclared
        .filter_map(|relation| {
            let other = manifest
                .nodes
                .iter()
                .find(|other| !other.is_test() && other.relation() == relation)?;
            let call = match &other.kind {
                NodeKind::Source(table) => {
                    format!("{{{{ source('{}', '{}') }}}}", table.source, table.table)
                }
                _ => format!("{{{{ ref('{}') }}}}", other.name),
            };
            let start = whole_word(sql, &relation);
            let span: Option<Span> = start
                .and_then(|start| map.span(start, start + relation.len(), &relation))
                .or(map.whole());
            let (message, hint) = match other.id == node.id {
                true => (
                    format!("`{relation}` reads itself"),
                    "`{{ this }}` is read by incremental models, inside `{% if is_incremental() %}`".to_string(),
                ),
                false => (
                    format!("`{relation}` is read without `ref` or `source`"),
                    format!("write `{call}`"),
                ),
            };
            Some(Diagnostic::error(Code::E0415, message).at(span).hint(hint))
        })
        .collect()
}

/// Where a word begins that is no part of another.
fn whole_word(text: &str, word: &str) -> Option<usize> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word)
        .find(|(start, found)| {
            !text[..*start].ends_with(is_part) && !text[start + found.len()..].starts_with(is_part)
        })
        .map(|(start, _)| start)
}
