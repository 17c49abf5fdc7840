//! The kinds of events and the columns of their tables, as data.
//! In: nothing. Out: for each [`Table`] its columns with their types, and which field of a client's JSON fills which.
//! Reading JSON is left to [`super::event`], writing tables to [`super::rotate`].

use std::collections::HashMap;
use std::sync::LazyLock;

use Kind::{Boolean, Float, Integer, Map, Text, Timestamp};

/// Where an event belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Which variant a unit was given.
    Assignment,
    /// That a unit was shown its variant.
    Exposure,
    /// Something a unit did.
    Metric,
    /// That a flag's definition changed.
    FlagChange,
    /// What violates the schema or the tracking plan.
    Quarantine,
}

impl Table {
    /// All tables, in the order their numbers in the log.
    pub const ALL: [Table; 5] = [
        Table::Assignment,
        Table::Exposure,
        Table::Metric,
        Table::FlagChange,
        Table::Quarantine,
    ];

    /// Name of the table, without a schema.
    pub fn name(self) -> &'static str {
        match self {
            Table::Assignment => "assignment_event",
            Table::Exposure => "exposure_event",
            Table::Metric => "metric_event",
            Table::FlagChange => "flag_change_event",
            Table::Quarantine => "event_quarantine",
        }
    }

    /// The value of `event_type`.
    pub fn event_type(self) -> &'static str {
        match self {
            Table::Assignment => "assignment",
            Table::Exposure => "exposure",
            Table::Metric => "metric",
            Table::FlagChange => "flag_change",
            Table::Quarantine => "quarantine",
        }
    }

    /// The columns a client fills, after which come the [`SERVER_COLUMNS`].
    pub fn fields(self) -> &'static Fields {
        &FIELDS[self as usize]
    }
}

/// The columns of one table that are read from an event's JSON.
pub struct Fields {
    /// In table order.
    pub columns: Vec<Column>,
    by_name: HashMap<&'static str, usize>,
}

impl Fields {
    /// The index of the column that the field `name` of an event fills.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The index of the column that keeps every field no other column takes.
    pub fn rest(&self) -> usize {
        self.columns.len() - 1
    }
}

/// A column of an event table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether an event without it is a violation.
    pub is_required: bool,
    /// Names other systems give it: Segment, GrowthBook, Eppo, OpenFeature Tracking.
    aliases: &'static [&'static str],
}

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
    /// Microseconds since 1970, UTC.
    Timestamp,
    /// Text to text; nested values as JSON.
    Map,
}

/// Columns the server fills, in every table: when it took the event, its place in the log, the time it happened after
/// correcting the client's clock, the day it is filed under, and whether a bot sent it.
pub const SERVER_COLUMNS: [(&str, Kind); 6] = [
    ("received_at", Timestamp),
    ("corrected_at", Timestamp),
    ("ingest_seq", Integer),
    ("is_bot", Boolean),
    ("bot_reason", Text),
    ("environment", Text),
];

/// Columns only the quarantine has.
pub const QUARANTINE_COLUMNS: [(&str, Kind); 2] = [("reason", Text), ("payload", Text)];

/// The column tables are partitioned by, after all others: the day of `corrected_at`.
pub const PARTITION_COLUMN: &str = "event_date";

static FIELDS: LazyLock<[Fields; 5]> = LazyLock::new(|| Table::ALL.map(fields));

fn fields(table: Table) -> Fields {
    let own: &[Column] = match table {
        Table::Assignment => &ASSIGNMENT,
        Table::Exposure => &EXPOSURE,
        Table::Metric => &METRIC,
        Table::FlagChange => &FLAG_CHANGE,
        Table::Quarantine => &[],
    };
    let rest = if table == Table::Assignment {
        "attributes"
    } else {
        "properties"
    };
    let rest = Column {
        aliases: &["fields"],
        ..column(rest, Map)
    };
    let columns: Vec<Column> = ENVELOPE.iter().chain(own).copied().chain([rest]).collect();
    let mut by_name = HashMap::new();
    for (index, column) in columns.iter().enumerate() {
        column
            .aliases
            .iter()
            .for_each(|alias| _ = by_name.entry(*alias).or_insert(index));
        by_name.insert(column.name, index);
    }
    Fields { columns, by_name }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        is_required: false,
        aliases: &[],
    }
}

const fn required(name: &'static str, kind: Kind) -> Column {
    Column {
        is_required: true,
        ..column(name, kind)
    }
}

const fn known_as(column: Column, aliases: &'static [&'static str]) -> Column {
    Column { aliases, ..column }
}

static ENVELOPE: [Column; 15] = [
    known_as(required("event_id", Text), &["messageId", "eventId", "id"]),
    known_as(column("event_type", Text), &["type", "eventType"]),
    column("schema_version", Text),
    column("source", Text),
    column("project", Text),
    known_as(
        column("occurred_at", Timestamp),
        &["timestamp", "time", "ts", "originalTimestamp"],
    ),
    known_as(column("sent_at", Timestamp), &["sentAt"]),
    known_as(column("unit_type", Text), &["unit"]),
    known_as(
        column("unit_id", Text),
        &["targetingKey", "targeting_key", "subject"],
    ),
    known_as(column("anonymous_id", Text), &["anonymousId"]),
    known_as(column("user_id", Text), &["userId"]),
    known_as(column("session_id", Text), &["sessionId"]),
    column("sdk_name", Text),
    column("sdk_version", Text),
    known_as(column("trace_id", Text), &["traceId"]),
];

static ASSIGNMENT: [Column; 16] = [
    known_as(
        required("flag_key", Text),
        &["flag", "featureFlag", "feature_key"],
    ),
    known_as(
        column("experiment_key", Text),
        &["experiment", "experiment_id", "experimentId"],
    ),
    known_as(column("allocation_id", Text), &["allocation"]),
    column("algorithm", Text),
    column("salt_hash", Text),
    column("bucket", Integer),
    known_as(column("layer_key", Text), &["layer"]),
    column("layer_bucket", Integer),
    known_as(column("holdout_key", Text), &["holdout"]),
    known_as(
        column("variant", Text),
        &["variation", "variation_id", "variationId"],
    ),
    column("reason", Text),
    column("rule_id", Text),
    column("config_version", Text),
    column("is_override", Boolean),
    column("is_sticky", Boolean),
    column("is_default", Boolean),
];

static EXPOSURE: [Column; 6] = [
    known_as(
        required("experiment_key", Text),
        &["experiment", "experiment_id", "experimentId"],
    ),
    known_as(
        required("variant", Text),
        &[
            "variation",
            "variation_id",
            "variationId",
            "variation_name",
            "variationName",
        ],
    ),
    known_as(column("allocation_id", Text), &["allocation"]),
    known_as(
        column("flag_key", Text),
        &["flag", "featureFlag", "feature_key"],
    ),
    column("surface", Text),
    column("assignment_event_id", Text),
];

static METRIC: [Column; 14] = [
    known_as(
        required("event_name", Text),
        &["event", "name", "eventName"],
    ),
    column("value", Float),
    column("currency", Text),
    column("page_url", Text),
    column("referrer", Text),
    column("utm_source", Text),
    column("utm_medium", Text),
    column("utm_campaign", Text),
    column("utm_term", Text),
    column("utm_content", Text),
    column("device", Text),
    column("browser", Text),
    column("os", Text),
    column("country", Text),
];

static FLAG_CHANGE: [Column; 13] = [
    known_as(required("flag_key", Text), &["flag"]),
    required("change_kind", Text),
    column("old_config_version", Text),
    column("new_config_version", Text),
    column("old_content_hash", Text),
    column("new_content_hash", Text),
    column("author", Text),
    column("reviewer", Text),
    column("commit_sha", Text),
    column("merged_at", Timestamp),
    column("activated_at", Timestamp),
    column("units_moved", Integer),
    column("units_entered", Integer),
];
