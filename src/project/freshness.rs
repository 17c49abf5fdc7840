//! How new the rows of sources should be, as YAML says it: `freshness`, `loaded_at_field`, `loaded_at_query`, beside a name or in
//! its `config`, of a source or of one of its tables. What a table says over its source is put together in `manifest`.

use super::yaml::{Fields, FromNode, Node, Spot, Value, read_at, wrong_type};
use crate::diagnostics::{Diagnostic, Span};

/// What stands at a key: nothing is said, `null`, or a value.
pub type Said<T> = Option<Option<T>>;

/// What a source, or one of its tables, says.
#[derive(Debug, Clone, Default)]
pub struct LoadedSpec {
    /// Beside the name, then in `config`; the later over the earlier.
    pub freshness: Vec<Option<FreshnessSpec>>,
    pub field: Said<Spot<String>>,
    pub query: Said<Spot<String>>,
}

/// From which age on the newest row is too old.
#[derive(Debug, Clone)]
pub struct FreshnessSpec {
    pub warn_after: Said<AgeSpec>,
    pub error_after: Said<AgeSpec>,
    /// Which rows are looked at: a condition.
    pub filter: Said<Spot<String>>,
}

/// `{count: 12, period: hour}`; both are templates.
#[derive(Debug, Clone)]
pub struct AgeSpec {
    pub count: Option<Spot<String>>,
    pub period: Option<Spot<String>>,
    pub span: Span,
}

impl LoadedSpec {
    /// What settings say, the later over the earlier; of a field and a query the later is meant.
    pub fn of(settings: &[(Spot<String>, Node)], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut spec = Self::default();
        for (key, node) in settings {
            match key.as_str() {
                "freshness" => spec.freshness.extend(said(key, node, diagnostics)),
                "loaded_at_field" => {
                    spec.field = said(key, node, diagnostics);
                    spec.query = None;
                }
                "loaded_at_query" => {
                    spec.query = said(key, node, diagnostics);
                    spec.field = None;
                }
                _ => {}
            }
        }
        spec
    }

    /// `config` are the entries below that key.
    pub(super) fn read(fields: &mut Fields<'_>, config: &[(Spot<String>, Node)]) -> Self {
        let freshness = places(fields, config, "freshness");
        let mut last = |key| places(fields, config, key).pop();
        Self {
            freshness,
            field: last("loaded_at_field"),
            query: last("loaded_at_query"),
        }
    }
}

/// What is said at a key beside a name, and then in `config`.
fn places<T: FromNode>(
    fields: &mut Fields<'_>,
    config: &[(Spot<String>, Node)],
    key: &'static str,
) -> Vec<Option<T>> {
    let inside = config.iter().find(|(name, _)| name.as_str() == key);
    let nodes = fields.node(key).into_iter();
    let nodes = nodes.chain(inside.map(|(_, node)| node));
    nodes
        .filter_map(|node| said(key, node, fields.diagnostics()))
        .collect()
}

/// What cannot be read is as if it were not there, with a diagnostic.
fn said<T: FromNode>(key: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Said<T> {
    match node.value {
        Value::Null => Some(None),
        _ => read_at(key, node, diagnostics).map(Some),
    }
}

impl FromNode for FreshnessSpec {
    const EXPECTED: &'static str = "a mapping such as `{warn_after: {count: 12, period: hour}}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = mapping::<Self>(node, "a freshness", diagnostics)?;
        let spec = Self {
            warn_after: places(&mut fields, &[], "warn_after").pop(),
            error_after: places(&mut fields, &[], "error_after").pop(),
            filter: places(&mut fields, &[], "filter").pop(),
        };
        fields.finish();
        Some(spec)
    }
}

impl FromNode for AgeSpec {
    const EXPECTED: &'static str = "a mapping such as `{count: 12, period: hour}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = mapping::<Self>(node, "an age", diagnostics)?;
        let spec = Self {
            count: fields.optional("count"),
            period: fields.optional("period"),
            span: node.span.clone(),
        };
        fields.finish();
        Some(spec)
    }
}

fn mapping<'a, T: FromNode>(
    node: &'a Node,
    what: &'static str,
    diagnostics: &'a mut Vec<Diagnostic>,
) -> Option<Fields<'a>> {
    if !matches!(node.value, Value::Mapping(_)) {
        diagnostics.push(wrong_type(node, T::EXPECTED));
        return None;
    }
    Fields::of(node, what, diagnostics)
}
