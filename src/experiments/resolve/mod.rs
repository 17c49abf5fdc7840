//! Spec -> experiment. What it asks of metrics stands in `metrics`.

mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime};

use super::experiment::{Exclusion, Experiment, Experiments, Guardrail, Variant};
use crate::diagnostics::{Checked, Code, Diagnostic, Span, did_you_mean};
use crate::flags::HOLDOUT_VARIANT;
use crate::manifest::Manifest;
use crate::metrics::{Duration, Metrics};
use crate::project::ExperimentSpec;
use crate::project::yaml::Spot;

/// Share of units in several variants that is tolerated when the experiment does not say.
const CROSSOVER_LIMIT: f64 = 0.005;

/// Experiments start in these years, so that each window, its start and its length of fifty years at most, lies within what SQL's timestamps reach
/// over: 1678 to 2261. An end in the last of them or later is none.
const FIRST_YEAR: i32 = 1800;
const LAST_YEAR: i32 = 2100;

/// Columns that units have whatever is segmented by, and the segment of all units.
const TAKEN: &[&str] = &[
    "experiment_key",
    "unit_id",
    "variant",
    "assigned_at",
    "n_assignments",
    "n_variants",
    "period_starts_at",
    "measured_until",
    "exclusion",
    "is_analysed",
    "all",
];

/// Of those that metrics add, there may be several.
const ADDED: &str = "complete_until";

fn is_taken(column: &str) -> bool {
    TAKEN.contains(&column) || column.starts_with(ADDED)
}

/// Gives every experiment spec its meaning. An experiment that is wrong is left out, with diagnostics.
pub fn resolve(manifest: &Manifest, metrics: &Metrics) -> Checked<Experiments> {
    let mut checked = Checked::new(Experiments::default());
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    for spec in &manifest.domain.experiments {
        if let Some(earlier) = first.insert(&spec.key.value, &spec.key.span) {
            checked.push(
                Diagnostic::error(
                    Code::E0201,
                    format!(
                        "there are two experiments with the key `{}`",
                        spec.key.value
                    ),
                )
                .at(spec.key.span.clone())
                .also(earlier.clone(), "first here")
                .hint("rename or remove one of them"),
            );
            continue;
        }
        let mut resolver = Resolver {
            manifest,
            metrics,
            spec,
            diagnostics: Vec::new(),
        };
        let experiment = resolver.experiment();
        let good = resolver
            .diagnostics
            .iter()
            .all(|diagnostic| !diagnostic.is_error());
        checked.diagnostics.extend(resolver.diagnostics);
        if let Some(experiment) = experiment.filter(|_| good) {
            checked
                .value
                .by_key
                .insert(experiment.key.clone(), experiment);
        }
    }
    checked
}

struct Resolver<'a> {
    manifest: &'a Manifest,
    metrics: &'a Metrics,
    spec: &'a ExperimentSpec,
    diagnostics: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn experiment(&mut self) -> Option<Experiment> {
        let spec = self.spec;
        crate::project::check_name(&spec.key, "experiment", &mut self.diagnostics);
        self.needs_text(
            spec.hypothesis.as_deref(),
            "hypothesis",
            "what you expect to happen, and why",
        );
        self.needs_text(
            spec.owner.as_ref().map(|owner| owner.as_str()),
            "owner",
            "the team or person who answers for it",
        );
        let variants = self.variants();
        let control = self.control(&variants);
        let period = self.period();
        self.metrics_exist();
        self.margins_hold();
        let assignments = self.assignments();
        let alpha = self.fraction(&spec.alpha, "alpha", 0.05);
        self.segments_have_names();
        let (from, until, grace) = period?;
        self.units_can_mature(from, until, grace);
        let (assignment_model, exclusions, crossover_limit) = assignments?;
        Some(Experiment {
            key: spec.key.value.clone(),
            span: spec.key.span.clone(),
            hypothesis: spec.hypothesis.clone()?,
            owner: spec.owner.as_ref()?.value.clone(),
            unit: spec
                .unit
                .as_ref()
                .map_or("user".to_string(), |unit| unit.value.clone()),
            variants,
            control: control?,
            from,
            until,
            grace,
            flag: spec.flag.as_ref().map(|flag| flag.value.clone()),
            assignment_model,
            exclusions,
            crossover_limit,
            primary: spec.primary.as_ref()?.value.clone(),
            secondary: spec
                .secondary
                .iter()
                .map(|name| name.value.clone())
                .collect(),
            guardrails: self.guardrails(),
            area: spec.area.as_ref().map(|area| area.value.clone()),
            alpha,
            segments: spec
                .segments
                .iter()
                .map(|name| name.value.clone())
                .collect(),
        })
    }

    fn push(&mut self, code: Code, message: String, span: &Span, hint: &str) {
        self.diagnostics
            .push(Diagnostic::error(code, message).at(span.clone()).hint(hint));
    }

    fn needs_text(&mut self, text: Option<&str>, key: &str, hint: &str) {
        if text.is_none_or(|text| text.trim().is_empty()) && !self.spec.misspelt.has(key) {
            let message = format!("the experiment `{}` needs `{key}`", self.spec.key.value);
            self.push(
                Code::E0604,
                message,
                &self.spec.key.span.clone(),
                &format!("add `{key}: ...`, {hint}"),
            );
        }
    }

    fn variants(&mut self) -> Vec<Variant> {
        let spec = self.spec;
        let variants: Vec<Variant> = spec
            .variants
            .iter()
            .map(|(name, share)| Variant {
                name: name.value.clone(),
                share: share.value,
            })
            .collect();
        if variants.len() < 2 && !spec.variants.is_empty() {
            self.push(
                Code::E0604,
                format!("the experiment `{}` has one variant only", spec.key.value),
                &spec.variants_span,
                "an experiment compares at least two variants",
            );
        }
        for (name, _) in spec
            .variants
            .iter()
            .filter(|(name, _)| name.trim().is_empty())
        {
            self.push(
                Code::E0604,
                format!("a variant of `{}` has no name", spec.key.value),
                &name.span,
                "write the variant as it stands in the assignment log",
            );
        }
        let wrong: Vec<_> = spec
            .variants
            .iter()
            .filter(|(_, share)| !(share.value > 0.0 && share.value < 1.0))
            .collect();
        for (name, share) in wrong.iter().filter(|_| spec.variants.len() > 1) {
            let hint = match share.value {
                percent if percent > 1.0 && percent < 100.0 => format!(
                    "a share lies between 0 and 1: write {} for {percent} %",
                    round(percent / 100.0)
                ),
                _ => "a share lies between 0 and 1".to_string(),
            };
            self.push(
                Code::E0603,
                format!("the share of `{}` is {}", name.value, share.value),
                &share.span,
                &hint,
            );
        }
        for (name, _) in &spec.variants {
            if name.value == HOLDOUT_VARIANT {
                self.push(
                    Code::E0604,
                    format!("`{HOLDOUT_VARIANT}` is no variant: units that are held out are logged under it"),
                    &name.span,
                    "remove it: such units are left out of the analysis and counted as `holdout`",
                );
            }
        }
        // A share that is wrong by itself makes the sum wrong too.
        if !wrong.is_empty() {
            return variants;
        }
        let sum: f64 = variants.iter().map(|variant| variant.share).sum();
        if variants.len() > 1 && (sum - 1.0).abs() > 1e-9 {
            let sum = round(sum);
            let hint = match round(1.0 - sum) {
                missing if missing > 0.0 => format!(
                    "shares must add up to 1.0; give the missing {missing} to the variants: units that are kept out do not count here"
                ),
                surplus => format!("shares must add up to 1.0; take {} away", -surplus),
            };
            self.push(
                Code::E0603,
                format!("the shares of `{}` add up to {sum}", spec.key.value),
                &spec.variants_span,
                &hint,
            );
        }
        variants
    }

    /// The variant named as control; else the one called `control`; else the first.
    fn control(&mut self, variants: &[Variant]) -> Option<String> {
        let names: Vec<&str> = variants
            .iter()
            .map(|variant| variant.name.as_str())
            .collect();
        match &self.spec.control {
            Some(control) if names.contains(&control.as_str()) => Some(control.value.clone()),
            Some(control) => {
                let hint = did_you_mean(control, names.iter().copied());
                self.push(
                    Code::E0604,
                    format!(
                        "the control `{}` is no variant of `{}`",
                        control.value, self.spec.key.value
                    ),
                    &control.span,
                    &hint,
                );
                None
            }
            None => names
                .iter()
                .find(|name| **name == "control")
                .or(names.first())
                .map(ToString::to_string),
        }
    }

    fn period(&mut self) -> Option<(NaiveDateTime, Option<NaiveDateTime>, Duration)> {
        let Some(period) = &self.spec.period else {
            if self.spec.misspelt.has("period") {
                return None;
            }
            let message = format!("the experiment `{}` needs `period`", self.spec.key.value);
            self.push(
                Code::E0605,
                message,
                &self.spec.key.span.clone(),
                "add `period: {from: 2026-01-05, to: 2026-02-01}`",
            );
            return None;
        };
        let from = period
            .from
            .as_ref()
            .and_then(|text| self.instant(text, false));
        let until = match &period.to {
            None => Some(None),
            // Such as 9999-12-31.
            Some(text) => self
                .instant(text, true)
                .map(|until| Some(until).filter(|until| until.year() < LAST_YEAR)),
        };
        let grace = match &period.grace {
            None => Some(Duration::default()),
            Some(text) => self.duration(text),
        };
        if let (Some(from), Some(Some(until))) = (from, until)
            && until <= from
        {
            let span = period.to.as_ref().map_or(&period.span, |to| &to.span);
            self.push(
                Code::E0605,
                format!("`{}` ends before it starts", self.spec.key.value),
                span,
                "`to` is the last day, at or after `from`",
            );
            return None;
        }
        self.is_reached(from?, period.from.as_ref()?)
            .then_some((from?, until?, grace?))
    }

    /// Whether timestamps reach over a start and all windows before and after it.
    fn is_reached(&mut self, from: NaiveDateTime, text: &Spot<String>) -> bool {
        let is_reached = (FIRST_YEAR..LAST_YEAR).contains(&from.year());
        if !is_reached {
            self.push(
                Code::E0605,
                format!("`{}` starts at `{}`", self.spec.key.value, text.value),
                &text.span,
                &format!(
                    "experiments start in the years {FIRST_YEAR} to {}",
                    LAST_YEAR - 1
                ),
            );
        }
        is_reached
    }

    /// A date or an instant, UTC. As an end, a date means the end of that day.
    fn instant(&mut self, text: &Spot<String>, is_end: bool) -> Option<NaiveDateTime> {
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            let date = if is_end {
                date.checked_add_days(Days::new(1)).unwrap_or(date)
            } else {
                date
            };
            return date.and_hms_opt(0, 0, 0);
        }
        let trimmed = text.trim_end_matches('Z');
        let formats = [
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%dT%H:%M",
            "%Y-%m-%d %H:%M",
        ];
        let found = formats
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(trimmed, format).ok());
        if found.is_none() {
            self.push(
                Code::E0605,
                format!("`{}` is not a date", text.value),
                &text.span,
                "write it like `2026-01-05` or `2026-01-05T08:00:00Z`",
            );
        }
        found
    }

    fn duration(&mut self, text: &Spot<String>) -> Option<Duration> {
        let duration = Duration::parse(text);
        if duration.is_none() {
            let [message, hint] = Duration::fault(text);
            self.push(Code::E0106, message, &text.span, &hint);
        }
        duration
    }

    fn fraction(&mut self, spot: &Option<Spot<f64>>, key: &str, fallback: f64) -> f64 {
        match spot {
            None => fallback,
            Some(spot) if spot.value > 0.0 && spot.value < 1.0 => spot.value,
            Some(spot) => {
                self.push(
                    Code::E0604,
                    format!("`{key}` is {}", spot.value),
                    &spot.span,
                    "it lies between 0 and 1",
                );
                fallback
            }
        }
    }

    /// A segment is a column of the units, so its name is none that they have already, and none that stands for all units.
    fn segments_have_names(&mut self) {
        let spec = self.spec;
        let mut seen = BTreeSet::new();
        for segment in &spec.segments {
            if !seen.insert(&segment.value) {
                self.push(
                    Code::E0604,
                    format!("`{}` segments `{}` twice", segment.value, spec.key.value),
                    &segment.span,
                    "keep one of them",
                );
            } else if is_taken(segment.as_str()) {
                self.push(
                    Code::E0604,
                    format!(
                        "`{}` cannot be a segment: units have a column or a segment of that name",
                        segment.value
                    ),
                    &segment.span,
                    "give the column another name in the assignment model",
                );
            }
        }
    }

    fn assignments(&mut self) -> Option<(String, Vec<Exclusion>, f64)> {
        let Some(spec) = &self.spec.assignments else {
            if self.spec.misspelt.has("assignments") {
                return None;
            }
            let message = format!(
                "the experiment `{}` needs `assignments`",
                self.spec.key.value
            );
            self.push(
                Code::E0604,
                message,
                &self.spec.key.span.clone(),
                "add `assignments: {model: stg_assignments, keep: first, exclude: [crossed_over]}`",
            );
            return None;
        };
        let model = spec.model.as_ref()?;
        if self.manifest.model(model).is_none() {
            let hint = did_you_mean(model, self.manifest.model_names());
            self.push(
                Code::E0207,
                format!("unknown model `{}`", model.value),
                &model.span,
                &hint,
            );
        }
        if let Some(keep) = spec.keep.as_ref().filter(|keep| keep.value != "first") {
            self.push(
                Code::E0106,
                format!("`keep: {}` is not a policy", keep.value),
                &keep.span,
                "`keep: first` is: the first assignment of a unit counts",
            );
        }
        let exclusions = spec
            .exclude
            .iter()
            .map(|name| {
                if name.value == "crossed_over" {
                    Exclusion::CrossedOver
                } else {
                    Exclusion::Column(name.value.clone())
                }
            })
            .collect();
        let limit = self.fraction(&spec.crossover_limit, "crossover_limit", CROSSOVER_LIMIT);
        Some((model.value.clone(), exclusions, limit))
    }
}

/// Nine digits, so that 0.4 + 0.5 prints as it was meant.
fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}
