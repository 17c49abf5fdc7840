//! Running experiments keep the version of a metric that they started with: a change is locked while one runs, both versions are
//! computed, the old one decides; after the end there is only the new one.

use serde_json::{Value, json};

use super::metric_lock::{Demo, FAILED, GOOD};

const METRICS: &str = "defaults: {fact: fact_orders, fill: zero, window: {start: 0d, length: to_end}, owner: team-shop}
metrics:
  - {name: revenue, kind: mean, agg: sum, expr: amount, filter: status = 'paid', direction: increase, tier: north_star, version: 1.0.0}
  - {name: orders, kind: mean, agg: count, direction: increase, version: 1.0.0}
";
const EXPERIMENT: &str = "experiments:
  - key: express
    hypothesis: Paying faster sells more.
    owner: team-shop
    variants: {control: 0.5, test: 0.5}
    period: {from: 2026-01-01}
    assignments: {model: raw_assignments}
    metrics: {primary: revenue, secondary: [orders]}
";

/// An experiment without a planned end on six users, of whom one is internal.
fn running() -> Demo {
    let demo = Demo::new();
    let user = |user: u32| format!("{user},pro,{}\n", user == 6);
    let assigned = |user: u32| {
        let variant = if user.is_multiple_of(2) {
            "test"
        } else {
            "control"
        };
        format!("express,{user},{variant},2026-01-02 00:00:00\n")
    };
    let order = |user: u32| {
        let status = if user == 5 { "open" } else { "paid" };
        format!(
            "{user},{user},2026-01-05 10:00:00,{}.0,{status}\n",
            user * 10
        )
    };
    let rows = |row: &dyn Fn(u32) -> String| (1..=6).map(row).collect::<String>();
    demo.write(
        "seeds/raw_users.csv",
        &format!("user_id,plan,is_internal\n{}", rows(&user)),
    );
    demo.write(
        "seeds/raw_assignments.csv",
        &format!(
            "experiment_key,unit_id,variant,assigned_at\n{}",
            rows(&assigned)
        ),
    );
    demo.write(
        "seeds/raw_orders.csv",
        &format!(
            "order_id,user_id,ordered_at,amount,status\n{}",
            rows(&order)
        ),
    );
    let model = |name: &str, sql: &str| {
        demo.write(
            &format!("models/{name}.sql"),
            &format!("{{{{ config(materialized='table') }}}}\n{sql}\n"),
        );
    };
    model("fact_assignments", "select * from {{ experiment_units() }}");
    model(
        "metric_aggregates",
        "select * from {{ metric_aggregates(units=ref('fact_assignments')) }}",
    );
    model(
        "experiment_results",
        "{{ experiment_results(aggregates=ref('metric_aggregates')) }}",
    );
    model(
        "dim_experiments",
        "select *, false as has_ended from {{ experiment_definitions() }}",
    );
    model(
        "sample_ratio_checks",
        "{{ sample_ratio_checks(assignments=ref('raw_assignments'), units=ref('fact_assignments')) }}",
    );
    model(
        "experiment_decisions",
        "{{ experiment_decisions(experiments=ref('dim_experiments'), units=ref('fact_assignments'), \
         sample_ratios=ref('sample_ratio_checks'), results=ref('experiment_results')) }}",
    );
    demo.write("metrics/shop.yml", METRICS);
    demo.write("experiments/express.yml", EXPERIMENT);
    demo.good(&["metric", "lock", "--all", "--reason", "first agreement"]);
    demo.good(&["build", "--quiet"]);
    demo
}

/// Version, whether it decides, and the means of both arms of every metric.
fn results(demo: &Demo) -> Vec<Value> {
    let query = "select metric_name || ' ' || metric_version as metric, is_decisive, control_value, treatment_value \
                 from experiment_results order by 1";
    let said = demo.good(&["sql", query, "--output", "json"]);
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn row(metric: &str, is_decisive: bool, control: f64, treatment: f64) -> Value {
    json!({"metric": metric, "is_decisive": is_decisive, "control_value": control, "treatment_value": treatment})
}

/// Open orders count, and so do internal users: a change of the metric and of a model below its fact.
fn change(demo: &Demo) {
    let changed = METRICS.replacen("filter: status = 'paid', ", "", 1);
    demo.write("metrics/shop.yml", &changed.replace("1.0.0", "2.0.0"));
    demo.write(
        "models/stg_users.sql",
        "select user_id, plan from {{ ref('raw_users') }}\n",
    );
}

const LOCK: [&str; 5] = ["metric", "lock", "--all", "--reason", "everybody counts"];

/// Control 10 + 30 of three users, test 20 + 40, the internal user and the open order left out.
fn old_rows(is_decisive: bool) -> [Value; 2] {
    [
        row("orders 1.0.0", is_decisive, 1.0, 2.0 / 3.0),
        row("revenue 1.0.0", is_decisive, 40.0 / 3.0, 20.0),
    ]
}

fn new_rows(is_decisive: bool) -> [Value; 2] {
    [
        row("orders 2.0.0", is_decisive, 1.0, 1.0),
        row("revenue 2.0.0", is_decisive, 30.0, 40.0),
    ]
}

#[test]
fn a_running_experiment_decides_by_the_version_it_started_with_and_shows_the_new_one_beside_it() {
    let demo = running();
    assert_eq!(results(&demo), old_rows(true));
    change(&demo);
    let said = demo.good(&LOCK);
    assert_eq!(
        said.out,
        "locked orders 2.0.0 (breaking)\nlocked revenue 2.0.0 (breaking)\nkept orders 1.0.0 for express\nkept revenue 1.0.0 for express\n"
    );
    demo.good(&["build", "--quiet"]);
    let [old_orders, old_revenue] = old_rows(true);
    let [new_orders, new_revenue] = new_rows(false);
    let both = [old_orders, new_orders, old_revenue, new_revenue];
    assert_eq!(results(&demo), both);
    // The same by plain SQL.
    demo.good(&["build", "--quiet", "--engine", "sql"]);
    assert_eq!(results(&demo), both);
    let decision = "select round(effect, 6) as effect from experiment_decisions";
    let decided = demo.good(&["sql", decision, "--output", "json"]).out;
    assert_eq!(decided.trim(), json!({"effect": 6.666667}).to_string());

    let shown = demo.good(&["metric", "show", "revenue"]).out;
    assert!(
        shown.contains("version 1.0.0             decides express until the end"),
        "{shown}"
    );

    // A third version moves nothing for the experiment: it goes on with the first.
    let third = METRICS.replacen("status = 'paid'", "status = 'open'", 1);
    demo.write(
        "metrics/shop.yml",
        &third
            .replacen("1.0.0", "3.0.0", 1)
            .replace("1.0.0", "2.0.0"),
    );
    assert_eq!(demo.good(&LOCK).out, "locked revenue 3.0.0 (breaking)\n");
    demo.good(&["build", "--quiet"]);
    let [.., old] = old_rows(true);
    assert_eq!(
        results(&demo)[2..],
        [old, row("revenue 3.0.0", false, 50.0 / 3.0, 0.0)]
    );
}

#[test]
fn after_the_end_there_is_only_the_new_version_and_the_next_lock_takes_the_old_one_away() {
    let demo = running();
    change(&demo);
    demo.good(&LOCK);
    let path = demo.folder.path().join("metrics.kept/revenue@1.0.0.json");
    assert!(path.exists());
    demo.write(
        "experiments/express.yml",
        &EXPERIMENT.replace("from: 2026-01-01", "from: 2026-01-01, to: 2026-01-31"),
    );
    demo.good(&["build", "--quiet"]);
    assert_eq!(results(&demo), new_rows(true));
    demo.good(&LOCK);
    assert!(!path.exists(), "nobody needs it");
    let kept = std::fs::read_dir(demo.folder.path().join("metrics.kept")).expect("a folder");
    assert_eq!(kept.count(), 3, "two metrics and their fact");
}

#[test]
fn an_experiment_that_the_data_have_not_seen_end_still_runs() {
    let demo = running();
    change(&demo);
    demo.good(&LOCK);
    demo.write(
        "experiments/express.yml",
        &EXPERIMENT.replace("from: 2026-01-01", "from: 2026-01-01, to: 2026-01-31"),
    );
    let until = |day: &str| {
        demo.write(
            "project.yml",
            &format!("name: demo\nvars: {{data_ends_at: '{day} 00:00:00'}}\n"),
        );
        demo.good(&["build", "--quiet"]);
        results(&demo).len()
    };
    // It ends with the last of January, and is decided by data that are complete up to then.
    assert_eq!(until("2026-02-01"), 4);
    assert_eq!(until("2026-02-02"), 2);
}

#[test]
fn running_experiments_take_the_new_version_where_that_is_wanted() {
    let demo = running();
    change(&demo);
    let said = demo.good(&[&LOCK[..], &["--move-running"]].concat());
    assert!(!said.out.contains("kept"), "{}", said.out);
    demo.good(&["build", "--quiet"]);
    assert_eq!(results(&demo), new_rows(true));
}

#[test]
fn a_version_that_was_never_kept_cannot_be_left() {
    let demo = running();
    std::fs::remove_dir_all(demo.folder.path().join("metrics.kept")).expect("it was there");
    let before = demo.lock();
    change(&demo);
    let said = demo.run(&LOCK);
    assert_eq!(said.code, FAILED, "{}", said.err);
    insta::assert_snapshot!(said.err.trim(), @"
    error[E0511]: `express` started with `orders` 1.0.0, which was not kept
     |
     = note: a version is kept when it is locked; this one was locked before that was so
     = hint: take the change back, run `equipoise metric lock --all --reason …`, which keeps 1.0.0, and lock the change then; or let running experiments take the new version with `--move-running`

    error[E0511]: `express` started with `revenue` 1.0.0, which was not kept
     |
     = note: a version is kept when it is locked; this one was locked before that was so
     = hint: take the change back, run `equipoise metric lock --all --reason …`, which keeps 1.0.0, and lock the change then; or let running experiments take the new version with `--move-running`

    2 errors
    ");
    assert_eq!(demo.lock(), before);
    // Where the change is taken back, a lock that changes nothing keeps what is missing.
    demo.write("metrics/shop.yml", METRICS);
    demo.write(
        "models/stg_users.sql",
        "select user_id, plan from {{ ref('raw_users') }} where not is_internal\n",
    );
    assert_eq!(demo.good(&LOCK).out, "");
    change(&demo);
    demo.good(&LOCK);
    assert_eq!(demo.run(&["build", "--quiet"]).code, GOOD);
}

#[test]
fn what_a_kept_version_reads_must_stay() {
    let demo = running();
    change(&demo);
    demo.good(&LOCK);
    // A seed that both versions read: the new one is agreed to, the old one is not what it was.
    let seed =
        std::fs::read_to_string(demo.folder.path().join("seeds/raw_orders.csv")).expect("a seed");
    demo.write(
        "seeds/raw_orders.csv",
        &seed.replace("10.0,paid", "11.0,paid"),
    );
    demo.write(
        "metrics/shop.yml",
        &METRICS
            .replacen("filter: status = 'paid', ", "", 1)
            .replace("1.0.0", "3.0.0"),
    );
    demo.good(&LOCK);
    let said = demo.run(&["build", "--quiet"]);
    assert_eq!(said.code, FAILED, "{}", said.err);
    insta::assert_snapshot!(said.err.trim(), @"
    error[E0511]: `revenue` 1.0.0, which `express` started with, no longer means what was locked
     --> metrics.kept/revenue@1.0.0.json:1:1
      |
    1 | {
      | ^
      |
      = note: its models are kept; what changed is a seed that it reads, or a constraint that is declared of its sources
      = hint: put that back until the experiments end, or end them

    1 error
    ");
    // A column that only the old version reads.
    demo.write("seeds/raw_orders.csv", &seed.replace("status", "state"));
    demo.write(
        "models/fact_orders.sql",
        "select order_id, user_id, ordered_at, amount from {{ ref('raw_orders') }}\n",
    );
    let said = demo.run(&["build", "--quiet"]);
    insta::assert_snapshot!(said.err.trim(), @"
    error[E0511]: `orders` 1.0.0 and `revenue` 1.0.0, which running experiments started with, cannot be computed any more: there is no column `o.status`
     --> metrics.kept/fact_orders@6f78d565.sql:1:1
      |
    1 | -- `fact_orders` and the models below it, as they were when a metric was locked. Written by `equipoise metric lock`; not by hand.
      | ^
      |
      = hint: what it reads from sources and seeds must stay until the experiments end

    1 error
    ");
}

#[test]
fn a_fact_that_is_a_seed_is_read_as_it_is() {
    let demo = running();
    demo.write(
        "seeds/seeds.yml",
        "seeds:\n  - name: raw_orders\n    fact: {unit: user_id, time: ordered_at}\n",
    );
    let direct = METRICS.replace("fact: fact_orders", "fact: raw_orders");
    demo.write("metrics/shop.yml", &direct.replace("1.0.0", "2.0.0"));
    demo.good(&[&LOCK[..], &["--move-running"]].concat());
    demo.write(
        "metrics/shop.yml",
        &direct.replace("'paid'", "'open'").replace("1.0.0", "3.0.0"),
    );
    demo.good(&LOCK);
    demo.good(&["build", "--quiet"]);
    let versions: Vec<Value> = results(&demo);
    let decisive: Vec<&Value> = versions
        .iter()
        .filter(|row| row["is_decisive"] == true)
        .map(|row| &row["metric"])
        .collect();
    // The count of orders only has another number, which moves nothing.
    assert_eq!(decisive, ["orders 3.0.0", "revenue 2.0.0"]);
}
