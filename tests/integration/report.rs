//! `report`: pages say what the tables say, whole or not at all, whatever texts the project is made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use equipoise::report::{Evidence, Page, Stamp, pages, write};
use serde_json::json;

use crate::cli::Shop;

fn stamp() -> Stamp {
    Stamp {
        project: "a <b> & c".into(),
        environment: "dev".into(),
        version: 3,
        published_at: "2026-11-24T01:13:24.583117Z".into(),
    }
}

/// Rows as a table would give them.
fn rows<T: serde::de::DeserializeOwned>(rows: serde_json::Value) -> Vec<T> {
    serde_json::from_value(rows).expect("rows of the table")
}

/// Every table, with texts that would do harm if a page took them for HTML, and with numbers that are missing.
fn hostile() -> Evidence {
    const HARM: &str = "\"><script>alert('x')</script>";
    let key = format!("../{HARM}");
    let result = |metric: &str, role: &str, segment: &str, low: Option<f64>| {
        json!({
            "experiment_key": key, "metric_name": metric, "variant": HARM, "segment": segment, "role": role,
            "segment_dimension": if segment == "all" { "all" } else { HARM }, "direction": "increase", "margin": 0.02,
            "control_units": 12345, "control_value": 0.5, "lift": 0.1, "lift_low": low, "lift_high": 0.3, "p_value": 1e-12,
            "status": if low.is_some() { "ok" } else { "zero_variance" },
        })
    };
    Evidence {
        decisions: rows(json!([
            {"experiment_key": key, "decision": HARM, "reasons": [HARM, "`a` <b> `c"], "primary_metric": HARM, "owner": HARM},
            {"experiment_key": "plain", "decision": "review"},
        ])),
        results: rows(json!([
            result("m", "primary", "all", Some(-0.1)),
            result(HARM, "guardrail", "all", None),
            result("m", "primary", HARM, Some(-500.0)),
        ])),
        sample_ratios: rows(json!([
            {"experiment_key": key, "population": HARM, "variants": [HARM, "b"], "shares": [0.5, 0.5], "units": [0.0, 0.0], "verdict": "mismatch"},
        ])),
        steps: rows(json!([{"experiment_key": key, "step": HARM, "units": 0, "units_left": 0}])),
        experiments: BTreeMap::from([(
            key.clone(),
            serde_json::from_value(json!({"experiment_key": key, "hypothesis": HARM, "unit": HARM, "starts_at": "2026-01-01T00:00:00"})).expect("a row"),
        )]),
        metrics: BTreeMap::from([(
            "m".into(),
            serde_json::from_value(json!({"metric_name": "m", "label": HARM, "description": HARM, "tier": HARM})).expect("a row"),
        )]),
        days: BTreeMap::from([(
            HARM.into(),
            rows(json!([{"metric_name": HARM, "metric_date": HARM, "value": 1.0}, {"metric_name": HARM, "metric_date": HARM}])),
        )]),
    }
}

/// Opened and closed in pairs, with nothing that a browser would run or fetch.
fn assert_is_harmless(page: &Page) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.html.split('<').skip(1) {
        let (tag, _) = tag
            .split_once('>')
            .unwrap_or_else(|| panic!("{}: <{tag}", page.path));
        let name = tag
            .split([' ', '\n', '/'])
            .find(|word| !word.is_empty())
            .unwrap_or("");
        assert!(
            !["script", "iframe", "img", "link", "object"].contains(&name),
            "{}: <{tag}>",
            page.path
        );
        assert!(!tag.contains(" on"), "{}: <{tag}>", page.path);
        match name {
            "!doctype" | "meta" | "br" => {}
            _ if tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{}", page.path),
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "{}: {open:?}", page.path);
    assert!(!page.html.contains("http"), "{}", page.path);
}

#[test]
fn texts_of_a_project_are_texts_on_its_pages() {
    let pages = pages(&hostile(), &stamp()).expect("pages are made");
    assert_eq!(pages.len(), 4);
    for page in &pages {
        assert_is_harmless(page);
        let inside = Path::new(&page.path)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(inside, "{}", page.path);
        assert!(page.html.contains("a &lt;b&gt; &amp; c"), "{}", page.path);
    }
    let first = &pages[0].html;
    assert!(first.contains("&lt;script&gt;"));
    assert!(first.contains("<code>a</code> &lt;b&gt; `c"));
}

#[test]
fn every_link_leads_to_a_page() {
    let pages = pages(&hostile(), &stamp()).expect("pages are made");
    for page in &pages {
        let folder = Path::new(&page.path)
            .parent()
            .expect("a page lies in a folder");
        let links: Vec<&str> = page
            .html
            .split("href=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(links.len() >= 2);
        for link in links {
            let target = folder.join(link);
            let target = target.to_string_lossy().replace("&#x2f;", "/");
            let target = target.replace("experiments/../", "");
            assert!(
                pages.iter().any(|page| page.path == target),
                "{} -> {link}",
                page.path
            );
        }
    }
}

#[test]
fn a_project_without_experiments_has_pages_that_say_so() {
    let pages = pages(&Evidence::default(), &stamp()).expect("pages are made");
    pages.iter().for_each(assert_is_harmless);
    assert!(pages[0].html.contains("No experiment is defined."));
}

#[test]
fn a_folder_holds_the_last_report_and_nothing_of_the_one_before() {
    let folder = crate::folder();
    let out = folder.path().join("a/report");
    let page = |path: &str, text: &str| Page {
        path: path.into(),
        html: format!("<meta name=\"generator\" content=\"equipoise report\">{text}"),
    };
    write(
        &out,
        &[page("index.html", "1"), page("experiments/gone.html", "1")],
    )
    .expect("it is written");
    // What a killed process left is no hindrance.
    fs::create_dir_all(folder.path().join("a/.report.new/experiments")).expect("a folder is made");
    fs::create_dir_all(folder.path().join("a/.report.old")).expect("a folder is made");
    write(&out, &[page("index.html", "2")]).expect("it is written again");
    assert!(fs::read_to_string(out.join("index.html")).is_ok_and(|html| html.ends_with('2')));
    assert!(!out.join("experiments").exists());
    assert_eq!(
        fs::read_dir(folder.path().join("a"))
            .expect("it is there")
            .count(),
        1
    );
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = crate::folder();
    fs::write(folder.path().join("thesis.txt"), "years").expect("a file is written");
    fs::write(folder.path().join("index.html"), "<h1>mine</h1>").expect("a file is written");
    let error = write(folder.path(), &[]).expect_err("it is not a report");
    assert!(
        error.to_string().contains("something other than a report"),
        "{error}"
    );
    assert!(fs::read_to_string(folder.path().join("thesis.txt")).is_ok_and(|text| text == "years"));
    assert!(write(&folder.path().join("thesis.txt"), &[]).is_err());
}

const DECISIONS: &str = "models/experiment_decisions.sql";

#[test]
fn decisions_alone_are_enough_for_a_report() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: tiny\n");
    shop.write(DECISIONS, "{{ config(materialized='table') }}\nselect 'a' as experiment_key, 'ship' as decision, ['it is `fine`'] as reasons, 0.25::decimal(9, 4) as lift\n");
    let said = shop.run(&["report"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("error[E0803]: `experiment_decisions`"),
        "{}",
        said.err
    );
    assert_eq!(shop.run(&["build"]).code, 0);
    let said = shop.run(&["report"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.starts_with("3 pages about version 1 of"),
        "{}",
        said.err
    );
    let out = shop.folder.path().join("target/report");
    let page =
        fs::read_to_string(out.join("experiments/a.html")).expect("a page of the experiment");
    assert!(page.contains("<li>it is <code>fine</code></li>"), "{page}");
    // The same version gives the same bytes.
    assert_eq!(shop.run(&["report", "--out", "again"]).code, 0);
    for path in ["index.html", "metrics.html", "experiments/a.html"] {
        let again = fs::read(shop.folder.path().join("again").join(path)).expect("a page");
        assert!(again == fs::read(out.join(path)).expect("a page"), "{path}");
    }
}

#[test]
fn a_column_that_the_report_needs_is_missed_by_name() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: tiny\n");
    shop.write(
        DECISIONS,
        "{{ config(materialized='table') }}\nselect 'a' as experiment_key, 'ship' as verdict\n",
    );
    // A model of that name is free to be something else.
    assert_eq!(shop.run(&["build"]).code, 0);
    let said = shop.run(&["report"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err
            .contains("error[E0406]: `experiment_decisions` has no column `decision`"),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("--> models/experiment_decisions.sql"),
        "{}",
        said.err
    );
    assert!(!shop.folder.path().join("target/report").exists());
}
