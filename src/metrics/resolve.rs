//! Spec -> metric.

use std::collections::BTreeMap;

use super::Duration;
use super::metric::{
    Aggregation, Covariate, Direction, Kind, Measure, Metric, Metrics, Tier, Window,
};
use crate::diagnostics::{Checked, Code, Diagnostic, Span, did_you_mean};
use crate::manifest::{Manifest, identifier};
use crate::project::yaml::Spot;
use crate::project::{CovariateSpec, MeasureSpec, MetricSpec, WindowSpec, choice};

/// Gives every metric spec its meaning. A metric that is wrong is left out, with diagnostics.
pub fn resolve(manifest: &Manifest) -> Checked<Metrics> {
    let mut checked = Checked::new(Metrics::default());
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    for spec in &manifest.domain.metrics {
        if let Some(earlier) = first.insert(&spec.name.value, &spec.name.span) {
            checked.push(
                Diagnostic::error(
                    Code::E0201,
                    format!("there are two metrics named `{}`", spec.name.value),
                )
                .at(spec.name.span.clone())
                .also(earlier.clone(), "first here")
                .hint("rename or remove one of them"),
            );
            continue;
        }
        let mut resolver = Resolver {
            manifest,
            spec,
            diagnostics: Vec::new(),
        };
        let metric = resolver.metric();
        let good = resolver
            .diagnostics
            .iter()
            .all(|diagnostic| !diagnostic.is_error());
        checked.diagnostics.extend(resolver.diagnostics);
        if let Some(metric) = metric.filter(|_| good) {
            checked.value.by_name.insert(metric.name.clone(), metric);
        }
    }
    check_hierarchy(manifest, &mut checked.diagnostics);
    checked
}

/// A driver drives metrics that exist.
fn check_hierarchy(manifest: &Manifest, diagnostics: &mut Vec<Diagnostic>) {
    let names: Vec<&str> = manifest
        .domain
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    for driven in manifest
        .domain
        .metrics
        .iter()
        .flat_map(|metric| &metric.drives)
    {
        if !names.contains(&driven.as_str()) {
            diagnostics.push(
                Diagnostic::error(Code::E0206, format!("unknown metric `{}`", driven.value))
                    .at(driven.span.clone())
                    .hint(did_you_mean(driven, names.iter().copied())),
            );
        }
    }
}

struct Resolver<'a> {
    manifest: &'a Manifest,
    spec: &'a MetricSpec,
    diagnostics: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn metric(&mut self) -> Option<Metric> {
        let spec = self.spec;
        crate::project::check_name(&spec.name, "metric", &mut self.diagnostics);
        let owner = self.owner();
        let kind = self.kind();
        let direction = self.word(
            &spec.direction,
            "direction",
            &[
                ("increase", Direction::Increase),
                ("decrease", Direction::Decrease),
            ],
        );
        let tiers = [
            ("north_star", Tier::NorthStar),
            ("driver", Tier::Driver),
            ("guardrail", Tier::Guardrail),
            ("diagnostic", Tier::Diagnostic),
            ("component", Tier::Component),
        ];
        let tier = match &spec.tier {
            None => Some(Tier::Diagnostic),
            Some(tier) => choice(tier, "tier", &tiers, &mut self.diagnostics),
        };
        let window = self.window(spec.window.as_ref());
        let covariate = spec
            .covariate
            .as_ref()
            .and_then(|covariate| self.covariate(covariate));
        let cap = self.cap();
        Some(Metric {
            name: spec.name.value.clone(),
            span: spec.name.span.clone(),
            label: spec
                .label
                .clone()
                .unwrap_or_else(|| spec.name.value.replace('_', " ")),
            description: spec.description.clone().unwrap_or_default(),
            owner: owner?,
            tier: tier?,
            drives: spec.drives.iter().map(|name| name.value.clone()).collect(),
            version: spec
                .version
                .as_ref()
                .map_or("1.0.0".to_string(), |version| version.value.clone()),
            kind: kind?,
            window: window?,
            direction: direction?,
            cap,
            covariate,
        })
    }

    fn owner(&mut self) -> Option<String> {
        match &self.spec.owner {
            Some(owner) if !owner.trim().is_empty() => Some(owner.value.clone()),
            found => {
                let span = found
                    .as_ref()
                    .map_or(&self.spec.name.span, |owner| &owner.span);
                self.diagnostics.push(
                    Diagnostic::error(
                        Code::E0602,
                        format!("the metric `{}` has no owner", self.spec.name.value),
                    )
                    .at(span.clone())
                    .hint("add `owner: <team or person who answers for it>`"),
                );
                None
            }
        }
    }

    fn word<T: Copy>(
        &mut self,
        spot: &Option<Spot<String>>,
        key: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        match spot {
            Some(spot) => choice(spot, key, choices, &mut self.diagnostics),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                self.unsound(
                    format!("the metric `{}` needs `{key}`", self.spec.name.value),
                    &self.spec.name.span.clone(),
                    &format!("add `{key}: {}`", words.join(" | ")),
                );
                None
            }
        }
    }

    fn unsound(&mut self, message: String, span: &Span, hint: &str) {
        self.diagnostics.push(
            Diagnostic::error(Code::E0601, message)
                .at(span.clone())
                .hint(hint),
        );
    }

    fn kind(&mut self) -> Option<Kind> {
        #[derive(Clone, Copy, PartialEq)]
        enum Word {
            Mean,
            Proportion,
            Ratio,
        }
        let words = [
            ("mean", Word::Mean),
            ("proportion", Word::Proportion),
            ("ratio", Word::Ratio),
        ];
        let word = self.word(&self.spec.kind.clone(), "kind", &words)?;
        if word == Word::Ratio {
            if let Some(value) = &self.spec.value {
                self.unsound(
                    format!(
                        "the ratio `{}` has a measure of its own",
                        self.spec.name.value
                    ),
                    &value.span,
                    "put it under `numerator:` or `denominator:`",
                );
            }
            let numerator = self.part("numerator", self.spec.numerator.clone());
            let denominator = self.part("denominator", self.spec.denominator.clone());
            return Some(Kind::Ratio {
                numerator: numerator?,
                denominator: denominator?,
            });
        }
        for part in [&self.spec.numerator, &self.spec.denominator]
            .into_iter()
            .flatten()
        {
            let span = part.span.clone();
            self.unsound(
                format!(
                    "`{}` is no ratio, so it has no numerator or denominator",
                    self.spec.name.value
                ),
                &span,
                "use `kind: ratio`, or put the measure beside `kind`",
            );
        }
        let fallback = if word == Word::Proportion {
            Some(Aggregation::Any)
        } else {
            None
        };
        let measure = self.part_with("fact", self.spec.value.clone(), fallback)?;
        match word {
            Word::Proportion if measure.aggregation != Aggregation::Any => {
                self.unsound(
                    format!(
                        "the proportion `{}` counts units, so its aggregation is `any`",
                        self.spec.name.value
                    ),
                    &self
                        .spec
                        .value
                        .as_ref()
                        .expect("the measure was read from it")
                        .span
                        .clone(),
                    "use `agg: any`, or `kind: mean` for an average per unit",
                );
                None
            }
            Word::Proportion => Some(Kind::Proportion(measure)),
            _ => Some(Kind::Mean(measure)),
        }
    }

    fn part(&mut self, key: &str, spec: Option<MeasureSpec>) -> Option<Measure> {
        self.part_with(key, spec, None)
    }

    fn part_with(
        &mut self,
        key: &str,
        spec: Option<MeasureSpec>,
        fallback: Option<Aggregation>,
    ) -> Option<Measure> {
        match spec {
            Some(spec) => self.measure(&spec, fallback),
            None => {
                let hint = format!("add `{key}`: which model is measured, and how");
                self.unsound(
                    format!("the metric `{}` needs `{key}`", self.spec.name.value),
                    &self.spec.name.span.clone(),
                    &hint,
                );
                None
            }
        }
    }

    fn measure(&mut self, spec: &MeasureSpec, fallback: Option<Aggregation>) -> Option<Measure> {
        let words = [
            ("sum", Aggregation::Sum),
            ("count", Aggregation::Count),
            ("count_distinct", Aggregation::CountDistinct),
            ("max", Aggregation::Max),
            ("min", Aggregation::Min),
            ("any", Aggregation::Any),
        ];
        let aggregation = match (&spec.aggregation, fallback) {
            (Some(word), _) => choice(word, "aggregation", &words, &mut self.diagnostics),
            (None, Some(fallback)) => Some(fallback),
            (None, None) => {
                self.unsound(
                    format!("a measure of `{}` needs `agg`", self.spec.name.value),
                    &spec.span,
                    "add `agg: sum`, `count`, `count_distinct`, `max`, `min` or `any`",
                );
                None
            }
        };
        let Some(fact) = &spec.fact else {
            self.unsound(
                format!("a measure of `{}` needs `fact`", self.spec.name.value),
                &spec.span,
                "add `fact: <the model it is measured on>`",
            );
            return None;
        };
        let Some(node) = self.manifest.model(fact) else {
            let hint = did_you_mean(fact, self.manifest.model_names());
            self.diagnostics.push(
                Diagnostic::error(Code::E0206, format!("unknown fact `{}`", fact.value))
                    .at(fact.span.clone())
                    .hint(hint),
            );
            return None;
        };
        let Some(declared) = &node.fact else {
            let message = format!(
                "`{}` is no fact: its YAML does not say which columns hold unit and time",
                fact.value
            );
            let hint = "add `fact: {unit: user_id, time: occurred_at}` to the model's YAML";
            self.unsound(message, &fact.span, hint);
            return None;
        };
        let aggregation = aggregation?;
        let needs_expression = matches!(
            aggregation,
            Aggregation::Sum | Aggregation::CountDistinct | Aggregation::Max | Aggregation::Min
        );
        if needs_expression && spec.expression.is_none() {
            self.unsound(
                format!("a measure of `{}` needs `expr`", self.spec.name.value),
                &spec.span,
                "add `expr: <SQL over the fact's columns>`",
            );
            return None;
        }
        let event = match (&spec.event, &declared.event) {
            (None, _) => None,
            (Some(event), Some(column)) => Some(format!(
                "{} = '{}'",
                identifier(column),
                event.value.replace('\'', "''")
            )),
            (Some(event), None) => {
                self.unsound(
                    format!(
                        "`{}` does not say which column holds the event's name",
                        fact.value
                    ),
                    &event.span,
                    "add `event: <column>` to its `fact:`",
                );
                return None;
            }
        };
        let condition = [
            event,
            spec.filter
                .as_ref()
                .map(|filter| format!("({})", filter.value)),
        ];
        let condition = condition
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" and ");
        Some(Measure {
            fact: fact.value.clone(),
            unit_column: declared.unit.value.clone(),
            time_column: declared.time.value.clone(),
            aggregation,
            expression: spec
                .expression
                .as_ref()
                .map(|expression| expression.value.clone()),
            condition: Some(condition).filter(|condition| !condition.is_empty()),
        })
    }

    fn window(&mut self, spec: Option<&WindowSpec>) -> Option<Window> {
        let Some(spec) = spec else {
            return Some(Window::default());
        };
        let start = match &spec.start {
            None => Some(Duration::default()),
            Some(start) => self.duration(start),
        };
        let length = match &spec.length {
            None => Some(None),
            Some(length) => self.duration(length).map(Some),
        };
        if let Some(Some(Duration { seconds: 0 })) = length {
            let span = spec
                .length
                .as_ref()
                .map_or(&spec.span, |length| &length.span);
            self.unsound(
                "a window of no length holds no event".to_string(),
                span,
                "give it a length such as `14d`, or leave `length` out to measure to the end",
            );
            return None;
        }
        Some(Window {
            start: start?,
            length: length?,
        })
    }

    fn covariate(&mut self, spec: &CovariateSpec) -> Option<Covariate> {
        let before_period = match &spec.before {
            None => Some(false),
            Some(word) => choice(
                word,
                "covariate's end",
                &[("exposure", false), ("period", true)],
                &mut self.diagnostics,
            ),
        };
        let lookback = spec
            .lookback
            .as_ref()
            .and_then(|lookback| self.duration(lookback));
        Some(Covariate {
            lookback: lookback?,
            before_period: before_period?,
        })
    }

    fn duration(&mut self, text: &Spot<String>) -> Option<Duration> {
        let duration = Duration::parse(text);
        if duration.is_none() {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::E0106,
                    format!("`{}` is not a length of time", text.value),
                )
                .at(text.span.clone())
                .hint("write it like `14d`, `6h`, `30m` or `45s`"),
            );
        }
        duration
    }

    fn cap(&mut self) -> Option<f64> {
        let cap = self.spec.cap.clone()?;
        if cap.value <= 0.0 {
            self.unsound(
                format!("the cap of `{}` must be above zero", self.spec.name.value),
                &cap.span,
                "leave it out for no cap",
            );
        }
        Some(cap.value)
    }
}
