//! What our blocks under `meta` say: who answers for a metric, and how experiments measure it. Keys that nobody reads are named.

use super::Metric;
use crate::diagnostics::Span;
use crate::project::metric::{CapSpec, CovariateSpec, MetricSpec, SlaSpec, WindowSpec};
use crate::project::semantic::losses::Loss;
use crate::project::semantic::{Reader, entries, items, number_at, text, text_at, texts};
use crate::project::yaml::{Node, Spot, Value};

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

impl Reader {
    /// Owner, tier and what else people agree on.
    pub(super) fn govern(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) {
        let nothing = Node {
            value: Value::Null,
            span: metric.name.span.clone(),
            written: None,
        };
        let block = metric.governance.unwrap_or(&nothing);
        let config = metric.node.get("config").unwrap_or(&nothing);
        spec.owner = text_at(block, "owner").or(text_at(config, "group"));
        if spec.owner.is_none() {
            self.common
                .add(Loss::NoOwner, &metric.name, metric.name.span.clone());
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
    pub(super) fn measure_in_experiments(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) {
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
            self.common
                .add(Loss::NoMaturity, &metric.name, block.span.clone());
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
    pub(super) fn unread(&mut self, metric: &Metric<'_>) {
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
            self.common.add(Loss::Unread(key), &metric.name, span);
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
