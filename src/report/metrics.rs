//! The page of metrics: what each is, and how it went in the last days.

use serde::Serialize;

use super::evidence::{Day, Evidence, Metric};
use super::plot::{LINE_HEIGHT, LINE_WIDTH, Line, line};
use super::values;

/// Days that a line shows.
const MOST_DAYS: usize = 90;

#[derive(Serialize)]
pub struct Metrics {
    rows: Vec<Row>,
    width: f64,
    height: f64,
}

#[derive(Serialize)]
struct Row {
    name: String,
    label: String,
    description: Option<String>,
    kind: Option<String>,
    tier: Option<String>,
    owner: Option<String>,
    version: Option<String>,
    window: Option<String>,
    days: Option<Days>,
}

#[derive(Serialize)]
struct Days {
    line: Line,
    first: String,
    last: String,
    value: Option<String>,
}

pub fn view(evidence: &Evidence) -> Metrics {
    let undefined = evidence
        .days
        .keys()
        .filter(|name| !evidence.metrics.contains_key(*name));
    let undefined = undefined.map(|name| Metric {
        metric_name: name.clone(),
        ..Metric::default()
    });
    let metrics = evidence.metrics.values().cloned().chain(undefined);
    Metrics {
        rows: metrics.map(|metric| row(evidence, metric)).collect(),
        width: LINE_WIDTH,
        height: LINE_HEIGHT,
    }
}

fn row(evidence: &Evidence, metric: Metric) -> Row {
    let days = evidence.days.get(&metric.metric_name);
    let window = match (metric.window_start, metric.window_length) {
        (Some(start), Some(length)) if start == "0d" => Some(format!("the first {length}")),
        (Some(start), Some(length)) => Some(format!("{length}, from {start} on")),
        _ => None,
    };
    Row {
        label: evidence.label(&metric.metric_name).to_string(),
        days: days.map(|days| of_days(metric.kind.as_deref(), days)),
        name: metric.metric_name,
        description: metric.description,
        kind: metric.kind,
        tier: metric.tier.map(|tier| tier.replace('_', " ")),
        owner: metric.owner,
        version: metric.version,
        window,
    }
}

fn of_days(kind: Option<&str>, days: &[Day]) -> Days {
    let shown = &days[days.len().saturating_sub(MOST_DAYS)..];
    let numbers: Vec<Option<f64>> = shown.iter().map(Day::value).collect();
    let date = |day: Option<&Day>| day.map(|day| day.metric_date.clone()).unwrap_or_default();
    Days {
        line: line(&numbers),
        first: date(shown.first()),
        last: date(shown.last()),
        value: values::value(kind, numbers.last().copied().flatten()),
    }
}
