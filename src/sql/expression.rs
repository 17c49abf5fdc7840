//! Small questions about pieces of SQL that stand in YAML: whether one is one expression, which columns it names, whether a zone exists.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

use super::analyze::{SqlError, SqlErrorKind, at};

/// What stands behind the end of an expression, which would break out of the place that the expression is put into:
/// `is_paid) or (true`. What does not begin with an expression at all is left to whoever plans it.
pub fn surplus(text: &str) -> Option<SqlError> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).ok()?;
    parser.parse_expr().ok()?;
    let next = parser.peek_token();
    if next.token == Token::EOF {
        return None;
    }
    let word = next.token.to_string();
    let (message, hint) = match next.token {
        Token::RParen | Token::RBracket | Token::RBrace => (
            format!("`{word}` closes a bracket that was not opened here"),
            "write one expression, each of its brackets opened and closed",
        ),
        _ => (
            format!("one expression ends before `{word}`"),
            "write one expression; conditions are joined by `and` or `or`, a query stands in brackets",
        ),
    };
    Some(SqlError {
        kind: SqlErrorKind::Syntax,
        message,
        hint: Some(hint.to_string()),
        range: Some(bytes(text, &next)),
        word,
    })
}

/// The text with blanks in the place of its comments, which would hide what is written behind it.
pub fn without_comments(text: &str) -> String {
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .unwrap_or_default();
    let is_comment = |token: &&TokenWithSpan| {
        matches!(
            token.token,
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)
            )
        )
    };
    let mut kept = String::new();
    let mut from = 0;
    for comment in tokens.iter().filter(is_comment) {
        let (start, end) = bytes(text, comment);
        kept.push_str(&text[from..start]);
        kept.push(' ');
        from = end;
    }
    kept.push_str(&text[from..]);
    kept.trim().to_string()
}

pub(super) fn bytes(text: &str, token: &TokenWithSpan) -> (usize, usize) {
    let (start, end) = (token.span.start, token.span.end);
    (
        at(text, start.line, start.column),
        at(text, end.line, end.column),
    )
}

/// Names of the columns of one expression, each once, sorted; or what is wrong with it.
pub fn expression_columns(text: &str) -> Result<Vec<String>, String> {
    let wrong = |error: datafusion::sql::sqlparser::parser::ParserError| {
        let message = error.to_string();
        let message = message
            .strip_prefix("sql parser error: ")
            .unwrap_or(&message);
        format!("`{text}` does not parse: {message}")
    };
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(text)
        .map_err(wrong)?;
    let expression = parser.parse_expr().map_err(wrong)?;
    if parser.peek_token().token != Token::EOF {
        return Err(format!("`{text}` is more than one expression"));
    }
    let mut names = BTreeSet::new();
    let _ = visit_expressions(&expression, |found| {
        match found {
            Expr::Identifier(name) => {
                names.insert(name.value.clone());
            }
            Expr::CompoundIdentifier(parts) => {
                let parts: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
                names.insert(parts.join("."));
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(names.into_iter().collect())
}

/// Whether the engine knows the zone.
pub fn is_time_zone(name: &str) -> bool {
    name.parse::<datafusion::arrow::array::timezone::Tz>()
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::{surplus, without_comments};

    #[test]
    fn what_follows_one_expression_is_found_where_it_stands() {
        let found = |text: &str| {
            let error = surplus(text)?;
            let (start, end) = error.range.expect("a token has a place");
            Some((text[start..end].to_string(), error.message))
        };
        for one in [
            "is_paid",
            "a in (1, 2) and (b or not c)",
            "x > (select max(y) from t)",
            "amount -- in cents",
            "'a) or (b' = name",
            "case when ß = ')' then 1 end",
        ] {
            assert_eq!(found(one), None, "{one}");
        }
        for (two, word) in [
            ("is_paid) or (true", ")"),
            ("ß = 'ß' ) -- (", ")"),
            ("a, b", ","),
            ("amount as total", "as"),
            ("true; drop table x", ";"),
            ("distinct amount", "amount"),
            ("select 1", "1"),
            ("a or b order by c", "order"),
        ] {
            assert_eq!(found(two).expect(two).0, word, "{two}");
        }
    }

    #[test]
    fn comments_are_no_part_of_an_expression() {
        for (text, kept) in [
            ("amount -- in cents", "amount"),
            ("amount /* in\ncents */ * 2", "amount   * 2"),
            ("name = '-- none' -- some\nand ß", "name = '-- none'  and ß"),
            ("  amount\n", "amount"),
        ] {
            assert_eq!(without_comments(text), kept);
        }
    }
}
