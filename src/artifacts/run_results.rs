//! `target/run_results.json`: what came of each step of a run.
//! A relation that was reused is a `success` whose message says `unchanged`: dbt has a word for that, `reused`, which few readers know.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Arguments, Metadata, RUN_RESULTS, Timing, timing, write};
use crate::diagnostics::{Render, render};
use crate::manifest::{Node, NodeKind, TestSettings};
use crate::run::{Outcome, Prepared, RunPlan, RunResults, Step, StepResult};

/// Writes what came of every step, in the order of the plan.
pub fn write_run_results(
    prepared: &Prepared,
    plan: &RunPlan,
    results: &RunResults,
    args: &Arguments,
) -> io::Result<()> {
    let steps = plan.steps.iter();
    let artifact = Artifact {
        metadata: Metadata::new(prepared, "run-results/v6"),
        results: steps
            .filter_map(|step| Some(entry(prepared, step, results.steps.get(&step.id)?)))
            .collect(),
        elapsed_time: results.elapsed.as_secs_f64(),
        args,
    };
    write(prepared, RUN_RESULTS, &artifact)
}

#[derive(Serialize)]
struct Artifact<'a> {
    metadata: Metadata,
    results: Vec<Entry>,
    elapsed_time: f64,
    args: &'a Arguments,
}

#[derive(Serialize)]
struct Entry {
    status: &'static str,
    timing: Vec<Timing>,
    thread_id: String,
    execution_time: f64,
    adapter_response: Value,
    message: Option<String>,
    failures: Option<u64>,
    unique_id: String,
    compiled: bool,
    compiled_code: Option<String>,
    relation_name: Option<String>,
    batch_results: Option<Value>,
}

fn entry(prepared: &Prepared, step: &Step, result: &StepResult) -> Entry {
    let node = prepared.manifest.node(step.id);
    let compiled_code = compiled_code(prepared, node, step);
    Entry {
        status: status(node, result),
        timing: result
            .began
            .map(|began| timing(prepared, began, result.elapsed))
            .unwrap_or_default(),
        thread_id: match result.began {
            Some(began) => format!("Thread-{}", began.thread),
            None => String::new(),
        },
        execution_time: result.elapsed.as_secs_f64(),
        adapter_response: response(node, result),
        message: message(prepared, node, result),
        failures: failures(node, result),
        unique_id: node.unique_id(&prepared.manifest.project_name),
        compiled: compiled_code.is_some(),
        compiled_code,
        relation_name: super::relation_name(node),
        batch_results: None,
    }
}

/// dbt's word. A test whose query broke is an `error`; one that counted wrong rows is a `fail`.
fn status(node: &Node, result: &StepResult) -> &'static str {
    match (result.outcome, node.is_test()) {
        (Outcome::Done | Outcome::Reused, true) => "pass",
        (Outcome::Done | Outcome::Reused, false) => "success",
        (Outcome::Warned, _) => "warn",
        (Outcome::Failed, true) if result.rows.is_some() => "fail",
        (Outcome::Failed, _) => "error",
        (Outcome::Skipped, _) => "skipped",
    }
}

fn response(node: &Node, result: &StepResult) -> Value {
    match (result.outcome, result.rows) {
        (Outcome::Done, Some(rows)) if !node.is_test() => {
            json!({"_message": counted(rows, "row"), "code": "OK", "rows_affected": rows})
        }
        (Outcome::Done, None) => json!({"_message": "OK", "code": "OK"}),
        (Outcome::Reused, _) => json!({"_message": "unchanged", "code": "REUSED"}),
        _ => json!({}),
    }
}

/// What a person reads. Rows that a test found wrong are shown on the terminal only: artifacts travel.
fn message(prepared: &Prepared, node: &Node, result: &StepResult) -> Option<String> {
    if let (NodeKind::Test { settings, .. }, Some(rows)) = (&node.kind, result.rows) {
        return found(settings, result.outcome, rows);
    }
    match (result.outcome, &result.diagnostic, result.rows) {
        (_, Some(diagnostic), _) => {
            Some(render(diagnostic, &prepared.project.texts, Render::Plain))
        }
        (Outcome::Reused, ..) => Some("unchanged".to_string()),
        (Outcome::Skipped, ..) => Some("something that it reads failed".to_string()),
        (_, _, Some(rows)) => Some(counted(rows, "row")),
        _ => None,
    }
}

fn found(settings: &TestSettings, outcome: Outcome, rows: u64) -> Option<String> {
    let (what, limit) = match outcome {
        Outcome::Failed => ("fails", &settings.error_if),
        Outcome::Warned => ("warns", &settings.warn_if),
        _ => return None,
    };
    let rows = counted(rows, "wrong row");
    Some(format!("{rows}; the test {what} if {limit}"))
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Of a test that was answered: how many rows are wrong.
fn failures(node: &Node, result: &StepResult) -> Option<u64> {
    match result.outcome {
        _ if !node.is_test() => None,
        Outcome::Reused => Some(0),
        _ => result.rows,
    }
}

/// The query that ran: of a growing table, the one for its new rows.
fn compiled_code(prepared: &Prepared, node: &Node, step: &Step) -> Option<String> {
    let compiled = prepared.compiled.nodes.get(&step.id)?;
    match &compiled.increment {
        Some(increment) if step.from.is_some() => Some(increment.sql.clone()),
        _ => super::compiled_code(node, compiled),
    }
}
