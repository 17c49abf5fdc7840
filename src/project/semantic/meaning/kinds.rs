//! What dbt's types of metrics are of ours: simple ones by what is estimated, ratios, running totals, derived ones.

use super::{Input, Metric};
use crate::project::metric::{MeasureSpec, MetricSpec};
use crate::project::semantic::model::Base;
use crate::project::semantic::{Reader, number_at, text, text_at};
use crate::project::yaml::{Node, Spot, Value};

impl Reader {
    pub(super) fn simple(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
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

    pub(super) fn quantile(&mut self, metric: &Metric<'_>, base: &Base, spec: &mut MetricSpec) {
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

    pub(super) fn ratio(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
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

    pub(super) fn side(&mut self, metric: &Metric<'_>, key: &str) -> Option<MeasureSpec> {
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

    pub(super) fn cumulative(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
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

    pub(super) fn derived(&mut self, metric: &Metric<'_>, spec: &mut MetricSpec) -> Option<()> {
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
