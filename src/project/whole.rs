//! Files that are replaced whole or not at all: an empty lock would say that nothing is promised.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes beside the file, makes that durable, and puts it in its place.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.new"));
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&fresh, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_stays_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.lock");
        replace(&path, "one").expect("it is written");
        // The disk behind what is written first is full.
        let fresh = folder.path().join(".metrics.lock.new");
        std::os::unix::fs::symlink("/dev/full", &fresh).expect("a link");
        assert!(replace(&path, "another").is_err());
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "one");
        replace(&path, "two").expect("it is written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "two");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
