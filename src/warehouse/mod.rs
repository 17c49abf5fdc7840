//! Keeps what models produce: Delta Lake tables under their fingerprint, and environments that say which of them is published.
//! In: record batch streams, environment maps. Out: table providers, environments, histories.
//! What a fingerprint means and when an environment may be published is decided by the caller.
//!
//! ```text
//! <root>/relations/<relation>/<fingerprint>/   one Delta table, complete or absent; its rows never change
//! <root>/environments/<name>.json              the published version: relation -> table or view
//! <root>/environments/<name>.lock              held by the one build of that environment
//! <root>/environments/<name>.versions/         every version since the last vacuum
//! <root>/readers/                              locks of those who are reading a published version
//! <root>/staging/                              tables under construction
//! <root>/sweep.lock                            held for moments, so that vacuum and builds see each other
//! ```
//!
//! A table is written in `staging`, synced to disk and renamed to its place in one step. So a folder under `relations` is
//! always a complete table, whatever killed its writer, and two builds that write the same fingerprint agree on the first.
//! A table that grows is a new one under a new fingerprint; it shares files with the one before by hard links. Facts that lie by unit may be laid
//! out anew where they are, by a commit of Delta's that replaces files and no row.

mod disk;
mod environment;
mod error;
mod grow;
mod lock;
mod staging;
mod table;
mod types;
mod vacuum;

pub use disk::{FirstFailure, remove_unfinished};
pub use environment::{Environment, Relation};
pub use error::{ColumnProblem, IoContext, WarehouseError, is_disk_full, query_error};
pub use grow::{Replaced, StagedRows, Unfinished};
pub use lock::{EnvironmentLock, LockError, Pin, Removal};
pub use table::{TableSummary, entry_of, first_commit};
pub use types::stored_schema;
pub use vacuum::{Keep, VacuumReport};

use std::fs;
use std::path::{Path, PathBuf};

/// Whatever can fail in the warehouse fails with a [`WarehouseError`].
pub type Result<T, E = WarehouseError> = std::result::Result<T, E>;

/// A folder of tables and environments. Cheap to clone; any number of processes may have it open.
#[derive(Debug, Clone)]
pub struct Warehouse {
    root: PathBuf,
}

impl Warehouse {
    /// Opens the warehouse at `root` and makes its folders if they do not exist.
    pub fn open(root: &Path) -> Result<Warehouse> {
        let absolute = std::path::absolute(root).context("find the folder", root)?;
        checked_folder(&absolute)?;
        for folder in ["relations", "environments", "staging"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).context("create the folder", &folder)?;
        }
        let root = fs::canonicalize(root).context("open the folder", root)?;
        checked_folder(&root)?;
        Ok(Warehouse { root })
    }

    /// The folder the warehouse lives in, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn relation_folder(&self, relation: &str) -> Result<PathBuf> {
        Ok(self
            .root
            .join("relations")
            .join(checked_name("relation", relation)?))
    }

    fn table_folder(&self, relation: &str, fingerprint: &str) -> Result<PathBuf> {
        Ok(self
            .relation_folder(relation)?
            .join(checked_name("fingerprint", fingerprint)?))
    }

    fn staging_folder(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn environments_folder(&self) -> PathBuf {
        self.root.join("environments")
    }
}

/// Delta Lake's kernel (deltalake 1.1) decodes the URL of a folder once more than it encodes it: `a%20b` would be looked for as `a b`.
fn checked_folder(root: &Path) -> Result<()> {
    let detail = match root.to_str() {
        None => "whose name is not UTF-8",
        Some(path) if is_escaped(path) => "whose name has a `%` as URLs have (`%20`)",
        Some(_) => return Ok(()),
    };
    Err(WarehouseError::Folder {
        path: root.to_path_buf(),
        detail,
    })
}

/// Whether decoding would change it: `100%` stays what it is.
fn is_escaped(path: &str) -> bool {
    path.as_bytes().windows(3).any(|three| {
        three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit()
    })
}

/// A name becomes a folder, so it may hold only what every file system takes for itself.
fn checked_name<'a>(what: &'static str, name: &'a str) -> Result<&'a str> {
    let is_plain =
        |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    let is_good = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && name.chars().all(is_plain);
    match is_good {
        true => Ok(name),
        false => Err(WarehouseError::Name {
            what,
            name: name.to_string(),
        }),
    }
}
