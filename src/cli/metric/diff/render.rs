//! A report of changed metrics for people, for machines, and for the comment of a pull request.

use std::collections::BTreeMap;

use super::super::super::output;
use super::{Change, Report};
use crate::contracts::Bump;
use crate::engine::witness::CounterExample;
use crate::run::{Day, Estimate, Impact, Reading};

/// Days shown to people; machines get all.
const DAYS: usize = 10;

pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text += &format!("{}\n", headline(change));
        for part in &change.drift.changes {
            text += &format!("  {}\n", part.words());
        }
        if let Some(example) = &change.counter_example {
            text += &format!(
                "  on these rows the two differ:\n{}",
                indented(&rows(example))
            );
        }
    }
    for name in &report.new {
        text += &format!("{name} (new, not in {})\n", report.base);
    }
    for name in &report.gone {
        text += &format!("{name} (in {}, but there is no such metric)\n", report.base);
    }
    if text.is_empty() {
        return format!("every metric means what it did in {}\n", report.base);
    }
    if let Some(impact) = &report.impact {
        text += &format!("\n{}", numbers(impact, &plain_table));
    }
    text
}

pub fn markdown(report: &Report) -> String {
    let mut text = format!("## Metrics against `{}`\n\n", report.base);
    for change in &report.changes {
        text += &format!("### {}\n\n", headline(change));
        for part in &change.drift.changes {
            text += &format!("- {}\n", part.words());
        }
        if let Some(example) = &change.counter_example {
            text += &format!(
                "\nOn these rows the two differ:\n\n```\n{}```\n",
                rows(example)
            );
        }
        text += "\n";
    }
    for name in &report.new {
        text += &format!("- `{name}` is new\n");
    }
    for name in &report.gone {
        text += &format!("- `{name}` is gone\n");
    }
    if report.changes.is_empty() && report.new.is_empty() && report.gone.is_empty() {
        text += "Every metric means what it did.\n";
    }
    if let Some(impact) = &report.impact {
        text += &format!(
            "\n{}",
            numbers(impact, &|columns, rows| {
                output::markdown_table(columns, rows.into_iter())
            })
        );
    }
    text
}

/// One line per changed, new or gone metric.
pub fn json(report: &Report) -> String {
    let one_sided =
        |name: &String, class: &str| serde_json::json!({"metric": name, "class": class});
    let changed = report
        .changes
        .iter()
        .map(|change| change_json(change, report));
    let new = report.new.iter().map(|name| one_sided(name, "new"));
    let gone = report.gone.iter().map(|name| one_sided(name, "removed"));
    let lines = changed.chain(new).chain(gone);
    lines.map(|line| format!("{line}\n")).collect()
}

fn change_json(change: &Change, report: &Report) -> serde_json::Value {
    let drift = &change.drift;
    let parts: Vec<serde_json::Value> = drift
        .changes
        .iter()
        .map(|part| serde_json::json!({"class": part.class.word(), "model": part.model(), "words": part.words()}))
        .collect();
    let approvals: Vec<&str> = drift
        .class
        .approvals()
        .iter()
        .map(|who| who.words())
        .collect();
    let mut line = serde_json::json!({
        "metric": drift.metric, "base": report.base, "class": drift.class.word(),
        "version": {"old": change.versions[0], "new": change.versions[1], "step": drift.class.bump().word(), "is_taken": !super::lacks_version(change)},
        "approvals": approvals, "changes": parts,
    });
    if let Some(example) = &change.counter_example {
        let tables: BTreeMap<&String, serde_json::Value> = example
            .tables
            .iter()
            .map(|(table, columns, rows)| {
                (table, serde_json::json!({"columns": columns, "rows": rows}))
            })
            .collect();
        line["counter_example"] =
            serde_json::json!({"tables": tables, "old": example.old, "new": example.new});
    }
    if let Some(impact) = &report.impact {
        let own = |metric: &String| *metric == drift.metric;
        let days = impact.days.iter().filter(|day| own(&day.metric));
        let days: Vec<serde_json::Value> = days
            .map(|day| serde_json::json!({"day": day.day, "old": day.old, "new": day.new}))
            .collect();
        let readings = impact
            .experiments
            .iter()
            .filter(|reading| own(&reading.metric));
        line["impact"] = serde_json::json!({"sample": impact.sample, "days": days, "experiments": readings.map(reading_json).collect::<Vec<_>>()});
    }
    line
}

fn reading_json(reading: &Reading) -> serde_json::Value {
    let side = |estimate: Option<Estimate>, decision: &Option<String>| {
        serde_json::json!({
            "effect": estimate.map(|estimate| estimate.effect), "low": estimate.map(|estimate| estimate.low),
            "high": estimate.map(|estimate| estimate.high), "decision": decision,
        })
    };
    serde_json::json!({
        "experiment": reading.experiment, "variant": reading.variant, "is_flip": reading.is_flip(),
        "old": side(reading.old, &reading.old_decision), "new": side(reading.new, &reading.new_decision),
    })
}

/// `net_revenue 1.0.0 -> 1.0.0 (breaking: needs version 2.0.0 and the owner and the approvers)`.
fn headline(change: &Change) -> String {
    let drift = &change.drift;
    let [old, new] = &change.versions;
    let mut text = format!("{} ({}", drift.metric, drift.class);
    if drift.class.bump() > Bump::None {
        let next = drift
            .class
            .bump()
            .next(old)
            .unwrap_or_else(|| "a new one".into());
        let people: Vec<&str> = drift
            .class
            .approvals()
            .iter()
            .map(|who| who.words())
            .collect();
        let state = match super::lacks_version(change) {
            true => format!("it is still {new}"),
            false => format!("it is {new}"),
        };
        text += &format!(
            ": needs version {next}, {state}; {} to agree",
            people.join(" and ")
        );
    }
    text + ")"
}

fn rows(example: &CounterExample) -> String {
    let mut text = String::new();
    for (table, columns, rows) in &example.tables {
        text += &format!("{table} ({})\n", columns.join(", "));
        for row in rows {
            text += &format!("  {}\n", row.join(", "));
        }
        if rows.is_empty() {
            text += "  no rows\n";
        }
    }
    for (word, lines) in [("before", &example.old), ("now", &example.new)] {
        let counted = match lines.is_empty() {
            true => "nothing".to_string(),
            false => lines.join(" | "),
        };
        text += &format!("counted {word} (unit, time, value): {counted}\n");
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

type TableOf<'a> = &'a dyn Fn(&[&str], Vec<Vec<String>>) -> String;

fn numbers(impact: &Impact, table: TableOf) -> String {
    let mut text = format!("by day, over the sample {}:\n\n", impact.sample);
    text += &table(
        &["metric", "day", "before", "now", "change"],
        days(&impact.days),
    );
    if impact.experiments.is_empty() {
        return text + "\nno experiment is analysed by these metrics\n";
    }
    let flips = impact
        .experiments
        .iter()
        .filter(|reading| reading.is_flip())
        .count();
    text += &format!("\nby experiment, {flips} flipped:\n\n");
    let columns = [
        "",
        "experiment",
        "variant",
        "metric",
        "effect before",
        "effect now",
        "decision before",
        "decision now",
    ];
    text + &table(
        &columns,
        impact.experiments.iter().map(reading_cells).collect(),
    )
}

/// The last days of each metric on which something moved, and a line about the others.
fn days(days: &[Day]) -> Vec<Vec<String>> {
    let mut by_metric: BTreeMap<&str, Vec<&Day>> = BTreeMap::new();
    for day in days {
        by_metric.entry(&day.metric).or_default().push(day);
    }
    let mut lines = vec![];
    for (metric, days) in by_metric {
        let moved: Vec<&&Day> = days.iter().filter(|day| day.old != day.new).collect();
        for day in moved.iter().rev().take(DAYS).rev() {
            lines.push(vec![
                metric.to_string(),
                day.day.clone(),
                number(day.old),
                number(day.new),
                relative(day),
            ]);
        }
        let shown = moved.len().min(DAYS);
        let rest = format!(
            "{} more moved, {} did not",
            moved.len() - shown,
            days.len() - moved.len()
        );
        lines.push(vec![
            metric.to_string(),
            rest,
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    lines
}

fn relative(day: &Day) -> String {
    match (day.old, day.new) {
        (Some(old), Some(new)) if old != 0.0 => format!("{:+.2} %", (new / old - 1.0) * 100.0),
        _ => String::new(),
    }
}

fn reading_cells(reading: &Reading) -> Vec<String> {
    let flip = if reading.is_flip() { "FLIP" } else { "" };
    let decision = |decision: &Option<String>| decision.clone().unwrap_or_else(|| "none".into());
    vec![
        flip.to_string(),
        reading.experiment.clone(),
        reading.variant.clone(),
        reading.metric.clone(),
        estimate(reading.old),
        estimate(reading.new),
        decision(&reading.old_decision),
        decision(&reading.new_decision),
    ]
}

fn estimate(estimate: Option<Estimate>) -> String {
    match estimate {
        Some(Estimate { effect, low, high }) => {
            format!(
                "{} [{}, {}]",
                number(Some(effect)),
                number(Some(low)),
                number(Some(high))
            )
        }
        None => "none".into(),
    }
}

/// Five significant digits.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "none".into();
    };
    if value == 0.0 {
        return "0".into();
    }
    let digits = (4 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    format!("{value:.digits$}")
}

fn plain_table(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = output::plain_table(columns);
    for row in rows {
        table.add_row(row);
    }
    format!("{table}\n")
}
