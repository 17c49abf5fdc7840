//! Says what a query means before it runs.
//! In: SQL and the schemas of the relations it may read. Out: its plan and output schema, or a [`SqlError`] with the
//! place in the SQL. No row is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DataFusionError, SchemaError, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::beyond::{parsed, too_long};
use super::ignored::ignored;
use super::words;
use crate::diagnostics::Code;

/// Plans queries against schemas.
#[derive(Clone)]
pub struct Analyzer {
    context: SessionContext,
}

/// A query that means something.
#[derive(Debug, Clone)]
pub struct Analyzed {
    /// As the query says it.
    pub plan: LogicalPlan,
    /// The same with every type settled.
    pub settled: LogicalPlan,
    pub schema: SchemaRef,
    /// Functions whose answer changes from call to call, such as `now`.
    pub volatile: Vec<String>,
}

impl Analyzed {
    /// Whether a row of it comes of several rows: aggregates, windows, `distinct`. What a subquery does inside is its own.
    pub fn takes_rows_together(&self) -> bool {
        self.plan
            .exists(|plan| {
                Ok(matches!(
                    plan,
                    LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(_)
                ))
            })
            .unwrap_or(false)
    }
}

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

impl Analyzer {
    /// `context` brings the functions; its tables are not used.
    pub fn new(context: SessionContext) -> Self {
        Self { context }
    }

    /// Makes a relation known by its schema. `relation` is `name` or `schema.name`, as SQL writes it.
    pub fn add_relation(&self, relation: &str, schema: SchemaRef) -> Result<(), DataFusionError> {
        register(&self.context, relation, Arc::new(EmptyTable::new(schema)))
    }

    pub async fn analyze(&self, sql: &str) -> Result<Analyzed, SqlError> {
        let statement = self.parse(sql)?;
        let plan = self
            .context
            .state()
            .statement_to_plan(statement)
            .await
            .map_err(|error| plan_error(sql, &error))?;
        // Types are settled by the analyzer's rules; what does not fit together is found here and not when rows flow.
        let state = self.context.state();
        let settled =
            state
                .analyzer()
                .execute_and_check(plan.clone(), state.config_options(), |_, _| {});
        let settled = settled.map_err(|error| plan_error(sql, &error))?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        repeated_column(sql, &schema)?;
        if let Some(error) = super::constants::impossible(sql, &settled) {
            return Err(error);
        }
        Ok(Analyzed {
            volatile: volatile_functions(&plan),
            schema,
            plan,
            settled,
        })
    }

    /// Names of the relations that a query reads, without its own common table expressions.
    pub fn relations(&self, sql: &str) -> Result<BTreeSet<String>, SqlError> {
        let statement = self.parse(sql)?;
        let references = self
            .context
            .state()
            .resolve_table_references(&statement)
            .map_err(|error| plan_error(sql, &error))?;
        Ok(references
            .into_iter()
            .map(|reference| reference.to_string())
            .collect())
    }

    /// The type that SQL means by `text`, or none.
    pub async fn data_type(&self, text: &str) -> Option<DataType> {
        if super::expression::surplus(&format!("cast(null as {text})")).is_some() {
            return None;
        }
        let analyzed = self
            .analyze(&format!("select cast(null as {text}) as value"))
            .await
            .ok()?;
        Some(analyzed.schema.field(0).data_type().clone())
    }

    /// One `select`, or `with ... select`.
    pub(super) fn parse(&self, sql: &str) -> Result<Statement, SqlError> {
        if let Some(long) = too_long(sql) {
            return Err(long);
        }
        let statements = parsed(&self.context, sql).map_err(|error| syntax_error(sql, &error))?;
        let count = statements.len();
        match statements.into_iter().next() {
            Some(statement @ Statement::Statement(_)) if count == 1 && is_query(&statement) => {
                let state = self.context.state_ref();
                match ignored(sql, &statement, &state.read()) {
                    Some(refused) => Err(refused),
                    None => Ok(statement),
                }
            }
            None => Err(not_one(
                "there is no query: the SQL is empty",
                "write one `select`, or remove the file",
                None,
            )),
            Some(_) if count > 1 => Err(not_one(
                "there is more than one statement",
                "keep one `select`; put the other into a file of its own",
                second_statement(sql),
            )),
            Some(_) => Err(not_one(
                "this is not a query",
                "a model is one `select`; what is made of it is said by `materialized`",
                first_word(sql),
            )),
        }
    }
}

/// Registers a table under `name` or `schema.name`; the schema is made when it does not exist yet.
pub fn register(
    context: &SessionContext,
    relation: &str,
    table: Arc<dyn TableProvider>,
) -> Result<(), DataFusionError> {
    let reference = TableReference::from(relation);
    if let Some(schema) = reference.schema() {
        let config = context.copied_config();
        let catalog = context
            .catalog(&config.options().catalog.default_catalog)
            .expect("the session has its default catalog");
        // Steps run beside each other: whoever comes second must not put an empty schema in the place of the first one's.
        static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one_at_a_time = MAKING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if catalog.schema(schema).is_none() {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
        }
    }
    context.register_table(reference, table)?;
    Ok(())
}

/// Whether two types hold the same values: the kinds of string, binary and timestamp precision do not matter.
pub fn same_type(left: &DataType, right: &DataType) -> bool {
    let family = |kind: &DataType| match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(
            datafusion::arrow::datatypes::TimeUnit::Microsecond,
            zone.clone(),
        ),
        DataType::Date64 => DataType::Date32,
        other => other.clone(),
    };
    family(left) == family(right)
}

/// Whether values are instants: of any precision, in any zone.
pub fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

/// Whether a value of this type says when something was: a timestamp, a day, or a text that is one of them.
pub fn is_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_time(values),
        DataType::Null => true,
        kind => is_day_or_timestamp(kind) || kind.is_string(),
    }
}

/// The same without texts, of which only the values tell what they are.
pub fn is_day_or_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_day_or_timestamp(values),
        DataType::Date32 | DataType::Date64 => true,
        kind => is_timestamp(kind),
    }
}

/// The zone of a timestamp, if it is another than UTC. A timestamp without a zone that is compared with it becomes one of that zone.
pub fn foreign_zone(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => {
            let is_utc = matches!(&**zone, "UTC" | "+00:00" | "Z" | "Etc/UTC");
            (!is_utc).then_some(zone)
        }
        _ => None,
    }
}

/// Whether a value of this type can be summed as a number; booleans count as 0 and 1.
pub fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null)
}

fn is_query(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(inner) if matches!(inner.as_ref(), ast::Statement::Query(_)))
}

fn not_one(message: &str, hint: &str, range: Option<(usize, usize)>) -> SqlError {
    SqlError {
        kind: SqlErrorKind::NotOneQuery,
        message: message.to_string(),
        hint: Some(hint.to_string()),
        range,
        word: String::new(),
    }
}

/// The first token that is no blank or comment, after `skip` semicolons.
fn word_after(sql: &str, skip: usize) -> Option<(usize, usize)> {
    use datafusion::sql::sqlparser::{
        dialect::GenericDialect,
        tokenizer::{Token, Tokenizer},
    };
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .ok()?;
    let semicolons = |at: usize| {
        tokens[..at]
            .iter()
            .filter(|token| token.token == Token::SemiColon)
            .count()
    };
    let is_word = |token: &Token| !matches!(token, Token::Whitespace(_) | Token::SemiColon);
    let found = tokens
        .iter()
        .enumerate()
        .find(|(at, token)| is_word(&token.token) && semicolons(*at) >= skip)?;
    let start = at(sql, found.1.span.start.line, found.1.span.start.column);
    Some((start, word_end(sql, start)))
}

fn first_word(sql: &str) -> Option<(usize, usize)> {
    word_after(sql, 0)
}

fn second_statement(sql: &str) -> Option<(usize, usize)> {
    word_after(sql, 1)
}

/// The last character of the SQL that is no blank.
fn last_character(sql: &str) -> (usize, usize) {
    let end = sql.trim_end().len();
    (
        sql[..end]
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at),
        end,
    )
}

fn syntax_error(sql: &str, error: &DataFusionError) -> SqlError {
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

fn plan_error(sql: &str, error: &DataFusionError) -> SqlError {
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
        return super::constants::no_interval(sql, &found);
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
            let hint =
                crate::diagnostics::did_you_mean(&field.name, known.iter().map(String::as_str));
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
fn repeated_column(sql: &str, schema: &SchemaRef) -> Result<(), SqlError> {
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

fn volatile_functions(plan: &LogicalPlan) -> Vec<String> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::logical_expr::{Expr, Volatility};
    let mut found = BTreeSet::new();
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::ScalarFunction(call) = inner
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found.insert(call.func.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("the visitor does not fail");
    // Stable, but only by the time zone setting, which is fixed here.
    found
        .into_iter()
        .filter(|name| is_clock_or_chance(name))
        .collect()
}

fn is_clock_or_chance(name: &str) -> bool {
    matches!(
        name,
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "random" | "uuid"
    )
}

/// Byte offset of a 1-based line and column, which DataFusion counts in characters.
pub(super) fn at(sql: &str, line: u64, column: u64) -> usize {
    let start: usize = sql
        .split_inclusive('\n')
        .take(line.saturating_sub(1) as usize)
        .map(str::len)
        .sum();
    let rest = &sql[start.min(sql.len())..];
    start
        + rest
            .char_indices()
            .nth(column.saturating_sub(1) as usize)
            .map_or(rest.len(), |(at, _)| at)
}

fn word_end(sql: &str, start: usize) -> usize {
    let rest = &sql[start.min(sql.len())..];
    let length = rest
        .find(|character: char| !character.is_alphanumeric() && character != '_')
        .unwrap_or(rest.len());
    start + length.max(usize::from(!rest.is_empty()))
}

/// The first place where `word` stands alone.
fn find(sql: &str, word: &str) -> Option<(usize, usize)> {
    if word.is_empty() {
        return None;
    }
    let pattern = regex::RegexBuilder::new(&format!(r"\b{}\b", regex::escape(word)))
        .case_insensitive(true)
        .build()
        .ok()?;
    pattern.find(sql).map(|found| (found.start(), found.end()))
}

/// Where a word is that stands in a query only once: of several, any could be meant.
fn find_once(sql: &str, word: &str) -> Option<(usize, usize)> {
    let first = find(sql, word)?;
    find(&sql[first.1..], word).is_none().then_some(first)
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn tables_that_are_registered_at_once_all_stay() {
        for _ in 0..200 {
            let context = SessionContext::new();
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for table in 0..4 {
                    let (context, start) = (&context, &start);
                    scope.spawn(move || {
                        start.wait();
                        let empty = Arc::new(EmptyTable::new(Arc::new(Schema::empty())));
                        register(context, &format!("made.t{table}"), empty).expect("registered");
                    });
                }
            });
            let known = |table: usize| context.table_exist(format!("made.t{table}"));
            assert!((0..4).all(|table| known(table).expect("it answers")));
        }
    }
}
