//! The write-ahead log of events.
//! In: batches of framed records, each with the fingerprint of its event id. Out: an acknowledgement after the group they were
//! committed with is on disk, at most one stored record per fingerprint, and closed segments for rotation into tables.
//! What a record means is left to [`super::record`], tables to rotation, and HTTP answers to `serve`.
//!
//! One thread writes. It takes everything that waits (for at most [`LogConfig::window`] or [`LogConfig::group`] records, or until as
//! many senders wait as before), drops ids it knows, writes, calls fdatasync once, and only then answers. A second thread closes
//! full segments.

pub mod disk;
mod queue;
mod recover;
mod run;
pub mod seen;
pub mod segment;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use self::disk::Disk;
use self::queue::Queue;
use self::seen::SeenIds;

/// An open log. Dropping it commits what waits and joins its threads.
pub struct EventLog {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: recover::LogLock,
}

impl EventLog {
    /// Opens or creates the log in `config.directory`: takes the exclusive lock, cuts torn tails, closes the segments left by
    /// the last process and rebuilds the id filter. A full disk is no error here: the log opens and reports not ready.
    ///
    /// # Errors
    /// The folder cannot be used, another process holds the lock, a file is damaged or of another version.
    pub fn open(config: LogConfig, disk: Arc<dyn Disk>) -> Result<EventLog, LogError> {
        let recovered = recover::recover(&config, disk.as_ref())?;
        let shared = Arc::new(Shared::new(
            config,
            disk,
            recovered.seen,
            recovered.sealed,
            recovered.log_id,
        ));
        let left = recovered.closed.iter().map(|closed| closed.segment.length);
        shared.backlog.fetch_add(left.sum(), Ordering::Relaxed);
        let threads = writer::start(&shared, recovered.next_segment, recovered.closed)?;
        let threads = Mutex::new(threads);
        Ok(EventLog {
            shared,
            threads,
            _lock: recovered.lock,
        })
    }

    /// Queues a batch. The receipt resolves once every record of it is on disk, or was already.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when too much waits already; [`Refusal::Unavailable`] when the log cannot make anything durable.
    pub fn submit(&self, batch: &Batch) -> Result<Receipt, Refusal> {
        let (sender, receipt) = oneshot::channel();
        let add = |waiting: &mut Batch| waiting.extend(batch);
        self.shared.enqueue(batch.bytes.len(), add, Some(sender))?;
        Ok(Receipt(receipt))
    }

    /// Queues a batch nobody waits for; it shares the next commit, within [`LogConfig::lazy_window`].
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn append(&self, batch: &Batch) -> Result<(), Refusal> {
        let add = |waiting: &mut Batch| waiting.extend(batch);
        self.shared.enqueue(batch.bytes.len(), add, None)
    }

    /// The same for one record, whose body `write` appends to what waits. One that is too long is left out.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn append_one(
        &self,
        fingerprint: u128,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Refusal> {
        let add = |waiting: &mut Batch| {
            waiting.push(fingerprint, write);
        };
        self.shared.enqueue(USUAL_LENGTH, add, None)
    }

    /// Whether records can be made durable now.
    pub fn health(&self) -> Health {
        self.shared.health.get()
    }

    /// Counters since the log was opened.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Identifies the log; a new folder is a new log.
    pub fn id(&self) -> u128 {
        self.shared.log_id
    }

    /// Fingerprints the filter holds in memory and in run files.
    pub fn known_ids(&self) -> (usize, u64) {
        lock(&self.shared.seen).count()
    }

    /// Closes the open segment soon, if it holds a record.
    pub fn seal(&self) {
        lock(&self.shared.queue).seal_requested = true;
        self.shared.work.notify_one();
    }

    /// Commits what waits, closes the open segment and ends the threads. Nothing is taken any more; closed segments can still be
    /// read and discarded.
    pub fn shut(&self) {
        lock(&self.shared.queue).is_closing = true;
        self.shared.work.notify_one();
        for thread in lock(&self.threads).drain(..) {
            // A panic of the thread was printed when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
    }

    /// Closed segments that were not discarded, oldest first.
    pub fn sealed(&self) -> Vec<SealedSegment> {
        lock(&self.shared.sealed).values().cloned().collect()
    }

    /// Like [`sealed`](Self::sealed), but waits up to `timeout` for there to be one.
    pub fn wait_sealed(&self, timeout: Duration) -> Vec<SealedSegment> {
        let sealed = lock(&self.shared.sealed);
        let wait = self
            .shared
            .sealed_changed
            .wait_timeout_while(sealed, timeout, |sealed| sealed.is_empty());
        wait.unwrap_or_else(PoisonError::into_inner)
            .0
            .values()
            .cloned()
            .collect()
    }

    /// The bytes of a closed segment after its header; read them with [`segment::records`].
    ///
    /// # Errors
    /// The file cannot be read or is not that segment.
    pub fn read(&self, segment: &SealedSegment) -> io::Result<Vec<u8>> {
        recover::read_segment(&segment.path, self.shared.log_id)
    }

    /// Removes a closed segment. Call it when its records are durable elsewhere.
    ///
    /// # Errors
    /// The file cannot be removed; the segment stays listed.
    pub fn discard(&self, number: u64) -> io::Result<()> {
        let mut sealed = lock(&self.shared.sealed);
        if let Some(segment) = sealed.get(&number) {
            self.shared.disk.remove(&segment.path)?;
            self.shared
                .backlog
                .fetch_sub(segment.length, Ordering::Relaxed);
            sealed.remove(&number);
        }
        Ok(())
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.shut();
    }
}

/// How a log behaves.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Folder of the log, its own.
    pub directory: PathBuf,
    /// Identifies the meaning of payload bytes.
    pub schema_hash: u64,
    /// How long the first record of a group waits for company.
    pub window: Duration,
    /// The same when nobody waits for an answer: each commit costs the processor as much as many records.
    pub lazy_window: Duration,
    /// Records that end the wait early.
    pub group: usize,
    /// A segment is closed at this size ...
    pub segment_bytes: u64,
    /// ... or at this age.
    pub segment_age: Duration,
    /// Bytes that may wait for a commit; more is refused. What nobody waits for may take half of it.
    pub pending_bytes: usize,
    /// Bytes that may wait in closed segments for rotation; more is refused.
    pub backlog_bytes: u64,
    /// How long an event id is remembered.
    pub remember_ids: Duration,
}

impl LogConfig {
    /// The defaults: groups of 1 ms or 1,024 records, segments of 32 MiB or 60 s, ids for 48 hours.
    pub fn new(directory: impl Into<PathBuf>, schema_hash: u64) -> LogConfig {
        LogConfig {
            directory: directory.into(),
            schema_hash,
            window: Duration::from_millis(1),
            lazy_window: Duration::from_millis(50),
            group: 1024,
            segment_bytes: 32 << 20,
            segment_age: Duration::from_secs(60),
            pending_bytes: 8 << 20,
            backlog_bytes: 8 << 30,
            remember_ids: Duration::from_secs(48 * 3600),
        }
    }
}

/// Framed records to be committed together with their fingerprints.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Without records.
    pub const fn new() -> Batch {
        Batch {
            bytes: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds a record whose body `write` appends. False, and nothing added, when it is too long.
    pub fn push(&mut self, fingerprint: u128, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.bytes.reserve(USUAL_LENGTH);
        let start = segment::begin_frame(&mut self.bytes);
        self.bytes.extend_from_slice(&fingerprint.to_le_bytes());
        write(&mut self.bytes);
        let is_framed = segment::end_frame(&mut self.bytes, start).is_some();
        if is_framed {
            self.entries.push(Entry {
                fingerprint,
                end: self.bytes.len(),
            });
        }
        is_framed
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The framed records, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The fingerprints, in the order of the records.
    pub fn fingerprints(&self) -> impl Iterator<Item = u128> {
        self.entries.iter().map(|entry| entry.fingerprint)
    }

    /// Adds the records of another batch.
    fn extend(&mut self, batch: &Batch) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&batch.bytes);
        let shifted = batch.entries.iter().map(|entry| Entry {
            end: entry.end + offset,
            ..*entry
        });
        self.entries.extend(shifted);
    }

    /// Gives memory back beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.bytes.shrink_to(bytes);
        self.entries.shrink_to(bytes / size_of::<Entry>());
    }

    /// Removes all records, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// The fingerprint a payload of the log begins with.
pub fn fingerprint_of(payload: &[u8]) -> Option<u128> {
    payload
        .first_chunk::<FINGERPRINT_LENGTH>()
        .map(|bytes| u128::from_le_bytes(*bytes))
}

/// What follows the fingerprint in a payload of the log.
pub fn body_of(payload: &[u8]) -> &[u8] {
    payload.get(FINGERPRINT_LENGTH..).unwrap_or_default()
}

const FINGERPRINT_LENGTH: usize = 16;
/// Bytes of most records.
const USUAL_LENGTH: usize = 768;

/// One record of a batch: it starts where the one before ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub fingerprint: u128,
    pub end: usize,
}

/// Resolves when a submitted batch is durable.
pub struct Receipt(oneshot::Receiver<Result<Outcome, String>>);

impl Receipt {
    /// Waits for the commit.
    ///
    /// # Errors
    /// The reason why the batch could not be made durable; the sender must try again.
    pub async fn wait(self) -> Result<Outcome, String> {
        self.0
            .await
            .unwrap_or_else(|_| Err("the event log was closed".to_string()))
    }

    /// [`wait`](Self::wait) for callers outside a runtime.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_blocking(self) -> Result<Outcome, String> {
        self.0
            .blocking_recv()
            .unwrap_or_else(|_| Err("the event log was closed".to_string()))
    }
}

/// What became of the records of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// New records, now on disk.
    pub stored: usize,
    /// Records whose id was on disk before.
    pub duplicates: usize,
}

/// Why a batch was not even queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too much waits; try again shortly.
    Busy,
    /// Nothing can be made durable.
    Unavailable(String),
}

/// State of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Records are made durable.
    Ready,
    /// Writing fails, for instance because the disk is full; the log tries again by itself.
    Full(String),
    /// An fsync failed: what the disk holds is unknown until the log is opened again.
    Failed(String),
}

/// A closed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Strictly increasing within a log, also over restarts.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub length: u64,
}

/// Counters since the log was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records made durable.
    pub stored: AtomicU64,
    /// Records whose id was known.
    pub duplicates: AtomicU64,
    /// Groups committed, that is calls of fdatasync.
    pub commits: AtomicU64,
    /// Payload and frame bytes made durable.
    pub bytes: AtomicU64,
    /// Batches refused because too much waited.
    pub refused: AtomicU64,
}

/// Why a log could not be opened.
#[derive(Debug)]
pub enum LogError {
    /// Another process has the log open.
    Locked(PathBuf),
    /// A file belongs to another log or another version of the payload.
    Foreign(PathBuf, String),
    /// The file system said no.
    Io(PathBuf, io::Error),
}

impl LogError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> LogError + '_ {
        move |error| LogError::Io(path.to_path_buf(), error)
    }
}

impl std::fmt::Display for LogError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogError::Locked(path) => write!(
                out,
                "the event log `{}` is in use by another process",
                path.display()
            ),
            LogError::Foreign(path, why) => write!(
                out,
                "`{}` cannot be used as an event log: {why}",
                path.display()
            ),
            LogError::Io(path, error) => write!(out, "`{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for LogError {}

/// A segment that takes no more records, and whose fingerprints are not in a file yet.
struct ClosedSegment {
    segment: SealedSegment,
    ids: seen::Closed,
}

/// What the handle and the two threads share.
struct Shared {
    config: LogConfig,
    disk: Arc<dyn Disk>,
    log_id: u128,
    queue: Mutex<Queue>,
    work: Condvar,
    seen: Mutex<SeenIds>,
    sealed: Mutex<BTreeMap<u64, SealedSegment>>,
    sealed_changed: Condvar,
    backlog: AtomicU64,
    health: HealthCell,
    counters: Counters,
}

impl Shared {
    fn new(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        seen: SeenIds,
        sealed: Vec<SealedSegment>,
        log_id: u128,
    ) -> Shared {
        Shared {
            config,
            disk,
            log_id,
            queue: Mutex::default(),
            work: Condvar::new(),
            seen: Mutex::new(seen),
            backlog: AtomicU64::new(sealed.iter().map(|segment| segment.length).sum()),
            sealed: Mutex::new(
                sealed
                    .into_iter()
                    .map(|segment| (segment.number, segment))
                    .collect(),
            ),
            sealed_changed: Condvar::new(),
            health: HealthCell::default(),
            counters: Counters::default(),
        }
    }

    /// Queues the records that `add` adds, about `bytes`.
    fn enqueue(
        &self,
        bytes: usize,
        add: impl FnOnce(&mut Batch),
        sender: Option<queue::Sender>,
    ) -> Result<(), Refusal> {
        self.health.check()?;
        if self.backlog.load(Ordering::Relaxed) > self.config.backlog_bytes {
            return self.refuse();
        }
        let mut queue = lock(&self.queue);
        if queue.is_closing {
            return Err(Refusal::Unavailable(
                "the server is shutting down".to_string(),
            ));
        }
        let limit = match sender {
            Some(_) => self.config.pending_bytes,
            None => self.config.pending_bytes / 2,
        };
        if !queue.has_room(bytes, limit) {
            drop(queue);
            return self.refuse();
        }
        let must_wake = queue.push(add, sender, &self.config);
        drop(queue);
        if must_wake {
            self.work.notify_one();
        }
        Ok(())
    }

    fn refuse(&self) -> Result<(), Refusal> {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::Busy)
    }
}

/// The state of the log, made to be asked before every record.
struct HealthCell {
    is_ready: AtomicBool,
    health: Mutex<Health>,
}

impl Default for HealthCell {
    fn default() -> HealthCell {
        HealthCell {
            is_ready: AtomicBool::new(true),
            health: Mutex::new(Health::Ready),
        }
    }
}

impl HealthCell {
    fn set(&self, health: Health) {
        let is_ready = health == Health::Ready;
        *lock(&self.health) = health;
        self.is_ready.store(is_ready, Ordering::Release);
    }

    fn get(&self) -> Health {
        lock(&self.health).clone()
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.get() {
            Health::Ready => Ok(()),
            Health::Full(why) | Health::Failed(why) => Err(Refusal::Unavailable(why)),
        }
    }
}

/// Locks a mutex. A thread that panicked while holding it has been reported; the data it guards is updated in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
