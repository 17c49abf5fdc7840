//! Builds that do not fit into `--memory-limit`: what can be done bit by bit is, and else they say what to do and publish nothing.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// 40,000 events of 500 users who are all in each experiment. A median keeps as many numbers for each: 0.3 MB.
const FILES: &[(&str, &str)] = &[
    ("project.yml", "name: medians\n"),
    (
        "models/fact_loads.sql",
        "{{ config(materialized='table') }}
select 'u' || (value % 500) as user_id, 'load' as event_name, cast(value % 1009 as double) as seconds,
    timestamp '2026-01-05 12:00:00' as occurred_at
from generate_series(1, 40000)
",
    ),
    (
        "models/fact_loads.yml",
        "models:\n  - name: fact_loads\n    fact: {unit: user_id, time: occurred_at, event: event_name}\n",
    ),
    (
        "models/stg_assignments.sql",
        "select 'e' || (value % 100) as experiment_key, 'u' || (value / 100) as unit_id,
    case when value / 100 % 2 = 0 then 'test' else 'control' end as variant, timestamp '2026-01-05 00:00:00' as assigned_at
from generate_series(0, 49999)
",
    ),
    (
        "models/fact_assignments.sql",
        "{{ config(materialized='table') }}\nselect * from {{ experiment_units() }}\n",
    ),
    (
        "models/metric_aggregates.sql",
        "{{ config(materialized='table') }}\nselect * from {{ metric_aggregates(units=ref('fact_assignments')) }} as aggregates\n",
    ),
];

/// A project of so many experiments that report so many medians each.
fn written(experiments: usize, medians: usize) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    FILES.iter().for_each(|(path, text)| write(path, text));
    let metric = |index: usize| {
        format!(
            "  - {{name: p{index}, direction: decrease, kind: quantile, q: 0.{index:03}, level: event, cluster: user_id, event: load, \
             expr: seconds}}\n"
        )
    };
    let numbers = 400..400 + medians;
    let metrics: String = numbers.clone().map(metric).collect();
    write(
        "metrics/loads.yml",
        &format!(
            "defaults: {{fact: fact_loads, fill: zero, window: {{start: 0d, length: 14d}}, maturity: partial, owner: team-shop}}
metrics:\n  - {{name: loads, direction: increase, kind: count, event: load}}\n{metrics}"
        ),
    );
    let secondary = numbers.map(|index| format!("p{index}"));
    let secondary = secondary.collect::<Vec<_>>().join(", ");
    let experiment = |index: usize| {
        format!(
            "  - key: e{index}\n    hypothesis: None.\n    owner: team-shop\n    variants: {{control: 0.5, test: 0.5}}\n    \
             period: {{from: 2026-01-05, to: 2026-01-31}}\n    assignments: {{model: stg_assignments}}\n    \
             metrics: {{primary: loads, secondary: [{secondary}]}}\n"
        )
    };
    let experiments: String = (0..experiments).map(experiment).collect();
    write("experiments/e.yml", &format!("experiments:\n{experiments}"));
    folder
}

fn equipoise(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder)
        .output()
        .expect("the program runs")
}

/// Builds under a limit that is too small, and gives what is said without the bytes that the engine counts.
fn refused(folder: &Path, limit: &str) -> String {
    // How memory is shared depends on how many share it.
    let arguments = ["build", "--threads", "1", "--memory-limit", limit];
    let built = equipoise(folder, &arguments);
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert_eq!(built.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was published to `dev`"), "{said}");
    let history = equipoise(folder, &["history"]);
    let versions = [history.stdout, history.stderr].concat();
    assert_eq!(
        String::from_utf8_lossy(&versions),
        "nothing was published to `dev` yet\n"
    );
    let lines = said
        .lines()
        .skip_while(|line| !line.starts_with("error"))
        .take_while(|line| !line.is_empty())
        .map(|line| match line.split_once(" additional ") {
            Some((start, _)) => format!("{start} ..."),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_quantile_that_does_not_fit_alone_stops_the_build_and_publishes_nothing() {
    insta::assert_snapshot!(refused(written(1, 2).path(), "2MB"), @r"
    error[E0805]: `metric_aggregates` does not fit into the memory limit of 2 MB
     --> models/metric_aggregates.sql:1:1
      |
    1 | {{ config(materialized='table') }}
      | ^
      |
      = note: the engine says: Failed to allocate ...
      = hint: `p400` of `e0` does not fit, even alone: quantiles, and caps that are quantiles, keep the numbers of all units; allow more with `--memory-limit`, or freeze the cap
    ");
}

/// The states of a project that was built within a limit.
fn states(folder: &Path, limit: &str) -> String {
    let arguments = ["build", "--threads", "1", "--memory-limit", limit];
    let built = equipoise(folder, &arguments);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let query = "select * from metric_aggregates";
    String::from_utf8(equipoise(folder, &["sql", query, "--output", "csv"]).stdout)
        .expect("a table is text")
}

#[test]
fn experiments_that_do_not_fit_together_are_computed_one_after_the_other() {
    let (little, much) = (written(100, 1), written(100, 1));
    let found = states(little.path(), "30MB");
    assert_eq!(found.lines().count(), 1 + 100 * 2 * 2);
    assert!(found == states(much.path(), "1GB"));
}

#[test]
fn quantiles_of_one_experiment_that_do_not_fit_together_are_computed_one_after_the_other() {
    let (little, much) = (written(1, 100), written(1, 100));
    let found = states(little.path(), "10MB");
    assert_eq!(found.lines().count(), 1 + 101 * 2);
    assert!(found == states(much.path(), "1GB"));
}

#[test]
fn a_step_that_does_not_fit_says_how_to_allow_more() {
    insta::assert_snapshot!(refused(written(100, 1).path(), "3MB"), @r"
    error[E0805]: `fact_assignments` does not fit into the memory limit of 3 MB
     --> models/fact_assignments.sql:1:1
      |
    1 | {{ config(materialized='table') }}
      | ^
      |
      = note: the engine says: Failed to allocate ...
      = hint: allow more with `--memory-limit`, or `memory_limit` in the target of `project.yml`
    ");
}

#[test]
fn a_query_that_does_not_fit_says_how_to_allow_more() {
    let folder = written(1, 1);
    let built = equipoise(folder.path(), &["build", "--quiet"]);
    assert!(built.status.success());
    let query = "select array_agg(user_id), array_agg(seconds) from fact_loads group by seconds";
    let asked = equipoise(folder.path(), &["sql", query, "--memory-limit", "100kB"]);
    assert_eq!(asked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(
        said.contains("error[E0805]: the query does not fit into the memory limit of 100 kB"),
        "{said}"
    );
    assert!(said.contains("allow more with `--memory-limit`"), "{said}");
}

/// Forty aggregations wait for their turn in one query, and each holds little.
#[test]
fn steps_that_hold_nothing_do_not_keep_memory_from_those_that_ask() {
    let folder = written(1, 1);
    let totals: Vec<String> = (0..10)
        .map(|index| format!("array_agg(n + {index}) as a{index}"))
        .collect();
    let totals = totals.join(", ");
    let branch = |index: usize| {
        format!(
            "(select cardinality(a0) as n from (select k, {totals} from \
             (select value % 9000 as k, value as n from generate_series(1, 18000)) as numbers group by k) as g{index} \
             where cardinality(a9) > 0)"
        )
    };
    let branches: Vec<String> = (0..40).map(branch).collect();
    let query = format!("select sum(n) from ({})", branches.join(" union all "));
    let limits = ["--threads", "2", "--memory-limit", "100MB"];
    let arguments = [&["sql", query.as_str(), "--output", "csv"][..], &limits].concat();
    let asked = equipoise(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}");
    let rows = String::from_utf8_lossy(&asked.stdout);
    assert_eq!(rows.lines().nth(1), Some("720000"));
}

/// The parts of a union come apart, and each would be sorted on its own, in memory that the other sorts need.
#[test]
fn rows_of_a_union_are_sorted_by_one_sort_that_spills() {
    let folder = written(1, 1);
    let part = |first: usize| {
        format!(
            "select value as id, value % 5000 as unit, to_timestamp_micros(value * 60000000) as at, md5(cast(value as varchar)) as word \
             from generate_series({first}, {})",
            first + 59_999
        )
    };
    let query = [part(0), part(60_000), part(120_000)].join(" union all ");
    let columns = [
        "--unit",
        "unit",
        "--time",
        "at",
        "--id",
        "id",
        "--buckets",
        "2",
    ];
    let limit = ["--memory-limit", "12MB"];
    let arguments = [
        &["facts", "append", "things", query.as_str()][..],
        &columns,
        &limit,
    ]
    .concat();
    let appended = equipoise(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&appended.stderr);
    assert!(appended.status.success(), "{said}");
    assert!(said.contains("180000 rows in "), "{said}");
}
