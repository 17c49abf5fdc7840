//! Facts of a project that lie by unit: tables of their own, `<warehouse>/clustered/<name>/`, read in SQL as `clustered.<name>`; and
//! published relations with `cluster_by`.
//! In: queries, names. Out: appends and maintenance, one at a time per table. What clusters means is [`super::operator::facts`]'s.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::error::Result;

use super::Engine;
use super::operator::facts::{Appended, ClusteredFacts, Clustering, Compacted};
use crate::sql;
use crate::warehouse::{
    Environment, IoContext as _, LockError, Warehouse, WarehouseError, query_error,
};

/// The schema under which SQL finds clustered facts.
pub const CLUSTERED: &str = "clustered";

/// Why clustered facts were not written.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("another process is writing `{}`", .0.display())]
    Busy(PathBuf),
    #[error("the rows have no column `{column}`")]
    NoColumn { column: String, known: Vec<String> },
    #[error(transparent)]
    Building(#[from] LockError),
    #[error(transparent)]
    Failed(#[from] WarehouseError),
}

/// A table that lies by unit, and who owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsTable {
    /// As SQL calls it.
    pub name: String,
    pub folder: PathBuf,
    /// Builds make it; otherwise `facts append` does.
    pub is_published: bool,
}

/// How a table lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsShape {
    pub rows: u64,
    pub bytes: u64,
    pub files: usize,
    /// Files of the bucket that has the most: so many are merged where the table is read.
    pub most_runs: usize,
    /// Days since 1970, both inclusive; none of an empty table.
    pub days: Option<(i32, i32)>,
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

/// All tables that lie by unit: relations that an environment publishes, then those of `facts append`.
pub fn facts_tables(
    warehouse: &Warehouse,
    environment: &Environment,
) -> Result<Vec<FactsTable>, FactsError> {
    let mut tables = Vec::new();
    for (name, fingerprint) in environment.tables() {
        let folder = warehouse.table_path(name, fingerprint)?;
        if ClusteredFacts::is_at(&folder) {
            tables.push(FactsTable {
                name: name.to_string(),
                folder,
                is_published: true,
            });
        }
    }
    let own = clustered_facts(warehouse.root());
    let own = own.map_err(|error| query_error(error, warehouse.root()))?;
    tables.extend(own.into_iter().map(|(name, folder)| FactsTable {
        name: format!("{CLUSTERED}.{name}"),
        folder,
        is_published: false,
    }));
    Ok(tables)
}

/// How the table in a folder lies.
pub async fn facts_shape(folder: &Path) -> Result<FactsShape, FactsError> {
    let facts = ClusteredFacts::reopen(folder).await;
    let runs = facts.map_err(|error| query_error(error, folder))?.runs();
    let mut by_bucket: BTreeMap<u16, usize> = BTreeMap::new();
    for run in &runs {
        *by_bucket.entry(run.bucket).or_default() += 1;
    }
    let first = runs.iter().map(|run| run.day).min();
    let last = runs.iter().map(|run| run.through).max();
    Ok(FactsShape {
        rows: runs.iter().map(|run| run.rows).sum(),
        bytes: runs.iter().map(|run| run.size).sum(),
        files: runs.len(),
        most_runs: by_bucket.into_values().max().unwrap_or_default(),
        days: first.zip(last),
    })
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
        let failed = |error| query_error(error, folder);
        let rows = self.sorting_at_once().sql(query).await;
        let rows = rows.map_err(failed)?;
        let schema: Schema = rows.schema().as_arrow().clone();
        let required = [&clustering.unit, &clustering.time, &clustering.id];
        if let Some(column) = required
            .into_iter()
            .find(|column| schema.index_of(column).is_err())
        {
            let known = schema.fields().iter().map(|field| field.name().clone());
            return Err(FactsError::NoColumn {
                column: column.clone(),
                known: known.collect(),
            });
        }
        let _lock = lock(folder)?;
        let append = async {
            let mut facts = ClusteredFacts::open(folder, &schema, clustering).await?;
            facts.append(&self.context, rows).await
        };
        append.await.map_err(|error| failed(error).into())
    }

    /// Merges runs where a bucket has more than `most_runs`, and removes files replaced longer ago than `keep`. The rows stay the same, so a
    /// published relation stays the one that it was.
    pub async fn optimize(
        &self,
        warehouse: &Warehouse,
        environment: &str,
        table: &FactsTable,
        most_runs: usize,
        keep: chrono::Duration,
    ) -> Result<Optimized, FactsError> {
        let folder = &table.folder;
        let failed = |error| query_error(error, folder);
        let _lock = match table.is_published {
            true => lock_published(folder)?,
            false => lock(folder)?,
        };
        let building = match table.is_published {
            true => Some(warehouse.lock(environment)?),
            false => None,
        };
        let mut facts = ClusteredFacts::reopen(folder).await.map_err(failed)?;
        let compacted = facts.compact(&self.sorting(), most_runs).await;
        let compacted = compacted.map_err(failed)?;
        drop(building);
        // Somebody may be reading the table, or another environment growing from it.
        let removal = warehouse.begin_removal()?;
        let keep = removal.running_for.map_or(keep, |since| since.max(keep));
        Ok(Optimized {
            compacted,
            files_removed: facts.vacuum(keep).await.map_err(failed)?,
        })
    }
}

/// One writer at a time: an append looks up what is stored before it writes. The operating system releases the lock.
fn lock(folder: &Path) -> Result<File, FactsError> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).context("create the folder", parent)?;
    }
    let path = folder.with_extension("lock");
    let file = File::create(&path).context("lock", &path)?;
    exclusive(file, folder)
}

/// The same of a table that builds make, by a file of its own: several environments may publish it, and beside it lie tables only.
fn lock_published(folder: &Path) -> Result<File, FactsError> {
    let path = ClusteredFacts::clustering_path(folder);
    let file = File::open(&path).context("lock", &path)?;
    exclusive(file, folder)
}

fn exclusive(file: File, folder: &Path) -> Result<File, FactsError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FactsError::Busy(folder.to_path_buf())),
        Err(TryLockError::Error(error)) => Ok(Err(error).context("lock", folder)?),
    }
}
