//! A query over relations under other names.
//! In: a query whose relations some begin with a prefix. Out: the same, with those relations called what they are without it, so
//! that `orders.amount` still means a column of `kept__orders`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{ObjectNamePart, TableFactor, Visit, Visitor};

use super::analyze::at;
use super::{Analyzer, SqlError};

impl Analyzer {
    /// Gives every relation whose name begins with `prefix` its plain name as alias, where it has none; elsewhere the prefix
    /// is taken away.
    pub fn under_plain_names(&self, sql: &str, prefix: &str) -> Result<String, SqlError> {
        let mut found = Relations {
            prefix,
            has_alias: BTreeMap::new(),
            sql,
        };
        if let Statement::Statement(statement) = self.parse(sql)? {
            let _ = statement.visit(&mut found);
        }
        let mut text = String::new();
        let mut rest = 0;
        for (start, _) in sql.match_indices(prefix) {
            if start < rest {
                continue;
            }
            let word = Word::at(sql, start);
            text += &sql[rest..word.start];
            let plain = word.text.replacen(prefix, "", 1);
            text += &match found.has_alias.get(&word.start) {
                Some(true) => word.text.to_string(),
                Some(false) => format!("{} as {plain}", word.text),
                None => plain,
            };
            rest = word.start + word.text.len();
        }
        Ok(text + &sql[rest..])
    }
}

/// A name with its quotes, if it has any.
struct Word<'a> {
    start: usize,
    text: &'a str,
}

impl<'a> Word<'a> {
    /// The word whose first letter, after a quote, stands at `start`.
    fn at(sql: &'a str, start: usize) -> Word<'a> {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let (start, end) = match sql[..start].ends_with('"') {
            true => {
                let closing = sql[start..]
                    .find('"')
                    .map_or(sql.len(), |at| start + at + 1);
                (start - 1, closing)
            }
            false => {
                let length = sql[start..].find(|letter| !is_part(letter));
                (start, length.map_or(sql.len(), |length| start + length))
            }
        };
        Word {
            start,
            text: &sql[start..end],
        }
    }
}

/// Where relations of the prefix stand, and whether they have an alias.
struct Relations<'a> {
    prefix: &'a str,
    sql: &'a str,
    has_alias: BTreeMap<usize, bool>,
}

impl Visitor for Relations<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, .. } = factor
            && let [ObjectNamePart::Identifier(name)] = name.0.as_slice()
            && name.value.starts_with(self.prefix)
        {
            let place = name.span.start;
            self.has_alias
                .insert(at(self.sql, place.line, place.column), alias.is_some());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn a_relation_keeps_the_name_that_its_columns_are_qualified_by() {
        let analyzer = Analyzer::new(SessionContext::new());
        let plain = |sql: &str| {
            analyzer
                .under_plain_names(sql, "kept__")
                .expect("it parses")
        };
        assert_eq!(
            plain("select orders.a, kept__orders.b from kept__orders where a > 1"),
            "select orders.a, orders.b from kept__orders as orders where a > 1"
        );
        assert_eq!(
            plain(
                "with orders as (select * from kept__orders) select * from orders join kept__users u on true, \"kept__Odd\""
            ),
            "with orders as (select * from kept__orders as orders) select * from orders join kept__users u on true, \"kept__Odd\" as \"Odd\""
        );
    }
}
