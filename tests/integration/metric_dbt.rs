//! A dbt project's metrics, read in place: `tests/projects/semantic_layer` has the current spec and the older one. The numbers are
//! those of a pocket calculator; the loss report names everything that was not read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use tempfile::TempDir;

static BUILT: LazyLock<(TempDir, Output)> = LazyLock::new(|| {
    let folder = crate::folder();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/semantic_layer");
    for entry in walkdir::WalkDir::new(&from) {
        let entry = entry.expect("the project can be listed");
        let path = entry.path().strip_prefix(&from).expect("walked from there");
        let to = folder.path().join(path);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&to).expect("a folder is made");
        } else {
            std::fs::copy(entry.path(), &to).expect("a file is copied");
        }
    }
    let output = equipoise(folder.path(), &["build"]);
    (folder, output)
});

fn equipoise(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program runs")
}

/// Rows of a query as lines of CSV.
fn rows(query: &str) -> String {
    let (folder, built) = &*BUILT;
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let output = equipoise(folder.path(), &["sql", query, "--output", "csv", "--quiet"]);
    assert!(
        output.status.success(),
        "{query}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().skip(1).collect::<Vec<_>>().join("\n")
}

/// Every metric's days as `day,value`, January understood.
static DAYS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let found = rows(
        "select metric_name, string_agg(day || ',' || coalesce(value, 'null'), ' ' order by metric_date) as days from (
             select metric_date, metric_name, cast(date_part('day', metric_date) as varchar) as day,
                 cast(round(numerator / nullif(denominator, 0), 4) as varchar) as value
             from metric_daily
         ) as daily group by 1",
    );
    let lines = found.lines().filter_map(|line| line.split_once(','));
    lines
        .map(|(metric, days)| (metric.to_string(), days.trim_matches('"').to_string()))
        .collect()
});

fn days(metric: &str) -> &'static str {
    &DAYS[metric]
}

#[test]
fn metrics_of_the_current_spec_are_measured_by_day() {
    // Cents of paid orders less refunds, per user of the day; the open order is left out of both.
    assert_eq!(days("net_revenue"), "5,1000.0 6,1500.0 14,0.0");
    assert_eq!(days("orders"), "5,1.0 6,2.0 14,1.0");
    assert_eq!(days("average_order_value"), "5,1000.0 6,2250.0 14,0.0");
    assert_eq!(days("refunded_value"), "5,0.0 6,500.0 14,4000.0");
    assert_eq!(days("orders_7d"), "5,1.0 6,3.0 14,1.0");
    assert_eq!(days("refunds_per_order"), "5,0.0 6,250.0 14,4000.0");
    assert_eq!(days("page_load_p50"), "5,200.0 13,500.0 14,400.0");
}

#[test]
fn metrics_of_the_older_spec_are_measured_by_day() {
    assert_eq!(days("visit_count"), "5,3.0 13,1.0 14,1.0");
    assert_eq!(days("fast_visits"), "5,2.0 13,0.0 14,0.0");
    assert_eq!(days("fast_share"), "5,0.6667 13,0.0 14,0.0");
    assert_eq!(days("mean_load_time"), "5,200.0 13,500.0 14,400.0");
    assert_eq!(days("visits_to_date"), "5,3.0 13,4.0 14,5.0");
}

#[test]
fn experiments_are_measured_by_them_and_get_their_guardrails() {
    let arms = rows(
        "select metric_name, variant, state['n'] as n, round(state['mean'][1], 2) as mean from metric_aggregates order by 1, 2",
    );
    // u1: 1000 + 2500, u2: 2000; u3: 0 after its refund on day 9, u4: nothing.
    assert_eq!(
        arms,
        "average_order_value,control,2,2750.0\n\
         average_order_value,test,2,0.0\n\
         buyer_conversion,control,2,1.0\n\
         buyer_conversion,test,2,0.0\n\
         d7_retention,control,2,0.5\n\
         d7_retention,test,2,0.5\n\
         net_revenue,control,2,2750.0\n\
         net_revenue,test,2,0.0\n\
         page_load_p50,control,2,250.0\n\
         page_load_p50,test,1,400.0\n\
         refund_rate,control,2,250.0\n\
         refund_rate,test,2,2000.0"
    );
}

#[test]
fn what_is_not_read_is_reported() {
    let (_, built) = &*BUILT;
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    let losses: Vec<&str> = said.lines().filter(|line| line.contains("E0110")).collect();
    insta::assert_snapshot!(losses.join("\n"), @"
    warning[E0110]: `id` of the metric `net_revenue` is not read
    warning[E0110]: `mde` of the metric `net_revenue` is not read
    warning[E0110]: `average_order_value` does not say which units count before their window closed
    warning[E0110]: `guardrail.action` of the metric `refund_rate` is not read
    warning[E0110]: the metric `orders_growth` is left out: `orders` is asked for another time or with another filter
    warning[E0110]: the metric `visit_to_order` is left out: metrics of type `conversion` are not read
    warning[E0110]: the metric `loads_per_view` is left out: its unit is `page_view`, and another metric of `fct_page_views` says `user`
    warning[E0110]: `fill_nulls_with` of the metric `fast_visits` is not read
    warning[E0110]: the metric `mean_load_time` has no owner
    warning[E0110]: the metric `slowest` is left out: `max` over all units of a day is no metric here
    warning[E0110]: `Metric('visit_count', group_by=['user'])` in a filter is not read, so the metric is left out
    ");
}

/// What a command prints about the project.
fn said(arguments: &[&str]) -> String {
    let output = equipoise(BUILT.0.path(), &[arguments, &["--quiet"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_tree_shows_what_drives_what_and_who_answers_for_it() {
    insta::assert_snapshot!(said(&["metric", "tree"]), @"
    without an area
      net_revenue (north_star, team-monetisation)
        average_order_value (driver, team-monetisation)
        buyer_conversion (driver, team-growth)
        d7_retention (driver, team-growth)
      page_load_p50 (guardrail, team-web, required for *)
      refund_rate (guardrail, team-care, required for area:checkout)
      fast_share (component, team-web)
      fast_visits (component, team-web)
      mean_load_time (component, nobody)
      orders (component, team-monetisation)
      orders_7d (component, team-monetisation)
      refunded_value (component, team-care)
      refunds_per_order (component, team-care)
      visit_count (component, team-web)
      visits_to_date (component, team-web)
    ");
}

#[test]
fn a_metric_shows_what_it_declares_and_its_sql_runs() {
    let shown = said(&["metric", "show", "net_revenue"]);
    for line in [
        "units without events      count as 0",
        "window                    [0d, 14d) from the first assignment",
        "units with an open window count with what they have",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let listed = said(&["metric", "list", "--output", "json"]);
    let guardrail = listed
        .lines()
        .find(|line| line.contains("\"refund_rate\""))
        .expect("it is listed");
    let guardrail: serde_json::Value = serde_json::from_str(guardrail).expect("a line is JSON");
    assert_eq!(guardrail["kind"], "ratio");
    assert_eq!(
        guardrail["required_for"],
        serde_json::json!(["area:checkout"])
    );
    // A derived metric brings along what it is made of.
    let sql = said(&["metric", "sql", "refunds_per_order"]);
    let (_, by_day) = sql.split_once("-- by day\n").expect("the SQL by day");
    let days = rows(&format!(
        "select numerator from ({by_day}) as days where metric_name = 'refunds_per_order' order by metric_date"
    ));
    assert_eq!(days, "0.0\n250.0\n4000.0");
}

#[test]
fn a_worked_file_of_another_tool_is_read_as_it_is() {
    let shared =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/metrics.example.yml");
    let Ok(text) = std::fs::read_to_string(&shared) else {
        println!("skipped: there is no {}", shared.display());
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("project.yml", "name: example\n");
    write("models/metrics.yml", &text);
    write(
        "models/time_spine.sql",
        "select cast('2026-01-01' as date) as date_day\n",
    );
    let order = "1 as order_id, 1 as user_id, timestamp '2026-01-05 10:00:00' as ordered_at, 'paid' as status";
    write(
        "models/fct_orders.sql",
        &format!("select {order}, 1000 as net_cents, 50 as refund_cents\n"),
    );
    let view =
        "1 as view_id, 1 as user_id, timestamp '2026-01-05 10:00:00' as viewed_at, 300 as load_ms";
    write("models/fct_page_views.sql", &format!("select {view}\n"));
    let listed = equipoise(folder.path(), &["metric", "list"]);
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    let kinds: Vec<String> = said
        .lines()
        .skip(1)
        .map(|line| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "average_order_value ratio",
            "buyer_conversion proportion",
            "d7_retention retention",
            "net_revenue mean",
            "orders count",
            "page_load_p95 quantile",
            "refund_rate ratio",
            "refunded_value total",
        ]
    );
    // Nothing is lost but what no number depends on, and each loss is said.
    let losses = String::from_utf8_lossy(&listed.stderr).into_owned();
    let known = [
        "`id`",
        "`certified`",
        "`mde`",
        "`guardrail.action`",
        "not say which units count",
    ];
    for line in losses.lines().filter(|line| line.starts_with("warning")) {
        assert!(known.iter().any(|known| line.contains(known)), "{line}");
    }
    assert!(!losses.contains("error"), "{losses}");
}
