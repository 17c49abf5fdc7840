//! One metric of dbt's as one of ours.

use super::model::Base;
use super::{Reader, entries, items, number_at, text, text_at, texts};
use crate::diagnostics::Span;
use crate::project::metric::{
    CapSpec, CovariateSpec, MeasureSpec, MetricSpec, SlaSpec, WindowSpec,
};
use crate::project::yaml::{Node, Spot, Value};

/// A metric's node and its blocks.
pub(super) struct Metric<'a> {
    node: &'a Node,
    name: Spot<String>,
    kind: String,
    experiment: Option<&'a Node>,
    governance: Option<&'a Node>,
}

const EXPERIMENT_KEYS: &[&str] = &[
    "estimand",
    "unit",
    "window",
    "fill",
    "maturity",
    "direction",
    "cap",
    "variance_reduction",
    "guardrail",
    "q",
    "level",
    "cluster",
    "threshold",
];
const GOVERNANCE_KEYS: &[&str] = &[
    "version",
    "tier",
    "area",
    "owner",
    "team",
    "approvers",
    "drives",
    "required_for",
    "sla",
    "unit",
];
/// What dbt says about how to fill and join days, which ours do not do.
const UNREAD: &[&str] = &[
    "join_to_timespine",
    "fill_nulls_with",
    "non_additive_dimension",
    "time_granularity",
    "period_agg",
];

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

    /// Which entity experiments assign: one per model.
    pub(super) fn unit(&mut self, metric: &Metric<'_>) {
        let base = self.bases.get(&metric.name.value);
        if let (Some(unit), Some(base)) = (metric.said("unit"), base)
            && let Some(model) = self.models.get_mut(&base.model)
        {
            model.set_unit(&unit.value);
        }
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

    fn simple(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
        let base = self.bases.get(&metric.name.value)?.clone();
        let aggregation = base.aggregation.value.clone();
        let estimand = metric.said("estimand");
        let is_percentile = matches!(aggregation.as_str(), "percentile" | "median");
        let kind = match estimand.as_ref().map(|estimand| estimand.value.as_str()) {
            Some("mean_per_unit") => "mean",
            Some(word @ ("proportion" | "retention" | "quantile" | "count")) => word,
            None if is_percentile => "quantile",
            None if aggregation == "average" => "ratio",
            None if matches!(aggregation.as_str(), "sum" | "sum_boolean") => "total",
            None if matches!(aggregation.as_str(), "count" | "count_distinct") => "count",
            Some(word) => {
                self.lost(
                    metric,
                    &format!("the estimand `{word}` is none of a simple metric"),
                );
                return None;
            }
            None => {
                self.lost(
                    metric,
                    &format!("`{aggregation}` over all units of a day is no metric here"),
                );
                return None;
            }
        };
        spec.kind = Some(metric.spot(kind));
        match kind {
            "ratio" => {
                spec.numerator = Some(base.as_measure("sum"));
                spec.denominator = Some(base.as_measure("count"));
            }
            // Units are counted whose rows match, so it does not matter what was counted of them.
            "proportion" | "retention" => {
                spec.value = Some(MeasureSpec {
                    expression: None,
                    aggregation: None,
                    ..base.as_measure("count")
                });
            }
            "quantile" => {
                spec.value = Some(MeasureSpec {
                    aggregation: None,
                    ..base.as_measure("sum")
                });
                self.quantile(metric, &base, spec);
            }
            _ => match base.measure() {
                Some(measure) => spec.value = Some(measure),
                None => {
                    self.lost(
                        metric,
                        &format!("`{aggregation}` is no aggregate of a unit"),
                    );
                    return None;
                }
            },
        }
        if let Some(threshold) = metric.experiment("threshold") {
            spec.at_least = number_at(threshold, "count_gte").map(|least| Spot {
                value: least.value as i64,
                span: least.span,
            });
        }
        Some(())
    }

    fn quantile(&mut self, metric: &Metric<'_>, base: &Base, spec: &mut MetricSpec) {
        let median = Spot {
            value: 0.5,
            span: base.aggregation.span.clone(),
        };
        let q = metric.experiment.and_then(|block| number_at(block, "q"));
        spec.q = q.or(base.percentile.clone()).or(Some(median));
        spec.level = metric.said("level").or(Some(metric.spot("event")));
        let column = self
            .models
            .get(&base.model)
            .and_then(|model| match metric.said("cluster") {
                Some(entity) => Some(Spot {
                    value: model.entity(&entity.value).unwrap_or(entity.value),
                    span: entity.span,
                }),
                None => model.unit_column(),
            });
        if spec
            .level
            .as_ref()
            .is_some_and(|level| level.value == "event")
        {
            spec.cluster = column;
        }
    }

    fn ratio(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
        let numerator = self.side(metric, "numerator")?;
        let denominator = self.side(metric, "denominator")?;
        let kind = match metric.said("estimand") {
            Some(estimand) if estimand.value == "mean_of_ratios" => "mean_of_ratios",
            Some(estimand) if estimand.value != "ratio_of_totals" => {
                self.lost(
                    metric,
                    &format!("the estimand `{}` is none of a ratio", estimand.value),
                );
                return None;
            }
            _ => "ratio",
        };
        spec.kind = Some(metric.spot(kind));
        spec.numerator = Some(numerator);
        spec.denominator = Some(denominator);
        Some(())
    }

    fn side(&mut self, metric: &Metric<'_>, key: &str) -> Option<MeasureSpec> {
        let Some(input) = metric.get(key).and_then(Input::of) else {
            self.lost(metric, &format!("it has no {key}"));
            return None;
        };
        let measure = self.bases.get(&input.name.value).cloned();
        let measure = match measure.filter(|_| !input.has_offset) {
            Some(base) => self.filtered(base, input.filter)?.measure(),
            None => None,
        };
        if measure.is_none() {
            self.lost(
                metric,
                &format!(
                    "its {key} `{}` is no sum or count of rows",
                    input.name.value
                ),
            );
        }
        measure
    }

    fn cumulative(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
        let input = ["input_metric", "measure"]
            .iter()
            .find_map(|key| metric.get(key))
            .and_then(Input::of);
        let base = input
            .as_ref()
            .and_then(|input| self.bases.get(&input.name.value).cloned());
        let (Some(input), Some(base)) = (input, base) else {
            self.lost(metric, "what it adds up is no simple metric");
            return None;
        };
        let measure = self.filtered(base, input.filter)?.measure();
        let Some(measure) = measure else {
            self.lost(
                metric,
                &format!("`{}` is no sum or count of rows", input.name.value),
            );
            return None;
        };
        let over = match (
            metric.get("window"),
            metric.get("grain_to_date").and_then(text),
        ) {
            (None, None) => metric.spot("all_time"),
            (None, Some(grain)) => grain,
            (Some(window), _) => length_of(window).unwrap_or(metric.spot("")),
        };
        spec.kind = Some(metric.spot("cumulative"));
        spec.value = Some(measure);
        spec.over = Some(over);
        Some(())
    }

    fn derived(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
        let Some(expression) = metric.get("expr").and_then(text) else {
            self.lost(metric, "it has no `expr`");
            return None;
        };
        let list = ["input_metrics", "metrics"]
            .iter()
            .find_map(|key| metric.get(key));
        let inputs: Vec<Input<'_>> = match list.map(|list| &list.value) {
            Some(Value::Sequence(items)) => items.iter().filter_map(Input::of).collect(),
            _ => Vec::new(),
        };
        if let Some(input) = inputs
            .iter()
            .find(|input| input.has_offset || input.filter.is_some())
        {
            let why = format!(
                "`{}` is asked for another time or with another filter",
                input.name.value
            );
            self.lost(metric, &why);
            return None;
        }
        let mut sql = expression.value.clone();
        for input in &inputs {
            if let Some(alias) = &input.alias {
                sql = replace_word(&sql, alias, &input.name.value);
            }
        }
        spec.kind = Some(metric.spot("derived"));
        spec.value = Some(MeasureSpec {
            expression: Some(Spot {
                value: sql,
                span: expression.span.clone(),
            }),
            ..MeasureSpec::empty(expression.span)
        });
        Some(())
    }

    /// Owner, tier and what else people agree on.
    fn govern(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) {
        let nothing = Node {
            value: Value::Null,
            span: metric.name.span.clone(),
        };
        let block = metric.governance.unwrap_or(&nothing);
        let config = metric.node.get("config").unwrap_or(&nothing);
        spec.owner = text_at(block, "owner").or(text_at(config, "group"));
        if spec.owner.is_none() {
            self.lose(
                &metric.name.span,
                format!("the metric `{}` has no owner", metric.name.value),
                "add `governance: {owner: ...}` under `config.meta`",
            );
            spec.owner = Some(metric.spot("nobody"));
        }
        // What says nothing of experiments is a part of others.
        spec.tier = text_at(block, "tier").or_else(|| {
            let is_part = metric.experiment.is_none();
            is_part.then(|| metric.spot("component"))
        });
        spec.version = text_at(block, "version");
        spec.area = text_at(block, "area");
        spec.team = text_at(block, "team").map(|team| team.value);
        spec.approvers = texts(block, "approvers")
            .into_iter()
            .map(|who| who.value)
            .collect();
        spec.drives = texts(block, "drives");
        spec.required_for = texts(block, "required_for");
        spec.sla = block.get("sla").map(|sla| SlaSpec {
            freshness: text_at(sla, "freshness"),
            completeness: number_at(sla, "completeness"),
        });
        let unit: Vec<String> = block
            .get("unit")
            .map(entries)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, node)| {
                Some(format!(
                    "{key} {value}",
                    key = key.value,
                    value = text(node)?.value
                ))
            })
            .collect();
        spec.unit_of_measure = Some(unit.join(", ")).filter(|unit| !unit.is_empty());
    }

    /// The block `experiment`; without it, totals over all of the time.
    fn measure_in_experiments(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) {
        let kind = spec
            .kind
            .as_ref()
            .map_or(String::new(), |kind| kind.value.clone());
        spec.direction = metric
            .said("direction")
            .or_else(|| metric.experiment.is_none().then(|| metric.spot("increase")));
        if matches!(kind.as_str(), "derived" | "cumulative") {
            return;
        }
        let is_of_events = spec
            .level
            .as_ref()
            .is_some_and(|level| level.value == "event");
        let has_fill = kind != "ratio" && !is_of_events;
        let Some(block) = metric.experiment else {
            spec.fill = has_fill.then(|| metric.spot("zero"));
            spec.window = Some(WindowSpec {
                start: None,
                length: Some(metric.spot("to_end")),
                calendar: None,
                span: metric.name.span.clone(),
            });
            return;
        };
        spec.fill = metric.said("fill").filter(|_| has_fill).map(|fill| Spot {
            value: fill.value.replace("drop", "exclude"),
            span: fill.span,
        });
        spec.window = block.get("window").map(|window| WindowSpec {
            start: text_at(window, "start"),
            length: text_at(window, "length"),
            calendar: text_at(window, "calendar"),
            span: window.span.clone(),
        });
        spec.maturity = metric.said("maturity");
        if spec.maturity.is_none() {
            self.lose(
                &block.span,
                format!(
                    "`{}` does not say which units count before their window closed",
                    metric.name.value
                ),
                "it is read as `maturity: partial`; `full_window` waits",
            );
            spec.maturity = Some(metric.spot("partial"));
        }
        spec.cap = block.get("cap").map(|cap| CapSpec::Quantile {
            share: number_at(cap, "upper_percentile"),
            by: text_at(cap, "by"),
            span: cap.span.clone(),
        });
        spec.covariate = block.get("variance_reduction").map(|cuped| CovariateSpec {
            lookback: text_at(cuped, "lookback"),
            before: None,
        });
        spec.margin = block
            .get("guardrail")
            .and_then(|guardrail| number_at(guardrail, "margin_relative"));
    }

    /// Says what of the metric was not read.
    fn unread(&mut self, metric: &Metric<'_>) {
        let name = &metric.name.value;
        let mut keys: Vec<(String, Span)> = Vec::new();
        for (block, known) in [
            (metric.experiment, EXPERIMENT_KEYS),
            (metric.governance, GOVERNANCE_KEYS),
        ] {
            // How the variance of a ratio is found follows from its kind.
            let is_read = |key: &str| known.contains(&key) || key == "variance";
            let unread = block.map(entries).unwrap_or_default().iter();
            keys.extend(
                unread
                    .filter(|(key, _)| !is_read(&key.value))
                    .map(|(key, _)| (key.value.clone(), key.span.clone())),
            );
        }
        if let Some(action) = metric
            .experiment("guardrail")
            .and_then(|block| block.get("action"))
        {
            keys.push(("guardrail.action".to_string(), action.span.clone()));
        }
        let measure = metric.get("measure");
        for key in UNREAD {
            let node = metric.get(key).or_else(|| measure?.get(key));
            keys.extend(node.map(|node| (key.to_string(), node.span.clone())));
        }
        for (key, span) in keys {
            self.lose(
                &span,
                format!("`{key}` of the metric `{name}` is not read"),
                "nothing depends on it here",
            );
        }
        if let Some(unread) = items(metric.node, "filter").first()
            && metric.kind != "simple"
        {
            self.lose(
                &unread.span,
                format!("the filter of the {} `{name}` is not read", metric.kind),
                "filter the metrics that it is made of",
            );
        }
    }
}

/// `7 days` or `{count: 7, granularity: day}` as `7d`.
fn length_of(window: &Node) -> Option<Spot<String>> {
    let (count, grain) = match text(window) {
        Some(text) => {
            let (count, grain) = text.value.split_once(' ')?;
            (count.to_string(), grain.to_string())
        }
        None => (
            text_at(window, "count")?.value,
            text_at(window, "granularity")?.value,
        ),
    };
    let days: i64 = match grain.trim_end_matches('s') {
        "day" => 1,
        "week" => 7,
        _ => 0,
    };
    let count: i64 = count.parse().ok()?;
    Some(Spot {
        value: match days {
            0 => format!("{count} {grain}"),
            days => format!("{}d", count * days),
        },
        span: window.span.clone(),
    })
}

/// Replaces a whole word of an expression.
fn replace_word(text: &str, word: &str, other: &str) -> String {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let before = rest[..at]
            .chars()
            .next_back()
            .or(result.chars().next_back());
        let after = rest[at + word.len()..].chars().next();
        let is_word = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        result.push_str(&rest[..at]);
        result.push_str(if is_word { other } else { word });
        rest = &rest[at + word.len()..];
    }
    result + rest
}
