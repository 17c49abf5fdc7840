//! How old the newest rows of sources are, against the ages that their YAML allows.
//! In: a prepared project and source tables of it. Out: [`SourceAges`]: for each table when its rows were loaded, and what to say of it.
//! Told by the clock of the command, as in dbt: `data_ends_at` is the clock of experiments, and a delivery that stopped is late by any
//! data that have an end. What metrics promise of built data is another question (`sla`).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::memory::{causes, exhausted, first_line};
use super::prepare::Prepared;
use super::results::Began;
use crate::diagnostics::{Code, Diagnostic};
use crate::engine::Engine;
use crate::graph::Selection;
use crate::manifest::{Age, Freshness, LoadedAt, Node, NodeId, NodeKind, SourceTable};

/// The ages of source tables, in the order of the YAML.
#[derive(Debug, Clone, Default)]
pub struct SourceAges {
    pub sources: Vec<SourceAge>,
    pub elapsed: Duration,
}

#[derive(Debug, Clone)]
pub struct SourceAge {
    pub id: NodeId,
    pub status: FreshnessStatus,
    /// When the newest of its rows was loaded; nothing if there is none, or nobody knows.
    pub loaded_at: Option<DateTime<Utc>>,
    /// Unless it passed: how late it is, or why nobody knows.
    pub diagnostic: Option<Diagnostic>,
    pub began: Began,
    pub elapsed: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshnessStatus {
    Pass,
    Warn,
    Error,
    /// It could not be asked.
    Broken,
}

impl FreshnessStatus {
    /// dbt's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Broken => "runtime error",
        }
    }
}

impl SourceAges {
    pub fn has_failed(&self) -> bool {
        let fails = [FreshnessStatus::Error, FreshnessStatus::Broken];
        self.sources
            .iter()
            .any(|source| fails.contains(&source.status))
    }

    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let sources = self.sources.iter();
        sources
            .filter_map(|source| source.diagnostic.clone())
            .collect()
    }
}

/// Asks the selected source tables whose age is judged, one after the other.
pub async fn source_ages(
    prepared: &Prepared,
    selection: &Selection,
    engine: &Engine,
) -> anyhow::Result<SourceAges> {
    let started = prepared.opened.elapsed();
    let nodes = || prepared.manifest.nodes.iter();
    for node in nodes().filter(|node| matches!(node.kind, NodeKind::Source(_))) {
        prepared.offer_source(engine, node).await?;
    }
    let mut ages = SourceAges::default();
    for node in nodes().filter(|node| selection.contains(node.id)) {
        let Some((table, freshness)) = node.judged() else {
            continue;
        };
        let after = prepared.opened.elapsed();
        let asked = Asked {
            prepared,
            node,
            table,
            freshness,
        };
        let (status, loaded_at, diagnostic) = asked.judged(engine).await;
        ages.sources.push(SourceAge {
            id: node.id,
            status,
            loaded_at,
            diagnostic,
            began: Began { after, thread: 1 },
            elapsed: prepared.opened.elapsed() - after,
        });
    }
    ages.elapsed = prepared.opened.elapsed() - started;
    Ok(ages)
}

/// One source table whose age is judged.
struct Asked<'a> {
    prepared: &'a Prepared,
    node: &'a Node,
    table: &'a SourceTable,
    freshness: &'a Freshness,
}

type Judged = (FreshnessStatus, Option<DateTime<Utc>>, Option<Diagnostic>);

impl Asked<'_> {
    async fn judged(&self, engine: &Engine) -> Judged {
        let loaded_at = match self.prepared.compiled.freshness.get(&self.node.id) {
            Some(query) => self.newest_row(engine, query).await,
            None => Ok(self.newest_file()),
        };
        let loaded_at = match loaded_at {
            Ok(loaded_at) => loaded_at,
            Err(why) => return (FreshnessStatus::Broken, None, Some(*why)),
        };
        let limits = [
            (&self.freshness.error_after, FreshnessStatus::Error),
            (&self.freshness.warn_after, FreshnessStatus::Warn),
        ];
        for (limit, status) in limits {
            if let Some(limit) = limit
                && self.is_over(limit, loaded_at)
            {
                return (status, loaded_at, Some(self.late(limit, status, loaded_at)));
            }
        }
        (FreshnessStatus::Pass, loaded_at, None)
    }

    /// Exactly that old is not too old; what never came is older than any age.
    fn is_over(&self, limit: &Age, loaded_at: Option<DateTime<Utc>>) -> bool {
        let limit = TimeDelta::try_seconds(limit.seconds()).unwrap_or(TimeDelta::MAX);
        loaded_at.is_none_or(|loaded_at| self.prepared.clock() - loaded_at > limit)
    }

    /// The one number that the query gives; nothing for no row, and for null.
    async fn newest_row(
        &self,
        engine: &Engine,
        query: &str,
    ) -> Result<Option<DateTime<Utc>>, Box<Diagnostic>> {
        let rows = engine.rows(query, None).await;
        let cells = rows.and_then(|rows| rows.cells());
        let cells = cells.map_err(|error| self.failure(&error.strip_backtrace()))?;
        if cells.len() > 1 {
            let reason = format!("its query gives {} rows, not one", cells.len());
            let hint = "select one time, such as `select max(loaded_at) from {{ this }}`";
            return Err(self.broken(&reason, hint));
        }
        let cell = cells.into_iter().flatten().next().flatten();
        let micros = cell.and_then(|text| text.parse().ok());
        let of_micros = |micros| {
            DateTime::from_timestamp_micros(micros).unwrap_or(match micros < 0 {
                true => DateTime::<Utc>::MIN_UTC,
                false => DateTime::<Utc>::MAX_UTC,
            })
        };
        Ok(micros.map(of_micros))
    }

    fn newest_file(&self) -> Option<DateTime<Utc>> {
        let (_, table) = self.prepared.inspected.get(&self.node.id)?;
        let times = table.files.iter().map(|file| file.state.modified());
        times.max().map(DateTime::<Utc>::from)
    }

    fn failure(&self, message: &str) -> Box<Diagnostic> {
        let what = format!("`{}`", self.node.name);
        match exhausted(self.prepared, &what, message) {
            Some(large) => Box::new(large.at(self.node.span.clone())),
            None => {
                let hint = "leave out values that are no times with `filter`, or make them null with `try_cast`";
                self.broken(first_line(causes(message).1), hint)
            }
        }
    }

    fn broken(&self, reason: &str, hint: &str) -> Box<Diagnostic> {
        let place = match &self.table.loaded_at {
            LoadedAt::Field(spot) | LoadedAt::Query(spot) => spot.span.clone(),
            LoadedAt::Files => self.node.span.clone(),
        };
        let message = format!("how new `{}` is cannot be asked: {reason}", self.node.name);
        let broken = Diagnostic::error(Code::E0801, message);
        Box::new(broken.at(place).hint(hint))
    }

    fn late(
        &self,
        limit: &Age,
        status: FreshnessStatus,
        loaded_at: Option<DateTime<Utc>>,
    ) -> Diagnostic {
        let message = self.why_late(loaded_at);
        let late = match status {
            FreshnessStatus::Warn => Diagnostic::warning(Code::E0806, message),
            _ => Diagnostic::error(Code::E0806, message),
        };
        late.at(limit.span.clone())
            .also(self.node.span.clone(), "the source table")
            .note(format!("it may be {limit} old"))
            .hint("look at what delivers it")
    }

    fn why_late(&self, loaded_at: Option<DateTime<Utc>>) -> String {
        let name = &self.node.name;
        let now = self.prepared.clock();
        let minute = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M").to_string();
        let Some(loaded_at) = loaded_at else {
            return match (&self.table.loaded_at, &self.freshness.filter) {
                (LoadedAt::Query(_), _) => {
                    format!("the `loaded_at_query` of `{name}` finds no time")
                }
                (_, Some(_)) => format!("`{name}` has no row with a time that its `filter` takes"),
                (_, None) => format!("`{name}` has no row with a time"),
            };
        };
        let newest = match self.table.loaded_at {
            LoadedAt::Files => "file was written",
            _ => "row was loaded",
        };
        format!(
            "`{name}` is late: its newest {newest} at {}, {} before {}",
            minute(loaded_at),
            words(now - loaded_at),
            minute(now)
        )
    }
}

/// A length of time in its two largest units: `2 d 4 h`.
pub fn words(length: TimeDelta) -> String {
    let sign = if length < TimeDelta::zero() { "-" } else { "" };
    let seconds = length.num_seconds().unsigned_abs();
    let [days, hours, minutes] = [86_400, 3_600, 60].map(|unit| seconds / unit);
    let text = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => two((hours, "h"), (minutes % 60, "min")),
        (days, hours, _) => two((days, "d"), (hours % 24, "h")),
    };
    format!("{sign}{text}")
}

fn two(large: (u64, &str), small: (u64, &str)) -> String {
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        _ => format!("{} {} {} {}", large.0, large.1, small.0, small.1),
    }
}

#[cfg(test)]
mod tests {
    use super::{TimeDelta, words};

    #[test]
    fn ages_are_told_in_two_units() {
        let told = [0, 59, 90, 3_600, 5_400, 86_400, 200_000, -7_260];
        let told = told.map(|seconds| words(TimeDelta::seconds(seconds)));
        assert_eq!(
            told,
            [
                "0 s",
                "59 s",
                "1 min",
                "1 h",
                "1 h 30 min",
                "1 d",
                "2 d 7 h",
                "-2 h 1 min"
            ]
        );
    }
}
