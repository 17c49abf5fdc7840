//! What was found in a file, remembered until the file changes. In and out: the facts of one file as JSON in the cache
//! folder, under a key made of path, size, times and options. A cache that cannot be read or written only costs time.

use super::declared::ColumnType;
use super::files::{FileState, TOO_FRESH};
use super::infer::Candidates;
use super::{Format, SourceFile, SourceFiles};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// To be raised when the meaning of the facts changes, such as a rule of inference.
const FORMAT: u32 = 1;

/// What the inspection of one file found; only files without problems are remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFacts {
    pub(super) columns: Vec<ColumnFacts>,
    pub(super) rows: u64,
    pub(super) hash: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnFacts {
    pub(super) name: String,
    pub(super) candidates: Candidates,
}

/// The facts of `file`, from the cache or from `inspect`, which gives none where the file has problems.
pub(super) fn remembered(
    folder: &Path,
    source: &SourceFiles,
    format: Format,
    declared: &[(String, Option<ColumnType>)],
    file: &SourceFile,
    inspect: impl FnOnce() -> Option<FileFacts>,
) -> Option<FileFacts> {
    let entry = entry_path(folder, source, format, declared, file);
    if let Some(facts) = entry.as_deref().and_then(load) {
        return Some(facts);
    }
    let facts = inspect()?;
    // The key is taken before and after the reading: a file that changed meanwhile is not remembered.
    let unchanged = entry
        .filter(|entry| entry_path(folder, source, format, declared, file).as_ref() == Some(entry));
    if let Some(entry) = unchanged {
        store(&entry, &facts);
    }
    Some(facts)
}

fn entry_path(
    folder: &Path,
    source: &SourceFiles,
    format: Format,
    declared: &[(String, Option<ColumnType>)],
    file: &SourceFile,
) -> Option<PathBuf> {
    let state = FileState::of(&file.path).ok()?;
    if state.age() < TOO_FRESH {
        return None;
    }
    let identity = (fs::canonicalize(&file.path).ok()?, state);
    let key = format!(
        "{FORMAT} {identity:?} {format:?} {:?} {declared:?}",
        source.csv
    );
    Some(folder.join(format!("{}.json", blake3::hash(key.as_bytes()).to_hex())))
}

fn load(entry: &Path) -> Option<FileFacts> {
    serde_json::from_slice(&fs::read(entry).ok()?).ok()
}

/// Best effort, as the module says; the rename keeps a half-written entry from being read.
fn store(entry: &Path, facts: &FileFacts) {
    let Some(folder) = entry.parent() else { return };
    let temporary = entry.with_extension(format!("{}.tmp", std::process::id()));
    let text = serde_json::to_vec(facts).expect("strings and numbers are JSON");
    let stored = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, entry));
    if stored.is_err() {
        let _ = fs::remove_file(&temporary);
    }
}
