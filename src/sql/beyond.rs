//! Queries that are SQL, but that the engine would answer wrongly, or not in any time.
//! In: the text of a query. Out: what is wrong with it, before anything plans it.

use std::collections::VecDeque;

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::analyze::{SqlError, SqlErrorKind, at};
use super::ignored::ignored;

/// Operators in a row. Planning takes time with their square (2,500 sums: seconds), and recursion ends with the stack at about 7,000.
const MOST_OPERATORS: usize = 2_000;

/// What the engine should not be asked, if that is what a query is. What does not parse is said by the parser.
pub fn unanswerable(context: &SessionContext, sql: &str) -> Option<SqlError> {
    if let Some(long) = too_long(sql) {
        return Some(long);
    }
    let statements = parsed(context, sql).ok()?;
    let state = context.state_ref();
    let state = state.read();
    statements
        .iter()
        .find_map(|statement| ignored(sql, statement, &state))
}

/// The statements of a text.
pub(super) fn parsed(
    context: &SessionContext,
    sql: &str,
) -> Result<VecDeque<Statement>, DataFusionError> {
    let dialect = context.copied_config().options().sql_parser.dialect;
    let dialect = dialect_from_str(dialect.as_ref()).expect("the session's dialect exists");
    DFParserBuilder::new(sql)
        .with_dialect(dialect.as_ref())
        .build()?
        .parse_statements()
}

/// A chain of operators that cannot be planned.
pub(super) fn too_long(sql: &str) -> Option<SqlError> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
    // What cannot be read is said by the parser.
    let tokens = tokens.ok()?;
    let place = |token: &TokenWithSpan| {
        let (start, end) = (token.span.start, token.span.end);
        (
            at(sql, start.line, start.column),
            at(sql, end.line, end.column),
        )
    };
    longest_chain(&tokens).map(|token| SqlError {
        kind: SqlErrorKind::Meaning,
        message: format!("more than {MOST_OPERATORS} operators in a row, which cannot be planned"),
        hint: Some(
            "say it as a list (`in (...)`), as rows of a seed to join, or as an aggregate".into(),
        ),
        range: Some(place(token)),
        word: String::new(),
    })
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

/// The operator that is one too many among those of one expression, if there is one.
fn longest_chain(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    // One number per open parenthesis.
    let mut operators = vec![0_usize];
    for token in tokens {
        match &token.token {
            Token::LParen => operators.push(0),
            Token::RParen if operators.len() > 1 => {
                operators.pop();
            }
            _ => {}
        }
        let innermost = operators.last_mut()?;
        match &token.token {
            Token::Comma | Token::SemiColon => *innermost = 0,
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat => {
                *innermost += 1;
            }
            _ => match keyword(token) {
                Some(Keyword::AND | Keyword::OR) => *innermost += 1,
                Some(
                    Keyword::SELECT
                    | Keyword::FROM
                    | Keyword::WHERE
                    | Keyword::ON
                    | Keyword::WHEN
                    | Keyword::THEN
                    | Keyword::ELSE
                    | Keyword::HAVING
                    | Keyword::UNION,
                ) => *innermost = 0,
                _ => {}
            },
        }
        if operators
            .last()
            .is_some_and(|operators| *operators > MOST_OPERATORS)
        {
            return Some(token);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_too_many_operators_is_refused_where_it_is_too_long() {
        let terms = |count: usize| format!("select 1\nwhere {}", vec!["a = 1"; count].join(" or "));
        assert!(too_long(&terms(MOST_OPERATORS + 1)).is_none());
        let long = terms(MOST_OPERATORS + 2);
        let refused = too_long(&long).expect("it is too long");
        let (start, end) = refused.range.expect("a place");
        assert_eq!(&long[start..end], "or");
        assert_eq!(start, long.rfind("or").expect("there are many"));
    }

    #[test]
    fn many_short_expressions_are_no_chain() {
        let cases = vec!["when a = 1 and b = 2 then c + 1"; 3_000].join("\n");
        let columns = vec!["a + b"; 3_000].join(", ");
        let inner = vec!["(a + b)"; 1_500].join(" + ");
        let sql = format!("select case {cases} end, {columns}, {inner} from t");
        assert!(too_long(&sql).is_none());
    }
}
