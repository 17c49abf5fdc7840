//! The files of a project: a folder on disk, or texts in memory for tests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Read-only access to a project's files by path relative to its root, with forward slashes.
pub trait Files: Send + Sync {
    /// All files below `folder`, sorted; empty when the folder does not exist. Hidden files are left out.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    fn exists(&self, path: &str) -> bool;
    /// Where the project lies on disk; relative source locations start here.
    fn root(&self) -> &Path;
}

/// A folder on disk.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl Files for Folder {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let start = self.root.join(folder);
        if !start.is_dir() {
            return Ok(Vec::new());
        }
        let is_hidden = |path: &Path| {
            let name = path.file_name();
            path != start && name.is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        let mut paths = Vec::new();
        for entry in WalkDir::new(&start)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(|entry| !is_hidden(entry.path()))
        {
            let path = match entry {
                Ok(entry) if entry.file_type().is_file() => entry.into_path(),
                Ok(_) => continue,
                // A link to nothing: an editor's lock, or a file whose reader will say what is wrong with it.
                Err(error) => match (error.path(), error.io_error()) {
                    (Some(path), _) if is_hidden(path) => continue,
                    (Some(path), Some(cause)) if cause.kind() == io::ErrorKind::NotFound => {
                        path.to_path_buf()
                    }
                    _ => return Err(error.into()),
                },
            };
            let relative = path.strip_prefix(&self.root).expect("walked from the root");
            paths.push(relative.to_string_lossy().replace('\\', "/"));
        }
        Ok(paths)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.root.join(path))
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

/// Texts in memory; source data still comes from `root`.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    pub texts: BTreeMap<String, String>,
    pub root: PathBuf,
}

impl Files for MemoryFiles {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        Ok(self
            .texts
            .keys()
            .filter(|path| path.starts_with(&prefix))
            .cloned()
            .collect())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let text = self
            .texts
            .get(path)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.to_string()))?;
        Ok(text.clone().into_bytes())
    }

    fn exists(&self, path: &str) -> bool {
        self.texts.contains_key(path)
    }

    fn root(&self) -> &Path {
        &self.root
    }
}
