//! YAML beside models and seeds: descriptions, columns, data tests, sources.

use super::consumers::{ConsumerSpec, GroupSpec};
use super::freshness::LoadedSpec;
use super::semantic::SemanticNodes;
use super::yaml::{Fields, FromNode, Misspelt, Node, Spot, Value, read_at, wrong_type};
use crate::diagnostics::{Code, Diagnostic, Span};

/// One properties file.
#[derive(Debug, Clone, Default)]
pub struct PropertiesSpec {
    pub models: Vec<ResourceSpec>,
    pub seeds: Vec<ResourceSpec>,
    pub sources: Vec<SourceSpec>,
    pub exposures: Vec<ConsumerSpec>,
    pub groups: Vec<GroupSpec>,
    /// What dbt's semantic layer says.
    pub semantic: SemanticNodes,
}

/// What YAML says about one model or seed.
#[derive(Debug, Clone)]
pub struct ResourceSpec {
    pub name: Spot<String>,
    pub description: String,
    pub config: Vec<(Spot<String>, Node)>,
    pub columns: Vec<ColumnSpec>,
    pub tests: Vec<TestSpec>,
    pub fact: Option<FactSpec>,
}

impl ResourceSpec {
    /// A model of which nothing is said but this.
    pub fn of_fact(name: String, fact: FactSpec) -> Self {
        Self {
            name: Spot {
                value: name,
                span: fact.span.clone(),
            },
            description: String::new(),
            config: Vec::new(),
            columns: Vec::new(),
            tests: Vec::new(),
            fact: Some(fact),
        }
    }
}

/// Says that a model holds timed rows of units, so that metrics can be measured on it.
#[derive(Debug, Clone)]
pub struct FactSpec {
    /// Column that holds the unit, such as `user_id`.
    pub unit: Spot<String>,
    /// Column that holds the time of the row.
    pub time: Spot<String>,
    /// Column that holds the event's name, for metrics that name an `event`.
    pub event: Option<Spot<String>>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct ColumnSpec {
    pub name: Spot<String>,
    pub description: String,
    /// `meta` and `tags`, for whoever reads the artifacts.
    pub config: Vec<(Spot<String>, Node)>,
    pub data_type: Option<Spot<String>>,
    /// Its capital letters are its own: SQL must not fold them.
    pub is_quoted: bool,
    pub tests: Vec<TestSpec>,
}

/// A generic data test as written: its name and everything below it.
#[derive(Debug, Clone)]
pub struct TestSpec {
    pub name: Spot<String>,
    pub description: String,
    pub custom_name: Option<Spot<String>>,
    pub arguments: Vec<(Spot<String>, Node)>,
    pub config: Vec<(Spot<String>, Node)>,
}

#[derive(Debug, Clone)]
pub struct SourceSpec {
    pub name: Spot<String>,
    pub description: String,
    pub loader: String,
    /// For all of its tables.
    pub config: Vec<(Spot<String>, Node)>,
    pub loaded: LoadedSpec,
    pub tables: Vec<SourceTableSpec>,
}

/// A table that is read from files.
#[derive(Debug, Clone)]
pub struct SourceTableSpec {
    pub name: Spot<String>,
    pub description: String,
    /// A file, folder or glob, relative to the project; a template.
    pub location: Option<Spot<String>>,
    pub format: Option<Spot<String>>,
    pub delimiter: Option<Spot<String>>,
    pub header: Option<bool>,
    pub null_values: Vec<String>,
    pub allow_empty: bool,
    pub config: Vec<(Spot<String>, Node)>,
    pub loaded: LoadedSpec,
    pub columns: Vec<ColumnSpec>,
    pub tests: Vec<TestSpec>,
    pub misspelt: Misspelt,
}

/// Keys that tests take as configuration, also without `config:`, as older dbt projects write them.
pub const TEST_CONFIG: &[&str] = &[
    "severity",
    "where",
    "limit",
    "error_if",
    "warn_if",
    "enabled",
    "tags",
    "fail_calc",
    "store_failures",
    "meta",
];

impl PropertiesSpec {
    pub fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let Some(mut fields) = Fields::of(node, "a properties file", diagnostics) else {
            return Self::default();
        };
        let spec = Self {
            models: fields.or_default("models"),
            seeds: fields.or_default("seeds"),
            sources: fields.or_default("sources"),
            exposures: fields.or_default("exposures"),
            groups: fields.or_default("groups"),
            semantic: semantic_nodes(&mut fields),
        };
        for key in ["version", "macros", "analyses", "data_tests", "anchors"] {
            fields.node(key);
        }
        for key in ["unit_tests", "snapshots", "saved_queries", "functions"] {
            if let Some(node) = fields.node(key) {
                let warning = Diagnostic::warning(
                    Code::E0103,
                    format!("`{key}` is read by dbt, but not yet by equipoise: it is left out"),
                );
                fields.diagnostics().push(warning.at(node.span.clone()));
            }
        }
        fields.finish();
        spec
    }
}

fn semantic_nodes(fields: &mut Fields<'_>) -> SemanticNodes {
    let mut list = |key| match fields.node(key).map(|node| &node.value) {
        Some(Value::Sequence(items)) => items.clone(),
        _ => Vec::new(),
    };
    let has_metrics = |model: &Node| model.get("metrics").is_some();
    SemanticNodes {
        models: list("models").into_iter().filter(has_metrics).collect(),
        semantic_models: list("semantic_models"),
        metrics: list("metrics"),
    }
}

impl FromNode for ResourceSpec {
    const EXPECTED: &'static str = "a model with `name`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a model", diagnostics)?;
        let name: Option<Spot<String>> = fields.required("name");
        let spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            description: fields.or_default("description"),
            config: config(&mut fields, &["docs", "meta", "group", "access"]),
            columns: fields.or_default("columns"),
            tests: tests(&mut fields),
            fact: fields.optional("fact"),
        };
        for key in [
            "latest_version",
            "versions",
            "primary_entity",
            "semantic_model",
            "agg_time_dimension",
            "time_spine",
            "metrics",
            "derived_semantics",
            "freshness",
        ] {
            fields.node(key);
        }
        fields.finish();
        name.map(|_| spec)
    }
}

impl FromNode for FactSpec {
    const EXPECTED: &'static str = "a mapping with `unit`, `time` and, if rows have names, `event`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a fact", diagnostics)?;
        let (unit, time, event) = (
            fields.required("unit"),
            fields.required("time"),
            fields.optional("event"),
        );
        fields.finish();
        Some(Self {
            unit: unit?,
            time: time?,
            event,
            span: node.span.clone(),
        })
    }
}

impl FromNode for ColumnSpec {
    const EXPECTED: &'static str = "a column with `name`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a column", diagnostics)?;
        let name: Option<Spot<String>> = fields.required("name");
        let spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            description: fields.or_default("description"),
            config: config(&mut fields, &["meta", "tags"]),
            data_type: fields.optional("data_type"),
            is_quoted: fields.or_default("quote"),
            tests: tests(&mut fields),
        };
        for key in ["entity", "dimension", "granularity"] {
            fields.node(key);
        }
        fields.finish();
        name.map(|_| spec)
    }
}

fn tests(fields: &mut Fields<'_>) -> Vec<TestSpec> {
    let mut tests: Vec<TestSpec> = fields.or_default("tests");
    tests.extend(fields.or_default::<Vec<TestSpec>>("data_tests"));
    for constraint in fields.or_default::<Vec<Node>>("constraints") {
        tests.extend(constrained(&constraint));
    }
    tests
}

/// The data tests that check one of dbt's constraints: no platform below us enforces it. Other kinds are only read.
fn constrained(constraint: &Node) -> Vec<TestSpec> {
    let Value::Mapping(entries) = &constraint.value else {
        return Vec::new();
    };
    let entry = |wanted: &str| entries.iter().find(|(key, _)| key.as_str() == wanted);
    let Some((
        _,
        Node {
            value: Value::String(kind),
            span,
            ..
        },
    )) = entry("type")
    else {
        return Vec::new();
    };
    let columns = entry("columns");
    let names: &[&str] = match (kind.as_str(), columns) {
        ("not_null", None) => &["not_null"],
        ("unique", None) => &["unique"],
        ("primary_key", None) => &["not_null", "unique"],
        ("unique" | "primary_key", Some(_)) => &["unique_combination"],
        _ => &[],
    };
    let test = |name: &&str| TestSpec {
        arguments: columns.cloned().into_iter().collect(),
        ..TestSpec::of(Spot {
            value: name.to_string(),
            span: span.clone(),
        })
    };
    names.iter().map(test).collect()
}

impl FromNode for TestSpec {
    const EXPECTED: &'static str = "the name of a test, or a mapping of its name to its arguments";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let entries: Vec<(Spot<String>, Node)> = match &node.value {
            Value::String(name) => {
                let name = Spot {
                    value: name.clone(),
                    span: node.span.clone(),
                };
                return Some(Self::of(name));
            }
            // `- not_null: {...}` and `- {name: ..., not_null: {...}}` are both in use.
            Value::Mapping(entries) => entries.clone(),
            _ => {
                diagnostics.push(wrong_type(node, Self::EXPECTED));
                return None;
            }
        };
        let is_test = |key: &str| {
            !TEST_CONFIG.contains(&key)
                && !["name", "description", "config", "arguments"].contains(&key)
        };
        // `- {name: ..., test_name: not_null, ...}` says it in other words.
        let named = entries.iter().find(|(key, _)| key.as_str() == "test_name");
        if let Some((key, node)) = named {
            let mut spec = Self::of(Spot::from_node(node, diagnostics)?);
            let others = entries.iter().filter(|(other, _)| other != key);
            spec.add(others.cloned().collect(), diagnostics);
            return Some(spec);
        }
        let Some((name, body)) = entries.iter().find(|(key, _)| is_test(key)) else {
            diagnostics.push(wrong_type(node, Self::EXPECTED));
            return None;
        };
        let mut spec = Self::of(name.clone());
        let others = entries
            .iter()
            .filter(|(key, _)| key != name)
            .cloned()
            .collect();
        spec.add(others, diagnostics);
        match &body.value {
            Value::Null => {}
            Value::Mapping(inner) => spec.add(inner.clone(), diagnostics),
            _ => {
                let hint = format!(
                    "write `- {}: {{values: [...]}}`, with the names of its arguments",
                    name.value
                );
                diagnostics
                    .push(wrong_type(body, "the test's arguments as keys and values").hint(hint));
                return None;
            }
        }
        Some(spec)
    }
}

impl TestSpec {
    fn of(name: Spot<String>) -> Self {
        Self {
            name,
            description: String::new(),
            custom_name: None,
            arguments: Vec::new(),
            config: Vec::new(),
        }
    }

    fn add(&mut self, entries: Vec<(Spot<String>, Node)>, diagnostics: &mut Vec<Diagnostic>) {
        for (key, node) in entries {
            match (key.as_str(), &node.value) {
                ("config" | "arguments" | "name" | "description" | "test_name", Value::Null) => {}
                ("config", Value::Mapping(inner)) => self.config.extend(inner.clone()),
                ("arguments", Value::Mapping(inner)) => self.arguments.extend(inner.clone()),
                ("config" | "arguments", _) => {
                    let mut wrong = wrong_type(&node, "a mapping");
                    wrong.message = format!("`{}`: {}", key.value, wrong.message);
                    diagnostics.push(wrong);
                }
                ("name", _) => self.custom_name = read_at(&key, &node, diagnostics),
                ("description", _) => {
                    self.description = read_at(&key, &node, diagnostics).unwrap_or_default();
                }
                (setting, _) if TEST_CONFIG.contains(&setting) => self.config.push((key, node)),
                _ => self.arguments.push((key, node)),
            }
        }
    }
}

impl FromNode for SourceSpec {
    const EXPECTED: &'static str = "a source with `name` and `tables`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a source", diagnostics)?;
        let config = config(&mut fields, &["meta", "tags"]);
        let name: Option<Spot<String>> = fields.required("name");
        let spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            description: fields.or_default("description"),
            loader: fields.or_default("loader"),
            loaded: LoadedSpec::read(&mut fields, &config),
            config,
            tables: fields.or_default("tables"),
        };
        for key in ["schema", "database", "quoting", "tests", "data_tests"] {
            fields.node(key);
        }
        fields.finish();
        name.map(|_| spec)
    }
}

impl FromNode for SourceTableSpec {
    const EXPECTED: &'static str = "a table with `name`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a source table", diagnostics)?;
        let config = config(&mut fields, &["meta", "tags"]);
        let name: Option<Spot<String>> = fields.required("name");
        let mut spec = Self {
            name: name.clone().unwrap_or(node.without_name()),
            description: fields.or_default("description"),
            location: fields.optional("location"),
            format: fields.optional("format"),
            delimiter: fields.optional("delimiter"),
            header: fields.optional("header"),
            null_values: fields.or_default("null_values"),
            allow_empty: fields.or_default("allow_empty"),
            loaded: LoadedSpec::read(&mut fields, &config),
            config,
            columns: fields.or_default("columns"),
            tests: tests(&mut fields),
            misspelt: Misspelt::default(),
        };
        for key in ["identifier", "quoting", "external"] {
            fields.node(key);
        }
        spec.misspelt = fields.finish();
        name.map(|_| spec)
    }
}

/// `config:`, and those of its keys that dbt takes beside it as well; what stands in `config` wins.
pub(super) fn config(
    fields: &mut Fields<'_>,
    beside: &[&'static str],
) -> Vec<(Spot<String>, Node)> {
    let beside = beside.iter().filter_map(|key| {
        let node = fields.node(key)?.clone();
        if node.value == Value::Null {
            return None;
        }
        let key = Spot {
            value: key.to_string(),
            span: node.span.clone(),
        };
        Some((key, node))
    });
    let beside: Vec<(Spot<String>, Node)> = beside.collect();
    let inside = entries(fields, "config");
    beside.into_iter().chain(inside).collect()
}

fn entries(fields: &mut Fields<'_>, key: &'static str) -> Vec<(Spot<String>, Node)> {
    match fields.optional::<Node>(key) {
        None => Vec::new(),
        Some(Node {
            value: Value::Mapping(entries),
            ..
        }) => entries,
        Some(node) => {
            fields.diagnostics().push(wrong_type(&node, "a mapping"));
            Vec::new()
        }
    }
}
