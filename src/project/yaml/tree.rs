//! In: the text of one file. Out: a [`Node`] whose keys and values know their places, or why the text is no YAML.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::syntax::syntax_error;
use crate::diagnostics::{Checked, Code, Diagnostic, Span};

/// Reads one YAML document. An empty file is [`Value::Null`].
pub fn parse(file: &Arc<str>, text: &str) -> Checked<Node> {
    let mut options = options();
    // The tree keeps both, and says where each of them stands.
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => {
            let node = Node::place(file, text, raw);
            let mut repeated = Vec::new();
            node.find_repeated_keys(&mut repeated);
            Checked::with(node, repeated)
        }
        Err(error) => Checked::with(Node::null(file), vec![syntax_error(file, &error)]),
    }
}

/// Reads one YAML document into a type that derives its shape, for rooms that keep places with `Spanned` themselves.
pub fn typed<T: serde::de::DeserializeOwned>(
    file: &Arc<str>,
    text: &str,
) -> Result<T, Box<Diagnostic>> {
    serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| Box::new(syntax_error(file, &error)))
}

/// Mappings and lists inside each other, at most: each takes some 30 KB of the stack where nothing is optimised.
pub(super) const DEEPEST: usize = 32;

/// Values of one file, at most: those of some 50 MB.
pub(super) const MOST_VALUES: usize = 5_000_000;

/// What aliases may repeat of them.
const MOST_REPEATED: usize = 200_000;

/// The core schema of YAML 1.2: `true` and `false` alone are booleans, `n`, `no` and `off` are texts.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            max_nodes: MOST_VALUES,
            max_events: 3 * MOST_VALUES,
        },
        // What aliases repeat counts as often as it is repeated.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_REPEATED },
        strict_booleans: true,
        // Whoever wants a number says that it must have an end.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub span: Span,
    /// A scalar without quotes as it stands in the file: `n` may be a column, and `1.50` a version.
    pub written: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    /// Keys in the order of the file.
    Mapping(Vec<(Spot<String>, Node)>),
}

/// A typed value taken from YAML, with its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot<T> {
    pub value: T,
    pub span: Span,
}

impl<T> std::ops::Deref for Spot<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl Spot<String> {
    /// The place of some bytes of a text that stands plainly or in quotes on one line.
    pub fn part(&self, bytes: Range<usize>) -> Option<Span> {
        let characters = self.value.chars().count() as u32;
        let quote = match self.span.length.checked_sub(characters)? {
            0 => 0,
            2 => 1,
            _ => return None,
        };
        let end = bytes.end.min(self.value.len());
        let before = self.value.get(..bytes.start)?.chars().count() as u32;
        let length = self.value.get(bytes.start..end)?.chars().count() as u32;
        Some(Span {
            column: self.span.column + quote + before,
            length,
            ..self.span.clone()
        })
    }
}

impl Node {
    fn null(file: &Arc<str>) -> Self {
        Self {
            value: Value::Null,
            span: Span::file(file.clone()),
            written: None,
        }
    }

    fn place(file: &Arc<str>, text: &str, raw: Spanned<Raw>) -> Self {
        let span = span_of(file, &raw.referenced);
        let written = match &raw.value {
            Raw::Bool(_) | Raw::Int(_) | Raw::Float(_) => written(text, &raw.defined),
            // In quotes it would stand otherwise than it is read.
            Raw::String(value) => written(text, &raw.defined).filter(|written| written == value),
            _ => None,
        };
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::String(value) => Value::String(value),
            Raw::Sequence(items) => Value::Sequence(
                items
                    .into_iter()
                    .map(|item| Self::place(file, text, item))
                    .collect(),
            ),
            Raw::Mapping(entries) => Value::Mapping(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        (
                            Spot {
                                span: span_of(file, &key.referenced),
                                value: key.value,
                            },
                            Self::place(file, text, value),
                        )
                    })
                    .collect(),
            ),
        };
        Self {
            value,
            span,
            written,
        }
    }

    /// Two values of one key: which of them is meant would be chance.
    fn find_repeated_keys(&self, diagnostics: &mut Vec<Diagnostic>) {
        match &self.value {
            Value::Sequence(items) => items
                .iter()
                .for_each(|item| item.find_repeated_keys(diagnostics)),
            Value::Mapping(entries) => {
                let mut first: HashMap<&str, &Span> = HashMap::with_capacity(entries.len());
                for (key, node) in entries {
                    if let Some(earlier) = first.get(key.as_str()) {
                        let message = format!("the key `{}` stands here twice", key.value);
                        let repeated = Diagnostic::error(Code::E0201, message)
                            .at(key.span.clone())
                            .also((*earlier).clone(), "first here");
                        diagnostics.push(repeated.hint("keep one of them"));
                    }
                    first.entry(key.as_str()).or_insert(&key.span);
                    node.find_repeated_keys(diagnostics);
                }
            }
            _ => {}
        }
    }

    /// What a user would call the type of this value.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(value) if value.is_nan() => "no number at all",
            Value::Float(value) if value.is_infinite() => "a number without an end",
            Value::Float(_) => "a number",
            Value::String(_) => "a text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// What stands for the name of a mapping that has none, while the rest of it is read and checked.
    pub fn without_name(&self) -> Spot<String> {
        Spot {
            value: String::new(),
            span: self.span.clone(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => entries
                .iter()
                .find(|(name, _)| name.value == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Without places, for templates and configuration values.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => {
                // JSON has no such numbers: they are the texts that Python prints.
                let text = || format!("{value:?}").to_lowercase().into();
                serde_json::Number::from_f64(*value).map_or_else(text, Into::into)
            }
            Value::String(value) => value.clone().into(),
            Value::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.value.clone(), node.to_json()))
                    .collect(),
            ),
        }
    }
}

/// What serde sees; places are added afterwards.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        // What counts is told that it is no integer of ours; as a text it is what stands in the file.
        Ok(i64::try_from(value).map_or(Raw::Float(value as f64), Raw::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Mapping(entries))
    }
}

/// The text of a plain scalar; none where it cannot be told, as behind a tag or an alias.
fn written(text: &str, location: &Location) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start + usize::try_from(span.byte_len()?).ok()?;
    let scalar = text.get(start..end)?.trim();
    let before = text[..start].trim_end_matches(' ');
    let before = before.rsplit([' ', '\n']).next().unwrap_or_default();
    let is_tagged = before.trim_start_matches(['[', '{', ',']).starts_with('!');
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "+-._: ".contains(letter);
    (!is_tagged && !scalar.is_empty() && scalar.chars().all(is_plain)).then(|| scalar.to_string())
}

pub(super) fn span_of(file: &Arc<str>, location: &Location) -> Span {
    if *location == Location::UNKNOWN {
        return Span::file(file.clone());
    }
    let length = location.span().len() as u32;
    Span::new(
        file.clone(),
        location.line() as u32,
        location.column() as u32,
        length,
    )
}
