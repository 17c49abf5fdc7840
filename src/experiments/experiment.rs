//! The checked nouns.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;

use crate::diagnostics::Span;
use crate::metrics::Duration;

/// All experiments of a project, by key.
#[derive(Debug, Clone, Default)]
pub struct Experiments {
    pub by_key: BTreeMap<String, Experiment>,
}

impl Experiments {
    pub fn iter(&self) -> impl Iterator<Item = &Experiment> {
        self.by_key.values()
    }
}

/// An experiment that cannot be wrong.
#[derive(Debug, Clone)]
pub struct Experiment {
    pub key: String,
    pub span: Span,
    pub hypothesis: String,
    /// Part of the product.
    pub area: Option<String>,
    pub owner: String,
    pub unit: String,
    /// In the order of the file; shares add up to one.
    pub variants: Vec<Variant>,
    pub control: String,
    /// UTC, inclusive.
    pub from: NaiveDateTime,
    /// UTC, exclusive: the end of the last day, or the instant given. None: no planned end.
    pub until: Option<NaiveDateTime>,
    /// Events this much after the end still count.
    pub grace: Duration,
    pub flag: Option<String>,
    /// The model that holds the assignment log.
    pub assignment_model: String,
    pub exclusions: Vec<Exclusion>,
    /// Share of units in several variants above which the experiment is invalid.
    pub crossover_limit: f64,
    pub primary: String,
    pub secondary: Vec<String>,
    pub guardrails: Vec<Guardrail>,
    pub alpha: f64,
    pub segments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub name: String,
    pub share: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Guardrail {
    pub metric: String,
    /// Largest relative loss that is still accepted; none: any loss that is not significant.
    pub margin: Option<f64>,
    /// The experiment says the margin itself; otherwise it is the metric's.
    pub has_own_margin: bool,
    /// The metric says that the experiment must have it.
    pub is_required: bool,
}

/// Why a unit is left out of the analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exclusion {
    /// Logged in more than one variant.
    CrossedOver,
    /// The assignment model says so in the column `is_<name>`.
    Column(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Secondary,
    Guardrail,
}

impl Role {
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Secondary => "secondary",
            Role::Guardrail => "guardrail",
        }
    }
}

impl Experiment {
    /// Every metric with its role and margin, the primary first; a metric has one role.
    pub fn metrics(&self) -> Vec<(&str, Role, Option<f64>)> {
        let mut all = vec![(self.primary.as_str(), Role::Primary, None)];
        all.extend(
            self.secondary
                .iter()
                .map(|name| (name.as_str(), Role::Secondary, None)),
        );
        all.extend(
            self.guardrails
                .iter()
                .map(|guardrail| (guardrail.metric.as_str(), Role::Guardrail, guardrail.margin)),
        );
        all
    }
}
