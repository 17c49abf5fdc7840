//! Every kind of metric on a handful of events: what `metric_aggregates` and `metric_daily` say is what a person gets by hand.
//! Users u1 and u2 are in control, u3, u4 and u5 in test; u9 is in no experiment, and one assignment is nobody's. The data end on
//! January 25 at midnight.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use super::shop::assert_states_are_equal;

const EVENTS: &str = "\
user_id,event_name,amount,occurred_at
u1,visit,0,2026-01-05T10:00:00
u1,cart,0,2026-01-05T11:00:00
u1,order,10,2026-01-05T12:00:00
u1,gift,3,2026-01-05T22:30:00
u1,visit,0,2026-01-13T10:00:00
u1,order,30,2026-01-13T11:00:00
u2,visit,0,2026-01-06T08:00:00
u2,order,20,2026-01-06T09:00:00
u2,cart,0,2026-01-06T10:00:00
u3,visit,0,2026-01-05T10:00:00
u3,cart,0,2026-01-05T10:30:00
u3,gift,7,2026-01-05T23:30:00
u3,visit,0,2026-01-12T00:00:00
u5,visit,0,2026-01-21T10:00:00
u5,order,50,2026-01-24T10:00:00
u9,order,5,2026-01-05T15:00:00
u9,visit,0,2026-01-25T00:00:00
";

const ASSIGNMENTS: &str = "\
experiment_key,unit_id,variant,assigned_at
e,u1,control,2026-01-05T00:00:00
e,u2,control,2026-01-05T00:00:00
e,u3,test,2026-01-05T00:00:00
e,u4,test,2026-01-05T00:00:00
e,u5,test,2026-01-20T00:00:00
e,,test,2026-01-20T00:00:00
";

const DEFAULTS: &str = "\
defaults: {fact: fact_events, fill: zero, window: {start: 0d, length: 14d}, maturity: partial, owner: team-shop}
metrics:
";

/// The part of a metric that makes it what it is; `direction: increase` and the defaults complete it.
const METRICS: &[(&str, &str)] = &[
    (
        "revenue",
        "{kind: mean, event: order, agg: sum, expr: amount}",
    ),
    (
        "revenue_of_buyers",
        "{kind: mean, event: order, agg: sum, expr: amount, fill: exclude}",
    ),
    (
        "revenue_full",
        "{kind: mean, event: order, agg: sum, expr: amount, maturity: full_window}",
    ),
    (
        "revenue_to_end",
        "{kind: mean, event: order, agg: sum, expr: amount, window: {start: 0d, length: to_end}}",
    ),
    ("orders_counted", "{kind: count, event: order}"),
    (
        "orders_of_buyers",
        "{kind: mean, event: order, agg: count, fill: exclude}",
    ),
    ("revenue_total", "{kind: total, event: order, expr: amount}"),
    ("buyers", "{kind: proportion, event: order}"),
    (
        "came_back",
        "{kind: retention, event: visit, window: {start: 7d, length: 7d}}",
    ),
    (
        "came_back_full",
        "{kind: retention, event: visit, window: {start: 7d, length: 7d}, maturity: full_window}",
    ),
    (
        "came_back_twice",
        "{kind: retention, event: visit, at_least: 2, window: {start: 1d, length: 13d}}",
    ),
    (
        "order_value",
        "{kind: ratio, numerator: {event: order, agg: sum, expr: amount}, denominator: {event: order, agg: count}}",
    ),
    (
        "own_order_value",
        "{kind: mean_of_ratios, numerator: {event: order, agg: sum, expr: amount}, denominator: {event: order, agg: count}, fill: exclude}",
    ),
    (
        "own_order_value_of_all",
        "{kind: mean_of_ratios, numerator: {event: order, agg: sum, expr: amount}, denominator: {event: order, agg: count}}",
    ),
    (
        "median_order",
        "{kind: quantile, q: 0.5, level: event, cluster: user_id, event: order, expr: amount}",
    ),
    (
        "median_user",
        "{kind: quantile, q: 0.5, level: unit, event: order, agg: sum, expr: amount}",
    ),
    (
        "bought_by_cart",
        "{kind: funnel, steps: [{event: visit}, {event: cart}, {event: order}]}",
    ),
    (
        "visitors_bought_by_cart",
        "{kind: funnel, steps: [{event: visit}, {event: cart}, {event: order}], fill: exclude}",
    ),
    (
        "revenue_capped",
        "{kind: mean, event: order, agg: sum, expr: amount, cap: 25}",
    ),
    (
        "revenue_cap_pooled",
        "{kind: mean, event: order, agg: sum, expr: amount, cap: {quantile: 0.5, by: pooled}}",
    ),
    (
        "revenue_cap_by_variant",
        "{kind: mean, event: order, agg: sum, expr: amount, cap: {quantile: 0.5, by: variant}}",
    ),
    (
        "order_value_capped",
        "{kind: ratio, numerator: {event: order, agg: sum, expr: amount, cap: 25}, denominator: {event: order, agg: count}}",
    ),
    (
        "order_value_cap_of_both",
        "{kind: ratio, numerator: {event: order, agg: sum, expr: amount, cap: {quantile: 0.5, by: pooled}}, denominator: {event: order, agg: count, cap: {quantile: 0.5, by: variant}}}",
    ),
    (
        "gifts_of_a_day",
        "{kind: mean, event: gift, agg: sum, expr: amount, window: {start: 0d, length: 1d}}",
    ),
    (
        "gifts_of_a_day_in_berlin",
        "{kind: mean, event: gift, agg: sum, expr: amount, window: {start: 0d, length: 1d, calendar: Europe/Berlin}}",
    ),
    (
        "gifts_of_the_next_day_in_berlin",
        "{kind: mean, event: gift, agg: sum, expr: amount, window: {start: 1d, length: 1d, calendar: Europe/Berlin}, maturity: full_window}",
    ),
];

/// Metrics that experiments cannot be decided by.
const DASHBOARDS: &[(&str, &str)] = &[
    (
        "revenue_2d",
        "{kind: cumulative, event: order, agg: sum, expr: amount, over: 2d}",
    ),
    (
        "revenue_month",
        "{kind: cumulative, event: order, agg: sum, expr: amount, over: month}",
    ),
    (
        "orders_so_far",
        "{kind: cumulative, event: order, agg: count, over: all_time}",
    ),
    (
        "buyers_2d",
        "{kind: cumulative, event: order, agg: count_distinct, expr: user_id, over: 2d}",
    ),
    (
        "visitors_8d",
        "{kind: cumulative, event: visit, agg: count_distinct, expr: user_id, over: 8d}",
    ),
    (
        "visitors_month",
        "{kind: cumulative, event: visit, agg: count_distinct, expr: user_id, over: month}",
    ),
    (
        "visitors_so_far",
        "{kind: cumulative, event: visit, agg: count_distinct, expr: user_id, over: all_time}",
    ),
    (
        "value_per_order",
        "{kind: derived, expr: revenue_total / orders_counted}",
    ),
    (
        "twice_value_per_order",
        "{kind: derived, expr: 2 * value_per_order}",
    ),
];

const DAILY: &str = "{{ config(materialized='table') }}\nselect *, numerator / nullif(denominator, 0) as value from {{ metric_daily() }} as daily\n";

/// Built by the operator as `dev` and by plain SQL as `prod`.
static PROJECT: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = written(DAILY);
    for (target, engine) in [("dev", "operator"), ("prod", "sql")] {
        let arguments = ["build", "--target", target, "--engine", engine];
        let built = equipoise(folder.path(), &arguments);
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    folder
});

/// The project with such a dashboard.
fn written(daily: &str) -> TempDir {
    let folder = crate::folder();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let metric = |(name, body): &(&str, &str)| {
        let body = body.trim_start_matches('{');
        format!("  - {{name: {name}, direction: increase, {body}\n")
    };
    let metrics: String = METRICS.iter().chain(DASHBOARDS).map(metric).collect();
    let names: Vec<&str> = METRICS.iter().skip(1).map(|(name, _)| *name).collect();
    write("project.yml", "name: kinds\n");
    write("seeds/raw_events.csv", EVENTS);
    write("seeds/raw_assignments.csv", ASSIGNMENTS);
    write(
        "models/fact_events.sql",
        "{{ config(materialized='table') }}\nselect user_id, event_name, cast(amount as double) as amount, cast(occurred_at as timestamp) as occurred_at from {{ ref('raw_events') }}\n\
         -- Of no day, and in no window.\n\
         union all select user_id, event_name, 900.0, cast(null as timestamp) from {{ ref('raw_events') }}\n",
    );
    write(
        "models/fact_events.yml",
        "models:\n  - name: fact_events\n    fact: {unit: user_id, time: occurred_at, event: event_name}\n",
    );
    write(
        "models/stg_assignments.sql",
        "select experiment_key, unit_id, variant, cast(assigned_at as timestamp) as assigned_at from {{ ref('raw_assignments') }}\n",
    );
    write(
        "models/fact_assignments.sql",
        "{{ config(materialized='table') }}\nselect * from {{ experiment_units() }}\n",
    );
    write(
        "models/metric_aggregates.sql",
        "{{ config(materialized='table') }}\nselect * from {{ metric_aggregates(units=ref('fact_assignments')) }} as aggregates\n",
    );
    write("models/metric_daily.sql", daily);
    write(
        "tests/assert_parts.sql",
        include_str!("../data/assert_exposed_and_unexposed_are_all.sql"),
    );
    write(
        "models/metric_daily_parts.sql",
        "{{ config(materialized='table') }}\nselect * from {{ metric_daily(units=ref('fact_assignments')) }} as parts\n",
    );
    write("metrics/kinds.yml", &format!("{DEFAULTS}{metrics}"));
    write(
        "experiments/e.yml",
        &format!(
            "experiments:\n  - key: e\n    hypothesis: None.\n    owner: team-shop\n    variants: {{control: 0.5, test: 0.5}}\n    \
             period: {{from: 2026-01-05, to: 2026-01-31}}\n    assignments: {{model: stg_assignments}}\n    \
             metrics: {{primary: revenue, secondary: [{}]}}\n",
            names.join(", ")
        ),
    );
    folder
}

fn equipoise(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder)
        .output()
        .expect("the program runs")
}

/// What the operator has computed.
fn rows(query: &str) -> Vec<Value> {
    rows_in("dev", query)
}

fn rows_in(target: &str, query: &str) -> Vec<Value> {
    let arguments = ["sql", query, "--output", "json", "--target", target];
    let output = equipoise(PROJECT.path(), &arguments);
    assert!(
        output.status.success(),
        "{query}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

/// Units and mean of every metric in control and in test, as `n:mean`.
static ARMS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let arm = |row: &Value| match row["denominator"].as_f64() {
        Some(denominator) => format!("{}:{}/{denominator:.4}", row["n"], row["mean"]),
        None => format!("{}:{}", row["n"], row["mean"]),
    };
    by_metric(
        "select metric_name, state['n'] as n, round(state['mean'][1], 4) as mean, round(state['mean'][2], 4) as denominator \
         from metric_aggregates order by metric_name, variant",
        arm,
    )
});

/// Every metric's days as `day:value`, January understood.
static DAYS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    by_metric(
        "select metric_name, cast(date_part('day', metric_date) as int) as day, round(value, 4) as value \
         from metric_daily order by metric_name, metric_date",
        |row| format!("{}:{}", row["day"], row["value"]),
    )
});

fn by_metric(query: &str, text: impl Fn(&Value) -> String) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows(query) {
        let metric = row["metric_name"].as_str().expect("a name").to_string();
        found.entry(metric).or_default().push(text(&row));
    }
    let joined = found
        .into_iter()
        .map(|(metric, texts)| (metric, texts.join(" ")));
    joined.collect()
}

fn arms(metric: &str) -> &'static str {
    &ARMS[metric]
}

fn days(metric: &str) -> &'static str {
    &DAYS[metric]
}

#[test]
fn means_count_units_without_events_as_they_say() {
    assert_eq!(arms("revenue"), "2:30.0 3:16.6667");
    assert_eq!(arms("revenue_of_buyers"), "2:30.0 1:50.0");
    assert_eq!(arms("orders_of_buyers"), "2:1.5 1:1.0");
    assert_eq!(arms("orders_counted"), "2:1.5 3:0.3333");
    assert_eq!(arms("revenue_total"), arms("revenue"));
}

#[test]
fn units_whose_window_is_open_count_as_maturity_says() {
    // The window of u5 closes on February 3, nine days after the data end.
    assert_eq!(arms("revenue_full"), "2:30.0 2:0.0");
    assert_eq!(arms("revenue_to_end"), arms("revenue"));
    assert_eq!(arms("came_back"), "2:0.5 3:0.3333");
    assert_eq!(arms("came_back_full"), "2:0.5 2:0.5");
}

#[test]
fn windows_are_half_open() {
    // The second visit of u3 is exactly seven days after its assignment: the first instant of the window.
    assert_eq!(arms("came_back_full"), "2:0.5 2:0.5");
    // u1 visits on days 0, 8; u3 on days 0, 7; u5 on day 1 only.
    assert_eq!(arms("came_back_twice"), "2:0.0 3:0.0");
}

#[test]
fn shares_and_ratios_are_over_what_they_name() {
    assert_eq!(arms("buyers"), "2:1.0 3:0.3333");
    assert_eq!(arms("order_value"), "2:30.0/1.5000 3:16.6667/0.3333");
    // u1 spends 20 per order, u2 20, u5 50.
    assert_eq!(arms("own_order_value"), "2:20.0 1:50.0");
    assert_eq!(arms("own_order_value_of_all"), "2:20.0 3:16.6667");
}

#[test]
fn steps_count_in_their_order_only() {
    // u2 puts something into the cart after it ordered; u5 never has a cart.
    assert_eq!(arms("bought_by_cart"), "2:0.5 3:0.0");
    assert_eq!(arms("visitors_bought_by_cart"), "2:0.5 2:0.0");
}

#[test]
fn quantiles_are_of_events_or_of_units() {
    // So few have a quantile but no variance, which one unit stands for.
    assert_eq!(arms("median_order"), "1:20.0 1:50.0");
    assert_eq!(arms("median_user"), "1:30.0 1:0.0");
}

#[test]
fn caps_are_frozen_pooled_or_by_variant() {
    assert_eq!(arms("revenue_capped"), "2:22.5 3:8.3333");
    // Of 0, 0, 20, 40 and 50 the median is 20.
    assert_eq!(arms("revenue_cap_pooled"), "2:20.0 3:6.6667");
    // 30 of 20 and 40; 0 of 0, 0 and 50.
    assert_eq!(arms("revenue_cap_by_variant"), "2:25.0 3:0.0");
    // Each side of a ratio has its own: 25 and 20 over 2 and 1 orders.
    assert_eq!(arms("order_value_capped"), "2:22.5/1.5000 3:8.3333/0.3333");
    // 1.5 of 2 and 1 orders; 0 of 0, 0 and 1.
    assert_eq!(
        arms("order_value_cap_of_both"),
        "2:20.0/1.2500 3:6.6667/0.0000"
    );
}

#[test]
fn a_calendar_day_ends_at_midnight_of_its_zone() {
    assert_eq!(arms("gifts_of_a_day"), "2:1.5 3:2.3333");
    // The gift to u3 at 23:30 UTC is of the next day in Berlin.
    assert_eq!(arms("gifts_of_a_day_in_berlin"), "2:1.5 3:0.0");
    assert_eq!(arms("gifts_of_the_next_day_in_berlin"), "2:0.0 3:2.3333");
}

#[test]
fn days_of_dashboards_are_those_of_a_pocket_calculator() {
    // u1, u3 and u9 are there on the 5th; u1 and u9 order.
    assert_eq!(
        days("revenue"),
        "5:5.0 6:20.0 12:0.0 13:30.0 21:0.0 24:50.0 25:0.0"
    );
    assert_eq!(
        days("revenue_of_buyers"),
        "5:7.5 6:20.0 12:null 13:30.0 21:null 24:50.0 25:null"
    );
    assert_eq!(
        days("revenue_total"),
        "5:15.0 6:20.0 12:0.0 13:30.0 21:0.0 24:50.0 25:0.0"
    );
    assert_eq!(
        days("buyers"),
        "5:0.6667 6:1.0 12:0.0 13:1.0 21:0.0 24:1.0 25:0.0"
    );
    assert_eq!(
        days("order_value"),
        "5:7.5 6:20.0 12:null 13:30.0 21:null 24:50.0 25:null"
    );
    assert_eq!(
        days("own_order_value"),
        "5:7.5 6:20.0 12:null 13:30.0 21:null 24:50.0 25:null"
    );
    assert_eq!(days("median_order"), "5:7.5 6:20.0 13:30.0 24:50.0");
    assert_eq!(
        days("median_user"),
        "5:5.0 6:20.0 12:0.0 13:30.0 21:0.0 24:50.0 25:0.0"
    );
    assert_eq!(
        days("bought_by_cart"),
        "5:0.3333 6:0.0 12:0.0 13:0.0 21:0.0 24:0.0 25:0.0"
    );
    assert_eq!(
        days("visitors_bought_by_cart"),
        "5:0.5 6:0.0 12:0.0 13:0.0 21:0.0 24:null 25:0.0"
    );
}

#[test]
fn cohorts_of_a_day_are_those_that_were_there() {
    // Of u1, u3 and u9 on the 5th, two are back from the 12th to the 18th.
    assert_eq!(
        days("came_back"),
        "5:0.6667 6:0.0 12:0.0 13:0.0 21:0.0 24:0.0 25:0.0"
    );
    // The window of the 12th closes with the 25th, of which only an instant is known.
    assert_eq!(days("came_back_full"), "5:0.6667 6:0.0");
}

#[test]
fn running_totals_reach_back_as_far_as_they_say() {
    assert_eq!(
        days("revenue_2d"),
        "5:15.0 6:35.0 12:0.0 13:30.0 21:0.0 24:50.0 25:50.0"
    );
    assert_eq!(
        days("revenue_month"),
        "5:15.0 6:35.0 12:35.0 13:65.0 21:65.0 24:115.0 25:115.0"
    );
    assert_eq!(
        days("orders_so_far"),
        "5:2.0 6:3.0 12:3.0 13:4.0 21:4.0 24:5.0 25:5.0"
    );
    assert_eq!(
        days("buyers_2d"),
        "5:2.0 6:3.0 12:0.0 13:1.0 21:0.0 24:1.0 25:1.0"
    );
    // u3 is seen again on the 12th, within the window that began on the 5th, and u1 on the 13th, a day after it.
    assert_eq!(
        days("visitors_8d"),
        "5:2.0 6:3.0 12:3.0 13:3.0 21:1.0 24:1.0 25:2.0"
    );
    assert_eq!(
        days("visitors_month"),
        "5:2.0 6:3.0 12:3.0 13:3.0 21:4.0 24:4.0 25:5.0"
    );
    assert_eq!(days("visitors_so_far"), days("visitors_month"));
}

#[test]
fn derived_metrics_are_expressions_of_a_day() {
    // On days without an order there is no such number.
    assert_eq!(days("value_per_order"), "5:7.5 6:20.0 13:30.0 24:50.0");
    assert_eq!(
        days("twice_value_per_order"),
        "5:15.0 6:40.0 13:60.0 24:100.0"
    );
}

#[test]
fn exposed_and_unexposed_parts_are_of_one_definition() {
    let parts = rows(
        "select is_exposed, sum(numerator) as revenue from metric_daily_parts where metric_name = 'revenue_total' group by 1 order by 1",
    );
    assert_eq!(parts[0]["revenue"].as_f64(), Some(5.0));
    assert_eq!(parts[1]["revenue"].as_f64(), Some(110.0));
}

#[test]
fn plain_sql_has_the_same_rows() {
    let aggregates = "select experiment_key, variant, metric_name, metric_version, segment_dimension, segment, state, before_state
        from metric_aggregates order by 1, 2, 3, 4, 5, 6";
    let (operator, sql) = (rows(aggregates), rows_in("prod", aggregates));
    assert!(operator.len() > METRICS.len(), "{} states", operator.len());
    assert_eq!(keys(&operator), keys(&sql));
    for (operator, sql) in operator.iter().zip(&sql) {
        for state in ["state", "before_state"] {
            assert_states_are_equal(&operator[state], &sql[state]);
        }
    }
    for table in ["metric_daily", "metric_daily_parts"] {
        let all = format!("select * from {table} order by 1, 2, 3");
        assert_eq!(rows(&all), rows_in("prod", &all));
    }
}

/// What has no unit is no unit's: means, shares and quantiles of units are as if it were not there.
#[test]
fn rows_without_a_unit_are_part_of_totals_and_of_no_mean() {
    let folder = written(DAILY);
    let model = folder.path().join("models/fact_events.sql");
    let events = std::fs::read_to_string(&model).expect("a file");
    let anonymous = "union all select cast(null as varchar), event_name, cast(amount as double), cast(occurred_at as timestamp) from {{ ref('raw_events') }}\n";
    std::fs::write(&model, events + anonymous).expect("a file");
    let built = equipoise(folder.path(), &["build"]);
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    let asked = |folder: &Path, query: &str| {
        let output = equipoise(folder, &["sql", query, "--output", "csv"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // A day, or a part of it, on which nobody did anything says 0 of 0.
    let daily = ["metric_daily", "metric_daily_parts"].map(|table| (table, "denominator <> 0"));
    for (table, condition) in daily.into_iter().chain([("metric_aggregates", "true")]) {
        let of_units = format!(
            "select * from {table} where {condition} and metric_name in ('revenue', 'revenue_of_buyers', 'orders_of_buyers', 'came_back', 'came_back_full', \
             'came_back_twice', 'own_order_value', 'own_order_value_of_all', 'median_user', 'bought_by_cart', 'visitors_bought_by_cart', \
             'revenue_capped', 'buyers_2d', 'visitors_8d') order by 1, 2, 3"
        );
        let known = asked(PROJECT.path(), &of_units);
        assert!(known.contains("came_back_full"), "{known}");
        assert_eq!(asked(folder.path(), &of_units), known);
    }
    let total =
        "select sum(numerator) as total from metric_daily where metric_name = 'revenue_total'";
    assert_eq!(asked(PROJECT.path(), total), "total\n115.0\n");
    assert_eq!(asked(folder.path(), total), "total\n230.0\n");
}

/// Days without a number of a metric stay without a row, whatever other metrics there are.
#[test]
fn a_ratio_of_two_facts_changes_no_other_metric_of_a_day() {
    let folder = written(DAILY);
    let path = |name: &str| folder.path().join(name);
    let copy = |from: &str, to: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(path(from)).expect("a file");
        std::fs::write(path(to), change(text)).expect("a file");
    };
    copy("models/fact_events.sql", "models/fact_orders.sql", &|_| {
        "{{ config(materialized='table') }}\nselect * from {{ ref('fact_events') }} where event_name = 'order'\n".into()
    });
    copy(
        "models/fact_events.yml",
        "models/fact_orders.yml",
        &|yaml| yaml.replace("fact_events", "fact_orders"),
    );
    copy("metrics/kinds.yml", "metrics/kinds.yml", &|yaml| {
        format!(
            "{yaml}  - {{name: orders_per_visit, direction: increase, kind: ratio, numerator: {{fact: fact_orders, agg: count}}, \
             denominator: {{event: visit, agg: count}}}}\n"
        )
    });
    let built = equipoise(folder.path(), &["build"]);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let asked = |folder: &Path, query: &str| {
        let output = equipoise(folder, &["sql", query, "--output", "csv"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for table in ["metric_daily", "metric_daily_parts"] {
        let others = format!(
            "select * from {table} where metric_name <> 'orders_per_visit' order by 1, 2, 3"
        );
        let alone = asked(PROJECT.path(), &others);
        assert!(alone.contains("median_order") || table != "metric_daily");
        assert_eq!(asked(folder.path(), &others), alone);
    }
    let own = "select cast(date_part('day', metric_date) as int) as day, numerator, denominator \
         from metric_daily where metric_name = 'orders_per_visit' order by 1";
    insta::assert_snapshot!(asked(folder.path(), own), @r"
    day,numerator,denominator
    5,2.0,2.0
    6,1.0,1.0
    12,0.0,1.0
    13,1.0,1.0
    21,0.0,1.0
    24,1.0,0.0
    25,0.0,1.0
    ");
}

/// Rows without their states.
fn keys(rows: &[Value]) -> Vec<Value> {
    let mut keys = rows.to_vec();
    for row in &mut keys {
        let row = row.as_object_mut().expect("a row is an object");
        row.retain(|name, _| !name.ends_with("state"));
    }
    keys
}

/// The project with `metrics` beside its own, all of `e`, and without the unit that has no event at all.
fn written_with(metrics: &[(&str, &str)], has_u4: bool) -> TempDir {
    let folder = written(DAILY);
    let edit = |path: &str, change: &dyn Fn(String) -> String| {
        let path = folder.path().join(path);
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(path, change(text)).expect("a file");
    };
    for (name, body) in metrics {
        edit("metrics/kinds.yml", &|text| {
            format!(
                "{text}  - {{name: {name}, direction: increase, {}\n",
                body.trim_start_matches('{')
            )
        });
        edit("experiments/e.yml", &|text| {
            text.replace("secondary: [", &format!("secondary: [{name}, "))
        });
    }
    if !has_u4 {
        edit("seeds/raw_assignments.csv", &|text| {
            text.replace("e,u4,test,2026-01-05T00:00:00\n", "")
        });
    }
    folder
}

/// Each of them forbids units without a value.
const FAILING: &[(&str, &str)] = &[
    (
        "visits_of_everyone",
        "{kind: mean, event: visit, agg: count, fill: fail, covariate: {lookback: 7d}}",
    ),
    (
        "median_visits_of_everyone",
        "{kind: quantile, q: 0.5, level: unit, event: visit, agg: count, fill: fail}",
    ),
    (
        "own_amount_of_everyone",
        "{kind: mean_of_ratios, numerator: {event: visit, agg: sum, expr: amount}, denominator: {event: visit, agg: count}, fill: fail}",
    ),
    (
        "capped_visits_of_everyone",
        "{kind: mean, event: visit, agg: count, fill: fail, cap: 1}",
    ),
];

#[test]
fn a_metric_that_forbids_units_without_a_value_stops_the_build_and_says_how_many() {
    for metric in FAILING {
        let folder = written_with(std::slice::from_ref(metric), true);
        let built = equipoise(folder.path(), &["build"]);
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert_eq!(built.status.code(), Some(1), "{said}");
        let message = format!("`{}` has no value for 1 of the 3 units", metric.0);
        assert!(said.contains(&message), "{said}");
        assert!(said.contains("`fill: exclude`"), "{said}");
        let asked = equipoise(folder.path(), &["sql", "select * from metric_aggregates"]);
        assert!(!asked.status.success(), "the table was published");
    }
}

#[test]
fn where_every_unit_has_a_value_forbidding_the_others_changes_nothing() {
    let folder = written_with(FAILING, false);
    let built = equipoise(folder.path(), &["build"]);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let query = "select metric_name || ' ' || variant || ' ' || state['n'] || ' ' || state['mean'][1] as line \
         from metric_aggregates where metric_name like '%everyone' order by 1";
    let output = equipoise(folder.path(), &["sql", query, "--output", "csv"]);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout), @r"
    line
    capped_visits_of_everyone control 2 1.0
    capped_visits_of_everyone test 2 1.0
    median_visits_of_everyone control 1 1.5
    median_visits_of_everyone test 1 1.5
    own_amount_of_everyone control 2 0.0
    own_amount_of_everyone test 2 0.0
    visits_of_everyone control 2 1.5
    visits_of_everyone test 2 1.5
    ");
}

#[test]
fn a_lost_row_and_a_lost_cent_fail_the_build() {
    let fails = |daily: &str| {
        let folder = written(daily);
        let built = equipoise(folder.path(), &["build"]);
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert_eq!(built.status.code(), Some(1), "{said}");
        assert!(said.contains("assert_parts"), "{said}");
    };
    let on_the_6th = "metric_name = 'revenue_total' and metric_date = date '2026-01-06'";
    fails(&format!("{DAILY}where not ({on_the_6th})\n"));
    let cheaper = format!("numerator - case when {on_the_6th} then 0.01 else 0 end as numerator");
    fails(&DAILY.replace(
        "select *,",
        &format!("select * exclude (numerator), {cheaper},"),
    ));
}
