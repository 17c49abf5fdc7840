//! Removes what nobody needs any more. In: which versions of each environment to keep. Out: a report of what went.
//! Tables that a kept version names stay, and so do tables that a build which is running now may have found or made.

use super::environment::entries;
use super::error::IoContext;
use super::lock::open_lock_file;
use super::{Environment, Result, Warehouse};
use std::collections::HashSet;
use std::fs::{self, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

impl Warehouse {
    /// Forgets old versions, then removes tables that no version of any environment names, and remains of builds that died.
    ///
    /// The current version of an environment is always kept. Safe at any time: builds wait for moments at most, and a
    /// table that was made or found since the oldest running build or reader took its lock stays until a later vacuum.
    pub async fn vacuum(&self, keep: Keep) -> Result<VacuumReport> {
        let mut report = VacuumReport::default();
        let doomed = {
            let _sweep = self.begin_sweep()?;
            self.forget_dead_readers()?;
            let needed = self.forget_versions(keep, &mut report)?;
            let mut doomed = self.sweep_tables(&needed, &mut report)?;
            doomed.extend(self.abandoned_staging(&mut report)?);
            doomed
        };
        // Already out of everybody's sight; removing many files takes longer than builds should wait.
        for path in doomed {
            report.bytes += remove(&path)?;
        }
        Ok(report)
    }

    /// Relation and fingerprint of every table that a kept version names.
    fn forget_versions(
        &self,
        keep: Keep,
        report: &mut VacuumReport,
    ) -> Result<HashSet<(String, String)>> {
        let mut needed = HashSet::new();
        for name in self.environments()? {
            let history = self.history(&name)?;
            let current = self.environment(&name)?;
            for (age, version) in history.iter().rev().enumerate() {
                if version.version == current.version || keep.keeps(age, version) {
                    needed.extend(owned_tables(version));
                } else {
                    let path = self.version_path(&name, version.version)?;
                    fs::remove_file(&path).context("remove", &path)?;
                    report.versions += 1;
                }
            }
            needed.extend(owned_tables(&current));
        }
        Ok(needed)
    }

    /// Moves unneeded tables into the staging folder, where nobody looks for tables.
    fn sweep_tables(
        &self,
        needed: &HashSet<(String, String)>,
        report: &mut VacuumReport,
    ) -> Result<Vec<PathBuf>> {
        let oldest = self.oldest_running()?;
        let mut doomed = Vec::new();
        for relation in entries(&self.root().join("relations"))? {
            for table in entries(&relation)? {
                let key = (file_name(&relation), file_name(&table));
                if needed.contains(&key) || is_used_since(&table, oldest)? {
                    continue;
                }
                let grave = self
                    .staging_folder()
                    .join(Uuid::now_v7().simple().to_string());
                fs::rename(&table, &grave).context("move", &table)?;
                report.tables += 1;
                doomed.push(grave);
            }
        }
        Ok(doomed)
    }

    /// Staging folders whose writer is gone, and their lock files.
    fn abandoned_staging(&self, report: &mut VacuumReport) -> Result<Vec<PathBuf>> {
        let mut doomed = Vec::new();
        for path in entries(&self.staging_folder())? {
            let is_lock = path
                .extension()
                .is_some_and(|extension| extension == "lock");
            if !is_abandoned(&path.with_extension("lock"))? {
                continue;
            }
            report.unfinished += u64::from(is_lock);
            doomed.push(path);
        }
        Ok(doomed)
    }
}

/// Which versions of each environment stay, besides the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many, the current one included.
    Versions(usize),
    /// Those published at or after this time: RFC 3339 in UTC, as seconds since 1970.
    PublishedSince(i64),
}

impl Keep {
    /// The versions of the last `age`, seen from `now` (seconds since 1970).
    pub fn age(age: Duration, now: i64) -> Self {
        Keep::PublishedSince(now.saturating_sub_unsigned(age.as_secs()))
    }

    /// A time of publishing that cannot be read keeps its version.
    fn keeps(self, age: usize, version: &Environment) -> bool {
        match self {
            Keep::Versions(count) => age < count,
            Keep::PublishedSince(since) => {
                chrono::DateTime::parse_from_rfc3339(&version.published_at)
                    .map_or(true, |published| published.timestamp() >= since)
            }
        }
    }
}

/// What [`Warehouse::vacuum`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VacuumReport {
    pub versions: u64,
    pub tables: u64,
    /// Tables that a build did not finish before it died.
    pub unfinished: u64,
    pub bytes: u64,
}

fn owned_tables(environment: &Environment) -> impl Iterator<Item = (String, String)> {
    environment
        .tables()
        .map(|(relation, fingerprint)| (relation.to_string(), fingerprint.to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn is_used_since(table: &Path, oldest: Option<SystemTime>) -> Result<bool> {
    let Some(oldest) = oldest else {
        return Ok(false);
    };
    let used = table
        .metadata()
        .and_then(|metadata| metadata.modified())
        .context("read", table)?;
    Ok(used >= oldest)
}

/// Nobody holds the lock file, or there is none.
fn is_abandoned(lock_path: &Path) -> Result<bool> {
    if !lock_path.exists() {
        return Ok(true);
    }
    match open_lock_file(lock_path)?.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("lock", lock_path),
    }
}

/// Removes a file or a folder; another vacuum may have done so already. Gives the bytes that became free.
fn remove(path: &Path) -> Result<u64> {
    let bytes = walkdir::WalkDir::new(path)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum();
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(bytes),
        removed => removed.context("remove", path).map(|()| bytes),
    }
}
