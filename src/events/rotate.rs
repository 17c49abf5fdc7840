//! Moves closed segments of the log into tables, exactly once.
//! In: an open log and its tables. Out: one Delta commit per table for a group of segments, then the segments are removed.
//!
//! Each commit carries the number of the last segment it holds. A process killed between two tables, or before the segments
//! are removed, finds those numbers when it tries again and leaves out what each table has.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use deltalake::DeltaTableError;

use super::log::segment::records;
use super::log::{EventLog, SealedSegment, body_of};
use super::record::Record;
use super::rows::Rows;
use super::schema::Table;
use super::tables::EventTables;

/// Moves every closed segment. Returns how many records the tables gained.
///
/// # Errors
/// A segment cannot be read or a table cannot be written; what was not moved stays in the log for the next call.
pub async fn rotate(log: &EventLog, tables: &mut EventTables) -> Result<u64, RotateError> {
    let mut moved = 0;
    for segments in groups(log.sealed()) {
        moved += move_segments(log, tables, &segments).await?;
        for segment in &segments {
            log.discard(segment.number)
                .map_err(RotateError::io(segment))?;
        }
    }
    Ok(moved)
}

/// Rotates in a thread of its own.
pub struct Rotator {
    log: Arc<EventLog>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Rotator {
    /// Starts to move closed segments into the tables below `root`, telling `report` how each attempt went.
    ///
    /// # Errors
    /// The folder cannot be created, or the thread not started.
    pub fn start(
        log: Arc<EventLog>,
        root: &Path,
        report: impl Fn(Result<u64, RotateError>) + Send + 'static,
    ) -> io::Result<Rotator> {
        let tables = EventTables::new(root, log.id())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (own_log, own_stop) = (log.clone(), stop.clone());
        let body = move || run(&own_log, tables, &runtime, &own_stop, report);
        let thread = thread::Builder::new()
            .name("event-rotation".to_string())
            .spawn(body)?;
        Ok(Rotator { log, stop, thread })
    }

    /// Shuts the log, moves what is left and ends the thread. What cannot be moved now stays for the next start.
    pub fn finish(self) {
        self.log.shut();
        self.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        // A panic of the thread was printed when it happened.
        let _ = self.thread.join();
    }
}

/// How long a thread waits for segments before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(200);
/// How long it waits after a failure; the log keeps what was not moved.
const PAUSE: Duration = Duration::from_secs(2);

fn run(
    log: &EventLog,
    mut tables: EventTables,
    runtime: &tokio::runtime::Runtime,
    stop: &AtomicBool,
    report: impl Fn(Result<u64, RotateError>),
) {
    loop {
        let is_last = stop.load(Ordering::SeqCst);
        if is_last || !log.wait_sealed(WAIT).is_empty() {
            let moved = runtime.block_on(rotate(log, &mut tables));
            let has_failed = moved.is_err();
            report(moved);
            if has_failed && !is_last {
                // Whatever the failed attempt left half known is read again.
                tables.forget();
                thread::park_timeout(PAUSE);
            }
        }
        if is_last {
            return;
        }
    }
}

/// Why segments could not be moved.
#[derive(Debug)]
pub enum RotateError {
    /// A segment cannot be read or removed.
    Segment(std::path::PathBuf, std::io::Error),
    /// A table cannot be read or written.
    Table(&'static str, Box<DeltaTableError>),
}

impl RotateError {
    fn io(segment: &SealedSegment) -> impl FnOnce(std::io::Error) -> RotateError + '_ {
        |error| RotateError::Segment(segment.path.clone(), error)
    }

    fn table(table: Table) -> impl FnOnce(DeltaTableError) -> RotateError {
        move |error| RotateError::Table(table.name(), Box::new(error))
    }
}

impl fmt::Display for RotateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RotateError::Segment(path, error) => {
                write!(out, "the log segment `{}`: {error}", path.display())
            }
            RotateError::Table(name, error) => match error.as_ref() {
                DeltaTableError::GenericError { source } => {
                    write!(out, "the table `{name}`: {source}")
                }
                error => write!(out, "the table `{name}`: {error}"),
            },
        }
    }
}

impl std::error::Error for RotateError {}

/// Bytes of segments whose rows are held in memory and committed together.
const GROUP_BYTES: u64 = 32 << 20;

/// Consecutive segments that together are about one full segment: after many restarts there are many small ones.
fn groups(segments: Vec<SealedSegment>) -> Vec<Vec<SealedSegment>> {
    let mut groups: Vec<Vec<SealedSegment>> = Vec::new();
    let mut size = 0;
    for segment in segments {
        size += segment.length;
        match groups.last_mut() {
            Some(group) if size <= GROUP_BYTES => group.push(segment),
            _ => {
                size = segment.length;
                groups.push(vec![segment]);
            }
        }
    }
    groups
}

async fn move_segments(
    log: &EventLog,
    tables: &mut EventTables,
    segments: &[SealedSegment],
) -> Result<u64, RotateError> {
    let mut gathered = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL {
        let held = tables
            .last_segment(table)
            .await
            .map_err(RotateError::table(table))?;
        gathered.push((Rows::new(table), held));
    }
    for segment in segments {
        let bytes = log.read(segment).map_err(RotateError::io(segment))?;
        gather(&mut gathered, segment.number, &bytes);
    }
    let last = segments.last().map_or(0, |segment| segment.number);
    let mut moved = 0;
    for (table, (rows, _)) in Table::ALL.into_iter().zip(gathered) {
        if rows.is_empty() {
            continue;
        }
        moved += rows.len() as u64;
        let batch = rows
            .finish()
            .map_err(|error| RotateError::table(table)(error.into()))?;
        tables
            .append(table, &batch, last)
            .await
            .map_err(RotateError::table(table))?;
    }
    Ok(moved)
}

/// Adds the records of a segment to the rows of tables that do not hold it yet.
fn gather(gathered: &mut [(Rows, Option<u64>)], segment: u64, bytes: &[u8]) {
    for (offset, payload) in records(bytes) {
        let record = Record::decode(body_of(payload))
            .expect("the log holds only records this version encoded: its header says so");
        let (rows, held) = &mut gathered[record.table as usize];
        if held.is_none_or(|held| held < segment) {
            rows.push(&record, sequence(segment, offset));
        }
    }
}

/// Orders all events of a log. A segment is far smaller than 2 GiB, and its number counts seconds since 1970 at most.
fn sequence(segment: u64, offset: usize) -> i64 {
    ((segment as i64) << 31) + offset as i64
}
