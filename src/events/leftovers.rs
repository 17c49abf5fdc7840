//! Files that no commit names: a process was killed, or the disk was full, between the files and their commit.
//! In: a table of events and its folder. Out: the folder without them. Their rows are still in the log, and come in other files.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use deltalake::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use walkdir::{DirEntry, WalkDir};

/// Whoever else works on the table, such as a compaction by another tool, names its files within this time.
pub(super) const AGE: Duration = Duration::from_secs(60 * 60);

/// Removes data files of a certain age that the table neither has nor had; returns how many.
pub(super) async fn remove(delta: &DeltaTable, folder: &Path) -> Result<usize, DeltaTableError> {
    let until = SystemTime::now() - AGE;
    let mut old = Vec::new();
    for entry in WalkDir::new(folder).into_iter().filter_entry(is_data) {
        let entry = entry.map_err(io::Error::from)?;
        if entry.file_type().is_file()
            && entry.metadata().map_err(io::Error::from)?.modified()? < until
        {
            old.push(entry);
        }
    }
    if old.is_empty() {
        return Ok(0);
    }
    let known = known(delta).await?;
    let mut removed = 0;
    for file in old {
        if !known.contains(file.file_name().to_string_lossy().as_ref()) {
            std::fs::remove_file(file.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Names of the files that the table has, or had: whoever reads an older version needs those. They are unique, and written in the log
/// otherwise than on disk are only the folders before them.
async fn known(delta: &DeltaTable) -> Result<HashSet<String>, DeltaTableError> {
    let state = delta.snapshot()?;
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let files = state.log_data();
    let mut known: HashSet<String> = files.iter().map(|file| name(&file.path())).collect();
    let log = delta.log_store();
    let mut removed = state.all_tombstones(log.as_ref());
    while let Some(file) = removed.try_next().await? {
        known.insert(name(&file.path()));
    }
    Ok(known)
}

/// Parquet files, also half written ones, and folders of partitions; not the log, nor what begins like it.
fn is_data(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let is_hidden = name.starts_with(['_', '.']);
    entry.depth() == 0 || (!is_hidden && (entry.file_type().is_dir() || name.contains(".parquet")))
}
