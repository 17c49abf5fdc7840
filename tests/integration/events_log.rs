//! The event log: what was acknowledged is there after any end, once.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use equipoise::events::log::disk::{Disk, LogFile, RealDisk};
use equipoise::events::log::segment::{self, End, HEADER_LENGTH};
use equipoise::events::log::{
    Batch, EventLog, Health, LogConfig, LogError, Outcome, Refusal, body_of,
};

#[test]
fn acknowledged_records_are_there_after_a_restart_and_their_ids_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert_eq!(
        submit(&log, 0..100),
        Ok(Outcome {
            stored: 100,
            duplicates: 0
        })
    );
    assert_eq!(
        submit(&log, 50..150),
        Ok(Outcome {
            stored: 50,
            duplicates: 50
        })
    );
    drop(log);
    let log = open(folder.path());
    assert_eq!(
        submit(&log, 0..150),
        Ok(Outcome {
            stored: 0,
            duplicates: 150
        })
    );
    assert_eq!(stored(&log), (0..150).collect::<Vec<_>>());
}

#[test]
fn ids_are_known_after_their_segments_were_discarded_and_their_runs_merged() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 2_000,
        ..config(folder.path())
    };
    let log = EventLog::open(config.clone(), Arc::new(RealDisk)).unwrap();
    for start in 0..40 {
        assert_eq!(
            submit(&log, start * 50..start * 50 + 50).unwrap().stored,
            50
        );
    }
    drop(log);
    let log = EventLog::open(config, Arc::new(RealDisk)).unwrap();
    let numbers: Vec<u64> = log.sealed().iter().map(|segment| segment.number).collect();
    assert!(numbers.is_sorted() && numbers.len() >= 20, "{numbers:?}");
    numbers
        .iter()
        .for_each(|number| log.discard(*number).unwrap());
    assert!(log.sealed().is_empty());
    let runs = std::fs::read_dir(folder.path().join("ids"))
        .unwrap()
        .count();
    assert!(runs < 16, "{runs} runs were not merged");
    assert_eq!(log.known_ids(), (0, 2_000));
    assert_eq!(
        submit(&log, 0..2_001),
        Ok(Outcome {
            stored: 1,
            duplicates: 2_000
        })
    );
    drop(log);
    let log = open(folder.path());
    assert!(
        log.sealed()[0].number > *numbers.last().unwrap(),
        "a number was used twice"
    );
}

#[test]
fn ids_are_forgotten_when_they_are_older_than_the_filter_remembers() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(folder.path()), 0..10).unwrap();
    let log = open(folder.path());
    log.discard(log.sealed()[0].number).unwrap();
    drop(log);
    let config = LogConfig {
        remember_ids: Duration::ZERO,
        ..config(folder.path())
    };
    let log = EventLog::open(config, Arc::new(RealDisk)).unwrap();
    assert_eq!(submit(&log, 0..10).unwrap().stored, 10);
}

#[test]
fn a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = EventLog::open(config(folder.path()), Arc::new(RealDisk));
    assert!(matches!(second, Err(LogError::Locked(_))));
    drop(first);
    open(folder.path());
}

#[test]
fn a_segment_of_another_payload_version_is_not_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(folder.path()), 0..10).unwrap();
    std::fs::remove_dir_all(folder.path().join("ids")).unwrap();
    let other = LogConfig {
        schema_hash: 8,
        ..config(folder.path())
    };
    assert!(matches!(
        EventLog::open(other, Arc::new(RealDisk)),
        Err(LogError::Foreign(_, _))
    ));
}

#[test]
fn many_senders_with_overlapping_ids_store_each_id_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let sender = |start: u64| {
            let log = &log;
            scope.spawn(move || {
                (0..20)
                    .map(|step| submit(log, start + step * 10..start + step * 10 + 20).unwrap())
                    .collect::<Vec<_>>()
            })
        };
        let senders: Vec<_> = (0..8).map(|index| sender(index * 100)).collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect()
    });
    assert_eq!(
        outcomes
            .iter()
            .map(|outcome| outcome.stored + outcome.duplicates)
            .sum::<usize>(),
        8 * 20 * 20
    );
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.stored).sum::<usize>(),
        910
    );
    drop(log);
    let mut all = stored(&open(folder.path()));
    all.sort_unstable();
    assert!(
        all == (0..910).collect::<Vec<_>>(),
        "{} records, some twice or missing",
        all.len()
    );
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_64_kib_keeps_every_whole_record() {
    let bytes = segment_bytes(1_200);
    let ends: Vec<usize> = segment::records(&bytes)
        .map(|(at, payload)| at + segment::FRAME_LENGTH + payload.len())
        .collect();
    assert!(bytes.len() > 80 * 1024 && *ends.last().unwrap() == bytes.len());
    for cut in bytes.len() - 64 * 1024..=bytes.len() {
        // Records before the last whole one are the same for every cut; reading them each time would take minutes.
        let whole = ends.partition_point(|end| *end <= cut);
        let from = ends[whole - 2];
        let mut records = segment::records(&bytes[from..cut]);
        assert_eq!(records.by_ref().count(), 1, "cut at {cut}");
        assert_eq!(
            from + records.valid_length(),
            ends[whole - 1],
            "cut at {cut}"
        );
        assert_eq!(
            records.end() == Some(End::Clean),
            cut == ends[whole - 1] || bytes[ends[whole - 1]..cut].iter().all(|byte| *byte == 0)
        );
    }
}

/// Opens the log once for every byte offset when `EQUIPOISE_EVERY_OFFSET` is set, else for every 701st and around some records.
#[test]
fn a_cut_log_opens_and_goes_on() {
    let folder = tempfile::tempdir_in(memory_folder()).unwrap();
    submit(&open(folder.path()), 0..1_200).unwrap();
    let path = open(folder.path()).sealed()[0].path.clone();
    let bytes = std::fs::read(&path).unwrap();
    let ends: BTreeSet<usize> = segment::records(&bytes[HEADER_LENGTH..])
        .map(|(at, payload)| HEADER_LENGTH + at + segment::FRAME_LENGTH + payload.len())
        .collect();
    let every = std::env::var_os("EQUIPOISE_EVERY_OFFSET").is_some();
    let near_an_end = |cut: usize| {
        cut.is_multiple_of(47) && ends.range(cut.saturating_sub(1)..=cut + 1).next().is_some()
    };
    for cut in (bytes.len() - 64 * 1024..bytes.len())
        .filter(|cut| every || cut.is_multiple_of(701) || near_an_end(*cut))
    {
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::create_dir(folder.path()).unwrap();
        drop(open(folder.path()));
        let id = std::fs::read_to_string(folder.path().join("id")).unwrap();
        let mut cut_bytes = bytes[..cut].to_vec();
        let log_id = uuid::Uuid::parse_str(id.trim()).unwrap().as_u128();
        let header = segment::Header {
            log_id,
            ..segment::Header::decode(&bytes).unwrap()
        };
        cut_bytes[..HEADER_LENGTH].copy_from_slice(&header.encode());
        std::fs::write(folder.path().join(path.file_name().unwrap()), &cut_bytes).unwrap();
        let whole = ends.range(..=cut).count() as u64;
        let log = open(folder.path());
        assert_eq!(stored(&log), (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(
            submit(&log, 0..1_200).unwrap(),
            Outcome {
                stored: 1_200 - whole as usize,
                duplicates: whole as usize
            }
        );
    }
}

#[test]
fn a_flipped_bit_ends_the_records_and_the_rest_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(folder.path()), 0..100).unwrap();
    let path = open(folder.path()).sealed()[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_dir_all(folder.path().join("ids")).unwrap();
    let log = open(folder.path());
    let kept = stored(&log);
    assert!(kept.len() > 40 && kept.len() < 60);
    let aside = std::fs::read(path.with_extension("torn")).unwrap();
    assert_eq!(
        HEADER_LENGTH + log.read(&log.sealed()[0]).unwrap().len() + aside.len(),
        bytes.len()
    );
}

/// Everything written beside the segment meets a full disk, until the link to one is gone.
#[test]
fn a_log_opens_without_room_to_close_what_the_last_process_left() {
    let folder = tempfile::tempdir().unwrap();
    submit(&open(folder.path()), 0..100).unwrap();
    let path = open(folder.path()).sealed()[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(&[7; 40]);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_dir_all(folder.path().join("ids")).unwrap();
    std::os::unix::fs::symlink("/dev/full", path.with_extension("torn")).unwrap();
    let log = open(folder.path());
    assert_eq!(log.health(), Health::Ready);
    let outcome = submit(&log, 50..150).unwrap();
    assert_eq!((outcome.stored, outcome.duplicates), (50, 50));
    until(|| log.sealed().iter().any(|segment| segment.path == path));
    drop(log);
    let log = open(folder.path());
    assert_eq!(stored(&log), (0..150).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_stops_acknowledging_and_resumes_without_loss_or_double() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let log = EventLog::open(
        LogConfig {
            segment_bytes: 50_000,
            ..config(folder.path())
        },
        disk.clone(),
    )
    .unwrap();
    submit(&log, 0..10).unwrap();
    disk.room.store(700, Ordering::SeqCst);
    let refused = submit(&log, 10..600).unwrap_err();
    assert!(refused.contains("no space left"), "{refused}");
    assert!(matches!(log.health(), Health::Full(_)));
    assert!(matches!(
        log.submit(&batch(10..11)),
        Err(Refusal::Unavailable(_))
    ));
    disk.room.store(u64::MAX, Ordering::SeqCst);
    until(|| log.health() == Health::Ready);
    assert_eq!(
        submit(&log, 5..300),
        Ok(Outcome {
            stored: 290,
            duplicates: 5
        })
    );
    drop(log);
    let mut all = stored(&open(folder.path()));
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_log_opened_on_a_full_disk_reports_it_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    disk.room.store(0, Ordering::SeqCst);
    let log = EventLog::open(config(folder.path()), disk.clone()).unwrap();
    assert!(matches!(log.health(), Health::Full(_)));
    disk.room.store(u64::MAX, Ordering::SeqCst);
    until(|| log.health() == Health::Ready);
    assert_eq!(submit(&log, 0..5).unwrap().stored, 5);
}

#[test]
fn after_a_failed_fsync_nothing_is_acknowledged_until_the_log_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let log = EventLog::open(config(folder.path()), disk.clone()).unwrap();
    submit(&log, 0..10).unwrap();
    disk.sync_fails.store(true, Ordering::SeqCst);
    assert!(submit(&log, 10..20).unwrap_err().contains("fsync"));
    disk.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(log.health(), Health::Failed(_)));
    assert!(matches!(
        log.submit(&batch(10..20)),
        Err(Refusal::Unavailable(_))
    ));
    drop(log);
    let log = open(folder.path());
    let after = submit(&log, 0..20).unwrap();
    assert_eq!(after.stored + after.duplicates, 20);
    drop(log);
    assert_eq!(stored(&open(folder.path())), (0..20).collect::<Vec<_>>());
}

#[test]
fn senders_are_refused_before_memory_fills() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let log = EventLog::open(
        LogConfig {
            pending_bytes: 50_000,
            ..config(folder.path())
        },
        disk.clone(),
    )
    .unwrap();
    let gate = disk.gate.lock().unwrap();
    let receipts: Vec<_> = (0..10_000)
        .map_while(|index| log.submit(&batch(index..index + 1)).ok())
        .collect();
    let refused = log.submit(&batch(0..1)).err();
    drop(gate);
    assert_eq!(refused, Some(Refusal::Busy));
    // The group the writer holds and the queue: at most twice the limit.
    assert!(
        receipts.len() < 2 * 50_000 / segment_bytes(1).len(),
        "{} batches waited",
        receipts.len()
    );
    let stored: usize = receipts
        .into_iter()
        .map(|receipt| receipt.wait_blocking().unwrap().stored)
        .sum();
    assert_eq!(log.counters().stored.load(Ordering::SeqCst), stored as u64);
}

#[test]
fn a_lone_sender_is_not_kept_waiting_for_company() {
    let folder = tempfile::tempdir().unwrap();
    let log = EventLog::open(
        LogConfig {
            window: Duration::from_secs(3_600),
            ..config(folder.path())
        },
        Arc::new(RealDisk),
    )
    .unwrap();
    // Would take hours if the window were waited for.
    for id in 0..20 {
        assert_eq!(submit(&log, id..id + 1).unwrap().stored, 1);
    }
}

#[test]
fn records_nobody_waits_for_are_stored_too() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append(&batch(0..5)).unwrap();
    until(|| log.counters().stored.load(Ordering::SeqCst) == 5);
    log.seal();
    assert_eq!(log.wait_sealed(Duration::from_secs(20)).len(), 1);
    assert_eq!(stored(&log), (0..5).collect::<Vec<_>>());
}

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        ..LogConfig::new(folder, 7)
    }
}

fn open(folder: &Path) -> EventLog {
    EventLog::open(config(folder), Arc::new(RealDisk)).unwrap()
}

fn batch(ids: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for id in ids {
        // Like real fingerprints: all bits depend on the id.
        let fingerprint =
            u128::from(id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        assert!(batch.push(fingerprint, |body| {
            body.extend_from_slice(format!("{id:0>50}").as_bytes())
        }));
    }
    batch
}

fn submit(log: &EventLog, ids: std::ops::Range<u64>) -> Result<Outcome, String> {
    log.submit(&batch(ids))
        .map_err(|refusal| format!("{refusal:?}"))?
        .wait_blocking()
}

fn stored(log: &EventLog) -> Vec<u64> {
    let bytes: Vec<Vec<u8>> = log
        .sealed()
        .iter()
        .map(|segment| log.read(segment).unwrap())
        .collect();
    let ids = bytes.iter().flat_map(|bytes| segment::records(bytes));
    ids.map(|(_, payload)| str::from_utf8(body_of(payload)).unwrap().parse().unwrap())
        .collect()
}

/// The bytes after the header of a segment with `count` records.
fn segment_bytes(count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..count {
        let payload = [
            &u128::from(id).to_le_bytes()[..],
            format!("{id:0>50}").as_bytes(),
        ]
        .concat();
        segment::frame(&payload, &mut bytes).unwrap();
    }
    bytes
}

fn memory_folder() -> std::path::PathBuf {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        shared_memory.to_path_buf()
    } else {
        std::env::temp_dir()
    }
}

fn until(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited a minute in vain"
        );
        std::thread::yield_now();
    }
}

/// A disk with limited room, fsyncs that can fail, and a gate every write passes.
struct FaultyDisk {
    room: Arc<AtomicU64>,
    sync_fails: Arc<AtomicBool>,
    gate: Arc<Mutex<()>>,
}

impl Default for FaultyDisk {
    fn default() -> FaultyDisk {
        FaultyDisk {
            room: Arc::new(AtomicU64::new(u64::MAX)),
            sync_fails: Arc::default(),
            gate: Arc::default(),
        }
    }
}

struct FaultyFile {
    file: Box<dyn LogFile>,
    room: Arc<AtomicU64>,
    sync_fails: Arc<AtomicBool>,
    gate: Arc<Mutex<()>>,
}

impl FaultyDisk {
    fn wrap(&self, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        let (room, sync_fails, gate) = (
            self.room.clone(),
            self.sync_fails.clone(),
            self.gate.clone(),
        );
        Box::new(FaultyFile {
            file,
            room,
            sync_fails,
            gate,
        })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(self.wrap(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(self.wrap(RealDisk.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_directory(path)
    }
}

impl LogFile for FaultyFile {
    /// Writes what there is room for, like a full disk does.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _passed = self.gate.lock().unwrap();
        let room = self.room.load(Ordering::SeqCst);
        let fitting = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.file.write_at(&bytes[..fitting], offset)?;
        self.room.store(
            if room == u64::MAX {
                room
            } else {
                room - fitting as u64
            },
            Ordering::SeqCst,
        );
        if fitting < bytes.len() {
            Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"))
        } else {
            Ok(())
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if self.sync_fails.load(Ordering::SeqCst) {
            Err(io::Error::other("input/output error"))
        } else {
            self.file.sync_data()
        }
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }
}
