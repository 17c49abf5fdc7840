//! The commands as a user types them: what they print where, what they leave behind, and how they exit.
//! `Shop` is the one helper that starts the program.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use equipoise::warehouse::{Relation, Warehouse};
use tempfile::TempDir;

pub(crate) const GOOD: i32 = 0;
pub(crate) const FAILED: i32 = 1;
const WRONG: i32 = 2;

/// A project in a folder of its own.
pub(crate) struct Shop {
    pub(crate) folder: TempDir,
}

/// What a command said and how it ended.
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Shop {
    /// Orders of a seed, through a view and an ephemeral model, into two tables.
    fn new() -> Self {
        let shop = Self::empty();
        shop.write("project.yml", "name: shop\ntarget: dev\ntargets:\n  dev: {}\n  prod: {environment: live, vars: {factor: 3}}\nvars: {factor: 1}\n");
        shop.write(
            "seeds/raw_orders.csv",
            "order_id,country,amount\n1,DE,10\n2,FR,20\n3,DE,30\n",
        );
        shop.write("models/staging/stg_orders.sql", "select order_id, country, amount * {{ var('factor') }} as amount from {{ ref('raw_orders') }}\n");
        shop.write("models/staging/large_orders.sql", "{{ config(materialized='ephemeral') }}\nselect * from {{ ref('stg_orders') }} where amount >= 20\n");
        shop.write("models/marts/orders.sql", "{{ config(materialized='table', tags=['daily']) }}\nselect * from {{ ref('large_orders') }}\n");
        shop.write("models/marts/countries.sql", "{{ config(materialized='table') }}\nselect country, sum(amount) as amount from {{ ref('stg_orders') }} group by country\n");
        shop.write(
            "models/marts/report.sql",
            "{{ config(tags=['daily']) }}\nselect count(*) as orders from {{ ref('orders') }}\n",
        );
        shop.write("models/marts/marts.yml", "models:\n  - name: orders\n    columns:\n      - name: order_id\n        data_tests: [not_null, unique]\n");
        shop
    }

    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_equipoise"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("NO_COLOR");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let output = self
            .command(arguments)
            .output()
            .expect("the program starts");
        let text =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program prints text");
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Runs a command that must work.
    pub(crate) fn good(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, GOOD, "{arguments:?}\n{}{}", said.out, said.err);
        said
    }

    /// Rows of a query over what is published, as CSV without its header.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        let said = self.good(&["sql", sql, "--output", "csv"]);
        said.out.lines().skip(1).map(ToString::to_string).collect()
    }

    fn names(&self, arguments: &[&str]) -> Vec<String> {
        let said = self.good(&[&["ls", "--output", "csv"], arguments].concat());
        let name = |line: &str| line.split(',').nth(1).unwrap_or_default().to_string();
        let mut names: Vec<String> = said.out.lines().skip(1).map(name).collect();
        names.sort();
        names
    }

    fn warehouse(&self) -> PathBuf {
        self.folder.path().join("target/warehouse")
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }
}

impl Said {
    /// Lines of the progress that start with a word, such as `built`.
    fn steps(&self, word: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .err
            .lines()
            .filter(|line| line.starts_with(&format!("{word} ")) && !line.contains(';'))
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn a_new_project_builds_and_is_not_overwritten() {
    let shop = Shop::empty();
    let said = shop.good(&["init", "mine"]);
    assert!(
        said.err.contains("equipoise build --project-dir mine"),
        "{}",
        said.err
    );
    let built = shop.good(&["build", "--project-dir", "mine"]);
    assert!(
        built.out.contains("SHIP      button_color"),
        "{}",
        built.out
    );
    shop.good(&["report", "--project-dir", "mine"]);
    let pages = shop.folder.path().join("mine/target/report");
    let metrics = std::fs::read_to_string(pages.join("metrics.html")).expect("a page");
    assert!(metrics.contains("<polyline"), "{metrics}");
    let again = shop.run(&["init", "mine"]);
    assert_eq!(again.code, WRONG);
    assert!(again.err.contains("exists already"), "{}", again.err);
}

#[test]
fn help_and_version_are_good_and_an_unknown_option_is_wrong() {
    let shop = Shop::empty();
    assert!(shop.good(&["--help"]).out.contains("Usage: equipoise"));
    assert!(shop.good(&["--version"]).out.starts_with("equipoise "));
    let said = shop.run(&["build", "--selekt", "x"]);
    assert_eq!(said.code, WRONG);
    assert!(said.err.contains("--select"), "{}", said.err);
}

#[test]
fn a_folder_without_a_project_is_wrong_for_every_command() {
    let shop = Shop::empty();
    for command in [
        &["build"][..],
        &["run"],
        &["test"],
        &["seed"],
        &["compile"],
        &["ls"],
        &["debug"],
        &["clean"],
        &["sql", "select 1"],
        &["show", "-s", "x"],
    ] {
        let said = shop.run(command);
        assert_eq!(said.code, WRONG, "{command:?}: {}", said.err);
        assert!(
            said.err.contains("error[E0101]"),
            "{command:?}: {}",
            said.err
        );
    }
}

#[test]
fn a_build_publishes_and_a_second_one_has_nothing_to_do() {
    let shop = Shop::new();
    let first = shop.good(&["build"]);
    assert_eq!(
        first.steps("built"),
        ["countries", "orders", "raw_orders", "report", "stg_orders"]
    );
    assert_eq!(
        first.steps("passed"),
        ["not_null_orders_order_id", "unique_orders_order_id"]
    );
    assert!(
        first.err.contains("published `dev` as version 1"),
        "{}",
        first.err
    );
    assert_eq!(
        shop.query("select * from orders order by order_id"),
        ["2,FR,20", "3,DE,30"]
    );
    assert_eq!(shop.query("select orders from report"), ["2"]);

    let second = shop.good(&["build"]);
    assert_eq!(second.steps("built"), Vec::<&str>::new());
    assert!(
        second
            .err
            .contains("nothing to do: `dev` stays at version 1"),
        "{}",
        second.err
    );
}

#[test]
fn an_edited_model_rebuilds_itself_and_what_reads_it() {
    let shop = Shop::new();
    shop.good(&["build"]);
    shop.write("models/staging/large_orders.sql", "{{ config(materialized='ephemeral') }}\nselect * from {{ ref('stg_orders') }} where amount >= 30\n");
    let said = shop.good(&["build"]);
    assert_eq!(said.steps("built"), ["orders", "report"]);
    assert_eq!(shop.query("select order_id from orders"), ["3"]);
    // The old query again: its table still exists under its fingerprint.
    shop.write("models/staging/large_orders.sql", "{{ config(materialized='ephemeral') }}\nselect * from {{ ref('stg_orders') }} where amount >= 20\n");
    assert!(!shop.good(&["build"]).steps("built").contains(&"orders"));
    assert_eq!(shop.query("select count(*) from orders"), ["2"]);
}

#[test]
fn an_edit_of_comments_and_line_breaks_builds_nothing() {
    let shop = Shop::new();
    shop.good(&["build"]);
    shop.write("models/staging/stg_orders.sql", "-- One row per order.\nselect order_id, country,\n    amount * {{ var('factor') }} as amount /* in euros */\nfrom {{ ref('raw_orders') }}\n");
    shop.write("models/marts/countries.sql", "{{ config(materialized='table') }}\n\nselect country, sum( amount ) as amount from {{ ref('stg_orders') }}\ngroup by country -- each once\n");
    assert_eq!(shop.good(&["build"]).steps("built"), [] as [&str; 0]);
}

#[test]
fn a_changed_seed_rebuilds_what_reads_it() {
    let shop = Shop::new();
    shop.good(&["build"]);
    shop.write(
        "seeds/raw_orders.csv",
        "order_id,country,amount\n1,DE,10\n2,FR,20\n3,DE,40\n",
    );
    assert!(shop.good(&["build"]).steps("built").contains(&"countries"));
    assert_eq!(
        shop.query("select amount from countries where country = 'DE'"),
        ["50"]
    );
}

#[test]
fn full_refresh_builds_what_exists() {
    let shop = Shop::new();
    shop.good(&["build"]);
    let said = shop.good(&["build", "--full-refresh"]);
    assert!(
        ["countries", "orders", "raw_orders"]
            .iter()
            .all(|name| said.steps("built").contains(name)),
        "{}",
        said.err
    );
}

#[test]
fn seed_run_and_test_do_their_part() {
    let shop = Shop::new();
    assert_eq!(shop.good(&["seed"]).steps("built"), ["raw_orders"]);
    assert_eq!(
        shop.good(&["run"]).steps("built"),
        ["countries", "orders", "report", "stg_orders"]
    );
    assert_eq!(
        shop.good(&["test"]).steps("passed"),
        ["not_null_orders_order_id", "unique_orders_order_id"]
    );
}

#[test]
fn what_was_never_built_is_asked_for_by_name() {
    let shop = Shop::new();
    let said = shop.run(&["run", "--select", "orders"]);
    assert_eq!(said.code, FAILED);
    assert!(
        said.err.contains("error[E0803]") && said.err.contains("--select +orders"),
        "{}",
        said.err
    );
    shop.good(&["run", "--select", "countries", "--dry-run"]);
}

#[test]
fn a_failed_test_publishes_nothing_and_skips_only_what_depends_on_it() {
    let shop = Shop::new();
    shop.good(&["build"]);
    shop.write(
        "seeds/raw_orders.csv",
        "order_id,country,amount\n2,DE,10\n3,FR,20\n3,DE,30\n",
    );
    let said = shop.run(&["build"]);
    assert_eq!(said.code, FAILED);
    assert_eq!(said.steps("failed"), ["unique_orders_order_id"]);
    assert_eq!(said.steps("skipped"), ["report"]);
    assert!(said.steps("built").contains(&"countries"), "{}", said.err);
    assert!(
        said.err.contains("error[E0802]")
            && said
                .err
                .contains("nothing was published: `dev` stays at version 1"),
        "{}",
        said.err
    );
    assert_eq!(
        shop.query("select order_id from orders order by 1"),
        ["2", "3"]
    );
    // Mended, the next build works and is version 2.
    shop.write(
        "seeds/raw_orders.csv",
        "order_id,country,amount\n2,DE,10\n3,FR,20\n4,DE,30\n",
    );
    assert!(shop.good(&["build"]).err.contains("version 2"));
}

#[test]
fn a_step_that_fails_in_the_engine_is_named_with_its_file() {
    let shop = Shop::new();
    shop.write("models/marts/countries.sql", "{{ config(materialized='table') }}\nselect cast(country as bigint) as country from {{ ref('stg_orders') }}\n");
    let said = shop.run(&["build"]);
    assert_eq!(said.code, FAILED);
    assert_eq!(said.steps("failed"), ["countries"]);
    assert!(
        said.err.contains("error[E0801]") && said.err.contains("models/marts/countries.sql"),
        "{}",
        said.err
    );
}

#[test]
fn severity_conditions_and_limits_decide_what_a_test_says() {
    let shop = Shop::new();
    let outcome = |config: &str| {
        shop.write("models/marts/marts.yml", &format!("models:\n  - name: stg_orders\n    columns:\n      - name: country\n        data_tests:\n          - accepted_values: {{values: [FR], config: {{{config}}}}}\n"));
        let said = shop.run(&["build", "--select", "+stg_orders"]);
        let word = ["failed", "warned", "passed"]
            .into_iter()
            .find(|word| said.err.lines().any(|line| line.starts_with(word)));
        (said.code, word.unwrap_or_default())
    };
    assert_eq!(outcome(""), (FAILED, "failed"));
    assert_eq!(outcome("severity: warn"), (GOOD, "warned"));
    assert_eq!(outcome("where: \"country = 'FR'\""), (GOOD, "passed"));
    // One wrong value, found once: accepted_values groups.
    assert_eq!(outcome("error_if: '> 1'"), (GOOD, "warned"));
    assert_eq!(outcome("error_if: '> 1', warn_if: '> 1'"), (GOOD, "passed"));
    assert_eq!(outcome("limit: 1"), (FAILED, "failed"));
    assert_eq!(outcome("enabled: false"), (GOOD, ""));
    assert_eq!(
        outcome("fail_calc: 'sum(n_records)', error_if: '>= 2'"),
        (FAILED, "failed")
    );
}

#[test]
fn singular_tests_and_custom_generic_tests_find_wrong_rows() {
    let shop = Shop::new();
    shop.write("macros/positive.sql", "{% test above(model, column_name, least=0) %}\nselect * from {{ model }} where {{ column_name }} <= {{ least }}\n{% endtest %}\n");
    shop.write("models/marts/marts.yml", "models:\n  - name: orders\n    columns:\n      - name: amount\n        data_tests:\n          - above\n          - above: {name: above_25, least: 25}\n");
    shop.write(
        "tests/data/orders_are_few.sql",
        "select * from {{ ref('orders') }} where amount > 1000\n",
    );
    let said = shop.run(&["build"]);
    assert_eq!(said.code, FAILED);
    assert_eq!(
        said.steps("passed"),
        ["above_orders_amount", "orders_are_few"]
    );
    assert_eq!(said.steps("failed"), ["above_25"]);
}

/// Each list is every value of its column to dbt 1.10, too.
#[test]
fn arguments_of_tests_are_what_dbt_reads() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write(
        "models/codes.sql",
        "select 8 as size, '8' as code, true as is_paid, 'True' as word, '1e3' as written, '2026-01-01' as day, 'dev' as env\n",
    );
    let outcome = |column: &str, test: &str| {
        let columns = format!("      - name: {column}\n        data_tests: [{test}]\n");
        shop.write(
            "models/codes.yml",
            &format!("models:\n  - name: codes\n    columns:\n{columns}"),
        );
        shop.run(&["build"]).code
    };
    for (column, test, expected) in [
        ("size", "accepted_values: {values: [010], quote: no}", GOOD),
        ("size", "accepted_values: {values: [0x8], quote: off}", GOOD),
        ("code", "accepted_values: {values: [010]}", GOOD),
        ("code", "accepted_values: {values: ['010']}", FAILED),
        ("is_paid", "accepted_values: {values: [true]}", GOOD),
        (
            "is_paid",
            "accepted_values: {values: [on, off], quote: no}",
            GOOD,
        ),
        ("is_paid", "accepted_values: {values: [false]}", FAILED),
        ("word", "accepted_values: {values: [yes]}", GOOD),
        ("word", "accepted_values: {values: ['yes']}", FAILED),
        ("written", "accepted_values: {values: [1e3]}", GOOD),
        ("day", "accepted_values: {values: [2026-01-01]}", GOOD),
        (
            "env",
            "accepted_values: {values: [\"{{ target.name }}\"]}",
            GOOD,
        ),
        (
            "env",
            "accepted_values: {values: [no], where: \"{% if execute %}false{% endif %}\"}",
            GOOD,
        ),
        ("env", "accepted_values: {values: [no], where: ''}", FAILED),
    ] {
        assert_eq!(outcome(column, test), expected, "{column}: {test}");
    }
}

#[test]
fn the_selection_language_means_what_it_means_in_dbt() {
    let shop = Shop::new();
    assert_eq!(shop.names(&["--select", "report"]), ["report"]);
    assert_eq!(
        shop.names(&["--select", "models/staging"]),
        ["large_orders", "stg_orders"]
    );
    assert_eq!(
        shop.names(&["--select", "tag:daily", "--exclude", "resource_type:test"]),
        ["orders", "report"]
    );
    assert_eq!(
        shop.names(&["--select", "+stg_orders"]),
        ["raw_orders", "stg_orders"]
    );
    let with_tests = [
        "not_null_orders_order_id",
        "orders",
        "report",
        "unique_orders_order_id",
    ];
    assert_eq!(shop.names(&["--select", "orders+"]), with_tests);
    assert_eq!(
        shop.names(&["--select", "1+report", "--exclude", "resource_type:test"]),
        ["orders", "report"]
    );
    assert_eq!(
        shop.names(&["--select", "2+report", "--exclude", "resource_type:test"]),
        ["large_orders", "orders", "report"]
    );
    assert_eq!(
        shop.names(&["--select", "raw_orders+1"]),
        ["raw_orders", "stg_orders"]
    );
    assert_eq!(
        shop.names(&["--select", "@countries"]),
        ["countries", "raw_orders", "stg_orders"]
    );
    assert_eq!(
        shop.names(&["--select", "report countries"]),
        ["countries", "report"]
    );
    assert_eq!(
        shop.names(&["--select", "report", "countries"]),
        ["countries", "report"]
    );
    assert_eq!(
        shop.names(&["--select", "tag:daily,+report", "--exclude", "orders"]),
        ["report"]
    );
    assert_eq!(
        shop.names(&["--exclude", "orders+", "resource_type:seed"]),
        ["countries", "large_orders", "stg_orders"]
    );
    let nothing = shop.run(&["build", "--select", "ordres"]);
    assert_eq!(nothing.code, WRONG);
    assert!(
        nothing.err.contains("error[E0302]") && nothing.err.contains("did you mean `orders`?"),
        "{}",
        nothing.err
    );
    assert_eq!(shop.run(&["ls", "--select", "a++b"]).code, WRONG);
    for blank in ["", " ", ",", "orders ,"] {
        let said = shop.run(&["build", "--select", blank]);
        assert_eq!(said.code, WRONG, "`{blank}`");
        assert!(said.err.contains("error[E0303]"), "{}", said.err);
    }
    assert_eq!(shop.run(&["ls", "--exclude", ""]).code, GOOD);
    for empty in [
        &["--select", "orders,countries"][..],
        &["--select", "report orders,countries"],
        &["--select", "orders", "--exclude", "orders"],
        &["--exclude", "*"],
    ] {
        let said = shop.run(&[&["build"], empty].concat());
        assert_eq!(said.code, WRONG, "{empty:?}");
        assert!(said.err.contains("error[E0302]"), "{}", said.err);
    }
}

#[test]
fn variables_and_targets_reach_the_models() {
    let shop = Shop::new();
    shop.good(&["build", "--vars", "{factor: 2}"]);
    assert_eq!(shop.query("select sum(amount) from stg_orders"), ["120"]);
    shop.good(&["build", "--target", "prod"]);
    let live = shop.good(&[
        "sql",
        "select sum(amount) from stg_orders",
        "--target",
        "prod",
        "-o",
        "csv",
    ]);
    assert_eq!(live.out.lines().nth(1), Some("180"));
    for (arguments, code) in [
        (["--vars", "{factor: "], "E0108"),
        (["--vars", "2"], "E0108"),
        (["--target", "prd"], "E0108"),
    ] {
        let said = shop.run(&[&["build"][..], &arguments].concat());
        assert_eq!(said.code, WRONG, "{arguments:?}");
        assert!(said.err.contains(code), "{}", said.err);
    }
}

#[test]
fn results_are_the_same_at_any_number_of_threads() {
    let rows = ["1", "4"].map(|threads| {
        let shop = Shop::new();
        shop.good(&["build", "--threads", threads]);
        shop.query("select * from countries order by country")
    });
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0], ["DE,40", "FR,20"]);
}

#[test]
fn a_dry_run_says_what_and_why_and_builds_nothing() {
    let shop = Shop::new();
    let said = shop.good(&["build", "--dry-run", "--output", "csv"]);
    assert!(
        said.out
            .contains("build,table,orders,not in this environment yet"),
        "{}",
        said.out
    );
    assert!(
        shop.good(&["build"]).err.contains("version 1"),
        "nothing was published before"
    );
    assert!(
        shop.good(&["build", "--dry-run", "--output", "csv"])
            .out
            .contains("reuse,table,orders,unchanged")
    );
    let line = shop.good(&["build", "--dry-run", "--output", "json"]).out;
    let step: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("there is a step"))
            .expect("a line is JSON");
    assert_eq!(step["action"], "reuse");
}

#[test]
fn compile_writes_sql_that_a_person_can_read() {
    let shop = Shop::new();
    let said = shop.good(&["compile", "--select", "countries"]);
    assert!(
        said.out
            .contains("select country, sum(amount) as amount from stg_orders group by country"),
        "{}",
        said.out
    );
    let file = shop
        .folder
        .path()
        .join("target/compiled/models/marts/countries.sql");
    assert!(
        std::fs::read_to_string(file)
            .expect("it was written")
            .contains("from stg_orders")
    );
    assert!(
        !shop.warehouse().join("environments/dev.json").exists(),
        "compile publishes nothing"
    );
}

#[test]
fn rows_are_printed_as_table_json_or_csv() {
    let shop = Shop::new();
    shop.good(&["build"]);
    let show = |format: &str| {
        shop.good(&["show", "--select", "countries", "--output", format])
            .out
    };
    assert!(show("table").contains("2 rows"));
    assert!(show("csv").starts_with("country,amount\n"));
    let line = show("json");
    let row: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("there is a row")).expect("a line is JSON");
    assert!(
        row["amount"].is_i64() && row["country"].is_string(),
        "{row}"
    );
    assert_eq!(
        shop.good(&["show", "--select", "countries", "--limit", "1", "-o", "csv"])
            .out
            .lines()
            .count(),
        2
    );
    assert_eq!(shop.run(&["show"]).code, WRONG);
}

#[test]
fn a_query_reads_what_is_published_and_changes_nothing() {
    let shop = Shop::new();
    shop.good(&["build"]);
    assert_eq!(
        shop.query("select count(*) from large_orders"),
        ["2"],
        "ephemeral models can be asked too"
    );
    for (wrong, code, place) in [
        ("select nothing from orders", "E0406", "query:1:8"),
        ("select 1\nfrom oders", "E0407", "query:2:6"),
        ("select sum('many') from orders", "E0408", "query:1:8"),
        ("drop table orders", "E0409", "query:1:1"),
        (
            "insert into orders select * from orders",
            "E0409",
            "query:1:1",
        ),
        ("create table more as select 1", "E0409", "query:1:1"),
        ("copy orders to 'orders.csv'", "E0409", "query:1:1"),
        ("selec 1", "E0405", "query:1:1"),
        ("select 1 +", "E0405", "query:1:10"),
        ("select 'never ends", "E0405", "query:1:8"),
        (
            "set datafusion.execution.batch_size = 1",
            "E0409",
            "query:1:1",
        ),
        (
            "select * from orders tablesample bernoulli (10)",
            "E0408",
            "query:1:22",
        ),
        (
            "explain select * from orders prewhere amount > 1",
            "E0408",
            "query:1:30",
        ),
    ] {
        let said = shop.run(&["sql", wrong]);
        assert_eq!(said.code, WRONG, "{wrong}");
        let has_place = said.err.starts_with(&format!("error[{code}]")) && said.err.contains(place);
        assert!(has_place, "{wrong}: {}", said.err);
    }
    let said = shop.run(&["sql", "select 1 from oders"]).err;
    assert!(said.contains("did you mean `orders`?"), "{said}");
    let said = shop.run(&["sql", "select 1 / count(*) from orders where false"]);
    assert_eq!(said.code, FAILED, "an error while it runs");
    assert!(said.err.starts_with("error[E0801]"), "{}", said.err);
    assert_eq!(shop.query("select count(*) from orders"), ["2"]);
}

#[test]
fn what_was_never_built_is_not_computed_for_a_query() {
    let shop = Shop::new();
    for unpublished in ["orders", "stg_orders", "large_orders"] {
        let said = shop.run(&["sql", &format!("select * from {unpublished}")]);
        assert_eq!(said.code, WRONG, "{}", said.err);
        let hint = format!(
            "`{unpublished}` is not published in `dev`: `equipoise build --select +{unpublished}`"
        );
        assert!(
            said.err.contains("error[E0407]") && said.err.contains(&hint),
            "{}",
            said.err
        );
    }
    shop.good(&["build", "--select", "+stg_orders"]);
    assert_eq!(shop.query("select count(*) from large_orders"), ["2"]);
    assert_eq!(shop.run(&["sql", "select * from orders"]).code, WRONG);
}

/// Ways in which a table is damaged, and what is left to be read.
#[test]
fn a_damaged_table_hinders_only_who_reads_it() {
    let shop = Shop::new();
    shop.write(
        "models/marts/dear.sql",
        "select order_id, amount from {{ ref('orders') }} where amount > 1\n",
    );
    let harm_log = |table: &Path| std::fs::remove_dir_all(table.join("_delta_log"));
    let harm_commit =
        |table: &Path| std::fs::write(table.join("_delta_log/00000000000000000000.json"), "{");
    let parquet = |table: &Path| {
        let mut entries = std::fs::read_dir(table).expect("a folder").flatten();
        let file =
            entries.find(|entry| entry.path().extension().is_some_and(|end| end == "parquet"));
        file.expect("a data file").path()
    };
    let truncate = |table: &Path| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(parquet(table))?;
        file.set_len(100)
    };
    let remove = |table: &Path| std::fs::remove_file(parquet(table));
    type Harm<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let harms: [(&str, Harm<'_>); 4] = [
        ("no log", &harm_log),
        ("half a commit", &harm_commit),
        ("half a file", &truncate),
        ("no file", &remove),
    ];
    for (damage, harm) in harms {
        shop.good(&["build"]);
        let tables = std::fs::read_dir(shop.warehouse().join("relations/orders"));
        let table = tables
            .expect("it was built")
            .flatten()
            .next()
            .expect("one version")
            .path();
        harm(&table).expect("harmed");
        assert_eq!(
            shop.query("select count(*) from countries"),
            ["2"],
            "{damage}"
        );
        shop.good(&["show", "--select", "countries"]);
        for query in [
            "select * from orders",
            "select * from dear",
            "select amount from orders where amount > 1",
        ] {
            let said = shop.run(&["sql", query]);
            assert_eq!(said.code, FAILED, "{damage}: {}", said.out);
            let is_clear = said.err.contains("error[E0901]: `orders` cannot be read")
                && said.err.contains(&format!("remove `{}`", table.display()))
                && said.err.contains("equipoise build --select orders");
            assert!(is_clear, "{damage}, {query}: {}", said.err);
            assert!(said.err.lines().count() < 8, "{}", said.err);
        }
        // As the hint says.
        std::fs::remove_dir_all(&table).expect("removed");
        shop.good(&["build", "--select", "orders"]);
        assert_eq!(shop.query("select count(*) from orders"), ["2"], "{damage}");
    }
}

#[test]
fn debug_and_clean_say_and_do_what_they_should() {
    let shop = Shop::new();
    shop.good(&["build"]);
    let said = shop.good(&["debug"]);
    assert!(
        said.out.contains("5 models, 1 seeds") && said.out.contains("dev: version 1"),
        "{}",
        said.out
    );
    shop.good(&["clean"]);
    assert!(!shop.folder.path().join("target/compiled").exists());
    assert_eq!(
        shop.query("select count(*) from orders"),
        ["2"],
        "what is published stays"
    );
    shop.good(&["clean", "--warehouse"]);
    assert!(!shop.warehouse().join("environments").exists());
}

#[test]
fn quiet_says_nothing_and_piped_output_has_no_colours() {
    let shop = Shop::new();
    let quiet = shop.good(&["build", "--quiet"]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    shop.write(
        "models/marts/report.sql",
        "select nothing from {{ ref('orders') }}\n",
    );
    for variable in [None, Some("1")] {
        let mut command = shop.command(&["build", "--quiet"]);
        command.envs(variable.map(|value| ("NO_COLOR", value)));
        let output = command.output().expect("the program starts");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(WRONG));
        assert!(
            said.contains("error[E0406]") && !said.contains('\u{1b}'),
            "{said}"
        );
    }
}

#[test]
fn json_logs_are_one_object_a_line() {
    let shop = Shop::new();
    let events = |said: &Said| -> Vec<serde_json::Value> {
        said.err
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    };
    let good = events(&shop.good(&["build", "--log-format", "json"]));
    assert!(good.iter().any(|event| event["event"] == "step"
        && event["name"] == "orders"
        && event["outcome"] == "done"));
    assert_eq!(
        good.last().map(|event| event["state"].clone()),
        Some("published".into())
    );
    shop.write(
        "models/marts/report.sql",
        "select nothing from {{ ref('orders') }}\n",
    );
    let said = shop.run(&["build", "--log-format", "json"]);
    assert_eq!(said.code, WRONG);
    let wrong = events(&said);
    assert_eq!(wrong[0]["diagnostic"]["code"], "E0406");
    assert_eq!(
        wrong[0]["diagnostic"]["place"]["file"],
        "models/marts/report.sql"
    );
}

#[test]
fn errors_stop_a_build_before_anything_runs() {
    let shop = Shop::new();
    shop.write(
        "models/marts/report.sql",
        "select nothing from {{ ref('orders') }}\n",
    );
    let said = shop.run(&["build"]);
    assert_eq!(said.code, WRONG);
    assert!(
        !shop.warehouse().join("relations").exists(),
        "no table was built"
    );
}

#[test]
fn a_disabled_model_is_not_built() {
    let shop = Shop::new();
    shop.write(
        "models/marts/report.sql",
        "{{ config(enabled=false) }}\nselect count(*) as orders from {{ ref('orders') }}\n",
    );
    assert!(!shop.names(&[]).contains(&"report".to_string()));
}

#[test]
fn a_relation_that_is_gone_from_the_project_leaves_the_environment() {
    let shop = Shop::new();
    shop.good(&["build"]);
    std::fs::remove_file(shop.folder.path().join("models/marts/report.sql")).expect("it was there");
    shop.good(&["build"]);
    assert_eq!(shop.run(&["sql", "select * from report"]).code, WRONG);
}

#[test]
fn a_second_build_of_an_environment_is_refused_while_the_first_runs() {
    let shop = Shop::new();
    shop.good(&["build"]);
    let warehouse = Warehouse::open(&shop.warehouse()).expect("it was built");
    let lock = warehouse.lock("dev").expect("nobody builds");
    let said = shop.run(&["build", "--full-refresh"]);
    assert_eq!(said.code, FAILED);
    assert!(
        said.err.contains("error[E0902]") && said.err.contains(&std::process::id().to_string()),
        "{}",
        said.err
    );
    assert_eq!(
        shop.query("select count(*) from orders"),
        ["2"],
        "reading goes on"
    );
    shop.good(&["build", "--target", "prod"]);
    drop(lock);
    shop.good(&["build", "--full-refresh"]);
}

#[test]
fn of_two_builds_at_once_none_loses_anything() {
    let shop = Shop::new();
    let children = [shop.start(&["build"]), shop.start(&["build"])];
    let codes: Vec<i32> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("it ends");
            let (code, said) = (
                output.status.code().unwrap_or(-1),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            );
            assert!(
                code == GOOD || (code == FAILED && said.contains("error[E0902]")),
                "{code}: {said}"
            );
            code
        })
        .collect();
    assert!(codes.contains(&GOOD));
    assert_eq!(shop.query("select count(*) from orders"), ["2"]);
}

/// A project whose tables say which version of the seed they were built from.
fn numbered(number: usize, shop: &Shop) {
    shop.write("seeds/raw.csv", &format!("n\n{number}\n"));
}

#[test]
fn killed_at_any_moment_a_build_leaves_the_last_version_and_the_next_build_works() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    for model in ["numbers", "others"] {
        shop.write(
            &format!("models/{model}.sql"),
            "{{ config(materialized='table') }}\nselect n from {{ ref('raw') }}\n",
        );
    }
    shop.write("models/total.sql", "select numbers.n as n, others.n as m from {{ ref('numbers') }} as numbers cross join {{ ref('others') }} as others\n");
    numbered(0, &shop);
    shop.good(&["build"]);
    let mut interrupted = 0;
    for number in 1..=10 {
        numbered(number, &shop);
        interrupted += usize::from(killed_build(&shop, number));
        let seen = shop.query("select n, m from total");
        let (old, new) = (format!("{0},{0}", number - 1), format!("{number},{number}"));
        assert!(
            seen == [old.clone()] || seen == [new.clone()],
            "after a kill at moment {number}: {seen:?}"
        );
        shop.good(&["build"]);
        assert_eq!(shop.query("select n, m from total"), [new]);
    }
    assert!(
        interrupted >= 5,
        "most builds were really killed, but only {interrupted} were"
    );
    python_reads(&shop, "numbers", "10");
}

/// Starts a build and kills it (SIGKILL): for even numbers after so many lines of progress, for odd ones after so many
/// hundredths of a second. The moments are what is tested, nothing waits for something to be ready. False if it had ended.
fn killed_build(shop: &Shop, number: usize) -> bool {
    let mut child = shop.start(&["build"]);
    let mut lines = BufReader::new(child.stderr.take().expect("it was piped")).lines();
    if number.is_multiple_of(2) {
        for _ in 0..number / 2 {
            lines.next();
        }
    } else {
        let (_never, silence) = std::sync::mpsc::channel::<()>();
        silence
            .recv_timeout(Duration::from_millis(50 * number as u64))
            .ok();
    }
    let was_running = child.try_wait().expect("its state is known").is_none();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    was_running
}

/// The Python package `deltalake` reads the published table; without the package that is said and skipped.
fn python_reads(shop: &Shop, relation: &str, expected: &str) {
    let environment = Warehouse::open(&shop.warehouse())
        .and_then(|warehouse| warehouse.environment("dev"))
        .expect("it was published");
    let Some(Relation::Table { fingerprint, .. }) = environment.relations.get(relation) else {
        panic!("{relation} is a table")
    };
    let script = "import sys\ntry:\n    from deltalake import DeltaTable\n    import pyarrow\nexcept ImportError as error:\n    print('skipped:', error)\n    sys.exit()\n\
        print(DeltaTable(sys.argv[1]).to_pyarrow_table().to_pylist()[0]['n'])";
    let table = shop
        .warehouse()
        .join("relations")
        .join(relation)
        .join(fingerprint);
    let output = match Command::new("python3")
        .args(["-c", script])
        .arg(table)
        .output()
    {
        Ok(output) => output,
        Err(error) => return println!("skipped: python3 cannot be started: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
    if said.starts_with("skipped:") {
        return println!("{said}");
    }
    assert_eq!(
        said,
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn rows_that_cannot_be_told_apart_are_left_out_and_said() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    let append = |rows: &str, quiet: &[&str]| {
        let query = format!(
            "select id, unit, cast(at as timestamp) as at, amount from (values {rows}) as t(id, unit, at, amount)"
        );
        let columns = ["--unit", "unit", "--time", "at", "--id", "id"];
        let said = shop.run(
            &[
                &["facts", "append", "things", query.as_str()][..],
                &columns,
                quiet,
            ]
            .concat(),
        );
        assert_eq!(said.code, GOOD, "{}", said.err);
        said.err
    };
    let rows = "('a', 1, '2026-01-01', 5), (null, 1, '2026-01-01', 6), (null, 1, '2026-01-01', 7), ('b', null, '2026-01-01', 8), ('c', 2, null, 9)";
    let said = append(rows, &[]);
    assert!(
        said.contains("1 row in 1 file, 0 were there already"),
        "{said}"
    );
    let left_out =
        "warning: 4 rows have no `unit`, `at` or `id` and were left out of clustered.things";
    assert!(said.contains(left_out), "{said}");
    let said = append(rows, &["--quiet"]);
    assert_eq!(
        said.trim(),
        left_out,
        "what is lost is said whatever else is not"
    );
    let said = append("('a', 1, '2026-01-01', 3), ('a', 1, '2026-01-01', 9)", &[]);
    assert!(said.contains("2 rows came with other values"), "{said}");
    assert_eq!(
        shop.query("select id, amount from clustered.things"),
        ["a,3"]
    );
    let columns = ["--unit", "unit", "--time", "at", "--id", "id"];
    let untyped = "select 'b' as id, 1 as unit, now() as at, null as amount";
    let said = shop.run(&[&["facts", "append", "other", untyped][..], &columns].concat());
    assert_eq!(said.code, FAILED, "{}", said.err);
    assert!(
        said.err.contains("`amount` is null in all rows"),
        "{}",
        said.err
    );
    shop.good(&[&["facts", "append", "things", untyped][..], &columns].concat());
    let other = ["--unit", "unit", "--time", "at", "--id", "amount"];
    let said = shop.run(&[&["facts", "append", "things", untyped][..], &other].concat());
    assert_eq!(said.code, FAILED, "{}", said.err);
    let clustered = "error[E0801]: the table is clustered in another way than asked for: by unit `unit`, time `at` and id `id`, in 16 buckets";
    assert!(said.err.contains(clustered), "{}", said.err);
    let misspelt = ["--unit", "unti", "--time", "at", "--id", "id"];
    let said = shop.run(&[&["facts", "append", "things", untyped][..], &misspelt].concat());
    assert_eq!(said.code, WRONG, "{}", said.err);
    assert!(
        said.err
            .contains("error[E0406]: the rows have no column `unti`")
            && said.err.contains("did you mean `unit`?"),
        "{}",
        said.err
    );
    for (wrong, words) in [
        (
            ["../b", "1"],
            "letters, digits and underscores, which `../b` is not",
        ),
        (["b", "0"], "0 is not in 1..=65535"),
    ] {
        let [name, buckets] = wrong;
        let said = shop.run(
            &[
                &["facts", "append", name, untyped, "--buckets", buckets][..],
                &columns,
            ]
            .concat(),
        );
        assert_eq!(said.code, WRONG, "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
    }
    let ignored = "select 'b' as id, 1 as unit, now() as at, 1 as amount for update";
    let said = shop.run(&[&["facts", "append", "things", ignored][..], &columns].concat());
    assert_eq!(said.code, WRONG, "{}", said.err);
    assert!(
        said.err.contains("`for update` is not supported"),
        "{}",
        said.err
    );
    let unknown = "select 'b' as id, 1 as unit, now() as at, sqrrt(4.0) as amount";
    let said = shop.run(&[&["facts", "append", "things", unknown][..], &columns].concat());
    assert_eq!(said.code, WRONG, "{}", said.err);
    assert!(
        said.err
            .contains("there is no function `sqrrt`\n --> query:1:43"),
        "{}",
        said.err
    );
}

#[test]
fn a_column_of_no_relation_has_none_to_be_meant() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    let said = shop.run(&["sql", "select nope"]);
    assert_eq!(said.code, WRONG, "{}", said.err);
    assert!(
        said.err.contains("there is no column `nope`")
            && said.err.contains("hint: the query reads no relation here"),
        "{}",
        said.err
    );
}

#[test]
fn a_shop_that_cannot_be_is_a_wrong_command_line() {
    let shop = Shop::empty();
    let out = shop.folder.path().join("made");
    let out = out.to_str().unwrap();
    for (option, words) in [
        ("--days=3", "--days must lie between 12 and 1000, not 3"),
        ("--users=0", "--users must be at least 1"),
    ] {
        let said = shop.run(&["generate", option, "--out", out]);
        assert_eq!(said.code, WRONG, "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
        assert!(!Path::new(out).exists());
    }
    let said = shop.good(&["generate", "--users=1", "--days=12", "--out", out]);
    assert!(said.err.contains("wrote 1 user, "), "{}", said.err);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let shop = Shop::new();
    shop.good(&["build"]);
    let mut child = shop
        .command(&["show", "--select", "countries"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("it was piped")
        .read_to_string(&mut said)
        .expect("text");
    assert_eq!(
        (child.wait().expect("it ends").code(), said.as_str()),
        (Some(GOOD), "")
    );
}

#[test]
fn a_log_that_goes_away_does_not_stop_a_build() {
    let shop = Shop::new();
    for (version, format) in ["text", "json"].iter().enumerate() {
        let mut child = shop
            .command(&["build", "--full-refresh", "--log-format", format])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stderr.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(GOOD));
        let history = shop.good(&["history", "--output", "json"]).out;
        assert_eq!(history.lines().count(), version + 1, "{history}");
    }
    let mut wrong = shop.command(&["build", "--select", "nope"]);
    wrong.stderr(std::fs::File::create("/dev/full").expect("a full disk"));
    assert_eq!(wrong.status().expect("it ends").code(), Some(WRONG));
}

/// Editors keep locks beside a file: hidden links to what is no file.
#[test]
fn links_to_nothing_are_no_files_of_a_project() {
    let shop = Shop::new();
    for folder in ["models/marts", "seeds"] {
        let link = shop.folder.path().join(folder).join(".#orders.sql");
        std::os::unix::fs::symlink("me@host.1:2", link).expect("a link is made");
    }
    shop.good(&["compile"]);
    // One that is not hidden is a file that cannot be read, and hides no other.
    let link = shop.folder.path().join("models/marts/gone.sql");
    std::os::unix::fs::symlink("nowhere.sql", link).expect("a link is made");
    let said = shop.run(&["compile"]);
    assert_eq!(said.code, WRONG);
    assert!(
        said.err.contains("models/marts/gone.sql") && said.err.contains("1 error\n"),
        "{}",
        said.err
    );
}

/// A unit that two reasons leave out is counted under the first of its own experiment's policy.
#[test]
fn an_experiment_has_its_own_order_of_exclusions() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write(
        "models/stg_assignments.sql",
        "select experiment_key, 'u1' as unit_id, variant, timestamp '2026-01-05T10:00:00' as assigned_at, true as is_internal
from (values ('first'), ('second'), ('third')) as keys(experiment_key) cross join (values ('control'), ('test')) as arms(variant)\n",
    );
    shop.write("models/fact_orders.sql", "select 'u1' as user_id, timestamp '2026-01-06T10:00:00' as occurred_at, 'order' as event_name, 9.5 as amount\n");
    shop.write("models/fact_orders.yml", "models:\n  - name: fact_orders\n    fact: {unit: user_id, time: occurred_at, event: event_name}\n");
    shop.write(
        "models/units.sql",
        "select * from {{ experiment_units() }}\n",
    );
    shop.write("metrics/orders.yml", "metrics:\n  - {name: revenue, kind: mean, fact: fact_orders, agg: sum, expr: amount, fill: zero, maturity: partial, direction: increase, owner: shop, window: {start: 0d, length: 14d}}\n");
    let mut experiments = String::from("experiments:\n");
    for (key, exclude) in [
        ("first", "internal"),
        ("second", "crossed_over, internal"),
        ("third", "internal, crossed_over"),
    ] {
        experiments += &format!(
            "  - {{key: {key}, hypothesis: None., owner: shop, unit: user, variants: {{control: 0.5, test: 0.5}}, period: {{from: 2026-01-05, to: 2026-02-01}}, assignments: {{model: stg_assignments, exclude: [{exclude}]}}, metrics: {{primary: revenue}}, alpha: 0.05}}\n"
        );
    }
    shop.write("experiments/all.yml", &experiments);
    shop.good(&["run"]);
    assert_eq!(
        shop.query("select exclusion from units order by experiment_key"),
        ["internal", "crossed_over", "internal"]
    );
    // A unit whose time is not known is nobody's.
    let path = shop.folder.path().join("models/stg_assignments.sql");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let unknown = text
        .replace("timestamp '2026-01-05T10:00:00'", "null::timestamp")
        .replace("true as is_int", "false as is_int");
    shop.write("models/stg_assignments.sql", &unknown);
    shop.good(&["run"]);
    assert_eq!(
        shop.query("select exclusion from units where experiment_key = 'first'"),
        ["outside_period"]
    );
}

/// The states of a small experiment, of which both engines must say the same. Units are given with their variants.
fn states_of(units: &str, variants: &str, period: &str) -> String {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write(
        "models/stg_assignments.sql",
        &format!("select 'only' as experiment_key, unit_id, variant, timestamp '2026-01-05T10:00:00' as assigned_at\nfrom (values {units}) as rows(unit_id, variant)\n"),
    );
    shop.write("models/fact_orders.sql", "select user_id, timestamp '2026-01-06T10:00:00' as occurred_at, 'order' as event_name, 9.5 as amount
from (values ('7'), ('8'), ('10')) as rows(user_id)\n");
    shop.write("models/fact_orders.yml", "models:\n  - name: fact_orders\n    fact: {unit: user_id, time: occurred_at, event: event_name}\n");
    shop.write(
        "models/units.sql",
        "{{ config(materialized='table') }}\nselect * from {{ experiment_units() }}\n",
    );
    shop.write("models/metric_aggregates.sql", "{{ config(materialized='table') }}\nselect * from {{ metric_aggregates(units=ref('units')) }} as states\n");
    shop.write("metrics/orders.yml", "metrics:\n  - {name: revenue, kind: mean, fact: fact_orders, agg: sum, expr: amount, fill: zero, maturity: partial, direction: increase, owner: shop, window: {start: 0d, length: 14d}}\n");
    shop.write("experiments/all.yml", &format!("experiments:\n  - {{key: only, hypothesis: None., owner: shop, unit: user, variants: {variants}, period: {period}, assignments: {{model: stg_assignments}}, metrics: {{primary: revenue}}, alpha: 0.05}}\n"));
    let states = |engine: &str| {
        shop.good(&["run", "--engine", engine]);
        let query = "select * from metric_aggregates order by variant";
        shop.good(&["sql", query, "-o", "json"]).out
    };
    let operator = states("operator");
    assert!(
        operator.contains("9.5") && operator.contains("4.75"),
        "{operator}"
    );
    assert_eq!(states("sql"), operator);
    operator
}

/// In one log ids are numbers, in the other texts.
#[test]
fn units_that_are_numbers_here_and_texts_there_are_the_same_units() {
    states_of(
        "(7, 'control'), (8, 'test'), (9, 'test')",
        "{control: 0.5, test: 0.5}",
        "{from: 2026-01-05, to: 2026-02-01}",
    );
}

#[test]
fn variants_that_are_numbers_or_booleans_in_the_log_are_their_words() {
    let period = "{from: 2026-01-05, to: 2026-02-01}";
    states_of("('7', 1), ('8', 2), ('9', 2)", "{1: 0.5, 2: 0.5}", period);
    states_of(
        "('7', false), ('8', true), ('9', true)",
        "{false: 0.5, true: 0.5}",
        period,
    );
}

#[test]
fn an_experiment_to_the_last_day_of_calendars_does_not_end() {
    let units = "('7', 'control'), ('8', 'test'), ('9', 'test')";
    for period in [
        "{from: 2026-01-05, to: 9999-12-31}",
        "{from: 1800-01-01, to: 2099-12-30, grace: 18250d}",
    ] {
        states_of(units, "{control: 0.5, test: 0.5}", period);
    }
}
