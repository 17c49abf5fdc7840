//! What is published under a name such as `dev` or `prod`. In: a map of relations. Out: versions of it, one of them current.
//! A publish is one rename of one small file; whether all tests passed before it is the caller's business.

use super::error::IoContext;
use super::staging::sync_folder;
use super::{EnvironmentLock, Result, Warehouse, WarehouseError, checked_name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The layout of an environment file. A reader refuses a format it does not know.
const FORMAT: u32 = 1;

impl Warehouse {
    /// What is published now; version 0 without relations if nothing ever was.
    pub fn environment(&self, name: &str) -> Result<Environment> {
        let path = self.environment_path(name)?;
        let published = read_environment(&path)?;
        Ok(published.unwrap_or_else(|| Environment::unpublished(name)))
    }

    /// Names of all environments that were ever published, in order.
    pub fn environments(&self) -> Result<Vec<String>> {
        let folder = self.environments_folder();
        let mut names = Vec::new();
        for path in entries(&folder)? {
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                names.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Makes `next` the current version, all at once. Its `version` is set to the current one plus 1.
    ///
    /// After an error, or a kill at any moment, the environment is either the old or the new version, never a mixture.
    pub fn publish(&self, lock: &EnvironmentLock, next: Environment) -> Result<Environment> {
        if lock.environment() != next.name {
            return Err(WarehouseError::WrongLock {
                locked: lock.environment().to_string(),
                environment: next.name,
            });
        }
        let _no_sweep = self.hold_off_sweep()?;
        self.publish_unswept(next)
    }

    fn publish_unswept(&self, next: Environment) -> Result<Environment> {
        let current = self.environment(&next.name)?;
        let next = Environment {
            version: current.version + 1,
            ..next
        };
        if let Some((relation, fingerprint)) = self.lost_table(&next)? {
            return Err(WarehouseError::Missing {
                relation: relation.to_string(),
                fingerprint: fingerprint.to_string(),
            });
        }
        // The version's own file comes first: one that is newer than the current version was never published and is not read.
        write_atomically(&self.version_path(&next.name, next.version)?, &next)?;
        write_atomically(&self.environment_path(&next.name)?, &next)?;
        Ok(next)
    }

    /// All versions that vacuum has left, oldest first; the last is the current one.
    pub fn history(&self, environment: &str) -> Result<Vec<Environment>> {
        let current = self.environment(environment)?.version;
        let mut versions = Vec::new();
        for path in entries(&self.history_folder(environment)?)? {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let is_version = path
                .extension()
                .is_some_and(|extension| extension == "json");
            if is_version && number.is_some_and(|number| number <= current) {
                versions.extend(read_environment(&path)?);
            }
        }
        versions.sort_unstable_by_key(|version| version.version);
        Ok(versions)
    }

    /// Publishes the relations of an earlier version again, as a new version, at `published_at`.
    pub fn rollback(
        &self,
        lock: &EnvironmentLock,
        to_version: u64,
        published_at: &str,
    ) -> Result<Environment> {
        let _no_sweep = self.hold_off_sweep()?;
        let history = self.history(lock.environment())?;
        let Some(earlier) = history.iter().find(|version| version.version == to_version) else {
            return Err(WarehouseError::NoVersion {
                environment: lock.environment().to_string(),
                version: to_version,
                known: history.iter().map(|version| version.version).collect(),
            });
        };
        if let Some((relation, _)) = self.lost_table(earlier)? {
            return Err(WarehouseError::Vacuumed {
                environment: earlier.name.clone(),
                version: to_version,
                relation: relation.to_string(),
            });
        }
        self.publish_unswept(Environment {
            published_at: published_at.to_string(),
            ..earlier.clone()
        })
    }

    /// A table that the environment names and the warehouse does not have.
    fn lost_table<'a>(&self, environment: &'a Environment) -> Result<Option<(&'a str, &'a str)>> {
        for (relation, fingerprint) in environment.tables() {
            if !self.table_folder(relation, fingerprint)?.is_dir() {
                return Ok(Some((relation, fingerprint)));
            }
        }
        Ok(None)
    }

    fn environment_path(&self, name: &str) -> Result<PathBuf> {
        Ok(self
            .environments_folder()
            .join(format!("{}.json", checked_name("environment", name)?)))
    }

    pub(super) fn history_folder(&self, name: &str) -> Result<PathBuf> {
        Ok(self
            .environments_folder()
            .join(format!("{}.versions", checked_name("environment", name)?)))
    }

    pub(super) fn version_path(&self, name: &str, version: u64) -> Result<PathBuf> {
        Ok(self
            .history_folder(name)?
            .join(format!("{version:08}.json")))
    }
}

/// One version of an environment: which relation is which table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    pub name: String,
    /// 0 before the first publish, then 1, 2, ...
    pub version: u64,
    /// UTC, RFC 3339; the time of the command that published it.
    pub published_at: String,
    pub relations: BTreeMap<String, Relation>,
}

/// What a relation's name stands for in one version of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Relation {
    /// A Delta table of the warehouse.
    Table {
        fingerprint: String,
        rows: u64,
        bytes: u64,
        files: u64,
    },
    /// A query over other relations of the same version.
    View { fingerprint: String, sql: String },
}

impl Environment {
    /// A version to hand to [`Warehouse::publish`], which numbers it.
    pub fn new(name: &str, published_at: &str, relations: BTreeMap<String, Relation>) -> Self {
        let (name, published_at) = (name.to_string(), published_at.to_string());
        Self {
            name,
            version: 0,
            published_at,
            relations,
        }
    }

    fn unpublished(name: &str) -> Self {
        Self::new(name, "", BTreeMap::new())
    }

    /// Relation and fingerprint of every table.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.relations
            .iter()
            .filter_map(|(name, relation)| match relation {
                Relation::Table { fingerprint, .. } => Some((name.as_str(), fingerprint.as_str())),
                Relation::View { .. } => None,
            })
    }
}

impl Relation {
    pub fn fingerprint(&self) -> &str {
        match self {
            Relation::Table { fingerprint, .. } | Relation::View { fingerprint, .. } => fingerprint,
        }
    }
}

fn read_environment(path: &Path) -> Result<Option<Environment>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.context("read", path)?,
    };
    let damaged = |detail: String| WarehouseError::Damaged {
        path: path.to_path_buf(),
        detail,
    };
    check_format(&text).map_err(damaged)?;
    let file: EnvironmentFile =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(file.environment))
}

/// What stands in an environment's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentFile {
    format: u32,
    environment: Environment,
}

/// The format is read first, so that a file of a newer version is not called damaged for its new fields.
fn check_format(text: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    let header: Header = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match header.format {
        FORMAT => Ok(()),
        other => Err(format!(
            "it has format {other}, this program knows format {FORMAT}"
        )),
    }
}

/// Old content or new content, whatever happens in between: a synced temporary file, one rename, a synced folder.
fn write_atomically(path: &Path, environment: &Environment) -> Result<()> {
    let folder = path.parent().expect("an environment file lies in a folder");
    fs::create_dir_all(folder).context("create the folder", folder)?;
    let temporary = path.with_extension("tmp");
    let file = EnvironmentFile {
        format: FORMAT,
        environment: environment.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&file).expect("strings and numbers are JSON");
    text.push(b'\n');
    write_synced(&temporary, &text).context("write", &temporary)?;
    fs::rename(&temporary, path).context("replace", path)?;
    sync_folder(folder)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The paths in a folder; none if there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.context("list", folder)?,
    };
    listing
        .map(|entry| Ok(entry.context("list", folder)?.path()))
        .collect()
}
