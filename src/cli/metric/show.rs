//! `metric list|show|sql|tree`: what metrics are.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Common, Exit, OutputFormat, output};
use super::named;
use crate::compile::{Detail, measure_sql};
use crate::contracts::Lock;
use crate::metrics::{Fill, Kind, Maturity, Metric, Tier, sql as metrics_sql};
use crate::run::{Prepared, meanings};

pub fn list(common: &Common, prepared: &Prepared) -> anyhow::Result<Exit> {
    let metrics = prepared.compiled.metrics.iter();
    let text: String = match common.output {
        OutputFormat::Json => metrics
            .map(|metric| format!("{}\n", as_json(metric)))
            .collect(),
        _ => {
            let columns = [
                "metric",
                "kind",
                "area",
                "tier",
                "direction",
                "owner",
                "version",
            ];
            let mut table = output::plain_table(&columns);
            for metric in metrics {
                let cells = [
                    &metric.name,
                    metric.kind.word(),
                    metric.area.as_deref().unwrap_or(""),
                    metric.tier.word(),
                    metric.direction.word(),
                    &metric.owner,
                    &metric.version,
                ];
                table.add_row(cells);
            }
            format!("{table}\n")
        }
    };
    output::print(&text)?;
    Ok(Exit::Good)
}

fn as_json(metric: &Metric) -> serde_json::Value {
    let required_for: Vec<String> = metric
        .required_for
        .iter()
        .map(ToString::to_string)
        .collect();
    serde_json::json!({
        "name": metric.name, "label": metric.label, "kind": metric.kind.word(), "area": metric.area, "tier": metric.tier.word(),
        "direction": metric.direction.word(), "owner": metric.owner, "team": metric.team, "approvers": metric.approvers,
        "version": metric.version, "drives": metric.drives, "required_for": required_for, "margin": metric.margin,
        "is_analysed": metric.is_analysed(),
    })
}

/// The metric's own SQL by day, and the rows behind each of its measures.
pub fn sql(prepared: &Prepared, name: &str) -> anyhow::Result<Exit> {
    let Some(metric) = named(prepared, name) else {
        return Ok(Exit::Wrong);
    };
    let measures = metric.kind.measures();
    for (at, measure) in measures.iter().enumerate() {
        let Some(sql) = measure_sql(measure, &prepared.manifest) else {
            continue;
        };
        let part = match (&metric.kind, at) {
            (Kind::Ratio { .. } | Kind::MeanOfRatios { .. }, 0) => {
                "the numerator's rows".to_string()
            }
            (Kind::Ratio { .. } | Kind::MeanOfRatios { .. }, _) => {
                "the denominator's rows".to_string()
            }
            (Kind::Funnel { .. }, at) => format!("the rows of step {}", at + 1),
            _ => "the rows".to_string(),
        };
        output::print(&format!("-- {part}\n{sql};\n\n"))?;
    }
    let daily = prepared.compiled.metrics.with_inputs(metric);
    output::print(&format!(
        "-- by day\nselect * from {} as daily\n",
        metrics_sql::daily(&daily)
    ))?;
    Ok(Exit::Good)
}

pub async fn show(prepared: &Prepared, name: &str) -> anyhow::Result<Exit> {
    let Some(metric) = named(prepared, name) else {
        return Ok(Exit::Wrong);
    };
    let mut meanings = meanings(prepared, Detail::Lock).await?;
    let mut text = format!(
        "{}: {}\n{}\n\n{}\n",
        metric.name,
        metric.label,
        metric.description,
        declared(metric) + &kept(prepared, metric)
    );
    if let Some(meaning) = meanings.metrics.remove(&metric.name) {
        let mut lock = Lock::default();
        lock.agree(meaning, "shown, not agreed to", BTreeSet::new());
        text += &lock.to_string();
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

/// The older versions by which running experiments decide.
fn kept(prepared: &Prepared, metric: &Metric) -> String {
    let pins = prepared.compiled.pins.iter();
    let pins = pins.filter(|pin| pin.metric.plain_name() == metric.name);
    let line = |pin: &crate::experiments::Pin| {
        let experiments: Vec<&str> = pin.experiments.iter().map(String::as_str).collect();
        let key = format!("version {}", pin.metric.version);
        format!(
            "{key:<26}decides {} until the end\n",
            experiments.join(", ")
        )
    };
    pins.map(line).collect()
}

/// What the definition says, one line each.
fn declared(metric: &Metric) -> String {
    let mut lines = vec![("kind", metric.kind.word().to_string())];
    if metric.is_analysed() {
        lines.push((
            "units without events",
            match metric.fill {
                Fill::Zero => "count as 0".to_string(),
                Fill::Exclude => "are left out".to_string(),
                Fill::Fail => "stop the build".to_string(),
            },
        ));
        lines.push(("window", metric.window.to_string()));
        lines.push((
            "units with an open window",
            match metric.maturity {
                Maturity::FullWindow => "wait until it closes".to_string(),
                Maturity::Partial => "count with what they have".to_string(),
            },
        ));
    } else {
        lines.push(("used", "on dashboards only".to_string()));
    }
    lines.push(("better is", metric.direction.word().to_string()));
    lines.push(("tier", metric.tier.word().to_string()));
    let optional = [
        ("area", metric.area.clone().unwrap_or_default()),
        ("drives", metric.drives.join(", ")),
        (
            "required for",
            metric
                .required_for
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("team", metric.team.clone().unwrap_or_default()),
        ("approvers", metric.approvers.join(", ")),
    ];
    lines.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()));
    lines.push(("owner", metric.owner.clone()));
    lines.push(("version", metric.version.clone()));
    let line = |(key, value): (&str, String)| format!("{key:<26}{value}\n");
    lines.into_iter().map(line).collect()
}

pub fn tree(prepared: &Prepared) -> anyhow::Result<Exit> {
    let mut drivers: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    for metric in prepared.compiled.metrics.iter() {
        for driven in &metric.drives {
            drivers.entry(driven).or_default().push(metric);
        }
    }
    let mut areas: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    for metric in prepared.compiled.metrics.iter() {
        let area = metric.area.as_deref().unwrap_or("without an area");
        areas.entry(area).or_default().push(metric);
    }
    let mut text = String::new();
    for (area, mut metrics) in areas {
        text += &format!("{area}\n");
        // The north star and what drives it come first; a driver stands below what it drives, wherever that is.
        metrics.retain(|metric| metric.tier != Tier::Driver);
        metrics.sort_by_key(|metric| rank(metric.tier));
        for metric in metrics {
            branch(metric, &drivers, &mut vec![""], &mut text);
        }
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

fn rank(tier: Tier) -> u8 {
    match tier {
        Tier::NorthStar => 0,
        Tier::Driver => 1,
        Tier::Guardrail => 2,
        Tier::Diagnostic => 3,
        Tier::Component => 4,
    }
}

fn branch<'a>(
    metric: &'a Metric,
    drivers: &BTreeMap<&str, Vec<&'a Metric>>,
    path: &mut Vec<&'a str>,
    text: &mut String,
) {
    let indent = "  ".repeat(path.len());
    let required = match metric.required_for.is_empty() {
        true => String::new(),
        false => format!(
            ", required for {}",
            metric
                .required_for
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    *text += &format!(
        "{indent}{} ({}, {}{required})\n",
        metric.name,
        metric.tier.word(),
        metric.owner
    );
    // A circle of metrics that drive each other is shown once around.
    if path.contains(&metric.name.as_str()) {
        return;
    }
    path.push(&metric.name);
    for driver in drivers.get(metric.name.as_str()).into_iter().flatten() {
        branch(driver, drivers, path, text);
    }
    path.pop();
}
