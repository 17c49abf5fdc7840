//! The template that calls the macro of a generic test, and the way from its text back to the YAML.
//! In: what the YAML says of a test. Out: [`Call`]. Whether the macro takes that is asked before, what it makes of it afterwards.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::diagnostics::{Code, Diagnostic, Span};
use crate::project::SqlFile;
use crate::project::yaml::{Node as Yaml, Spot, Value};
use crate::template::is_of_standard_library;

/// A call as a template.
///
/// Texts stand in blocks before it (`{% set text_0 %}status{% endset %}`), not in quotes inside: they are text of the template then,
/// and what the engine says of a piece of SQL finds its way to the text that it was made of.
#[derive(Debug, Default)]
pub(super) struct Call {
    blocks: String,
    block_places: Vec<Place>,
    arguments: String,
    argument_places: Vec<Place>,
    count: usize,
}

/// Some bytes of the template, the YAML that they were made of, and from which byte of its text on.
#[derive(Debug, Clone)]
struct Place {
    bytes: Range<usize>,
    spot: Spot<String>,
    from: usize,
}

/// Where in the YAML each part of a call stands.
#[derive(Debug, Clone, Default)]
pub struct Places(Vec<Place>);

impl Call {
    /// What is tested: the rows of a relation, those alone that a condition takes.
    pub fn about(relation: &str, condition: Option<&Spot<String>>) -> Self {
        let mut call = Self::default();
        match condition {
            None => call.arguments.push_str(&format!("model={relation}")),
            Some(condition) => {
                call.arguments.push_str(&format!(
                    "model=\"(select * from \" ~ {relation} ~ \" where \" ~ "
                ));
                call.text(condition);
                call.arguments.push_str(" ~ \"\\n) as tested\"");
            }
        }
        call
    }

    /// The column that is tested, as SQL spells it.
    pub fn column(&mut self, in_sql: Spot<String>) {
        self.arguments.push_str(", column_name=");
        self.block(&in_sql);
    }

    pub fn argument(&mut self, key: &Spot<String>, value: &Yaml) {
        self.arguments.push_str(", ");
        self.code(&key.value, key, 0);
        self.arguments.push('=');
        self.value(value);
    }

    /// The template's text for a macro, and the way back from it.
    pub fn of(self, name: &str) -> (String, Places) {
        let head = format!("{}{{{{ {name}(", self.blocks);
        let moved = self.argument_places.into_iter().map(|place| Place {
            bytes: head.len() + place.bytes.start..head.len() + place.bytes.end,
            ..place
        });
        let places = self.block_places.into_iter().chain(moved).collect();
        (format!("{head}{}) }}}}", self.arguments), Places(places))
    }

    fn value(&mut self, node: &Yaml) {
        let start = self.arguments.len();
        match &node.value {
            Value::String(text) => self.text(&spot(node, text.clone())),
            Value::Sequence(items) => {
                self.arguments.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.arguments.push_str(if at > 0 { ", " } else { "" });
                    self.value(item);
                }
                self.arguments.push(']');
            }
            Value::Mapping(entries) => {
                self.arguments.push('{');
                for (at, (key, item)) in entries.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    self.arguments
                        .push_str(&format!("{comma}{}: ", quote(&key.value)));
                    self.value(item);
                }
                self.arguments.push('}');
            }
            Value::Null => self.arguments.push_str("none"),
            // Python's words; there is no number in a template that they could be.
            Value::Float(number) if !number.is_finite() => self
                .arguments
                .push_str(&quote(node.to_json().as_str().unwrap_or_default())),
            _ => self.arguments.push_str(&node.to_json().to_string()),
        }
        self.argument_places.push(Place {
            bytes: start..self.arguments.len(),
            spot: spot(node, String::new()),
            from: 0,
        });
    }

    /// Text that calls `ref` or `source` is code, as in dbt, and one that is nothing but an expression keeps its type.
    fn text(&mut self, text: &Spot<String>) {
        static CALL: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^\s*(ref|source|var|env_var)\s*\(.*\)\s*$")
                .expect("the pattern is constant")
        });
        if CALL.is_match(text) {
            return self.code(text, text, 0);
        }
        if let Some(inside) = expression(text) {
            self.arguments.push('(');
            self.code(&text[inside.clone()], text, inside.start);
            self.arguments.push(')');
            return;
        }
        // What opens without an end is no code, and a last brace would open one with what follows.
        match text.ends_with('{') || opens_without_end(text) {
            true => self.arguments.push_str(&quote(text)),
            false => self.block(text),
        }
    }

    /// Code of the template, as it stands in a text of the YAML from some byte on.
    fn code(&mut self, code: &str, spot: &Spot<String>, from: usize) {
        let start = self.arguments.len();
        self.arguments.push_str(code);
        self.argument_places.push(Place {
            bytes: start..self.arguments.len(),
            spot: spot.clone(),
            from,
        });
    }

    fn block(&mut self, text: &Spot<String>) {
        let name = format!("text_{}", self.count);
        self.count += 1;
        self.blocks.push_str(&format!("{{% set {name} %}}"));
        let start = self.blocks.len();
        self.blocks.push_str(&text.value);
        self.block_places.push(Place {
            bytes: start..self.blocks.len(),
            spot: text.clone(),
            from: 0,
        });
        self.blocks.push_str("{% endset %}");
        self.arguments.push_str(&name);
    }
}

impl Places {
    /// Moves what was said of a call to where the user wrote it: into the YAML, or to the macro that is called with it.
    pub fn bring_home(&self, call: &SqlFile, test: &Span, diagnostic: &mut Diagnostic) {
        let said_at = diagnostic.span.take();
        let of_call = |span: &Span| span.file == call.path;
        diagnostic.span = Some(match said_at {
            Some(span) if of_call(&span) => self.find(&call.text, &span).unwrap_or(test.clone()),
            Some(span) if !is_of_standard_library(&span.file) => {
                let words = "called by this test".to_string();
                diagnostic.related.push((test.clone(), words));
                diagnostic.span = Some(span);
                return;
            }
            _ => test.clone(),
        });
        // The call was written by us.
        if diagnostic.code == Code::E0402 {
            diagnostic.code = Code::E0205;
        }
    }

    /// The smallest part of the YAML that a place of the call was made of.
    fn find(&self, text: &str, span: &Span) -> Option<Span> {
        let bytes = span.byte_range(text);
        let around = self.0.iter().filter(|place| {
            place.bytes.start <= bytes.start
                && (bytes.start < place.bytes.end || bytes.start == place.bytes.start)
        });
        let place = around.min_by_key(|place| place.bytes.len())?;
        let start = place.from + bytes.start - place.bytes.start;
        let end = place.from + bytes.end.min(place.bytes.end) - place.bytes.start;
        let part = place.spot.part(start..end).filter(|part| part.length > 0);
        Some(part.unwrap_or(place.spot.span.clone()))
    }
}

fn spot(node: &Yaml, value: String) -> Spot<String> {
    Spot {
        value,
        span: node.span.clone(),
    }
}

/// The bytes of the one expression that a text is.
fn expression(text: &str) -> Option<Range<usize>> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    if inside.contains("{{") || inside.contains("}}") || inside.contains("{%") {
        return None;
    }
    let inside = inside.trim_matches('-').trim();
    let start = inside.as_ptr() as usize - text.as_ptr() as usize;
    (!inside.is_empty()).then_some(start..start + inside.len())
}

fn opens_without_end(text: &str) -> bool {
    let pairs = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];
    pairs.iter().any(|(open, close)| {
        text.rfind(open)
            .is_some_and(|at| !text[at..].contains(close))
    })
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn written(text: &str) -> String {
        let spot = Spot {
            value: text.to_string(),
            span: Span::new("m.yml", 1, 1, text.chars().count() as u32),
        };
        let mut call = Call::default();
        call.text(&spot);
        call.of("f").0
    }

    #[test]
    fn texts_are_text_of_the_template_and_code_is_code() {
        assert_eq!(
            written("a > 1"),
            "{% set text_0 %}a > 1{% endset %}{{ f(text_0) }}"
        );
        assert_eq!(written("{{ var('x') }}"), "{{ f((var('x'))) }}");
        assert_eq!(written("ref('x')"), "{{ f(ref('x')) }}");
        assert_eq!(
            written("{% if a %}b{% endif %}"),
            "{% set text_0 %}{% if a %}b{% endif %}{% endset %}{{ f(text_0) }}"
        );
        assert_eq!(written("left {{ open"), "{{ f(\"left {{ open\") }}");
        assert_eq!(written("last {"), "{{ f(\"last {\") }}");
    }
}
