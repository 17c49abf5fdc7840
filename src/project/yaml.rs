//! YAML as a tree in which every key and value knows its place, and a reader that takes typed fields out of it.
//! In: the text of one file. Out: a [`Node`]. All findings of a file are collected: a wrong type in one entry does not
//! hide an unknown key in the next, which is why specs are read with [`Fields`] and not derived.

use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::diagnostics::{Checked, Code, Diagnostic, Span, did_you_mean, nearest};

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

/// A type that can be read from one YAML value.
pub trait FromNode: Sized {
    /// What is expected, in words: `a text`.
    const EXPECTED: &'static str;
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self>;
}

/// Reads the fields of one mapping, remembers which were asked for, and reports all others as unknown.
pub struct Fields<'a> {
    entries: &'a [(Spot<String>, Node)],
    span: Span,
    /// What the mapping describes, for messages: `a model`.
    what: &'static str,
    asked: Vec<&'static str>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Fields<'a> {
    /// `None`, with a diagnostic, when the node is not a mapping.
    pub fn of(
        node: &'a Node,
        what: &'static str,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let entries: &'a [(Spot<String>, Node)] = match &node.value {
            Value::Mapping(entries) => entries,
            Value::Null => &[],
            _ => {
                diagnostics.push(wrong_type(node, &format!("{what} with keys and values")));
                return None;
            }
        };
        Some(Self {
            entries,
            span: node.span.clone(),
            what,
            asked: Vec::new(),
            diagnostics,
        })
    }

    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.entries
            .iter()
            .find(|(name, _)| name.value == key)
            .map(|(_, node)| node)
    }

    pub fn optional<T: FromNode>(&mut self, key: &'static str) -> Option<T> {
        let node = self.node(key)?;
        if node.value == Value::Null {
            return None;
        }
        self.read(key, node)
    }

    fn read<T: FromNode>(&mut self, key: &str, node: &Node) -> Option<T> {
        read_at(key, node, self.diagnostics)
    }

    pub fn required<T: FromNode>(&mut self, key: &'static str) -> Option<T> {
        match self.node(key) {
            Some(node) if node.value != Value::Null => self.read(key, node),
            found => {
                let span = found.map_or(self.span.clone(), |node| node.span.clone());
                self.diagnostics.push(
                    Diagnostic::error(Code::E0105, missing_key(self.what, key))
                        .at(span)
                        .hint(format!(
                            "add `{key}:` with {}",
                            if T::EXPECTED.is_empty() {
                                "a value"
                            } else {
                                T::EXPECTED
                            }
                        )),
                );
                None
            }
        }
    }

    pub fn or_default<T: FromNode + Default>(&mut self, key: &'static str) -> T {
        self.optional(key).unwrap_or_default()
    }

    /// Every key that nobody asked for; for open mappings such as `vars`.
    pub fn rest(self) -> Vec<(&'a Spot<String>, &'a Node)> {
        let asked = self.asked;
        self.entries
            .iter()
            .filter(|(key, _)| !asked.contains(&key.value.as_str()))
            .map(|(key, node)| (key, node))
            .collect()
    }

    /// Reports the keys that nobody asked for, and gives the absent keys that they seem to be: those are not missing, but misspelt.
    pub fn finish(self) -> Misspelt {
        let mut misspelt = Misspelt::default();
        for (key, _) in self.entries {
            if !self.asked.contains(&key.value.as_str()) {
                let meant = nearest(&key.value, self.asked.iter().copied())
                    .and_then(|name| self.asked.iter().find(|asked| **asked == name))
                    .filter(|name| !self.entries.iter().any(|(key, _)| key.value == **name));
                if let Some(meant) = meant {
                    misspelt.0.push(*meant);
                    let missing = missing_key(self.what, meant);
                    self.diagnostics.retain(|found| {
                        found.message != missing || found.span.as_ref() != Some(&self.span)
                    });
                }
                self.diagnostics.push(
                    Diagnostic::error(
                        Code::E0103,
                        format!("unknown key `{}` in {}", key.value, self.what),
                    )
                    .at(key.span.clone())
                    .hint(did_you_mean(&key.value, self.asked.iter().copied())),
                );
            }
        }
        misspelt
    }

    pub fn diagnostics(&mut self) -> &mut Vec<Diagnostic> {
        self.diagnostics
    }

    pub fn span(&self) -> &Span {
        &self.span
    }
}

/// Reads the value of a key; what is wrong with its type is said of the key.
pub fn read_at<T: FromNode>(
    key: &str,
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let before = diagnostics.len();
    let value = T::from_node(node, diagnostics);
    let about_type = diagnostics[before..]
        .iter_mut()
        .filter(|found| found.code == Code::E0104 && found.message.starts_with("expected "));
    for found in about_type {
        found.message = format!("`{key}`: {}", found.message);
    }
    value
}

/// Keys of a mapping that are absent, with one beside them that is nearly the same and means nothing. Whoever needs such a
/// key is silent: the misspelt one is reported, with the hint that mends both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misspelt(Vec<&'static str>);

impl Misspelt {
    pub fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }
}

fn missing_key(what: &str, key: &str) -> String {
    format!("{what} needs `{key}`")
}

/// The diagnostic for a value of the wrong type.
pub fn wrong_type(node: &Node, expected: &str) -> Diagnostic {
    Diagnostic::error(
        Code::E0104,
        format!("expected {expected}, found {}", node.kind()),
    )
    .at(node.span.clone())
}

impl FromNode for String {
    const EXPECTED: &'static str = "a text";
    /// Numbers and booleans are taken as the text that stands in the file, as in dbt.
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if node.written.is_some() => {
                node.written.clone()
            }
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => {
                diagnostics.push(wrong_type(node, Self::EXPECTED));
                None
            }
        }
    }
}

impl FromNode for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            Value::String(ref text) if old_boolean(text).is_some() => old_boolean(text),
            _ => {
                diagnostics.push(wrong_type(node, Self::EXPECTED));
                None
            }
        }
    }
}

/// What YAML 1.1, which dbt reads, means by `yes`, `off` and the like; where a boolean is wanted they are no other words.
pub fn old_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" | "true" => Some(true),
        "n" | "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

impl FromNode for i64 {
    const EXPECTED: &'static str = "an integer";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        match node.value {
            Value::Int(value) => Some(value),
            _ => {
                diagnostics.push(wrong_type(node, Self::EXPECTED));
                None
            }
        }
    }
}

impl FromNode for f64 {
    const EXPECTED: &'static str = "a finite number";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        match node.value {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) if value.is_finite() => Some(value),
            _ => {
                diagnostics.push(wrong_type(node, Self::EXPECTED));
                None
            }
        }
    }
}

impl FromNode for Node {
    const EXPECTED: &'static str = "a value";
    fn from_node(node: &Node, _: &mut Vec<Diagnostic>) -> Option<Self> {
        Some(node.clone())
    }
}

impl<T: FromNode> FromNode for Spot<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        Some(Spot {
            value: T::from_node(node, diagnostics)?,
            span: node.span.clone(),
        })
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    const EXPECTED: &'static str = "a list";
    /// A single value is taken as a list of one, as dbt does for `tags`.
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        match &node.value {
            Value::Sequence(items) => Some(
                items
                    .iter()
                    .filter_map(|item| T::from_node(item, diagnostics))
                    .collect(),
            ),
            Value::Null => Some(Vec::new()),
            _ => T::from_node(node, diagnostics).map(|item| vec![item]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "a: 1\nb:\n  - {c: [x, 2.5]}\n  - d: 'q r'\n";
        let node = parse(&"f.yml".into(), text).value;
        let list = node.get("b").expect("b is there");
        let Value::Sequence(items) = &list.value else {
            panic!("b is a list")
        };
        let quoted = items[1].get("d").expect("d is there");
        assert_eq!((quoted.span.line, quoted.span.column), (4, 8));
        assert_eq!(&text[quoted.span.byte_range(text)], "'q r'");
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": 1, "b": [{"c": ["x", 2.5]}, {"d": "q r"}]})
        );
    }

    #[test]
    fn a_file_that_is_not_yaml_says_where() {
        let checked = parse(&"f.yml".into(), "a: [1, 2\nb: }");
        assert_eq!(checked.diagnostics.len(), 1);
        assert!(checked.diagnostics[0].span.is_some());
    }

    #[test]
    fn a_misspelt_key_is_not_reported_as_missing_too() {
        let node = parse(&"f.yml".into(), "nmae: x\nother: 1\n").value;
        let mut diagnostics = Vec::new();
        let mut fields = Fields::of(&node, "a model", &mut diagnostics).expect("a mapping");
        let name: Option<String> = fields.required("name");
        let kind: Option<String> = fields.required("kind");
        let misspelt = fields.finish();
        assert_eq!((name, kind), (None, None));
        assert!(misspelt.has("name") && !misspelt.has("kind"));
        let messages: Vec<_> = diagnostics
            .iter()
            .map(|diagnostic| diagnostic.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "a model needs `kind`",
                "unknown key `nmae` in a model",
                "unknown key `other` in a model"
            ]
        );
        assert_eq!(diagnostics[1].hint.as_deref(), Some("did you mean `name`?"));
    }

    #[test]
    fn other_words_are_booleans_only_where_one_is_wanted() {
        let node = parse(
            &"f.yml".into(),
            "all: [n, y, No, yes, on, off, true, False]\n",
        )
        .value;
        assert_eq!(
            node.to_json(),
            serde_json::json!({"all": ["n", "y", "No", "yes", "on", "off", true, false]})
        );
        let wanted = |text: &str| {
            let node = parse(&"f.yml".into(), &format!("enabled: {text}\n")).value;
            let enabled = node.get("enabled").expect("it is there");
            bool::from_node(enabled, &mut Vec::new())
        };
        assert_eq!(wanted("no"), Some(false));
        assert_eq!(wanted("Yes"), Some(true));
        assert_eq!(wanted("often"), None);
    }

    /// `n` may be a column, and is no `false` where a text is asked for.
    #[test]
    fn texts_are_taken_as_they_are_written() {
        for (written, meant) in [
            ("n", "n"),
            ("off", "off"),
            ("Yes", "Yes"),
            ("TRUE", "TRUE"),
            ("007", "007"),
            ("1.50", "1.50"),
            ("0x10", "0x10"),
            ("true # a comment", "true"),
            ("'yes'", "yes"),
        ] {
            let file: Arc<str> = "metrics.yml".into();
            let text = format!("ä: [1]\nmetrics:\n  - {{name: größe, expr: {written}\n    }}\n");
            let node = parse(&file, &text).value;
            let Some(Value::Sequence(metrics)) = node.get("metrics").map(|node| &node.value) else {
                panic!("{written}: {node:?}");
            };
            let expression = metrics[0].get("expr").expect("it is there");
            let read = String::from_node(expression, &mut Vec::new());
            assert_eq!(read.as_deref(), Some(meant), "{written}");
        }
    }
}
