//! Requests no friend sends: bounded memory, the right status, and the next client is served.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use equipoise::serve::ServeConfig;

use crate::serve_ofrep::FLAGS;
use crate::serve_support::{TestServer, connect, read_reply, until};

#[test]
fn a_gigabyte_is_refused_without_being_read() {
    if !is_alone("a_gigabyte_is_refused_without_being_read") {
        return;
    }
    let server = TestServer::start(FLAGS);
    let before = resident_bytes();
    for path in [
        "/v1/events",
        "/ofrep/v1/evaluate/flags",
        "/ofrep/v1/evaluate/flags/bool-flag",
    ] {
        assert_eq!(
            flood(
                &server,
                path,
                &format!("content-length: {}", 1_u64 << 30),
                b""
            ),
            413,
            "{path}, announced"
        );
        assert_eq!(
            flood(&server, path, "transfer-encoding: chunked", b"10000\r\n"),
            413,
            "{path}, in chunks"
        );
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{} MiB more after 6 GiB were offered",
        grown >> 20
    );
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/bool-flag", "{}")
            .status,
        200
    );
}

#[test]
fn a_context_of_ten_megabytes_or_of_many_attributes_is_refused() {
    let server = TestServer::start(FLAGS);
    let large = format!(
        r#"{{"context":{{"targetingKey":"u","x":"{}"}}}}"#,
        "a".repeat(10 << 20)
    );
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/bool-flag", &large)
            .status,
        413
    );
    let many: Vec<String> = (0..1_000).map(|index| format!(r#""a{index}":1"#)).collect();
    let many = server.post(
        "/ofrep/v1/evaluate/flags/bool-flag",
        &format!(r#"{{"context":{{{}}}}}"#, many.join(",")),
    );
    assert_eq!(
        (many.status, many.json()["errorCode"].as_str()),
        (400, Some("INVALID_CONTEXT"))
    );
}

#[test]
fn deep_json_and_broken_text_are_parse_errors() {
    let server = TestServer::start(FLAGS);
    let deep = format!(
        r#"{{"context":{{"x":{}{}}}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let bodies: [&[u8]; 6] = [
        deep.as_bytes(),
        b"{\"context\":{\"x\":NaN}}",
        b"{\"context\":{\"x\":1e999}}",
        b"\xff",
        b"{\"context\":{\"\xc3\x28\":1}}",
        b"\0",
    ];
    for body in bodies {
        let reply = server.request("POST", "/ofrep/v1/evaluate/flags/bool-flag", &[], body);
        assert_eq!(
            (reply.status, reply.json()["errorCode"].as_str()),
            (400, Some("PARSE_ERROR")),
            "{}",
            String::from_utf8_lossy(&body[..body.len().min(40)])
        );
    }
    let event = format!(
        r#"{{"event_id":"deep","event_type":"metric","event_name":"x","user_id":1,"properties":{}{}}}"#,
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    let reply = server.post("/v1/events", &event);
    assert_eq!(
        (reply.status, reply.json()["quarantined"].as_u64()),
        (200, Some(1)),
        "kept with its reason: properties are no object"
    );
}

#[test]
fn heads_that_are_too_large_or_no_http_are_refused() {
    let server = TestServer::start(FLAGS);
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "a".repeat(64 << 10)
    );
    assert_eq!(raw(&server, long.as_bytes()), 431);
    let many: String = (0..500).map(|index| format!("x{index}: 1\r\n")).collect();
    assert_eq!(
        raw(
            &server,
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()
        ),
        431
    );
    assert_eq!(
        raw(
            &server,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls to a plain port\r\n\r\n"
        ),
        400
    );
    assert_eq!(
        raw(
            &server,
            b"GET /ofrep/v1/evaluate/flags/%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ),
        405
    );
    assert_eq!(raw(&server, b"POST /ofrep/v1/evaluate/flags/%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"), 400);
}

#[test]
fn slow_clients_are_cut_off_and_nobody_waits_for_them() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..config
    });
    let mut slow_head = connect(server.address);
    slow_head
        .write_all(b"POST /v1/events HTTP/1.1\r\nhost:")
        .unwrap();
    let mut slow_body = connect(server.address);
    slow_body
        .write_all(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n[")
        .unwrap();
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/bool-flag", "{}")
            .status,
        200
    );
    assert_eq!(read_reply(&mut slow_body).status, 408);
    let mut rest = Vec::new();
    slow_head.read_to_end(&mut rest).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
}

#[test]
fn who_does_not_ask_nor_read_gives_its_place_to_others() {
    let ways: [(&str, fn(&mut TcpStream)); 3] = [
        ("asks once and stays", |stream| {
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            assert_eq!(read_reply(stream).status, 200);
        }),
        ("begins a head", |stream| {
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        }),
        ("asks on and reads nothing", |stream| {
            stream.set_nonblocking(true).unwrap();
            let question = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
            while stream.write(&question).is_ok() {}
        }),
    ];
    for (name, behave) in ways {
        let server = TestServer::with(FLAGS, "", |config| ServeConfig {
            head_timeout: Duration::from_millis(200),
            connections: 1,
            ..config
        });
        let mut stream = connect(server.address);
        behave(&mut stream);
        until(name, || is_served(&server));
    }
}

#[test]
fn a_head_in_drops_takes_no_longer_than_one_that_stops() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        head_timeout: Duration::from_millis(200),
        connections: 1,
        ..config
    });
    let mut stream = connect(server.address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").unwrap();
    let last = Cell::new(Instant::now());
    until("the place is free", || {
        // Not so often that the head becomes too large.
        if last.get().elapsed() > Duration::from_millis(5) {
            last.set(Instant::now());
            let _ = (&stream).write_all(b"a");
        }
        is_served(&server)
    });
}

#[test]
fn an_event_stream_outlives_the_time_for_a_head() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        head_timeout: Duration::from_millis(100),
        ..config
    });
    let mut listener = connect(server.address);
    listener
        .write_all(b"GET /ofrep/v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut idle = connect(server.address);
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "it is ended");
    server.write("flags/all.yml", &FLAGS.replace("\"hi\"", "\"hello\""));
    let mut text = String::new();
    while !text.contains("refetchEvaluation") {
        let mut chunk = [0; 4096];
        let read = listener.read(&mut chunk).unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

#[test]
fn requests_under_way_are_limited_and_health_is_not() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        in_flight: 2,
        ..config
    });
    let evaluate = || server.post("/ofrep/v1/evaluate/flags/bool-flag", "{}");
    assert_eq!(evaluate().status, 200);
    let unfinished = ["/v1/events", "/ofrep/v1/evaluate/flags"].map(|path| {
        let mut stream = connect(server.address);
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n[");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    });
    until("both are under way", || server.in_flight() == 2);
    let refused = evaluate();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.get("/readyz").status, 200);
    drop(unfinished);
    until("there is room again", || evaluate().status == 200);
}

fn is_served(server: &TestServer) -> bool {
    let mut probe = connect(server.address);
    let sent = probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut text = Vec::new();
    sent.is_ok() && probe.read_to_end(&mut text).is_ok() && text.starts_with(b"HTTP/1.1 200")
}

/// 10,000 when the limit of open files allows it, else as many as it does.
#[test]
fn ten_thousand_idle_connections_cost_little_and_others_are_served() {
    if !is_alone("ten_thousand_idle_connections_cost_little_and_others_are_served") {
        return;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    // Both ends are in this process.
    let count = (allowed.unwrap_or(u64::MAX) as usize / 2)
        .saturating_sub(500)
        .min(10_000);
    let server = TestServer::start(FLAGS);
    let before = resident_bytes();
    let idle: Vec<TcpStream> = (0..count).map(|_| connect(server.address)).collect();
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/bool-flag", "{}")
            .status,
        200
    );
    let each = resident_bytes().saturating_sub(before) / count.max(1) as u64;
    println!("{count} idle connections, {each} bytes of memory each, both ends");
    assert!(
        count < 1_000 || each < 16 << 10,
        "{each} bytes for an idle connection"
    );
    drop(idle);
}

#[test]
fn connections_and_streams_over_their_limit_are_refused() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        connections: 20,
        streams: 1,
        ..config
    });
    let mut first = connect(server.address);
    first
        .write_all(b"GET /ofrep/v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut start = [0; 15];
    first.read_exact(&mut start).unwrap();
    assert_eq!(server.get("/ofrep/v1/stream").status, 429);
    let held: Vec<TcpStream> = (0..30).map(|_| connect(server.address)).collect();
    // Accepting is not in the order of connecting, so one that came later may still get in before the others fill the room.
    until("one more is closed at once", || {
        let mut last = connect(server.address);
        let _ = last.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        last.read(&mut [0; 64]).unwrap_or(0) == 0
    });
    drop(held);
    until("there is room again", || {
        let mut probe = connect(server.address);
        let sent =
            probe.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let mut text = Vec::new();
        sent.is_ok()
            && probe.read_to_end(&mut text).is_ok()
            && String::from_utf8_lossy(&text).contains("equipoise_connections_refused_total")
    });
}

#[test]
fn a_log_that_cannot_write_is_told_and_flags_are_answered_on() {
    let server = TestServer::start(FLAGS);
    // As when the disk died: the folder is gone, so the next segment cannot be made.
    server.post(
        "/v1/events",
        r#"[{"event_id":"a","event_type":"x","user_id":1}]"#,
    );
    std::fs::remove_dir_all(server.folder.path().join("log")).unwrap();
    server.log.seal();
    until("the server is not ready", || {
        server.get("/readyz").status == 503
    });
    let refused = server.post(
        "/v1/events",
        r#"[{"event_id":"b","event_type":"x","user_id":1}]"#,
    );
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("5"))
    );
    let split = server.post(
        "/ofrep/v1/evaluate/flags/split-flag",
        r#"{"context":{"targetingKey":"u"}}"#,
    );
    assert_eq!(split.status, 200);
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("equipoise_assignments_not_logged_total 1")
    );
    assert_eq!(server.get("/healthz").status, 200);
}

/// Offers a gigabyte and returns the status of the answer.
fn flood(server: &TestServer, path: &str, header: &str, chunk_head: &[u8]) -> u16 {
    let mut stream = connect(server.address);
    stream
        .write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n").as_bytes())
        .unwrap();
    let mut chunk = chunk_head.to_vec();
    chunk.resize(chunk.len() + (64 << 10), b'a');
    chunk.extend_from_slice(if chunk_head.is_empty() { b"" } else { b"\r\n" });
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let pieces = (1_usize << 30) / chunk.len();
        (0..pieces)
            .take_while(|_| sender.write_all(&chunk).is_ok())
            .count()
    });
    let status = read_reply(&mut stream).status;
    drop(stream);
    assert!(
        sending.join().unwrap() < (1 << 30) / (64 << 10) - 1,
        "all of it was read"
    );
    status
}

fn raw(server: &TestServer, bytes: &[u8]) -> u16 {
    let mut stream = connect(server.address);
    // The server may close before it has read all.
    let _ = stream.write_all(bytes);
    read_reply(&mut stream).status
}

/// Whether the test has this process to itself, as one that measures its memory must; if not, it has run in one that does.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "EQUIPOISE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("serve_hostile::{test}"), "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
