//! Reads one event's JSON into the columns of its table.
//! In: the text of a JSON object in the native shape. Out: an [`Event`], whose values are still JSON text, and what is wrong
//! with it. Other shapes are converted before by [`super::convert`]; the tracking plan is checked by [`super::plan`].

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::schema::{Column, Kind, Table};
use super::time;

/// Reads an event.
///
/// # Errors
/// It is not a JSON object or does not say what kind of event it is.
pub fn read(json: &str) -> Result<Event<'_>, String> {
    let fields = split_object(json).ok_or("the event is not a JSON object")?;
    let kind = kind_of(&fields)?;
    Ok(Event::new(kind, fields))
}

/// The fields of a JSON object, values as JSON text; `None` when it is not an object.
pub fn split_object(json: &str) -> Option<Vec<Field<'_>>> {
    serde_json::from_str::<Object>(json)
        .ok()
        .map(|object| object.0)
}

/// A name and the JSON text of its value.
pub type Field<'a> = (Cow<'a, str>, &'a str);

/// An event of known kind, its values as JSON text.
pub struct Event<'a> {
    pub table: Table,
    /// One per column of [`Table::fields`].
    pub values: Vec<Option<&'a str>>,
    /// Fields no column takes.
    pub rest: Vec<Field<'a>>,
}

/// Longer ids are a violation: they are stored with every event, and in the filter's memory.
pub const MAX_ID_LENGTH: usize = 256;

impl<'a> Event<'a> {
    fn new(kind: EventKind<'a>, fields: Vec<Field<'a>>) -> Event<'a> {
        let columns = kind.table.fields();
        let mut event = Event {
            table: kind.table,
            values: vec![None; columns.columns.len()],
            rest: Vec::new(),
        };
        for (name, value) in fields {
            match columns.index_of(&name) {
                _ if value == "null" => {}
                Some(index) if event.values[index].is_none() => event.values[index] = Some(value),
                _ => event.rest.push((name, value)),
            }
        }
        if let (Some(name), Some(index)) = (kind.name, columns.index_of("event_name")) {
            event.values[index].get_or_insert(name);
        }
        event
    }

    /// The JSON text of a column.
    pub fn value(&self, column: &str) -> Option<&'a str> {
        self.values[self.table.fields().index_of(column)?]
    }

    /// A text column.
    pub fn text(&self, column: &str) -> Option<Cow<'a, str>> {
        text(self.value(column)?)
    }

    /// The id, if there is a usable one.
    pub fn id(&self) -> Option<Cow<'a, str>> {
        self.text("event_id")
            .filter(|id| !id.is_empty() && id.len() <= MAX_ID_LENGTH)
    }

    /// A property: a column of that name, a field inside `properties`, or one beside it.
    pub fn property(&self, name: &str, properties: &[Field<'a>]) -> Option<&'a str> {
        let named = |fields: &[Field<'a>]| {
            fields
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| *value)
        };
        self.value(name)
            .or_else(|| named(properties))
            .or_else(|| named(&self.rest))
    }

    /// The fields inside `properties` (`attributes` of an assignment).
    pub fn properties(&self) -> Vec<Field<'a>> {
        self.values[self.table.fields().rest()]
            .and_then(split_object)
            .unwrap_or_default()
    }

    /// Every way in which the event violates its schema.
    pub fn violations(&self) -> Vec<String> {
        let columns = self.table.fields().columns.iter().zip(&self.values);
        let mut violations: Vec<String> = columns
            .filter_map(|(column, value)| violation(column, *value))
            .collect();
        if self.value("event_id").is_some() && self.id().is_none() {
            violations.push(format!("`event_id` is not 1 to {MAX_ID_LENGTH} bytes long"));
        }
        let needs_unit = !matches!(self.table, Table::FlagChange | Table::Quarantine);
        if needs_unit
            && ["unit_id", "user_id", "anonymous_id"]
                .iter()
                .all(|name| self.value(name).is_none())
        {
            violations.push("none of `unit_id`, `user_id`, `anonymous_id` is there".to_string());
        }
        violations
    }
}

/// The text of a JSON scalar.
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' if !raw.contains('\\') => Some(Cow::Borrowed(raw.get(1..raw.len() - 1)?)),
        b'"' => serde_json::from_str(raw).ok().map(Cow::Owned),
        b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// A JSON number without a fraction.
pub fn integer(raw: &str) -> Option<i64> {
    let exact =
        |number: f64| (number.fract() == 0.0 && number.abs() <= 9e15).then_some(number as i64);
    raw.parse().ok().or_else(|| exact(float(raw)?))
}

/// A JSON number.
pub fn float(raw: &str) -> Option<f64> {
    let is_number = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    raw.parse()
        .ok()
        .filter(|number: &f64| is_number && number.is_finite())
}

/// A JSON boolean.
pub fn boolean(raw: &str) -> Option<bool> {
    raw.parse().ok()
}

fn violation(column: &Column, value: Option<&str>) -> Option<String> {
    let name = column.name;
    let Some(raw) = value else {
        return column.is_required.then(|| format!("`{name}` is missing"));
    };
    let (is_right, wanted) = match column.kind {
        Kind::Text => (text(raw).is_some(), "text"),
        Kind::Integer => (integer(raw).is_some(), "an integer"),
        Kind::Float => (float(raw).is_some(), "a number"),
        Kind::Boolean => (boolean(raw).is_some(), "true or false"),
        Kind::Timestamp => (time::parse_json(raw).is_some(), "a time"),
        Kind::Map => (raw.starts_with('{'), "an object"),
    };
    (!is_right).then(|| format!("`{name}` is not {wanted}"))
}

struct EventKind<'a> {
    table: Table,
    /// A type of the client's own is the name of a metric event.
    name: Option<&'a str>,
}

fn kind_of<'a>(fields: &[Field<'a>]) -> Result<EventKind<'a>, String> {
    let find = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| fields.iter().find(|(key, _)| key == name))
    };
    let of = |table| Ok(EventKind { table, name: None });
    let Some((_, raw)) = find(&["event_type", "type", "eventType"]) else {
        return of(guess_table(|name| find(&[name]).is_some()).ok_or("`event_type` is missing")?);
    };
    match text(raw).ok_or("`event_type` is not text")?.as_ref() {
        "assignment" | "assignment_event" => of(Table::Assignment),
        "exposure" | "exposure_event" => of(Table::Exposure),
        "metric" | "metric_event" | "track" | "event" => of(Table::Metric),
        "flag_change" | "flag-change" | "flag_change_event" => of(Table::FlagChange),
        _ => Ok(EventKind {
            table: Table::Metric,
            name: Some(raw),
        }),
    }
}

fn guess_table(has: impl Fn(&str) -> bool) -> Option<Table> {
    let guesses = [
        (has("change_kind"), Table::FlagChange),
        (has("event_name") || has("event"), Table::Metric),
        (
            has("featureFlag") || has("flag_key") && has("reason"),
            Table::Assignment,
        ),
        (has("experiment_key") && has("variant"), Table::Exposure),
    ];
    guesses
        .into_iter()
        .find(|(fits, _)| *fits)
        .map(|(_, table)| table)
}

/// The fields of a JSON object in order, values unparsed.
struct Object<'a>(Vec<Field<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor).map(Object)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            fields.push((name, value.get()));
        }
        Ok(fields)
    }
}

/// A name that is borrowed from the input unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_string()))
            }
        }
        deserializer.deserialize_str(NameVisitor).map(Name)
    }
}
