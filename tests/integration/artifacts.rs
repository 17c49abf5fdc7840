//! The files that dbt's readers take from `target/`: what stands in them after good builds, failed ones and those with nothing to do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::cli::Shop;

/// Orders of a seed through a view into a table, with tests; `boom` divides by zero where there are three orders.
fn shop() -> Shop {
    let shop = Shop::empty();
    for (path, text) in [
        (
            "project.yml",
            "name: shop\ntargets:\n  dev: {}\nvars: {orders: 4}\n",
        ),
        (
            "seeds/raw_orders.csv",
            "order_id,country,amount\n1,DE,10\n2,FR,20\n3,DE,30\n",
        ),
        (
            "models/staging/stg_orders.sql",
            "select order_id, country, amount from {{ ref('raw_orders') }}\n",
        ),
        (
            "models/marts/orders.sql",
            "{{ config(materialized='table', tags=['daily']) }}\nselect * from {{ ref('stg_orders') }}\n",
        ),
        (
            "models/marts/boom.sql",
            "{{ config(materialized='table') }}\nselect 1 / (count(*) - {{ var('orders') }}) as x from {{ ref('orders') }}\n",
        ),
        (
            "models/marts/after.sql",
            "select * from {{ ref('boom') }}\n",
        ),
        (
            "models/marts/orders.yml",
            "models:
  - name: orders
    description: One row per order.
    columns:
      - name: order_id
        description: Which order.
        data_type: bigint
        data_tests: [not_null, unique]
      - name: country
        data_tests:
          - accepted_values: {arguments: {values: [DE]}, config: {severity: warn}}
",
        ),
        (
            "tests/assert_amounts.sql",
            "select * from {{ ref('orders') }} where amount < 0\n",
        ),
    ] {
        shop.write(path, text);
    }
    shop
}

fn artifact(folder: &Path, name: &str) -> Value {
    let path = folder.join("target").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("an artifact is JSON")
}

/// Each result's name, status, failures, message and rows; times are for `timing_is_told`.
fn results(folder: &Path) -> String {
    let artifact = artifact(folder, "run_results.json");
    let line = |result: &Value| {
        let [id, status] = ["unique_id", "status"].map(|key| result[key].as_str().expect("a text"));
        let first_line = result["message"]
            .as_str()
            .and_then(|text| text.lines().next());
        let failures = &result["failures"];
        format!(
            "{status:<8} {id}: {}, failures {failures}\n",
            first_line.unwrap_or("-")
        )
    };
    let results = artifact["results"].as_array().expect("a list");
    results.iter().map(line).collect()
}

#[test]
fn every_step_of_a_build_has_a_result() {
    let shop = shop();
    let folder = shop.folder.path();
    let said = shop.run(&["build"]);
    assert_eq!(said.code, 0, "{}", said.err);
    insta::assert_snapshot!(results(folder), @r#"
    success  seed.shop.raw_orders: 3 rows, failures null
    success  model.shop.stg_orders: -, failures null
    success  model.shop.orders: 3 rows, failures null
    warn     test.shop.accepted_values_orders_country: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id: -, failures 0
    pass     test.shop.not_null_orders_order_id: -, failures 0
    pass     test.shop.assert_amounts: -, failures 0
    success  model.shop.boom: 1 row, failures null
    success  model.shop.after: -, failures null
    "#);
    let written = artifact(folder, "run_results.json");
    assert_eq!(written["args"]["which"], "build");
    assert_eq!(written["args"]["invocation_command"], "equipoise build");
    let metadata = &written["metadata"];
    let schema = "https://schemas.getdbt.com/dbt/run-results/v6.json";
    assert_eq!(metadata["dbt_schema_version"], schema);
    assert!(
        metadata["env"]["EQUIPOISE_VERSION"].is_string(),
        "{metadata}"
    );
    let orders = result(&written, "model.shop.orders");
    assert_eq!(orders["adapter_response"]["rows_affected"], 3);
    assert_eq!(orders["relation_name"], "orders");
    assert_eq!(orders["compiled_code"], "select * from stg_orders");
}

fn result<'a>(artifact: &'a Value, id: &str) -> &'a Value {
    let results = artifact["results"].as_array().expect("a list");
    let found = results.iter().find(|result| result["unique_id"] == id);
    found.unwrap_or_else(|| panic!("{id} has no result"))
}

#[test]
fn a_step_begins_after_its_project_was_compiled() {
    let shop = shop();
    shop.run(&["build"]);
    let written = artifact(shop.folder.path(), "run_results.json");
    let started = written["metadata"]["invocation_started_at"].as_str();
    let generated = written["metadata"]["generated_at"].as_str();
    for result in written["results"].as_array().expect("a list") {
        let timing = result["timing"].as_array().expect("a list");
        let names: Vec<&Value> = timing.iter().map(|span| &span["name"]).collect();
        assert_eq!(names, ["compile", "execute"]);
        let mut times = vec![started];
        for span in timing {
            times.extend(["started_at", "completed_at"].map(|key| span[key].as_str()));
        }
        times.push(generated);
        assert!(times.is_sorted(), "{times:?}");
        assert!(
            result["execution_time"]
                .as_f64()
                .is_some_and(|time| time >= 0.0)
        );
    }
}

#[test]
fn a_build_that_fails_says_what_failed_and_what_was_skipped() {
    let shop = shop();
    let folder = shop.folder.path();
    let said = shop.run(&["build", "--vars", "{orders: 3}"]);
    assert_eq!(said.code, 1, "{}", said.err);
    insta::assert_snapshot!(results(folder), @r#"
    success  seed.shop.raw_orders: 3 rows, failures null
    success  model.shop.stg_orders: -, failures null
    success  model.shop.orders: 3 rows, failures null
    warn     test.shop.accepted_values_orders_country: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id: -, failures 0
    pass     test.shop.not_null_orders_order_id: -, failures 0
    pass     test.shop.assert_amounts: -, failures 0
    error    model.shop.boom: error[E0801]: `boom` failed: Arrow error: Divide by zero error, failures null
    skipped  model.shop.after: something that it reads failed, failures null
    "#);
    let written = artifact(folder, "run_results.json");
    assert_eq!(written["args"]["vars"], json!({"orders": 3}));
    assert_eq!(result(&written, "model.shop.after")["timing"], json!([]));
}

#[test]
fn a_test_that_cannot_be_asked_is_an_error_and_one_that_finds_rows_a_failure() {
    let shop = shop();
    shop.write(
        "tests/assert_amounts.sql",
        "select * from {{ ref('orders') }} where amount > 20\n",
    );
    shop.write(
        "tests/assert_shares.sql",
        "select * from {{ ref('orders') }} where 1 / (amount - 10) > 2\n",
    );
    shop.run(&["build", "--select", "+orders"]);
    let written = artifact(shop.folder.path(), "run_results.json");
    let of = |id: &str| {
        let result = result(&written, id);
        (result["status"].clone(), result["failures"].clone())
    };
    assert_eq!(of("test.shop.assert_amounts"), (json!("fail"), json!(1)));
    assert_eq!(of("test.shop.assert_shares"), (json!("error"), Value::Null));
    // The rows themselves are for the terminal: artifacts travel.
    let message = &result(&written, "test.shop.assert_amounts")["message"];
    assert_eq!(message, "1 wrong row; the test fails if != 0");
}

#[test]
fn what_is_reused_is_a_success() {
    let shop = shop();
    let folder = shop.folder.path();
    shop.run(&["build"]);
    shop.run(&["build", "--select", "orders"]);
    insta::assert_snapshot!(results(folder), @r#"
    success  model.shop.orders: unchanged, failures null
    warn     test.shop.accepted_values_orders_country: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id: unchanged, failures 0
    pass     test.shop.not_null_orders_order_id: unchanged, failures 0
    pass     test.shop.assert_amounts: unchanged, failures 0
    "#);
}

#[test]
fn results_of_another_command_are_not_left_to_a_build_with_nothing_to_do() {
    let shop = shop();
    let folder = shop.folder.path();
    // A build that warns is not remembered.
    shop.write("models/marts/orders.yml", "models: []\n");
    super::receipt::let_settle(folder);
    shop.run(&["build"]);
    shop.run(&["build"]);
    let built = artifact(folder, "run_results.json");
    shop.run(&["build"]);
    assert_eq!(
        artifact(folder, "run_results.json"),
        built,
        "nothing was done"
    );
    shop.run(&["test"]);
    assert_eq!(
        artifact(folder, "run_results.json")["args"]["which"],
        "test"
    );
    let said = shop.run(&["build"]);
    assert!(said.err.contains("nothing to do"), "{}", said.err);
    let again = artifact(folder, "run_results.json");
    assert_eq!(again["args"]["which"], "build");
    assert_eq!(
        again["results"].as_array().map(Vec::len),
        built["results"].as_array().map(Vec::len)
    );
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let shop = shop();
    let folder = shop.folder.path();
    shop.run(&["build"]);
    let before = artifact(folder, "run_results.json");
    let fresh = folder.join("target/.run_results.json.new");
    std::os::unix::fs::symlink("/dev/full", fresh).expect("a link");
    let said = shop.run(&["test"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("cannot write target/run_results.json"),
        "{}",
        said.err
    );
    assert_eq!(artifact(folder, "run_results.json"), before);
}

/// What `dbt-artifacts-parser` makes of the artifacts of a folder; without the package that is said and skipped.
fn second_reader(folder: &Path) {
    let script = "import json, sys
try:
    from dbt_artifacts_parser import parser
except ImportError as error:
    print('skipped:', error)
    sys.exit()
for name, parse in [('run_results', parser.parse_run_results_v6)]:
    with open(f'{sys.argv[1]}/target/{name}.json') as file:
        parse(json.load(file))
";
    let mut command = Command::new("python3");
    let output = match command.args(["-c", script]).arg(folder).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: python3 cannot be started: {error}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    print!("{}", text(&output.stdout));
}

#[test]
fn another_reader_takes_the_artifacts() {
    let shop = shop();
    shop.run(&["build"]);
    second_reader(shop.folder.path());
    shop.run(&["build", "--vars", "{orders: 3}"]);
    second_reader(shop.folder.path());
}

#[test]
fn every_result_is_named_once() {
    let shop = shop();
    shop.run(&["build"]);
    let written = artifact(shop.folder.path(), "run_results.json");
    let results = written["results"].as_array().expect("a list");
    let ids: BTreeSet<&str> = results
        .iter()
        .filter_map(|result| result["unique_id"].as_str())
        .collect();
    assert_eq!(ids.len(), results.len());
}
