//! Spec -> metric: what every kind has in common. What differs between kinds stands in `kind`, the measures in `measure`,
//! and when a unit's events count in `window`.

mod kind;
mod measure;
mod window;

use std::collections::BTreeMap;

use super::metric::{
    Aggregation, Audience, Cap, Covariate, Direction, Fill, Kind, Level, Metric, Metrics, Sla, Tier,
};
use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::manifest::Manifest;
use crate::project::yaml::Spot;
use crate::project::{CapSpec, CovariateSpec, MetricSpec, choice};

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
    checked
        .diagnostics
        .extend(super::hierarchy::check(&manifest.domain.metrics));
    checked
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
        let directions = [
            ("increase", Direction::Increase),
            ("decrease", Direction::Decrease),
        ];
        let direction = self.word(&spec.direction, "direction", &directions);
        let tier = self.tier();
        let version = self.version();
        let sla = self.sla();
        let required_for = self.required_for();
        let margin = self.share(&spec.margin, "margin");
        // What else is asked depends on the kind; without one, what is there is still read.
        let Some(kind) = kind else {
            spec.window.as_ref().and_then(|window| self.window(window));
            // A known kind has read its measures itself.
            let is_unknown = spec.kind.as_ref().is_none_or(|kind| !kind::is_known(kind));
            spec.value
                .as_ref()
                .filter(|_| is_unknown)
                .and_then(|value| self.measure(value, Some(Aggregation::Any)));
            return None;
        };
        let fill = self.fill(&kind);
        let window = self.measured_window(&kind);
        let maturity = self.maturity(&kind, window.as_ref());
        let covariate = self.covariate(&kind);
        let cap = self.cap(&kind);
        self.caps_of_sides(&kind);
        Some(Metric {
            name: spec.name.value.clone(),
            span: spec.name.span.clone(),
            label: spec
                .label
                .clone()
                .unwrap_or_else(|| spec.name.value.replace('_', " ")),
            description: spec.description.clone().unwrap_or_default(),
            area: spec.area.as_ref().map(|area| area.value.clone()),
            owner: owner?,
            team: spec.team.clone(),
            approvers: spec.approvers.clone(),
            sla: sla?,
            tier: tier?,
            drives: spec.drives.iter().map(|name| name.value.clone()).collect(),
            required_for,
            margin,
            version: version?,
            alias_of: spec.alias_of.as_ref().map(|name| name.value.clone()),
            kind,
            fill: fill?,
            window: window?,
            maturity: maturity?,
            direction: direction?,
            cap,
            covariate,
            unit_of_measure: spec.unit_of_measure.clone(),
        })
    }

    fn name(&self) -> &str {
        &self.spec.name.value
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

    fn tier(&mut self) -> Option<Tier> {
        let tiers = [
            ("north_star", Tier::NorthStar),
            ("driver", Tier::Driver),
            ("guardrail", Tier::Guardrail),
            ("diagnostic", Tier::Diagnostic),
            ("component", Tier::Component),
        ];
        match &self.spec.tier {
            None => Some(Tier::Diagnostic),
            Some(tier) => choice(tier, "tier", &tiers, &mut self.diagnostics),
        }
    }

    fn version(&mut self) -> Option<String> {
        let Some(version) = &self.spec.version else {
            return Some("1.0.0".to_string());
        };
        let parts: Vec<&str> = version.split('.').collect();
        let is_whole =
            |part: &&str| !part.is_empty() && part.chars().all(|digit| digit.is_ascii_digit());
        if parts.len() == 3 && parts.iter().all(is_whole) {
            return Some(version.value.clone());
        }
        self.unsound(
            format!("`{}` is not a version", version.value),
            &version.span.clone(),
            "write it like `1.2.0`: breaking change, addition, correction",
        );
        None
    }

    fn sla(&mut self) -> Option<Sla> {
        let Some(spec) = &self.spec.sla else {
            return Some(Sla::default());
        };
        let freshness = match &spec.freshness {
            None => Some(None),
            Some(freshness) => self.duration(freshness).map(Some),
        };
        let completeness = match &spec.completeness {
            None => Some(None),
            Some(share) if share.value > 0.0 && share.value <= 1.0 => Some(Some(share.value)),
            Some(share) => {
                self.unsound(
                    format!("the completeness of `{}` is {}", self.name(), share.value),
                    &share.span.clone(),
                    "it is a share above 0 and up to 1, such as 0.999",
                );
                None
            }
        };
        Some(Sla {
            freshness: freshness?,
            completeness: completeness?,
        })
    }

    fn required_for(&mut self) -> Vec<Audience> {
        let mut audiences = Vec::new();
        for spot in &self.spec.required_for {
            audiences.extend(match spot.value.split_once(':') {
                None if spot.value == "*" => Some(Audience::Everyone),
                Some(("area", name)) => Some(Audience::Area(name.to_string())),
                Some(("owner", name)) => Some(Audience::Owner(name.to_string())),
                Some(("experiment", key)) => Some(Audience::Experiment(key.to_string())),
                _ => {
                    self.diagnostics.push(
                        Diagnostic::error(
                            Code::E0106,
                            format!("`{}` names no experiments", spot.value),
                        )
                        .at(spot.span.clone())
                        .hint("write `\"*\"`, `area:checkout`, `owner:team-checkout` or `experiment:one_page_checkout`"),
                    );
                    None
                }
            });
        }
        audiences
    }

    /// A number between 0 and 1, both excluded.
    fn share(&mut self, spot: &Option<Spot<f64>>, key: &str) -> Option<f64> {
        let spot = spot.as_ref()?;
        if spot.value > 0.0 && spot.value < 1.0 {
            return Some(spot.value);
        }
        self.unsound(
            format!("the {key} of `{}` is {}", self.name(), spot.value),
            &spot.span,
            "it lies between 0 and 1",
        );
        None
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
                let hint = format!("add `{key}: {}`", words.join(" | "));
                self.needs(key, &hint);
                None
            }
        }
    }

    fn needs(&mut self, key: &str, hint: &str) {
        if self.spec.misspelt.has(key) {
            return;
        }
        self.unsound(
            format!("the metric `{}` needs `{key}`", self.name()),
            &self.spec.name.span.clone(),
            hint,
        );
    }

    fn unsound(&mut self, message: String, span: &Span, hint: &str) {
        self.diagnostics.push(
            Diagnostic::error(Code::E0601, message)
                .at(span.clone())
                .hint(hint),
        );
    }

    /// What a unit without events counts as: asked wherever a unit has a number of its own.
    fn fill(&mut self, kind: &Kind) -> Option<Fill> {
        let spec = self.spec;
        let has_numbers_per_unit = !matches!(
            kind,
            Kind::Ratio { .. }
                | Kind::Quantile {
                    level: Level::Event,
                    ..
                }
                | Kind::Derived { .. }
                | Kind::Cumulative { .. }
        );
        if !has_numbers_per_unit {
            if let Some(fill) = &spec.fill {
                self.unsound(
                    format!(
                        "`{}` has no number per unit, so `fill` says nothing",
                        self.name()
                    ),
                    &fill.span,
                    "remove it",
                );
            }
            return Some(Fill::Zero);
        }
        let Some(spot) = &spec.fill else {
            self.needs(
                "fill",
                "add `fill: zero`, so that a unit without events counts as 0, or `fill: exclude`, so that it is left out, or `fill: fail`, \
                 so that there must not be one",
            );
            return None;
        };
        let words = [
            ("zero", Fill::Zero),
            ("exclude", Fill::Exclude),
            ("fail", Fill::Fail),
        ];
        let fill = choice(spot, "fill", &words, &mut self.diagnostics)?;
        if fill != Fill::Zero && matches!(kind, Kind::Proportion(_) | Kind::Retention { .. }) {
            self.unsound(
                format!(
                    "of the units with events, every one counts in `{}`",
                    self.name()
                ),
                &spot.span,
                "a share of units is over all units: write `fill: zero`",
            );
            return None;
        }
        Some(fill)
    }

    fn covariate(&mut self, kind: &Kind) -> Option<Covariate> {
        let spec = self.spec.covariate.as_ref()?;
        let takes_one = matches!(
            kind,
            Kind::Mean(_) | Kind::Total(_) | Kind::Proportion(_) | Kind::Ratio { .. }
        );
        if !takes_one {
            self.unsound(
                format!(
                    "a {} takes no covariate, but `{}` has one",
                    kind.word(),
                    self.name()
                ),
                &spec
                    .lookback
                    .as_ref()
                    .map_or(&self.spec.span, |lookback| &lookback.span)
                    .clone(),
                "remove `covariate`",
            );
            return None;
        }
        let before_period = self.before_period(spec);
        let lookback = spec
            .lookback
            .as_ref()
            .and_then(|lookback| self.duration(lookback));
        Some(Covariate {
            lookback: lookback?,
            before_period: before_period?,
        })
    }

    fn before_period(&mut self, spec: &CovariateSpec) -> Option<bool> {
        match &spec.before {
            None => Some(false),
            Some(word) => choice(
                word,
                "covariate's end",
                &[("exposure", false), ("period", true)],
                &mut self.diagnostics,
            ),
        }
    }

    fn cap(&mut self, kind: &Kind) -> Option<Cap> {
        let spec = self.spec.cap.as_ref()?;
        let span = spec.span();
        if !matches!(
            kind,
            Kind::Mean(_) | Kind::Total(_) | Kind::MeanOfRatios { .. }
        ) {
            self.unsound(
                format!(
                    "a {} takes no cap, but `{}` has one",
                    kind.word(),
                    self.name()
                ),
                span,
                match kind {
                    Kind::Ratio { .. } => {
                        "move `cap` into `numerator` or `denominator`: a ratio has two numbers per unit"
                    }
                    _ => "remove `cap`; it belongs to a mean of numbers per unit",
                },
            );
            return None;
        }
        self.cap_at(spec)
    }

    /// Caps of sides belong to ratios of totals.
    fn caps_of_sides(&mut self, kind: &Kind) {
        if matches!(kind, Kind::Ratio { .. }) {
            return;
        }
        let spec = self.spec;
        let of_side = spec.measures().find_map(|measure| measure.cap.as_ref());
        if let Some(cap) = of_side {
            self.unsound(
                format!("a side of a {} takes no cap", kind.word()),
                &cap.span().clone(),
                "remove it; a mean of ratios has its `cap` beside `kind`",
            );
        }
    }

    fn cap_at(&mut self, spec: &CapSpec) -> Option<Cap> {
        match spec {
            CapSpec::At(number) if number.value > 0.0 => Some(Cap::At(number.value)),
            CapSpec::At(number) => {
                self.unsound(
                    format!("the cap of `{}` must be above zero", self.name()),
                    &number.span,
                    "leave it out for no cap",
                );
                None
            }
            CapSpec::Quantile { share, by, span } => {
                let share = self.share(share, "cap's quantile");
                let words = [("pooled", true), ("variant", false)];
                let is_pooled = match by {
                    Some(by) => choice(by, "way to cap", &words, &mut self.diagnostics),
                    None => {
                        self.unsound(
                            format!("the cap of `{}` does not say whose quantile it is", self.name()),
                            span,
                            "add `by: pooled`, for one cap over all variants, or `by: variant`; a number as `cap` is frozen",
                        );
                        None
                    }
                };
                Some(Cap::Quantile {
                    share: share?,
                    is_pooled: is_pooled?,
                })
            }
        }
    }
}
