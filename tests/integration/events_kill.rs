//! Kills the server with SIGKILL under load, again and again, and reads the tables back: every acknowledged event is in them, and
//! no event is twice.
//!
//! The server is this test binary itself, started with [`CHILD`] set, or the program that `EQUIPOISE_BIN` names. `EQUIPOISE_KILLS` says
//! how often it is killed (6 if not set). `EQUIPOISE_KILLS=200 EQUIPOISE_BIN=.../release/equipoise cargo test kill_9 -- --nocapture` is
//! the long run of an optimised server, which must acknowledge [`BAR`] events a second while it is killed, a quarter of the kills
//! inside a rotation or its commit.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use equipoise::events::log::disk::RealDisk;
use equipoise::events::log::{EventLog, LogConfig};
use equipoise::events::record::SCHEMA_HASH;
use equipoise::events::rotate::Rotator;
use equipoise::events::schema::Table;
use equipoise::project::Options;
use equipoise::serve::folder::ProjectFolder;
use equipoise::serve::keys::ApiKeys;
use equipoise::serve::{ServeConfig, State, serve};
use tokio::net::TcpListener;

use crate::events_rotate::ids;

const CHILD: &str = "EQUIPOISE_KILL_CHILD";
const SENDERS: u64 = 8;
const BATCH: u64 = 200;
/// Events a second that the long run asks of an optimised build.
const BAR: f64 = 20_000.0;

/// The server that is killed. As a test of its own it does nothing.
#[test]
fn kill_9_child() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let config = LogConfig {
        segment_bytes: 512 << 10,
        segment_age: Duration::from_millis(50),
        ..LogConfig::new(folder.join("log"), SCHEMA_HASH)
    };
    let log = Arc::new(EventLog::open(config, Arc::new(RealDisk)).unwrap());
    let definitions = Box::new(ProjectFolder::new(&folder, Options::default()));
    let keys = ApiKeys::default();
    let state =
        Arc::new(State::new(ServeConfig::default(), definitions, log.clone(), keys).unwrap());
    let rotator = Rotator::start(log, &folder.join("tables"), |moved| {
        assert!(moved.is_ok(), "{moved:?}")
    })
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        fs::write(folder.join("address.new"), address).unwrap();
        fs::rename(folder.join("address.new"), folder.join("address")).unwrap();
        let asked_to_stop = async {
            // The parent closes the pipe to stop this process in an orderly way.
            tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]))
                .await
                .unwrap()
                .unwrap();
        };
        serve(listener, state, asked_to_stop).await;
    });
    rotator.finish();
}

#[test]
fn kill_9_at_any_instant_loses_and_doubles_nothing() {
    let kills: u64 = std::env::var("EQUIPOISE_KILLS").map_or(6, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("project.yml"), "name: shop\n").unwrap();
    let load = Arc::new(Load::default());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let load = load.clone();
            std::thread::spawn(move || send(&load, sender))
        })
        .collect();
    let (mut found, mut up) = (Found::default(), Duration::ZERO);
    for kill in 0..kills {
        let mut child = start(folder.path());
        load.go(wait_for_address(folder.path()));
        let started = Instant::now();
        aim(folder.path(), kill);
        child.kill().unwrap();
        up += started.elapsed();
        load.halt();
        child.wait().unwrap();
        found.look(folder.path());
    }
    let mut child = start(folder.path());
    load.finish();
    load.go(wait_for_address(folder.path()));
    let sent: u64 = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .sum();
    stop(&mut child);
    assert!(child.wait().unwrap().success());
    check(folder.path(), sent);
    let rate = load.acknowledged.load(Ordering::SeqCst) as f64 / up.as_secs_f64().max(0.001);
    println!(
        "{kills} kills, {} while a rotation wrote rows and {} between its commit and the removal of its segments; {sent} events, \
         {rate:.0} acknowledged a second while the server was up; none lost, none twice",
        found.before_commit, found.after_commit,
    );
    let is_optimised = optimised_server().is_some() || !cfg!(debug_assertions);
    if kills >= 200 && is_optimised {
        assert!(rate >= BAR, "{rate:.0} events a second");
        let inside = found.before_commit + found.after_commit;
        assert!(inside * 4 >= kills, "{inside} kills were inside a rotation");
    }
}

/// Waits for the instant to kill: any, while a rotation writes its rows, around its commit, or right after it.
fn aim(folder: &Path, kill: u64) {
    match kill % 4 {
        1 => wait_for_rows(folder),
        2 => {
            wait_for_rows(folder);
            // Rows are synced for a few milliseconds before they are committed.
            pause(Duration::from_micros((kill * 7_919) % 15_000));
        }
        3 => wait_for_commit(folder),
        // A fixed sequence that covers 5 to 400 ms.
        _ => pause(Duration::from_micros(
            5_000 + (kill * 7_919 * 1_021) % 395_000,
        )),
    }
}

/// Where the kills fell, by what they left.
#[derive(Default)]
struct Found {
    before_commit: u64,
    after_commit: u64,
    orphans: usize,
    unfinished: Option<u64>,
}

impl Found {
    fn look(&mut self, folder: &Path) {
        let orphans = orphans(folder);
        self.before_commit += u64::from(orphans > self.orphans);
        self.orphans = orphans;
        // A server that is killed before it finished what the one before left counts once.
        let unfinished = unfinished_rotation(folder);
        self.after_commit += u64::from(unfinished.is_some() && unfinished != self.unfinished);
        self.unfinished = unfinished;
    }
}

fn check(folder: &Path, sent: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let counts = runtime.block_on(ids(folder, Table::Metric));
    let twice = counts.values().filter(|count| **count != 1).count();
    assert_eq!(twice, 0, "events are twice in the table");
    assert_eq!(
        counts.len() as u64,
        sent,
        "every event was acknowledged in the end"
    );
    let expected = |sender: u64| {
        (0..)
            .map(move |number| format!("{sender}-{number}"))
            .take_while(|id| counts.contains_key(id))
            .count()
    };
    assert_eq!(
        (0..SENDERS).map(expected).sum::<usize>() as u64,
        sent,
        "an id is missing"
    );
    let quarantined = folder.join("tables").join(Table::Quarantine.name());
    assert!(!quarantined.exists(), "something was put into quarantine");
}

/// Where the senders should send to, if anywhere.
#[derive(Default)]
struct Load {
    address: Mutex<Option<SocketAddr>>,
    is_ending: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    fn go(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = Some(address);
    }

    fn halt(&self) {
        *self.address.lock().unwrap() = None;
    }

    /// The senders bring to an end what they began, and stop.
    fn finish(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap()
    }
}

/// Sends batch after batch, each until it is acknowledged; returns how many events that were.
fn send(load: &Load, sender: u64) -> u64 {
    let mut connection: Option<TcpStream> = None;
    let mut next = 0;
    while !load.is_ending.load(Ordering::SeqCst) {
        let body = batch(sender, next);
        while !post(load, &mut connection, &body) {
            // The server is being started; it needs the processor.
            pause(Duration::from_millis(1));
        }
        load.acknowledged.fetch_add(BATCH, Ordering::SeqCst);
        next += BATCH;
    }
    next
}

fn batch(sender: u64, from: u64) -> String {
    let event = |number: u64| {
        format!(
            r#"{{"event_id":"{sender}-{number}","event_type":"metric","event_name":"paid","value":{number},"user_id":"u{number}","occurred_at":"2026-11-01T00:00:00Z","properties":{{"sku":"a-{number}","country":"DE"}}}}"#
        )
    };
    format!(
        "[{}]",
        (from..from + BATCH)
            .map(event)
            .collect::<Vec<_>>()
            .join(",")
    )
}

/// One attempt; true when the answer was 200.
fn post(load: &Load, connection: &mut Option<TcpStream>, body: &str) -> bool {
    if connection.is_none() {
        *connection = load
            .address()
            .and_then(|address| TcpStream::connect(address).ok());
    }
    let Some(stream) = connection else {
        return false;
    };
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()));
    let answer = sent.and_then(|()| read_answer(stream));
    match answer {
        Ok(text) => text.starts_with("HTTP/1.1 200"),
        Err(_) => {
            *connection = None;
            false
        }
    }
}

fn read_answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        // Answers are one small JSON object.
        if text.contains("\r\n\r\n") && text.ends_with('}') {
            return Ok(text);
        }
    }
}

fn start(folder: &Path) -> Child {
    // Left by the process before.
    let _ = fs::remove_file(folder.join("address"));
    match optimised_server() {
        Some(program) => start_program(&program, folder),
        None => start_this_test(folder),
    }
}

fn optimised_server() -> Option<PathBuf> {
    std::env::var_os("EQUIPOISE_BIN").map(PathBuf::from)
}

fn start_this_test(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "events_kill::kill_9_child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// `equipoise serve` says in its log where it listens.
fn start_program(program: &Path, folder: &Path) -> Child {
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--rotate-seconds", "1"])
        .arg("--project-dir")
        .arg(folder)
        .arg("--events")
        .arg(folder)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let folder = folder.to_path_buf();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["body"] == "listening" {
                let port = &line["attributes"]["server.port"];
                fs::write(folder.join("address"), format!("127.0.0.1:{port}")).unwrap();
            }
        }
    });
    child
}

/// Asks the server to stop in an orderly way.
fn stop(child: &mut Child) {
    match child.stdin.take() {
        Some(pipe) => drop(pipe),
        None => {
            let term = rustix::process::Signal::TERM;
            rustix::process::kill_process(rustix::process::Pid::from_child(child), term).unwrap();
        }
    }
}

fn wait_for_address(folder: &Path) -> SocketAddr {
    let start = Instant::now();
    loop {
        let address = fs::read_to_string(folder.join("address"));
        // It may be read while it is written.
        if let Ok(Ok(address)) = address.map(|text| text.parse()) {
            return address;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the server did not start"
        );
        pause(Duration::from_millis(2));
    }
}

/// Waits until a rotation writes a file of rows.
fn wait_for_rows(folder: &Path) {
    let before = files(folder, "parquet").len();
    wait_until(|| files(folder, "parquet").len() > before);
}

/// Waits until a rotation is committed.
fn wait_for_commit(folder: &Path) {
    let table = folder.join("tables").join(Table::Metric.name());
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let next = files(folder, "json").iter().filter_map(number).max();
    let next = next.map_or(0, |newest| newest + 1);
    let commit = table.join(format!("_delta_log/{next:020}.json"));
    wait_until(|| commit.exists());
}

/// At most half a minute: without optimisation a rotation of what came in between is slow.
fn wait_until(is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() && start.elapsed() < Duration::from_secs(30) {
        pause(Duration::from_micros(200));
    }
}

/// Files of the metric table and of its log.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let table = folder.join("tables").join(Table::Metric.name());
    let list = |folder: &Path| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let all = list(&table).into_iter().flat_map(|path| {
        if path.is_dir() {
            list(&path)
        } else {
            vec![path]
        }
    });
    all.filter(|path| path.extension().is_some_and(|end| end == extension))
        .collect()
}

/// Data files that no commit names: each was left by a kill inside a rotation.
fn orphans(folder: &Path) -> usize {
    let commits: String = files(folder, "json")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let data = files(folder, "parquet")
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains("_delta_log"));
    data.filter(|path| !commits.contains(path.file_name().unwrap().to_str().unwrap()))
        .count()
}

/// The last segment that a table holds and the log too: the process died between a commit and the removal.
fn unfinished_rotation(folder: &Path) -> Option<u64> {
    let commits = fs::read_dir(folder.join("tables/metric_event/_delta_log"))
        .into_iter()
        .flatten();
    let newest = commits
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .max();
    let text = newest
        .and_then(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    let held: Option<u64> = text.lines().find_map(|line| {
        let action: serde_json::Value = serde_json::from_str(line).ok()?;
        action.pointer("/txn/version")?.as_u64()
    });
    held.filter(|number| folder.join(format!("log/{number:020}.wal")).exists())
}

fn pause(duration: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    assert!(receiver.recv_timeout(duration).is_err());
}
