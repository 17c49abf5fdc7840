//! What is wrong with a source, for the caller to show as diagnostics. In: findings of the row readers.
//! Out: [`SourceProblem`]s, at most one for each kind and column of a file, with the number of further rows like it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One thing that is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    pub kind: ProblemKind,
    /// The file's name, or the declared location where no file was found.
    pub file: String,
    /// Counted from 1; none where the whole file is meant.
    pub line: Option<u32>,
    /// The first character of the value in its line, counted from 1.
    pub column: Option<u32>,
    /// Characters of the value.
    pub length: Option<u32>,
    pub message: String,
    pub hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// No such file or folder, or nothing in it.
    Missing,
    /// The file cannot be read.
    Unreadable,
    /// The format is unknown, or the content is of another.
    Format,
    /// A file without a header.
    Empty,
    /// A table without rows: a warning.
    NoRows,
    /// An empty or repeated column name.
    Header,
    /// A row with more or fewer values than columns.
    Ragged,
    /// A quote that is not closed, or text after one.
    Quote,
    /// Bytes that are not UTF-8.
    Encoding,
    /// A line that is not a JSON object.
    Json,
    /// A value that does not fit the declared type.
    Value,
    /// NaN or infinity in a column of numbers.
    NonFinite,
    /// A declared type that does not exist.
    DeclaredType,
    /// A declared column that the files do not have.
    DeclaredColumn,
    /// Files of one source with different columns.
    Mismatch,
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(formatter, ":{number}")?;
        }
        write!(formatter, ": {} ({})", self.message, self.hint)
    }
}

impl SourceProblem {
    /// About a whole file.
    pub(super) fn new(
        kind: ProblemKind,
        file: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (file, message, hint) = (file.to_string(), message.into(), hint.into());
        Self {
            kind,
            file,
            line: None,
            column: None,
            length: None,
            message,
            hint,
        }
    }

    pub(super) fn at(self, place: Place) -> Self {
        Self {
            line: Some(place.line),
            column: place.column,
            length: place.length,
            ..self
        }
    }

    /// Says how many rows beside the one in the message have the same problem.
    pub(super) fn and_more(self, rows: u64) -> Self {
        let message = match rows {
            0 => self.message,
            1 => format!("{}, and so in 1 more row", self.message),
            rows => format!("{}, and so in {rows} more rows", self.message),
        };
        Self { message, ..self }
    }
}

/// Where a value stands in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub line: u32,
    pub column: Option<u32>,
    pub length: Option<u32>,
}

impl Place {
    /// A whole line.
    pub(super) fn line(line: u32) -> Self {
        Self {
            line,
            column: None,
            length: None,
        }
    }
}

/// Gathers the problems of one file: the first of each kind and column in full, the others as a count.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: BTreeMap<(ProblemKind, usize), (SourceProblem, u64)>,
}

impl Problems {
    /// `make` is only called for the first problem of its kind in the column.
    pub(super) fn add(
        &mut self,
        kind: ProblemKind,
        column: usize,
        make: impl FnOnce() -> SourceProblem,
    ) {
        self.found
            .entry((kind, column))
            .and_modify(|(_, more)| *more += 1)
            .or_insert_with(|| (make(), 0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<SourceProblem> {
        let mut list: Vec<_> = self
            .found
            .into_values()
            .map(|(problem, more)| problem.and_more(more))
            .collect();
        list.sort_by_key(|problem| (problem.line, problem.column));
        list
    }
}
