//! The bundled project: the decisions are those that the generator's truth names, and what a person would do next works.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// A copy of this repository's project, built once for all tests of this file.
static SHOP: LazyLock<(tempfile::TempDir, Output)> = LazyLock::new(|| {
    let folder = shop();
    let output = equipoise(folder.path(), &["build"]);
    (folder, output)
});

/// The bundled project, not built.
fn shop() -> tempfile::TempDir {
    let folder = crate::folder();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in [
        "models",
        "macros",
        "metrics",
        "experiments",
        "flags",
        "seeds",
        "tests/data",
    ] {
        copy(&root.join(part), &folder.path().join(part));
    }
    std::fs::copy(root.join("project.yml"), folder.path().join("project.yml"))
        .expect("the project file is copied");
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.expect("the project can be listed");
        let target: PathBuf = to.join(entry.path().strip_prefix(from).expect("walked from there"));
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target).expect("a folder is made");
        } else {
            std::fs::copy(entry.path(), &target).expect("a file is copied");
        }
    }
}

fn equipoise(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder)
        .output()
        .expect("the binary runs")
}

fn rows(query: &str) -> Vec<serde_json::Value> {
    let (folder, _) = &*SHOP;
    rows_in(folder.path(), query)
}

fn rows_in(folder: &Path, query: &str) -> Vec<serde_json::Value> {
    let output = equipoise(folder, &["sql", query, "--output", "json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn truth() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/shop/truth.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the truth is bundled"))
        .expect("the truth is JSON")
}

#[test]
fn every_decision_of_the_shop_is_right() {
    let (_, output) = &*SHOP;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let decided: BTreeMap<String, serde_json::Value> =
        rows("select experiment_key, decision, reasons from experiment_decisions")
            .into_iter()
            .map(|row| {
                (
                    row["experiment_key"].as_str().expect("a key").to_string(),
                    row,
                )
            })
            .collect();
    let truth = truth();
    let experiments = truth["experiments"].as_array().expect("a list");
    assert_eq!(decided.len(), experiments.len());
    for experiment in experiments {
        let row = &decided[experiment["key"].as_str().expect("a key")];
        let accepted: Vec<&serde_json::Value> = std::iter::once(&experiment["decision"])
            .chain(experiment["also_right"].as_array().into_iter().flatten())
            .collect();
        assert!(
            accepted.contains(&&row["decision"]),
            "{row} but {}: {}",
            experiment["decision"],
            experiment["reason"]
        );
    }
}

#[test]
fn invalid_experiments_name_their_fault() {
    let reasons = |key: &str| {
        let found = rows(&format!(
            "select array_to_string(reasons, '; ') as reasons from experiment_decisions where experiment_key = '{key}'"
        ));
        found[0]["reasons"].as_str().expect("reasons").to_string()
    };
    assert!(reasons("free_shipping_hint").contains("bucketing fault"));
    assert!(reasons("search_ranking").contains("sample-ratio mismatch"));
    assert!(reasons("recommendation_carousel").contains("guardrail `page_load_ms`"));
}

#[test]
fn true_effects_lie_in_their_intervals_about_as_often_as_they_should() {
    let measured = rows(
        "select experiment_key, metric_name, lift_low, lift_high from experiment_results where segment_dimension = 'all'",
    );
    let mut total = 0;
    let mut covered = 0;
    for experiment in truth()["experiments"].as_array().expect("a list") {
        // Where the arms are not comparable the interval promises nothing.
        if experiment["decision"] == "invalid" {
            continue;
        }
        for effect in experiment["effects"].as_array().expect("a list") {
            let Some(relative) = effect["relative_effect"].as_f64() else {
                continue;
            };
            for row in measured.iter().filter(|row| {
                row["experiment_key"] == experiment["key"] && row["metric_name"] == effect["metric"]
            }) {
                let (Some(low), Some(high)) = (row["lift_low"].as_f64(), row["lift_high"].as_f64())
                else {
                    continue;
                };
                total += 1;
                covered += usize::from(low <= relative && relative <= high);
            }
        }
    }
    // Of n independent 95 % intervals, four or more misses in twenty would be a one-in-sixty event.
    assert!(total >= 12, "{total} intervals");
    assert!(
        total - covered <= 3,
        "{covered} of {total} intervals hold the true effect"
    );
}

/// Every number of a state, by the name of its field.
fn numbers(state: &serde_json::Value) -> BTreeMap<String, Vec<f64>> {
    let fields = state.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| match value.as_array() {
            Some(list) => (
                name.clone(),
                list.iter().filter_map(|number| number.as_f64()).collect(),
            ),
            None => (name.clone(), value.as_f64().into_iter().collect()),
        })
        .collect()
}

pub fn assert_states_are_equal(operator: &serde_json::Value, sql: &serde_json::Value) {
    assert_eq!(operator.is_null(), sql.is_null(), "{operator} {sql}");
    let (found, expected) = (numbers(operator), numbers(sql));
    for name in ["n", "min", "max", "mean", "cross_products"] {
        // Means to the last bit or two, cross products to twelve digits.
        let relative = if name == "cross_products" {
            1e-12
        } else {
            1e-15
        };
        let (found, expected) = (found.get(name), expected.get(name));
        assert_eq!(found.map(Vec::len), expected.map(Vec::len), "{operator}");
        let largest = expected
            .into_iter()
            .flatten()
            .fold(0.0_f64, |most, number| most.max(number.abs()));
        for (found, expected) in found
            .into_iter()
            .flatten()
            .zip(expected.into_iter().flatten())
        {
            assert!(
                (found - expected).abs() <= relative * expected.abs().max(largest * 1e-3),
                "{name} is {found} by the operator and {expected} in SQL: {operator} {sql}"
            );
        }
    }
}

#[test]
fn plain_sql_computes_the_same_states_and_decides_the_same() {
    let folder = shop();
    let built = equipoise(folder.path(), &["build", "--engine", "sql"]);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let states = "select experiment_key, variant, metric_name, segment_dimension, segment, state, before_state
        from metric_aggregates order by 1, 2, 3, 4, 5";
    let (operator, sql) = (rows(states), rows_in(folder.path(), states));
    assert_eq!(operator.len(), sql.len());
    assert!(operator.len() > 40, "{} states", operator.len());
    for (operator, sql) in operator.iter().zip(&sql) {
        for key in [
            "experiment_key",
            "variant",
            "metric_name",
            "segment_dimension",
            "segment",
        ] {
            assert_eq!(operator[key], sql[key]);
        }
        assert_states_are_equal(&operator["state"], &sql["state"]);
        assert_states_are_equal(&operator["before_state"], &sql["before_state"]);
    }
    let decisions = "select experiment_key, decision, reasons from experiment_decisions order by 1";
    assert_eq!(rows(decisions), rows_in(folder.path(), decisions));
}

/// Sums of doubles among them, whose last digits depend on the order of rows elsewhere.
#[test]
fn a_table_that_is_made_again_is_the_same() {
    let (folder, _) = &*SHOP;
    let path = folder
        .path()
        .join("target/compiled/models/marts/metrics/metric_daily.sql");
    let compiled = std::fs::read_to_string(path).expect("the model is compiled");
    let sorted = |query: &str, threads: &str| {
        let output = equipoise(
            folder.path(),
            &["sql", query, "--output", "json", "--threads", threads],
        );
        let answer = String::from_utf8(output.stdout).expect("text");
        let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let built = sorted("select * from metric_daily", "1");
    assert!(built.len() > 1_000, "{} rows", built.len());
    for threads in ["1", "3"] {
        assert!(sorted(&compiled, threads) == built, "{threads} threads");
    }
}

/// Joins give their rows in an order that differs from run to run; a build that is made again would not be the same.
#[test]
fn what_experiments_say_lies_in_the_order_of_its_keys() {
    let tables = [
        (
            "experiment_results",
            "experiment_key, metric_name, metric_version, variant, segment_dimension, segment",
        ),
        ("experiment_decisions", "experiment_key"),
        ("sample_ratio_checks", "experiment_key, population"),
        ("experiment_health", "experiment_key, step_number"),
    ];
    for (table, keys) in tables {
        let as_stored = rows(&format!("select {keys} from {table}"));
        let sorted = rows(&format!("select {keys} from {table} order by {keys}"));
        assert!(as_stored == sorted, "{table}");
    }
}

#[test]
fn explain_shows_the_operator_with_its_rows_and_memory() {
    let (folder, _) = &*SHOP;
    let path = "target/compiled/models/marts/metrics/metric_aggregates.sql";
    let query = std::fs::read_to_string(folder.path().join(path)).expect("compiled SQL is written");
    let explained = rows(&format!("explain analyze {query}"));
    let text = explained[0]["plan"].as_str().expect("a plan").to_owned();
    let operator = text
        .lines()
        .find(|line| line.contains("MetricStatesExec"))
        .unwrap_or_else(|| panic!("{text}"));
    for word in [
        "experiments=",
        "metrics=",
        "output_rows=",
        "units=",
        "events=",
        "cell_bytes=",
    ] {
        assert!(operator.contains(word), "{word} is not in {operator}");
    }
    // Facts of a usual table are sorted by unit first; that is what may spill.
    assert!(text.contains("spill_count="), "{text}");
}

#[test]
fn clustered_facts_give_the_same_states_without_a_sort() {
    let (folder, _) = &*SHOP;
    let said = |arguments: &[&str]| {
        let output = equipoise(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    };
    let append = |name: &str, query: &str, unit: &str, time: &str, id: &str| {
        let columns = ["--unit", unit, "--time", time, "--id", id, "--buckets", "2"];
        said(&[&["facts", "append", name, query], &columns[..]].concat())
    };
    let assignments = "select *, experiment_key || unit_id as assignment_id from fact_assignments";
    append(
        "assignments",
        assignments,
        "unit_id",
        "assigned_at",
        "assignment_id",
    );
    let events = "select * from fact_metric_events";
    let early = format!("{events} where occurred_at < '2026-03-20'");
    let first = append("events", &early, "user_id", "occurred_at", "event_id");
    let all = append("events", events, "user_id", "occurred_at", "event_id");
    let stored = first.split_whitespace().nth(1).expect("a number of rows");
    assert!(
        all.contains(&format!("{stored} were there already")),
        "{first}{all}"
    );

    let path = "target/compiled/models/marts/metrics/metric_aggregates.sql";
    let query = std::fs::read_to_string(folder.path().join(path)).expect("compiled SQL is written");
    let clustered = query
        .replace("\"fact_metric_events\"", "\"clustered.events\"")
        .replace("\"fact_assignments\"", "\"clustered.assignments\"");
    assert_ne!(query, clustered);
    let explained = rows(&format!("explain {clustered}"))
        .iter()
        .map(|row| row["plan"].to_string())
        .collect::<String>();
    assert!(explained.contains("clustered in 2 buckets"), "{explained}");
    assert!(!explained.contains("SortExec"), "{explained}");
    let order = "order by experiment_key, variant, metric_name, segment_dimension, segment";
    let ordered = |query: &str| rows(&format!("select * from ({query}) {order}"));
    let expected = ordered(&query);
    assert_eq!(ordered(&clustered), expected);

    let optimized = said(&[
        "facts",
        "optimize",
        "events",
        "--most-runs",
        "1",
        "--keep-days",
        "0",
    ]);
    assert!(optimized.contains("files became 2,"), "{optimized}");
    assert_eq!(ordered(&clustered), expected);
}

#[test]
fn a_second_build_has_nothing_to_do() {
    let (folder, _) = &*SHOP;
    let output = equipoise(folder.path(), &["build"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("0 built") && said.contains("nothing to do"),
        "{said}"
    );
}

/// A page's text without its tags.
fn text_of(html: &str) -> String {
    let body = html.split_once("</style>").map_or(html, |(_, body)| body);
    let pieces = body
        .split('<')
        .map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    let text: String = pieces.collect();
    text.replace('\u{a0}', " ").replace("&#x27;", "'")
}

#[test]
fn the_report_says_what_was_decided_and_measured() {
    let (folder, _) = &*SHOP;
    let out = crate::folder();
    let out = out.path().join("report");
    let said = equipoise(folder.path(), &["report", "--out", &out.to_string_lossy()]);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let page = |path: &str| text_of(&std::fs::read_to_string(out.join(path)).expect("a page"));
    let first = page("index.html");
    let text =
        |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_string();
    let decisions = rows("select * from experiment_decisions");
    assert_eq!(decisions.len(), 8);
    for row in decisions {
        let key = text(&row, "experiment_key");
        let own = page(&format!("experiments/{key}.html"));
        let decision = text(&row, "decision").to_uppercase().replace('_', "-");
        for reason in row["reasons"].as_array().expect("reasons") {
            let reason = reason.as_str().expect("a sentence").replace('`', "");
            assert!(
                first.contains(&reason) && own.contains(&reason),
                "{key}: {reason}"
            );
        }
        assert!(
            own.contains(&decision) && first.contains(&decision),
            "{key}: {decision}"
        );
    }
    let results = rows(
        "select *, round(100 * lift, 2) as percent from experiment_results where abs(lift) > 0.001",
    );
    assert!(results.len() > 20);
    for row in results {
        let own = page(&format!(
            "experiments/{}.html",
            text(&row, "experiment_key")
        ));
        let percent = row["percent"].as_f64().expect("a number");
        assert!(own.contains(&format!("{percent:+.2} % (")), "{row}");
        assert!(own.contains(&text(&row, "metric_name")), "{row}");
    }
}

#[test]
fn exposed_and_unexposed_users_are_all_users() {
    // What experiments measure and what the company dashboard shows are the same events under the same definition.
    let found = rows(
        "with totals as (
             select sum(numerator) as daily from metric_daily where metric_name = 'revenue_per_user'
         ),
         analysed as (
             select distinct unit_id from fact_assignments where is_analysed
         ),
         events as (
             select sum(amount) as total,
                 sum(amount) filter (where analysed.unit_id is not null) as exposed,
                 sum(amount) filter (where analysed.unit_id is null) as unexposed
             from fact_metric_events
             left join analysed on analysed.unit_id = fact_metric_events.user_id
             where event_name = 'order'
         )
         select round(daily - total, 2) as against_daily, round(exposed + unexposed - total, 2) as against_parts from totals cross join events",
    );
    assert_eq!(found[0]["against_daily"].as_f64(), Some(0.0));
    assert_eq!(found[0]["against_parts"].as_f64(), Some(0.0));
}

#[test]
fn the_files_for_the_tools_of_dbt_hold_together() {
    let (folder, _) = &*SHOP;
    super::artifacts::hold_together(folder.path());
    super::artifacts::second_reader(folder.path());
}
