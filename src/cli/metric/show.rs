//! `metric list|show|sql|tree`: what metrics are.

use std::collections::BTreeMap;

use super::super::{Common, Exit, OutputFormat, output};
use super::named;
use crate::compile::{Detail, measure_sql};
use crate::contracts::Lock;
use crate::metrics::Metric;
use crate::run::{Prepared, meanings};

pub fn list(common: &Common, prepared: &Prepared) -> anyhow::Result<Exit> {
    let metrics = prepared.compiled.metrics.iter();
    let text: String = match common.output {
        OutputFormat::Json => metrics
            .map(|metric| format!("{}\n", as_json(metric)))
            .collect(),
        _ => {
            let columns = ["metric", "kind", "tier", "direction", "owner", "version"];
            let mut table = output::plain_table(&columns);
            for metric in metrics {
                let cells = [
                    &metric.name,
                    metric.kind.word(),
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
    serde_json::json!({
        "name": metric.name, "label": metric.label, "kind": metric.kind.word(), "tier": metric.tier.word(),
        "direction": metric.direction.word(), "owner": metric.owner, "version": metric.version, "drives": metric.drives,
    })
}

pub fn sql(prepared: &Prepared, name: &str) -> anyhow::Result<Exit> {
    let Some(metric) = named(prepared, name) else {
        return Ok(Exit::Wrong);
    };
    let measures = metric.kind.measures();
    for (part, measure) in ["numerator", "denominator"].iter().zip(&measures) {
        let Some(sql) = measure_sql(measure, &prepared.manifest) else {
            continue;
        };
        if measures.len() > 1 {
            output::print(&format!("-- {part}\n"))?;
        }
        output::print(&format!("{sql}\n\n"))?;
    }
    Ok(Exit::Good)
}

pub async fn show(prepared: &Prepared, name: &str) -> anyhow::Result<Exit> {
    let Some(metric) = named(prepared, name) else {
        return Ok(Exit::Wrong);
    };
    let mut meanings = meanings(prepared, Detail::Lock).await?;
    let mut text = format!(
        "{}: {}\n{}\n",
        metric.name, metric.label, metric.description
    );
    if let Some(meaning) = meanings.metrics.remove(&metric.name) {
        let mut lock = Lock::default();
        lock.agree(meaning, "shown, not agreed to");
        text += &lock.to_string();
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

pub fn tree(prepared: &Prepared) -> anyhow::Result<Exit> {
    let mut drivers: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
    for metric in prepared.compiled.metrics.iter() {
        for driven in &metric.drives {
            drivers.entry(driven).or_default().push(metric);
        }
    }
    let mut text = String::new();
    for metric in prepared.compiled.metrics.iter() {
        if metric.drives.is_empty() {
            branch(metric, &drivers, &mut vec![], &mut text);
        }
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

fn branch<'a>(
    metric: &'a Metric,
    drivers: &BTreeMap<&str, Vec<&'a Metric>>,
    path: &mut Vec<&'a str>,
    text: &mut String,
) {
    let indent = "  ".repeat(path.len());
    *text += &format!(
        "{indent}{} ({}, {})\n",
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
