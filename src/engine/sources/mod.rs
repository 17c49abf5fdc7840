//! Raw files as tables. In: a declared source table or seed ([`SourceFiles`]). Out: its schema, rows and content hash
//! ([`mod@inspect`]), and a table provider that reads the files with exactly that schema ([`mod@provider`]).
//!
//! CSV and JSON lines are read in full once, in bounded memory; what was found is remembered per file. The same row
//! readers serve the inspection and every later query, so a file that passed cannot be read differently afterwards.
//! Whether an empty table or a warning matters is decided by the caller.
//!
//! **Types.** A declared type wins, and every value is checked against it. Otherwise all values of all files decide:
//! `bigint`, `double`, `boolean`, `date`, `timestamp`, else `varchar`. Numbers with leading zeros or a plus sign and whole
//! numbers beyond 64 bits are identifiers, so they stay `varchar`. An empty CSV field is null. A timestamp has microseconds
//! and no zone; one with `Z` or an offset is converted to UTC, one without is taken as UTC. Nested JSON is kept as its text.
//!
//! **Content hash.** BLAKE3 of the uncompressed contents, in path order, for every format. A Parquet footer would be faster
//! to hash, but a changed value leaves it as it was when sizes, minimum and maximum stay the same.

mod builders;
mod cache;
mod csv_rows;
mod declared;
mod files;
mod infer;
mod inspect;
mod json_rows;
mod parquet_files;
mod problems;
mod provider;
mod rows;
mod values;

pub use files::{FileState, TOO_FRESH, states};
pub use inspect::inspect;
pub use problems::{ProblemKind, SourceProblem};
pub use provider::provider;

use datafusion::arrow::datatypes::SchemaRef;
use std::path::PathBuf;

/// A source table or seed as the project declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFiles {
    /// For messages.
    pub name: String,
    /// A file, a folder (read with all its subfolders) or a glob, relative to the project folder or absolute.
    pub location: String,
    /// None: by the extension of the files.
    pub format: Option<Format>,
    pub csv: CsvOptions,
    /// Columns that the project describes; more may be in the files, but each of these must be.
    pub columns: Vec<DeclaredColumn>,
}

impl SourceFiles {
    /// A source with nothing declared but its place.
    pub fn new(name: &str, location: &str) -> Self {
        let (name, location) = (name.to_string(), location.to_string());
        Self {
            name,
            location,
            format: None,
            csv: CsvOptions::default(),
            columns: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredColumn {
    pub name: String,
    /// A SQL type such as `bigint` or `decimal(12, 2)`; none: inferred.
    pub data_type: Option<String>,
}

/// How the rows are written down. `.gz` and `.zst` after the extension mean the compressed form of any text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Csv,
    /// One JSON object per line.
    JsonLines,
    Parquet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// None: a comma, or a tab in `.tsv` files.
    pub delimiter: Option<u8>,
    /// Whether the first row names the columns. Without it the declared columns name them in order, or `column_1`, ...
    pub has_header: bool,
    /// Texts that mean null, besides the empty field.
    pub null_values: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: None,
            has_header: true,
            null_values: Vec::new(),
        }
    }
}

/// What the files of a source hold.
#[derive(Debug, Clone)]
pub struct SourceTable {
    /// All columns are nullable.
    pub schema: SchemaRef,
    /// Columns that are text for want of any value: their type is not known.
    pub guessed: Vec<String>,
    pub rows: u64,
    /// In path order.
    pub files: Vec<SourceFile>,
    /// BLAKE3, hexadecimal.
    pub content_hash: String,
    /// Things that are suspicious but readable, such as a table without rows.
    pub warnings: Vec<SourceProblem>,
    pub(crate) format: Format,
}

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As a person would name it: relative to the project folder where possible.
    pub name: String,
    pub path: PathBuf,
    pub rows: u64,
    /// Of the file as it is, possibly compressed.
    pub bytes: u64,
    /// BLAKE3 of its content, hexadecimal.
    pub hash: String,
    pub(crate) state: FileState,
}
