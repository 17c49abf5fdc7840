//! A folder in which one table grows until it is complete. In: a warehouse. Out: a [`Staging`] that either takes its place
//! in one rename or disappears. A folder whose writer was killed keeps an unlocked lock file; vacuum removes both.

use super::error::IoContext;
use super::lock::open_lock_file;
use super::table::FIRST_COMMIT;
use super::{Result, Warehouse};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Staging {
    /// An empty folder of this process. Vacuum must not look between the making of the lock file and its locking.
    pub(super) fn create(warehouse: &Warehouse) -> Result<Staging> {
        let _no_sweep = warehouse.hold_off_sweep()?;
        let folder = warehouse
            .staging_folder()
            .join(Uuid::now_v7().simple().to_string());
        let lock_path = folder.with_extension("lock");
        let lock = open_lock_file(&lock_path)?;
        lock.lock().context("lock", &lock_path)?;
        fs::create_dir(&folder).context("create the folder", &folder)?;
        Ok(Staging {
            folder,
            lock_path,
            _lock: lock,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes everything in the folder survive a power failure.
    pub(super) fn make_durable(&self) -> Result<()> {
        sync_tree(&self.folder)
    }

    /// Makes everything durable, then moves the folder to `place` in one step.
    ///
    /// False when a complete table is there already: another build was faster, and this copy is dropped.
    pub(super) fn move_to(self, warehouse: &Warehouse, place: &Path) -> Result<bool> {
        sync_tree(&self.folder)?;
        let parent = place
            .parent()
            .expect("a table folder lies in its relation's folder");
        let _no_sweep = warehouse.hold_off_sweep()?;
        fs::create_dir_all(parent).context("create the folder", parent)?;
        if place.is_dir() && !place.join(FIRST_COMMIT).is_file() {
            // What has lost its log is no table, and would stand in the way of one for ever. Vacuum removes it.
            let grave = warehouse
                .staging_folder()
                .join(Uuid::now_v7().simple().to_string());
            fs::rename(place, &grave).context("move away", place)?;
        }
        match fs::rename(&self.folder, place) {
            Ok(()) => {
                sync_folder(parent)?;
                sync_folder(&warehouse.root().join("relations"))?;
                Ok(true)
            }
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error).context("move the finished table to", place),
        }
    }
}

impl Drop for Staging {
    /// Best effort: what stays behind here is removed by vacuum, because the lock is released right after.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
    )
}

fn sync_tree(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder).contents_first(true) {
        let entry = entry.map_err(io::Error::from).context("list", folder)?;
        if !is_shared(&entry) {
            sync_folder(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file is also one of an older version, which made it durable when it took its place.
#[cfg(unix)]
fn is_shared(entry: &walkdir::DirEntry) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_shared = |about: std::fs::Metadata| about.is_file() && about.nlink() > 1;
    entry.metadata().is_ok_and(is_shared)
}

#[cfg(not(unix))]
fn is_shared(_: &walkdir::DirEntry) -> bool {
    false
}

/// Makes the content of a file, or the entries of a folder, survive a power failure.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .context("sync", path)
}
