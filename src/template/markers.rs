//! Marks that let rendered text find its way back, and what must be rewritten before Jinja sees a template.
//! A mark is two private-use characters around a number, put before the first visible character of each piece of
//! template text, so that whitespace control (`{%- -%}`) works as if it were not there.

use std::sync::{Arc, LazyLock, Mutex};

use minijinja::machinery::{Token, tokenize};
use regex::{Captures, Regex};

use super::Parameter;
use super::source_map::Piece;

const OPEN: char = '\u{f0000}';
const CLOSE: char = '\u{f0001}';

/// Every marked piece of template text, by number.
#[derive(Debug, Default)]
pub(super) struct Chunks(Mutex<Vec<Chunk>>);

#[derive(Debug, Clone)]
struct Chunk {
    file: Arc<str>,
    text: Arc<str>,
    start: usize,
    length: usize,
}

impl Chunks {
    fn add(&self, chunk: Chunk) -> usize {
        let mut chunks = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        chunks.push(chunk);
        chunks.len() - 1
    }

    /// Takes the marks out of rendered text and says where each marked piece landed.
    pub fn unmark(&self, text: &str) -> (String, Vec<Piece>) {
        let chunks = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut output = String::with_capacity(text.len());
        let mut pieces = Vec::new();
        for (at, part) in text.split(OPEN).enumerate() {
            let Some((number, rest)) = part.split_once(CLOSE).filter(|_| at > 0) else {
                output.push_str(part);
                continue;
            };
            if let Some(chunk) = number
                .parse::<usize>()
                .ok()
                .and_then(|number| chunks.get(number))
            {
                pieces.push(Piece {
                    output: output.len(),
                    file: chunk.file.clone(),
                    text: chunk.text.clone(),
                    start: chunk.start,
                    length: chunk.length,
                });
            }
            output.push_str(rest);
        }
        (output, pieces)
    }
}

/// The template with a mark before each visible piece of text; `None` when it does not tokenize.
pub(super) fn mark(text: &str, file: &Arc<str>, chunks: &Chunks) -> Option<String> {
    let shared: Arc<str> = text.into();
    let mut marked = String::with_capacity(text.len() + text.len() / 8);
    let mut copied = 0;
    for (data, start) in data_pieces(text)? {
        let body = data.trim();
        let Some(visible) = data.find(body).filter(|_| !body.is_empty()) else {
            continue;
        };
        let from = start + visible;
        let number = chunks.add(Chunk {
            file: file.clone(),
            text: shared.clone(),
            start: from,
            length: body.len(),
        });
        marked.push_str(&text[copied..from]);
        marked.push_str(&format!("{OPEN}{number}{CLOSE}"));
        copied = from;
    }
    marked.push_str(&text[copied..]);
    Some(marked)
}

/// Template text outside of tags, with byte offsets.
fn data_pieces(text: &str) -> Option<Vec<(&str, usize)>> {
    let mut pieces = Vec::new();
    for token in tokenize(text, false, Default::default()) {
        if let (Token::TemplateData(data), _) = token.ok()? {
            // The token borrows from the text, so that its address tells the offset also after trimming.
            let start = (data.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            pieces.push((data, start));
        }
    }
    Some(pieces)
}

/// Compiled once: that costs more than looking through a file.
type Pattern = LazyLock<Regex>;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is constant")
}

/// Rewrites dbt's `{% test name(...) %}` to the macro `test_name` that dbt makes of it. Lines stay where they were.
pub(super) fn without_custom_tags(text: &str) -> String {
    static TEST: Pattern = LazyLock::new(|| pattern(r"(\{%-?\s*)test\s+([A-Za-z_]\w*)"));
    static END: Pattern = LazyLock::new(|| pattern(r"(\{%-?\s*)endtest(\s*-?%\})"));
    let text = TEST.replace_all(text, "${1}macro test_${2}");
    END.replace_all(&text, "${1}endmacro${2}").into_owned()
}

/// Names of the macros that a file defines.
pub(super) fn macro_names(text: &str) -> Vec<String> {
    static NAME: Pattern = LazyLock::new(|| pattern(r"\{%-?\s*macro\s+([A-Za-z_]\w*)"));
    NAME.captures_iter(text)
        .map(|found| found[1].to_string())
        .collect()
}

/// Names of macros and tests, each with the byte where the name stands.
pub(super) fn macro_definitions(text: &str) -> Vec<(String, usize)> {
    static NAME: Pattern = LazyLock::new(|| pattern(r"\{%-?\s*(macro|test)\s+([A-Za-z_]\w*)"));
    let named = |found: Captures<'_>| {
        let prefix = if &found[1] == "test" { "test_" } else { "" };
        (
            format!("{prefix}{}", &found[2]),
            found.get(2).expect("the group is not optional").start(),
        )
    };
    NAME.captures_iter(text).map(named).collect()
}

/// What each macro of a file takes.
pub(super) fn macro_parameters(text: &str) -> Vec<(String, Vec<Parameter>)> {
    static NAME: Pattern = LazyLock::new(|| pattern(r"\{%-?\s*macro\s+([A-Za-z_]\w*)\s*\("));
    let macros = NAME.captures_iter(text).map(|found| {
        let list = &text[found.get(0).expect("the whole always matches").end()..];
        (found[1].to_string(), parameters(list))
    });
    macros.collect()
}

/// `a, b=[1, 2])` up to the closing bracket.
fn parameters(list: &str) -> Vec<Parameter> {
    let (mut depth, mut quote, mut parts) = (0, None, vec![String::new()]);
    for character in list.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')') if depth == 0 => break,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts
            .last_mut()
            .expect("it starts with one")
            .push(character);
    }
    let parameter = |part: &String| {
        let (name, default) = part
            .split_once('=')
            .map_or((part.as_str(), None), |(name, default)| {
                (name, Some(default))
            });
        Parameter {
            name: name.trim().to_string(),
            has_default: default.is_some(),
        }
    };
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .map(parameter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_off_and_remember_their_place() {
        let chunks = Chunks::default();
        let text = "select {{ x }},\n  b -- note\nfrom t";
        let marked = mark(text, &"m.sql".into(), &chunks).expect("it tokenizes");
        let (plain, pieces) = chunks.unmark(&marked);
        assert_eq!(plain, text);
        assert_eq!(pieces.len(), 2);
        assert_eq!(
            &text[pieces[1].start..pieces[1].start + pieces[1].length],
            ",\n  b -- note\nfrom t"
        );
    }

    #[test]
    fn a_macro_says_what_it_takes() {
        let text = "{% macro a(x, y=[1, 2], z='),') %}{% endmacro %}{% macro b() %}{% endmacro %}";
        let found = macro_parameters(text);
        let names: Vec<_> = found[0]
            .1
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter.has_default))
            .collect();
        assert_eq!(names, [("x", false), ("y", true), ("z", true)]);
        assert_eq!(found[1], ("b".to_string(), Vec::new()));
    }

    #[test]
    fn a_test_block_is_a_macro() {
        assert_eq!(
            without_custom_tags("{% test a(m) %}x{% endtest %}"),
            "{% macro test_a(m) %}x{% endmacro %}"
        );
        assert_eq!(
            macro_names("{%- macro a(b) -%}{% endmacro %}{% macro c() %}{% endmacro %}"),
            ["a", "c"]
        );
    }
}
