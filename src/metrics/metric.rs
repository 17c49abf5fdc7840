//! The checked nouns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

    /// A metric and, if it is derived, all that it is made of, directly or not; the metric first.
    pub fn with_inputs<'a>(&'a self, metric: &'a Metric) -> Vec<&'a Metric> {
        let mut found = vec![metric];
        let mut at = 0;
        while let Some(metric) = found.get(at).copied() {
            if let Kind::Derived { inputs, .. } = &metric.kind {
                for input in inputs.iter().filter_map(|name| self.get(name)) {
                    if !found.iter().any(|known| known.name == input.name) {
                        found.push(input);
                    }
                }
            }
            at += 1;
        }
        found
    }
}

/// A metric that cannot be wrong: its parts exist and fit together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    /// A kept version has no place of its own.
    #[serde(skip, default = "nowhere")]
    pub span: Span,
    pub label: String,
    pub description: String,
    /// Part of the product.
    pub area: Option<String>,
    pub owner: String,
    pub team: Option<String>,
    pub approvers: Vec<String>,
    pub sla: Sla,
    pub tier: Tier,
    pub drives: Vec<String>,
    /// Experiments that get it as a guardrail whether they name it or not.
    pub required_for: Vec<Audience>,
    /// Relative loss that experiments accept at most.
    pub margin: Option<f64>,
    pub version: String,
    /// The metric that this is a second name of.
    pub alias_of: Option<String>,
    pub kind: Kind,
    pub fill: Fill,
    pub window: Window,
    pub maturity: Maturity,
    pub direction: Direction,
    /// Values of a unit above this are taken as this.
    pub cap: Option<Cap>,
    pub covariate: Option<Covariate>,
    pub unit_of_measure: Option<String>,
}

impl Metric {
    /// Whether experiments can be analysed by it; derived and cumulative metrics are for dashboards.
    pub fn is_analysed(&self) -> bool {
        !matches!(self.kind, Kind::Derived { .. } | Kind::Cumulative { .. })
    }

    /// Its name without the version that tells a kept one from the one of today: `net_revenue` of `net_revenue@1.0.0`.
    pub fn plain_name(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }

    /// The number that was frozen as cap, if it was one.
    pub fn frozen_cap(&self) -> Option<f64> {
        match self.cap {
            Some(Cap::At(cap)) => Some(cap),
            _ => None,
        }
    }
}

fn nowhere() -> Span {
    Span::file("")
}

/// What is estimated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Mean over units of a sum or count.
    Mean(Measure),
    /// How many or how much there is in all: a total on dashboards, the mean per unit in experiments.
    Total(Measure),
    /// Share of units with at least one matching event.
    Proportion(Measure),
    /// Share of units that come back: with at least so many matching events in a window that opens later.
    Retention { measure: Measure, at_least: i64 },
    /// Total of the numerator over total of the denominator, by the delta method.
    Ratio {
        numerator: Measure,
        denominator: Measure,
    },
    /// Mean over units of each unit's own ratio.
    MeanOfRatios {
        numerator: Measure,
        denominator: Measure,
    },
    /// A quantile of events, clustered in units, or of a number per unit.
    Quantile {
        measure: Measure,
        q: f64,
        level: Level,
    },
    /// Share of units that do all steps in their order; each measure is a step.
    Funnel { steps: Vec<Measure> },
    /// An expression over the daily values of other metrics.
    #[serde(skip)]
    Derived {
        expression: String,
        inputs: Vec<String>,
    },
    /// A running total by day.
    #[serde(skip)]
    Cumulative { measure: Measure, over: Over },
}

impl Kind {
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Mean(_) => "mean",
            Kind::Total(measure) if measure.aggregation == Aggregation::Sum => "total",
            Kind::Total(_) => "count",
            Kind::Proportion(_) => "proportion",
            Kind::Retention { .. } => "retention",
            Kind::Ratio { .. } => "ratio",
            Kind::MeanOfRatios { .. } => "mean_of_ratios",
            Kind::Quantile { .. } => "quantile",
            Kind::Funnel { .. } => "funnel",
            Kind::Derived { .. } => "derived",
            Kind::Cumulative { .. } => "cumulative",
        }
    }

    /// One measure, numerator and denominator, or the steps; a derived metric has none of its own.
    pub fn measures(&self) -> Vec<&Measure> {
        match self {
            Kind::Mean(measure)
            | Kind::Total(measure)
            | Kind::Proportion(measure)
            | Kind::Retention { measure, .. }
            | Kind::Quantile { measure, .. }
            | Kind::Cumulative { measure, .. } => vec![measure],
            Kind::Ratio {
                numerator,
                denominator,
            }
            | Kind::MeanOfRatios {
                numerator,
                denominator,
            } => vec![numerator, denominator],
            Kind::Funnel { steps } => steps.iter().collect(),
            Kind::Derived { .. } => Vec::new(),
        }
    }

    /// The same, to be changed.
    pub fn measures_mut(&mut self) -> Vec<&mut Measure> {
        match self {
            Kind::Mean(measure)
            | Kind::Total(measure)
            | Kind::Proportion(measure)
            | Kind::Retention { measure, .. }
            | Kind::Quantile { measure, .. }
            | Kind::Cumulative { measure, .. } => vec![measure],
            Kind::Ratio {
                numerator,
                denominator,
            }
            | Kind::MeanOfRatios {
                numerator,
                denominator,
            } => vec![numerator, denominator],
            Kind::Funnel { steps } => steps.iter_mut().collect(),
            Kind::Derived { .. } => Vec::new(),
        }
    }
}

/// What a quantile is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Event,
    Unit,
}

/// How far back a running total goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// So many days, the day itself the last.
    Days(i64),
    /// Since the first day of the day's own month, quarter or year.
    ToDate(&'static str),
    AllTime,
}

/// What a unit without events counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    Zero,
    /// It is left out of the mean.
    Exclude,
    /// It must not be: every unit of an experiment has a value, or the build stops and says how many have none.
    Fail,
}

/// Which units count before their window has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// None: a unit counts once its window closed before the data end.
    FullWindow,
    /// All, with what they have so far.
    Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    /// Frozen beforehand.
    At(f64),
    /// At a quantile of the experiment's units, of all variants pooled or of each by itself.
    Quantile { share: f64, is_pooled: bool },
}

/// Which experiments a guardrail is required for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    Everyone,
    Area(String),
    Owner(String),
    Experiment(String),
}

/// What consumers may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sla {
    /// Age of the newest data at most.
    pub freshness: Option<Duration>,
    /// Share of the data that is there at least.
    pub completeness: Option<f64>,
}

/// One aggregate over the rows of a fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Of a ratio's side: a unit's number above this is taken as this.
    #[serde(default)]
    pub cap: Option<Cap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    Sum,
    Count,
    CountDistinct,
    Max,
    Min,
    /// 1 if any row matches, else 0.
    Any,
}

/// Half-open, from the unit's first assignment: `[start, start + length)`; without length, to the end of the period.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Window {
    pub start: Duration,
    pub length: Option<Duration>,
    /// The zone whose calendar days count; without it a day is 24 hours.
    pub calendar: Option<String>,
}

impl Window {
    /// Where it closes, counted from the assignment.
    pub fn end(&self) -> Option<Duration> {
        self.length.map(|length| Duration {
            seconds: self.start.seconds + length.seconds,
        })
    }
}

/// The metric itself in the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covariate {
    pub lookback: Duration,
    /// Before the experiment's first day rather than before the unit's own assignment.
    pub before_period: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Increase,
    Decrease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    NorthStar,
    Driver,
    Guardrail,
    Diagnostic,
    /// A building block, never decided on.
    Component,
}

impl Fill {
    pub fn word(self) -> &'static str {
        match self {
            Fill::Zero => "zero",
            Fill::Exclude => "exclude",
            Fill::Fail => "fail",
        }
    }
}

impl Maturity {
    pub fn word(self) -> &'static str {
        match self {
            Maturity::FullWindow => "full_window",
            Maturity::Partial => "partial",
        }
    }
}

impl std::fmt::Display for Over {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Over::Days(days) => write!(formatter, "{days}d"),
            Over::ToDate(grain) => formatter.write_str(grain),
            Over::AllTime => formatter.write_str("all_time"),
        }
    }
}

impl std::fmt::Display for Audience {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Audience::Everyone => formatter.write_str("*"),
            Audience::Area(name) => write!(formatter, "area:{name}"),
            Audience::Owner(name) => write!(formatter, "owner:{name}"),
            Audience::Experiment(key) => write!(formatter, "experiment:{key}"),
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "[{}, ", self.start)?;
        match self.end() {
            Some(end) => write!(formatter, "{end}) from the first assignment")?,
            None => write!(formatter, "end of the period) from the first assignment")?,
        }
        match &self.calendar {
            Some(zone) => write!(formatter, ", in calendar days of {zone}"),
            None => Ok(()),
        }
    }
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
