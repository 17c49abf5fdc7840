//! How new sources are: what is asked, by which clock, and what is told in the terminal and in `target/sources.json`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use equipoise::artifacts::write_sources;
use equipoise::diagnostics::{Render, render_all};
use equipoise::engine::{Engine, EngineOptions};
use equipoise::project::Folder;
use equipoise::run::{PrepareOptions, Prepared, SourceAges, prepare, source_ages};
use serde_json::{Value, json};

use super::artifacts::second_reader;
use super::cli::Shop;

/// A morning on which every delivery of the night should have come.
const NOW: &str = "2026-01-20T08:00:00.000000Z";

/// Tables of all kinds of times.
fn deliveries() -> Shop {
    let shop = Shop::empty();
    for (path, text) in [
        ("project.yml", "name: shop\nvars: {data_ends_at: 2026-01-10, hours: 12}\n"),
        ("data/fresh.csv", "id,loaded_at\n1,2026-01-20 02:30:00\n2,2026-01-19 02:30:00\n"),
        ("data/edge.csv", "id,loaded_at\n1,2026-01-19 20:00:00\n"),
        ("data/late.csv", "id,loaded_at\n1,2026-01-19 18:00:00\n"),
        ("data/stopped.csv", "id,loaded_at\n1,2026-01-18 07:59:59.5\n2,\n"),
        ("data/days.csv", "id,loaded_on\n1,2026-01-20\n2,2026-01-19\n"),
        ("data/zones.csv", "id,loaded_at\n1,2026-01-20T04:00:00+02:00\n2,2026-01-20T01:00:00Z\n"),
        ("data/texts.csv", "id,loaded_at\n1,2026-01-20 01:00:00\n2,n/a\n"),
        ("data/none.csv", "id,loaded_at\n"),
        ("data/nulls.csv", "id,loaded_at,is_test\n1,2026-01-20 01:00:00,true\n"),
        ("data/ahead.csv", "id,loaded_at\n1,2031-01-01 00:00:00\n"),
        ("data/loads.csv", "table_name,finished_at\norders,2026-01-19 23:00:00\nusers,2026-01-20 03:00:00\n"),
        (
            "models/sources.yml",
            "sources:
  - name: raw
    loaded_at_field: loaded_at
    freshness:
      warn_after: {count: \"{{ var('hours') }}\", period: hour}
      error_after: {count: 2, period: day}
    tables:
      - {name: fresh, location: data/fresh.csv}
      - {name: edge, location: data/edge.csv}
      - {name: late, location: data/late.csv}
      - {name: stopped, location: data/stopped.csv}
      - {name: days, location: data/days.csv, loaded_at_field: loaded_on}
      - {name: zones, location: data/zones.csv}
      - {name: zoned, location: data/zoned.parquet, loaded_at_field: LoadedAt}
      - {name: texts, location: data/texts.csv, loaded_at_field: \"loaded_at::timestamp -- as written\"}
      - name: cleaned
        location: data/texts.csv
        loaded_at_field: try_cast(loaded_at as timestamp)
        freshness: {filter: id < 10}
      - {name: none, location: data/none.csv, allow_empty: true}
      - name: nulls
        location: data/nulls.csv
        freshness: {error_after: null, filter: not is_test}
      - {name: ahead, location: data/ahead.csv}
      - name: orders
        location: data/fresh.csv
        loaded_at_query: |
          select max(finished_at) from {{ source('raw', 'loads') }} -- one row for each load
          where table_name = 'orders'
      - {name: users, location: data/fresh.csv, loaded_at_query: select finished_at from raw.loads}
      - {name: loads, location: data/loads.csv, freshness: null}
",
        ),
    ] {
        shop.write(path, text);
    }
    parquet(
        shop.folder.path(),
        "zoned",
        "select arrow_cast('2026-01-20T05:00:00+01:00', 'Timestamp(Nanosecond, Some(\"Europe/Berlin\"))') as \"LoadedAt\"",
    );
    shop
}

/// The rows of a query as a file of columns.
fn parquet(root: &Path, name: &str, sql: &str) {
    let path = root.join(format!("data/{name}.parquet"));
    let context = datafusion::prelude::SessionContext::new();
    let copy = format!("copy ({sql}) to '{}' stored as parquet", path.display());
    super::runtime()
        .block_on(async { context.sql(&copy).await?.collect().await })
        .expect("the file is written");
}

/// What is found at [`NOW`].
fn asked(root: &Path) -> (Prepared, SourceAges) {
    let options = PrepareOptions {
        threads: Some(1),
        now: NOW.to_string(),
        ..PrepareOptions::default()
    };
    super::runtime().block_on(async {
        let checked = prepare(&Folder::new(root), &options).await;
        let texts = &checked.value.project.texts;
        let said = render_all(&checked.diagnostics, texts, Render::Plain);
        assert!(!checked.has_errors(), "{said}");
        let prepared = checked.value;
        let everything = prepared
            .graph
            .select(&prepared.manifest, &[], &[], &Ok(BTreeSet::new()))
            .value;
        let engine = Engine::new(EngineOptions::default()).expect("it starts");
        let ages = source_ages(&prepared, &everything, &engine).await;
        (prepared, ages.expect("the sources can be read"))
    })
}

/// A line for each table, and then what is said.
fn told(prepared: &Prepared, ages: &SourceAges) -> String {
    let lines = ages.sources.iter().map(|source| {
        let name = &prepared.manifest.node(source.id).name;
        let time = source
            .loaded_at
            .map_or("-".to_string(), |time| time.to_rfc3339());
        format!("{name:<12} {:<13} {time}\n", source.status.word())
    });
    let said = render_all(&ages.diagnostics(), &prepared.project.texts, Render::Plain);
    lines.collect::<String>() + "\n" + &said
}

#[test]
fn every_table_is_judged_by_its_newest_row() {
    let shop = deliveries();
    let (prepared, ages) = asked(shop.folder.path());
    insta::assert_snapshot!(told(&prepared, &ages));
    assert!(ages.has_failed());
}

#[test]
fn what_is_told_stands_in_sources_json() {
    let shop = deliveries();
    let (prepared, ages) = asked(shop.folder.path());
    write_sources(&prepared, &ages).expect("it is written");
    let written = artifact(shop.folder.path(), "sources.json");
    let schema = "https://schemas.getdbt.com/dbt/sources/v3.json";
    assert_eq!(written["metadata"]["dbt_schema_version"], schema);
    let mut results = written["results"].clone();
    for result in results.as_array_mut().expect("a list") {
        if result["status"] == "runtime error" {
            continue;
        }
        let timing = result["timing"].as_array().expect("a list");
        let names: Vec<&Value> = timing.iter().map(|span| &span["name"]).collect();
        assert_eq!(names, ["compile", "execute"]);
        result["timing"] = json!("two spans");
        assert!(result["execution_time"].is_f64(), "{result}");
        result["execution_time"] = json!("some seconds");
    }
    let shown = ["fresh", "late", "stopped", "texts", "none", "nulls"]
        .map(|name| json!(format!("source.shop.raw.{name}")));
    let results = results.as_array().expect("a list").iter();
    let results: Vec<&Value> = results
        .filter(|result| shown.contains(&result["unique_id"]))
        .collect();
    let text = serde_json::to_string_pretty(&results).expect("it is JSON");
    insta::assert_snapshot!(text);
    second_reader(shop.folder.path());
}

fn artifact(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join("target").join(name));
    serde_json::from_str(&text.expect("it was written")).expect("it is JSON")
}

/// Without a column the files say when they came, as the metadata of a warehouse do for dbt.
#[test]
fn files_say_when_they_were_written_where_no_column_does() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write(
        "models/sources.yml",
        "sources:
  - name: raw
    freshness: {error_after: {count: 90, period: minute}}
    tables:
      - {name: orders, location: data/orders/}
      - {name: users, location: data/users.csv}
",
    );
    let now: SystemTime = chrono::DateTime::parse_from_rfc3339(NOW)
        .expect("it is a time")
        .into();
    for (path, minutes) in [
        ("data/orders/1.csv", 500),
        ("data/orders/2.csv", 30),
        ("data/users.csv", 100),
    ] {
        shop.write(path, "id\n1\n");
        let file = File::options()
            .write(true)
            .open(shop.folder.path().join(path));
        let written = now - Duration::from_secs(60 * minutes);
        file.and_then(|file| file.set_modified(written))
            .expect("it has a time");
    }
    let (prepared, ages) = asked(shop.folder.path());
    insta::assert_snapshot!(told(&prepared, &ages));
}

/// A table says it over its source, `config` over what stands beside it, each key on its own; null takes back.
#[test]
fn a_table_says_it_over_its_source_key_by_key() {
    let shop = Shop::empty();
    shop.write(
        "project.yml",
        "name: shop
sources:
  shop:
    far:
      +loaded_at_field: sent_at
      +freshness: {warn_after: {count: 1, period: day}, error_after: {count: 2, period: day}}
      by_query: {+loaded_at_query: 'select max(sent_at) from {{ this }}'}
",
    );
    shop.write(
        "data/rows.csv",
        "id,loaded_at,sent_at\n1,2026-01-20 02:30:00,2026-01-20\n",
    );
    let table = |name: &str, rest: &str| {
        format!("      - {{name: {name}, location: data/rows.csv{rest}}}\n")
    };
    let ages = "{warn_after: {count: 1, period: day}, error_after: {count: 2, period: day}, filter: id > 0}";
    let text = [
        format!(
            "sources:\n  - name: raw\n    freshness: {ages}\n    loaded_at_field: loaded_at\n    tables:\n"
        ),
        table("all", ""),
        table("count_alone", ", freshness: {warn_after: {count: 6}}"),
        table("no_warning", ", freshness: {warn_after: null}"),
        table("other_filter", ", freshness: {filter: id < 5}"),
        table("off", ", freshness: null"),
        table("off_in_config", ", config: {freshness: null}"),
        table(
            "on_again",
            ", freshness: null, config: {freshness: {warn_after: {count: 3, period: hour}}}",
        ),
        table(
            "by_query",
            ", config: {loaded_at_query: \"select max(sent_at) from {{ this }}\", event_time: sent_at}",
        ),
        table(
            "by_files",
            ", loaded_at_field: null, freshness: {filter: null}",
        ),
        format!(
            "  - name: new\n    config: {{freshness: {ages}, loaded_at_field: loaded_at}}\n    tables:\n"
        ),
        table(
            "all",
            ", config: {loaded_at_field: sent_at, freshness: {error_after: {period: hour}}}",
        ),
        "  - name: far\n    freshness: {warn_after: {count: 3}}\n    tables:\n".to_string(),
        table("all", ""),
        table("by_query", ""),
        table("off", ", freshness: null"),
        "  - name: quiet\n    freshness: null\n    loaded_at_field: missing\n    tables:\n"
            .to_string(),
        table("off", ""),
        table("only_filter", ", freshness: {filter: id > 0}"),
        table(
            "on",
            ", freshness: {error_after: {count: 1, period: minute}}, loaded_at_field: sent_at",
        ),
    ];
    shop.write("models/sources.yml", &text.concat());
    shop.good(&["compile"]);
    let manifest = artifact(shop.folder.path(), "manifest.json");
    let lines = manifest["sources"].as_object().expect("a mapping").iter();
    let lines = lines.map(|(id, source)| {
        assert_eq!(source["freshness"], source["config"]["freshness"]);
        format!(
            "{id}\n  {} {}\n  {}\n",
            source["loaded_at_field"], source["loaded_at_query"], source["freshness"]
        )
    });
    insta::assert_snapshot!(lines.collect::<String>());
    second_reader(shop.folder.path());
}

/// Orders of a time long ago, and of one that is far away.
fn old_and_new() -> Shop {
    let shop = Shop::empty();
    for (path, text) in [
        ("project.yml", "name: shop\n"),
        ("data/old.csv", "id,loaded_at\n1,2001-02-03 04:05:06\n"),
        ("data/new.csv", "id,loaded_at\n1,2999-02-03 04:05:06\n"),
        ("models/stg_new.sql", "select * from {{ source('raw', 'new') }}\n"),
        (
            "models/sources.yml",
            "sources:
  - name: raw
    config: {loaded_at_field: loaded_at, freshness: {error_after: {count: 1, period: day}}}
    tables:
      - {name: old, location: data/old.csv}
      - {name: new, location: data/new.csv}
      - {name: warned, location: data/old.csv, freshness: {warn_after: {count: 1, period: day}, error_after: null}}
      - {name: unasked, location: data/old.csv, freshness: null}
",
        ),
    ] {
        shop.write(path, text);
    }
    shop
}

#[test]
fn a_source_that_is_late_fails_the_command_and_one_that_warns_does_not() {
    let shop = old_and_new();
    let said = shop.run(&["source", "freshness", "--output", "csv"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let lines: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    let of = |name: &str| {
        let found = lines.iter().find(|line| line[0] == name);
        found.map(|line| (line[1], line[3]))
    };
    assert_eq!(lines[0], ["source", "max_loaded_at", "age", "status"]);
    assert_eq!(of("raw.old"), Some(("2001-02-03T04:05:06Z", "error")));
    assert_eq!(of("raw.new"), Some(("2999-02-03T04:05:06Z", "pass")));
    assert_eq!(of("raw.warned"), Some(("2001-02-03T04:05:06Z", "warn")));
    assert_eq!(of("raw.unasked"), None);
    assert!(
        said.err.contains("error[E0806]: `raw.old` is late"),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("warning[E0806]: `raw.warned` is late"),
        "{}",
        said.err
    );
    for selected in ["source:raw.new", "source:raw.warned", "+stg_new", "raw.new"] {
        let said = shop.good(&["source", "freshness", "--select", selected]);
        assert!(said.out.starts_with(" source"), "{}", said.out);
        let written = artifact(shop.folder.path(), "sources.json");
        assert_eq!(
            written["results"].as_array().map(Vec::len),
            Some(1),
            "{selected}"
        );
    }
    let written = artifact(shop.folder.path(), "sources.json");
    let manifest = artifact(shop.folder.path(), "manifest.json");
    let invocation = |artifact: &Value| artifact["metadata"]["invocation_id"].clone();
    assert_eq!(invocation(&written), invocation(&manifest));
    second_reader(shop.folder.path());
    shop.good(&["clean"]);
    assert!(!shop.folder.path().join("target/sources.json").exists());
}

#[test]
fn a_selection_without_a_source_that_is_judged_is_an_error() {
    let shop = old_and_new();
    for selected in ["stg_new", "source:raw.unasked"] {
        let said = shop.run(&["source", "freshness", "--select", selected]);
        assert_eq!(said.code, 2, "{selected}: {}", said.err);
        assert!(
            said.err.contains("error[E0302]: no selected source says"),
            "{}",
            said.err
        );
        assert!(said.err.contains("`raw.old`"), "{}", said.err);
    }
}

#[test]
fn a_project_whose_sources_say_nothing_is_told_so() {
    let shop = old_and_new();
    shop.write(
        "models/sources.yml",
        "sources: [{name: raw, tables: [{name: new, location: data/new.csv}]}]\n",
    );
    let said = shop.good(&["source", "freshness"]);
    assert_eq!(said.out, "");
    assert!(
        said.err.contains("no source says how new it should be"),
        "{}",
        said.err
    );
    let written = artifact(shop.folder.path(), "sources.json");
    assert_eq!(written["results"], json!([]));
}

/// What YAML says about freshness changes no rows.
#[test]
fn freshness_builds_nothing_anew() {
    let shop = old_and_new();
    shop.good(&["build"]);
    let text = std::fs::read_to_string(shop.folder.path().join("models/sources.yml"));
    let text = text
        .expect("it was written")
        .replace("{count: 1, period: day}", "{count: 3, period: hour}");
    shop.write("models/sources.yml", &text);
    let said = shop.good(&["build"]);
    assert!(said.err.contains("0 built, 1 unchanged"), "{}", said.err);
}

/// Three source tables, a view of each of two, and one of both.
fn three_sources() -> Shop {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    for name in ["orders", "users", "visits"] {
        let rows = "id,loaded_at\n1,2026-01-19 00:00:00\n";
        shop.write(&format!("data/{name}.csv"), rows);
    }
    let table = |name: &str| format!("      - {{name: {name}, location: data/{name}.csv}}\n");
    let head = "sources:\n  - name: raw\n    loaded_at_field: loaded_at\n    freshness: {warn_after: {count: 100000, period: day}}\n    tables:\n";
    let tables = ["orders", "users", "visits"].map(table).concat();
    shop.write("models/sources.yml", &format!("{head}{tables}"));
    for name in ["orders", "users"] {
        let sql = format!("select id from {{{{ source('raw', '{name}') }}}}\n");
        shop.write(&format!("models/stg_{name}.sql"), &sql);
    }
    let both = "select o.id from {{ ref('stg_orders') }} as o join {{ ref('stg_users') }} as u on o.id = u.id\n";
    shop.write("models/both.sql", both);
    shop
}

fn listed(shop: &Shop, selection: &[&str]) -> Vec<String> {
    let said = shop.good(&[&["ls", "--output", "csv"], selection].concat());
    let lines = said.out.lines().skip(1);
    let mut names: Vec<String> = lines
        .filter_map(|line| line.split(',').nth(1).map(ToString::to_string))
        .collect();
    names.sort();
    names
}

#[test]
fn sources_with_newer_rows_than_then_are_selected_with_what_reads_them() {
    let shop = three_sources();
    let fresher = |selector: &str| listed(&shop, &["--state", "then", "--select", selector]);
    shop.good(&["source", "freshness"]);
    let then = artifact(shop.folder.path(), "sources.json");
    // One was asked then and had an older row, one could not be asked, one is as it was.
    let mut earlier = then.clone();
    earlier["results"][0]["max_loaded_at"] = json!("2026-01-18T23:59:59.5Z");
    earlier["results"][1] =
        json!({"unique_id": "source.shop.raw.users", "error": "gone", "status": "runtime error"});
    shop.write("then/sources.json", &earlier.to_string());
    assert_eq!(fresher("source_status:fresher"), ["raw.orders"]);
    assert_eq!(
        fresher("source_status:fresher+"),
        ["both", "raw.orders", "stg_orders"]
    );
    assert_eq!(
        fresher("source_status:fresher+1,resource_type:model"),
        ["stg_orders"]
    );
    assert_eq!(
        listed(
            &shop,
            &["--state", "then", "--exclude", "source_status:fresher+"]
        ),
        ["raw.users", "raw.visits", "stg_users"]
    );
    let said = shop.good(&["build", "--state", "then", "-s", "source_status:fresher+1"]);
    assert!(said.err.contains("1 built"), "{}", said.err);

    // One was not there then.
    earlier["results"].as_array_mut().expect("a list").remove(2);
    shop.write("then/sources.json", &earlier.to_string());
    assert_eq!(
        fresher("source_status:fresher"),
        ["raw.orders", "raw.visits"]
    );

    // Nothing is new: that is no mistake, and there is nothing to do.
    shop.write("then/sources.json", &then.to_string());
    let said = shop.good(&["build", "--state", "then", "-s", "source_status:fresher+"]);
    assert!(said.err.contains("warning[E0302]"), "{}", said.err);
    assert!(said.err.contains("0 built, 0 unchanged"), "{}", said.err);
    assert_eq!(fresher("source_status:fresher+ stg_users"), ["stg_users"]);
    let whole = shop.folder.path().join("then");
    let whole = whole.to_str().expect("it is a text");
    assert_eq!(
        listed(
            &shop,
            &["--state", whole, "--select", "source_status:fresher+"]
        ),
        [""; 0]
    );
}

#[test]
fn what_a_state_lacks_is_told() {
    let shop = three_sources();
    let said = |arguments: &[&str]| {
        let said = shop.run(&[&["ls", "-s", "source_status:fresher+"], arguments].concat());
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        said.err
    };
    let none = said(&[]);
    let missing = said(&["--state", "then"]);
    shop.write("then/sources.json", "{\"results\": []}");
    let not_asked = said(&["--state", "then"]);
    shop.good(&["source", "freshness"]);
    let itself = said(&["--state", "target"]);
    shop.write("then/sources.json", "{\"results\": {}}");
    let no_list = said(&["--state", "then"]);
    let entry =
        "{\"results\": [{\"unique_id\": \"source.shop.raw.users\", \"max_loaded_at\": \"soon\"}]}";
    shop.write("then/sources.json", entry);
    let no_time = said(&["--state", "then"]);
    let other = shop.run(&["ls", "-s", "source_status:freher+", "--state", "then"]);
    insta::assert_snapshot!(
        [
            none, missing, not_asked, itself, no_list, no_time, other.err
        ]
        .join("\n")
    );
}
