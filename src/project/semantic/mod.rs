//! dbt's semantic layer, read in place: metrics under a model, as dbt writes them now, and the older `semantic_models`.
//! In: the YAML nodes of all files. Out: the same [`MetricSpec`]s that our own files give, what they say about facts, and a loss
//! report: a warning for everything that was not read. What an experiment needs beside stands in `experiment:` and
//! `governance:`, on the metric or under its `config.meta`, where dbt reads over it.

mod filter;
mod losses;
mod meaning;
mod model;

use std::collections::BTreeMap;

use self::losses::Losses;
use self::meaning::Metric;
use self::model::{Base, SemanticModel};
use super::metric::MetricSpec;
use super::properties::FactSpec;
use super::yaml::{Node, Spot, Value};
use crate::diagnostics::{Code, Diagnostic, Span};

/// The nodes, kept until all files are read: a ratio may name metrics of another file.
#[derive(Debug, Clone, Default)]
pub struct SemanticNodes {
    /// Models with `metrics` below them.
    pub models: Vec<Node>,
    /// Entries of `semantic_models`.
    pub semantic_models: Vec<Node>,
    /// Entries of a `metrics` list that have a `type` and no `kind`.
    pub metrics: Vec<Node>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Semantic {
    pub metrics: Vec<MetricSpec>,
    /// By model: which columns hold unit and time.
    pub facts: BTreeMap<String, FactSpec>,
    pub losses: Vec<Diagnostic>,
}

/// Reads all of it.
pub fn read(nodes: &SemanticNodes) -> Semantic {
    let mut reader = Reader::default();
    for node in &nodes.models {
        reader.model(node);
    }
    for node in &nodes.semantic_models {
        reader.semantic_model(node);
    }
    let below: Vec<(&Node, Option<String>)> = nodes
        .models
        .iter()
        .flat_map(|model| {
            let name = text_at(model, "name").map(|name| name.value);
            items(model, "metrics")
                .iter()
                .map(move |metric| (metric, name.clone()))
        })
        .chain(nodes.metrics.iter().map(|metric| (metric, None)))
        .collect();
    for (node, model) in &below {
        reader.base(node, model.as_deref());
    }
    for (node, _) in &below {
        let metric = Metric::of(node);
        if reader.unit(&metric)
            && let Some(spec) = reader.metric(&metric)
        {
            reader.metrics.push(spec);
        }
    }
    let facts = reader
        .models
        .iter()
        .filter_map(|(name, model)| Some((name.clone(), model.fact()?)))
        .collect();
    let mut losses = reader.losses;
    losses.extend(reader.common.warnings());
    Semantic {
        metrics: reader.metrics,
        facts,
        losses,
    }
}

#[derive(Default)]
struct Reader {
    models: BTreeMap<String, SemanticModel>,
    /// Simple metrics and measures by name: what others are made of.
    bases: BTreeMap<String, Base>,
    metrics: Vec<MetricSpec>,
    losses: Vec<Diagnostic>,
    /// Those that many metrics may have.
    common: Losses,
}

impl Reader {
    fn lose(&mut self, span: &Span, message: String, hint: &str) {
        self.losses.push(
            Diagnostic::warning(Code::E0110, message)
                .at(span.clone())
                .hint(hint),
        );
    }
}

/// A text, or what stands for one.
fn text(node: &Node) -> Option<Spot<String>> {
    let value = match &node.value {
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => return None,
    };
    Some(Spot {
        value,
        span: node.span.clone(),
    })
}

fn text_at(node: &Node, key: &str) -> Option<Spot<String>> {
    node.get(key).and_then(text)
}

fn number(node: &Node) -> Option<Spot<f64>> {
    let value = match node.value {
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => return None,
    };
    Some(Spot {
        value,
        span: node.span.clone(),
    })
}

fn number_at(node: &Node, key: &str) -> Option<Spot<f64>> {
    node.get(key).and_then(number)
}

/// The entries of a list, or the one entry that stands for it.
fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match node.get(key) {
        Some(Node {
            value: Value::Sequence(items),
            ..
        }) => items,
        Some(node) if node.value != Value::Null => std::slice::from_ref(node),
        _ => &[],
    }
}

fn texts(node: &Node, key: &str) -> Vec<Spot<String>> {
    items(node, key).iter().filter_map(text).collect()
}

fn entries(node: &Node) -> &[(Spot<String>, Node)] {
    match &node.value {
        Value::Mapping(entries) => entries,
        _ => &[],
    }
}
