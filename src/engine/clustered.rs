//! Clustered facts of a project, by name: `<warehouse>/clustered/<name>/`, read in SQL as `clustered.<name>`.
//! In: queries, names. Out: appends and maintenance, one at a time per table. What clusters means is [`super::operator::facts`]'s.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::error::Result;

use super::Engine;
use super::operator::facts::{Appended, ClusteredFacts, Clustering, Compacted};
use crate::sql;
use crate::warehouse::{WarehouseError, query_error};

/// The schema under which SQL finds clustered facts.
pub const CLUSTERED: &str = "clustered";

/// Why clustered facts were not written.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("another process is writing `{}`", .0.display())]
    Busy(PathBuf),
    #[error(transparent)]
    Failed(#[from] WarehouseError),
}

/// What maintenance has done to one table.
#[derive(Clone, Copy, Debug)]
pub struct Optimized {
    pub compacted: Compacted,
    pub files_removed: usize,
}

/// Names and folders of the clustered facts below a warehouse.
pub fn clustered_facts(warehouse: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = warehouse.join(CLUSTERED);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if ClusteredFacts::is_at(&entry.path()) {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
    }
    found.sort();
    Ok(found)
}

impl Engine {
    /// Makes clustered facts readable as `clustered.<name>`.
    pub async fn add_clustered(&self, name: &str, folder: &Path) -> Result<()> {
        let facts = ClusteredFacts::reopen(folder).await?;
        let relation = format!("{CLUSTERED}.{name}");
        sql::register(&self.context, &relation, Arc::new(facts.provider()?))
    }

    /// Stores the rows of a query that are not stored yet; the first append makes the table.
    pub async fn append_clustered(
        &self,
        folder: &Path,
        query: &str,
        clustering: Clustering,
    ) -> Result<Appended, FactsError> {
        let _lock = lock(folder)?;
        let append = async {
            let rows = self.context.sql(query).await?;
            let schema: Schema = rows.schema().as_arrow().clone();
            let mut facts = ClusteredFacts::open(folder, &schema, clustering).await?;
            facts.append(&self.context, rows).await
        };
        append
            .await
            .map_err(|error| query_error(error, folder).into())
    }

    /// Merges runs where a bucket has more than `most_runs`, and removes files replaced longer ago than `keep`.
    pub async fn optimize_clustered(
        &self,
        folder: &Path,
        most_runs: usize,
        keep: chrono::Duration,
    ) -> Result<Optimized, FactsError> {
        let _lock = lock(folder)?;
        let optimize = async {
            let mut facts = ClusteredFacts::reopen(folder).await?;
            Ok(Optimized {
                compacted: facts.compact(&self.context, most_runs).await?,
                files_removed: facts.vacuum(keep).await?,
            })
        };
        optimize
            .await
            .map_err(|error| query_error(error, folder).into())
    }
}

/// One writer at a time: an append looks up what is stored before it writes. The operating system releases the lock.
fn lock(folder: &Path) -> Result<File, FactsError> {
    let failed = |error: std::io::Error| query_error(error.into(), folder);
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let file = File::create(folder.with_extension("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FactsError::Busy(folder.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(failed(error).into()),
    }
}
