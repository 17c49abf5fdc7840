//! Any path and body an evaluation may come with: no panic, and a context read from bytes is the one that its JSON says, answered the
//! same way again.
#![no_main]
#![allow(dead_code, reason = "only a part of the rooms is under test")]

#[path = "../../src/diagnostics/mod.rs"]
pub mod diagnostics;
#[path = "../../src/flags/mod.rs"]
pub mod flags;
#[path = "../../src/serve/request.rs"]
mod request;

use std::sync::LazyLock;

use chrono::DateTime;
use flags::{Context, FlagSet, FlagSource, evaluate};
use serde_json::Value;

/// Attributes of every type, nested names, and rules that use them.
const FLAGS: &str = r#"
version: 1
contexts:
  user:
    unit: user_id
    attributes:
      {country: string, age: integer, score: float, is_staff: boolean, since: timestamp, app: semver, tags: strings, device.os: string}
flags:
  - key: f
    type: string
    variants: {a: x, b: y}
    default_variant: a
    rules:
      - {id: one, when: "country in ('DE', 'FR') and age >= 18 and score < 0.5 and not is_staff", serve: b}
      - {id: two, when: "app >= semver('1.2.0') or device.os like 'i%' or since > timestamp '2026-01-01'", serve: b}
      - {id: three, rollout: {salt: s, weights: {a: 50, b: 50}, percent: 100}}
"#;

static SET: LazyLock<FlagSet> = LazyLock::new(|| {
    let spec = serde_saphyr::from_str(FLAGS).expect("the flags are YAML");
    let source = FlagSource {
        file: "flags.yml".into(),
        spec,
    };
    let resolved = flags::resolve(&[source]);
    assert!(
        resolved.diagnostics.is_empty(),
        "{:?}",
        resolved.diagnostics
    );
    resolved.value
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The first line is the key in the path, the rest the body.
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (key, body) = input.split_at(end);
    let key = String::from_utf8_lossy(key);
    let _ = request::key_of(&format!("/ofrep/v1/evaluate/flags/{key}"));
    let read = request::context_of(body, &SET.schema, usize::MAX);
    match slow_context_of(body) {
        None => {}
        Some(Err(())) => {
            let code = read.as_ref().err().map(|bad| bad.code);
            assert_eq!(code, Some("INVALID_CONTEXT"));
        }
        Some(Ok(slow)) => assert_eq!(read.as_ref(), Ok(&slow)),
    }
    let Ok(context) = read else {
        return;
    };
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("it is in range");
    let once = evaluate(&SET, "f", &context, now).map(|answer| (answer.reason, answer.variant));
    let again = evaluate(&SET, "f", &context, now).map(|answer| (answer.reason, answer.variant));
    assert_eq!(once, again);
});

/// The same by way of whole JSON values; none when the body is not all JSON, or names its context twice.
fn slow_context_of(body: &[u8]) -> Option<Result<Context, ()>> {
    let Value::Object(fields) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    if request::context_of(body, &SET.schema, usize::MAX)
        .is_err_and(|bad| bad.code == "PARSE_ERROR")
    {
        return None;
    }
    Some(match fields.get("context") {
        None | Some(Value::Null) => Ok(SET.schema.empty_context()),
        Some(Value::Object(context)) => SET.schema.context(context).map_err(|_| ()),
        Some(_) => Err(()),
    })
}
