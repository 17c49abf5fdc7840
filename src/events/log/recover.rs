//! Opens the folder of a log after a clean or a violent end of the last process.
//! In: the folder. Out: the exclusive lock, closed segments without torn tails, and the id filter.
//! Acknowledged records are in the valid prefix of a segment, because a group is written only after the one before was synced.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use super::run::Run;
use super::seen::{IdSet, SeenIds};
use super::segment::{End, HEADER_LENGTH, Header, records};
use super::{ClosedSegment, LogConfig, LogError, SealedSegment, fingerprint_of, now_micros};

/// What [`recover`] found.
pub struct Recovered {
    pub lock: LogLock,
    pub log_id: u128,
    pub seen: SeenIds,
    pub sealed: Vec<SealedSegment>,
    /// Segments that a full disk keeps from being closed; whoever writes the log goes on trying.
    pub closed: Vec<ClosedSegment>,
    pub next_segment: u64,
}

/// Takes the lock, cuts torn tails and closes every segment.
pub fn recover(config: &LogConfig, disk: &dyn Disk) -> Result<Recovered, LogError> {
    let directory = &config.directory;
    let ids = directory.join("ids");
    fs::create_dir_all(&ids).map_err(LogError::io(&ids))?;
    let lock = take_lock(directory)?;
    let log_id = read_or_create_id(directory).map_err(LogError::io(directory))?;
    let keep_micros = i64::try_from(config.remember_ids.as_micros()).unwrap_or(i64::MAX);
    let mut seen = SeenIds::open(&ids, keep_micros, now_micros()).map_err(LogError::io(&ids))?;
    let numbers = segment_numbers(directory).map_err(LogError::io(directory))?;
    let next_segment = next_segment(numbers.last().copied().max(seen.last_segment()));
    let header = Header {
        schema_hash: config.schema_hash,
        number: 0,
        log_id,
    };
    let (mut sealed, mut closed) = (Vec::new(), Vec::new());
    for number in numbers {
        let header = Header { number, ..header };
        match close_segment(directory, header, &mut seen, disk)? {
            Left::Nothing => {}
            Left::Sealed(segment) => sealed.push(segment),
            Left::Closed(segment) => closed.push(segment),
        }
    }
    disk.sync_directory(directory)
        .map_err(LogError::io(directory))?;
    Ok(Recovered {
        lock,
        log_id,
        seen,
        sealed,
        closed,
        next_segment,
    })
}

/// The bytes after the header of a closed segment.
pub fn read_segment(path: &Path, log_id: u128) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    if Header::decode(&bytes).is_none_or(|header| header.log_id != log_id) {
        let why = format!("`{}` is not a segment of this log", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    bytes.drain(..HEADER_LENGTH);
    Ok(bytes)
}

/// File name of a segment; names sort like numbers.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The exclusive right to write a log. Let go at the drop itself, not when the last copy of the file closes: between fork and
/// exec a child that this process starts holds such a copy.
#[derive(Debug)]
pub struct LogLock(File);

impl Drop for LogLock {
    fn drop(&mut self) {
        // The close that follows lets go too.
        let _ = self.0.unlock();
    }
}

fn take_lock(directory: &Path) -> Result<LogLock, LogError> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(LogError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(LogLock(file)),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(directory.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(LogError::Io(path, error)),
    }
}

fn read_or_create_id(directory: &Path) -> io::Result<u128> {
    let path = directory.join("id");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = uuid::Uuid::parse_str(text.trim());
            id.map(|id| id.as_u128())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_id(directory, &path),
        Err(error) => Err(error),
    }
}

fn create_id(directory: &Path, path: &Path) -> io::Result<u128> {
    let id = uuid::Uuid::new_v4();
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()?;
    Ok(id.as_u128())
}

fn segment_numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        numbers.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Numbers start at the clock's seconds, so that they go on increasing even in a folder somebody emptied: tables remember the
/// highest number they hold and would take a smaller one for known.
fn next_segment(last: Option<u64>) -> u64 {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    seconds.max(last.map_or(0, |last| last + 1))
}

/// What became of a segment that the last process left.
enum Left {
    /// It held no record.
    Nothing,
    Sealed(SealedSegment),
    /// As it was left, because the disk is full.
    Closed(ClosedSegment),
}

/// Closes a segment the last process left; the file of one without a record is removed.
fn close_segment(
    directory: &Path,
    expected: Header,
    seen: &mut SeenIds,
    disk: &dyn Disk,
) -> Result<Left, LogError> {
    let path = directory.join(segment_name(expected.number));
    let fail = || LogError::io(&path);
    if seen.has_run_of(expected.number) {
        let length = fs::metadata(&path).map_err(fail())?.len();
        return Ok(Left::Sealed(SealedSegment {
            number: expected.number,
            path,
            length,
        }));
    }
    let bytes = fs::read(&path).map_err(fail())?;
    let Some(header) = Header::decode(&bytes) else {
        return drop_headless(&path, &bytes, disk).map(|()| Left::Nothing);
    };
    check_header(&path, header, expected)?;
    let found = scan(&bytes[HEADER_LENGTH..]);
    let tail = &bytes[HEADER_LENGTH + found.valid_length..];
    if found.ids.is_empty() {
        let removed = keep_torn_tail(&path, tail, found.end).and_then(|()| disk.remove(&path));
        return match removed {
            // It is there to be looked at again.
            Err(error) if is_full(&error) => Ok(Left::Nothing),
            removed => removed.map(|()| Left::Nothing).map_err(fail()),
        };
    }
    let segment = SealedSegment {
        number: expected.number,
        length: (HEADER_LENGTH + found.valid_length) as u64,
        path: path.clone(),
    };
    let run = keep_torn_tail(&path, tail, found.end)
        .and_then(|()| cut(disk, &path, segment.length))
        .and_then(|()| Run::write(seen.directory(), segment.number, &found.ids, now_micros()));
    match run {
        Ok(run) => {
            seen.settle(segment.number, Some(run));
            Ok(Left::Sealed(segment))
        }
        Err(error) if is_full(&error) => {
            let ids = seen.hold(segment.number, found.ids, now_micros());
            Ok(Left::Closed(ClosedSegment { segment, ids }))
        }
        Err(error) => Err(fail()(error)),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

struct Scan {
    ids: IdSet,
    valid_length: usize,
    end: End,
}

fn scan(bytes: &[u8]) -> Scan {
    let mut records = records(bytes);
    let ids = records
        .by_ref()
        .filter_map(|(_, payload)| fingerprint_of(payload))
        .collect();
    Scan {
        ids,
        valid_length: records.valid_length(),
        end: records.end().unwrap_or(End::Clean),
    }
}

/// A file without a header never took a record: the header is synced first. One with foreign content is moved aside.
fn drop_headless(path: &Path, bytes: &[u8], disk: &dyn Disk) -> Result<(), LogError> {
    let is_half_made =
        bytes.len() <= HEADER_LENGTH || bytes[HEADER_LENGTH..].iter().all(|byte| *byte == 0);
    if is_half_made {
        disk.remove(path)
    } else {
        fs::rename(path, path.with_extension("damaged"))
    }
    .map_err(LogError::io(path))
}

fn check_header(path: &Path, found: Header, expected: Header) -> Result<(), LogError> {
    let foreign = |why: &str| Err(LogError::Foreign(path.to_path_buf(), why.to_string()));
    if found.log_id != expected.log_id || found.number != expected.number {
        return foreign("the segment belongs to another log");
    }
    if found.schema_hash != expected.schema_hash {
        return foreign(
            "another version of this program wrote it; rotate it with that version first",
        );
    }
    Ok(())
}

/// Keeps the bytes behind the last whole record. They were never acknowledged unless the disk itself lost data, and then they
/// are what is left to look at.
fn keep_torn_tail(path: &Path, tail: &[u8], end: End) -> io::Result<()> {
    let length = tail
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    if end == End::Clean || length == 0 {
        return Ok(());
    }
    let aside: PathBuf = path.with_extension("torn");
    let kept = File::create(&aside).and_then(|mut file| {
        file.write_all(&tail[..length])?;
        file.sync_all()
    });
    if kept.is_err() {
        // Half of it is of no use, and takes room.
        let _ = fs::remove_file(&aside);
    }
    kept
}

fn cut(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<()> {
    let mut file = disk.open(path)?;
    file.set_length(length)?;
    file.sync_data()
}
