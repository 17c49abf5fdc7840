//! A folder of pages, whole or not at all.
//! In: pages. Out: a folder that holds them and nothing else. A folder with anything but an earlier report is left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Page;

/// What says that a folder is a report.
const MARK: &str = "<meta name=\"generator\" content=\"equipoise report\">";

/// Writes the pages beside `folder`, then puts them in its place.
pub fn write(folder: &Path, pages: &[Page]) -> io::Result<()> {
    if !is_replaceable(folder)? {
        let message = format!(
            "`{}` holds something other than a report, which would be lost",
            folder.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    // Two at once: one waits.
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let lock = fs::File::open(parent)?;
    lock.lock()?;
    let (fresh, old) = (beside(folder, "new"), beside(folder, "old"));
    remove(&fresh)?;
    remove(&old)?;
    let written = pages.iter().try_for_each(|page| {
        let path = fresh.join(&page.path);
        fs::create_dir_all(path.parent().expect("a page lies in a folder"))?;
        fs::write(path, &page.html)
    });
    if let Err(error) = written {
        remove(&fresh).ok();
        return Err(error);
    }
    if !folder.exists() {
        return fs::rename(&fresh, folder);
    }
    match exchange(&fresh, folder) {
        Ok(()) => remove(&fresh),
        Err(_) => {
            fs::rename(folder, &old)?;
            if let Err(error) = fs::rename(&fresh, folder) {
                fs::rename(&old, folder).ok();
                return Err(error);
            }
            remove(&old)
        }
    }
}

/// Both folders change places in one step, where the file system can do that.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn is_replaceable(folder: &Path) -> io::Result<bool> {
    if !folder.exists() {
        return Ok(true);
    }
    if !folder.is_dir() {
        return Ok(false);
    }
    if fs::read_dir(folder)?.next().is_none() {
        return Ok(true);
    }
    let first = fs::read_to_string(folder.join("index.html"));
    Ok(first.is_ok_and(|html| html.contains(MARK)))
}

/// A name that no one else uses, in the same folder, so that a rename is enough.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{what}"))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
