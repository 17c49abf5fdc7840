//! The typed evaluation context: what is known about the unit that asks.
//! In: a declared [`Schema`] and JSON as OFREP sends it. Out: a [`Context`] whose values lie in slots, so that a rule
//! reads an attribute without looking up its name. Attributes that nobody declared are ignored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::Value as Json;

use super::targeting::version_key;

/// The type of an attribute or of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Boolean,
    Integer,
    Float,
    Text,
    Timestamp,
    /// A semantic version; at run time its sortable key.
    Version,
    /// A list of texts.
    Texts,
    /// The type of a bare `NULL`.
    Null,
}

/// One value. A version is the text that [`version_key`] gives, a timestamp counts microseconds since 1970 in UTC.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Box<str>),
    Timestamp(i64),
    Texts(Box<[Box<str>]>),
}

/// The attributes that targeting may use, over all kinds of units.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    kinds: Vec<ContextKind>,
    attributes: Vec<Attribute>,
    slots: HashMap<Box<str>, usize>,
}

/// A kind of unit and the slot of its identifier.
#[derive(Clone, Debug)]
pub struct ContextKind {
    pub name: Box<str>,
    pub unit: Box<str>,
    pub slot: usize,
}

/// A declared attribute.
#[derive(Clone, Debug)]
pub struct Attribute {
    pub name: Box<str>,
    pub kind: Type,
}

/// The values of one request, in the slots of the schema that it was made with.
#[derive(Clone, Debug, Default)]
pub struct Context {
    values: Box<[Value]>,
}

/// An attribute whose value does not have the declared type.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextError {
    pub attribute: String,
    pub expected: Type,
    pub found: &'static str,
}

impl Type {
    /// The type that a schema calls by this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" | "bool" => Self::Boolean,
            "integer" | "int" => Self::Integer,
            "float" | "number" | "double" => Self::Float,
            "string" | "text" => Self::Text,
            "timestamp" => Self::Timestamp,
            "semver" => Self::Version,
            "strings" => Self::Texts,
            _ => return None,
        })
    }

    /// The names that a schema may use.
    pub const NAMES: [&'static str; 7] = [
        "boolean",
        "integer",
        "float",
        "string",
        "timestamp",
        "semver",
        "strings",
    ];
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "string",
            Self::Timestamp => "timestamp",
            Self::Version => "semver",
            Self::Texts => "strings",
            Self::Null => "null",
        })
    }
}

impl Schema {
    /// Declares a kind of unit; the first is the one that the targeting key names.
    pub fn add_kind(&mut self, name: &str, unit: &str) -> usize {
        let slot = self.add_attribute(unit, Type::Text);
        self.kinds.push(ContextKind {
            name: name.into(),
            unit: unit.into(),
            slot,
        });
        self.kinds.len() - 1
    }

    /// Declares an attribute and gives its slot; a name that exists keeps its slot and its type.
    pub fn add_attribute(&mut self, name: &str, kind: Type) -> usize {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = self.attributes.len();
        self.attributes.push(Attribute {
            name: name.into(),
            kind,
        });
        self.slots.insert(name.into(), slot);
        slot
    }

    pub fn kinds(&self) -> &[ContextKind] {
        &self.kinds
    }

    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    pub fn slot(&self, name: &str) -> Option<usize> {
        self.slots.get(name).copied()
    }

    pub fn kind(&self, name: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| &*kind.name == name)
    }

    /// The context of a request: `targetingKey` fills the first kind's identifier.
    ///
    /// # Errors
    /// The first attribute whose value has another type than declared.
    pub fn context(
        &self,
        request: &serde_json::Map<String, Json>,
    ) -> Result<Context, ContextError> {
        let mut context = self.empty_context();
        self.fill(&mut context, "", request)?;
        if let (Some(kind), Some(key)) = (self.kinds.first(), request.get("targetingKey")) {
            context.values[kind.slot] = self.value(kind.slot, key)?;
        }
        Ok(context)
    }

    /// Reads declared attributes; `a.b` is the field `b` of the object `a`.
    fn fill(
        &self,
        context: &mut Context,
        prefix: &str,
        fields: &serde_json::Map<String, Json>,
    ) -> Result<(), ContextError> {
        for (name, json) in fields {
            let path = if prefix.is_empty() {
                Cow::Borrowed(name)
            } else {
                Cow::Owned(format!("{prefix}.{name}"))
            };
            match (self.slot(&path), json) {
                (Some(slot), json) => context.values[slot] = self.value(slot, json)?,
                (None, Json::Object(inner)) => self.fill(context, &path, inner)?,
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// A context that knows nothing.
    pub fn empty_context(&self) -> Context {
        Context {
            values: vec![Value::Null; self.attributes.len()].into(),
        }
    }

    fn value(&self, slot: usize, json: &Json) -> Result<Value, ContextError> {
        let attribute = &self.attributes[slot];
        let is_unit = self.kinds.iter().any(|kind| kind.slot == slot);
        let value = if is_unit {
            unit_value(json)
        } else {
            typed_value(attribute.kind, json)
        };
        value.ok_or_else(|| ContextError {
            attribute: attribute.name.to_string(),
            expected: attribute.kind,
            found: json_type(json),
        })
    }
}

impl Context {
    /// The identifier of a kind of unit, unless it is missing or empty.
    pub fn unit(&self, kind: &ContextKind) -> Option<&str> {
        match self.get(kind.slot) {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub fn get(&self, slot: usize) -> &Value {
        self.values.get(slot).unwrap_or(&Value::Null)
    }

    /// Replaces one value; slots that the schema does not have are ignored.
    pub fn set(&mut self, slot: usize, value: Value) {
        if let Some(place) = self.values.get_mut(slot) {
            *place = value;
        }
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            attribute,
            expected,
            found,
        } = self;
        write!(
            formatter,
            "attribute `{attribute}` must be a {expected}, not a {found}"
        )
    }
}

impl std::error::Error for ContextError {}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Microseconds since 1970 of an RFC 3339 text, or of a date with or without a time, then in UTC.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    parse_instant(text).map(|instant| instant.timestamp_micros())
}

/// The instant of an RFC 3339 text, or of a date with or without a time, then in UTC.
pub fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|instant| instant.to_utc());
    let spaced = || DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z").map(|at| at.to_utc());
    let local =
        |format| NaiveDateTime::parse_from_str(text, format).map(|instant| instant.and_utc());
    let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
    zoned
        .or_else(|_| spaced())
        .or_else(|_| local("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|_| local("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|_| NaiveDate::parse_from_str(text, "%Y-%m-%d").map(midnight))
        .ok()
}

/// Identifiers may come as numbers; they are hashed as they are written.
fn unit_value(json: &Json) -> Option<Value> {
    match json {
        Json::Null => Some(Value::Null),
        Json::String(text) => Some(Value::Text(text.as_str().into())),
        Json::Number(number) if !number.is_f64() => Some(Value::Text(number.to_string().into())),
        _ => None,
    }
}

fn typed_value(kind: Type, json: &Json) -> Option<Value> {
    match (kind, json) {
        (_, Json::Null) => Some(Value::Null),
        (Type::Boolean, Json::Bool(boolean)) => Some(Value::Boolean(*boolean)),
        (Type::Integer, Json::Number(number)) => whole(number).map(Value::Integer),
        (Type::Float, Json::Number(number)) => number.as_f64().map(Value::Float),
        (Type::Text, Json::String(text)) => Some(Value::Text(text.as_str().into())),
        (Type::Timestamp, Json::String(text)) => parse_timestamp(text).map(Value::Timestamp),
        // A version that is none is unknown, as `semver(...)` says on history.
        (Type::Version, Json::String(text)) => {
            Some(version_key(text).map_or(Value::Null, |key| Value::Text(key.into())))
        }
        (Type::Texts, Json::Array(items)) => texts(items),
        _ => None,
    }
}

/// JavaScript clients write whole numbers as `3` and sometimes as `3.0`.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9.0e15).then_some(float as i64)
    })
}

fn texts(items: &[Json]) -> Option<Value> {
    let texts: Option<Vec<Box<str>>> = items
        .iter()
        .map(|item| item.as_str().map(Box::from))
        .collect();
    texts.map(|texts| Value::Texts(texts.into()))
}

fn json_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string that can be read so",
        Json::Array(_) => "list",
        Json::Object(_) => "object",
    }
}
