//! `target/sources.json`: how new each source table is that was asked.

use std::io;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Metadata, timing, write};
use crate::manifest::{Age, Freshness};
use crate::run::{FreshnessStatus, Prepared, SourceAge, SourceAges};

/// Name of the file.
pub const SOURCES: &str = "sources.json";

/// Writes what came of every table that was asked, in the order of the YAML.
pub fn write_sources(prepared: &Prepared, ages: &SourceAges) -> io::Result<()> {
    let artifact = Artifact {
        metadata: Metadata::new(prepared, "sources/v3"),
        results: ages
            .sources
            .iter()
            .map(|source| entry(prepared, source))
            .collect(),
        elapsed_time: ages.elapsed.as_secs_f64(),
    };
    write(prepared, SOURCES, &artifact)
}

/// The criteria by which a table is judged, as dbt writes them; null without any.
pub(super) fn criteria(freshness: Option<&Freshness>) -> Value {
    let age = |age: &Option<Age>| {
        let age = age.as_ref();
        age.map(|age| json!({"count": age.count, "period": age.period.word()}))
    };
    let Some(freshness) = freshness else {
        return Value::Null;
    };
    json!({
        "warn_after": age(&freshness.warn_after),
        "error_after": age(&freshness.error_after),
        "filter": freshness.filter.as_ref().map(|filter| &filter.value),
    })
}

#[derive(Serialize)]
struct Artifact {
    metadata: Metadata,
    results: Vec<Value>,
    elapsed_time: f64,
}

fn entry(prepared: &Prepared, source: &SourceAge) -> Value {
    let node = prepared.manifest.node(source.id);
    let unique_id = node.unique_id(&prepared.manifest.project_name);
    let status = source.status.word();
    if source.status == FreshnessStatus::Broken {
        let error = source.diagnostic.as_ref().map(|why| &why.message);
        return json!({"unique_id": unique_id, "error": error, "status": status});
    }
    let freshness = node.judged().map(|(_, freshness)| freshness);
    let loaded_at = source.loaded_at.unwrap_or_else(never);
    let age = prepared.clock() - loaded_at;
    json!({
        "unique_id": unique_id,
        "max_loaded_at": text(loaded_at),
        "snapshotted_at": text(prepared.clock()),
        "max_loaded_at_time_ago_in_s": age.as_seconds_f64(),
        "status": status,
        "criteria": criteria(freshness),
        "adapter_response": {},
        "timing": timing(prepared, source.began, source.elapsed),
        "thread_id": format!("Thread-{}", source.began.thread),
        "execution_time": source.elapsed.as_secs_f64(),
    })
}

fn text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// What dbt writes of a table without rows: the first instant that its readers have.
fn never() -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default();
    first.and_time(NaiveTime::MIN).and_utc()
}
