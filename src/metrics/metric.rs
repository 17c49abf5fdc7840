//! The checked nouns.

use std::collections::BTreeMap;

use super::Duration;
use crate::diagnostics::Span;

/// All metrics of a project, by name.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub by_name: BTreeMap<String, Metric>,
}

impl Metrics {
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.by_name.values()
    }
}

/// A metric that cannot be wrong: its parts exist and fit together.
#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    pub span: Span,
    pub label: String,
    pub description: String,
    pub owner: String,
    pub tier: Tier,
    pub drives: Vec<String>,
    pub version: String,
    pub kind: Kind,
    pub window: Window,
    pub direction: Direction,
    /// Values of a unit above this are taken as this.
    pub cap: Option<f64>,
    pub covariate: Option<Covariate>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Mean over units of a sum or count; units without events count as zero.
    Mean(Measure),
    /// Share of units with at least one matching event.
    Proportion(Measure),
    /// Total of the numerator over total of the denominator, by the delta method.
    Ratio {
        numerator: Measure,
        denominator: Measure,
    },
}

impl Kind {
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Mean(_) => "mean",
            Kind::Proportion(_) => "proportion",
            Kind::Ratio { .. } => "ratio",
        }
    }

    /// One measure, or numerator and denominator.
    pub fn measures(&self) -> Vec<&Measure> {
        match self {
            Kind::Mean(measure) | Kind::Proportion(measure) => vec![measure],
            Kind::Ratio {
                numerator,
                denominator,
            } => vec![numerator, denominator],
        }
    }
}

/// One aggregate over the rows of a fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The model that holds the rows.
    pub fact: String,
    pub unit_column: String,
    pub time_column: String,
    pub aggregation: Aggregation,
    /// SQL over the fact's columns; absent for counts of rows.
    pub expression: Option<String>,
    /// SQL condition: the event's name and the filter.
    pub condition: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    Sum,
    Count,
    CountDistinct,
    Max,
    Min,
    /// 1 if any row matches, else 0.
    Any,
}

/// Half-open, from the unit's assignment: `[start, start + length)`; without length, to the end of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    pub start: Duration,
    pub length: Option<Duration>,
}

/// The metric itself in the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covariate {
    pub lookback: Duration,
    /// Before the experiment's first day rather than before the unit's own assignment.
    pub before_period: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Increase,
    Decrease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    NorthStar,
    Driver,
    Guardrail,
    Diagnostic,
    /// A building block, never decided on.
    Component,
}

impl Direction {
    pub fn word(self) -> &'static str {
        match self {
            Direction::Increase => "increase",
            Direction::Decrease => "decrease",
        }
    }
}

impl Tier {
    pub fn word(self) -> &'static str {
        match self {
            Tier::NorthStar => "north_star",
            Tier::Driver => "driver",
            Tier::Guardrail => "guardrail",
            Tier::Diagnostic => "diagnostic",
            Tier::Component => "component",
        }
    }
}
