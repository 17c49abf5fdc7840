//! Small questions about pieces of SQL that stand in YAML: which columns an expression names, whether a zone exists.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

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
    if parser.peek_token().token != datafusion::sql::sqlparser::tokenizer::Token::EOF {
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
