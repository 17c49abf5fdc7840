//! Whether the data of metrics are as new and as complete as their SLAs promise.
//! In: a project and an engine that knows what is published. Out: a warning per promise that is not kept. `freshness` is the age of
//! the newest row that counts; `completeness` the share of the last 28 whole days that have one. Both are told by the clock by
//! which experiments run.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDateTime};

use super::prepare::Prepared;
use crate::compile::experiment_clock;
use crate::diagnostics::{Code, Diagnostic};
use crate::engine::Engine;
use crate::manifest::identifier;
use crate::metrics::{Measure, Metric};

/// Days over which completeness is told: four of every weekday.
const DAYS: u64 = 28;

/// Every promise that the published data break; `is_published` says which facts there are.
pub async fn late(
    prepared: &Prepared,
    engine: &Engine,
    is_published: &(dyn Fn(&str) -> bool + Sync),
) -> anyhow::Result<Vec<Diagnostic>> {
    let now = experiment_clock(&prepared.manifest);
    let metrics = &prepared.compiled.metrics;
    let promised = metrics
        .iter()
        .filter(|metric| metric.sla.freshness.is_some() || metric.sla.completeness.is_some());
    let mut by_fact: BTreeMap<&str, Vec<(&Metric, &Measure)>> = BTreeMap::new();
    for metric in promised {
        let parts = metrics.with_inputs(metric).into_iter();
        for measure in parts.flat_map(|part| part.kind.measures()) {
            by_fact
                .entry(&measure.fact)
                .or_default()
                .push((metric, measure));
        }
    }
    let mut found = vec![];
    by_fact.retain(|fact, _| is_published(fact));
    for (fact, measures) in by_fact {
        let sql = seen_sql(fact, &measures, now);
        let cells = engine.rows(&sql, None).await?.cells()?;
        let mut row = cells.into_iter().flatten();
        for (metric, _) in measures {
            let mut next = || row.next().flatten();
            let seen = Seen {
                first: next().and_then(instant),
                newest: next().and_then(instant),
                days: next().and_then(|days| days.parse().ok()).unwrap_or(0),
            };
            for diagnostic in broken(metric, fact, &seen, now) {
                // A ratio whose parts are both late is late once.
                if !found.contains(&diagnostic) {
                    found.push(diagnostic);
                }
            }
        }
    }
    Ok(found)
}

/// What there is of the rows of a measure.
struct Seen {
    first: Option<NaiveDateTime>,
    newest: Option<NaiveDateTime>,
    /// Of the last days, those with a row.
    days: u64,
}

/// First and newest row and the days with rows, three columns for each measure of a fact.
fn seen_sql(fact: &str, measures: &[(&Metric, &Measure)], now: NaiveDateTime) -> String {
    let (from, to) = last_days(now);
    let of = |(at, (_, measure)): (usize, &(&Metric, &Measure))| {
        let time = identifier(&measure.time_column);
        let condition = measure.condition.as_deref().unwrap_or("true");
        format!(
            "cast(min({time}) filter (where {condition}) as varchar) as first_{at}, \
             cast(max({time}) filter (where {condition}) as varchar) as newest_{at}, \
             count(distinct cast({time} as date)) filter (\
             where ({condition}) and {time} >= timestamp '{from}' and {time} < timestamp '{to}') as days_{at}"
        )
    };
    let columns: Vec<String> = measures.iter().enumerate().map(of).collect();
    format!("select {} from {}", columns.join(", "), identifier(fact))
}

/// The last whole days before the clock.
fn last_days(now: NaiveDateTime) -> (NaiveDateTime, NaiveDateTime) {
    let to = now.date().and_hms_opt(0, 0, 0).unwrap_or(now);
    (to.checked_sub_days(Days::new(DAYS)).unwrap_or(to), to)
}

fn broken(metric: &Metric, fact: &str, seen: &Seen, now: NaiveDateTime) -> Vec<Diagnostic> {
    let stale = stale(metric, fact, seen, now);
    let thin = thin(metric, fact, seen, now);
    stale.into_iter().chain(thin).collect()
}

fn stale(metric: &Metric, fact: &str, seen: &Seen, now: NaiveDateTime) -> Option<Diagnostic> {
    let promise = metric.sla.freshness?;
    let what = match seen.newest {
        None => format!("`{}` has no row in `{fact}`", metric.name),
        Some(newest) => {
            let age = (now - newest).num_seconds();
            if age <= promise.seconds {
                return None;
            }
            format!(
                "`{}` is late: its newest row in `{fact}` is of {}, {} h before {}",
                metric.name,
                newest.format("%Y-%m-%d %H:%M"),
                age / 3_600,
                now.format("%Y-%m-%d %H:%M")
            )
        }
    };
    Some(unkept(metric, what, format!("freshness: {promise}")))
}

fn thin(metric: &Metric, fact: &str, seen: &Seen, now: NaiveDateTime) -> Option<Diagnostic> {
    let promise = metric.sla.completeness?;
    let (from, to) = last_days(now);
    let first = seen.first?.date().and_hms_opt(0, 0, 0)?.max(from);
    let days = u64::try_from((to - first).num_days())
        .ok()
        .filter(|days| *days > 0)?;
    let share = seen.days as f64 / days as f64;
    (share < promise).then(|| {
        let what = format!(
            "`{}` has rows in `{fact}` on {} of the {days} days before {}",
            metric.name,
            seen.days,
            to.date()
        );
        unkept(metric, what, format!("completeness: {promise}"))
    })
}

fn unkept(metric: &Metric, what: String, promise: String) -> Diagnostic {
    Diagnostic::warning(Code::E0804, what)
        .at(metric.span.clone())
        .note(format!(
            "its SLA promises `{promise}`; {} answers for it",
            metric.owner
        ))
        .hint("look at what delivers the rows; numbers of the missing time are not there yet")
}

fn instant(text: String) -> Option<NaiveDateTime> {
    let text = text.trim_end_matches('Z').replace('T', " ");
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok()
}
