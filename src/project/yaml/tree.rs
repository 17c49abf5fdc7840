//! In: the text of one file. Out: a [`Node`] whose keys and values know their places, or why the text is no YAML.

use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::diagnostics::{Checked, Code, Diagnostic, Span};

/// Reads one YAML document. An empty file is [`Value::Null`].
pub fn parse(file: &Arc<str>, text: &str) -> Checked<Node> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => {
            let lines: Vec<&str> = text.lines().collect();
            Checked::new(Node::place(file, &lines, raw))
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

/// The core schema of YAML 1.2: `true` and `false` alone are booleans, `n`, `no` and `off` are texts.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    pub span: Span,
    /// A boolean or number as it stands in the file: `n` may be a column, and `1.50` a version.
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

impl Node {
    fn null(file: &Arc<str>) -> Self {
        Self {
            value: Value::Null,
            span: Span::file(file.clone()),
            written: None,
        }
    }

    fn place(file: &Arc<str>, lines: &[&str], raw: Spanned<Raw>) -> Self {
        let span = span_of(file, &raw.referenced);
        let written = match raw.value {
            Raw::Bool(_) | Raw::Int(_) | Raw::Float(_) => written(lines, &raw.referenced),
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
                    .map(|item| Self::place(file, lines, item))
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
                            Self::place(file, lines, value),
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

    /// What a user would call the type of this value.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
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
                serde_json::Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into)
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

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        i64::try_from(value)
            .map(Raw::Int)
            .map_err(|_| E::custom(format!("the integer {value} is too large")))
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
fn written(lines: &[&str], location: &Location) -> Option<String> {
    let line = lines.get(usize::try_from(location.line()).ok()?.checked_sub(1)?)?;
    let start = usize::try_from(location.column()).ok()?.checked_sub(1)?;
    let text: String = line
        .chars()
        .skip(start)
        .take(location.span().len() as usize)
        .collect();
    let text = text.trim();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "+-._:".contains(letter);
    (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_string())
}

fn span_of(file: &Arc<str>, location: &Location) -> Span {
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

fn syntax_error(file: &Arc<str>, error: &serde_saphyr::Error) -> Diagnostic {
    let span = error
        .location()
        .map_or(Span::file(file.clone()), |location| {
            span_of(file, &location)
        });
    let message = error.without_snippet().to_string();
    let message = message
        .split(" at line ")
        .next()
        .unwrap_or(&message)
        .trim_end_matches('.')
        .to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    if let Some(key) = message.strip_prefix("duplicate mapping key: ") {
        let key = key.split(", set ").next().unwrap_or(key);
        return Diagnostic::error(Code::E0201, format!("the key `{key}` stands here twice"))
            .at(span)
            .hint("keep one of them");
    }
    if message.starts_with("multiple YAML documents") {
        return Diagnostic::error(Code::E0102, "here a second document begins")
            .at(span)
            .hint("remove the line `---`, or give what follows a file of its own");
    }
    let diagnostic = Diagnostic::error(
        Code::E0102,
        format!("this is not YAML: {}", lower_first(message)),
    )
    .at(span);
    match message.contains("tabs") {
        true => diagnostic.hint("indent with spaces"),
        false => diagnostic,
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_lowercase().collect::<String>() + characters.as_str()
    })
}
