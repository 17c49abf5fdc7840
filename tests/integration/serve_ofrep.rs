//! OFREP over HTTP: values, errors, ETags, event streams, keys, reloads.

use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};

use crate::serve_support::{TestServer, conformance_folder, connect, read_reply, until};

/// The flags of the conformance cases, and some for the tests below.
pub const FLAGS: &str = r#"
version: 1
contexts:
  user:
    unit: user_id
    attributes: {country: string, plan: string, level: integer}
flags:
  - key: bool-flag
    type: boolean
    variants: {on: true, off: false}
    default_variant: "on"
    metadata: {flagSetId: stub}
  - key: string-flag
    type: string
    variants: {greeting: "hi", other: "yo"}
    default_variant: greeting
  - key: int-flag
    type: integer
    variants: {answer: 42, none: 0}
    default_variant: answer
  - key: float-flag
    type: float
    variants: {one: 1, half: 0.5}
    default_variant: one
  - key: object-flag
    type: object
    variants: {red: {color: red, size: 3}}
    default_variant: red
  - key: disabled-flag
    type: boolean
    variants: {on: true, off: false}
    default_variant: "off"
    state: disabled
  - key: split-flag
    type: string
    variants: {a: A, b: B}
    default_variant: a
    rules:
      - id: split
        rollout: {salt: split-flag, weights: {a: 50, b: 50}, percent: 100}
  - key: code-flag
    type: string
    variants: {german: german}
    rules:
      - id: germans
        when: country = 'DE'
        serve: german
  - key: target-flag
    type: string
    variants: {plain: plain, german: german}
    default_variant: plain
    rules:
      - id: germans
        when: country = 'DE'
        serve: german
"#;

#[test]
fn the_conformance_cases_pass() {
    let Some(folder) = conformance_folder() else {
        return;
    };
    let server = TestServer::start(FLAGS);
    let text = std::fs::read_to_string(folder.join("ofrep_http_cases.json")).unwrap();
    let suite: Value = serde_json::from_str(&text).unwrap();
    let cases = suite["cases"].as_array().unwrap();
    let mut tags = std::collections::HashMap::new();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| play(&server, case, &mut tags).err())
        .collect();
    println!(
        "ofrep_http: {} / {} passed",
        cases.len() - failures.len(),
        cases.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(cases.len() >= 17);
}

#[test]
fn the_python_runner_passes() {
    let Some(folder) = conformance_folder() else {
        return;
    };
    let has_requests = Command::new("python3")
        .args(["-c", "import requests"])
        .status();
    if !has_requests.is_ok_and(|status| status.success()) {
        println!("skipped: python3 with the package `requests` is not installed");
        return;
    }
    let server = TestServer::start(FLAGS);
    let runner = Command::new("python3")
        .arg(folder.join("ofrep_http_runner.py"))
        .arg(format!("http://{}", server.address))
        .arg(folder.join("ofrep_http_cases.json"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&runner.stdout);
    println!("{printed}");
    assert!(
        runner.status.success() && printed.contains(" 0 failed"),
        "{printed}"
    );
}

#[test]
fn an_answer_has_exactly_these_fields() {
    let server = TestServer::start(FLAGS);
    let text = |key: &str, context: &str| {
        let reply = server.post(
            &format!("/ofrep/v1/evaluate/flags/{key}"),
            &format!(r#"{{"context":{context}}}"#),
        );
        (reply.status, reply.text())
    };
    let ok = |text: &str| (200, text.to_string());
    assert_eq!(
        text("bool-flag", "{}"),
        ok(
            r#"{"key":"bool-flag","value":true,"variant":"on","reason":"STATIC","metadata":{"flagSetId":"stub"}}"#
        )
    );
    assert_eq!(
        text("float-flag", "{}"),
        ok(r#"{"key":"float-flag","value":1.0,"variant":"one","reason":"STATIC","metadata":{}}"#)
    );
    assert_eq!(
        text("target-flag", r#"{"country":"DE"}"#),
        ok(
            r#"{"key":"target-flag","value":"german","variant":"german","reason":"TARGETING_MATCH","metadata":{"rule":"germans"}}"#
        )
    );
    assert_eq!(
        text("target-flag", r#"{"country":"FR"}"#),
        ok(
            r#"{"key":"target-flag","value":"plain","variant":"plain","reason":"DEFAULT","metadata":{}}"#
        )
    );
    assert_eq!(
        text("code-flag", r#"{"country":"FR"}"#),
        ok(r#"{"key":"code-flag","variant":"","reason":"DEFAULT","metadata":{}}"#),
        "the value in the code counts"
    );
    assert_eq!(text("disabled-flag", "{}").1.matches("DISABLED").count(), 1);
}

#[test]
fn a_strict_client_gets_only_reasons_of_the_protocol() {
    let server = TestServer::with(FLAGS, "", |config| equipoise::serve::ServeConfig {
        strict_reasons: true,
        ..config
    });
    let reply = server.post(
        "/ofrep/v1/evaluate/flags/target-flag",
        r#"{"context":{"country":"FR"}}"#,
    );
    assert_eq!(reply.json()["reason"], "UNKNOWN");
}

#[test]
fn wrong_requests_get_the_code_that_says_why() {
    let server = TestServer::start(FLAGS);
    let post = |key: &str, body: &str| {
        let reply = server.post(&format!("/ofrep/v1/evaluate/flags/{key}"), body);
        (
            reply.status,
            reply.json()["errorCode"]
                .as_str()
                .unwrap_or_default()
                .to_string(),
            reply.json()["key"].clone(),
        )
    };
    let bad = |code: &str, key: &str| (400, code.to_string(), json!(key));
    assert_eq!(post("bool-flag", "{"), bad("PARSE_ERROR", "bool-flag"));
    assert_eq!(post("bool-flag", ""), bad("PARSE_ERROR", "bool-flag"));
    assert_eq!(
        post("bool-flag", r#"{"context":{"a":NaN}}"#),
        bad("PARSE_ERROR", "bool-flag")
    );
    assert_eq!(
        post("bool-flag", r#"{"context":[]}"#),
        bad("INVALID_CONTEXT", "bool-flag")
    );
    assert_eq!(
        post("bool-flag", r#"{"context":{"level":"high"}}"#),
        bad("INVALID_CONTEXT", "bool-flag")
    );
    assert_eq!(
        post("split-flag", r#"{"context":{"targetingKey":""}}"#),
        bad("TARGETING_KEY_MISSING", "split-flag")
    );
    assert_eq!(
        post("no%20such", "{}"),
        (404, "FLAG_NOT_FOUND".to_string(), json!("no such"))
    );
    let bulk = server.post(
        "/ofrep/v1/evaluate/flags",
        r#"{"context":{"level":"high"}}"#,
    );
    assert_eq!(
        (bulk.status, bulk.json()["errorCode"].as_str()),
        (400, Some("INVALID_CONTEXT"))
    );
    assert_eq!(server.get("/ofrep/v1/evaluate/flags").status, 405);
    assert_eq!(server.get("/nothing").status, 404);
}

#[test]
fn a_tag_covers_context_and_definitions_but_not_the_order_of_attributes() {
    let server = TestServer::start(FLAGS);
    let tag = |context: &str| {
        let reply = server.post(
            "/ofrep/v1/evaluate/flags",
            &format!(r#"{{"context":{context}}}"#),
        );
        assert_eq!(reply.status, 200);
        reply.header("etag").unwrap().to_string()
    };
    let first = tag(r#"{"targetingKey":"u1","country":"DE","plan":"x"}"#);
    assert_eq!(
        first,
        tag(r#"{"plan":"x","country":"DE","targetingKey":"u1"}"#)
    );
    assert_ne!(first, tag(r#"{"targetingKey":"u1","country":"DE"}"#));
    assert_ne!(
        first,
        tag(r#"{"targetingKey":"u1","country":"x","plan":"DE"}"#)
    );
    let not_modified = |tag: &str| {
        let headers = [("content-type", "application/json"), ("if-none-match", tag)];
        let body = br#"{"context":{"targetingKey":"u1","country":"DE","plan":"x"}}"#;
        server.request("POST", "/ofrep/v1/evaluate/flags", &headers, body)
    };
    for known in [
        first.clone(),
        format!("W/{first}"),
        format!("\"a\", {first}"),
        "*".to_string(),
    ] {
        let reply = not_modified(&known);
        assert_eq!(
            (reply.status, reply.body.len(), reply.header("etag")),
            (304, 0, Some(first.as_str()))
        );
    }
    server.write(
        "flags/all.yml",
        &FLAGS.replace("greeting: \"hi\"", "greeting: \"hello\""),
    );
    until("the edit is served", || not_modified(&first).status == 200);
}

#[test]
fn a_tag_ends_when_an_allocation_takes_effect() {
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(1_500);
    let flags = format!(
        "{FLAGS}  - key: later\n    type: string\n    variants: {{a: A, b: B}}\n    default_variant: a\n    rules:\n      - {{id: r, serve: b, active: {{from: '{}'}}}}\n",
        soon.to_rfc3339()
    );
    let server = TestServer::start(&flags);
    let value = || {
        let reply = server.post("/ofrep/v1/evaluate/flags", r#"{"context":{}}"#);
        let flags = reply.json()["flags"].as_array().unwrap().clone();
        let later = flags.iter().find(|flag| flag["key"] == "later").unwrap()["value"].clone();
        (later, reply.header("etag").unwrap().to_string())
    };
    let (before, first_tag) = value();
    assert_eq!(before, "A");
    let mut stream = open_stream(&server, &[]);
    assert!(
        next_message(&mut stream).contains("refetchEvaluation"),
        "the stream tells it without an edit"
    );
    let (after, second_tag) = value();
    assert_eq!(after, "B");
    assert_ne!(first_tag, second_tag);
}

#[test]
fn an_edit_is_told_to_the_event_stream_and_a_missed_one_at_once() {
    let server = TestServer::start(FLAGS);
    let bulk = server.post("/ofrep/v1/evaluate/flags", "{}").json();
    let entry = &bulk["eventStreams"][0];
    assert_eq!(
        (&entry["type"], &entry["endpoint"]["requestUri"]),
        (&json!("sse"), &json!("/ofrep/v1/stream"))
    );
    let mut stream = open_stream(&server, &[]);
    server.write(
        "flags/all.yml",
        &FLAGS.replace("greeting: \"hi\"", "greeting: \"hello\""),
    );
    let message = next_message(&mut stream);
    let data: Value = serde_json::from_str(
        message
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap(),
    )
    .unwrap();
    assert_eq!(data["type"], "refetchEvaluation");
    assert!(data["etag"].is_string() && data["lastModified"].is_i64());
    assert!(message.contains("event: message\n"));
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/string-flag", "{}")
            .json()["value"],
        "hello"
    );
    let mut late = open_stream(&server, &[("last-event-id", "older")]);
    assert_eq!(next_message(&mut late), message);
}

#[test]
fn a_broken_edit_keeps_the_old_set_and_shows_in_readyz() {
    let server = TestServer::start(FLAGS);
    let ready = || server.get("/readyz").json();
    assert_eq!(ready()["status"], "ready");
    server.write(
        "flags/all.yml",
        &FLAGS.replace("default_variant: greeting", "default_variant: greting"),
    );
    until("the edit is refused", || ready()["status"] == "degraded");
    let problem = ready()["checks"]["definitions"]["problem"][0]
        .as_str()
        .unwrap()
        .to_string();
    assert!(
        problem.contains("greting") && problem.contains("flags/all.yml:"),
        "{problem}"
    );
    assert_eq!(server.get("/readyz").status, 200, "flags are served on");
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/string-flag", "{}")
            .json()["value"],
        "hi"
    );
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("equipoise_definitions_current 0")
    );
    server.write(
        "flags/all.yml",
        &FLAGS.replace("greeting: \"hi\"", "greeting: \"again\""),
    );
    until("the mended edit is served", || ready()["status"] == "ready");
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags/string-flag", "{}")
            .json()["value"],
        "again"
    );
}

#[test]
fn keys_open_what_their_scopes_say() {
    let keys = "# keys\nprod:evaluate:evaluate-secret-0001\nprod:events:events-secret-000001\n";
    let server = TestServer::with(FLAGS, keys, |config| config);
    let bulk = |headers: &[(&str, &str)]| {
        server.request("POST", "/ofrep/v1/evaluate/flags", headers, b"{}")
    };
    assert_eq!(bulk(&[]).status, 401);
    assert_eq!(
        bulk(&[("authorization", "Bearer nobody-has-this-key")]).status,
        401
    );
    assert_eq!(
        bulk(&[("authorization", "Basic evaluate-secret-0001")]).status,
        401
    );
    assert_eq!(
        bulk(&[("authorization", "Bearer events-secret-000001")]).status,
        403
    );
    assert_eq!(bulk(&[("x-api-key", "evaluate-secret-0001")]).status, 200);
    let allowed = bulk(&[("authorization", "bearer evaluate-secret-0001")]);
    assert_eq!(allowed.status, 200);
    let address = allowed.json()["eventStreams"][0]["endpoint"]["requestUri"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(address.starts_with("/ofrep/v1/stream?token=") && !address.contains("secret"));
    let mut stream = connect(server.address);
    std::io::Write::write_all(
        &mut stream,
        format!("GET {address} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut start = [0; 15];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    assert_eq!(server.get("/ofrep/v1/stream").status, 401);
    assert_eq!(server.get("/ofrep/v1/stream?token=00").status, 401);
    assert_eq!(server.get("/flags.ufc.json").status, 401);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(open).status, 200);
    }
}

#[test]
fn wrong_keys_are_named_by_line_without_their_secret() {
    let problems = equipoise::serve::keys::ApiKeys::read(
        "prod:evaluate:short\nnonsense\nprod:fly:a-long-enough-secret\n",
    )
    .err()
    .unwrap();
    assert_eq!(
        problems,
        [
            "line 1 of the API keys: the secret has fewer than 16 characters",
            "line 2 of the API keys: it is not `environment:scopes:secret`",
            "line 3 of the API keys: `fly` is not one of the scopes evaluate, events, definitions",
        ]
    );
}

#[test]
fn a_key_over_its_rate_is_told_when_to_come_again() {
    let server = TestServer::with(FLAGS, "", |config| equipoise::serve::ServeConfig {
        requests_per_second: 5,
        ..config
    });
    let replies: Vec<_> = (0..20)
        .map(|_| server.post("/ofrep/v1/evaluate/flags/bool-flag", "{}"))
        .collect();
    let refused = replies
        .iter()
        .find(|reply| reply.status == 429)
        .expect("twenty at once are more than five a second");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(replies[0].status, 200);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn browsers_of_other_origins_may_ask() {
    let server = TestServer::start(FLAGS);
    let origin = [
        ("origin", "https://shop.example"),
        ("access-control-request-headers", "content-type, x-api-key"),
    ];
    let asked = server.request("OPTIONS", "/ofrep/v1/evaluate/flags", &origin, b"");
    assert_eq!(
        (asked.status, asked.header("access-control-allow-origin")),
        (204, Some("*"))
    );
    assert_eq!(
        asked.header("access-control-allow-headers"),
        Some("content-type, x-api-key")
    );
    let answered = server.request("POST", "/ofrep/v1/evaluate/flags", &origin[..1], b"{}");
    assert_eq!(
        answered.header("access-control-expose-headers"),
        Some("etag, retry-after")
    );
    assert_eq!(
        server
            .post("/ofrep/v1/evaluate/flags", "{}")
            .header("access-control-allow-origin"),
        None
    );
}

#[test]
fn a_shutdown_answers_what_is_under_way_and_ends_streams() {
    let mut server = TestServer::start(FLAGS);
    let mut stream = open_stream(&server, &[]);
    let mut slow = connect(server.address);
    let head =
        "POST /ofrep/v1/evaluate/flags/bool-flag HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    std::io::Write::write_all(&mut slow, head.as_bytes()).unwrap();
    until("the request is under way", || server.in_flight() == 1);
    let address = server.address;
    let finisher = std::thread::spawn(move || {
        until("no connection is accepted", || {
            std::net::TcpStream::connect(address).is_err()
        });
        std::io::Write::write_all(&mut slow, b"}").unwrap();
        read_reply(&mut slow).status
    });
    server.stop();
    assert_eq!(finisher.join().unwrap(), 200);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

fn play(
    server: &TestServer,
    case: &Value,
    tags: &mut std::collections::HashMap<String, String>,
) -> Result<(), String> {
    let id = case["id"].as_str().unwrap();
    let mut headers = vec![("content-type".to_string(), "application/json".to_string())];
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap();
        headers.push((
            name.clone(),
            value
                .strip_prefix('$')
                .map_or(value.to_string(), |tag| tags[tag].clone()),
        ));
    }
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let body = case["raw_body"]
        .as_str()
        .map_or_else(|| case["body"].to_string(), str::to_string);
    let reply = server.request(
        case["method"].as_str().unwrap_or("POST"),
        case["path"].as_str().unwrap(),
        &headers,
        body.as_bytes(),
    );
    let expect = &case["expect"];
    let json = if reply.body.is_empty() {
        Value::Null
    } else {
        reply.json()
    };
    let require = |holds: bool, what: &str| {
        if holds {
            Ok(())
        } else {
            Err(format!("{id}: {what}: {} {json}", reply.status))
        }
    };
    require(
        expect["status"].is_null() || expect["status"] == reply.status,
        "status",
    )?;
    require(contains(&expect["json"], &json), "body")?;
    for name in expect["header_present"].as_array().into_iter().flatten() {
        require(reply.header(name.as_str().unwrap()).is_some(), "header")?;
    }
    require(expect["no_body"] != true || reply.body.is_empty(), "a body")?;
    for (key, part) in expect["flag_in_bulk"].as_object().into_iter().flatten() {
        let flag = json["flags"]
            .as_array()
            .and_then(|flags| flags.iter().find(|flag| flag["key"] == *key));
        require(
            flag.is_some_and(|flag| contains(part, flag)),
            "a flag in the bulk answer",
        )?;
    }
    let tag = reply.header("etag").unwrap_or_default();
    require(
        expect["etag_differs_from"]
            .as_str()
            .is_none_or(|other| tags[other] != tag),
        "the same tag",
    )?;
    require(
        expect["etag_same_as"]
            .as_str()
            .is_none_or(|other| tags[other] == tag),
        "another tag",
    )?;
    if let Some(name) = case["save_etag"].as_str() {
        tags.insert(name.to_string(), tag.to_string());
    }
    Ok(())
}

/// Whether `actual` has everything `expected` has; numbers of another type differ.
fn contains(expected: &Value, actual: &Value) -> bool {
    match expected {
        Value::Null => true,
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| contains(value, &actual[name])),
        other => other == actual,
    }
}

fn open_stream(server: &TestServer, headers: &[(&str, &str)]) -> std::net::TcpStream {
    let mut stream = connect(server.address);
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!("GET /ofrep/v1/stream HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut start = String::new();
    while !start.contains("retry: 2000") {
        start.push_str(&read_text(&mut stream));
    }
    assert!(start.starts_with("HTTP/1.1 200 OK") && start.contains("text/event-stream"));
    if start.contains("data: ") {
        // The message came in the same packet; hand it out again through the same address.
        PENDING.with_borrow_mut(|pending| pending.push_str(&start));
    }
    stream
}

thread_local! {
    static PENDING: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// The next message of the stream, from `id` on.
fn next_message(stream: &mut std::net::TcpStream) -> String {
    let mut text = PENDING.take();
    loop {
        if let Some((from, end)) = text
            .find("id: ")
            .and_then(|from| Some((from, from + text[from..].find("\n\n")?)))
        {
            return text[from..end].to_string();
        }
        text.push_str(&read_text(stream));
    }
}

fn read_text(stream: &mut std::net::TcpStream) -> String {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).unwrap();
    assert!(read > 0, "the stream ended");
    String::from_utf8_lossy(&chunk[..read]).into_owned()
}
