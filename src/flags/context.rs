//! The typed evaluation context: what is known about the unit that asks.
//! In: a declared [`Schema`] and JSON as OFREP sends it. Out: a [`Context`] whose values lie in slots, so that a rule
//! reads an attribute without looking up its name. Attributes that nobody declared are ignored. Walking through JSON is
//! left to [`read`].

mod read;

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::de::DeserializeSeed;
use serde_json::Value as Json;

pub use self::read::{ContextJson, ReadContext};

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

/// One value. A version is the text that [`version_key`](super::targeting::version_key) gives, a timestamp counts microseconds since 1970 in UTC.
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
    /// Whether there is an attribute `a.b`, the field `b` of an object `a`.
    has_fields: bool,
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
#[derive(Clone, Debug, Default, PartialEq)]
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
        self.has_fields |= name.contains('.');
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

    /// The context of a request: `targetingKey` fills the first kind's identifier, `a.b` is the field `b` of the object `a`.
    ///
    /// # Errors
    /// The first attribute whose value has another type than declared.
    pub fn context(
        &self,
        request: &serde_json::Map<String, Json>,
    ) -> Result<Context, ContextError> {
        match ReadContext::of(self).deserialize(request) {
            Ok(ContextJson::Object(context, _)) => context,
            _ => unreachable!("a map of values is an object and is read to its end"),
        }
    }

    /// A context that knows nothing.
    pub fn empty_context(&self) -> Context {
        Context {
            values: vec![Value::Null; self.attributes.len()].into(),
        }
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

    /// Writes the values so that equal bytes mean equal contexts of one schema.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.values.iter().for_each(|value| value.write_to(out));
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

    /// Lengths come first: no text can imitate what is around it.
    fn write_to(&self, out: &mut Vec<u8>) {
        let text = |text: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Null => out.push(0),
            Self::Boolean(boolean) => out.extend_from_slice(&[1, u8::from(*boolean)]),
            Self::Integer(integer) => {
                out.push(2);
                out.extend_from_slice(&integer.to_le_bytes());
            }
            Self::Float(float) => {
                out.push(3);
                out.extend_from_slice(&float.to_bits().to_le_bytes());
            }
            Self::Text(value) => {
                out.push(4);
                text(value, out);
            }
            Self::Timestamp(micros) => {
                out.push(5);
                out.extend_from_slice(&micros.to_le_bytes());
            }
            Self::Texts(texts) => {
                out.push(6);
                out.extend_from_slice(&(texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|value| text(value, out));
            }
        }
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
