//! One metric of dbt's as one of ours.

mod blocks;
mod kinds;

use super::model::Base;
use super::{Reader, number_at, text, text_at};
use crate::project::metric::MetricSpec;
use crate::project::yaml::{Node, Spot};

/// A metric's node and its blocks.
pub(super) struct Metric<'a> {
    node: &'a Node,
    name: Spot<String>,
    kind: String,
    experiment: Option<&'a Node>,
    governance: Option<&'a Node>,
}

impl<'a> Metric<'a> {
    pub fn of(node: &'a Node) -> Self {
        let meta = node.get("config").and_then(|config| config.get("meta"));
        let block = |key| node.get(key).or_else(|| meta?.get(key));
        let name = text_at(node, "name").unwrap_or(Spot {
            value: String::new(),
            span: node.span.clone(),
        });
        Self {
            node,
            name,
            kind: text_at(node, "type").map_or("simple".to_string(), |kind| kind.value),
            experiment: block("experiment"),
            governance: block("governance"),
        }
    }

    /// A key of the metric, or of its `type_params` in older files.
    fn get(&self, key: &str) -> Option<&'a Node> {
        let older = self.node.get("type_params");
        self.node.get(key).or_else(|| {
            let own = older?.get(key);
            own.or_else(|| older?.get("cumulative_type_params")?.get(key))
        })
    }

    fn experiment(&self, key: &str) -> Option<&'a Node> {
        self.experiment?.get(key)
    }

    fn said(&self, key: &str) -> Option<Spot<String>> {
        self.experiment(key).and_then(text)
    }

    fn spot(&self, value: &str) -> Spot<String> {
        Spot {
            value: value.to_string(),
            span: self.name.span.clone(),
        }
    }
}

/// A metric that another is made of: its name and what is asked of it beside.
struct Input<'a> {
    name: Spot<String>,
    alias: Option<String>,
    filter: Option<&'a Node>,
    has_offset: bool,
}

impl<'a> Input<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        Some(Self {
            name: text(node).or(text_at(node, "name"))?,
            alias: text_at(node, "alias").map(|alias| alias.value),
            filter: node.get("filter"),
            has_offset: ["offset_window", "offset_to_grain"]
                .iter()
                .any(|key| node.get(key).is_some()),
        })
    }
}

impl Reader {
    /// Remembers a simple metric under its name, since ratios are made of such.
    pub(super) fn base(&mut self, node: &Node, model: Option<&str>) {
        let metric = Metric::of(node);
        if metric.kind != "simple" {
            return;
        }
        let base = match (model, metric.get("measure").and_then(Input::of)) {
            (Some(model), _) => Base {
                model: model.to_string(),
                aggregation: text_at(node, "agg").unwrap_or(metric.spot("")),
                expression: text_at(node, "expr"),
                filter: None,
                percentile: number_at(node, "percentile"),
            },
            (None, Some(measure)) => {
                let Some(base) = self.bases.get(&measure.name.value).cloned() else {
                    return self.lost(
                        &metric,
                        &format!("there is no measure `{}`", measure.name.value),
                    );
                };
                match self.filtered(base, measure.filter) {
                    Some(base) => base,
                    None => return,
                }
            }
            (None, None) => return self.lost(&metric, "it names no measure"),
        };
        if let Some(base) = self.filtered(base, node.get("filter")) {
            self.bases.insert(metric.name.value.clone(), base);
        }
    }

    /// The aggregate over fewer rows.
    fn filtered(&mut self, base: Base, filter: Option<&Node>) -> Option<Base> {
        let model = self.models.get(&base.model).cloned().unwrap_or_default();
        let more = self.filter(filter, &model).ok()?;
        let filter = match (base.filter.clone(), more) {
            (Some(one), Some(other)) => Some(Spot {
                value: format!("({}) and ({})", one.value, other.value),
                span: other.span,
            }),
            (one, other) => one.or(other),
        };
        Some(Base { filter, ..base })
    }

    /// Which entity experiments assign: one per model. False where the metric asks for another than its model is measured by.
    pub(super) fn unit(&mut self, metric: &Metric<'_>) -> bool {
        let Some(unit) = metric.said("unit") else {
            return true;
        };
        let sides = ["numerator", "denominator"]
            .into_iter()
            .filter_map(|key| metric.get(key).and_then(Input::of))
            .map(|input| input.name.value);
        let measured = std::iter::once(metric.name.value.clone()).chain(sides);
        let models: Vec<String> = measured
            .filter_map(|name| Some(self.bases.get(&name)?.model.clone()))
            .collect();
        for name in models {
            let model = self.models.entry(name.clone()).or_default();
            let known = model.set_unit(&unit.value).to_string();
            if known != unit.value {
                let why = format!(
                    "its unit is `{}`, and another metric of `{name}` says `{known}`",
                    unit.value
                );
                self.lost(metric, &why);
                return false;
            }
        }
        true
    }

    /// Says that a metric is left out.
    fn lost(&mut self, metric: &Metric<'_>, why: &str) {
        self.lose(
            &metric.name.span,
            format!("the metric `{}` is left out: {why}", metric.name.value),
            "define it in `metrics/`, if it is to be measured",
        );
    }

    pub(super) fn metric(&mut self, metric: &Metric<'_>) -> Option<MetricSpec> {
        let mut spec = MetricSpec::named(metric.name.clone());
        match metric.kind.as_str() {
            "simple" => self.simple(metric, &mut spec)?,
            "ratio" => self.ratio(metric, &mut spec)?,
            "derived" => self.derived(metric, &mut spec)?,
            "cumulative" => self.cumulative(metric, &mut spec)?,
            other => {
                self.lost(metric, &format!("metrics of type `{other}` are not read"));
                return None;
            }
        }
        spec.label = text_at(metric.node, "label").map(|label| label.value);
        spec.description = text_at(metric.node, "description").map(|text| text.value);
        self.govern(metric, &mut spec);
        self.measure_in_experiments(metric, &mut spec);
        self.unread(metric);
        Some(spec)
    }
}
