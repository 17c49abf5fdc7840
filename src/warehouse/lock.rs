//! Lets one build at a time change an environment, and readers keep what they read. In: an environment's name. Out: an
//! [`EnvironmentLock`], or who holds it; a [`Pin`].
//! The operating system releases the lock when its holder ends, however it ends, so a lock file is never stale.

use super::environment::entries;
use super::error::IoContext;
use super::table::mark_as_used;
use super::{Environment, Result, Warehouse, WarehouseError, checked_name};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

impl Warehouse {
    /// Takes the exclusive right to publish `environment`, until the returned lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`LockError::Held`] at once, without waiting, when another build has it.
    pub fn lock(&self, environment: &str) -> Result<EnvironmentLock, LockError> {
        let path = self.lock_path(environment)?;
        // Vacuum probes the locks of all environments; without this a build could meet the probe and believe it is a build.
        let _no_sweep = self.hold_off_sweep()?;
        let mut file = open_lock_file(&path)?;
        match file.try_lock() {
            Ok(()) => {
                write_holder(&mut file, &path)?;
                Ok(EnvironmentLock {
                    environment: environment.to_string(),
                    file,
                })
            }
            Err(TryLockError::WouldBlock) => Err(held(environment, &path)),
            Err(TryLockError::Error(source)) => Err(WarehouseError::Io {
                action: "lock",
                path,
                source,
            }
            .into()),
        }
    }

    /// What is published, and a pin on it: while it is held, vacuum leaves the tables of this version where they are, whatever is
    /// published meanwhile. Where nothing can be written, as on a full disk, there is no pin, and a vacuum does not know of this reader.
    pub fn pin(&self, environment: &str) -> Result<(Environment, Option<Pin>)> {
        // All at once in vacuum's eyes: the pin is there before the tables are named, and they are marked before it looks.
        let _no_sweep = self.hold_off_sweep()?;
        let pin = self.new_pin();
        let published = self.environment(environment)?;
        for (relation, fingerprint) in published.tables() {
            let folder = self.table_folder(relation, fingerprint)?;
            if folder.is_dir() {
                mark_as_used(&folder)?;
            }
        }
        Ok((published, pin.ok()))
    }

    fn new_pin(&self) -> io::Result<Pin> {
        let folder = self.readers_folder();
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.lock", Uuid::now_v7().simple()));
        let file = open_to_write(&path)?;
        file.lock()?;
        Ok(Pin { path, file })
    }

    fn readers_folder(&self) -> PathBuf {
        self.root.join("readers")
    }

    /// Removes what readers that were killed have left. Only while no reader can begin.
    pub(super) fn forget_dead_readers(&self) -> Result<()> {
        for path in entries(&self.readers_folder())? {
            if running_since(&path)?.is_some() {
                continue;
            }
            match fs::remove_file(&path) {
                // A reader that ends removes its own.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.context("remove", &path)?,
            }
        }
        Ok(())
    }

    fn lock_path(&self, environment: &str) -> Result<PathBuf> {
        let name = checked_name("environment", environment)?;
        Ok(self.environments_folder().join(format!("{name}.lock")))
    }

    /// When the oldest build or reader that is running now took its lock.
    pub(super) fn oldest_running(&self) -> Result<Option<SystemTime>> {
        let builds = entries(&self.environments_folder())?;
        let readers = entries(&self.readers_folder())?;
        let mut oldest = None;
        for path in builds.into_iter().chain(readers) {
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                oldest = oldest.into_iter().chain(running_since(&path)?).min();
            }
        }
        Ok(oldest)
    }

    /// Held, shared, by a build for the moment in which it looks a table up or puts one in its place.
    pub(super) fn hold_off_sweep(&self) -> Result<File> {
        let (file, path) = self.sweep_lock()?;
        file.lock_shared().context("lock", &path)?;
        Ok(file)
    }

    /// Held, exclusive, by vacuum while it decides what nobody needs and moves it away.
    pub(super) fn begin_sweep(&self) -> Result<File> {
        let (file, path) = self.sweep_lock()?;
        file.lock().context("lock", &path)?;
        Ok(file)
    }

    /// Keeps builds and readers from beginning while files are removed that only those who run already may need.
    pub fn begin_removal(&self) -> Result<Removal> {
        let sweep = self.begin_sweep()?;
        let oldest = self.oldest_running()?;
        // Files tell their times by the second, or coarser.
        let age = |since: SystemTime| since.elapsed().unwrap_or_default() + Duration::from_secs(2);
        let age = |since| chrono::Duration::from_std(age(since));
        Ok(Removal {
            _sweep: sweep,
            running_for: oldest.map(|since| age(since).unwrap_or(chrono::Duration::MAX)),
        })
    }

    fn sweep_lock(&self) -> Result<(File, PathBuf)> {
        let path = self.root.join("sweep.lock");
        Ok((open_shared_lock_file(&path)?, path))
    }
}

/// While it lives no build and no reader begins.
#[derive(Debug)]
pub struct Removal {
    _sweep: File,
    /// For how long the oldest build or reader has been running, if there is one.
    pub running_for: Option<chrono::Duration>,
}

/// The exclusive right to publish one environment.
#[derive(Debug)]
pub struct EnvironmentLock {
    environment: String,
    file: File,
}

impl Drop for EnvironmentLock {
    /// Let go now and not when the last copy of the file closes: between fork and exec a child that this process starts holds
    /// such a copy.
    fn drop(&mut self) {
        // The close that follows lets go too.
        let _ = self.file.unlock();
    }
}

impl EnvironmentLock {
    /// The name of the environment that is locked.
    pub fn environment(&self) -> &str {
        &self.environment
    }
}

/// What keeps a published version readable.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    file: File,
}

impl Drop for Pin {
    /// Best effort: what stays behind is removed by vacuum, because nobody holds it any more.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("environment `{environment}` is being built by another process{}", words_for(.holder))]
    Held {
        environment: String,
        holder: Option<Holder>,
    },
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// Who holds a lock, as that process wrote it into the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    pub pid: u32,
    /// UTC, RFC 3339.
    pub since: String,
}

fn words_for(holder: &Option<Holder>) -> String {
    match holder {
        Some(Holder { pid, since }) => format!(" (pid {pid}, since {since})"),
        None => String::new(),
    }
}

pub(super) fn open_lock_file(path: &Path) -> Result<File> {
    open_to_write(path).context("open the lock file", path)
}

/// For reading alone where nothing can be written: enough to hold a lock, and to read what is published.
fn open_shared_lock_file(path: &Path) -> Result<File> {
    let opened = open_to_write(path).or_else(|error| match is_forbidden(&error) {
        true => File::open(path).map_err(|_| error),
        false => Err(error),
    });
    opened.context("open the lock file", path)
}

fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

/// Whether something is not to be written by whoever reads it.
pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn write_holder(file: &mut File, path: &Path) -> Result<()> {
    let since = chrono::DateTime::<chrono::Utc>::from(SystemTime::now());
    let holder = Holder {
        pid: std::process::id(),
        since: since.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    let text = serde_json::to_string(&holder).expect("a number and a string are JSON");
    file.set_len(0)
        .and_then(|()| file.rewind())
        .context("write the lock file", path)?;
    file.write_all(text.as_bytes())
        .context("write the lock file", path)
}

/// The holder may be between locking and writing its name, so the name can be missing.
fn held(environment: &str, path: &Path) -> LockError {
    let mut text = String::new();
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    LockError::Held {
        environment: environment.to_string(),
        holder,
    }
}

/// The lock file's time of change if somebody holds the lock, else none. The holder wrote its name right after locking.
fn running_since(path: &Path) -> Result<Option<SystemTime>> {
    let file = open_lock_file(path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let metadata = file.metadata().context("read", path)?;
            Ok(Some(metadata.modified().context("read", path)?))
        }
        Err(TryLockError::Error(source)) => Err(WarehouseError::Io {
            action: "lock",
            path: path.to_path_buf(),
            source,
        }),
    }
}
