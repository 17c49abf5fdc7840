//! Which event ids the log holds already, for 48 hours.
//! In: 128-bit fingerprints of ids, segment by segment. Out: "seen before" or "new".
//! Fingerprints of the open segment are in memory; those of a closed segment are a sorted run file beside it, found through a
//! blocked Bloom filter, and small runs are merged, so that memory grows by about 12 bits an event. Deciding what an id is, and
//! when a segment is closed, is left to others.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::run::Run;

/// Fingerprints of one segment.
pub type IdSet = HashSet<u128, BuildHasherDefault<FingerprintHasher>>;

/// Runs of one size class that are merged into one of the next.
const MERGE_AT: usize = 8;

/// The filter over all segments of the last [`SeenIds::keep_micros`].
pub struct SeenIds {
    directory: PathBuf,
    keep_micros: i64,
    open: IdSet,
    closed: Vec<Closed>,
    runs: Vec<Arc<Run>>,
}

/// A segment that is closed and whose run file is not written yet.
#[derive(Clone)]
pub struct Closed {
    /// Number of the segment.
    pub segment: u64,
    /// Its fingerprints.
    pub ids: Arc<IdSet>,
    /// When the segment was closed, microseconds since 1970.
    pub closed_at: i64,
}

impl SeenIds {
    /// Opens the run files of `directory`, dropping those older than `keep_micros` before `now`.
    pub fn open(directory: &Path, keep_micros: i64, now: i64) -> io::Result<SeenIds> {
        let mut seen = SeenIds {
            directory: directory.to_path_buf(),
            keep_micros,
            open: IdSet::default(),
            closed: Vec::new(),
            runs: Run::open_all(directory)?
                .into_iter()
                .map(Arc::new)
                .collect(),
        };
        seen.expire(now);
        Ok(seen)
    }

    /// Marks `id` as seen; false when it was seen before.
    pub fn insert(&mut self, id: u128) -> io::Result<bool> {
        Ok(!self.in_older(id)? && self.open.insert(id))
    }

    /// Takes back an [`insert`](Self::insert) into the open segment.
    pub fn forget(&mut self, id: u128) {
        self.open.remove(&id);
    }

    /// Ends the open segment: its fingerprints now belong to segment `segment` and wait for their run file.
    pub fn close(&mut self, segment: u64, closed_at: i64) -> Closed {
        let ids = std::mem::take(&mut self.open);
        self.hold(segment, ids, closed_at)
    }

    /// Fingerprints of a closed segment, until [`settle`](Self::settle) replaces them.
    pub fn hold(&mut self, segment: u64, ids: IdSet, closed_at: i64) -> Closed {
        let closed = Closed {
            segment,
            ids: Arc::new(ids),
            closed_at,
        };
        self.closed.push(closed.clone());
        closed
    }

    /// Replaces the in-memory fingerprints of a closed segment by their run file.
    pub fn settle(&mut self, segment: u64, run: Option<Run>) {
        self.closed.retain(|closed| closed.segment != segment);
        self.runs.extend(run.map(Arc::new));
    }

    /// Whether a run holds the fingerprints of `segment`.
    pub fn has_run_of(&self, segment: u64) -> bool {
        self.runs.iter().any(|run| run.covers(segment))
    }

    /// The highest segment number any run knows.
    pub fn last_segment(&self) -> Option<u64> {
        self.runs.iter().map(|run| run.last_segment()).max()
    }

    /// Forgets runs that were closed longer ago than the filter remembers, and removes their files.
    pub fn expire(&mut self, now: i64) {
        let keep_from = now.saturating_sub(self.keep_micros);
        let (kept, expired): (Vec<_>, Vec<_>) = self
            .runs
            .drain(..)
            .partition(|run| run.closed_at() >= keep_from);
        self.runs = kept;
        // A file that could not be removed is found, and tried again, at the next start.
        expired.iter().for_each(|run| run.remove());
    }

    /// Runs of one size class that are numerous enough to be merged.
    pub fn mergeable(&self) -> Option<Vec<Arc<Run>>> {
        let class = |run: &Arc<Run>| run.count().max(1).ilog2() / 3;
        let classes: HashSet<u32> = self.runs.iter().map(class).collect();
        let of_class = |wanted: u32| {
            self.runs
                .iter()
                .filter(|run| class(run) == wanted)
                .cloned()
                .collect::<Vec<_>>()
        };
        classes
            .into_iter()
            .map(of_class)
            .find(|runs| runs.len() >= MERGE_AT)
    }

    /// Puts `merged` in the place of `parts` and removes their files.
    pub fn replace(&mut self, parts: &[Arc<Run>], merged: Run) {
        self.runs
            .retain(|run| !parts.iter().any(|part| Arc::ptr_eq(part, run)));
        self.runs.push(Arc::new(merged));
        parts.iter().for_each(|run| run.remove());
    }

    /// Folder of the run files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fingerprints held in memory and in run files.
    pub fn count(&self) -> (usize, u64) {
        let in_memory = self.open.len()
            + self
                .closed
                .iter()
                .map(|closed| closed.ids.len())
                .sum::<usize>();
        (in_memory, self.runs.iter().map(|run| run.count()).sum())
    }

    fn in_older(&self, id: u128) -> io::Result<bool> {
        if self.closed.iter().any(|closed| closed.ids.contains(&id)) {
            return Ok(true);
        }
        for run in self.runs.iter().rev() {
            if run.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes a fingerprint as its own hash: it is one already.
#[derive(Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = (value as u64) ^ (value >> 64) as u64;
    }
}
