//! What becomes of the bodies clients send: which table, which id, and why some go to quarantine.

use equipoise::events::accept::{Accepted, Malformed, Reception, accept};
use equipoise::events::bots::Crowds;
use equipoise::events::log::{Batch, body_of, segment};
use equipoise::events::plan::TrackingPlan;
use equipoise::events::record::Record;
use equipoise::events::schema::Table;
use equipoise::events::{event, time};

const NOW: i64 = 1_790_000_000_000_000;

#[test]
fn each_kind_of_event_goes_to_its_table() {
    let body = r#"{"events": [
        {"event_id": "a", "event_type": "assignment", "flag_key": "f", "variant": "on", "unit_id": "u1"},
        {"event_id": "b", "event_type": "exposure", "experiment_key": "e", "variant": "on", "unit_id": "u1"},
        {"event_id": "c", "event_type": "metric", "event_name": "paid", "value": 9.5, "user_id": "u1"},
        {"event_id": "d", "event_type": "flag_change", "flag_key": "f", "change_kind": "edit"}
    ]}"#;
    assert_eq!(
        tables(body),
        [
            Table::Assignment,
            Table::Exposure,
            Table::Metric,
            Table::FlagChange
        ]
    );
}

#[test]
fn a_body_is_one_event_or_an_array_or_an_envelope() {
    let event = r#"{"event_id":"a","event_type":"metric","event_name":"paid","user_id":7}"#;
    for body in [
        event.to_string(),
        format!("[{event}]"),
        format!(r#"{{"events":[{event}]}}"#),
        format!(r#"{{"batch":[{event}]}}"#),
    ] {
        assert_eq!(tables(&body), [Table::Metric], "{body}");
    }
    assert_eq!(tables("[]"), []);
}

#[test]
fn violations_are_named_and_kept() {
    let cases = [
        (r#"7"#, "the event is not a JSON object"),
        (r#"{"event_id":"a"}"#, "`event_type` is missing"),
        (
            r#"{"event_type":"metric","event_name":"paid","user_id":"u"}"#,
            "`event_id` is missing",
        ),
        (
            r#"{"event_id":"","event_type":"metric","event_name":"paid","user_id":"u"}"#,
            "`event_id` is not 1 to 256 bytes long",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":"paid"}"#,
            "none of `unit_id`, `user_id`, `anonymous_id` is there",
        ),
        (
            r#"{"event_id":"a","event_type":"exposure","unit_id":"u"}"#,
            "`experiment_key` is missing; `variant` is missing",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","value":"9"}"#,
            "`value` is not a number",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","value":1e999}"#,
            "`value` is not a number",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","occurred_at":"soon"}"#,
            "`occurred_at` is not a time",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":{},"user_id":"u"}"#,
            "`event_name` is not text",
        ),
        (
            r#"{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","properties":[]}"#,
            "`properties` is not an object",
        ),
    ];
    for (event, reason) in cases {
        let (accepted, records) = accepted(&format!("[{event}]"), &TrackingPlan::default());
        assert_eq!(records[0].0, Table::Quarantine, "{event}");
        assert_eq!(records[0].2, reason, "{event}");
        assert_eq!(records[0].3, event);
        assert_eq!(
            (
                accepted.events,
                accepted.quarantined,
                accepted.violations[0].reason.as_str()
            ),
            (1, 1, reason)
        );
    }
}

#[test]
fn a_body_that_is_not_json_is_refused_whole() {
    let cases: [&[u8]; 9] = [
        b"",
        b"{",
        b"[1,",
        b"\xff\xfe",
        b"{\"a\": NaN}",
        b"true",
        b"\"text\"",
        b"[{}] x",
        b"{\"events\": [{\"a\": \"\xf0\x9f\"}]}",
    ];
    for body in cases {
        let mut batch = Batch::default();
        let plan = TrackingPlan::default();
        let refused = accept(body, &reception(&plan), &mut batch);
        assert!(
            matches!(refused, Err(Malformed(_))),
            "{}",
            String::from_utf8_lossy(body)
        );
        assert!(batch.is_empty());
    }
}

#[test]
fn deep_json_is_kept_as_text_without_recursion() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let event = format!(
        r#"{{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","properties":{{"x":{deep}}}}}"#
    );
    assert_eq!(tables(&event), [Table::Metric]);
}

#[test]
fn the_same_id_has_the_same_fingerprint_and_content_is_the_id_of_events_without_one() {
    let fingerprints = |body: &str| {
        accepted(body, &TrackingPlan::default())
            .1
            .iter()
            .map(|record| record.1)
            .collect::<Vec<_>>()
    };
    let same = fingerprints(
        r#"[{"event_id":"a","event_type":"x","user_id":1},{"event_id":"a","value":2},{"event_id":"b"}]"#,
    );
    assert_eq!(same[0], same[1]);
    assert_ne!(same[0], same[2]);
    let nameless = fingerprints(r#"[{"value":1},{"value":1},{"value":2}]"#);
    assert_eq!(nameless[0], nameless[1]);
    assert_ne!(nameless[0], nameless[2]);
    let sources = fingerprints(
        r#"[{"specversion":"1.0","id":"1","source":"a","type":"x","subject":"u"},{"specversion":"1.0","id":"1","source":"b","type":"x","subject":"u"}]"#,
    );
    assert_ne!(
        sources[0], sources[1],
        "ids of CloudEvents are unique within their source"
    );
}

#[test]
fn cloud_events_become_events() {
    let body = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"com.shop.exposure","time":"2026-11-01T00:00:00Z",
        "subject":"u1","data":{"experiment_key":"e","variant":"on"}}"#;
    let (_, records) = accepted(body, &TrackingPlan::default());
    let event = event::read(&records[0].3).unwrap();
    assert_eq!(records[0].0, Table::Exposure);
    let texts = ["event_id", "source", "unit_id", "experiment_key", "variant"]
        .map(|name| event.text(name).unwrap().into_owned());
    assert_eq!(texts, ["1", "/shop", "u1", "e", "on"]);
    assert_eq!(
        event.value("occurred_at").and_then(time::parse_json),
        Some(1_793_491_200_000_000)
    );
}

#[test]
fn segment_calls_become_events() {
    let body = r#"{"batch":[
        {"type":"track","event":"Order Completed","messageId":"m1","userId":"u1","timestamp":"2026-11-01T00:00:00Z","properties":{"total":3}},
        {"type":"track","event":"Experiment Viewed","messageId":"m2","userId":"u1",
         "properties":{"experiment_id":"e","experiment_name":"E","variation_id":"1","variation_name":"blue"}}
    ],"sentAt":"2026-11-01T00:00:05Z"}"#;
    let (_, records) = accepted(body, &TrackingPlan::default());
    assert_eq!(
        [records[0].0, records[1].0],
        [Table::Metric, Table::Exposure]
    );
    let order = event::read(&records[0].3).unwrap();
    assert_eq!(order.text("event_name").unwrap(), "Order Completed");
    let viewed = event::read(&records[1].3).unwrap();
    assert_eq!(
        (
            viewed.text("experiment_key").unwrap(),
            viewed.text("variant").unwrap()
        ),
        ("e".into(), "blue".into())
    );
}

#[test]
fn open_telemetry_flag_evaluations_become_assignments() {
    let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
        {"timeUnixNano":"1793491200000000000","eventName":"feature_flag.evaluation","traceId":"t","attributes":[
            {"key":"feature_flag.key","value":{"stringValue":"f"}},
            {"key":"feature_flag.result.variant","value":{"stringValue":"on"}},
            {"key":"feature_flag.result.reason","value":{"stringValue":"split"}},
            {"key":"feature_flag.context.id","value":{"stringValue":"u1"}},
            {"key":"attempt","value":{"intValue":"2"}}]},
        {"eventName":"other","attributes":[]}
    ]}]}]}"#;
    let (_, records) = accepted(body, &TrackingPlan::default());
    assert_eq!(
        [records[0].0, records[1].0],
        [Table::Assignment, Table::Quarantine]
    );
    let event = event::read(&records[0].3).unwrap();
    let texts = ["flag_key", "variant", "reason", "unit_id", "trace_id"]
        .map(|name| event.text(name).unwrap().into_owned());
    assert_eq!(texts, ["f", "on", "split", "u1", "t"]);
    assert_eq!(
        event.value("occurred_at").and_then(time::parse_json),
        Some(1_793_491_200_000_000)
    );
    assert_eq!(event.properties(), [("attempt".into(), "2")]);
}

#[test]
fn the_tracking_plan_sends_what_it_does_not_allow_to_quarantine() {
    let plan = TrackingPlan::read([(
        "events/checkout.yml",
        "events:
  - name: payment_visit
    owner: team-checkout
    properties:
      is_success: {type: boolean, required: true}
      method: {type: string, one_of: [card, transfer]}
      amount: {type: number, min: 0}
    other_properties: quarantine
",
    )])
    .unwrap();
    let cases = [
        (
            r#""event_name":"payment_visit","properties":{"is_success":true,"method":"card","amount":0}"#,
            "",
        ),
        (r#""event_name":"payment_visit","is_success":true"#, ""),
        (
            r#""event_name":"payment_visit""#,
            "the property `is_success` is missing",
        ),
        (
            r#""event_name":"payment_visit","properties":{"is_success":null}"#,
            "the property `is_success` is missing",
        ),
        (
            r#""event_name":"payment_visit","is_success":"yes""#,
            "the property `is_success` is not true or false",
        ),
        (
            r#""event_name":"payment_visit","is_success":true,"method":"cash","amount":-1"#,
            "the property `amount` is out of range; the property `method` is not one of card, transfer",
        ),
        (
            r#""event_name":"payment_visit","is_success":true,"extra":1"#,
            "the property `extra` is not planned",
        ),
        (
            r#""event_name":"payment_visti","is_success":true"#,
            "the tracking plan has no event `payment_visti`",
        ),
    ];
    for (fields, reason) in cases {
        let (_, records) = accepted(
            &format!(r#"{{"event_id":"a","user_id":"u",{fields}}}"#),
            &plan,
        );
        assert_eq!(records[0].2, reason, "{fields}");
        assert_eq!(
            records[0].0,
            if reason.is_empty() {
                Table::Metric
            } else {
                Table::Quarantine
            }
        );
    }
}

#[test]
fn problems_of_the_tracking_plan_are_all_told_with_their_place() {
    let problems = TrackingPlan::read([
        ("events/a.yml", "events:\n  - name: paid\n    owner: team\n  - name: paid\n    owner: team\n  - name: left\n    owner: ''\n"),
        ("events/b.yml", "events:\n  - name: x\n    owner: team\n    properties:\n      p: {type: strin}\n"),
        ("events/c.yml", "events:\n  - name: x\n    owner: team\n    colour: red\n"),
    ])
    .unwrap_err();
    let told: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}:{} {}", problem.path, problem.line, problem.message))
        .collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(
        told[0].starts_with("events/a.yml:4 the event `paid` is declared twice"),
        "{}",
        told[0]
    );
    assert!(
        told[1].starts_with("events/a.yml:6 the event `left` has no owner"),
        "{}",
        told[1]
    );
    assert!(
        told[2].starts_with("events/b.yml:5 ") && told[2].contains("strin"),
        "{}",
        told[2]
    );
    assert!(
        told[3].starts_with("events/c.yml:4 ") && told[3].contains("colour"),
        "{}",
        told[3]
    );
}

#[test]
fn bots_are_marked_not_dropped() {
    let body = r#"{"event_id":"a","event_type":"metric","event_name":"p","user_id":"u","user_agent":"Googlebot/2.1"}"#;
    let mut batch = Batch::default();
    let plan = TrackingPlan::default();
    accept(body.as_bytes(), &reception(&plan), &mut batch).unwrap();
    let from_crawler = Reception {
        bot_reason: "user agent names a crawler",
        ..reception(&plan)
    };
    accept(body.as_bytes(), &from_crawler, &mut batch).unwrap();
    let reasons: Vec<String> = decoded(&batch, |record| record.bot_reason.to_string());
    assert_eq!(
        reasons,
        ["user agent names a bot", "user agent names a crawler"]
    );
}

#[test]
fn an_address_that_speaks_for_many_units_is_marked_for_the_rest_of_the_minute() {
    let crowds = Crowds::new(2);
    let minute = 60_000_000;
    let is_marked = |address: &str, unit: &str, at: i64| {
        !crowds
            .reason_for(address.parse().unwrap(), unit, at)
            .is_empty()
    };
    assert!(!is_marked("192.0.2.1", "a", 0));
    assert!(!is_marked("192.0.2.1", "b", 1));
    assert!(!is_marked("192.0.2.1", "a", 2), "a unit counts once");
    assert!(is_marked("192.0.2.1", "c", 3));
    assert!(is_marked("192.0.2.1", "a", 4));
    assert!(!is_marked("192.0.2.2", "c", 5), "another address");
    assert!(!is_marked("192.0.2.1", "c", minute), "the next minute");
    assert!(!is_marked("2001:db8::1", "a", minute));
    assert!(!is_marked("2001:db8::2", "b", minute));
    assert!(is_marked("2001:db8::3", "c", minute), "one network of IPv6");
    let unlimited = Crowds::new(0);
    let address = "192.0.2.1".parse().unwrap();
    assert!((0..1_000).all(|unit| {
        unlimited
            .reason_for(address, &unit.to_string(), 0)
            .is_empty()
    }));
}

#[test]
fn clocks_are_corrected_by_when_the_event_was_sent() {
    let minute = 60_000_000;
    let cases = [
        ("no time", None, None, NOW),
        ("sent at once", Some(NOW - minute), Some(NOW - minute), NOW),
        (
            "kept for a minute by a clock ten minutes slow",
            Some(NOW - 11 * minute),
            Some(NOW - 10 * minute),
            NOW - minute,
        ),
        (
            "kept for a minute by a clock ten minutes fast",
            Some(NOW + 9 * minute),
            Some(NOW + 10 * minute),
            NOW - minute,
        ),
        (
            "a fast clock that does not say when it sent",
            Some(NOW + minute),
            None,
            NOW,
        ),
        (
            "an old event",
            Some(NOW - 500 * minute),
            None,
            NOW - 500 * minute,
        ),
        (
            "a clock set back between",
            Some(NOW),
            Some(NOW - minute),
            NOW,
        ),
    ];
    for (what, occurred, sent, corrected) in cases {
        assert_eq!(time::corrected(NOW, occurred, sent), corrected, "{what}");
    }
}

#[test]
fn times_are_read_as_clients_write_them() {
    let same = [
        "\"2026-11-01T00:00:00Z\"",
        "\"2026-11-01T01:00:00.000+01:00\"",
        "\"2026-11-01 00:00:00\"",
        "\"2026-11-01\"",
    ];
    let numbers = [
        "1793491200",
        "1793491200000",
        "1793491200000000",
        "1793491200000000000",
        "1793491200.0",
        "1793491200000.0",
    ];
    for raw in same.iter().chain(&numbers) {
        assert_eq!(time::parse_json(raw), Some(1_793_491_200_000_000), "{raw}");
    }
    for raw in [
        "\"\"",
        "\"yesterday\"",
        "-1",
        "1e300",
        "true",
        "[]",
        "\"2026-13-01\"",
    ] {
        assert_eq!(time::parse_json(raw), None, "{raw}");
    }
}

#[test]
fn a_partition_is_the_day_of_the_event_unless_its_clock_is_years_wrong() {
    let day = 86_400_000_000;
    assert_eq!(time::partition_day(100 * day + 5, 99 * day + 5), 99);
    assert_eq!(time::partition_day(1_000 * day, 600 * day), 600);
    assert_eq!(time::partition_day(1_000 * day, 599 * day), 1_000);
}

#[test]
fn records_survive_encoding() {
    for table in Table::ALL {
        let record = Record {
            table,
            received_at: NOW,
            sent_at: (table == Table::Metric).then_some(5),
            environment: "prod",
            bot_reason: "",
            violation: "über",
            json: r#"{"a":1}"#,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes), Some(record));
        for cut in 0..bytes.len() - record.json.len() {
            assert_eq!(Record::decode(&bytes[..cut]), None);
        }
    }
}

fn reception(plan: &TrackingPlan) -> Reception<'_> {
    Reception {
        received_at: NOW,
        environment: "test",
        bot_reason: "",
        sender: None,
        plan,
    }
}

fn tables(body: &str) -> Vec<Table> {
    accepted(body, &TrackingPlan::default())
        .1
        .iter()
        .map(|record| record.0)
        .collect()
}

/// The summary, and per record: table, fingerprint, violation, JSON.
fn accepted(body: &str, plan: &TrackingPlan) -> (Accepted, Vec<(Table, u128, String, String)>) {
    let mut batch = Batch::default();
    let accepted = accept(body.as_bytes(), &reception(plan), &mut batch).unwrap();
    let records = decoded(&batch, |record| {
        (
            record.table,
            record.violation.to_string(),
            record.json.to_string(),
        )
    });
    let fingerprints = batch.fingerprints();
    (
        accepted,
        records
            .into_iter()
            .zip(fingerprints)
            .map(|((table, violation, json), id)| (table, id, violation, json))
            .collect(),
    )
}

fn decoded<T>(batch: &Batch, read: impl Fn(Record<'_>) -> T) -> Vec<T> {
    segment::records(batch.bytes())
        .map(|(_, payload)| read(Record::decode(body_of(payload)).unwrap()))
        .collect()
}
