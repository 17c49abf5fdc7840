//! Takes the body of an events request apart and checks every event.
//! In: bytes from a client, when and for which environment they came, the tracking plan. Out: framed records in a [`Batch`] for
//! the log and a summary. A violation is a record in quarantine, not an error: only a body that is not JSON is refused.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::value::RawValue;

use super::bots::{self, Crowds};
use super::event::{self, Event, split_object};
use super::log::Batch;
use super::plan::TrackingPlan;
use super::record::Record;
use super::schema::Table;
use super::{convert, time};

/// Adds every event of `body` to `batch`. The body is one event, an array of events, an object with `events` (or Segment's
/// `batch`) and optionally `sent_at`, or an OTLP/JSON logs export.
///
/// # Errors
/// The body is not UTF-8 JSON, or none of these shapes; nothing was added.
pub fn accept(
    body: &[u8],
    reception: &Reception<'_>,
    batch: &mut Batch,
) -> Result<Accepted, Malformed> {
    let body = str::from_utf8(body)
        .map_err(|error| Malformed(format!("the body is not UTF-8: {error}")))?;
    let parts = split_body(body)?;
    let mut accepted = Accepted::default();
    for json in parts.events {
        accept_event(&json, parts.sent_at, reception, batch, &mut accepted);
    }
    Ok(accepted)
}

/// What the server knows about a request.
pub struct Reception<'a> {
    /// Microseconds since 1970.
    pub received_at: i64,
    pub environment: &'a str,
    /// Why the sender is taken for a bot; empty when it is not.
    pub bot_reason: &'a str,
    /// The sender's address and the count of its units, if they are known.
    pub sender: Option<(IpAddr, &'a Crowds)>,
    pub plan: &'a TrackingPlan,
}

impl Reception<'_> {
    fn bot_reason_of(&self, event: Option<&Event<'_>>) -> &str {
        let Some(event) = event.filter(|_| self.bot_reason.is_empty()) else {
            return self.bot_reason;
        };
        let named = bots::reason_in(event);
        let unit = || {
            ["unit_id", "user_id", "anonymous_id"]
                .iter()
                .find_map(|name| event.text(name))
        };
        match (named, self.sender) {
            ("", Some((address, crowds))) => unit().map_or("", |unit| {
                crowds.reason_for(address, &unit, self.received_at)
            }),
            (named, _) => named,
        }
    }
}

/// What became of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Events found, those in quarantine included.
    pub events: usize,
    /// Events put into quarantine.
    pub quarantined: usize,
    /// The first [`MAX_VIOLATIONS`] of them.
    pub violations: Vec<Violation>,
}

/// An event in quarantine.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// Position in the body, from 0.
    pub index: usize,
    pub event_id: String,
    pub reason: String,
}

/// Violations told to the client; the quarantine has all of them.
pub const MAX_VIOLATIONS: usize = 100;

/// Why a body was refused as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// The fingerprint of an event id in an environment.
pub fn fingerprint(environment: &str, source: &str, event_id: &str) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for text in [environment, source, event_id] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let hash = hasher.finalize();
    u128::from_le_bytes(
        *hash
            .as_bytes()
            .first_chunk()
            .expect("the hash has 32 bytes"),
    )
}

/// The id of an event that has none: its content, so that sending it again stores it once.
pub fn content_id(json: &str) -> String {
    format!("content-{}", &blake3::hash(json.as_bytes()).to_hex()[..32])
}

struct Parts<'a> {
    events: Vec<Cow<'a, str>>,
    sent_at: Option<i64>,
}

fn split_body(body: &str) -> Result<Parts<'_>, Malformed> {
    let malformed = |error: serde_json::Error| Malformed(format!("the body is not JSON: {error}"));
    let whole: &RawValue = serde_json::from_str(body).map_err(malformed)?;
    match whole.get().as_bytes().first() {
        Some(b'[') => Ok(Parts {
            events: split_array(whole.get()).map_err(malformed)?,
            sent_at: None,
        }),
        Some(b'{') => split_envelope(whole.get()).map_err(malformed),
        _ => Err(Malformed(
            "the body is neither an object nor an array".to_string(),
        )),
    }
}

fn split_envelope(body: &str) -> Result<Parts<'_>, serde_json::Error> {
    let fields = split_object(body).unwrap_or_default();
    let find = |names: &[&str]| {
        fields
            .iter()
            .find(|(name, _)| names.contains(&name.as_ref()))
            .map(|(_, value)| *value)
    };
    let sent_at = find(&["sent_at", "sentAt"]).and_then(time::parse_json);
    if find(&["resourceLogs"]).is_some() {
        let events = convert::from_otlp(&serde_json::from_str(body)?);
        return Ok(Parts {
            events: events.into_iter().map(Cow::Owned).collect(),
            sent_at,
        });
    }
    match find(&["events", "batch"]).filter(|events| events.starts_with('[')) {
        Some(events) => Ok(Parts {
            events: split_array(events)?,
            sent_at,
        }),
        None => Ok(Parts {
            events: vec![Cow::Borrowed(body)],
            sent_at: None,
        }),
    }
}

fn split_array(json: &str) -> Result<Vec<Cow<'_, str>>, serde_json::Error> {
    let items: Vec<&RawValue> = serde_json::from_str(json)?;
    Ok(items
        .into_iter()
        .map(|item| Cow::Borrowed(item.get()))
        .collect())
}

fn accept_event(
    sent: &str,
    sent_at: Option<i64>,
    reception: &Reception<'_>,
    batch: &mut Batch,
    accepted: &mut Accepted,
) {
    let index = accepted.events;
    accepted.events += 1;
    let json = convert::to_native(sent);
    let checked = check(&json, reception.plan);
    let bot_reason = reception.bot_reason_of(checked.event.as_ref());
    let record = Record {
        table: checked.table,
        received_at: reception.received_at,
        sent_at,
        environment: reception.environment,
        bot_reason,
        violation: &checked.violation,
        json: &json,
    };
    // Ids of CloudEvents are unique within their source only.
    let is_converted = matches!(json, Cow::Owned(_));
    let source = checked
        .event
        .as_ref()
        .filter(|_| is_converted)
        .and_then(|event| event.text("source"));
    let fingerprint = fingerprint(
        reception.environment,
        source.as_deref().unwrap_or_default(),
        &checked.event_id,
    );
    // The limit of a record is far above the limit of a body.
    batch.push(fingerprint, |out| record.encode(out));
    if checked.table == Table::Quarantine {
        accepted.quarantined += 1;
        if accepted.violations.len() < MAX_VIOLATIONS {
            let violation = Violation {
                index,
                event_id: checked.event_id.into_owned(),
                reason: checked.violation,
            };
            accepted.violations.push(violation);
        }
    }
}

struct Checked<'a> {
    table: Table,
    event_id: Cow<'a, str>,
    violation: String,
    event: Option<Event<'a>>,
}

fn check<'a>(json: &'a str, plan: &TrackingPlan) -> Checked<'a> {
    let event = match event::read(json) {
        Ok(event) => event,
        Err(violation) => return unreadable(json, violation),
    };
    let mut violations = event.violations();
    plan.check(&event, &mut violations);
    Checked {
        table: if violations.is_empty() {
            event.table
        } else {
            Table::Quarantine
        },
        event_id: event.id().unwrap_or_else(|| Cow::Owned(content_id(json))),
        violation: violations.join("; "),
        event: Some(event),
    }
}

fn unreadable(json: &str, violation: String) -> Checked<'_> {
    let fields = split_object(json).unwrap_or_default();
    let id = fields
        .iter()
        .find(|(name, _)| name == "event_id")
        .and_then(|(_, value)| event::text(value));
    let id = id.filter(|id| !id.is_empty() && id.len() <= event::MAX_ID_LENGTH);
    Checked {
        table: Table::Quarantine,
        event_id: id.unwrap_or_else(|| Cow::Owned(content_id(json))),
        violation,
        event: None,
    }
}
