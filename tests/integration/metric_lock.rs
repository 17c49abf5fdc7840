//! What metrics mean, as a user meets it: `metric lock`, a build that refuses, `metric diff` and `lineage`.

use std::process::{Command, Stdio};

use tempfile::TempDir;

pub(super) const GOOD: i32 = 0;
pub(super) const FAILED: i32 = 1;
const WRONG: i32 = 2;

const STG_USERS: &str = "select user_id, plan from {{ ref('raw_users') }} where not is_internal\n";
const FACT: &str = "select o.order_id, o.user_id, o.ordered_at, o.amount, o.status from {{ ref('raw_orders') }} as o \
    join {{ ref('stg_users') }} as u on u.user_id = o.user_id\n";
const METRICS: &str = "defaults: {fill: zero, window: {start: 0d, length: to_end}}
metrics:
  - {name: net_revenue, kind: mean, fact: fact_orders, agg: sum, expr: amount, filter: status = 'paid', direction: increase, tier: north_star, owner: team-shop, version: 1.0.0}
  - {name: average_order_value, kind: ratio, numerator: {fact: fact_orders, agg: sum, expr: amount}, denominator: {fact: fact_orders, agg: count}, direction: increase, tier: driver, drives: [net_revenue], owner: team-shop, version: 1.0.0}
";

/// A project in a folder of its own: users and orders, a fact, two metrics.
pub(super) struct Demo {
    pub(super) folder: TempDir,
}

pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Demo {
    pub(super) fn new() -> Demo {
        let demo = Demo {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        demo.write("project.yml", "name: demo\n");
        demo.write(
            "seeds/raw_users.csv",
            "user_id,plan,is_internal\n1,pro,false\n2,free,true\n3,free,false\n",
        );
        demo.write("seeds/raw_orders.csv", "order_id,user_id,ordered_at,amount,status\n1,1,2026-01-05 10:00:00,10,paid\n2,2,2026-01-05 11:00:00,20,paid\n3,3,2026-01-06 09:00:00,30,open\n");
        demo.write("models/stg_users.sql", STG_USERS);
        demo.write("models/fact_orders.sql", FACT);
        demo.write(
            "models/models.yml",
            "models:\n  - name: fact_orders\n    fact: {unit: user_id, time: ordered_at}\n",
        );
        demo.write("metrics/shop.yml", METRICS);
        demo
    }

    fn locked() -> Demo {
        let demo = Demo::new();
        demo.good(&["metric", "lock", "--all", "--reason", "first agreement"]);
        demo
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    pub(super) fn lock(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("metrics.lock")).expect("a lock")
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_equipoise"))
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    pub(super) fn good(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, GOOD, "{arguments:?}\n{}{}", said.out, said.err);
        said
    }
}

#[test]
fn a_build_fails_when_a_filter_two_models_up_is_gone_and_says_whom_it_reaches() {
    let demo = Demo::locked();
    demo.good(&["build"]);
    demo.write(
        "models/stg_users.sql",
        "select user_id, plan from {{ ref('raw_users') }}\n",
    );
    let said = demo.run(&["build"]);
    assert_eq!(said.code, FAILED, "{}", said.err);
    let words = "error[E0503]: filter removed two models up, in stg_users: `not is_internal`; rows with `is_internal` are counted again; reaches average_order_value, net_revenue";
    assert!(said.err.contains(words), "{}", said.err);
    assert!(
        said.err.contains("models/stg_users.sql:1:1"),
        "{}",
        said.err
    );
    assert!(said.err.contains("net_revenue 2.0.0"), "{}", said.err);
}

/// Two metrics of rows and one made of them.
fn with_derived() -> Demo {
    let demo = Demo::new();
    demo.write(
        "metrics/shop.yml",
        &derived("filter: status = 'paid', ", "sum"),
    );
    demo.good(&["metric", "lock", "--all", "--reason", "first agreement"]);
    demo
}

fn derived(filter: &str, agg: &str) -> String {
    format!(
        "defaults: {{fact: fact_orders, fill: zero, window: {{start: 0d, length: to_end}}, owner: team-shop}}
metrics:
  - {{name: revenue, kind: total, agg: {agg}, expr: amount, {filter}direction: increase}}
  - {{name: orders, kind: count, direction: increase}}
  - {{name: order_value, kind: derived, expr: revenue / orders, direction: increase}}
"
    )
}

#[test]
fn a_change_of_what_a_derived_metric_is_made_of_is_a_change_of_it() {
    let demo = with_derived();
    demo.good(&["build"]);
    demo.write("metrics/shop.yml", &derived("", "sum"));
    let said = demo.run(&["build"]);
    assert_eq!(said.code, FAILED, "{}", said.err);
    insta::assert_snapshot!(said.err.trim(), @"
    error[E0503]: `revenue` no longer means what was agreed to: filter removed in the metric: `status = 'paid'`; rows that do not meet it are counted again; reaches order_value
     --> metrics/shop.yml:3:12
      |
    3 |   - {name: revenue, kind: total, agg: sum, expr: amount, direction: increase}
      |            ^^^^^^^
      |
      = note: breaking: needs revenue 2.0.0, order_value 2.0.0, and the owner and the approvers to agree (owned by team-shop)
      = hint: undo it, or agree to it: step `version`, then `equipoise metric lock --metric revenue --metric order_value --reason …`

    1 error
    ");
    let diff = demo.run(&["metric", "diff"]).out;
    assert!(
        diff.contains("order_value (breaking")
            && diff.contains("filter removed in `revenue`, which it is made of"),
        "{diff}"
    );

    // A field of the input that its values by day depend on.
    demo.write(
        "metrics/shop.yml",
        &derived("filter: status = 'paid', ", "sum").replace(
            "kind: count,",
            "kind: count, agg: count_distinct, expr: user_id,",
        ),
    );
    let diff = demo.run(&["metric", "diff"]).out;
    assert!(
        diff.contains(
            "field `inputs.orders.aggregation.numerator` changed from `count` to `count_distinct`"
        ),
        "{diff}"
    );

    // Two models up.
    demo.write(
        "metrics/shop.yml",
        &derived("filter: status = 'paid', ", "sum"),
    );
    demo.write(
        "models/stg_users.sql",
        "select user_id, plan from {{ ref('raw_users') }}\n",
    );
    let said = demo.run(&["build"]);
    assert!(
        said.err.contains("reaches order_value, orders, revenue"),
        "{}",
        said.err
    );
    let up = demo.good(&["lineage", "raw_orders.amount", "--down"]).out;
    assert!(up.contains("metric.order_value"), "{up}");
}

#[test]
fn what_a_derived_metric_is_made_of_may_be_refactored_and_windows_of_experiments_do_not_reach_it() {
    let demo = with_derived();
    let windowed = derived("filter: status in ('paid'), ", "sum")
        .replace("length: to_end", "length: 7d}, maturity: partial")
        .replace("partial}", "partial");
    demo.write("metrics/shop.yml", &windowed);
    let diff = demo.run(&["metric", "diff"]).out;
    assert!(diff.contains("revenue (breaking"), "its window: {diff}");
    assert!(!diff.contains("order_value"), "{diff}");
}

#[test]
fn a_derived_metric_that_was_locked_without_its_inputs_needs_no_new_version() {
    let demo = with_derived();
    let lock = demo.lock();
    let start = lock.find("[\"order_value\"]").expect("a block");
    let end = lock.find("[\"orders\"]").expect("the next block");
    let block: String = lock[start..end]
        .lines()
        .filter(|line| {
            !line.contains("inputs.")
                && !line.starts_with("    \"1 ")
                && !line.starts_with("    \"2 ")
                && !line.starts_with("    \"3 ")
        })
        .map(|line| match line.starts_with("plan") {
            true => "plan = \"of nothing\"\n".to_string(),
            false => format!("{line}\n"),
        })
        .collect();
    demo.write(
        "metrics.lock",
        &format!("{}{block}{}", &lock[..start], &lock[end..]),
    );
    demo.good(&["build", "--quiet"]);
    demo.good(&[
        "metric",
        "lock",
        "--all",
        "--reason",
        "what it is made of is locked too",
    ]);
    assert!(demo.lock().contains("inputs.orders.kind = count"));
}

#[test]
fn a_refactor_and_a_new_label_build_as_before() {
    let demo = Demo::locked();
    demo.write(
        "models/active_users.sql",
        "select plan, user_id as id from {{ ref('raw_users') }} where is_internal = false\n",
    );
    demo.write("models/stg_users.sql", "with active as (select * from {{ ref('active_users') }}) select id as user_id, plan from active\n");
    demo.write(
        "metrics/shop.yml",
        &METRICS.replace(
            "name: net_revenue,",
            "name: net_revenue, label: Revenue after refunds,",
        ),
    );
    demo.good(&["build"]);
    let said = demo.good(&["metric", "diff"]);
    assert_eq!(
        said.out,
        "net_revenue (cosmetic)\n  field `label` changed from `net revenue` to `Revenue after refunds`\n"
    );
}

#[test]
fn a_lock_is_renewed_after_the_version_steps_far_enough() {
    let demo = Demo::locked();
    let before = demo.lock();
    demo.write("metrics/shop.yml", &METRICS.replace("'paid'", "'open'"));
    let lock = [
        "metric",
        "lock",
        "--metric",
        "net_revenue",
        "--reason",
        "open orders count",
    ];
    let said = demo.run(&lock);
    assert_eq!(said.code, FAILED);
    assert!(
        said.err.contains("set its `version` to 2.0.0 at least"),
        "{}",
        said.err
    );
    assert_eq!(demo.lock(), before, "a refused lock is not written");
    let stepped =
        METRICS
            .replace("'paid'", "'open'")
            .replacen("version: 1.0.0", "version: 2.0.0", 1);
    demo.write("metrics/shop.yml", &stepped);
    assert_eq!(
        demo.good(&lock).out,
        "locked net_revenue 2.0.0 (breaking)\n"
    );
    assert!(demo.lock().contains("reason = \"open orders count\""));
    demo.good(&["build"]);
}

#[test]
fn what_cannot_be_locked_is_said_and_nothing_is_written() {
    let demo = Demo::new();
    assert_eq!(
        demo.run(&["metric", "lock", "--metric", "revenue", "--reason", "x"])
            .code,
        WRONG
    );
    assert_eq!(demo.run(&["metric", "lock", "--all"]).code, WRONG);
    assert_eq!(demo.run(&["metric", "lock", "--reason", "x"]).code, WRONG);
    assert_eq!(demo.run(&["metric", "diff"]).code, WRONG);
    assert!(!demo.folder.path().join("metrics.lock").exists());
    demo.write("metrics.lock", "nonsense\n");
    let said = demo.run(&["build"]);
    assert_eq!(said.code, FAILED);
    assert!(said.err.contains("error[E0505]"), "{}", said.err);
    assert!(said.err.contains("metrics.lock:1:1"), "{}", said.err);
}

#[test]
fn a_diff_is_json_for_machines() {
    let demo = Demo::locked();
    demo.write(
        "models/stg_users.sql",
        "select user_id, plan from {{ ref('raw_users') }}\n",
    );
    let said = demo.run(&["metric", "diff", "--output", "json"]);
    assert_eq!(said.code, FAILED);
    let lines: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["metric"], "average_order_value");
    assert_eq!(lines[0]["class"], "breaking");
    assert_eq!(lines[0]["version"]["step"], "major");
    assert_eq!(lines[0]["changes"][0]["model"], "stg_users");
}

#[test]
fn lineage_goes_up_to_seeds_and_down_to_metrics() {
    let demo = Demo::new();
    let up = demo.good(&["lineage", "fact_orders.amount"]).out;
    assert!(up.contains("raw_orders.amount (copy)"), "{up}");
    assert!(up.contains("stg_users.user_id (join)"), "{up}");
    let down = demo
        .good(&["lineage", "raw_users.is_internal", "--down"])
        .out;
    assert!(down.contains("stg_users.user_id (filter)"), "{down}");
    assert_eq!(
        down.matches("metric.net_revenue").count(),
        2,
        "copied and filtered by: {down}"
    );
    assert_eq!(demo.run(&["lineage", "fact_orders.amuont"]).code, WRONG);
    assert_eq!(demo.run(&["lineage", "amount"]).code, WRONG);
}

/// Everything that the commands say about a model's contract.
fn contract(yaml: &str, sql: &str) -> Said {
    let demo = Demo::new();
    // A user with two orders: a seed whose rows are one per user would show the grain by itself.
    demo.write("seeds/raw_orders.csv", "order_id,user_id,ordered_at,amount,status\n1,1,2026-01-05 10:00:00,10,paid\n2,1,2026-01-06 10:00:00,20,paid\n");
    demo.write("models/orders.sql", sql);
    demo.write("models/orders.yml", yaml);
    demo.run(&["compile"])
}

#[test]
fn an_enforced_contract_declares_every_column_with_its_type() {
    let yaml = "models:\n  - name: orders\n    config: {contract: {enforced: true}}\n    columns:\n      - {name: order_id, data_type: bigint}\n      - {name: amount}\n";
    let said = contract(
        yaml,
        "select order_id, amount, status from {{ ref('raw_orders') }}\n",
    );
    assert_eq!(said.code, WRONG, "{}", said.err);
    let undeclared =
        "error[E0509]: `orders` has columns that its contract does not declare: status";
    assert!(said.err.contains(undeclared), "{}", said.err);
    assert!(
        said.err
            .contains("error[E0509]: the contract of `orders` gives `amount` no type"),
        "{}",
        said.err
    );
    assert!(said.err.contains("models/orders.yml:6:16"), "{}", said.err);
}

#[test]
fn a_grain_is_shown_by_the_query_or_by_a_test() {
    let yaml = |grain: &str, tests: &str| {
        format!(
            "models:\n  - name: orders\n    config: {{contract: {{grain: [{grain}]}}}}\n    columns:\n      - {{name: user_id{tests}}}\n"
        )
    };
    let grouped =
        "select user_id, sum(amount) as amount from {{ ref('raw_orders') }} group by user_id\n";
    let copied = "select user_id, amount from {{ ref('fact_orders') }}\n";
    assert_eq!(contract(&yaml("user_id", ""), grouped).code, GOOD);
    let said = contract(&yaml("user_id", ""), copied);
    assert_eq!(said.code, FAILED, "{}", said.err);
    assert!(
        said.err
            .contains("error[E0510]: nothing shows that `orders` has one row per user_id"),
        "{}",
        said.err
    );
    assert_eq!(
        contract(&yaml("user_id", ", data_tests: [unique]"), copied).code,
        GOOD
    );
    assert_eq!(
        contract(&yaml("user_id", ", constraints: [{type: unique}]"), copied).code,
        GOOD
    );
    let said = contract(&yaml("usr_id", ""), grouped);
    assert!(said.err.contains("did you mean `user_id`?"), "{}", said.err);
}

#[test]
fn a_breaking_change_needs_the_approvers_that_the_lock_names() {
    let approved = METRICS.replacen(
        "owner: team-shop,",
        "owner: team-shop, approvers: [team-finance, team-data],",
        1,
    );
    let demo = Demo::new();
    demo.write("metrics/shop.yml", &approved);
    demo.good(&["metric", "lock", "--all", "--reason", "first agreement"]);
    let before = demo.lock();
    // The change takes an approver away, and is still theirs to agree to.
    let changed = approved
        .replace("[team-finance, team-data]", "[team-data]")
        .replace("'paid'", "'open'")
        .replacen("version: 1.0.0", "version: 2.0.0", 1);
    demo.write("metrics/shop.yml", &changed);
    let build = demo.run(&["build"]).err;
    assert!(
        build.contains(
            "--metric net_revenue --reason … --approved-by team-data --approved-by team-finance"
        ),
        "{build}"
    );
    let lock = [
        "metric",
        "lock",
        "--metric",
        "net_revenue",
        "--reason",
        "open orders",
        "--approved-by",
        "team-data",
    ];
    let said = demo.run(&[&lock[..], &["--approved-by", "team-finanze"]].concat());
    assert_eq!(said.code, FAILED, "{}", said.err);
    insta::assert_snapshot!(said.err.trim(), @"
    error[E0702]: `team-finanze` neither owns nor approves what is locked
     |
     = hint: did you mean `team-finance`?

    error[E0702]: `net_revenue` changes (breaking), and team-finance did not agree
     --> metrics/shop.yml:3:12
      |
    3 |   - {name: net_revenue, kind: mean, fact: fact_orders, agg: sum, expr: amount, filter: status = 'open', direction: increase, tier: no...
      |            ^^^^^^^^^^^
      |
      = hint: ask the approvers that `metrics.lock` names, then add --approved-by team-finance

    2 errors
    ");
    assert_eq!(demo.lock(), before);
    assert_eq!(
        demo.good(&[&lock[..], &["--approved-by", "team-finance"]].concat())
            .out,
        "locked net_revenue 2.0.0 (breaking)\n"
    );
    let agreed = "approved_by = [\n    \"team-data\",\n    \"team-finance\",\n]\n";
    assert!(demo.lock().contains(agreed), "{}", demo.lock());
    // What is written is read: nothing changes, nothing is written.
    let locked = demo.lock();
    demo.good(&["metric", "lock", "--all", "--reason", "again"]);
    assert_eq!(demo.lock(), locked);
}

#[test]
fn a_build_writes_every_edge_between_columns() {
    let demo = Demo::new();
    demo.good(&["build", "--quiet"]);
    let path = demo.folder.path().join("target/lineage.json");
    let text = std::fs::read_to_string(path).expect("the file was written");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let edges: Vec<String> = file["edges"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|edge| {
            let word = |key: &str| edge[key].as_str().expect("a text").to_string();
            format!("{} -> {} ({})", word("from"), word("to"), word("kind"))
        })
        .collect();
    for edge in [
        "raw_orders.amount -> fact_orders.amount (copy)",
        "raw_users.is_internal -> stg_users.plan (filter)",
        "stg_users.user_id -> fact_orders.amount (join)",
        "fact_orders.status -> metric.net_revenue (filter)",
        "fact_orders.amount -> metric.average_order_value (copy)",
    ] {
        assert!(
            edges.iter().any(|known| known == edge),
            "{edge} in {edges:#?}"
        );
    }
    // A project without metrics has columns too.
    std::fs::remove_file(demo.folder.path().join("metrics/shop.yml")).expect("it was there");
    demo.good(&["compile", "--quiet"]);
    let text =
        std::fs::read_to_string(demo.folder.path().join("target/lineage.json")).expect("written");
    assert!(
        text.contains("fact_orders.amount") && !text.contains("metric."),
        "{text}"
    );
}

#[test]
fn a_build_warns_of_data_that_are_older_or_thinner_than_their_sla() {
    let demo = Demo::new();
    let promised = METRICS.replacen(
        "owner: team-shop,",
        "owner: team-shop, sla: {freshness: 36h, completeness: 0.9},",
        1,
    );
    demo.write("metrics/shop.yml", &promised);
    let said = |end: &str| {
        demo.write(
            "project.yml",
            &format!("name: demo\nvars: {{data_ends_at: '{end}'}}\n"),
        );
        let err = demo.good(&["build"]).err;
        let lines = err.lines().filter(|line| line.contains("E0804"));
        lines.collect::<Vec<_>>().join("\n")
    };
    // The only paid order of users that count is of January 5th, 10:00.
    assert_eq!(said("2026-01-06 12:00:00"), "");
    insta::assert_snapshot!(said("2026-01-09 12:00:00"), @"
    warning[E0804]: `net_revenue` has rows in `fact_orders` on 1 of the 4 days before 2026-01-09
    warning[E0804]: `net_revenue` is late: its newest row in `fact_orders` is of 2026-01-05 10:00, 98 h before 2026-01-09 12:00
    ");
    let filtered = promised.replace("'paid'", "'lost'");
    demo.write("metrics/shop.yml", &filtered);
    let nothing = said("2026-01-06 12:00:00");
    assert!(
        nothing.contains("`net_revenue` has no row in `fact_orders`"),
        "{nothing}"
    );
}
