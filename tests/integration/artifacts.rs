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
    warn     test.shop.accepted_values_orders_country.f6eebe4cd1: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id.3334746102: -, failures 0
    pass     test.shop.not_null_orders_order_id.a8d430fa81: -, failures 0
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
    warn     test.shop.accepted_values_orders_country.f6eebe4cd1: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id.3334746102: -, failures 0
    pass     test.shop.not_null_orders_order_id.a8d430fa81: -, failures 0
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
    warn     test.shop.accepted_values_orders_country.f6eebe4cd1: 1 wrong row; the test warns if != 0, failures 1
    pass     test.shop.unique_orders_order_id.3334746102: unchanged, failures 0
    pass     test.shop.not_null_orders_order_id.a8d430fa81: unchanged, failures 0
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
    std::fs::remove_file(folder.join("target/manifest.json")).expect("it was written");
    let said = shop.run(&["build"]);
    assert!(said.err.contains("nothing to do"), "{}", said.err);
    hold_together(folder);
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
pub(crate) fn second_reader(folder: &Path) {
    let script = "import json, os, sys
try:
    from dbt_artifacts_parser import parser
except ImportError as error:
    print('skipped:', error)
    sys.exit()
readers = {
    'run_results': parser.parse_run_results_v6,
    'manifest': parser.parse_manifest_v12,
    'catalog': parser.parse_catalog_v1,
    'sources': parser.parse_sources_v3,
}
for name, parse in readers.items():
    path = f'{sys.argv[1]}/target/{name}.json'
    if os.path.exists(path):
        parse(json.load(open(path)))
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
    let shop = described();
    shop.run(&["build"]);
    shop.run(&["docs", "generate"]);
    second_reader(shop.folder.path());
    shop.run(&["build", "--vars", "{orders: 3}"]);
    second_reader(shop.folder.path());
}

#[test]
fn another_reader_takes_what_yaml_says_in_types_of_its_own() {
    let shop = Shop::empty();
    for (path, text) in [
        ("project.yml", "name: odd\nmodels: {+meta: {a: 1}}\n"),
        (
            "models/odd.sql",
            "{{ config(materialized='incremental', unique_key=['a', 'b'], pre_hook=['select 1', {'sql': 'select 2'}], access='weird', \
             group=3, docs=5, meta={'b': 2}, full_refresh='no', persist_docs=true, alias=7) }} select 1 as a, 2 as b\n",
        ),
        (
            "models/odd.yml",
            "models:
  - name: odd
    meta: [1, 2]
    config: {quote_columns: maybe, on_schema_change: 5}
    columns: [{name: a, meta: 3, tags: {x: 1}}]
    data_tests: [{unique_combination: {columns: [a, b], config: {meta: 5}}}]
exposures: [{name: e, type: ML, owner: bob, maturity: null}]
groups: [{name: 3, owner: bob}]
",
        ),
    ] {
        shop.write(path, text);
    }
    let said = shop.run(&["build"]);
    assert_eq!(said.code, 0, "{}", said.err);
    hold_together(shop.folder.path());
    second_reader(shop.folder.path());
    let manifest = artifact(shop.folder.path(), "manifest.json");
    assert_eq!(
        manifest["nodes"]["model.odd.odd"]["meta"],
        json!({"a": 1, "b": 2})
    );
}

/// Whatever one of the artifacts names is an entry of the manifest.
pub(crate) fn hold_together(folder: &Path) {
    let manifest = artifact(folder, "manifest.json");
    let results = artifact(folder, "run_results.json");
    let keys = |name: &str| {
        let entries = manifest[name].as_object();
        let entries = entries.unwrap_or_else(|| panic!("`{name}` is no mapping"));
        entries
            .keys()
            .map(String::as_str)
            .collect::<BTreeSet<&str>>()
    };
    let (nodes, macros) = (keys("nodes"), keys("macros"));
    let all: BTreeSet<&str> = [&nodes, &keys("sources"), &keys("exposures")]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let named = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|id| Some(id.as_str()?.to_string()))
            .collect()
    };
    for map in ["parent_map", "child_map"] {
        assert_eq!(keys(map), all, "{map}");
        for (id, others) in manifest[map].as_object().expect("a mapping") {
            for other in named(others) {
                assert!(all.contains(other.as_str()), "{map} of {id}: {other}");
            }
        }
    }
    for node in manifest["nodes"].as_object().expect("a mapping").values() {
        for parent in named(&node["depends_on"]["nodes"]) {
            assert!(all.contains(parent.as_str()), "{parent}");
        }
        for called in named(&node["depends_on"]["macros"]) {
            assert!(macros.contains(called.as_str()), "{called}");
        }
    }
    for result in results["results"].as_array().expect("a list") {
        let id = result["unique_id"].as_str().expect("a text");
        assert!(nodes.contains(id), "{id}");
        assert_eq!(
            manifest["nodes"][id]["relation_name"],
            result["relation_name"]
        );
    }
    let invocation = |artifact: &Value| artifact["metadata"]["invocation_id"].clone();
    assert_eq!(invocation(&manifest), invocation(&results));
}

#[test]
fn every_id_is_an_entry_of_the_manifest() {
    let shop = described();
    for vars in ["{orders: 4}", "{orders: 3}"] {
        shop.run(&["build", "--vars", vars]);
        hold_together(shop.folder.path());
    }
}

/// The shop, with everything that YAML can say about it.
fn described() -> Shop {
    let shop = shop();
    for (path, text) in [
        ("data/refunds.csv", "order_id,amount\n1,10\n"),
        (
            "models/staging/sources.yml",
            "sources:
  - name: erp
    description: What the ERP exports.
    loader: nightly copy
    meta: {contact: ann}
    tags: [erp]
    config: {event_time: booked_at}
    tables:
      - name: refunds
        description: One row per refund.
        location: data/refunds.csv
        meta: {pii: false}
        tags: [money]
        columns:
          - name: order_id
            meta: {key: true}
            tags: [id]
            data_tests: [not_null]
",
        ),
        (
            "models/marts/refunds.sql",
            "select r.order_id, {{ in_cents('r.amount') }} as cents from {{ source('erp', 'refunds') }} as r inner join {{ ref('orders') }} as o on o.order_id = r.order_id\n",
        ),
        (
            "models/marts/refunds.yml",
            "models:
  - name: refunds
    description: One row per refund of an order.
    meta: {owner: team-money}
    group: finance
    access: public
    docs: {show: true, node_color: gold}
    config:
      tags: [money, daily]
      meta: {tier: 1}
      unique_key: order_id
      pre_hook: select 1
      contract: {enforced: true, grain: [order_id]}
    columns:
      - {name: order_id, data_type: bigint}
      - {name: cents, data_type: bigint, description: In cents.}
    data_tests:
      - expression_is_true:
          description: Nobody is paid twice.
          arguments: {expression: cents >= 0}
          config: {severity: warn, error_if: '> 10', where: order_id > 0, tags: [money], meta: {page: ann}}
",
        ),
        (
            "models/consumers.yml",
            "groups:
  - {name: finance, owner: {name: Finance, email: finance@example.org}}
exposures:
  - name: weekly_refunds
    label: Refunds of the week
    type: dashboard
    maturity: high
    url: https://example.org/refunds
    owner: {name: Ann, email: ann@example.org}
    depends_on: [ref('refunds'), \"source('erp', 'refunds')\", metric('refunds')]
    tags: [money]
",
        ),
        (
            "macros/in_cents.sql",
            "{% macro in_cents(column, places=2) %}{{ column }} * 100{% endmacro %}\n",
        ),
    ] {
        shop.write(path, text);
    }
    shop
}

/// An entry of the manifest as text, without what differs from run to run.
fn entry(manifest: &Value, list: &str, id: &str) -> String {
    let mut entry = manifest[list][id].clone();
    assert!(entry.is_object(), "`{id}` is not among {list}");
    if entry.get("checksum").is_some() {
        let digits = entry["checksum"]["checksum"].as_str().map(str::len);
        entry["checksum"]["checksum"] = json!(format!("{} digits", digits.unwrap_or(0)));
    }
    if entry.get("root_path").is_some() {
        entry["root_path"] = json!("the folder");
    }
    serde_json::to_string_pretty(&entry).expect("it is JSON")
}

#[test]
fn the_manifest_says_what_the_project_says() {
    let shop = described();
    let said = shop.run(&["compile"]);
    assert_eq!(
        (said.code, said.err.contains("warning")),
        (0, false),
        "{}",
        said.err
    );
    let manifest = artifact(shop.folder.path(), "manifest.json");
    let test = manifest["nodes"].as_object().expect("a mapping").keys();
    let test = test.clone().find(|id| id.contains("expression_is_true"));
    let entries = [
        ("nodes", "model.shop.refunds"),
        ("nodes", "seed.shop.raw_orders"),
        ("nodes", test.expect("the test has an id")),
        ("nodes", "test.shop.assert_amounts"),
        ("sources", "source.shop.erp.refunds"),
        ("macros", "macro.shop.in_cents"),
        ("exposures", "exposure.shop.weekly_refunds"),
        ("groups", "group.shop.finance"),
    ];
    let text = entries.map(|(list, id)| format!("{list} {id}\n{}\n", entry(&manifest, list, id)));
    insta::assert_snapshot!(text.concat());
    let metadata = &manifest["metadata"];
    let schema = "https://schemas.getdbt.com/dbt/manifest/v12.json";
    assert_eq!(metadata["dbt_schema_version"], schema);
    assert_eq!(metadata["project_name"], "shop");
    assert_eq!(metadata["adapter_type"], "datafusion");
    assert_eq!(
        manifest["group_map"],
        json!({"finance": ["model.shop.refunds"]})
    );
    let parents = json!(["model.shop.orders", "source.shop.erp.refunds"]);
    assert_eq!(manifest["parent_map"]["model.shop.refunds"], parents);
}

#[test]
fn what_a_relationship_is_about_stands_last_as_dbts_pages_want_it() {
    let shop = described();
    shop.write(
        "models/staging/stg_orders.yml",
        "models:
  - name: stg_orders
    columns:
      - name: order_id
        data_tests: [{relationships: {to: ref('raw_orders'), field: order_id}}]
",
    );
    shop.run(&["compile"]);
    let manifest = artifact(shop.folder.path(), "manifest.json");
    let mut nodes = manifest["nodes"].as_object().expect("a mapping").iter();
    let (_, test) = nodes
        .find(|(id, _)| id.contains("relationships"))
        .expect("the test has an id");
    let about = json!(["seed.shop.raw_orders", "model.shop.stg_orders"]);
    assert_eq!(test["depends_on"]["nodes"], about);
    assert_eq!(test["attached_node"], "model.shop.stg_orders");
}

#[test]
fn what_is_said_about_a_model_builds_nothing_anew() {
    let shop = described();
    shop.run(&["build"]);
    shop.write(
        "models/marts/orders.yml",
        "models:\n  - {name: orders, meta: {owner: bob}}\n",
    );
    let said = shop.run(&["build", "--select", "orders refunds"]);
    assert!(said.err.contains("0 built, 2 unchanged"), "{}", said.err);
    let manifest = artifact(shop.folder.path(), "manifest.json");
    assert_eq!(
        manifest["nodes"]["model.shop.orders"]["meta"],
        json!({"owner": "bob"})
    );
}

#[test]
fn tags_of_a_source_select_its_tables() {
    let shop = described();
    let said = shop.run(&["ls", "--select", "tag:erp"]);
    let tables = said.out.lines().next();
    assert_eq!(tables, Some("source  erp.refunds"), "{}", said.err);
}

#[test]
fn the_manifest_is_there_when_steps_failed() {
    let shop = shop();
    shop.run(&["build", "--vars", "{orders: 3}"]);
    let manifest = artifact(shop.folder.path(), "manifest.json");
    let boom = &manifest["nodes"]["model.shop.boom"];
    let compiled = "select 1 / (count(*) - 3) as x from orders";
    assert_eq!(boom["compiled_code"], compiled);
}

#[test]
fn variables_for_readers_are_handed_on() {
    let shop = shop();
    let mut command = shop.command(&["compile"]);
    command.env("DBT_ENV_CUSTOM_ENV_PULL_REQUEST", "42");
    command.env("DBT_ENV_SECRET_TOKEN", "hush");
    assert!(command.status().expect("the program starts").success());
    let manifest = artifact(shop.folder.path(), "manifest.json");
    assert_eq!(manifest["metadata"]["env"]["PULL_REQUEST"], "42");
    assert!(!manifest.to_string().contains("hush"));
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

/// Each relation of the catalog with its columns.
fn relations(folder: &Path) -> String {
    let catalog = artifact(folder, "catalog.json");
    let lists = ["nodes", "sources"].map(|list| catalog[list].as_object().expect("a mapping"));
    let line = |(id, relation): (&String, &Value)| {
        let columns = relation["columns"].as_object().expect("a mapping").values();
        let columns = columns.map(|column| {
            let [name, kind] = ["name", "type"].map(|key| column[key].as_str().expect("a text"));
            format!("{} {name} {kind}", column["index"])
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let kind = relation["metadata"]["type"].as_str().expect("a text");
        let rows = &relation["stats"]["num_rows"]["value"];
        format!("{id}: {kind} of {rows} rows ({columns})\n")
    };
    lists.into_iter().flatten().map(line).collect()
}

#[test]
fn the_catalog_has_the_columns_of_what_is_published() {
    let shop = described();
    let folder = shop.folder.path();
    shop.run(&["build", "--select", "+orders"]);
    shop.write(
        "models/marts/later.sql",
        "select [{'a': 1}] as list, cast(1.5 as decimal(5, 2)) as amount",
    );
    let said = shop.run(&["docs", "generate"]);
    assert_eq!(said.code, 0, "{}", said.err);
    insta::assert_snapshot!(relations(folder), @r#"
    model.shop.orders: BASE TABLE of 3 rows (1 order_id bigint, 2 country varchar, 3 amount bigint)
    model.shop.stg_orders: VIEW of null rows (1 order_id bigint, 2 country varchar, 3 amount bigint)
    seed.shop.raw_orders: BASE TABLE of 3 rows (1 order_id bigint, 2 country varchar, 3 amount bigint)
    source.shop.erp.refunds: EXTERNAL of null rows (1 order_id bigint, 2 amount bigint)
    "#);
    shop.run(&["build", "--select", "later"]);
    shop.run(&["docs", "generate"]);
    let catalog = artifact(folder, "catalog.json");
    let columns = &catalog["nodes"]["model.shop.later"]["columns"];
    assert_eq!(columns["list"]["type"], "struct(a bigint)[]");
    let ids = |artifact: &Value| -> BTreeSet<String> {
        let nodes = artifact["nodes"].as_object().expect("a mapping").keys();
        nodes.cloned().collect()
    };
    assert!(ids(&artifact(folder, "manifest.json")).is_superset(&ids(&catalog)));
}

#[test]
fn a_table_that_cannot_be_read_is_an_error_of_the_catalog_and_hides_no_other() {
    let shop = described();
    shop.run(&["build", "--select", "+orders"]);
    let tables = shop.folder.path().join("target/warehouse/relations/orders");
    for version in std::fs::read_dir(tables).expect("the table was built") {
        let log = version.expect("a version").path().join("_delta_log");
        std::fs::remove_dir_all(log).expect("the log is removed");
    }
    let said = shop.run(&["docs", "generate"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("error[E0901]: `orders` cannot be read"),
        "{}",
        said.err
    );
    let catalog = artifact(shop.folder.path(), "catalog.json");
    assert_eq!(catalog["errors"].as_array().map(Vec::len), Some(1));
    assert!(
        catalog["nodes"]["seed.shop.raw_orders"].is_object(),
        "{catalog}"
    );
    second_reader(shop.folder.path());
}

#[test]
fn clean_removes_the_files_for_the_tools_of_dbt() {
    let shop = shop();
    shop.run(&["build"]);
    shop.run(&["docs", "generate"]);
    shop.run(&["clean"]);
    let left = |name: &&str| shop.folder.path().join("target").join(name).exists();
    let files = ["manifest.json", "run_results.json", "catalog.json"];
    assert_eq!(files.iter().filter(|name| left(name)).count(), 0);
}
