//! Structured logs: one JSON object a line on standard error, with the fields of the OpenTelemetry log data model.
//! In: a severity, a sentence, attributes. Nothing secret is ever passed here.

use std::io::Write;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warn,
    Error,
}

/// Writes one line.
pub fn log<const N: usize>(severity: Severity, body: &str, attributes: [(&str, Value); N]) {
    let (text, number) = match severity {
        Severity::Info => ("INFO", 9),
        Severity::Warn => ("WARN", 13),
        Severity::Error => ("ERROR", 17),
    };
    let attributes: Map<String, Value> = attributes
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect();
    let line = json!({
        "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        "severity_text": text,
        "severity_number": number,
        "body": body,
        "attributes": attributes,
        "resource": {"service.name": "equipoise", "service.version": env!("CARGO_PKG_VERSION")},
    });
    // With standard error closed there is nowhere to say so.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
