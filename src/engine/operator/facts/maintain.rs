//! What a clustered table must remember beside its rows, and the removal of files that nobody needs.
//! In: the table's folder. Out: an open table, without being told its columns again; old files gone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};

use super::columns::{schema_of, stored_columns};
use super::log::{has_commits, load, sync};
use super::{ClusteredFacts, Clustering, PARTITIONS, UNIT_KEY, external};
use crate::warehouse::{IoContext as _, remove_unfinished};
use deltalake::operations::vacuum::VacuumMode;

/// Beside the log; Delta readers leave files alone whose names begin so.
const CLUSTERING: &str = "_clustering.json";

impl ClusteredFacts {
    /// Opens a table that exists.
    pub async fn reopen(folder: &Path) -> Result<ClusteredFacts> {
        let folder = fs::canonicalize(folder)?;
        let clustering = ClusteredFacts::remembered(&folder)?;
        let table = load(&folder).await?;
        let stored = stored_columns(&table)?;
        let is_own = |field: &&Arc<Field>| {
            field.name() != UNIT_KEY && !PARTITIONS.contains(&field.name().as_str())
        };
        let columns: Vec<Arc<Field>> = stored.fields().iter().filter(is_own).cloned().collect();
        let schema = schema_of(&Schema::new(columns), &clustering, Some(&stored))?;
        ClusteredFacts::of(folder, table, schema, clustering)
    }

    /// Whether a folder holds such a table.
    pub fn is_at(folder: &Path) -> bool {
        ClusteredFacts::clustering_path(folder).is_file() && has_commits(folder)
    }

    /// Where a table keeps how its rows are clustered.
    pub fn clustering_path(folder: &Path) -> PathBuf {
        folder.join(CLUSTERING)
    }

    fn remembered(folder: &Path) -> Result<Clustering> {
        let path = ClusteredFacts::clustering_path(folder);
        let unreadable = |error: &dyn std::fmt::Display| {
            DataFusionError::Execution(format!("cannot read {}: {error}", path.display()))
        };
        let text = fs::read(&path).map_err(|error| unreadable(&error))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(&error))
    }

    /// Keeps how rows are clustered, whole or not at all; a table that has rows has its own way.
    pub(super) fn remember(folder: &Path, clustering: &Clustering) -> Result<()> {
        let path = ClusteredFacts::clustering_path(folder);
        if path.is_file() && has_commits(folder) {
            return ClusteredFacts::check_remembered(folder, clustering);
        }
        let text = serde_json::to_vec(clustering).expect("four plain fields are JSON");
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).context("write", &fresh)?;
        sync(&fresh)?;
        fs::rename(&fresh, &path).context("replace", &path)?;
        sync(folder)
    }

    pub(super) fn check_remembered(folder: &Path, clustering: &Clustering) -> Result<()> {
        let own = ClusteredFacts::remembered(folder)?;
        match own == *clustering {
            true => Ok(()),
            false => exec_err!(
                "the table is clustered in another way than asked for: by unit `{}`, time `{}` and id `{}`, in {} buckets",
                own.unit,
                own.time,
                own.id,
                own.buckets
            ),
        }
    }

    /// Removes files that compaction replaced at least so long ago, and files as old that no commit names because their writer was
    /// killed; whoever reads an older version then fails. What was only begun goes whatever its age: there is one writer at a time.
    pub async fn vacuum(&mut self, older_than: chrono::Duration) -> Result<usize> {
        let unfinished = remove_unfinished(&self.folder).context("clear", &self.folder)?;
        let vacuum = self
            .table
            .clone()
            .vacuum()
            .with_mode(VacuumMode::Full)
            .with_retention_period(older_than)
            .with_enforce_retention_duration(false);
        let (table, report) = vacuum.await.map_err(external)?;
        self.table = table;
        Ok(report.files_deleted.len() + unfinished)
    }
}

/// What a writing gives; if it fails, the files that it made are removed, as well as that goes: what stays is removed by a vacuum, and on a
/// full disk would keep it full. To be asked before any commit names a file, by the one writer of the folder.
pub(super) async fn without_leftovers<T>(
    folder: &Path,
    writing: impl Future<Output = Result<T>>,
) -> Result<T> {
    let before = files_in(folder)?;
    writing.await.inspect_err(|_| {
        let _ = remove_files_since(folder, &before);
    })
}

/// Names of the entries of a folder.
fn files_in(folder: &Path) -> std::io::Result<HashSet<OsString>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// Removes the files that came since.
fn remove_files_since(folder: &Path, before: &HashSet<OsString>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !before.contains(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
