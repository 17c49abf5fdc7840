//! The disk as the Delta writer sees it: one that never fails, but remembers its first failure for us.
//! In: a store. Out: the same store, whose writes succeed in the writer's eyes; [`FirstFailure::take`] tells the truth.
//!
//! When a write fails, delta-rs 1.1 aborts the upload, and object_store's `BufWriter::abort` panics if the upload was a
//! small one (object_store 0.13, buffered.rs, "Already shut down"). The panic is caught, but its message and stack trace
//! have reached the user by then. A staging folder is thrown away as a whole after a failure, and elsewhere what was begun is swept
//! ([`remove_unfinished`]), so nothing needs aborting.

use super::WarehouseError;
use super::error::delta_error;
use async_trait::async_trait;
use datafusion::object_store::path::Path as StorePath;
use datafusion::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use futures::FutureExt;
use futures::stream::BoxStream;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the stores of one table leave what went wrong first.
#[derive(Debug, Clone)]
pub struct FirstFailure {
    folder: PathBuf,
    failure: Arc<Mutex<Option<WarehouseError>>>,
}

impl FirstFailure {
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            failure: Arc::default(),
        }
    }

    /// A store that writes to `inner` until something fails.
    pub fn watch(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(WatchedStore {
            inner,
            first: self.clone(),
        })
    }

    /// The failure, if there was one.
    pub fn take(&self) -> super::Result<()> {
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), Err)
    }

    fn remember<T>(&self, result: Result<T>, instead: impl FnOnce() -> T) -> T {
        result.unwrap_or_else(|error| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| delta_error(&error, &self.folder));
            instead()
        })
    }
}

#[derive(Debug)]
struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    first: FirstFailure,
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        Ok(self.first.remember(
            self.inner.put_opts(location, payload, options).await,
            nothing_put,
        ))
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self
            .inner
            .put_multipart_opts(location, options)
            .await
            .map(Some);
        let inner = self.first.remember(upload, || None);
        Ok(Box::new(WatchedUpload {
            inner,
            first: self.first.clone(),
        }))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<StorePath>>,
    ) -> BoxStream<'static, Result<StorePath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &StorePath,
        to: &StorePath,
        options: CopyOptions,
    ) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// None when the upload could not even begin.
#[derive(Debug)]
struct WatchedUpload {
    inner: Option<Box<dyn MultipartUpload>>,
    first: FirstFailure,
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let Some(inner) = &mut self.inner else {
            return futures::future::ready(Ok(())).boxed();
        };
        let (part, first) = (inner.put_part(payload), self.first.clone());
        async move {
            first.remember(part.await, || ());
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(inner) = &mut self.inner else {
            return Ok(nothing_put());
        };
        Ok(self.first.remember(inner.complete().await, nothing_put))
    }

    async fn abort(&mut self) -> Result<()> {
        match &mut self.inner {
            Some(inner) => inner.abort().await,
            None => Ok(()),
        }
    }
}

/// Removes what a writer that was killed, or found the disk full, had begun: object_store writes to `<name>#<number>` and renames that.
/// Only for folders that nobody else is writing to.
pub fn remove_unfinished(folder: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() && is_unfinished(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_unfinished(name: &str) -> bool {
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = |name: &str| name.ends_with(".parquet") || name.ends_with(".json");
    name.rsplit_once('#')
        .is_some_and(|(name, end)| is_ours(name) && is_number(end))
}

fn nothing_put() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
    }
}
