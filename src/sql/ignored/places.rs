//! Where words stand in the text of a query.

use datafusion::sql::sqlparser::ast::Spanned;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::super::analyze::at;

pub(super) struct Places<'a> {
    /// None: every place is the beginning, and nothing is found.
    sql: Option<&'a str>,
}

/// A word of the query: where it stands, and its letters without quotes.
struct Word {
    range: (usize, usize),
    text: String,
    is_quoted: bool,
}

impl<'a> Places<'a> {
    pub fn of(sql: &'a str) -> Self {
        Self { sql: Some(sql) }
    }

    pub fn nowhere() -> Self {
        Self { sql: None }
    }

    pub fn offset(&self, location: Location) -> usize {
        match (self.sql, location.line) {
            // Line 0 is that of things without a place.
            (None, _) | (_, 0) => 0,
            (Some(sql), line) => at(sql, line, location.column),
        }
    }

    pub fn start(&self, node: &impl Spanned) -> usize {
        self.sql.map_or(0, |_| self.offset(node.span().start))
    }

    pub fn end(&self, node: &impl Spanned) -> usize {
        self.sql.map_or(0, |_| self.offset(node.span().end))
    }

    /// The first place at `after` or later where these words follow each other.
    pub fn find(&self, words: &str, after: usize) -> Option<(usize, usize)> {
        let wanted: Vec<&str> = words.split(' ').collect();
        let found = self.words(after);
        let is_there = |run: &&[Word]| {
            let mut pairs = run.iter().zip(&wanted);
            pairs.all(|(word, wanted)| !word.is_quoted && word.text.eq_ignore_ascii_case(wanted))
        };
        let run = found.windows(wanted.len()).find(is_there)?;
        Some((run.first()?.range.0, run.last()?.range.1))
    }

    /// The first word that begins at `after` or later.
    pub fn word_after(&self, after: usize) -> String {
        let words = self.words(after);
        words
            .into_iter()
            .next()
            .map_or(String::new(), |word| word.text)
    }

    // Only what is refused asks for places: nothing is kept.
    fn words(&self, after: usize) -> Vec<Word> {
        let Some(sql) = self.sql else {
            return vec![];
        };
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let words = tokens.unwrap_or_default().into_iter().filter_map(|token| {
            let Token::Word(word) = token.token else {
                return None;
            };
            let range = (self.offset(token.span.start), self.offset(token.span.end));
            Some(Word {
                range,
                is_quoted: word.quote_style.is_some(),
                text: word.value,
            })
        });
        words.filter(|word| word.range.0 >= after).collect()
    }
}
