//! `metric diff --base` over a repository: what changed in words, the smallest rows that show it, and what it does to the numbers
//! and decisions of a real experiment. The project is the one that `equipoise init` makes: 600 users, one experiment that ships.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

const FILTERED: &str = "    expr: amount\n    filter: amount > 50\n";

/// The project as it was committed, with a change on top of it, made once: small orders no longer count, and a derived metric
/// sees it.
static CHANGED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = committed();
    edit(folder.path(), "    expr: amount\n", FILTERED);
    folder
});

fn committed() -> TempDir {
    let folder = crate::folder();
    equipoise(folder.path(), &["init", "."], 0);
    let more = "  - {name: orders, kind: count, fact: fact_orders, direction: increase, owner: team-shop, fill: zero, window: {start: 0d, length: to_end}}
  - {name: revenue, kind: total, fact: fact_orders, agg: sum, expr: amount, direction: increase, owner: team-shop, fill: zero, window: {start: 0d, length: to_end}}
  - {name: order_value, kind: derived, expr: revenue / orders, direction: increase, owner: team-shop}
";
    let path = folder.path().join("metrics/orders.yml");
    let text = std::fs::read_to_string(&path).expect("metrics");
    std::fs::write(&path, format!("{}\n{more}", text.trim_end())).expect("written");
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b.c",
            "commit",
            "--quiet",
            "-m",
            "one",
        ],
    ] {
        let mut git = Command::new("git");
        let status = git.current_dir(folder.path()).args(arguments).status();
        assert!(status.expect("git runs").success(), "{arguments:?}");
    }
    folder
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("metrics/orders.yml");
    let text = std::fs::read_to_string(&path).expect("metrics");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
}

/// What the program prints.
fn equipoise(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{err}");
    String::from_utf8(output.stdout).expect("text")
}

const DIFF: [&str; 4] = ["metric", "diff", "--base", "HEAD"];

#[test]
fn people_read_the_change_the_rows_the_days_and_the_decision_that_flips() {
    insta::assert_snapshot!("metric_diff_text", equipoise(CHANGED.path(), &DIFF, 1));
}

#[test]
fn a_pull_request_gets_the_same_as_markdown() {
    let diff = [&DIFF[..], &["--output", "markdown"]].concat();
    insta::assert_snapshot!("metric_diff_markdown", equipoise(CHANGED.path(), &diff, 1));
}

#[test]
fn machines_get_one_line_per_metric() {
    let diff = [&DIFF[..], &["--output", "json"]].concat();
    let said = equipoise(CHANGED.path(), &diff, 1);
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let [change] = lines.as_slice() else {
        panic!("{said}");
    };
    assert_eq!(change["class"], "breaking");
    assert_eq!(change["version"]["is_taken"], false);
    let [reading] = change["impact"]["experiments"]
        .as_array()
        .expect("a list")
        .as_slice()
    else {
        panic!("{change}");
    };
    assert_eq!(reading["experiment"], "button_color");
    assert_eq!(reading["is_flip"], true);
    assert_eq!(reading["old"]["decision"], "ship");
    assert_eq!(reading["new"]["decision"], "no_ship");
    let (low, high) = (&reading["new"]["low"], &reading["new"]["high"]);
    assert!(
        low.as_f64() < Some(0.0) && high.as_f64() > Some(0.0),
        "{reading}"
    );
    assert!(reading["old"]["low"].as_f64() > Some(0.0), "{reading}");
    let days = change["impact"]["days"].as_array().expect("a list");
    assert!(days.len() > 20, "{days:?}");
}

#[test]
fn the_numbers_under_both_are_those_that_a_build_of_each_publishes() {
    let folder = committed();
    let query = "select round(effect, 9) as effect, round(effect_low, 9) as low, round(effect_high, 9) as high \
                 from experiment_results where segment_dimension = 'all'";
    let published = || {
        equipoise(folder.path(), &["build", "--quiet"], 0);
        let row = equipoise(folder.path(), &["sql", query, "--output", "json"], 0);
        serde_json::from_str::<Value>(row.trim()).expect("one row")
    };
    let old = published();
    edit(folder.path(), "    expr: amount\n", FILTERED);
    let new = published();
    let diff = [&DIFF[..], &["--output", "json"]].concat();
    let said: Value =
        serde_json::from_str(equipoise(CHANGED.path(), &diff, 1).trim()).expect("JSON");
    let reading = &said["impact"]["experiments"][0];
    for (side, row) in [("old", &old), ("new", &new)] {
        for key in ["effect", "low", "high"] {
            let (said, built) = (reading[side][key].as_f64(), row[key].as_f64());
            let difference = said.expect("a number") - built.expect("a number");
            assert!(difference.abs() < 1e-8, "{side} {key}: {reading} {row}");
        }
    }
}

#[test]
fn a_derived_metric_moves_with_its_inputs_and_a_refactor_moves_nothing() {
    let folder = committed();
    edit(
        folder.path(),
        "kind: total, fact: fact_orders, agg: sum, expr: amount,",
        "kind: total, fact: fact_orders, agg: sum, expr: amount, filter: amount >= 20,",
    );
    edit(
        folder.path(),
        "    expr: amount\n",
        "    expr: amount\n    filter: not amount is null\n",
    );
    let said = equipoise(
        folder.path(),
        &[&DIFF[..], &["--metric", "order_value"]].concat(),
        1,
    );
    insta::assert_snapshot!("metric_diff_derived", said);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let folder = committed();
    assert_eq!(
        equipoise(folder.path(), &DIFF, 0),
        "every metric means what it did in HEAD\n"
    );
    equipoise(
        folder.path(),
        &["metric", "diff", "--base", "no-such-branch"],
        1,
    );
}
