//! YAML of the experiment domain as it was typed: files of metrics and experiments. Meaning is given by `metrics` and `experiments`.

use super::metric::{MetricDefaults, MetricSpec};
use super::semantic::SemanticNodes;
use super::yaml::{Fields, FromNode, Misspelt, Node, Spot, Value, wrong_type};
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};

/// Everything the domain files of a project say.
#[derive(Debug, Clone, Default)]
pub struct DomainSpecs {
    pub metrics: Vec<MetricSpec>,
    pub experiments: Vec<ExperimentSpec>,
    /// Metrics in dbt's words, which are read when all files are known.
    pub semantic: SemanticNodes,
}

/// An experiment as typed.
#[derive(Debug, Clone)]
pub struct ExperimentSpec {
    pub key: Spot<String>,
    pub span: Span,
    pub hypothesis: Option<String>,
    /// Part of the product, which required guardrails may name.
    pub area: Option<Spot<String>>,
    pub owner: Option<Spot<String>>,
    pub unit: Option<Spot<String>>,
    pub variants: Vec<(Spot<String>, Spot<f64>)>,
    pub variants_span: Span,
    pub control: Option<Spot<String>>,
    pub period: Option<PeriodSpec>,
    pub flag: Option<Spot<String>>,
    pub algorithm: Option<Spot<String>>,
    pub salt: Option<Spot<String>>,
    pub assignments: Option<AssignmentsSpec>,
    pub primary: Option<Spot<String>>,
    pub secondary: Vec<Spot<String>>,
    pub guardrails: Vec<ExperimentMetricSpec>,
    pub alpha: Option<Spot<f64>>,
    pub segments: Vec<Spot<String>>,
    pub misspelt: Misspelt,
}

#[derive(Debug, Clone)]
pub struct PeriodSpec {
    pub from: Option<Spot<String>>,
    pub to: Option<Spot<String>>,
    /// Events this much later than the end still count.
    pub grace: Option<Spot<String>>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct AssignmentsSpec {
    pub model: Option<Spot<String>>,
    pub keep: Option<Spot<String>>,
    pub exclude: Vec<Spot<String>>,
    pub crossover_limit: Option<Spot<f64>>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct ExperimentMetricSpec {
    pub metric: Spot<String>,
    /// Largest relative loss that is still accepted.
    pub margin: Option<Spot<f64>>,
}

/// Sections of these files that other rooms read.
const FLAG_SECTIONS: &[&str] = &["contexts", "holdouts", "layers", "flags"];

/// Keys of an experiment that say how it is delivered; the flags room reads them from the same file.
const DELIVERY: &[&str] = &["layer", "holdout", "sticky", "allocations"];

/// Whether a file of metrics or experiments also says how units get their variants.
pub(super) fn delivers_flags(file: &Node) -> bool {
    let experiments = match file.get("experiments").map(|node| &node.value) {
        Some(Value::Sequence(experiments)) => experiments.as_slice(),
        _ => &[],
    };
    let has = |node: &Node, keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
    has(file, FLAG_SECTIONS) || experiments.iter().any(|one| has(one, DELIVERY))
}

impl DomainSpecs {
    pub fn read(&mut self, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
        let Some(mut fields) = Fields::of(node, "a file of metrics or experiments", diagnostics)
        else {
            return;
        };
        let defaults: MetricDefaults = fields.or_default("defaults");
        let listed = fields.optional::<Node>("metrics");
        let mut metrics: Vec<MetricSpec> = match listed {
            Some(node) => own_metrics(node, &mut self.semantic, fields.diagnostics()),
            None => Vec::new(),
        };
        metrics.iter_mut().for_each(|metric| metric.take(&defaults));
        self.metrics.extend(metrics);
        self.experiments
            .extend(fields.or_default::<Vec<ExperimentSpec>>("experiments"));
        fields.node("version");
        for section in FLAG_SECTIONS {
            fields.node(section);
        }
        fields.finish();
    }
}

/// Our own metrics of a list; dbt's have a `type` and no `kind`.
fn own_metrics(
    node: Node,
    semantic: &mut SemanticNodes,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<MetricSpec> {
    let is_foreign = |item: &Node| item.get("type").is_some() && item.get("kind").is_none();
    let Value::Sequence(items) = node.value else {
        return FromNode::from_node(&node, diagnostics).unwrap_or_default();
    };
    let (foreign, own): (Vec<Node>, Vec<Node>) = items.into_iter().partition(is_foreign);
    semantic.metrics.extend(foreign);
    own.iter()
        .filter_map(|item| MetricSpec::from_node(item, diagnostics))
        .collect()
}

impl FromNode for ExperimentSpec {
    const EXPECTED: &'static str = "an experiment with `key`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "an experiment", diagnostics)?;
        let key = fields.required::<Spot<String>>("key");
        let (variants, variants_span) = variants(&mut fields);
        let metrics = metrics(&mut fields);
        let mut spec = Self {
            span: node.span.clone(),
            hypothesis: fields.optional("hypothesis"),
            area: fields.optional("area"),
            owner: fields.optional("owner"),
            unit: fields.optional("unit"),
            variants,
            variants_span,
            control: fields.optional("control"),
            period: fields.optional("period"),
            flag: fields.optional("flag"),
            algorithm: fields.optional("algorithm"),
            salt: fields.optional("salt"),
            assignments: fields.optional("assignments"),
            primary: metrics.primary,
            secondary: metrics.secondary,
            guardrails: metrics.guardrails,
            alpha: fields.optional("alpha"),
            segments: fields.or_default("segments"),
            misspelt: Misspelt::default(),
            key: key.clone().unwrap_or(node.without_name()),
        };
        for name in DELIVERY.iter().chain(&["description", "tags"]) {
            fields.node(name);
        }
        spec.misspelt = fields.finish();
        key.map(|_| spec)
    }
}

fn variants(fields: &mut Fields<'_>) -> (Vec<(Spot<String>, Spot<f64>)>, Span) {
    let Some(node) = fields
        .required::<VariantsNode>("variants")
        .map(|node| node.0)
    else {
        return (Vec::new(), fields.span().clone());
    };
    let span = node.span.clone();
    let Value::Mapping(entries) = &node.value else {
        fields.diagnostics().push(wrong_type(
            &node,
            "a mapping of variants to their shares, such as `{control: 0.5, test: 0.5}`",
        ));
        return (Vec::new(), span);
    };
    let diagnostics = fields.diagnostics();
    let variants = entries
        .iter()
        .filter_map(|(name, share)| Some((name.clone(), Spot::from_node(share, diagnostics)?)))
        .collect();
    (variants, span)
}

/// The values of `variants:` and `metrics:` before they are read, with what is expected of them.
struct VariantsNode(Node);
struct RolesNode(Node);

impl FromNode for VariantsNode {
    const EXPECTED: &'static str = "the variants and their shares: `{control: 0.5, test: 0.5}`";
    fn from_node(node: &Node, _: &mut Vec<Diagnostic>) -> Option<Self> {
        Some(Self(node.clone()))
    }
}

impl FromNode for RolesNode {
    const EXPECTED: &'static str =
        "the metrics and their roles: `{primary: ..., guardrails: [...]}`";
    fn from_node(node: &Node, _: &mut Vec<Diagnostic>) -> Option<Self> {
        Some(Self(node.clone()))
    }
}

#[derive(Default)]
struct Roles {
    primary: Option<Spot<String>>,
    secondary: Vec<Spot<String>>,
    guardrails: Vec<ExperimentMetricSpec>,
}

fn metrics(fields: &mut Fields<'_>) -> Roles {
    let Some(node) = fields.required::<RolesNode>("metrics").map(|node| node.0) else {
        return Roles::default();
    };
    let Some(mut fields) = Fields::of(&node, "the metrics of an experiment", fields.diagnostics())
    else {
        return Roles::default();
    };
    let roles = Roles {
        primary: fields.required("primary"),
        secondary: fields.or_default("secondary"),
        guardrails: fields.or_default("guardrails"),
    };
    fields.finish();
    roles
}

impl FromNode for PeriodSpec {
    const EXPECTED: &'static str = "a period: `{from: 2026-01-05, to: 2026-02-01}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a period", diagnostics)?;
        let spec = Self {
            from: fields.required("from"),
            to: fields.optional("to"),
            grace: fields.optional("grace"),
            span: node.span.clone(),
        };
        fields.finish();
        Some(spec)
    }
}

impl FromNode for AssignmentsSpec {
    const EXPECTED: &'static str =
        "a mapping: `{model: stg_assignments, keep: first, exclude: [crossed_over]}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "assignments", diagnostics)?;
        let spec = Self {
            model: fields.required("model"),
            keep: fields.optional("keep"),
            exclude: fields.or_default("exclude"),
            crossover_limit: fields.optional("crossover_limit"),
            span: node.span.clone(),
        };
        fields.finish();
        Some(spec)
    }
}

impl FromNode for ExperimentMetricSpec {
    const EXPECTED: &'static str = "the name of a metric, or `{metric: ..., margin: ...}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        if !matches!(node.value, Value::Mapping(_)) {
            return Some(Self {
                metric: Spot::from_node(node, diagnostics)?,
                margin: None,
            });
        }
        let mut fields = Fields::of(node, "a guardrail", diagnostics)?;
        let (metric, margin) = (fields.required("metric"), fields.optional("margin"));
        fields.finish();
        Some(Self {
            metric: metric?,
            margin,
        })
    }
}

/// Reads one of a closed list of words.
pub fn choice<T: Copy>(
    spot: &Spot<String>,
    what: &str,
    choices: &[(&'static str, T)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let found = choices
        .iter()
        .find(|(word, _)| *word == spot.value)
        .map(|(_, value)| *value);
    if found.is_none() {
        diagnostics.push(
            Diagnostic::error(Code::E0106, format!("`{}` is not a {what}", spot.value))
                .at(spot.span.clone())
                .hint(did_you_mean(
                    &spot.value,
                    choices.iter().map(|(word, _)| *word),
                )),
        );
    }
    found
}
