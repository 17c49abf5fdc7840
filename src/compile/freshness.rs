//! What is asked of sources to know how new they are.
//! In: a manifest and the columns of its sources. Out: for each source table whose age is judged, the query for the time of its
//! newest row; and a diagnostic where the YAML names no such time.

use std::collections::BTreeMap;

use super::checks::of_snippet;
use super::node::sql_error;
use super::{Input, Inputs};
use crate::diagnostics::{Checked, Code, Diagnostic};
use crate::manifest::{
    Freshness, LoadedAt, Manifest, Node, NodeId, NodeKind, SourceTable, identifier,
};
use crate::project::yaml::Spot;
use crate::sql::{Analyzer, Schema, is_day_or_timestamp, surplus, type_name, without_comments};

/// The queries, one row and one column each, in UTC; none for tables whose files say when they were written.
pub(super) async fn queries(
    manifest: &Manifest,
    analyzer: &Analyzer,
    inputs: &Inputs,
) -> Checked<BTreeMap<NodeId, String>> {
    let mut checked = Checked::new(BTreeMap::new());
    for node in &manifest.nodes {
        let Some((table, freshness)) = node.judged() else {
            continue;
        };
        // A table whose files cannot be read has an error of its own.
        let Some(known) = inputs.by_node.get(&node.id) else {
            continue;
        };
        let asked = Asked {
            manifest,
            analyzer,
            node,
            table,
            freshness,
        };
        match asked.query(known).await {
            Ok(query) => checked.value.extend(query.map(|query| (node.id, query))),
            Err(found) => checked.diagnostics.extend(found),
        }
    }
    checked
}

/// One source table, and what its YAML is held against.
struct Asked<'a> {
    manifest: &'a Manifest,
    analyzer: &'a Analyzer,
    node: &'a Node,
    table: &'a SourceTable,
    freshness: &'a Freshness,
}

impl Asked<'_> {
    async fn query(&self, known: &Input) -> Result<Option<String>, Vec<Diagnostic>> {
        let one = |diagnostic| vec![diagnostic];
        let (sql, spot) = match &self.table.loaded_at {
            LoadedAt::Files => return Ok(None),
            LoadedAt::Query(query) => (self.of_query(query).await.map_err(one)?, query),
            LoadedAt::Field(field) => {
                let newest = self.newest(field, known).await;
                let condition = match &self.freshness.filter {
                    Some(filter) => self.condition(filter).await,
                    None => Ok(String::new()),
                };
                let (newest, condition) = match (newest, condition) {
                    (Ok(newest), Ok(condition)) => (newest, condition),
                    (newest, condition) => {
                        return Err(newest.err().into_iter().chain(condition.err()).collect());
                    }
                };
                let from = self.node.relation();
                let sql = format!("select {newest} as max_loaded_at\nfrom {from}{condition}");
                (sql, field)
            }
        };
        match self.what_is_built(&sql) {
            Some(relation) => Err(vec![self.reads_built(spot, &relation)]),
            None => Ok(Some(sql)),
        }
    }

    /// The largest value of a column or expression, as an instant.
    async fn newest(&self, field: &Spot<String>, known: &Input) -> Result<String, Diagnostic> {
        // A column is meant as it is spelt: SQL would fold its capital letters.
        let expression = match known.schema.field_with_name(field.trim()) {
            Ok(column) => identifier(column.name()),
            Err(_) => field.value.clone(),
        };
        let analyzed = self.analyzed(field, &expression).await?;
        let kind = analyzed.field(0).data_type();
        let is_guess = type_name(kind) == "varchar" && is_guessed(field, known);
        if !is_day_or_timestamp(kind) && !is_guess {
            let message = format!(
                "the `loaded_at_field` of `{}` is {}, not a timestamp",
                self.node.name,
                type_name(kind)
            );
            return Err(Diagnostic::error(Code::E0502, message)
                .at(field.span.clone())
                .hint(as_time(&field.value, kind.is_numeric())));
        }
        Ok(instant(&format!("max({expression}\n)")))
    }

    async fn condition(&self, filter: &Spot<String>) -> Result<String, Diagnostic> {
        let analyzed = self.analyzed(filter, &filter.value).await?;
        let kind = analyzed.field(0).data_type();
        if kind.to_string() != "Boolean" {
            let message = format!(
                "the `filter` of `{}` is {}, not a condition",
                self.node.name,
                type_name(kind)
            );
            return Err(Diagnostic::error(Code::E0408, message)
                .at(filter.span.clone())
                .hint("write which rows are looked at, such as `is_test = false`"));
        }
        Ok(format!("\nwhere ({}\n)", filter.value))
    }

    /// The columns of a query for one expression over the rows of the table.
    async fn analyzed(&self, spot: &Spot<String>, expression: &str) -> Result<Schema, Diagnostic> {
        if let Some(error) = surplus(expression) {
            return Err(self.named(of_snippet(spot, error, 0)));
        }
        // In brackets and on a line of its own, so that what is missing is missed here and a comment ends.
        let before = "select (";
        let query = format!(
            "{before}{expression}\n) as value from {}",
            self.node.relation()
        );
        match self.analyzer.analyze(&query).await {
            Ok(analyzed) if analyzed.takes_rows_together() => {
                let message = format!("`{}` takes several rows together", expression.trim());
                let found = Diagnostic::error(Code::E0408, message).at(spot.span.clone());
                Err(self
                    .named(found.hint("write what one row says; a query is a `loaded_at_query`")))
            }
            Ok(analyzed) => Ok(analyzed.schema),
            Err(mut error) => {
                // The closing bracket is ours: what comes too early is the end.
                error.message = error.message.replace("found )", "found the end");
                Err(self.named(of_snippet(spot, error, before.len())))
            }
        }
    }

    /// The time that a query of the YAML gives, as an instant.
    async fn of_query(&self, query: &Spot<String>) -> Result<String, Diagnostic> {
        let analyzed = self.analyzer.analyze(query).await.map_err(|error| {
            let place = query.span.clone();
            let lines = query.value.trim().lines().count();
            self.named(match lines {
                1 => of_snippet(query, error, 0),
                _ => sql_error(&error).at(place),
            })
        })?;
        let wrong = |code, message: String| Diagnostic::error(code, message).at(query.span.clone());
        let [column] = analyzed.schema.fields().as_ref() else {
            let count = analyzed.schema.fields().len();
            let message = format!(
                "the `loaded_at_query` of `{}` has {count} columns, not one",
                self.node.name
            );
            return Err(wrong(Code::E0408, message)
                .hint("select one time, such as `select max(loaded_at) from {{ this }}`"));
        };
        if !is_day_or_timestamp(column.data_type()) {
            let message = format!(
                "the `loaded_at_query` of `{}` gives {}, not a timestamp",
                self.node.name,
                type_name(column.data_type())
            );
            return Err(wrong(Code::E0502, message)
                .hint(as_time(column.name(), column.data_type().is_numeric())));
        }
        let time = instant(&identifier(column.name()));
        // A comment behind its end would stand before the bracket that is ours.
        let query = without_comments(query);
        let query = query.trim_end_matches(';');
        Ok(format!(
            "select {time} as max_loaded_at\nfrom (\n{query}\n) as loaded"
        ))
    }

    /// A relation that the query reads and that is no source: it may not be built yet, or be older than the sources are.
    fn what_is_built(&self, sql: &str) -> Option<String> {
        let used = self.analyzer.relations(sql).unwrap_or_default();
        let built = self
            .manifest
            .nodes
            .iter()
            .filter(|node| !node.is_test() && !matches!(node.kind, NodeKind::Source(_)));
        let mut built = built.map(Node::relation);
        built.find(|relation| used.contains(relation))
    }

    fn reads_built(&self, spot: &Spot<String>, relation: &str) -> Diagnostic {
        let message = format!(
            "the freshness of `{}` reads `{relation}`, which is built of sources",
            self.node.name
        );
        Diagnostic::error(Code::E0407, message)
            .at(spot.span.clone())
            .hint("read sources alone: how new they are is asked before anything is built")
    }

    /// The YAML of a source speaks of all its tables: of which one this is.
    fn named(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        diagnostic.message = format!(
            "in the freshness of `{}`: {}",
            self.node.name, diagnostic.message
        );
        diagnostic
    }
}

/// Whether an expression is made of a column that has no value in any file: it is text for want of a better guess.
fn is_guessed(expression: &str, known: &Input) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: Vec<&str> = expression.split(|letter| !is_part(letter)).collect();
    let mut guessed = known.guessed.iter();
    guessed.any(|name| name == expression.trim() || words.contains(&name.as_str()))
}

/// Microseconds since 1970 in UTC, whatever the unit and the zone; a day is its midnight.
fn instant(expression: &str) -> String {
    format!("cast(arrow_cast({expression}, 'Timestamp(Microsecond, None)') as bigint)")
}

/// How to make a time of what is none.
fn as_time(expression: &str, is_number: bool) -> String {
    let expression = expression.trim();
    match is_number {
        true => format!(
            "write `to_timestamp_millis({expression})`, if it counts milliseconds since 1970"
        ),
        false => {
            format!("write `cast({expression} as timestamp)`, if its values can be read as times")
        }
    }
}
