//! Records of the log as rows of tables.
//! In: [`Record`]s in log order. Out: one sorted Arrow batch per table. Depends on nothing but the records, so that rotating a
//! segment again gives the same rows.

use std::borrow::Cow;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder,
    MapBuilder, MapFieldNames, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use deltalake::arrow::compute::{SortColumn, lexsort_to_indices, take_record_batch};
use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::arrow::error::ArrowError;

use super::accept::content_id;
use super::event::{self, Event};
use super::record::Record;
use super::schema::{Kind, PARTITION_COLUMN, QUARANTINE_COLUMNS, SERVER_COLUMNS, Table};
use super::time;

/// The Arrow schema of a table, all columns nullable, the partition column last.
pub fn schema(table: Table) -> SchemaRef {
    let fields = columns(table)
        .into_iter()
        .map(|(name, kind)| Field::new(name, data_type(kind), true));
    Arc::new(Schema::new(
        fields
            .chain([Field::new(PARTITION_COLUMN, DataType::Date32, true)])
            .collect::<Vec<_>>(),
    ))
}

/// Rows of one table in the making.
pub struct Rows {
    table: Table,
    columns: Vec<Builder>,
    dates: Date32Builder,
}

impl Rows {
    /// No rows yet.
    pub fn new(table: Table) -> Rows {
        let columns = columns(table)
            .into_iter()
            .map(|(_, kind)| Builder::new(kind))
            .collect();
        Rows {
            table,
            columns,
            dates: Date32Builder::new(),
        }
    }

    /// Adds the row of a record of this table. `ingest_seq` is its place in the log.
    pub fn push(&mut self, record: &Record<'_>, ingest_seq: i64) {
        let event = event::read(record.json).ok();
        let fields = self.table.fields().columns.len();
        let (own, added) = self.columns.split_at_mut(fields);
        let times = Times::of(record, event.as_ref());
        match &event {
            Some(event) => push_fields(self.table, own, event, record, times.sent),
            None => push_unreadable(self.table, own, record),
        }
        push_added(self.table, added, record, ingest_seq, times.corrected);
        self.dates
            .append_value(time::partition_day(record.received_at, times.corrected));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.dates.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, sorted by experiment, unit and time.
    pub fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Builder::finish).collect();
        arrays.push(Arc::new(self.dates.finish()));
        let batch = RecordBatch::try_new(schema(self.table), arrays)?;
        let keys = ["experiment_key", "unit_id", "corrected_at", "ingest_seq"];
        let keys = keys.iter().filter_map(|name| batch.column_by_name(name));
        let keys: Vec<SortColumn> = keys
            .map(|values| SortColumn {
                values: values.clone(),
                options: None,
            })
            .collect();
        take_record_batch(&batch, &lexsort_to_indices(&keys, None)?)
    }
}

fn columns(table: Table) -> Vec<(&'static str, Kind)> {
    let own = table
        .fields()
        .columns
        .iter()
        .map(|column| (column.name, column.kind));
    let quarantine = QUARANTINE_COLUMNS
        .iter()
        .copied()
        .filter(|_| table == Table::Quarantine);
    own.chain(SERVER_COLUMNS).chain(quarantine).collect()
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8,
        Kind::Integer => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Map => {
            let key = Field::new("key", DataType::Utf8, false);
            let value = Field::new("value", DataType::Utf8, true);
            let entry = Field::new(
                "key_value",
                DataType::Struct(vec![key, value].into()),
                false,
            );
            DataType::Map(Arc::new(entry), false)
        }
    }
}

/// Times of an event, microseconds since 1970.
struct Times {
    sent: Option<i64>,
    corrected: i64,
}

impl Times {
    fn of(record: &Record<'_>, event: Option<&Event<'_>>) -> Times {
        let time = |name| {
            event
                .and_then(|event| event.value(name))
                .and_then(time::parse_json)
        };
        let sent = time("sent_at").or(record.sent_at);
        Times {
            sent,
            corrected: time::corrected(record.received_at, time("occurred_at"), sent),
        }
    }
}

/// The columns a client fills. In quarantine, what cannot be read is left out: the payload has it.
fn push_fields(
    table: Table,
    builders: &mut [Builder],
    event: &Event<'_>,
    record: &Record<'_>,
    sent: Option<i64>,
) {
    let rest = table.fields().rest();
    for (index, (column, builder)) in table.fields().columns.iter().zip(builders).enumerate() {
        let raw = event.value(column.name);
        match (column.name, builder) {
            ("event_id", Builder::Text(builder)) => {
                builder.append_value(
                    event
                        .id()
                        .unwrap_or_else(|| Cow::Owned(content_id(record.json))),
                );
            }
            ("event_type", Builder::Text(builder)) => {
                builder.append_value(event.table.event_type())
            }
            ("unit_id", Builder::Text(builder)) => builder.append_option(unit_of(event)),
            ("sent_at", Builder::Timestamp(builder)) => builder.append_option(sent),
            (_, Builder::Map(builder)) if index == rest => push_map(builder, event),
            (_, builder) => builder.push(raw),
        }
    }
}

fn unit_of<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    ["unit_id", "user_id", "anonymous_id"]
        .iter()
        .find_map(|name| event.text(name))
}

fn push_unreadable(table: Table, builders: &mut [Builder], record: &Record<'_>) {
    let fields = event::split_object(record.json).unwrap_or_default();
    let id = fields
        .iter()
        .find(|(name, _)| name == "event_id")
        .and_then(|(_, raw)| event::text(raw));
    let id = id.filter(|id| !id.is_empty() && id.len() <= event::MAX_ID_LENGTH);
    for (column, builder) in table.fields().columns.iter().zip(builders) {
        match (column.name, builder) {
            ("event_id", Builder::Text(builder)) => {
                builder.append_value(
                    id.clone()
                        .unwrap_or_else(|| Cow::Owned(content_id(record.json))),
                );
            }
            (_, builder) => builder.push(None),
        }
    }
}

fn push_added(
    table: Table,
    builders: &mut [Builder],
    record: &Record<'_>,
    ingest_seq: i64,
    corrected: i64,
) {
    let is_bot = !record.bot_reason.is_empty();
    let names = SERVER_COLUMNS.iter().chain(
        QUARANTINE_COLUMNS
            .iter()
            .filter(|_| table == Table::Quarantine),
    );
    for ((name, _), builder) in names.zip(builders) {
        match (*name, builder) {
            ("received_at", Builder::Timestamp(builder)) => {
                builder.append_value(record.received_at)
            }
            ("corrected_at", Builder::Timestamp(builder)) => builder.append_value(corrected),
            ("ingest_seq", Builder::Integer(builder)) => builder.append_value(ingest_seq),
            ("is_bot", Builder::Boolean(builder)) => builder.append_value(is_bot),
            ("bot_reason", Builder::Text(builder)) => {
                builder.append_option(is_bot.then_some(record.bot_reason))
            }
            ("environment", Builder::Text(builder)) => builder.append_value(record.environment),
            ("reason", Builder::Text(builder)) => builder.append_value(record.violation),
            ("payload", Builder::Text(builder)) => builder.append_value(record.json),
            (_, builder) => builder.push(None),
        }
    }
}

/// The fields inside the event's map and those no column took; the first of a name wins.
fn push_map(builder: &mut MapBuilder<StringBuilder, StringBuilder>, event: &Event<'_>) {
    let mut fields = event.properties();
    fields.extend(event.rest.iter().cloned());
    for (index, (name, raw)) in fields.iter().enumerate() {
        if fields[..index].iter().any(|(earlier, _)| earlier == name) {
            continue;
        }
        builder.keys().append_value(name);
        let is_null = *raw == "null";
        builder
            .values()
            .append_option((!is_null).then(|| event::text(raw).unwrap_or(Cow::Borrowed(raw))));
    }
    builder
        .append(true)
        .expect("one value was appended for each key");
}

/// A column in the making.
enum Builder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Map(Box<MapBuilder<StringBuilder, StringBuilder>>),
}

impl Builder {
    fn new(kind: Kind) -> Builder {
        match kind {
            Kind::Text => Builder::Text(StringBuilder::new()),
            Kind::Integer => Builder::Integer(Int64Builder::new()),
            Kind::Float => Builder::Float(Float64Builder::new()),
            Kind::Boolean => Builder::Boolean(BooleanBuilder::new()),
            Kind::Timestamp => {
                Builder::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            Kind::Map => {
                // The names of the Delta reader.
                let names = MapFieldNames {
                    entry: "key_value".into(),
                    key: "key".into(),
                    value: "value".into(),
                };
                Builder::Map(Box::new(MapBuilder::new(
                    Some(names),
                    StringBuilder::new(),
                    StringBuilder::new(),
                )))
            }
        }
    }

    /// Adds the value of a JSON text, null when there is none or it is of another type.
    fn push(&mut self, raw: Option<&str>) {
        match self {
            Builder::Text(builder) => builder.append_option(raw.and_then(event::text)),
            Builder::Integer(builder) => builder.append_option(raw.and_then(event::integer)),
            Builder::Float(builder) => builder.append_option(raw.and_then(event::float)),
            Builder::Boolean(builder) => builder.append_option(raw.and_then(event::boolean)),
            Builder::Timestamp(builder) => builder.append_option(raw.and_then(time::parse_json)),
            Builder::Map(builder) => builder
                .append(false)
                .expect("no key and no value were appended"),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(builder) => Arc::new(builder.finish()),
            Builder::Integer(builder) => Arc::new(builder.finish()),
            Builder::Float(builder) => Arc::new(builder.finish()),
            Builder::Boolean(builder) => Arc::new(builder.finish()),
            Builder::Timestamp(builder) => Arc::new(builder.finish()),
            Builder::Map(builder) => ArrayBuilder::finish(builder.as_mut()),
        }
    }
}
