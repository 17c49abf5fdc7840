//! A query without its layout: comments, spaces and line breaks, which mean nothing.
//! In: SQL. Out: a text that two queries share if they differ in nothing else. Whether queries that are written otherwise mean the same is
//! decided by [`super::canonical`].

use std::fmt::Write;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// For comparing, not for reading; a text that is no SQL stays as it is.
pub fn without_layout(sql: &str) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return sql.trim().to_string();
    };
    let mut text = String::with_capacity(sql.len() * 2);
    for token in tokens {
        if !matches!(token, Token::Whitespace(_)) {
            // Not as it is written: the quotation marks in a text are told from those around it.
            writeln!(text, "{token:?}").expect("a string takes any text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_spaces_are_layout() {
        let query = "select a, 'it''s  --x' from t where b = 1";
        let alike = [
            "select a,\n    'it''s  --x' -- a text\nfrom t\nwhere b = 1\n",
            "/* why */ select a , 'it''s  --x' from t where b=1",
        ];
        for other in alike {
            assert_eq!(without_layout(other), without_layout(query), "{other}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        let queries = [
            "select a from t",
            "select A from t",
            "select \"a\" from t",
            "select 'a' from t",
            "select 'a ' from t",
            "select 'a''b' from t",
            "select 'a' 'b' from t",
            "select a from t where b - -1 > 0",
            "select a from t where b --1 > 0",
            "select a b from t",
            "select ab from t",
            "select 1.0 from t",
            "select 1.00 from t",
            "select '",
            "select ' ",
            "select '-- a' from t",
        ];
        let different: std::collections::BTreeSet<String> =
            queries.iter().map(|query| without_layout(query)).collect();
        // What is no SQL is trimmed.
        assert_eq!(different.len(), queries.len() - 1);
    }
}
