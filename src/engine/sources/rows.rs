//! What the readers of CSV and JSON lines have in common: rows of cells, read in a stream. In: one file and the columns
//! wanted. Out: each row with its place; problems are gathered and reading goes on where the next row can be found.

use super::problems::{Place, Problems};
use super::{CsvOptions, Format, SourceFile, csv_rows, json_rows};

/// One value as the file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// A CSV field, which may be of any type.
    Field(&'a str),
    /// A JSON string.
    Text(&'a str),
    /// Any other JSON value, as it is written.
    Literal(&'a str),
}

impl<'a> Cell<'a> {
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Cell::Null => None,
            Cell::Field(text) | Cell::Text(text) | Cell::Literal(text) => Some(text),
        }
    }
}

/// A row, whose cells stand in the order of the wanted columns, or of those found so far.
pub(super) struct Row<'a> {
    pub(super) cells: &'a [Cell<'a>],
    /// The place of one of the cells. May read the file again, so it is for messages only.
    pub(super) locate: &'a dyn Fn(usize) -> Place,
}

/// What to read of a file.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// None: every column of the file.
    pub(super) columns: Option<&'a [String]>,
    /// Names for a CSV file without a header.
    pub(super) names: &'a [String],
    pub(super) csv: &'a CsvOptions,
}

/// What was in a file.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) columns: Vec<String>,
    pub(super) rows: u64,
    /// BLAKE3 of the uncompressed file.
    pub(super) hash: String,
}

/// Called with the names of the file's columns so far and a row.
pub(super) type Visit<'a> = dyn FnMut(&[String], Row<'_>) -> GoOn + 'a;

/// Whether to go on reading.
pub(super) type GoOn = bool;

/// Calls `visit` for each good row of a CSV or JSON lines file.
pub(super) fn read(
    format: Format,
    file: &SourceFile,
    wanted: Wanted<'_>,
    problems: &mut Problems,
    visit: &mut Visit<'_>,
) -> Contents {
    match format {
        Format::Csv => csv_rows::read(file, wanted, problems, visit),
        Format::JsonLines => json_rows::read(file, wanted, problems, visit),
        Format::Parquet => unreachable!("Parquet files are read by the engine"),
    }
}
