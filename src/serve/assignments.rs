//! Puts the server's own assignments into the event log.
//! In: evaluations. Out: at most one assignment event a day for each unit, flag and outcome; nobody waits for its commit.
//! What the columns mean is said in `events::schema`.

use std::fmt::{Display, Write};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::State;
use super::keys::Caller;
use super::served::Served;
use crate::events::log::Batch;
use crate::events::record::Record;
use crate::events::schema::Table;
use crate::flags::{Assignment, Evaluation};

/// Collects the assignments of one request.
pub struct Recorder<'a> {
    state: &'a State,
    served: &'a Served,
    environment: &'a str,
    now: DateTime<Utc>,
    batch: Batch,
    /// What to remember as logged once the log took the batch.
    remembered: Vec<u64>,
    /// What tells the assignment at hand from others, in bytes.
    identity: Vec<u8>,
}

impl<'a> Recorder<'a> {
    /// Nothing recorded yet.
    pub fn new(
        state: &'a State,
        served: &'a Served,
        caller: &Caller<'a>,
        now: DateTime<Utc>,
    ) -> Recorder<'a> {
        let environment = caller.environment.unwrap_or(&state.config.environment);
        Recorder {
            state,
            served,
            environment,
            now,
            batch: Batch::default(),
            remembered: Vec::new(),
            identity: Vec::with_capacity(256),
        }
    }

    /// Adds the assignment of an evaluation, unless it was logged today.
    pub fn record(&mut self, evaluation: &Evaluation<'_>) {
        let Some(assignment) = &evaluation.assignment else {
            return;
        };
        self.identify(evaluation, assignment);
        let short = self.state.recent.short(&self.identity);
        if self.state.recent.contains(short) {
            return;
        }
        // The same for the same outcome on one day: the log keeps one of them, from whichever replica or retry.
        let hash = blake3::hash(&self.identity);
        let bytes: [u8; 16] = *hash
            .as_bytes()
            .first_chunk()
            .expect("the hash has 32 bytes");
        let json = self.event(uuid::Uuid::from_bytes(bytes), evaluation, assignment);
        let record = Record {
            table: Table::Assignment,
            received_at: self.now.timestamp_micros(),
            sent_at: None,
            environment: self.environment,
            bot_reason: "",
            violation: "",
            json: &json,
        };
        // The id is a hash of the environment and all else already.
        self.batch
            .push(u128::from_le_bytes(bytes), |out| record.encode(out));
        self.remembered.push(short);
    }

    /// Hands the assignments to the log. A log that takes nothing is counted and makes the server unready, but flags are
    /// answered: the assignment can be derived again, an outage of every page cannot be undone. Whether the log took them.
    pub fn append(self) -> bool {
        let taken = self.batch.is_empty() || self.state.log.append(&self.batch).is_ok();
        match taken {
            true => self
                .remembered
                .iter()
                .for_each(|id| self.state.recent.insert(*id)),
            false => self.state.metrics.assignments_not_logged(self.batch.len()),
        }
        taken
    }

    fn identify(&mut self, evaluation: &Evaluation<'_>, assignment: &Assignment<'_>) {
        let day = self.now.timestamp().div_euclid(86_400);
        self.identity.clear();
        self.identity.extend_from_slice(&day.to_le_bytes());
        let parts = [
            self.environment,
            &evaluation.flag.key,
            assignment.unit_type,
            assignment.unit,
            variant_of(evaluation),
            evaluation.reason.code(),
            assignment.experiment.unwrap_or_default(),
            assignment.allocation.unwrap_or_default(),
            &self.served.version,
        ];
        for part in parts {
            self.identity
                .extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.identity.extend_from_slice(part.as_bytes());
        }
    }

    fn event(
        &self,
        id: uuid::Uuid,
        evaluation: &Evaluation<'_>,
        assignment: &Assignment<'_>,
    ) -> String {
        let mut event = EventText::new(id);
        event.number("occurred_at", Some(self.now.timestamp_micros()));
        event.text("source", "equipoise-serve");
        event.text("unit_type", assignment.unit_type);
        event.text("unit_id", assignment.unit);
        event.text("flag_key", &evaluation.flag.key);
        event.text(
            "variant",
            assignment.variant.unwrap_or(variant_of(evaluation)),
        );
        event.text("reason", evaluation.reason.code());
        event.text("config_version", &self.served.version);
        event.optional("experiment_key", assignment.experiment);
        event.optional("allocation_id", assignment.allocation);
        event.optional("rule_id", evaluation.rule);
        event.optional(
            "algorithm",
            assignment.algorithm.map(|algorithm| algorithm.id()),
        );
        if let Some(salt) = assignment.salt {
            event.text("salt_hash", &blake3::hash(salt.as_bytes()).to_hex()[..16]);
        }
        event.number("bucket", assignment.bucket.map(|bucket| bucket.index));
        event.optional("layer_key", assignment.layer.map(|(key, _)| key));
        event.number(
            "layer_bucket",
            assignment.layer.map(|(_, bucket)| bucket.index),
        );
        event.optional("holdout_key", assignment.holdout.map(|holdout| holdout.key));
        event.flag("is_override", assignment.is_override);
        event.flag("is_sticky", assignment.is_sticky);
        event.finish()
    }
}

/// The flag's variant; empty where the value in the code counts.
fn variant_of<'a>(evaluation: &Evaluation<'a>) -> &'a str {
    evaluation.variant.map_or("", |variant| &variant.key)
}

/// The JSON text of an event in the making.
struct EventText(String);

impl EventText {
    fn new(id: uuid::Uuid) -> EventText {
        let mut text = String::with_capacity(640);
        text.push_str(r#"{"event_type":"assignment","event_id":""#);
        text.push_str(id.simple().encode_lower(&mut uuid::Uuid::encode_buffer()));
        text.push('"');
        EventText(text)
    }

    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if value
            .bytes()
            .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
        {
            self.0.push('"');
            self.0.push_str(value);
            self.0.push('"');
        } else {
            self.0.push_str(&Value::from(value).to_string());
        }
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.name(name);
            write!(self.0, "{value}").expect("writing into a string does not fail");
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.0.push_str(if value { "true" } else { "false" });
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Assignments logged lately, in a fixed table where a newer one takes the place of an older: what it forgets, the log's own
/// filter recognizes. The hash has keys of this process, so that nobody can make two assignments look like one.
pub struct Recent {
    places: Box<[AtomicU64]>,
    keys: RandomState,
}

/// 1 MiB.
const RECENT_PLACES: usize = 1 << 17;

impl Default for Recent {
    fn default() -> Recent {
        Recent {
            places: (0..RECENT_PLACES).map(|_| AtomicU64::new(0)).collect(),
            keys: RandomState::new(),
        }
    }
}

impl Recent {
    /// A number for what was logged, to ask for and to remember.
    pub fn short(&self, identity: impl Hash) -> u64 {
        self.keys.hash_one(identity)
    }

    /// Whether it was logged lately.
    pub fn contains(&self, id: u64) -> bool {
        self.place(id).load(Ordering::Relaxed) == id
    }

    /// Remembers it.
    pub fn insert(&self, id: u64) {
        self.place(id).store(id, Ordering::Relaxed);
    }

    fn place(&self, id: u64) -> &AtomicU64 {
        &self.places[id as usize % RECENT_PLACES]
    }
}
