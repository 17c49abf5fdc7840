//! Where in the SQL something stands.
//! In: the SQL, and a line and column, a word or a number of statements. Out: byte ranges. What is wrong there is left to others.

/// Byte offset of a 1-based line and column, which DataFusion counts in characters.
pub(in crate::sql) fn at(sql: &str, line: u64, column: u64) -> usize {
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

pub(super) fn word_end(sql: &str, start: usize) -> usize {
    let rest = &sql[start.min(sql.len())..];
    let length = rest
        .find(|character: char| !character.is_alphanumeric() && character != '_')
        .unwrap_or(rest.len());
    start + length.max(usize::from(!rest.is_empty()))
}

/// The first place where `word` stands alone.
pub(super) fn find(sql: &str, word: &str) -> Option<(usize, usize)> {
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
pub(super) fn find_once(sql: &str, word: &str) -> Option<(usize, usize)> {
    let first = find(sql, word)?;
    find(&sql[first.1..], word).is_none().then_some(first)
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

pub(super) fn first_word(sql: &str) -> Option<(usize, usize)> {
    word_after(sql, 0)
}

pub(super) fn second_statement(sql: &str) -> Option<(usize, usize)> {
    word_after(sql, 1)
}

/// The last character of the SQL that is no blank.
pub(super) fn last_character(sql: &str) -> (usize, usize) {
    let end = sql.trim_end().len();
    (
        sql[..end]
            .char_indices()
            .next_back()
            .map_or(0, |(at, _)| at),
        end,
    )
}
