//! What can go wrong in the warehouse, in words for a person. In: errors of the disk, Delta Lake and the engine.
//! Out: a [`WarehouseError`] that tells a full disk, a damaged file, a value that cannot be stored and a failed query apart.

use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// Nothing was published and nothing published was touched: free some space and run again.
    #[error("the disk is full: no space left to write `{}`", path.display())]
    DiskFull { path: PathBuf },

    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// Columns whose name or type Delta Lake cannot hold.
    #[error("{}", join(.0))]
    Columns(Vec<ColumnProblem>),

    #[error("a value of column `{column}` cannot be stored as {data_type}: {detail}")]
    Value {
        column: String,
        data_type: String,
        detail: String,
    },

    #[error(
        "`{name}` cannot be the name of a {what} in the warehouse: only letters, digits, `_`, `-` and `.` can be used"
    )]
    Name { what: &'static str, name: String },

    #[error(
        "Delta Lake cannot keep tables in `{}`, {detail}: rename it, or set `warehouse` of the target to another folder", path.display()
    )]
    Folder { path: PathBuf, detail: &'static str },

    #[error("the warehouse has no table `{relation}` with fingerprint {fingerprint}")]
    Missing {
        relation: String,
        fingerprint: String,
    },

    #[error("`{}` is damaged: {detail}", path.display())]
    Damaged { path: PathBuf, detail: String },

    /// Only whoever reads the relation hears of it.
    #[error("`{relation}` cannot be read: {detail}")]
    Unreadable {
        relation: String,
        /// The folder of its table.
        path: PathBuf,
        detail: String,
    },

    #[error("environment `{environment}` has no version {version}{}", known_versions(.known))]
    NoVersion {
        environment: String,
        version: u64,
        known: Vec<u64>,
    },

    #[error(
        "version {version} of environment `{environment}` cannot come back: its table `{relation}` was vacuumed"
    )]
    Vacuumed {
        environment: String,
        version: u64,
        relation: String,
    },

    #[error("the lock is for environment `{locked}`, not for `{environment}`")]
    WrongLock { locked: String, environment: String },

    /// The query that feeds the table failed; nothing is wrong with the warehouse.
    #[error("{0}")]
    Query(DataFusionError),

    #[error("Delta Lake cannot use `{}`: {detail}", path.display())]
    Delta { path: PathBuf, detail: String },
}

/// A column of a query that cannot become a column of a Delta table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnProblem {
    pub column: String,
    pub message: String,
    pub hint: String,
}

impl fmt::Display for ColumnProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message, self.hint)
    }
}

fn join(problems: &[ColumnProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn known_versions(known: &[u64]) -> String {
    match (known.first(), known.last()) {
        (Some(first), Some(last)) => format!("; known: {first} to {last}"),
        _ => "; it was never published".to_string(),
    }
}

/// Turns an I/O error into a [`WarehouseError`] that says what was done to which path.
pub trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, WarehouseError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, WarehouseError> {
        self.map_err(|source| match is_disk_full(&source) {
            true => WarehouseError::DiskFull {
                path: path.to_path_buf(),
            },
            false => WarehouseError::Io {
                action,
                path: path.to_path_buf(),
                source,
            },
        })
    }
}

/// An error of Delta Lake or Parquet while `path` was written or read.
pub(super) fn delta_error(error: &(dyn Error + 'static), path: &Path) -> WarehouseError {
    let path = path.to_path_buf();
    match is_disk_full(error) {
        true => WarehouseError::DiskFull { path },
        false => WarehouseError::Delta {
            path,
            detail: without_frames(&error.to_string()),
        },
    }
}

/// What an error says, without the stack that the Delta kernel appends to some.
fn without_frames(text: &str) -> String {
    let is_frame = |line: &&str| {
        let number = line.trim_start().split_once(": ");
        number.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let said: Vec<&str> = text.lines().take_while(|line| !is_frame(line)).collect();
    said.join("\n").trim_end().to_owned()
}

/// An error of the stream that feeds a table. A spill file that fills the disk is a full disk, too.
pub fn query_error(error: DataFusionError, path: &Path) -> WarehouseError {
    match is_disk_full(&error) {
        true => WarehouseError::DiskFull {
            path: path.to_path_buf(),
        },
        false => own_error(error, path),
    }
}

/// What went wrong with a table, where the engine only passed it on; else the query's own error.
fn own_error(error: DataFusionError, path: &Path) -> WarehouseError {
    let DataFusionError::External(error) = error else {
        return WarehouseError::Query(error);
    };
    let error = match error.downcast::<WarehouseError>() {
        Ok(own) => return *own,
        Err(other) => other,
    };
    match error.downcast::<DeltaTableError>() {
        Ok(of_delta) => delta_error(of_delta.as_ref(), path),
        Err(other) => WarehouseError::Query(DataFusionError::External(other)),
    }
}

/// For what works on tables in the middle of a query; [`query_error`] is the way back.
impl From<WarehouseError> for DataFusionError {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Query(error) => error,
            own => DataFusionError::External(Box::new(own)),
        }
    }
}

/// Whether an error comes of a full disk.
// Looks through the whole chain: object_store, Parquet and Delta each wrap the I/O error of the layer below.
// Some layers keep only its text, so the operating system's words are looked for as well.
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let is_said_full = matches!(
            error.downcast_ref::<WarehouseError>(),
            Some(WarehouseError::DiskFull { .. })
        );
        if is_said_full
            || matches!(
                kind,
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            )
        {
            return true;
        }
        link = error.source();
    }
    let words = error.to_string();
    words.contains("No space left on device") || words.contains("Disk quota exceeded")
}
