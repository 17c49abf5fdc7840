//! Constants that can only fail: `cast('abc' as int)`, `date '2026-13-01'`, `1 / 0`.
//! In: a query and its plan with every type settled. Out: the first of them that any row would meet. They are computed here because
//! the planner leaves what fails to the rows, where nobody knows the place any more. A branch of `case` and the later arguments of
//! `coalesce` may never be reached, so they are left alone, and so is what asks the clock.

use std::sync::LazyLock;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, Volatility,
};
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use regex::{Captures, Regex};

use super::analyze::{SqlError, SqlErrorKind};
use super::expression::{bytes, is_time_zone};
use super::words::type_name;

pub(super) fn impossible(sql: &str, plan: &LogicalPlan) -> Option<SqlError> {
    let mut found = None;
    let row = Row::new()?;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            row.look(expr, node, &mut found);
            Ok(proceed(&found))
        })
    })
    .ok()?;
    found.map(|fault| fault.said(sql))
}

fn proceed(found: &Option<Fault>) -> TreeNodeRecursion {
    match found {
        Some(_) => TreeNodeRecursion::Stop,
        None => TreeNodeRecursion::Continue,
    }
}

const ZERO: &str = "it divides by zero";
const NO_ZONE: &str = " is no time zone";

/// Functions of which an argument is a word of a list: it is wrong whatever the other arguments are.
const TAKES_WORDS: &[&str] = &["date_part", "date_trunc", "digest", "encode", "decode"];

/// A row without columns, which is all that a constant needs.
struct Row {
    batch: RecordBatch,
    schema: DFSchema,
    properties: ExecutionProps,
}

/// A constant that fails, and how.
struct Fault {
    expr: Expr,
    reason: String,
}

impl Row {
    fn new() -> Option<Self> {
        let schema = std::sync::Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Some(Self {
            batch: RecordBatch::try_new_with_options(schema, vec![], &options).ok()?,
            schema: DFSchema::empty(),
            properties: ExecutionProps::new(),
        })
    }

    /// Computes the largest constants of an expression that every row meets.
    fn look(&self, expr: &Expr, node: &LogicalPlan, found: &mut Option<Fault>) {
        if self.is_constant(expr, node, found) {
            self.compute(expr, found);
        }
    }

    /// Whether the expression is the same in every row; the constants in one that is not are computed.
    fn is_constant(&self, expr: &Expr, node: &LogicalPlan, found: &mut Option<Fault>) -> bool {
        match expr {
            Expr::Literal(..) => return true,
            Expr::Alias(alias) => return self.is_constant(&alias.expr, node, found),
            _ => {}
        }
        if self.is_settled(expr) {
            return false;
        }
        let (always, sometimes) = arguments(expr);
        let mut constants = Vec::new();
        for argument in &always {
            if self.is_constant(argument, node, found) {
                constants.push(*argument);
            }
        }
        let is_pure = is_pure(expr) && sometimes.iter().all(|part| is_pure_through(part));
        if is_pure && constants.len() == always.len() {
            return true;
        }
        for constant in constants {
            self.compute(constant, found);
        }
        if found.is_none() {
            *found = self.whatever_the_row(expr, node);
        }
        false
    }

    /// What fails whatever the columns of a row hold.
    fn whatever_the_row(&self, expr: &Expr, node: &LogicalPlan) -> Option<Fault> {
        let fault = |reason: String| {
            Some(Fault {
                expr: expr.clone(),
                reason,
            })
        };
        match expr {
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::Divide | Operator::Modulo,
                right,
                ..
            }) => {
                let divides_by_zero = is_pure_through(right) && self.is_exact_zero(right);
                divides_by_zero.then(|| fault(ZERO.to_string())).flatten()
            }
            Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
                match field.data_type() {
                    DataType::Timestamp(_, Some(zone)) if !is_time_zone(zone) => {
                        fault(format!("`{zone}`{NO_ZONE}"))
                    }
                    _ => None,
                }
            }
            Expr::BinaryExpr(BinaryExpr { op, right, .. }) if is_match(*op) => {
                wrong_pattern(right).and_then(fault)
            }
            Expr::ScalarFunction(function) if function.func.name().starts_with("regexp_") => {
                wrong_pattern(function.args.get(1)?).and_then(fault)
            }
            Expr::ScalarFunction(function) if TAKES_WORDS.contains(&function.func.name()) => {
                let inputs = merge_schema(&node.inputs());
                let mut filled = function.clone();
                for argument in &mut filled.args {
                    if !is_pure_through(argument) {
                        let kind = argument.get_type(&inputs).ok()?;
                        *argument = Expr::Literal(ScalarValue::try_from(&kind).ok()?, None);
                    }
                }
                let reason = self.failure(&Expr::ScalarFunction(filled))?;
                fault(reason)
            }
            _ => None,
        }
    }

    /// Floats divide by zero without an error.
    fn is_exact_zero(&self, expr: &Expr) -> bool {
        let value = self.value(expr);
        value.is_some_and(|value| {
            let kind = value.data_type();
            (kind.is_integer() || kind.is_decimal())
                && ScalarValue::new_zero(&kind).is_ok_and(|zero| zero == value)
        })
    }

    /// `false and ...`, `... or true`: the planner takes the rest away.
    fn is_settled(&self, expr: &Expr) -> bool {
        match expr {
            Expr::BinaryExpr(BinaryExpr { op, .. }) => match op {
                Operator::And => self.settles(expr, Operator::And, false),
                Operator::Or => self.settles(expr, Operator::Or, true),
                _ => false,
            },
            _ => false,
        }
    }

    fn settles(&self, expr: &Expr, chain: Operator, as_what: bool) -> bool {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == chain => {
                self.settles(left, chain, as_what) || self.settles(right, chain, as_what)
            }
            _ => is_pure_through(expr) && self.truth(expr) == Some(as_what),
        }
    }

    fn truth(&self, expr: &Expr) -> Option<bool> {
        match self.value(expr)? {
            ScalarValue::Boolean(value) => value,
            _ => None,
        }
    }

    fn value(&self, expr: &Expr) -> Option<ScalarValue> {
        let context = Default::default();
        let physical = create_physical_expr(expr, &self.schema, &self.properties, &context).ok()?;
        let value = physical.evaluate(&self.batch).ok()?.into_array(1).ok()?;
        ScalarValue::try_from_array(&value, 0).ok()
    }

    fn compute(&self, expr: &Expr, found: &mut Option<Fault>) {
        if found.is_some() || matches!(expr, Expr::Literal(..)) {
            return;
        }
        let Some(reason) = self.failure(expr) else {
            return;
        };
        // The innermost part that fails by itself is what a person has to look at.
        let (always, _) = arguments(expr);
        always
            .iter()
            .for_each(|argument| self.compute(argument, found));
        if found.is_none() {
            let expr = expr.clone().unalias();
            *found = Some(Fault { expr, reason });
        }
    }

    /// Why the value cannot be computed; what the engine rewrites before it computes it is no failure.
    fn failure(&self, expr: &Expr) -> Option<String> {
        let context = Default::default();
        let physical = create_physical_expr(expr, &self.schema, &self.properties, &context).ok()?;
        let error = physical.evaluate(&self.batch).err()?;
        match error.find_root() {
            DataFusionError::Execution(text) => Some(text.clone()),
            DataFusionError::ArrowError(error, _) => match error.as_ref() {
                ArrowError::CastError(text)
                | ArrowError::ParseError(text)
                | ArrowError::ComputeError(text)
                | ArrowError::ArithmeticOverflow(text)
                | ArrowError::InvalidArgumentError(text) => Some(text.clone()),
                ArrowError::DivideByZero => Some(ZERO.to_string()),
                _ => None,
            },
            _ => None,
        }
    }
}

fn is_match(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
    )
}

/// What is wrong with a literal pattern, which the engine reads as we do.
fn wrong_pattern(expr: &Expr) -> Option<String> {
    let error = Regex::new(text_of(expr)?).err()?;
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    Some(last.trim_start_matches("error: ").to_string())
}

/// The parts of an expression that are computed for every row, and those that may be passed over.
fn arguments(expr: &Expr) -> (Vec<&Expr>, Vec<&Expr>) {
    match expr {
        Expr::Case(case) => {
            let mut parts = Vec::new();
            for (when, then) in &case.when_then_expr {
                parts.extend([when.as_ref(), then.as_ref()]);
            }
            parts.extend(case.else_expr.as_deref());
            let first = parts.remove(0);
            (
                case.expr.as_deref().into_iter().chain([first]).collect(),
                parts,
            )
        }
        Expr::ScalarFunction(function) => {
            let lazy = function.func.conditional_arguments(&function.args);
            lazy.unwrap_or_else(|| (function.args.iter().collect(), Vec::new()))
        }
        _ => {
            let mut parts = Vec::new();
            // Stops below each part, so that these are the direct ones.
            let _ = expr.apply_children(|part| {
                parts.push(part);
                Ok(TreeNodeRecursion::Continue)
            });
            (parts, Vec::new())
        }
    }
}

/// Whether an expression with constant parts is constant itself.
fn is_pure(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(function) => {
            function.func.signature().volatility == Volatility::Immutable
                && !function.func.short_circuits()
        }
        Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => true,
        _ => false,
    }
}

fn is_pure_through(expr: &Expr) -> bool {
    let mut is_all = true;
    let _ = expr.apply(|part| {
        is_all &= is_pure(part);
        Ok(match is_all {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    is_all
}

impl Fault {
    fn said(&self, sql: &str) -> SqlError {
        let (message, hint) = match &self.expr {
            Expr::Cast(Cast { expr, field }) if matches!(**expr, Expr::Literal(..)) => {
                let kind = type_name(field.data_type());
                match text_of(expr) {
                    Some(text) => (
                        format!("`{text}` cannot be read as {kind}"),
                        format!("correct it; `try_cast` gives null where a text is no {kind}"),
                    ),
                    None => (
                        format!("`{}` does not fit into {kind}", in_sql(expr)),
                        "cast it to a type that holds it".to_string(),
                    ),
                }
            }
            Expr::Cast(_) | Expr::TryCast(_) if self.reason.ends_with(NO_ZONE) => (
                self.reason.clone(),
                "write its name as in `Europe/Berlin`, or `UTC`".to_string(),
            ),
            Expr::BinaryExpr(_) if self.reason == ZERO => (
                format!("`{}` divides by zero", in_sql(&self.expr)),
                "`nullif(..., 0)` as the divisor gives null".to_string(),
            ),
            expr => (
                format!(
                    "`{}` cannot be computed: {}",
                    in_sql(expr),
                    self.reason.lines().next().unwrap_or_default()
                ),
                "it is the same in every row, so none could be made".to_string(),
            ),
        };
        SqlError {
            kind: SqlErrorKind::Constant,
            message,
            hint: Some(hint),
            range: match self.reason.strip_suffix(NO_ZONE) {
                // Nothing but the type says it.
                Some(zone) => place(sql, &text_literal(zone.trim_matches('`'))),
                None => place(sql, &self.expr),
            },
            word: String::new(),
        }
    }
}

fn text_literal(text: &str) -> Expr {
    Expr::Literal(ScalarValue::Utf8(Some(text.to_string())), None)
}

/// The expression as a person writes it, its literals without their types and without the casts that they got.
fn in_sql(expr: &Expr) -> String {
    static TYPED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?:Large)?Utf8(?:View)?\("([^"]*)"\)|(?:U?Int|Float)\d+\(([^)]*)\)"#)
            .expect("the pattern is constant")
    });
    let without_cast = |part: Expr| match part {
        Expr::Cast(Cast { expr, .. }) if matches!(*expr, Expr::Literal(..)) => {
            Ok(Transformed::yes(*expr))
        }
        other => Ok(Transformed::no(other)),
    };
    let plain = expr.clone().transform(without_cast);
    let said = plain
        .expect("the closure does not fail")
        .data
        .human_display()
        .to_string();
    TYPED
        .replace_all(&said, |found: &Captures<'_>| {
            match (found.get(1), found.get(2)) {
                (Some(text), _) => format!("'{}'", text.as_str()),
                (_, number) => number.map_or("", |number| number.as_str()).to_string(),
            }
        })
        .into_owned()
}

/// A text that the planner could not read as an interval.
pub(super) fn no_interval(sql: &str, text: &str) -> SqlError {
    SqlError {
        kind: SqlErrorKind::Constant,
        message: format!("`{text}` cannot be read as interval"),
        hint: Some(
            "write it like `interval '3 days'` or `interval '1 hour 30 minutes'`".to_string(),
        ),
        range: place(sql, &text_literal(text)),
        word: String::new(),
    }
}

/// The text of a literal.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Where the constant's literals follow each other in the SQL: all of them, with few words between them.
fn place(sql: &str, expr: &Expr) -> Option<(usize, usize)> {
    let mut wanted = Vec::new();
    let _ = expr.apply(|part| {
        if let Expr::Literal(value, _) = part {
            wanted.push(value.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .ok()?;
    let tokens: Vec<&TokenWithSpan> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    let first = wanted.first()?;
    let starts = (0..tokens.len()).filter(|at| is_literal(&tokens[*at].token, first));
    let spans: Vec<(usize, usize)> = starts
        .filter_map(|start| {
            let end = wanted[1..].iter().try_fold(start, |at, value| {
                let near = (at + 1..tokens.len()).take(FEW);
                near.into_iter()
                    .find(|next| is_literal(&tokens[*next].token, value))
            })?;
            // The same text may stand elsewhere as a text.
            let is_cast = matches!(expr, Expr::Cast(_)).then(|| is_cast(&tokens, start));
            is_cast
                .unwrap_or(true)
                .then(|| (bytes(sql, tokens[start]).0, bytes(sql, tokens[end]).1))
        })
        .collect();
    spans.first().copied().or_else(|| {
        let mut all = tokens
            .iter()
            .filter(|token| is_literal(&token.token, first));
        let only = all.next().filter(|_| all.next().is_none())?;
        Some(bytes(sql, only))
    })
}

/// Tokens between two literals of one expression, at most.
const FEW: usize = 4;

fn is_literal(token: &Token, value: &ScalarValue) -> bool {
    match token {
        Token::SingleQuotedString(text) => value.try_as_str().flatten() == Some(text),
        // The sign is a token of its own.
        Token::Number(text, _) => value.to_string().trim_start_matches('-') == text,
        _ => false,
    }
}

/// `cast('x' as`, `date 'x'` or `'x'::`.
fn is_cast(tokens: &[&TokenWithSpan], at: usize) -> bool {
    let word = |at: Option<usize>| match at.and_then(|at| tokens.get(at)).map(|token| &token.token)
    {
        Some(Token::Word(word)) => word.value.to_lowercase(),
        Some(token) => token.to_string(),
        None => String::new(),
    };
    let before = word(at.checked_sub(1));
    matches!(
        before.as_str(),
        "date" | "time" | "timestamp" | "timestamptz" | "datetime"
    ) || matches!(word(Some(at + 1)).as_str(), "::" | "as")
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use crate::sql::Analyzer;

    fn said(sql: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        match runtime.block_on(Analyzer::new(SessionContext::new()).analyze(sql)) {
            Ok(_) => "fine".to_string(),
            Err(error) => {
                let place = error.range.map_or("?", |(start, end)| &sql[start..end]);
                format!("{} at {place}", error.message)
            }
        }
    }

    #[test]
    fn a_constant_that_can_only_fail_is_found_before_any_row() {
        for (sql, message) in [
            (
                "select cast('abc' as int) as a",
                "`abc` cannot be read as integer at 'abc'",
            ),
            (
                "select 'abc' as b, 'abc'::bigint as a",
                "`abc` cannot be read as bigint at 'abc'",
            ),
            (
                "select * from (select 1 as x, date '2026-01-01' as d) as t where x > 1 and d >= date '2026-13-01'",
                "`2026-13-01` cannot be read as date at '2026-13-01'",
            ),
            (
                "select * from (select date '2026-01-01' as d) as t where d < '2026-13-01'",
                "`2026-13-01` cannot be read as date at '2026-13-01'",
            ),
            (
                "select '3 dayz' as x, interval '3 dayz' as y",
                "`3 dayz` cannot be read as interval at '3 dayz'",
            ),
            (
                "select x / 0 as y from (select 1 as x) as t",
                "`t.x / 0` divides by zero at 0",
            ),
            (
                "select x ~ '(' as y from (select 'a' as x) as t",
                "`t.x ~ (` cannot be computed: unclosed group at '('",
            ),
            (
                "select regexp_like(x, '[a') as y from (select 'a' as x) as t",
                "`regexp_like(t.x, '[a')` cannot be computed: unclosed character class at '[a'",
            ),
            (
                "select date_trunc('fortnight', d) as y from (select now() as d) as t",
                "`date_trunc('fortnight', t.d)` cannot be computed: Unsupported date_trunc granularity: 'fortnight'. Supported values are: microsecond, millisecond, second, minute, hour, day, week, month, quarter, year at 'fortnight'",
            ),
            (
                "select cast(d as timestamp) at time zone 'Europe/Berln' as y from (select now() as d) as t",
                "`Europe/Berln` is no time zone at 'Europe/Berln'",
            ),
            (
                "select make_date(2026, 13, 1) as a, chr(-1) as b",
                "`make_date(2026, 13, 1)` cannot be computed: Month value '13' is out of range at 2026, 13, 1",
            ),
            ("select 1 / 0 as a", "`1 / 0` divides by zero at 1 / 0"),
            ("select 1 % 0 as a", "`1 % 0` divides by zero at 1 % 0"),
            (
                "with a as (select 1 as x) select x + (select max(cast('ß' as int)) from a) as y from a",
                "`ß` cannot be read as integer at 'ß'",
            ),
            (
                "select cast(99999999999 as int) as a",
                "`99999999999` does not fit into integer at 99999999999",
            ),
        ] {
            assert_eq!(said(sql), message, "{sql}");
        }
    }

    #[test]
    fn what_may_never_be_reached_is_left_to_the_rows() {
        for sql in [
            "select case when x = 2 then cast('two' as int) else 1 end as y from (select 1 as x) as t",
            "select '' <> '' and x > cast('' as int) as y, x = 1 or true or 1 / 0 = 1 as z from (select 1 as x) as t",
            "select coalesce(x, 1 / 0) as y from (select 1 as x) as t",
            "select x / 0.0 as a, date_trunc('day', d) as b, regexp_replace(c, '[a-z]', '') as e from (select now() as d, 1.5 as x, 'c' as c) as t",
            "select interval '3 days' as x, try_cast('abc' as int) as y, nullif(1, 1) as z, 1.0 / 0 as w",
            "select cast(random() as varchar) as y, now() > timestamp '2026-01-01' as z",
        ] {
            assert_eq!(said(sql), "fine", "{sql}");
        }
    }
}
