//! The answer with all flags is put together from remembered pieces; it must say what the flags say one by one.

use serde_json::Value;

use crate::serve_ofrep::FLAGS;
use crate::serve_support::{TestServer, until};

const CONTEXTS: [&str; 5] = [
    r#"{"targetingKey":"u1","country":"DE"}"#,
    r#"{"targetingKey":"u2","country":"FR","level":3}"#,
    r#"{"targetingKey":"u3"}"#,
    r#"{"country":"DE"}"#,
    "{}",
];

#[test]
fn all_flags_say_what_each_says_alone_also_when_they_are_asked_again() {
    let server = TestServer::start(FLAGS);
    for _ in 0..3 {
        for context in CONTEXTS {
            let all = ask(&server, "", context);
            let flags = all["flags"].as_array().unwrap();
            assert_eq!(flags.len(), FLAGS.matches("- key:").count());
            for flag in flags {
                let alone = ask(
                    &server,
                    &format!("/{}", flag["key"].as_str().unwrap()),
                    context,
                );
                assert_eq!(*flag, alone, "{context}");
            }
        }
    }
}

#[test]
fn pieces_are_those_of_the_newest_definitions() {
    let server = TestServer::start(FLAGS);
    let value = || ask(&server, "", CONTEXTS[0])["flags"][1]["value"].clone();
    assert_eq!(value(), "hi");
    server.write(
        "flags/all.yml",
        &FLAGS.replace("greeting: \"hi\"", "greeting: \"hello\""),
    );
    until("the edit is served", || value() == "hello");
}

#[test]
fn remembered_answers_are_counted_and_their_assignments_logged_once() {
    let server = TestServer::start(FLAGS);
    for _ in 0..4 {
        ask(&server, "", CONTEXTS[0]);
    }
    let metrics = server.get("/metrics").text();
    let count = |reason: &str| {
        let line = format!("equipoise_evaluations_total{{reason=\"{reason}\"}} ");
        let found = metrics
            .lines()
            .find_map(|metric| metric.strip_prefix(&line));
        found.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(
        (
            count("static"),
            count("disabled"),
            count("forced_rule"),
            count("rolled_out")
        ),
        (4 * 5, 4, 4 * 2, 4)
    );
    server.log.seal();
    let stored = || {
        server
            .log
            .counters()
            .stored
            .load(std::sync::atomic::Ordering::SeqCst)
    };
    until("the assignment is on disk", || stored() == 1);
    assert_eq!(
        server
            .log
            .counters()
            .duplicates
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

fn ask(server: &TestServer, path: &str, context: &str) -> Value {
    let body = format!(r#"{{"context":{context}}}"#);
    server
        .post(&format!("/ofrep/v1/evaluate/flags{path}"), &body)
        .json()
}
