//! YAML about who reads models and who owns them: dbt's `exposures` and `groups`. Nothing is built of them; they are handed on.

use super::properties::config;
use super::yaml::{Fields, FromNode, Node, Spot};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};

/// What dbt calls an exposure: a dashboard, a notebook, an application that reads models. The word means something else here.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    pub name: Spot<String>,
    pub kind: String,
    pub label: Option<String>,
    pub description: String,
    pub maturity: Option<String>,
    pub url: Option<String>,
    pub owner: serde_json::Value,
    /// Calls of `ref` and `source`.
    pub depends_on: Vec<Spot<String>>,
    pub config: Vec<(Spot<String>, Node)>,
}

/// Models of one owner.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    pub name: Spot<String>,
    pub description: Option<String>,
    pub owner: serde_json::Value,
}

impl FromNode for ConsumerSpec {
    const EXPECTED: &'static str = "an exposure with `name`, `type` and `owner`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "an exposure", diagnostics)?;
        let name: Option<Spot<String>> = fields.required("name");
        let spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            kind: word(&mut fields, "type", &KINDS).unwrap_or("application".to_string()),
            label: fields.optional("label"),
            description: fields.or_default("description"),
            maturity: word(&mut fields, "maturity", &MATURITIES),
            url: fields.optional("url"),
            owner: owner(&mut fields),
            depends_on: fields.or_default("depends_on"),
            config: config(&mut fields, &["meta", "tags"]),
        };
        fields.finish();
        name.map(|_| spec)
    }
}

impl FromNode for GroupSpec {
    const EXPECTED: &'static str = "a group with `name` and `owner`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a group", diagnostics)?;
        let name: Option<Spot<String>> = fields.required("name");
        let spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            description: fields.optional("description"),
            owner: owner(&mut fields),
        };
        fields.node("config");
        fields.finish();
        name.map(|_| spec)
    }
}

const KINDS: [&str; 5] = ["dashboard", "notebook", "analysis", "ml", "application"];
const MATURITIES: [&str; 3] = ["low", "medium", "high"];

/// One of dbt's words, in any case.
fn word(fields: &mut Fields<'_>, key: &'static str, known: &[&str]) -> Option<String> {
    let word: Spot<String> = fields.optional(key)?;
    let lower = word.value.to_lowercase();
    if known.contains(&lower.as_str()) {
        return Some(lower);
    }
    let message = format!("`{}` is not a `{key}` of an exposure", word.value);
    let warning = Diagnostic::warning(Code::E0106, message)
        .at(word.span)
        .hint(did_you_mean(&lower, known.iter().copied()));
    fields.diagnostics().push(warning);
    None
}

fn owner(fields: &mut Fields<'_>) -> serde_json::Value {
    fields.node("owner").map_or_else(
        || serde_json::Value::Object(serde_json::Map::new()),
        Node::to_json,
    )
}
