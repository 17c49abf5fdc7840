//! From a place in rendered SQL back to the file the user wrote.

use std::sync::Arc;

use crate::diagnostics::Span;
use crate::project::SqlFile;

/// A piece of template text that was copied into the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Byte offset in the rendered SQL.
    pub output: usize,
    pub file: Arc<str>,
    pub text: Arc<str>,
    /// Byte offset and length in the file.
    pub start: usize,
    pub length: usize,
}

/// Knows for each byte of the rendered SQL which text of which file it came from.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    file: Option<SqlFile>,
    pieces: Vec<Piece>,
}

impl SourceMap {
    pub(super) fn new(file: SqlFile, pieces: Vec<Piece>) -> Self {
        Self {
            file: Some(file),
            pieces,
        }
    }

    /// The place in the user's file of the rendered bytes `start..end`. Text that an expression made is at the tag that
    /// made it; `word` is the offending text, used to find the place when the map does not know.
    pub fn span(&self, start: usize, end: usize, word: &str) -> Option<Span> {
        let file = self.file.as_ref()?;
        let at = self.pieces.partition_point(|piece| piece.output <= start);
        let Some(piece) = at.checked_sub(1).map(|at| &self.pieces[at]) else {
            return Some(by_word(file, word));
        };
        let inside = start - piece.output;
        if inside < piece.length {
            let from = piece.start + inside;
            let to = (from + end.saturating_sub(start)).min(piece.start + piece.length);
            return Some(Span::of_bytes(piece.file.clone(), &piece.text, from, to));
        }
        let tag = piece.start + piece.length;
        let tag = tag + piece.text[tag..].len() - piece.text[tag..].trim_start().len();
        let close = piece.text[tag..]
            .find(['}', '\n'])
            .map_or(piece.text.len(), |at| tag + at + 2);
        Some(Span::of_bytes(
            piece.file.clone(),
            &piece.text,
            tag,
            close.min(piece.text.len()),
        ))
    }

    /// The whole template, for findings that are about all of it.
    pub fn whole(&self) -> Option<Span> {
        self.file.as_ref().map(|file| Span::file(file.path.clone()))
    }
}

fn by_word(file: &SqlFile, word: &str) -> Span {
    match file.text.find(word).filter(|_| !word.is_empty()) {
        Some(start) => Span::of_bytes(file.path.clone(), &file.text, start, start + word.len()),
        None => Span::file(file.path.clone()),
    }
}
