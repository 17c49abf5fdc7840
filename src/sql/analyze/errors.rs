//! What is said of a query that means nothing.
//! In: the SQL and what the parser or the planner refused it with. Out: a [`SqlError`] in plain words, with its place. The
//! words for single refusals are left to `words`, and constants that cannot be computed to `constants`.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Column, DataFusionError, SchemaError};

use super::places::{at, find, find_once, first_word, last_character, word_end};
use crate::diagnostics::Code;
use crate::sql::words;

/// What kind of thing is wrong with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlErrorKind {
    Syntax,
    NotOneQuery,
    UnknownColumn,
    UnknownTable,
    Meaning,
    /// A constant that cannot be computed.
    Constant,
}

impl SqlErrorKind {
    pub fn code(self) -> Code {
        match self {
            Self::Syntax => Code::E0405,
            Self::NotOneQuery => Code::E0409,
            Self::UnknownColumn => Code::E0406,
            Self::UnknownTable => Code::E0407,
            Self::Meaning => Code::E0408,
            Self::Constant => Code::E0417,
        }
    }
}

/// Why a query means nothing.
#[derive(Debug, Clone)]
pub struct SqlError {
    pub kind: SqlErrorKind,
    pub message: String,
    pub hint: Option<String>,
    /// Byte range in the SQL, if it is known.
    pub range: Option<(usize, usize)>,
    /// The offending word, to look for when the range is not known.
    pub word: String,
}

pub(super) fn not_one(message: &str, hint: &str, range: Option<(usize, usize)>) -> SqlError {
    SqlError {
        kind: SqlErrorKind::NotOneQuery,
        message: message.to_string(),
        hint: Some(hint.to_string()),
        range,
        word: String::new(),
    }
}

pub(super) fn syntax_error(sql: &str, error: &DataFusionError) -> SqlError {
    let text = error.strip_backtrace();
    let text = text.strip_prefix("SQL error: ").unwrap_or(&text);
    let inner = ["ParserError(\"", "TokenizerError(\""]
        .iter()
        .find_map(|kind| text.strip_prefix(kind)?.strip_suffix("\")"))
        .unwrap_or(text);
    let place = regex::Regex::new(r"(?s)^(.*?),?\s*at Line: (\d+), Column: (\d+)")
        .expect("the pattern is constant");
    let found = place.captures(inner);
    let range = found
        .as_ref()
        .and_then(|found| Some(at(sql, found[2].parse().ok()?, found[3].parse().ok()?)));
    let message = found.map_or(inner.to_string(), |found| found[1].to_string());
    let message = message
        .strip_prefix("sql parser error: ")
        .unwrap_or(&message)
        .replace("\\\"", "\"");
    let message = match message.starts_with("RecursionLimitExceeded") {
        true => "brackets and queries are nested too deeply".to_string(),
        false => message,
    };
    let is_at_end = message.ends_with("found: EOF");
    let range = if is_at_end {
        Some(last_character(sql))
    } else {
        range.map(|start| (start, word_end(sql, start)))
    };
    let message = lower_first(&message.replace("found: EOF", "found the end"))
        .replace("expected: ", "expected ")
        .replace("found: ", "found ");
    SqlError {
        kind: SqlErrorKind::Syntax,
        message: format!("SQL does not parse: {message}"),
        hint: None,
        range,
        word: String::new(),
    }
}

/// What is wrong with a query that an engine refused to plan; none if it failed while it ran.
pub fn refused(sql: &str, error: &DataFusionError) -> Option<SqlError> {
    let changes = |text: &str| {
        let kinds = ["DDL", "DML", "Statement"];
        kinds
            .iter()
            .any(|kind| text.starts_with(&format!("{kind} not supported: ")))
    };
    match error.find_root() {
        DataFusionError::SQL(..) => Some(syntax_error(sql, error.find_root())),
        DataFusionError::Plan(text) if changes(text) => Some(SqlError {
            kind: SqlErrorKind::NotOneQuery,
            message: "only a query that reads can be asked".to_string(),
            hint: Some("tables are made and changed by models: `equipoise build`".to_string()),
            range: first_word(sql),
            word: String::new(),
        }),
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_) => Some(plan_error(sql, error)),
        _ => None,
    }
}

pub(super) fn plan_error(sql: &str, error: &DataFusionError) -> SqlError {
    let range = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| {
            let end = at(sql, span.end.line, span.end.column);
            (at(sql, span.start.line, span.start.column), end)
        });
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema_error, _) = root {
        return column_error(sql, schema_error, range);
    }
    let text = root.strip_backtrace();
    let prefixes = [
        "Error during planning: ",
        "This feature is not implemented: ",
    ];
    let without = |prefix: &&str| text.strip_prefix(prefix);
    let text = prefixes.iter().find_map(without).unwrap_or(&text);
    let missing = regex::Regex::new(r"table '([^']+)' not found").expect("the pattern is constant");
    if let Some(found) = missing.captures(text) {
        let name = found[1].rsplit('.').next().unwrap_or(&found[1]).to_string();
        let message = format!(
            "there is no relation `{}`",
            found[1]
                .trim_start_matches("datafusion.")
                .trim_start_matches("public.")
        );
        return SqlError {
            kind: SqlErrorKind::UnknownTable,
            message,
            hint: None,
            range: range.or(find(sql, &name)),
            word: name,
        };
    }
    if let Some(found) = words::no_interval(text) {
        return crate::sql::constants::no_interval(sql, &found);
    }
    if let Some(said) = words::say(text) {
        let range = range.or_else(|| find(sql, &said.word));
        return SqlError {
            kind: SqlErrorKind::Meaning,
            message: said.message,
            hint: said.hint,
            range,
            word: said.word,
        };
    }
    if let Some(said) = words::say_of_clause(text) {
        return SqlError {
            kind: SqlErrorKind::Meaning,
            message: said.message,
            hint: said.hint,
            range: range.or_else(|| find_once(sql, &said.word)),
            word: said.word,
        };
    }
    let text = text.strip_prefix("Internal error: ").unwrap_or(text);
    // Behind a brace is what the parser keeps in memory.
    let text = text.split(" { ").next().unwrap_or(text);
    let word = regex::Regex::new(r"'([a-z_0-9]+)'|function:? ([a-z_0-9]+)")
        .expect("the pattern is constant");
    let word = word
        .captures(text)
        .and_then(|found| found.get(1).or(found.get(2)))
        .map(|found| found.as_str().to_string())
        .unwrap_or_default();
    let range = range.or_else(|| find(sql, &word));
    let text = text.lines().take(3).collect::<Vec<_>>().join(" ");
    SqlError {
        kind: SqlErrorKind::Meaning,
        message: lower_first(text.trim()),
        hint: None,
        range,
        word,
    }
}

fn column_error(sql: &str, error: &SchemaError, range: Option<(usize, usize)>) -> SqlError {
    let (kind, message, hint, column) = match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let known: Vec<String> = valid_fields
                .iter()
                .map(|column| column.name.clone())
                .collect();
            let hint = match known.is_empty() {
                true => "the query reads no relation here".to_string(),
                false => {
                    crate::diagnostics::did_you_mean(&field.name, known.iter().map(String::as_str))
                }
            };
            (
                SqlErrorKind::UnknownColumn,
                format!("there is no column `{}`", plain(field)),
                Some(hint),
                field.name.clone(),
            )
        }
        SchemaError::AmbiguousReference { field } => {
            let hint = format!(
                "say which: put the name of its relation before it, as in `orders.{}`",
                field.name
            );
            (
                SqlErrorKind::UnknownColumn,
                format!("the column `{}` could be one of several", field.name),
                Some(hint),
                field.name.clone(),
            )
        }
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => {
            let hint = "give one of them another name with `as`".to_string();
            (
                SqlErrorKind::Meaning,
                format!("two columns are named `{name}`"),
                Some(hint),
                name.clone(),
            )
        }
    };
    let range = range.or_else(|| find(sql, &column));
    SqlError {
        kind,
        message,
        hint,
        range,
        word: column,
    }
}

fn plain(column: &Column) -> String {
    match &column.relation {
        Some(relation) => format!("{}.{}", relation.table(), column.name),
        None => column.name.clone(),
    }
}

/// A relation needs different names for its columns.
pub(super) fn repeated_column(sql: &str, schema: &SchemaRef) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    let Some(field) = schema
        .fields()
        .iter()
        .find(|field| !seen.insert(field.name().to_lowercase()))
    else {
        return Ok(());
    };
    Err(SqlError {
        kind: SqlErrorKind::Meaning,
        message: format!("two columns are named `{}`", field.name()),
        hint: Some("give one of them another name with `as`".to_string()),
        range: find(sql, field.name()),
        word: field.name().clone(),
    })
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_lowercase().collect::<String>())
        .unwrap_or_default();
    // `SQL`, `SELECT` and the like stay as they are.
    match text.chars().nth(1) {
        Some(second) if second.is_uppercase() => text.to_string(),
        _ => first + characters.as_str(),
    }
}
