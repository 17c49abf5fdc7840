//! Puts the server's own assignments into the event log.
//! In: evaluations. Out: at most one assignment event a day for each unit, flag and outcome; nobody waits for its commit.
//! What the columns mean is said in `events::schema`.

use std::cell::Cell;
use std::fmt::Write;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};

use super::State;
use super::answer::quoted;
use super::answers::Rendered;
use super::keys::Caller;
use crate::events::log::Batch;
use crate::events::record::RecordHead;
use crate::events::schema::Table;
use crate::flags::{Assignment, Evaluation};

/// Records the assignments of one request.
pub struct Recorder<'a> {
    state: &'a State,
    environment: &'a str,
    now: DateTime<Utc>,
    batch: Batch,
    /// What to remember as logged once the log took the batch.
    remembered: Vec<u64>,
}

thread_local! {
    /// The memory of the last batch, for the next.
    static BATCH: Cell<Batch> = const { Cell::new(Batch::new()) };
}

/// How much of it is kept.
const KEPT_BYTES: usize = 512 << 10;

impl<'a> Recorder<'a> {
    /// Nothing recorded yet.
    pub fn new(state: &'a State, caller: &Caller<'a>, now: DateTime<Utc>) -> Recorder<'a> {
        Recorder {
            state,
            environment: caller.environment.unwrap_or(&state.config.environment),
            now,
            batch: Batch::new(),
            remembered: Vec::new(),
        }
    }

    /// Hands the assignment of a single evaluation to the log, unless it was logged today.
    pub fn record_now(self, evaluation: &Evaluation<'_>, answer: &Rendered) {
        let Some(event) = self.event(evaluation, answer) else {
            return;
        };
        let taken = self
            .state
            .log
            .append_one(event.fingerprint(), |out| event.encode(out));
        match taken {
            Ok(()) => self.state.recent.insert(event.short),
            Err(_) => self.state.metrics.assignments_not_logged(1),
        }
    }

    /// Adds the assignment of an evaluation to what [`append`](Self::append) hands over, unless it was logged today.
    pub fn record(&mut self, evaluation: &Evaluation<'_>, answer: &Rendered) {
        if let Some(event) = self.event(evaluation, answer) {
            if self.batch.is_empty() {
                self.batch = BATCH.take();
            }
            self.remembered.push(event.short);
            self.batch
                .push(event.fingerprint(), |out| event.encode(out));
        }
    }

    /// Hands the assignments to the log. A log that takes nothing is counted and makes the server unready, but flags are
    /// answered: the assignment can be derived again, an outage of every page cannot be undone. Whether the log took them.
    pub fn append(mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let taken = self.state.log.append(&self.batch).is_ok();
        match taken {
            true => self
                .remembered
                .iter()
                .for_each(|id| self.state.recent.insert(*id)),
            false => self
                .state
                .metrics
                .assignments_not_logged(self.remembered.len()),
        }
        self.batch.clear();
        self.batch.shrink_to(KEPT_BYTES);
        BATCH.set(self.batch);
        taken
    }

    /// The event of an evaluation that has an assignment which was not logged today.
    fn event<'e>(
        &self,
        evaluation: &'e Evaluation<'_>,
        answer: &'e Rendered,
    ) -> Option<AssignmentEvent<'e>>
    where
        'a: 'e,
    {
        let (parts, assignment) = answer.event.as_ref().zip(evaluation.assignment.as_ref())?;
        let day = self.now.timestamp().div_euclid(86_400);
        let recent = &self.state.recent;
        let short = recent.short((parts.digest, day, self.environment, assignment.unit));
        (!recent.contains(short)).then(|| AssignmentEvent {
            id: parts.id(day, self.environment, assignment.unit),
            parts,
            assignment,
            environment: self.environment,
            now: self.now.timestamp_micros(),
            short,
        })
    }
}

/// An assignment to be logged.
struct AssignmentEvent<'a> {
    /// The same for the same outcome on one day: the log keeps one of them, from whichever replica or retry.
    id: uuid::Uuid,
    parts: &'a EventParts,
    assignment: &'a Assignment<'a>,
    environment: &'a str,
    now: i64,
    /// For [`Recent`].
    short: u64,
}

impl AssignmentEvent<'_> {
    /// The id is a hash of the environment and all else already.
    fn fingerprint(&self) -> u128 {
        u128::from_le_bytes(self.id.into_bytes())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let head = RecordHead {
            table: Table::Assignment,
            received_at: self.now,
            sent_at: None,
            environment: self.environment,
            bot_reason: "",
            violation: "",
        };
        head.encode(out);
        let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
        text(&self.parts.text);
        text(
            self.id
                .simple()
                .encode_lower(&mut uuid::Uuid::encode_buffer()),
        );
        text("\",\"unit_id\":");
        if is_plain(self.assignment.unit) {
            text("\"");
            text(self.assignment.unit);
            text("\"");
        } else {
            text(&quoted(self.assignment.unit));
        }
        let numbers = [
            ("occurred_at", Some(self.now)),
            (
                "bucket",
                self.assignment.bucket.map(|bucket| bucket.index.into()),
            ),
            (
                "layer_bucket",
                self.assignment.layer.map(|(_, bucket)| bucket.index.into()),
            ),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write_number(name, number, out);
            }
        }
        out.push(b'}');
    }
}

fn write_number(name: &str, number: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(out, ",\"{name}\":{number}").expect("writing into memory does not fail");
}

/// Whether a text is itself between the quotes of JSON.
fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    text.bytes().all(is_plain)
}

/// What the assignment events of one outcome have in common: all but unit, buckets and time.
pub struct EventParts {
    /// Of everything that tells the outcome from others.
    digest: [u8; 16],
    /// The event's JSON up to its id.
    text: Box<str>,
}

impl EventParts {
    /// Nothing for an evaluation without an assignment.
    pub fn of(evaluation: &Evaluation<'_>, version: &str) -> Option<EventParts> {
        let assignment = evaluation.assignment.as_ref()?;
        Some(EventParts {
            digest: digest(evaluation, assignment, version),
            text: text(evaluation, assignment, version).into(),
        })
    }

    fn id(&self, day: i64, environment: &str, unit: &str) -> uuid::Uuid {
        let mut identity = Vec::with_capacity(128);
        identity.extend_from_slice(&self.digest);
        identity.extend_from_slice(&day.to_le_bytes());
        identity.extend_from_slice(&(environment.len() as u64).to_le_bytes());
        identity.extend_from_slice(environment.as_bytes());
        identity.extend_from_slice(unit.as_bytes());
        uuid::Uuid::from_bytes(first_half(&blake3::hash(&identity)))
    }
}

fn first_half(hash: &blake3::Hash) -> [u8; 16] {
    let half = hash.as_bytes().first_chunk();
    *half.expect("the hash has 32 bytes")
}

fn digest(evaluation: &Evaluation<'_>, assignment: &Assignment<'_>, version: &str) -> [u8; 16] {
    let parts = [
        &evaluation.flag.key,
        assignment.unit_type,
        variant_of(evaluation),
        assignment.variant.unwrap_or_default(),
        evaluation.reason.code(),
        assignment.experiment.unwrap_or_default(),
        assignment.allocation.unwrap_or_default(),
        version,
    ];
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    first_half(&hasher.finalize())
}

fn text(evaluation: &Evaluation<'_>, assignment: &Assignment<'_>, version: &str) -> String {
    let salt = assignment
        .salt
        .map(|salt| blake3::hash(salt.as_bytes()).to_hex());
    let fields = [
        ("event_type", Some("assignment")),
        ("source", Some("equipoise-serve")),
        ("unit_type", Some(assignment.unit_type)),
        ("flag_key", Some(&evaluation.flag.key)),
        (
            "variant",
            Some(assignment.variant.unwrap_or(variant_of(evaluation))),
        ),
        ("reason", Some(evaluation.reason.code())),
        ("config_version", Some(version)),
        ("experiment_key", assignment.experiment),
        ("allocation_id", assignment.allocation),
        ("rule_id", evaluation.rule),
        (
            "algorithm",
            assignment.algorithm.map(|algorithm| algorithm.id()),
        ),
        ("salt_hash", salt.as_ref().map(|salt| &salt[..16])),
        ("layer_key", assignment.layer.map(|(key, _)| key)),
        ("holdout_key", assignment.holdout.map(|holdout| holdout.key)),
    ];
    let mut text = String::from("{");
    for (name, value) in fields {
        if let Some(value) = value {
            write!(text, "\"{name}\":{},", quoted(value))
                .expect("writing into a string does not fail");
        }
    }
    let (is_override, is_sticky) = (assignment.is_override, assignment.is_sticky);
    write!(
        text,
        "\"is_override\":{is_override},\"is_sticky\":{is_sticky},\"event_id\":\""
    )
    .expect("writing into a string does not fail");
    text
}

/// The flag's variant; empty where the value in the code counts.
fn variant_of<'a>(evaluation: &Evaluation<'a>) -> &'a str {
    evaluation.variant.map_or("", |variant| &variant.key)
}

/// What was logged lately, in a fixed table whose rows have a few places: a newer one takes the place of an older when the row is
/// full, and what is forgotten is recognized by the log's own filter. The hash has keys of this process, so that nobody can make
/// two assignments look like one.
pub struct Recent {
    rows: Box<[Row]>,
    keys: RandomState,
}

/// The places of a row lie in one line of the processor's cache.
#[repr(align(64))]
#[derive(Default)]
struct Row([AtomicU64; ROW_PLACES]);

const ROW_PLACES: usize = 8;
/// 1 MiB.
const ROWS: usize = 1 << 14;

impl Default for Recent {
    fn default() -> Recent {
        Recent {
            rows: (0..ROWS).map(|_| Row::default()).collect(),
            keys: RandomState::new(),
        }
    }
}

impl Recent {
    /// A number for what was logged, to ask for and to remember.
    pub fn short(&self, identity: impl Hash) -> u64 {
        // 0 is a free place.
        self.keys.hash_one(identity).max(1)
    }

    /// Whether it was logged lately.
    pub fn contains(&self, id: u64) -> bool {
        let mut places = self.row(id).iter();
        places.any(|place| place.load(Ordering::Relaxed) == id)
    }

    /// Remembers it.
    pub fn insert(&self, id: u64) {
        let row = self.row(id);
        let free = row.iter().find(|place| place.load(Ordering::Relaxed) == 0);
        // Any place of a full row is as good as another; these bits did not choose the row.
        let place = free.unwrap_or(&row[(id >> 32) as usize % ROW_PLACES]);
        place.store(id, Ordering::Relaxed);
    }

    fn row(&self, id: u64) -> &[AtomicU64; ROW_PLACES] {
        &self.rows[id as usize % ROWS].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_logged_lately_is_known_even_when_the_table_is_half_full() {
        let recent = Recent::default();
        let ids: Vec<u64> = (0..ROWS * ROW_PLACES / 2)
            .map(|unit| recent.short(unit))
            .collect();
        assert!(!ids.iter().any(|id| recent.contains(*id)));
        ids.iter().for_each(|id| recent.insert(*id));
        let known = ids.iter().filter(|id| recent.contains(**id)).count();
        assert!(known * 100 >= ids.len() * 97, "{known} of {}", ids.len());
        let newer: Vec<u64> = (0..1_000_000).map(|unit| recent.short((unit, 1))).collect();
        newer.iter().for_each(|id| recent.insert(*id));
        let last = &newer[newer.len() - 1_000..];
        let known = last.iter().filter(|id| recent.contains(**id)).count();
        assert!(known >= 980, "{known} of 1000");
    }
}
