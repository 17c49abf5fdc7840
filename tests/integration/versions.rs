//! Published versions as a person handles them: look at them, go back to one, forget the old ones.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

fn written(price: u32) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(folder.path().join("models")).unwrap();
    fs::write(folder.path().join("project.yml"), "name: small\n").unwrap();
    set_price(&folder, price);
    fs::write(
        folder.path().join("models/doubled.sql"),
        "{{ config(materialized='view') }}\nselect 2 * price as price from {{ ref('prices') }}\n",
    )
    .unwrap();
    folder
}

fn set_price(folder: &TempDir, price: u32) {
    let text =
        format!("{{{{ config(materialized='table') }}}}\nselect cast({price} as int) as price\n");
    fs::write(folder.path().join("models/prices.sql"), text).unwrap();
}

fn equipoise(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder.path())
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn good(folder: &TempDir, arguments: &[&str]) -> String {
    let output = equipoise(folder, arguments);
    assert!(output.status.success(), "{arguments:?}\n{}", said(&output));
    said(&output)
}

fn price(folder: &TempDir) -> String {
    let asked = good(folder, &["sql", "select price from doubled", "-o", "csv"]);
    asked.lines().last().expect("a row").to_string()
}

/// Three versions: 20, 40, 60.
fn published() -> TempDir {
    let folder = written(10);
    good(&folder, &["build"]);
    for price in [20, 30] {
        set_price(&folder, price);
        good(&folder, &["build"]);
    }
    folder
}

#[test]
fn history_names_what_changed_newest_first() {
    let folder = published();
    let lines = good(&folder, &["history", "-o", "json"]);
    let versions: Vec<String> = lines
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            format!(
                "{} {} {}",
                line["version"], line["is_current"], line["changed"]
            )
        })
        .collect();
    assert_eq!(
        versions,
        [
            "3 true \"doubled, prices\"",
            "2 false \"doubled, prices\"",
            "1 false \"\""
        ]
    );
    assert!(good(&folder, &["history"]).contains("3 (current)"));
}

#[test]
fn a_rollback_publishes_an_earlier_version_again_and_the_next_build_goes_on() {
    let folder = published();
    assert_eq!(price(&folder), "60");
    let dry = good(&folder, &["rollback", "--dry-run"]);
    assert!(
        dry.contains("from version 3 back to what version 2 was"),
        "{dry}"
    );
    assert_eq!(price(&folder), "60");
    let back = good(&folder, &["rollback"]);
    assert!(
        back.contains("`dev` is what version 2 was, as version 4"),
        "{back}"
    );
    assert_eq!(price(&folder), "40");
    good(&folder, &["rollback", "--to", "1"]);
    assert_eq!(price(&folder), "20");
    let built = good(&folder, &["build"]);
    assert!(built.contains("published `dev` as version 6"), "{built}");
    assert_eq!(price(&folder), "60");
}

#[test]
fn the_way_back_does_not_wait_until_the_project_is_right_again() {
    let folder = published();
    let model = folder.path().join("models/broken.sql");
    std::fs::write(&model, "select nothing from {{ ref('nobody') }}").expect("the folder is ours");
    let refused = equipoise(&folder, &["build"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    good(&folder, &["rollback"]);
    assert!(good(&folder, &["history"]).contains("4 (current)"));
    good(&folder, &["vacuum"]);
    std::fs::remove_file(&model).expect("it is there");
    assert_eq!(price(&folder), "40");
    // Where the project publishes to must be known.
    let project = folder.path().join("project.yml");
    let text = std::fs::read_to_string(&project).expect("there is one");
    std::fs::write(&project, format!("{text}\ntargtes: {{}}\n")).expect("the folder is ours");
    let refused = equipoise(&folder, &["rollback"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("targtes"), "{}", said(&refused));
}

#[test]
fn a_version_that_is_not_there_is_an_error_with_the_way_on() {
    let folder = published();
    let output = equipoise(&folder, &["rollback", "--to", "9"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("`equipoise history`"),
        "{}",
        said(&output)
    );
    let empty = written(10);
    let output = equipoise(&empty, &["rollback"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("no version before"),
        "{}",
        said(&output)
    );
    assert!(good(&empty, &["history"]).contains("nothing was published"));
}

#[test]
fn vacuum_keeps_what_kept_versions_need() {
    let folder = published();
    let kept = good(&folder, &["vacuum"]);
    assert!(
        kept.starts_with("0 versions, 0 tables and 0 unfinished"),
        "{kept}"
    );
    let removed = good(&folder, &["vacuum", "--keep-versions", "1"]);
    assert!(
        removed.starts_with("2 versions, 2 tables and 0 unfinished"),
        "{removed}"
    );
    assert_eq!(price(&folder), "60");
    let output = equipoise(&folder, &["rollback", "--to", "1"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
