//! YAML of metrics as it was typed. Meaning is given by `metrics`.

use super::yaml::{Fields, FromNode, Misspelt, Node, Spot, Value};
use crate::diagnostics::{Diagnostic, Span};

/// A metric as typed.
#[derive(Debug, Clone)]
pub struct MetricSpec {
    pub name: Spot<String>,
    pub span: Span,
    pub label: Option<String>,
    pub description: Option<String>,
    pub kind: Option<Spot<String>>,
    /// Part of the product; each has one north star.
    pub area: Option<Spot<String>>,
    pub owner: Option<Spot<String>>,
    pub team: Option<String>,
    pub approvers: Vec<String>,
    pub tier: Option<Spot<String>>,
    pub drives: Vec<Spot<String>>,
    /// Experiments that get this guardrail whether they name it or not.
    pub required_for: Vec<Spot<String>>,
    /// Relative loss that experiments accept at most.
    pub margin: Option<Spot<f64>>,
    pub version: Option<Spot<String>>,
    /// The metric that this is a second name of.
    pub alias_of: Option<Spot<String>>,
    pub sla: Option<SlaSpec>,
    /// What is measured, for kinds with one measure; for derived metrics its `expr` is over metrics.
    pub value: Option<MeasureSpec>,
    pub numerator: Option<MeasureSpec>,
    pub denominator: Option<MeasureSpec>,
    /// What a unit does one after the other, of funnels.
    pub steps: Vec<MeasureSpec>,
    /// Which quantile.
    pub q: Option<Spot<f64>>,
    /// Whether a quantile is of events or of units.
    pub level: Option<Spot<String>>,
    /// What the events of a quantile belong to.
    pub cluster: Option<Spot<String>>,
    /// How many events it takes to be retained.
    pub at_least: Option<Spot<i64>>,
    /// The time a running total goes back.
    pub over: Option<Spot<String>>,
    /// What a unit without events counts as.
    pub fill: Option<Spot<String>>,
    pub window: Option<WindowSpec>,
    pub maturity: Option<Spot<String>>,
    pub direction: Option<Spot<String>>,
    pub cap: Option<CapSpec>,
    /// The same measure before the unit was exposed, for variance reduction (CUPED).
    pub covariate: Option<CovariateSpec>,
    pub unit_of_measure: Option<String>,
    pub misspelt: Misspelt,
}

/// What a file's metrics say where they do not say it themselves.
#[derive(Debug, Clone, Default)]
pub struct MetricDefaults {
    pub fact: Option<Spot<String>>,
    pub fill: Option<Spot<String>>,
    pub window: Option<WindowSpec>,
    pub maturity: Option<Spot<String>>,
    pub area: Option<Spot<String>>,
    pub owner: Option<Spot<String>>,
    pub team: Option<String>,
    pub approvers: Vec<String>,
    pub sla: Option<SlaSpec>,
}

/// What consumers may rely on.
#[derive(Debug, Clone)]
pub struct SlaSpec {
    /// Age of the newest data at most.
    pub freshness: Option<Spot<String>>,
    /// Share of the data that is there at least.
    pub completeness: Option<Spot<f64>>,
}

/// The largest value of a unit: a number that was frozen beforehand, or a quantile of the data.
#[derive(Debug, Clone)]
pub enum CapSpec {
    At(Spot<f64>),
    Quantile {
        share: Option<Spot<f64>>,
        by: Option<Spot<String>>,
        span: Span,
    },
}

impl CapSpec {
    pub fn span(&self) -> &Span {
        match self {
            CapSpec::At(number) => &number.span,
            CapSpec::Quantile { span, .. } => span,
        }
    }
}

/// One sum, count or presence over the rows of a fact.
#[derive(Debug, Clone)]
pub struct MeasureSpec {
    pub fact: Option<Spot<String>>,
    pub event: Option<Spot<String>>,
    pub aggregation: Option<Spot<String>>,
    pub expression: Option<Spot<String>>,
    pub filter: Option<Spot<String>>,
    /// Of a side of a ratio; that of other kinds stands beside the kind.
    pub cap: Option<CapSpec>,
    pub span: Span,
    pub misspelt: Misspelt,
}

/// Half-open, from the unit's first assignment: `[start, start + length)`.
#[derive(Debug, Clone)]
pub struct WindowSpec {
    pub start: Option<Spot<String>>,
    /// A length of time, or `to_end`.
    pub length: Option<Spot<String>>,
    /// A time zone: days are those of its calendar, not 24 hours.
    pub calendar: Option<Spot<String>>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct CovariateSpec {
    pub lookback: Option<Spot<String>>,
    /// `exposure` (each unit's own, the default) or `period` (the experiment's first day).
    pub before: Option<Spot<String>>,
}

impl FromNode for MetricSpec {
    const EXPECTED: &'static str = "a metric with `name`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a metric", diagnostics)?;
        let name: Option<Spot<String>> = fields.required("name");
        let value = MeasureSpec::from_fields(&mut fields);
        let mut spec = Self {
            span: node.span.clone(),
            label: fields.optional("label"),
            description: fields.optional("description"),
            kind: fields.optional("kind"),
            area: fields.optional("area"),
            owner: fields.optional("owner"),
            team: fields.optional("team"),
            approvers: fields.or_default("approvers"),
            tier: fields.optional("tier"),
            drives: fields.or_default("drives"),
            required_for: fields.or_default("required_for"),
            margin: fields.optional("margin"),
            version: fields.optional("version"),
            alias_of: fields.optional("alias_of"),
            sla: fields.optional("sla"),
            value,
            numerator: fields.optional("numerator"),
            denominator: fields.optional("denominator"),
            steps: fields.or_default("steps"),
            q: fields.optional("q"),
            level: fields.optional("level"),
            cluster: fields.optional("cluster"),
            at_least: fields.optional("at_least"),
            over: fields.optional("over"),
            fill: fields.optional("fill"),
            window: fields.optional("window"),
            maturity: fields.optional("maturity"),
            direction: fields.optional("direction"),
            cap: fields.optional("cap"),
            covariate: fields.optional("covariate"),
            unit_of_measure: fields.optional("unit_of_measure"),
            misspelt: Misspelt::default(),
            name: name.clone().unwrap_or(node.without_name()),
        };
        spec.misspelt = fields.finish();
        if let Some(value) = &mut spec.value {
            value.misspelt.clone_from(&spec.misspelt);
        }
        name.map(|_| spec)
    }
}

impl MetricSpec {
    /// A spec that says nothing but its name.
    pub fn named(name: Spot<String>) -> Self {
        Self {
            span: name.span.clone(),
            name,
            label: None,
            description: None,
            kind: None,
            area: None,
            owner: None,
            team: None,
            approvers: Vec::new(),
            tier: None,
            drives: Vec::new(),
            required_for: Vec::new(),
            margin: None,
            version: None,
            alias_of: None,
            sla: None,
            value: None,
            numerator: None,
            denominator: None,
            steps: Vec::new(),
            q: None,
            level: None,
            cluster: None,
            at_least: None,
            over: None,
            fill: None,
            window: None,
            maturity: None,
            direction: None,
            cap: None,
            covariate: None,
            unit_of_measure: None,
            misspelt: Misspelt::default(),
        }
    }

    /// Every measure it names.
    pub fn measures(&self) -> impl Iterator<Item = &MeasureSpec> {
        [&self.value, &self.numerator, &self.denominator]
            .into_iter()
            .flatten()
            .chain(&self.steps)
    }

    /// Fills in what the metric leaves out and its kind can have.
    pub(super) fn take(&mut self, defaults: &MetricDefaults) {
        let kind = self.kind.as_ref().map_or("", |kind| kind.value.as_str());
        let is_dashboard = matches!(kind, "derived" | "cumulative");
        let of_totals = kind == "ratio"
            || (kind == "quantile"
                && self
                    .level
                    .as_ref()
                    .is_some_and(|level| level.value == "event"));
        let or = |own: &mut Option<Spot<String>>, given: &Option<Spot<String>>| {
            if own.is_none() {
                own.clone_from(given);
            }
        };
        if !is_dashboard {
            if !of_totals {
                or(&mut self.fill, &defaults.fill);
            }
            if self.window.is_none() {
                self.window.clone_from(&defaults.window);
            }
            or(&mut self.maturity, &defaults.maturity);
        }
        if kind != "derived" {
            let measures = [&mut self.value, &mut self.numerator, &mut self.denominator];
            for measure in measures.into_iter().flatten().chain(&mut self.steps) {
                or(&mut measure.fact, &defaults.fact);
            }
            let has_none = self.measures().next().is_none();
            if let (true, Some(fact)) = (has_none, &defaults.fact) {
                self.value = Some(MeasureSpec {
                    fact: Some(fact.clone()),
                    misspelt: self.misspelt.clone(),
                    ..MeasureSpec::empty(self.span.clone())
                });
            }
        }
        or(&mut self.area, &defaults.area);
        or(&mut self.owner, &defaults.owner);
        if self.team.is_none() {
            self.team.clone_from(&defaults.team);
        }
        if self.approvers.is_empty() {
            self.approvers.clone_from(&defaults.approvers);
        }
        if self.sla.is_none() {
            self.sla.clone_from(&defaults.sla);
        }
    }
}

impl FromNode for MetricDefaults {
    const EXPECTED: &'static str =
        "what the metrics of this file have in common: `{fact: ..., window: {...}}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "the defaults of metrics", diagnostics)?;
        let defaults = Self {
            fact: fields.optional("fact"),
            fill: fields.optional("fill"),
            window: fields.optional("window"),
            maturity: fields.optional("maturity"),
            area: fields.optional("area"),
            owner: fields.optional("owner"),
            team: fields.optional("team"),
            approvers: fields.or_default("approvers"),
            sla: fields.optional("sla"),
        };
        fields.finish();
        Some(defaults)
    }
}

impl FromNode for SlaSpec {
    const EXPECTED: &'static str = "a mapping: `{freshness: 6h, completeness: 0.999}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "an SLA", diagnostics)?;
        let spec = Self {
            freshness: fields.optional("freshness"),
            completeness: fields.optional("completeness"),
        };
        fields.finish();
        Some(spec)
    }
}

impl FromNode for CapSpec {
    const EXPECTED: &'static str = "a number, or `{quantile: 0.999, by: pooled}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        if !matches!(node.value, Value::Mapping(_)) {
            return Spot::from_node(node, diagnostics).map(Self::At);
        }
        let mut fields = Fields::of(node, "a cap", diagnostics)?;
        let at: Option<Spot<f64>> = fields.optional("at");
        let spec = match at {
            Some(at) => Self::At(at),
            None => Self::Quantile {
                share: fields.required("quantile"),
                by: fields.optional("by"),
                span: node.span.clone(),
            },
        };
        fields.finish();
        Some(spec)
    }
}

impl MeasureSpec {
    pub fn empty(span: Span) -> Self {
        Self {
            fact: None,
            event: None,
            aggregation: None,
            expression: None,
            filter: None,
            cap: None,
            span,
            misspelt: Misspelt::default(),
        }
    }

    /// The measure whose keys stand among those of its owner; `None` when it has none of them.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let mut either = |short: &'static str, long: &'static str| {
            let found: Option<Spot<String>> = fields.optional(short);
            found.or(fields.optional(long))
        };
        let (aggregation, expression) =
            (either("agg", "aggregation"), either("expr", "expression"));
        let (fact, event, filter) = (
            fields.optional("fact"),
            fields.optional("event"),
            fields.optional("filter"),
        );
        let any: &Spot<String> = [&fact, &aggregation, &expression, &event, &filter]
            .into_iter()
            .flatten()
            .next()?;
        Some(Self {
            span: any.span.clone(),
            fact,
            event,
            aggregation,
            expression,
            filter,
            cap: None,
            misspelt: Misspelt::default(),
        })
    }
}

impl FromNode for MeasureSpec {
    const EXPECTED: &'static str = "a measure: `{fact: ..., agg: ..., expr: ...}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a measure", diagnostics)?;
        let measure = Self::from_fields(&mut fields);
        let cap = fields.optional("cap");
        let misspelt = fields.finish();
        Some(Self {
            span: node.span.clone(),
            misspelt,
            cap,
            ..measure.unwrap_or(Self::empty(node.span.clone()))
        })
    }
}

impl FromNode for WindowSpec {
    const EXPECTED: &'static str = "a window: `{start: 0d, length: 14d}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a window", diagnostics)?;
        let spec = Self {
            start: fields.optional("start"),
            length: fields.optional("length"),
            calendar: fields.optional("calendar"),
            span: node.span.clone(),
        };
        fields.finish();
        Some(spec)
    }
}

impl FromNode for CovariateSpec {
    const EXPECTED: &'static str = "a mapping: `{lookback: 14d}`";
    fn from_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut fields = Fields::of(node, "a covariate", diagnostics)?;
        let spec = Self {
            lookback: fields.required("lookback"),
            before: fields.optional("before"),
        };
        fields.finish();
        Some(spec)
    }
}
