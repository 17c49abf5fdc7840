//! A server in this process, its project folder, and a small HTTP client.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use equipoise::events::log::disk::RealDisk;
use equipoise::events::log::{EventLog, LogConfig};
use equipoise::events::record::SCHEMA_HASH;
use equipoise::project::Options;
use equipoise::serve::folder::ProjectFolder;
use equipoise::serve::keys::ApiKeys;
use equipoise::serve::{ServeConfig, State, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running server. It is stopped, and its log closed, when dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub folder: TempDir,
    pub log: Arc<EventLog>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Serves `flags` (YAML) with the defaults and without keys.
    pub fn start(flags: &str) -> TestServer {
        TestServer::with(flags, "", |config| config)
    }

    /// The same with API keys and another configuration.
    pub fn with(
        flags: &str,
        keys: &str,
        configure: impl FnOnce(ServeConfig) -> ServeConfig,
    ) -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("flags")).unwrap();
        fs::write(folder.path().join("project.yml"), "name: shop\n").unwrap();
        fs::write(folder.path().join("flags/all.yml"), flags).unwrap();
        let config = ServeConfig {
            reload_every: Duration::from_millis(20),
            ..ServeConfig::default()
        };
        let config = configure(config);
        let log_config = LogConfig::new(folder.path().join("log"), SCHEMA_HASH);
        let log = Arc::new(EventLog::open(log_config, Arc::new(RealDisk)).unwrap());
        let definitions = ProjectFolder::new(folder.path(), Options::default());
        let state = State::new(
            config,
            Box::new(definitions),
            log.clone(),
            ApiKeys::read(keys).unwrap(),
        );
        let state =
            Arc::new(state.unwrap_or_else(|diagnostics| panic!("{}", diagnostics.join("\n"))));
        let (stop, stopped) = oneshot::channel();
        let (address, thread) = run(state, stopped);
        TestServer {
            address,
            folder,
            log,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        )
    }

    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// Requests that wait for their body or their work.
    pub fn in_flight(&self) -> u64 {
        let page = self.get("/metrics").text();
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix("equipoise_http_requests_in_flight "));
        value.expect("a gauge of that name").parse().unwrap()
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        request(self.address, method, path, headers, body)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Stops as SIGTERM does.
    pub fn stop(&mut self) {
        // The server may have stopped by itself; then there is no receiver.
        let _ = self.stop.take().map(|stop| stop.send(()));
        self.thread
            .take()
            .map(|thread| thread.join().unwrap())
            .unwrap_or_default();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(state: Arc<State>, stopped: oneshot::Receiver<()>) -> (SocketAddr, JoinHandle<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = async { stopped.await.unwrap_or_default() };
    (
        address,
        std::thread::spawn(move || runtime.block_on(serve(listener, state, shutdown))),
    )
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Sends one request over a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut stream = connect(address);
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has refused already may have closed its half.
    let _ = stream.write_all(body);
    read_reply(&mut stream)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// Reads one answer with a known length, or to the end of the connection.
pub fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(
            read_some(stream, &mut bytes),
            "no answer: {}",
            String::from_utf8_lossy(&bytes)
        );
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let pair = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_string(), value.to_string()))
    };
    let headers: Vec<(String, String)> = lines.filter_map(pair).collect();
    let mut body = bytes[head_end + 4..].to_vec();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(if status == 304 { 0 } else { usize::MAX }, |(_, length)| {
        length.parse().unwrap()
    });
    while body.len() < length && read_some(stream, &mut body) {}
    Reply {
        status,
        headers,
        body,
    }
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 << 10];
    // A reset after the answer was sent ends it like an orderly close.
    let read = stream.read(&mut chunk).unwrap_or(0);
    bytes.extend_from_slice(&chunk[..read]);
    read > 0
}

/// Waits for something another thread does.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        std::thread::yield_now();
    }
}

/// The folder of conformance data, or a word about where it was sought: it is no part of this repository.
pub fn conformance_folder() -> Option<std::path::PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    let folder = std::env::var_os("EQUIPOISE_CONFORMANCE").map_or(default, Into::into);
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return None;
    }
    Some(folder)
}
