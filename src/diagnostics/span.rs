//! Places in files the user wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in a file: 1-based line and column (in characters), and how many characters it covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Path relative to the project's root, with forward slashes.
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

impl Span {
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32, length: u32) -> Self {
        Self {
            file: file.into(),
            line,
            column,
            length,
        }
    }

    /// The start of a file, for findings that are about all of it.
    pub fn file(file: impl Into<Arc<str>>) -> Self {
        Self::new(file, 1, 1, 0)
    }

    /// The place of `text[start..end]`; `end` is cut at the end of the first line.
    pub fn of_bytes(file: impl Into<Arc<str>>, text: &str, start: usize, end: usize) -> Self {
        let start = floor_char_boundary(text, start);
        let before = &text[..start];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() as u32 + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = text[line_start..start].chars().count() as u32 + 1;
        let end = floor_char_boundary(text, end.max(start));
        let covered = text[start..end].split('\n').next().unwrap_or("").trim_end();
        Self::new(file, line, column, covered.chars().count() as u32)
    }

    /// The bytes of `text` that this place covers, empty when the text is shorter than that.
    pub fn byte_range(&self, text: &str) -> std::ops::Range<usize> {
        let line_start = line_start(text, self.line);
        let line = text[line_start..].split('\n').next().unwrap_or("");
        let offset = |column: u32| {
            let at = line
                .char_indices()
                .nth(column as usize)
                .map_or(line.len(), |(at, _)| at);
            line_start + at
        };
        let start = offset(self.column.saturating_sub(1));
        start..offset(self.column.saturating_sub(1) + self.length).max(start)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

fn line_start(text: &str, line: u32) -> usize {
    let mut lines = 1;
    for (at, byte) in text.bytes().enumerate() {
        if lines == line {
            return at;
        }
        lines += u32::from(byte == b'\n');
    }
    text.len()
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The texts of the files that spans point into.
pub trait SourceText {
    fn text(&self, file: &str) -> Option<&str>;
}

impl SourceText for BTreeMap<Arc<str>, Arc<str>> {
    fn text(&self, file: &str) -> Option<&str> {
        self.get(file).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_columns_agree_beyond_ascii() {
        let text = "a: é\nbß: 'x y'\n";
        let start = text.find('\'').expect("the quote is there");
        let span = Span::of_bytes("f.yml", text, start, start + 5);
        assert_eq!((span.line, span.column, span.length), (2, 5, 5));
        assert_eq!(&text[span.byte_range(text)], "'x y'");
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        assert_eq!(Span::new("f", 9, 9, 9).byte_range("one\ntwo"), 7..7);
    }
}
