//! What the metric operator computes, in the narrowest words: sources, experiments, metrics, segments.
//! In: JSON or [`super::planned`]. Out: a [`MetricPlan`]; [`MetricPlan::fault`] says what is wrong with it. No data.

use serde::{Deserialize, Serialize};

use super::Duration;

/// States to fill for every experiment x variant x metric x segment, all in one pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricPlan {
    pub events: EventSource,
    /// Events of further tables. Positions of values and codes go on from table to table, and names must tell tables apart.
    #[serde(default)]
    pub more_events: Vec<EventSource>,
    pub assignments: AssignmentSource,
    pub experiments: Vec<ExperimentPlan>,
    pub metrics: Vec<MetricStates>,
    /// Metrics that no running total can answer; they cost more per unit.
    #[serde(default)]
    pub specials: Vec<SpecialMetric>,
    /// Microseconds since 1970 up to which the data are complete, exclusive: decides which windows are full.
    pub complete_through: i64,
    /// The same where only the data know it, to which metrics refer by position.
    #[serde(default)]
    pub data_ends: Vec<DataEnd>,
}

/// SQL for instants up to which data are complete. Those of a unit are up to the least of them and of when its row says that it is
/// measured until; one that is NULL says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DataEnd(pub Vec<String>);

/// Where events come from; all columns are SQL expressions over the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSource {
    pub table: String,
    pub unit: String,
    pub time: String,
    pub name: String,
    /// Numbers that measures refer to by position; a NULL takes no part in any aggregate.
    #[serde(default)]
    pub values: Vec<String>,
    /// Expressions of any type of which distinct values are counted.
    #[serde(default)]
    pub codes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignmentSource {
    pub table: String,
    pub unit: String,
    pub time: String,
    pub experiment: String,
    pub variant: String,
    /// The unit's attributes at assignment that segments are made of.
    #[serde(default)]
    pub segments: Vec<String>,
    /// Rows for which this SQL condition does not hold are left out.
    #[serde(default)]
    pub condition: Option<String>,
    /// When the row's experiment started and until when its events are measured, where the rows say so themselves instead
    /// of [`ExperimentPlan::from`] and [`ExperimentPlan::measured_until`].
    #[serde(default)]
    pub period: Option<PeriodColumns>,
}

/// SQL expressions over the assignments; NULL measures nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodColumns {
    pub starts_at: String,
    pub measured_until: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentPlan {
    pub key: String,
    pub variants: Vec<String>,
    /// Microseconds since 1970; assignments outside `from..to` are ignored.
    #[serde(default = "earliest")]
    pub from: i64,
    #[serde(default = "latest")]
    pub to: i64,
    /// Events at or after this instant are not measured.
    #[serde(default = "latest")]
    pub measured_until: i64,
    /// Leaves out units that were seen in two variants; they are counted as `crossed_over` in any case.
    #[serde(default = "yes")]
    pub excludes_crossed_over: bool,
    /// Names of the metrics that get rows; without it all do.
    #[serde(default)]
    pub metrics: Option<Vec<String>>,
    /// Each entry is a set of segment columns to report by; the empty set is everybody.
    #[serde(default = "everybody")]
    pub segments: Vec<Vec<String>>,
}

/// One metric: which numbers of a unit make up its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricStates {
    pub name: String,
    pub value: Measure,
    #[serde(default)]
    pub denominator: Option<Measure>,
    /// Seconds after the first assignment at which the window opens, and how long it is open.
    #[serde(default)]
    pub window_start: i64,
    /// Without it, to the end of what is measured.
    #[serde(default)]
    pub window_length: Option<i64>,
    /// Seconds before the first assignment over which the same measures are taken as covariates.
    #[serde(default)]
    pub lookback: Option<i64>,
    /// The lookback ends where the experiment starts (`from`) instead of at the unit's own assignment.
    #[serde(default)]
    pub lookback_before_period: bool,
    #[serde(default)]
    pub maturity: Maturity,
    /// Position in [`MetricPlan::data_ends`]; without it the data end at [`MetricPlan::complete_through`].
    #[serde(default)]
    pub data_end: Option<usize>,
}

/// A number per unit and window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Name of the events that count; without it all do.
    #[serde(default)]
    pub event: Option<String>,
    pub aggregate: Aggregate,
    /// Position in the values of all [`EventSource`]s; without it events themselves are counted.
    #[serde(default)]
    pub value: Option<usize>,
    /// The unit's number is at most this: a cap that was frozen beforehand.
    #[serde(default)]
    pub cap: Option<f64>,
    /// For [`Aggregate::Any`]: how many events it takes.
    #[serde(default = "one")]
    pub at_least: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    Count,
    Sum,
    /// 1 when there were at least [`Measure::at_least`] events, else 0: conversion, retention.
    Any,
    /// Largest value, 0 when there was none.
    Max,
    /// Least value, 0 when there was none.
    Min,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// Only units whose window closed before the data end.
    #[default]
    FullWindow,
    Partial,
}

/// A metric for which each unit's events in each window are looked at one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialMetric {
    pub name: String,
    pub number: UnitNumber,
    /// A cap for each number of the unit: the value, or both sides of a ratio.
    pub caps: Vec<Option<Cap>>,
    #[serde(default)]
    pub fill: Fill,
    /// As those of [`MetricStates`].
    #[serde(default)]
    pub window_start: i64,
    #[serde(default)]
    pub window_length: Option<i64>,
    /// The zone of whose calendar a day of the window is; it starts and ends at midnight there.
    #[serde(default)]
    pub calendar: Option<String>,
    #[serde(default)]
    pub lookback: Option<i64>,
    #[serde(default)]
    pub lookback_before_period: bool,
    #[serde(default)]
    pub maturity: Maturity,
    #[serde(default)]
    pub data_end: Option<usize>,
    /// The state is that of a quantile of the numbers instead of their mean.
    #[serde(default)]
    pub quantile: Option<f64>,
}

/// What is known of a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitNumber {
    One(SpecialMeasure),
    /// Two numbers, whose totals are divided.
    Ratio(SpecialMeasure, SpecialMeasure),
    /// The quotient of two.
    OwnRatio(SpecialMeasure, SpecialMeasure),
    /// The values of all its events, for a quantile of events.
    Every(SpecialMeasure),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialMeasure {
    /// As those of [`Measure`].
    #[serde(default)]
    pub event: Option<String>,
    pub aggregate: SpecialAggregate,
    #[serde(default)]
    pub value: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialAggregate {
    Count,
    Sum,
    Max,
    Min,
    /// 1 when there were at least so many events, else nothing.
    Any(u32),
    /// How many distinct values; the position is one among the codes.
    Distinct,
    /// 1 when all of so many steps were gone in their order, 0 when some were. Bit k of the value says that an event is step k + 1.
    Steps(u32),
}

/// What a unit without a value counts as; before the assignment it is always zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    #[default]
    Zero,
    Exclude,
    /// There must be none.
    Fail,
}

/// The most that a unit's number is taken as.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    At(f64),
    /// A quantile of the units of the experiment, of all variants or of each.
    Quantile {
        share: f64,
        is_pooled: bool,
    },
}

impl SpecialMetric {
    /// How many numbers a unit has, as [`MetricStates::width`].
    pub fn width(&self) -> usize {
        self.measured() * (1 + usize::from(self.lookback.is_some()))
    }

    /// Numbers of the window alone.
    pub fn measured(&self) -> usize {
        match self.number {
            UnitNumber::Ratio(..) => 2,
            _ => 1,
        }
    }

    pub fn measures(&self) -> Vec<&SpecialMeasure> {
        match &self.number {
            UnitNumber::One(one) | UnitNumber::Every(one) => vec![one],
            UnitNumber::Ratio(one, other) | UnitNumber::OwnRatio(one, other) => vec![one, other],
        }
    }

    /// The state of what was before is no part of the other: it has units that the other leaves out.
    pub fn has_before_apart(&self) -> bool {
        self.lookback.is_some() && self.fill != Fill::Zero
    }

    fn fault(&self, values: usize, codes: usize) -> Option<String> {
        let name = &self.name;
        let window = (self.window_start, self.window_length, self.lookback);
        if let Some(fault) = window_fault(name, window) {
            return Some(fault);
        }
        if self.caps.len() != self.measured() {
            return Some(format!(
                "metric `{name}` needs a cap or null for each number"
            ));
        }
        self.measures().into_iter().find_map(|measure| {
            let is_free = |at: usize| match measure.aggregate {
                SpecialAggregate::Distinct => at < codes,
                _ => at < values,
            };
            let is_right = match (measure.aggregate, measure.value) {
                (SpecialAggregate::Count | SpecialAggregate::Any(_), None) => true,
                (_, None) => false,
                (_, Some(at)) => is_free(at),
            };
            (!is_right).then(|| format!("metric `{name}` has no value to aggregate"))
        })
    }
}

impl MetricStates {
    /// How many numbers a unit has: value, denominator, and the same again for the pre-period.
    pub fn width(&self) -> usize {
        let measured = 1 + usize::from(self.denominator.is_some());
        measured * (1 + usize::from(self.lookback.is_some()))
    }

    /// Seconds after the assignment at which a window closes that must be full, and the end of data before which.
    pub fn full_end(&self) -> Option<(i64, Option<usize>)> {
        let length = self.window_length?;
        let is_full = self.maturity == Maturity::FullWindow;
        is_full.then_some((self.window_start + length, self.data_end))
    }

    /// Measures of the window, in the order of the state.
    pub fn measures(&self) -> impl Iterator<Item = &Measure> {
        std::iter::once(&self.value).chain(&self.denominator)
    }
}

impl ExperimentPlan {
    /// Whether rows of the metric are wanted.
    pub fn wants(&self, metric: &str) -> bool {
        self.metrics
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| name == metric))
    }
}

impl MetricPlan {
    /// All sets of segment columns that some experiment reports by, each once.
    pub fn segment_sets(&self) -> Vec<Vec<String>> {
        let mut sets: Vec<Vec<String>> = Vec::new();
        for set in self
            .experiments
            .iter()
            .flat_map(|experiment| &experiment.segments)
        {
            if !sets.contains(set) {
                sets.push(set.clone());
            }
        }
        sets
    }

    /// The first thing that makes the plan impossible to compute, in words.
    pub fn fault(&self) -> Option<String> {
        let variants = |experiment: &&ExperimentPlan| {
            experiment.variants.is_empty() || experiment.variants.len() > 255
        };
        if let Some(experiment) = self.experiments.iter().find(variants) {
            return Some(format!(
                "experiment `{}` must have 1 to 255 variants",
                experiment.key
            ));
        }
        let mut ends: Vec<_> = self.metrics.iter().map(MetricStates::full_end).collect();
        ends.sort_unstable();
        ends.dedup();
        if ends.len() > 64 {
            return Some(
                "more than 64 windows that must be full by their lengths and ends of data"
                    .to_owned(),
            );
        }
        if let Some(fault) = self.data_end_fault() {
            return Some(fault);
        }
        let segments = self.segment_sets();
        if let Some(unknown) = segments
            .iter()
            .flatten()
            .find(|segment| !self.assignments.segments.contains(segment))
        {
            return Some(format!(
                "segment `{unknown}` is not a column of the assignments"
            ));
        }
        let values = self.sources().map(|source| source.values.len()).sum();
        let codes = self.sources().map(|source| source.codes.len()).sum();
        let metrics = self.metrics.iter();
        let specials = self.specials.iter();
        metrics
            .map(|metric| self.metric_fault(metric, values))
            .chain(specials.map(|metric| metric.fault(values, codes)))
            .flatten()
            .next()
    }

    /// All tables of events.
    pub fn sources(&self) -> impl Iterator<Item = &EventSource> {
        std::iter::once(&self.events).chain(&self.more_events)
    }

    /// Of every metric: start and length of its window, and its lookback, in seconds. Days of a calendar may be an hour longer.
    pub fn windows(&self) -> impl Iterator<Item = (i64, Option<i64>, Option<i64>)> {
        let metrics = self.metrics.iter();
        let specials = self.specials.iter().map(|metric| {
            let slack = if metric.calendar.is_some() {
                2 * 86_400
            } else {
                0
            };
            let length = metric.window_length.map(|length| length + slack);
            (metric.window_start, length, metric.lookback)
        });
        metrics
            .map(|metric| (metric.window_start, metric.window_length, metric.lookback))
            .chain(specials)
    }

    fn data_end_fault(&self) -> Option<String> {
        let ends = self.data_ends.len();
        let metrics = self.metrics.iter();
        let metrics = metrics.map(|metric| (&metric.name, metric.data_end));
        let specials = self.specials.iter();
        let specials = specials.map(|metric| (&metric.name, metric.data_end));
        let unknown = metrics.chain(specials).find_map(|(name, end)| {
            let end = end.filter(|end| *end >= ends)?;
            Some(format!(
                "metric `{name}` refers to end {end} of {ends} of the data"
            ))
        });
        let is_empty = |end: &DataEnd| end.0.is_empty();
        let says_nothing = self.data_ends.iter().any(is_empty);
        unknown.or(says_nothing.then(|| "an end of the data needs an instant".to_owned()))
    }

    fn metric_fault(&self, metric: &MetricStates, values: usize) -> Option<String> {
        let name = &metric.name;
        let window = (metric.window_start, metric.window_length, metric.lookback);
        if let Some(fault) = window_fault(name, window) {
            return Some(fault);
        }
        for measure in metric.measures() {
            let needs_value = matches!(
                measure.aggregate,
                Aggregate::Sum | Aggregate::Max | Aggregate::Min
            );
            match measure.value {
                None if needs_value => {
                    return Some(format!("metric `{name}` needs a value to aggregate"));
                }
                Some(value) if value >= values => {
                    return Some(format!(
                        "metric `{name}` refers to value {value} of {values}"
                    ));
                }
                _ => {}
            }
        }
        None
    }
}

/// What is wrong with start and length of a window and its lookback, in seconds.
fn window_fault(
    name: &str,
    (start, length, lookback): (i64, Option<i64>, Option<i64>),
) -> Option<String> {
    let mut lengths = length.into_iter().chain(lookback);
    if lengths.clone().any(|length| length <= 0) {
        return Some(format!("metric `{name}` has an empty window"));
    }
    // Within it, no instant leaves its 64 bits.
    let is_long = |length: i64| length.unsigned_abs() > Duration::MOST.seconds.unsigned_abs();
    (is_long(start) || lengths.any(is_long))
        .then(|| format!("metric `{name}` has a window of more than fifty years"))
}

/// What rows say of a set of segment columns: their names, without the quotation marks that SQL may need.
pub fn dimension(columns: &[String]) -> String {
    let name = |column: &String| {
        let quoted = column
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        quoted.map_or_else(|| column.clone(), |name| name.replace("\"\"", "\""))
    };
    match columns {
        [] => "all".to_owned(),
        columns => columns.iter().map(name).collect::<Vec<_>>().join(" x "),
    }
}

fn everybody() -> Vec<Vec<String>> {
    vec![Vec::new()]
}

fn earliest() -> i64 {
    i64::MIN
}

fn latest() -> i64 {
    i64::MAX
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}
