//! Other systems' shapes of events, turned into the native one.
//! In: the JSON text of a CloudEvent, a Segment call or an OpenTelemetry log record. Out: the JSON text of a native event.
//! Whether the result is a valid event is left to [`super::event`].

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::event::split_object;

/// The native form of an event: itself, unless it is a CloudEvent (1.0, structured mode), Segment's `Experiment Viewed`, or an
/// OpenTelemetry `feature_flag.evaluation` record with plain attributes.
pub fn to_native(json: &str) -> Cow<'_, str> {
    let converted = match shape_of(json) {
        Shape::Native => None,
        Shape::CloudEvent => parse(json).map(cloud_event),
        Shape::ExperimentViewed => parse(json).map(experiment_viewed),
        Shape::Evaluation => {
            parse(json).map(|record| evaluation(&record, record.get("attributes").cloned()))
        }
    };
    converted.map_or(Cow::Borrowed(json), |event| {
        Cow::Owned(Value::Object(event).to_string())
    })
}

/// The log records of an OTLP/JSON export (`ExportLogsServiceRequest`) as native events. Records that are not flag evaluations
/// are kept as they are, and so end in quarantine.
pub fn from_otlp(request: &Value) -> Vec<String> {
    let list = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let scopes = list(request, "resourceLogs")
        .into_iter()
        .flat_map(|resource| list(&resource, "scopeLogs"));
    let records = scopes.flat_map(|scope| list(&scope, "logRecords"));
    records
        .map(|record| otlp_record(&record).to_string())
        .collect()
}

enum Shape {
    Native,
    CloudEvent,
    ExperimentViewed,
    Evaluation,
}

const EVALUATION: &str = "feature_flag.evaluation";
const EXPERIMENT_VIEWED: &str = "Experiment Viewed";

fn shape_of(json: &str) -> Shape {
    // A cheap look first: most events are native.
    let mentions = |word: &str| json.contains(word);
    if !mentions("specversion") && !mentions(EXPERIMENT_VIEWED) && !mentions(EVALUATION) {
        return Shape::Native;
    }
    let fields = split_object(json).unwrap_or_default();
    let is = |names: &[&str], wanted: &str| {
        fields.iter().any(|(name, value)| {
            names.contains(&name.as_ref()) && value.trim_matches('"') == wanted
        })
    };
    if fields.iter().any(|(name, _)| name == "specversion") {
        Shape::CloudEvent
    } else if is(&["event", "event_name"], EXPERIMENT_VIEWED) {
        Shape::ExperimentViewed
    } else if is(
        &["name", "event_name", "eventName", "event_type"],
        EVALUATION,
    ) {
        Shape::Evaluation
    } else {
        Shape::Native
    }
}

fn parse(json: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(json).ok()
}

/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>: id, source, type and time are the envelope, the
/// fields of `data` the event. The last word of the type names the kind: `com.example.exposure` is an exposure.
fn cloud_event(mut event: Map<String, Value>) -> Map<String, Value> {
    let mut native = match event.remove("data") {
        Some(Value::Object(data)) => data,
        Some(other) => Map::from_iter([("data".to_string(), other)]),
        None => Map::new(),
    };
    if let Some(full_type) = event.remove("type") {
        let kind = full_type
            .as_str()
            .map_or("", |text| text.rsplit('.').next().unwrap_or(text));
        let is_ours = matches!(kind, "assignment" | "exposure" | "metric" | "flag_change");
        native
            .entry("event_type")
            .or_insert(if is_ours { json!(kind) } else { full_type });
    }
    for (from, to) in [
        ("id", "event_id"),
        ("source", "source"),
        ("time", "occurred_at"),
    ] {
        if let Some(value) = event.remove(from) {
            native.insert(to.to_string(), value);
        }
    }
    if let Some(subject) = event.remove("subject") {
        native.entry("unit_id").or_insert(subject);
    }
    ["specversion", "datacontenttype", "dataschema"]
        .iter()
        .for_each(|name| _ = event.remove(*name));
    // Extension attributes stay, as properties.
    event
        .into_iter()
        .for_each(|(name, value)| _ = native.entry(name).or_insert(value));
    native
}

/// Segment's A/B testing event: its properties `experiment_id`, `variation_id` or `variation_name` are the exposure.
fn experiment_viewed(mut event: Map<String, Value>) -> Map<String, Value> {
    ["event", "event_name", "type", "event_type"]
        .iter()
        .for_each(|name| _ = event.remove(*name));
    let properties = match event.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    properties
        .into_iter()
        .for_each(|(name, value)| _ = event.entry(name).or_insert(value));
    event.insert("event_type".to_string(), json!("exposure"));
    if let Some(name) = event.remove("variation_name") {
        event.remove("variation_id");
        event.insert("variant".to_string(), name);
    }
    event
}

fn otlp_record(record: &Value) -> Value {
    let attributes = record
        .get("attributes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let pairs = attributes.iter().filter_map(|pair| {
        Some((
            pair.get("key")?.as_str()?.to_string(),
            otlp_value(pair.get("value")?),
        ))
    });
    let attributes: Map<String, Value> = pairs.collect();
    let name = record
        .get("eventName")
        .or_else(|| attributes.get("event.name"));
    if name.and_then(Value::as_str) != Some(EVALUATION) {
        return record.clone();
    }
    let fields = record.as_object().cloned().unwrap_or_default();
    Value::Object(evaluation(&fields, Some(Value::Object(attributes))))
}

/// An OTLP `AnyValue`. Integers are strings in OTLP/JSON.
fn otlp_value(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match (
        kind.as_str(),
        inner.as_str().and_then(|text| text.parse::<i64>().ok()),
    ) {
        ("intValue", Some(number)) => json!(number),
        _ => inner.clone(),
    }
}

/// OpenTelemetry semantic conventions, `feature_flag.evaluation`. A record has no id: the same record sent again has the same
/// content, so its hash is one.
fn evaluation(record: &Map<String, Value>, attributes: Option<Value>) -> Map<String, Value> {
    let mut attributes = match attributes {
        Some(Value::Object(attributes)) => attributes,
        _ => Map::new(),
    };
    let id = blake3::hash(Value::Object(record.clone()).to_string().as_bytes());
    let mut native = Map::from_iter([
        (
            "event_id".to_string(),
            json!(format!("otel-{}", &id.to_hex()[..32])),
        ),
        ("event_type".to_string(), json!("assignment")),
    ]);
    for (from, to) in [
        ("feature_flag.key", "flag_key"),
        ("feature_flag.result.variant", "variant"),
        ("feature_flag.result.reason", "reason"),
        ("feature_flag.version", "config_version"),
        ("feature_flag.context.id", "unit_id"),
        ("feature_flag.set.id", "project"),
        ("feature_flag.provider.name", "sdk_name"),
    ] {
        native.extend(attributes.remove(from).map(|value| (to.to_string(), value)));
    }
    let time = [
        "timeUnixNano",
        "observedTimeUnixNano",
        "timestamp",
        "occurred_at",
    ]
    .iter()
    .find_map(|name| record.get(*name));
    native.extend(time.map(|time| ("occurred_at".to_string(), nanoseconds(time))));
    let trace = record.get("traceId").or_else(|| record.get("trace_id"));
    native.extend(trace.map(|trace| ("trace_id".to_string(), trace.clone())));
    native.insert("attributes".to_string(), Value::Object(attributes));
    native
}

/// OTLP/JSON writes 64-bit nanoseconds as a string of digits.
fn nanoseconds(time: &Value) -> Value {
    let digits = time.as_str().and_then(|text| text.parse::<i64>().ok());
    digits.map_or_else(|| time.clone(), |nanos| json!(nanos))
}
