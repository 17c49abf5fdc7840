//! What one fact says of a metric on a day: the columns it needs of each unit and of the day, and its row.
//! In: a metric. Out: SQL for aggregates and rows. How the queries hang together is [`mod@super::daily`]'s.

use super::unit::{self, number, own_ratio};
use crate::manifest::identifier;
use crate::metrics::metric::{Aggregation, Fill, Kind, Level, Measure, Metric, Over};

/// Columns of one fact: its time and its unit.
pub(super) type Place<'a> = (&'a str, &'a str, &'a str);

/// The part of a metric that one fact knows.
pub(super) struct Side<'a> {
    pub metric: &'a Metric,
    /// `numerator` or `denominator` of a ratio of two facts; else all of it.
    pub only: Option<(&'static str, &'a Measure)>,
}

pub(super) fn sides<'a>(metric: &'a Metric) -> Vec<(Place<'a>, Side<'a>)> {
    let is_elsewhere = match &metric.kind {
        Kind::Retention { .. } | Kind::Derived { .. } => true,
        Kind::Cumulative { measure, .. } => measure.aggregation == Aggregation::CountDistinct,
        _ => false,
    };
    if is_elsewhere {
        return Vec::new();
    }
    let measures = metric.kind.measures();
    if !has_two_facts(metric) {
        return vec![(place(measures[0]), Side { metric, only: None })];
    }
    ["numerator", "denominator"]
        .into_iter()
        .zip(measures)
        .map(|(part, measure)| {
            let only = Some((part, measure));
            (place(measure), Side { metric, only })
        })
        .collect()
}

/// Aggregates of the per-unit query, each once however many metrics use it.
#[derive(Default)]
pub(super) struct Columns {
    pub list: Vec<(String, String)>,
}

impl Columns {
    pub fn name(&mut self, metric: &str, part: &str, sql: String) -> String {
        if let Some((_, name)) = self.list.iter().find(|(known, _)| *known == sql) {
            return name.clone();
        }
        let name = identifier(&format!("{metric}__{part}"));
        self.list.push((sql, name.clone()));
        name
    }
}

/// Which columns of a day are a metric's numerator and denominator.
#[derive(Default)]
pub(super) struct Parts {
    pub numerator: String,
    pub denominator: String,
}

impl Side<'_> {
    /// What a day says, from one row per unit; asks for the columns it needs of the units and of the day.
    pub fn parts(&self, columns: &mut Columns, days: &mut Columns) -> Parts {
        let metric = self.metric;
        let names: Vec<(&str, String)> = unit::columns(metric, &|_| None)
            .into_iter()
            .filter(|column| self.only.is_none_or(|(part, _)| part == column.part))
            .map(|column| {
                (
                    column.part,
                    columns.name(&metric.name, column.part, column.sql),
                )
            })
            .map(|(part, name)| (part, number(metric, part, &name)))
            .collect();
        let mut day = |part: &str, sql: String| days.name(&metric.name, part, sql);
        let total = |value: &str| format!("coalesce(sum({value}), 0)");
        if self.only.is_some() || matches!(metric.kind, Kind::Ratio { .. }) {
            let mut parts = Parts::default();
            for (part, value) in &names {
                let name = day(part, total(value));
                match *part {
                    "numerator" => parts.numerator = name,
                    _ => parts.denominator = name,
                }
            }
            return parts;
        }
        let value = match &metric.kind {
            Kind::MeanOfRatios { .. } => own_ratio(metric.fill, &names[0].1, &names[1].1),
            _ => names[0].1.clone(),
        };
        if let Kind::Quantile { q, level, .. } = &metric.kind {
            let known = format!("array_agg({value}) filter (where {value} is not null");
            let values = match level {
                Level::Event => format!("flatten({known}))"),
                Level::Unit => format!("{known} and unit_id is not null)"),
            };
            let quantile = format!("quantile_estimate({values}, {q:?})['quantile']");
            return Parts {
                numerator: day("numerator", quantile),
                ..Parts::default()
            };
        }
        if matches!(metric.kind, Kind::Total(_) | Kind::Cumulative { .. }) {
            return Parts {
                numerator: day("numerator", total(&value)),
                ..Parts::default()
            };
        }
        // Rows without a unit are part of a total, and of no mean over units.
        let counted = match metric.fill {
            Fill::Zero => "unit_id",
            // That a unit has nothing on one day is no fault: `fail` is about the whole window of an experiment's unit.
            Fill::Exclude | Fill::Fail => &value,
        };
        let of_units = "filter (where unit_id is not null)";
        let numerator = format!("coalesce(sum({value}) {of_units}, 0)");
        Parts {
            numerator: day("numerator", numerator),
            denominator: day("denominator", format!("count({counted}) {of_units}")),
        }
    }

    /// The column of a running total.
    pub fn running(&self, parts: &Parts) -> Option<String> {
        let Kind::Cumulative { over, .. } = &self.metric.kind else {
            return None;
        };
        let window = match over {
            Over::Days(days) => format!(
                "order by metric_date range between interval '{} days' preceding and current row",
                days - 1
            ),
            Over::ToDate(grain) => {
                format!("partition by date_trunc('{grain}', metric_date) order by metric_date")
            }
            Over::AllTime => "order by metric_date".to_string(),
        };
        Some(format!(
            "sum({}) over ({window}) as {}",
            parts.numerator,
            self.running_name()
        ))
    }

    fn running_name(&self) -> String {
        identifier(&format!("{}__running", self.metric.name))
    }

    /// The metric's value as one element of a day's list.
    pub fn row(&self, parts: &Parts, whole: &str) -> String {
        let name = &self.metric.name;
        if let Some((part, _)) = self.only {
            return match part {
                "numerator" => row(name, &parts.numerator, "0"),
                _ => row(name, "0", &parts.denominator),
            };
        }
        match self.metric.kind {
            Kind::Cumulative { .. } => row(name, &self.running_name(), whole),
            Kind::Total(_) | Kind::Quantile { .. } => row(name, &parts.numerator, whole),
            _ => row(name, &parts.numerator, &parts.denominator),
        }
    }
}

pub(super) fn row(name: &str, numerator: &str, denominator: &str) -> String {
    format!(
        "named_struct('metric_name', '{name}', 'numerator', cast({numerator} as double), 'denominator', cast({denominator} as double))"
    )
}

pub(super) fn place(measure: &Measure) -> Place<'_> {
    (&measure.fact, &measure.time_column, &measure.unit_column)
}

pub(super) fn has_two_facts(metric: &Metric) -> bool {
    let measures = metric.kind.measures();
    measures
        .iter()
        .any(|measure| place(measure) != place(measures[0]))
}
