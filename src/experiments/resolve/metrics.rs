//! What an experiment asks of metrics, held against the metrics that there are.
//! In: the spec and the project's metrics. Out: the guardrails, and a diagnostic for each metric that does not fit.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;

use super::{Guardrail, Resolver};
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
use crate::metrics::{Audience, Duration, Maturity, Metric, Tier};
use crate::project::yaml::Spot;

impl Resolver<'_> {
    /// The guardrails it names, and those that are required of it.
    pub(super) fn guardrails(&mut self) -> Vec<Guardrail> {
        let spec = self.spec;
        let mut guardrails: Vec<Guardrail> = spec
            .guardrails
            .iter()
            .map(|named| Guardrail {
                metric: named.metric.value.clone(),
                margin: named.margin.as_ref().map(|margin| margin.value).or(self
                    .metrics
                    .get(&named.metric)
                    .and_then(|metric| metric.margin)),
                has_own_margin: named.margin.is_some(),
                is_required: false,
            })
            .collect();
        for metric in self
            .metrics
            .iter()
            .filter(|metric| self.is_required(metric))
        {
            let named = guardrails
                .iter_mut()
                .find(|guardrail| guardrail.metric == metric.name);
            let has_role = spec
                .primary
                .iter()
                .chain(&spec.secondary)
                .any(|name| name.value == metric.name);
            match named {
                Some(guardrail) => guardrail.is_required = true,
                None if has_role => {}
                None => guardrails.push(Guardrail {
                    metric: metric.name.clone(),
                    margin: metric.margin,
                    has_own_margin: false,
                    is_required: true,
                }),
            }
        }
        guardrails
    }

    fn is_required(&self, metric: &Metric) -> bool {
        let spec = self.spec;
        let is = |spot: &Option<Spot<String>>, name: &str| {
            spot.as_ref().is_some_and(|spot| spot.value == name)
        };
        metric.required_for.iter().any(|audience| match audience {
            Audience::Everyone => true,
            Audience::Area(area) => is(&spec.area, area),
            Audience::Owner(owner) => is(&spec.owner, owner),
            Audience::Experiment(key) => spec.key.value == *key,
        })
    }

    /// A required guardrail may be guarded more strictly, not less.
    pub(super) fn margins_hold(&mut self) {
        let spec = self.spec;
        for guardrail in &spec.guardrails {
            let Some(metric) = self.metrics.get(&guardrail.metric) else {
                continue;
            };
            let (Some(margin), Some(limit)) = (&guardrail.margin, metric.margin) else {
                continue;
            };
            if self.is_required(metric) && margin.value > limit {
                let message = format!(
                    "the margin of `{}` is {}, but {limit} is required",
                    metric.name, margin.value
                );
                self.push(
                    Code::E0604,
                    message,
                    &margin.span,
                    "leave it out, or write a smaller one",
                );
            }
        }
    }

    pub(super) fn metrics_exist(&mut self) {
        let spec = self.spec;
        let mut seen = BTreeSet::new();
        let names = spec
            .primary
            .iter()
            .chain(&spec.secondary)
            .chain(spec.guardrails.iter().map(|guardrail| &guardrail.metric));
        let declared: Vec<&str> = self
            .manifest
            .domain
            .metrics
            .iter()
            .map(|metric| metric.name.as_str())
            .collect();
        for name in names {
            if !declared.contains(&name.as_str()) {
                let hint = did_you_mean(name, declared.iter().copied());
                self.push(
                    Code::E0207,
                    format!("unknown metric `{}`", name.value),
                    &name.span,
                    &hint,
                );
            } else if !seen.insert(&name.value) {
                self.push(
                    Code::E0604,
                    format!(
                        "the metric `{}` has two roles in `{}`",
                        name.value, spec.key.value
                    ),
                    &name.span,
                    "give each metric one role",
                );
            }
            if self
                .metrics
                .get(name)
                .is_some_and(|metric| metric.tier == Tier::Component)
            {
                self.push(
                    Code::E0604,
                    format!(
                        "`{}` is a component, so nothing can be decided by it",
                        name.value
                    ),
                    &name.span,
                    "use the metric that it is a part of",
                );
            }
        }
        let dashboards: Vec<(&Spot<String>, &Metric)> = spec
            .primary
            .iter()
            .chain(&spec.secondary)
            .chain(spec.guardrails.iter().map(|guardrail| &guardrail.metric))
            .filter_map(|name| Some((name, self.metrics.get(name)?)))
            .filter(|(_, metric)| !metric.is_analysed())
            .collect();
        for (name, metric) in dashboards {
            self.push(
                Code::E0604,
                format!(
                    "`{}` is {}, which units have no share in, so nothing can be decided by it",
                    name.value,
                    metric.kind.word()
                ),
                &name.span,
                "it is for dashboards; use a metric that is measured per unit, such as `kind: ratio` for a quotient",
            );
        }
        for guardrail in &spec.guardrails {
            if let Some(margin) = guardrail
                .margin
                .as_ref()
                .filter(|margin| !(margin.value > 0.0 && margin.value < 1.0))
            {
                self.push(
                    Code::E0604,
                    format!(
                        "the margin of `{}` is {}",
                        guardrail.metric.value, margin.value
                    ),
                    &margin.span,
                    "a margin is a relative loss between 0 and 1, such as 0.02",
                );
            }
        }
    }

    /// A unit whose window closes after the last instant that is measured never counts where windows must be full. Some at
    /// the end of the period are lost in any case; more than half of its days are hardly meant.
    pub(super) fn units_can_mature(
        &mut self,
        from: NaiveDateTime,
        until: Option<NaiveDateTime>,
        grace: Duration,
    ) {
        let spec = self.spec;
        let Some(until) = until else { return };
        let period = (until - from).num_seconds();
        let named = spec
            .primary
            .iter()
            .chain(&spec.secondary)
            .chain(spec.guardrails.iter().map(|guardrail| &guardrail.metric));
        let mut used: Vec<(&str, &Span)> = named.map(|name| (name.as_str(), &name.span)).collect();
        for metric in self.metrics.iter() {
            let is_named = used.iter().any(|(name, _)| *name == metric.name);
            if self.is_required(metric) && !is_named {
                used.push((&metric.name, &spec.key.span));
            }
        }
        for (name, span) in used {
            let window = (self.metrics.get(name))
                .filter(|metric| metric.maturity == Maturity::FullWindow)
                .and_then(|metric| metric.window.end());
            let Some(window) = window else { continue };
            let lost = (window.seconds - grace.seconds).min(period);
            if lost * 2 <= period {
                continue;
            }
            let who = match lost == period {
                true => "no unit".to_string(),
                false => format!(
                    "no unit of the last {} of {} days",
                    days(lost),
                    days(period)
                ),
            };
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::E0604,
                    format!(
                        "{who} of `{}` can ever count in `{name}`: its window of {window} would be full after the end",
                        spec.key.value
                    ),
                )
                .at(span.clone())
                .hint(format!(
                    "measure on for a while with `grace: {}d` in `period`, shorten the window, or write `maturity: partial`",
                    days(window.seconds)
                )),
            );
        }
    }
}

/// Whole days, begun ones too.
fn days(seconds: i64) -> i64 {
    (seconds + 86_399).div_euclid(86_400)
}
