//! Events over HTTP: what 2xx promises, what becomes of bad ones, and the server's own assignments.

use std::collections::BTreeMap;

use equipoise::events::log::{body_of, segment};
use equipoise::events::record::Record;
use equipoise::events::schema::Table;
use equipoise::serve::ServeConfig;
use serde_json::{Value, json};

use crate::serve_ofrep::FLAGS;
use crate::serve_support::{TestServer, until};

#[test]
fn an_acknowledged_batch_is_on_disk_and_sending_it_again_stores_nothing() {
    let server = TestServer::start(FLAGS);
    let body = json!({"events": (0..50).map(|id| json!({"event_id": format!("e{id}"), "event_type": "metric", "event_name": "paid", "user_id": id})).collect::<Vec<_>>()});
    let first = server.post("/v1/events", &body.to_string());
    assert_eq!(first.status, 200);
    assert_eq!(
        first.json(),
        json!({"accepted": 50, "stored": 50, "duplicates": 0, "quarantined": 0, "violations": []})
    );
    let again = server.post("/v1/events", &body.to_string()).json();
    assert_eq!(
        (&again["stored"], &again["duplicates"]),
        (&json!(0), &json!(50))
    );
    assert_eq!(records(&server).len(), 50);
}

#[test]
fn violations_are_acknowledged_and_told() {
    let server = TestServer::start(FLAGS);
    server.write("events/plan.yml", "events:\n  - name: paid\n    owner: team\n    properties: {amount: {type: number, required: true}}\n");
    let post = || {
        server.post(
            "/v1/events",
            r#"[{"event_id":"a","event_type":"metric","event_name":"paid","user_id":1}, 7]"#,
        )
    };
    until("the plan is taken", || post().json()["quarantined"] == 2);
    let reply = post();
    assert_eq!(reply.status, 200);
    let reasons = reply.json()["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["reason"].clone())
        .collect::<Vec<_>>();
    assert_eq!(
        reasons,
        [
            "the property `amount` is missing",
            "the event is not a JSON object"
        ]
    );
}

#[test]
fn a_body_that_is_no_json_is_refused() {
    let server = TestServer::start(FLAGS);
    for body in ["", "{", "[1,]", "nonsense"] {
        let reply = server.post("/v1/events", body);
        assert_eq!(
            (reply.status, reply.json()["errorCode"].clone()),
            (400, json!("PARSE_ERROR")),
            "{body}"
        );
    }
    let not_text = server.request("POST", "/v1/events", &[], b"[\xff]");
    assert_eq!(not_text.status, 400);
    let compressed = server.request("POST", "/v1/events", &[("content-encoding", "gzip")], b"[]");
    assert_eq!(compressed.status, 415);
    assert_eq!(server.post("/v1/events", "[]").json()["accepted"], 0);
}

#[test]
fn open_telemetry_exporters_get_their_answer() {
    let server = TestServer::start(FLAGS);
    let logs = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"feature_flag.evaluation","attributes":[
        {"key":"feature_flag.key","value":{"stringValue":"f"}},{"key":"feature_flag.context.id","value":{"stringValue":"u"}}]}]}]}]}"#;
    assert_eq!(
        (
            server.post("/v1/logs", logs).status,
            server.post("/v1/logs", logs).text()
        ),
        (200, "{}".to_string())
    );
    let stored = records(&server);
    assert_eq!(
        stored.len(),
        1,
        "the same record sent again has the same id"
    );
    assert_eq!(stored[0].0, Table::Assignment);
}

#[test]
fn the_environment_is_that_of_the_key_and_bots_are_marked() {
    let keys = "prod:events:events-secret-000001\nstage:events:events-secret-000002\n";
    let server = TestServer::with(FLAGS, keys, |config| config);
    let event = br#"{"event_id":"same","event_type":"metric","event_name":"paid","user_id":1}"#;
    let post = |key: &str, agent: &str| {
        server.request(
            "POST",
            "/v1/events",
            &[("x-api-key", key), ("user-agent", agent)],
            event,
        )
    };
    assert_eq!(
        post("events-secret-000001", "Mozilla/5.0").json()["stored"],
        1
    );
    assert_eq!(
        post("events-secret-000002", "Googlebot/2.1").json()["stored"],
        1,
        "ids belong to an environment"
    );
    assert_eq!(server.post("/v1/events", "[]").status, 401);
    let stored: BTreeMap<String, bool> = records(&server)
        .into_iter()
        .map(|(_, environment, is_bot, _)| (environment, is_bot))
        .collect();
    assert_eq!(
        stored,
        BTreeMap::from([("prod".to_string(), false), ("stage".to_string(), true)])
    );
}

#[test]
fn an_address_with_too_many_units_is_marked_and_the_proxy_says_whose_it_is() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        bot_units_per_minute: 2,
        address_header: "x-forwarded-for".to_string(),
        ..config
    });
    // In one request, so that all of it is in one minute.
    let events = |ids: [u32; 3]| {
        let event =
            |id: u32| format!(r#"{{"event_id":"{id}","event_type":"paid","user_id":{id}}}"#);
        format!("[{}]", ids.map(event).join(","))
    };
    for (addresses, ids) in [
        ("203.0.113.9, 198.51.100.7", [1, 2, 3]),
        ("203.0.113.9, 198.51.100.8", [4, 5, 5]),
    ] {
        let headers = [("x-forwarded-for", addresses)];
        let reply = server.request("POST", "/v1/events", &headers, events(ids).as_bytes());
        assert_eq!(reply.status, 200);
    }
    let marked: Vec<bool> = records(&server)
        .into_iter()
        .map(|(_, _, is_bot, _)| is_bot)
        .collect();
    assert_eq!(marked, [false, false, true, false, false]);
}

#[test]
fn assignments_are_logged_once_a_day_with_what_decided_them() {
    let server = TestServer::with(FLAGS, "", |config| ServeConfig {
        environment: "prod".to_string(),
        ..config
    });
    let context = |unit: &str| json!({"context": {"targetingKey": unit}}).to_string();
    for _ in 0..3 {
        server.post("/ofrep/v1/evaluate/flags/split-flag", &context("u\"1"));
        server.post("/ofrep/v1/evaluate/flags", &context("u2"));
        server.post("/ofrep/v1/evaluate/flags/bool-flag", &context("u3"));
    }
    until("two assignments are committed", || {
        server
            .get("/metrics")
            .text()
            .contains("equipoise_log_records_total 2")
    });
    let mut stored: Vec<Value> = records(&server)
        .iter()
        .map(|(_, _, _, json)| serde_json::from_str(json).unwrap())
        .collect();
    stored.sort_by_key(|event| event["unit_id"].as_str().map(str::to_string));
    assert_eq!(stored.len(), 2, "flags without a split assign nothing");
    assert_eq!(
        (&stored[0]["unit_id"], &stored[1]["unit_id"]),
        (&json!("u\"1"), &json!("u2"))
    );
    let served = server
        .post("/ofrep/v1/evaluate/flags/split-flag", &context("u2"))
        .json();
    assert_eq!(
        (&stored[1]["variant"], &stored[1]["flag_key"]),
        (&served["variant"], &json!("split-flag"))
    );
    for name in [
        "algorithm",
        "salt_hash",
        "bucket",
        "reason",
        "config_version",
        "rule_id",
        "unit_type",
        "occurred_at",
    ] {
        assert!(!stored[1][name].is_null(), "{name} of {}", stored[1]);
    }
}

/// Table, environment, whether a bot sent it, and JSON of every record, after closing the segment.
fn records(server: &TestServer) -> Vec<(Table, String, bool, String)> {
    server.log.seal();
    let segments = server.log.wait_sealed(std::time::Duration::from_secs(20));
    let bytes: Vec<Vec<u8>> = segments
        .iter()
        .map(|segment| server.log.read(segment).unwrap())
        .collect();
    let payloads = bytes.iter().flat_map(|bytes| segment::records(bytes));
    let records = payloads.map(|(_, payload)| Record::decode(body_of(payload)).unwrap());
    let row = |record: Record<'_>| {
        (
            record.table,
            record.environment.to_string(),
            !record.bot_reason.is_empty(),
            record.json.to_string(),
        )
    };
    records.map(row).collect()
}
