//! In: a [`Node`]. Out: typed values of it, and what is wrong with each: keys that nobody asked for, keys that are missing, other types.

use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean, nearest};

use super::{Node, Spot, Value, old_boolean};

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
