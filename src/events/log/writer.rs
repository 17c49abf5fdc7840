//! The thread that makes groups durable, and the thread that closes segments.
//! In: the queue. Out: answers to tickets, records in segment files, closed segments. No other code writes segments.
//!
//! A failed write leaves the disk as it was (the segment is cut back) and is tried again; a failed fsync is final, because the
//! kernel may have dropped the pages and a later fsync would report success (Rebello et al., "Can applications recover from
//! fsync failures?", USENIX ATC 2020).

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::disk::{Disk, LogFile};
use super::queue::{Group, Ticket};
use super::run::Run;
use super::segment::{HEADER_LENGTH, Header};
use super::{
    ClosedSegment, Health, LogError, Outcome, SealedSegment, Shared, lock, now_micros, recover,
};

/// Zeros written ahead of the records: overwriting them needs no journal commit at fdatasync (0.1 ms instead of 4 ms on ext4).
const WRITTEN_AHEAD: u64 = 4 << 20;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Opens the first segment and starts both threads; the keeper has segments of the last process to close.
pub fn start(
    shared: &Arc<Shared>,
    next_segment: u64,
    left: Vec<ClosedSegment>,
) -> Result<Vec<JoinHandle<()>>, LogError> {
    let (to_keeper, closed) = mpsc::channel();
    for segment in left {
        to_keeper.send(segment).expect("the other end is here");
    }
    let mut writer = Writer {
        shared: shared.clone(),
        next_segment,
        segment: None,
        outcomes: Vec::new(),
        spare: Group::default(),
        zeros: vec![0; WRITTEN_AHEAD.min(shared.config.segment_bytes) as usize],
        next_probe: None,
        to_keeper,
    };
    writer.probe();
    let keeper = Keeper {
        shared: shared.clone(),
        closed,
    };
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_string())
            .spawn(body)
            .map_err(LogError::io(&shared.config.directory))
    };
    Ok(vec![
        spawn("event-log", Box::new(move || writer.run()))?,
        spawn("event-log-keeper", Box::new(move || keeper.run()))?,
    ])
}

struct Writer {
    shared: Arc<Shared>,
    next_segment: u64,
    segment: Option<OpenSegment>,
    outcomes: Vec<bool>,
    spare: Group,
    /// What is written ahead. Never written to itself, so that it takes no memory.
    zeros: Vec<u8>,
    /// When to try a full disk again.
    next_probe: Option<Instant>,
    to_keeper: mpsc::Sender<ClosedSegment>,
}

/// The segment that is written.
struct OpenSegment {
    number: u64,
    path: PathBuf,
    file: Box<dyn LogFile>,
    /// End of the durable records.
    offset: u64,
    /// End of the zeros written ahead.
    filled: u64,
    /// When its first record was written.
    first_record: Option<Instant>,
}

/// Why a group could not be made durable.
enum Fault {
    /// Nothing of it will ever be read; the same may work later.
    Write(String),
    /// What the disk holds is unknown.
    Sync(String),
}

/// What woke the writer.
struct Work {
    group: Group,
    must_seal: bool,
    is_closing: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let work = self.wait();
            let is_drained = work.group.batch.is_empty();
            self.commit(work.group);
            self.probe();
            if work.must_seal || work.is_closing || self.seal_is_due(Instant::now()) {
                self.seal();
            }
            if work.is_closing && is_drained {
                return;
            }
        }
    }

    fn wait(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut queue = lock(&shared.queue);
        loop {
            let now = Instant::now();
            let timer = self.timer();
            let is_due =
                queue.is_due(now, shared.config.group) || timer.is_some_and(|timer| timer <= now);
            if is_due || queue.seal_requested || queue.is_closing {
                let group = queue.take(std::mem::take(&mut self.spare));
                let must_seal = std::mem::take(&mut queue.seal_requested);
                return Work {
                    group,
                    must_seal,
                    is_closing: queue.is_closing,
                };
            }
            queue = match [queue.deadline, timer].into_iter().flatten().min() {
                Some(until) => {
                    let waited = shared.work.wait_timeout(queue, until - now);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => shared
                    .work
                    .wait(queue)
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    /// When the writer has something to do although nobody sends anything.
    fn timer(&self) -> Option<Instant> {
        let ages_at = self
            .segment
            .as_ref()
            .and_then(|segment| segment.first_record)
            .map(|first| first + self.shared.config.segment_age);
        self.next_probe.or(ages_at)
    }

    fn commit(&mut self, mut group: Group) {
        let answer = self.store(&mut group).map_err(|fault| self.report(fault));
        let outcomes = &self.outcomes;
        group
            .tickets
            .drain(..)
            .for_each(|ticket| answer_ticket(ticket, outcomes, &answer));
        self.spare = group;
    }

    fn report(&self, fault: Fault) -> String {
        let (why, health) = match fault {
            Fault::Write(why) => (why.clone(), Health::Full(why)),
            Fault::Sync(why) => (why.clone(), Health::Failed(why)),
        };
        self.shared.health.set(health);
        why
    }

    fn store(&mut self, group: &mut Group) -> Result<(), Fault> {
        self.outcomes.clear();
        if group.batch.is_empty() {
            return Ok(());
        }
        if let Health::Failed(why) = self.shared.health.get() {
            return Err(Fault::Sync(why));
        }
        let stored = self
            .drop_known(group)
            .and_then(|()| self.write(group.batch.bytes()));
        match &stored {
            Ok(()) => self.count(group),
            Err(_) => self.take_back(group),
        }
        stored
    }

    fn drop_known(&mut self, group: &mut Group) -> Result<(), Fault> {
        let mut seen = lock(&self.shared.seen);
        group
            .retain(&mut self.outcomes, |id| seen.insert(id))
            .map_err(|error| {
                Fault::Sync(format!("the filter of event ids cannot be read: {error}"))
            })
    }

    fn take_back(&mut self, group: &Group) {
        let mut seen = lock(&self.shared.seen);
        let inserted = group
            .batch
            .fingerprints()
            .zip(&self.outcomes)
            .filter(|(_, is_new)| **is_new);
        inserted.for_each(|(fingerprint, _)| seen.forget(fingerprint));
    }

    fn count(&self, group: &Group) {
        let stored = self.outcomes.iter().filter(|is_new| **is_new).count() as u64;
        let counters = &self.shared.counters;
        counters.stored.fetch_add(stored, Ordering::Relaxed);
        counters
            .duplicates
            .fetch_add(self.outcomes.len() as u64 - stored, Ordering::Relaxed);
        counters
            .bytes
            .fetch_add(group.batch.bytes().len() as u64, Ordering::Relaxed);
        counters.commits.fetch_add(1, Ordering::Relaxed);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.ensure_segment()?;
        let segment = self.segment.as_mut();
        segment
            .expect("ensure_segment() opened it")
            .append(bytes, &self.zeros)
    }

    fn ensure_segment(&mut self) -> Result<(), Fault> {
        if self.segment.is_none() {
            let number = self.next_segment;
            // A number is used up even when creating its file fails: the name may be taken by a half-made file.
            self.next_segment += 1;
            self.segment = Some(OpenSegment::create(&self.shared, number)?);
        }
        Ok(())
    }

    /// Opens a segment when there is none, and finds out whether a full disk has room again.
    fn probe(&mut self) {
        let was_ready = match self.shared.health.get() {
            Health::Failed(_) => return,
            health => health == Health::Ready,
        };
        let is_early = self.next_probe.is_some_and(|at| Instant::now() < at);
        if is_early || was_ready && self.segment.is_some() {
            return;
        }
        let probed = self.ensure_segment().and_then(|()| {
            let segment = self.segment.as_mut().expect("ensure_segment() opened it");
            segment.fill(&self.zeros)
        });
        let health = match probed {
            Ok(()) => Health::Ready,
            Err(Fault::Write(why)) => Health::Full(why),
            Err(Fault::Sync(why)) => Health::Failed(why),
        };
        self.next_probe = matches!(health, Health::Full(_)).then(|| Instant::now() + RETRY);
        self.shared.health.set(health);
    }

    fn seal_is_due(&self, now: Instant) -> bool {
        let config = &self.shared.config;
        self.segment.as_ref().is_some_and(|segment| {
            let is_old = segment
                .first_record
                .is_some_and(|first| now >= first + config.segment_age);
            is_old || segment.offset >= config.segment_bytes
        })
    }

    /// Hands the segment to the keeper and opens the next. A segment without records stays open.
    fn seal(&mut self) {
        if matches!(self.shared.health.get(), Health::Failed(_)) {
            return;
        }
        let Some(segment) = self
            .segment
            .take_if(|segment| segment.first_record.is_some())
        else {
            return;
        };
        let ids = lock(&self.shared.seen).close(segment.number, now_micros());
        let closed = SealedSegment {
            number: segment.number,
            path: segment.path,
            length: segment.offset,
        };
        self.shared
            .backlog
            .fetch_add(closed.length, Ordering::Relaxed);
        // The keeper ends after the writer only; should it have panicked, the next start closes the segment.
        let _ = self.to_keeper.send(ClosedSegment {
            segment: closed,
            ids,
        });
        if !lock(&self.shared.queue).is_closing {
            self.probe();
        }
    }
}

fn answer_ticket(ticket: Ticket, outcomes: &[bool], answer: &Result<(), String>) {
    let outcome = answer.clone().map(|()| {
        let own = &outcomes[ticket.from..ticket.to];
        let stored = own.iter().filter(|is_new| **is_new).count();
        Outcome {
            stored,
            duplicates: own.len() - stored,
        }
    });
    // A sender that went away, such as a closed connection, will ask again with the same ids.
    let _ = ticket.sender.send(outcome);
}

impl OpenSegment {
    fn create(shared: &Shared, number: u64) -> Result<OpenSegment, Fault> {
        let path = shared.config.directory.join(recover::segment_name(number));
        let header = Header {
            schema_hash: shared.config.schema_hash,
            number,
            log_id: shared.log_id,
        };
        let created = create_file(shared.disk.as_ref(), &path, &header.encode());
        match created {
            Ok(file) => {
                let offset = HEADER_LENGTH as u64;
                Ok(OpenSegment {
                    number,
                    path,
                    file,
                    offset,
                    filled: offset,
                    first_record: None,
                })
            }
            Err(error) => {
                // Without a whole header the file is removed at the next start at the latest.
                let _ = shared.disk.remove(&path);
                Err(Fault::Write(format!(
                    "cannot create `{}`: {error}",
                    path.display()
                )))
            }
        }
    }

    /// Writes and syncs records behind the last ones.
    fn append(&mut self, bytes: &[u8], zeros: &[u8]) -> Result<(), Fault> {
        let end = self.offset + bytes.len() as u64;
        if let Err(error) = self.file.write_at(bytes, self.offset) {
            return Err(self.cut_back(&error));
        }
        if end > self.filled {
            self.write_zeros(end, zeros)?;
        }
        self.sync()?;
        self.offset = end;
        self.first_record.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Makes zeros behind the last records durable.
    fn fill(&mut self, zeros: &[u8]) -> Result<(), Fault> {
        self.write_zeros(self.offset, zeros)?;
        self.sync()
    }

    fn write_zeros(&mut self, from: u64, zeros: &[u8]) -> Result<(), Fault> {
        if let Err(error) = self.file.write_at(zeros, from) {
            return Err(self.cut_back(&error));
        }
        self.filled = from + zeros.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| {
            Fault::Sync(format!(
                "fsync of `{}` failed: {error}",
                self.path.display()
            ))
        })
    }

    /// Removes what a failed write left, which must not be read as records when the same ids come again.
    fn cut_back(&mut self, error: &io::Error) -> Fault {
        let why = format!("cannot write `{}`: {error}", self.path.display());
        self.filled = self.offset;
        match self.file.set_length(self.offset) {
            Ok(()) => Fault::Write(why),
            Err(error) => Fault::Sync(format!("{why}; nor can it be cut: {error}")),
        }
    }
}

fn create_file(
    disk: &dyn Disk,
    path: &std::path::Path,
    header: &[u8],
) -> io::Result<Box<dyn LogFile>> {
    let mut file = disk.create(path)?;
    file.write_at(header, 0)?;
    file.sync_data()?;
    disk.sync_directory(path.parent().expect("a segment is inside the log folder"))?;
    Ok(file)
}

/// Closes segments: cuts the zeros, writes the run of ids, and only then offers them for rotation.
struct Keeper {
    shared: Arc<Shared>,
    closed: Receiver<ClosedSegment>,
}

impl Keeper {
    fn run(self) {
        let mut waiting = VecDeque::new();
        loop {
            match self.closed.recv_timeout(if waiting.is_empty() {
                Duration::MAX
            } else {
                RETRY
            }) {
                Ok(closed) => waiting.push_back(closed),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // What cannot be closed now is closed by the next start.
                    self.close_all(&mut waiting);
                    return;
                }
            }
            self.close_all(&mut waiting);
        }
    }

    fn close_all(&self, waiting: &mut VecDeque<ClosedSegment>) {
        while let Some(closed) = waiting.front() {
            // Most likely a full disk, which the writer reports; segments are offered in order, so the others wait too.
            if self.close(closed).is_err() {
                return;
            }
            waiting.pop_front();
        }
    }

    fn close(&self, closed: &ClosedSegment) -> io::Result<()> {
        let mut file = self.shared.disk.open(&closed.segment.path)?;
        file.set_length(closed.segment.length)?;
        file.sync_data()?;
        let directory = lock(&self.shared.seen).directory().to_path_buf();
        let run = Run::write(
            &directory,
            closed.ids.segment,
            &closed.ids.ids,
            closed.ids.closed_at,
        )?;
        lock(&self.shared.seen).settle(closed.ids.segment, Some(run));
        lock(&self.shared.sealed).insert(closed.segment.number, closed.segment.clone());
        self.shared.sealed_changed.notify_all();
        self.tidy()
    }

    fn tidy(&self) -> io::Result<()> {
        lock(&self.shared.seen).expire(now_micros());
        let Some(parts) = lock(&self.shared.seen).mergeable() else {
            return Ok(());
        };
        let directory = lock(&self.shared.seen).directory().to_path_buf();
        let merged = Run::merge(&directory, &parts)?;
        lock(&self.shared.seen).replace(&parts, merged);
        Ok(())
    }
}
