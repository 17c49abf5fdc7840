//! A build after which nothing changed is known by its receipt; after any change there is none. Whether the receipt was
//! believed shows in its text: the tests write a word into it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

const MARK: &str = "known by the receipt";

/// `project` and `outside`, where a source lies.
fn written() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in [
        (
            "project/project.yml",
            "name: small\nvars: {factor: 2}\ntargets:\n  dev: {}\n  prod: {}\n",
        ),
        ("project/seeds/prices.csv", "id,price\n1,10\n2,20\n"),
        (
            "project/models/sources.yml",
            "sources:\n  - name: shop\n    tables:\n      - name: orders\n        location: ../outside/*.csv\n",
        ),
        (
            "project/models/sold.sql",
            "{{ config(materialized='table') }}\nselect o.id, o.price_id, p.price * {{ var('factor') }} as price, '{{ env_var('SHOP_REGION', 'eu') }}' as region\n\
             from {{ source('shop', 'orders') }} as o inner join {{ ref('prices') }} as p on p.id = o.price_id\n",
        ),
        ("outside/a.csv", "id,price_id\n1,1\n2,2\n"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

/// As if every file had been written a minute ago: one of this instant could change again unseen.
pub(crate) fn let_settle(folder: &Path) {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.expect("the folder can be listed");
        if entry.file_type().is_file() {
            let file = fs::File::options()
                .append(true)
                .open(entry.path())
                .expect("a file");
            file.set_modified(SystemTime::now() - Duration::from_secs(60))
                .expect("its time can be set");
        }
    }
}

fn equipoise(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(arguments)
        .arg("--project-dir")
        .arg(folder.path().join("project"))
        .env_remove("SHOP_REGION")
        .output()
        .expect("the program runs")
}

/// Builds until there is nothing to do, and marks the receipt.
fn built() -> TempDir {
    let folder = written();
    let_settle(folder.path());
    let output = equipoise(&folder, &["build"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    mark(&folder);
    folder
}

fn mark(folder: &TempDir) {
    let receipts = receipts(folder);
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    let text = fs::read_to_string(&receipts[0]).expect("the receipt");
    let marked = text.replace("\"decisions\":\"\"", &format!("\"decisions\":\"{MARK}\""));
    assert_ne!(marked, text, "{text}");
    fs::write(&receipts[0], marked).expect("the receipt");
}

fn receipts(folder: &TempDir) -> Vec<std::path::PathBuf> {
    let state = folder.path().join("project/target/state");
    let Ok(entries) = fs::read_dir(state) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("unchanged-"))
        .collect()
}

fn is_believed(output: &Output) -> bool {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).contains(MARK)
}

#[test]
fn after_a_build_that_changed_nothing_since_nothing_is_read() {
    let folder = built();
    let again = equipoise(&folder, &["build"]);
    assert!(is_believed(&again));
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("0 built, 2 unchanged"), "{said}");
    assert!(
        said.contains("nothing to do: `dev` stays at version 1"),
        "{said}"
    );
}

#[test]
fn any_change_is_seen() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 9] = [
        ("a model's text", |root| {
            let path = root.join("project/models/sold.sql");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text + "-- and a remark\n").unwrap();
        }),
        ("a value of the same length in a seed", |root| {
            fs::write(
                root.join("project/seeds/prices.csv"),
                "id,price\n1,10\n2,30\n",
            )
            .unwrap();
        }),
        ("a value in a source, its time set back", |root| {
            let path = root.join("outside/a.csv");
            let time = path.metadata().unwrap().modified().unwrap();
            fs::write(&path, "id,price_id\n1,1\n2,1\n").unwrap();
            let file = fs::File::options().append(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("a file more in a source", |root| {
            fs::write(root.join("outside/b.csv"), "id,price_id\n3,1\n").unwrap();
        }),
        ("a file less in the project", |root| {
            fs::remove_file(root.join("project/seeds/prices.csv")).unwrap();
            fs::write(
                root.join("project/seeds/prices.csv"),
                "id,price\n1,10\n2,20\n",
            )
            .unwrap();
        }),
        ("a new macro", |root| {
            fs::create_dir_all(root.join("project/macros")).unwrap();
            fs::write(
                root.join("project/macros/m.sql"),
                "{% macro m() %}1{% endmacro %}",
            )
            .unwrap();
        }),
        ("a table that is gone", |root| {
            let tables = root.join("project/target/warehouse/relations/sold");
            assert!(tables.is_dir(), "{tables:?}");
            fs::remove_dir_all(tables).unwrap();
        }),
        ("an environment that is gone", |root| {
            let path = root.join("project/target/warehouse/environments/dev.json");
            fs::remove_file(path).unwrap();
        }),
        ("a damaged receipt", |root| {
            let state = root.join("project/target/state");
            for entry in fs::read_dir(state).unwrap() {
                let path = entry.unwrap().path();
                if path.to_string_lossy().contains("unchanged-") {
                    fs::write(path, "{\"format\":").unwrap();
                }
            }
        }),
    ];
    for (what, change) in changes {
        let folder = built();
        change(folder.path());
        assert!(!is_believed(&equipoise(&folder, &["build"])), "{what}");
    }
}

#[test]
fn other_options_and_variables_are_another_build() {
    let folder = built();
    assert!(!is_believed(&equipoise(&folder, &["build", "-t", "prod"])));
    assert!(!is_believed(&equipoise(
        &folder,
        &["build", "--vars", "{factor: 3}"]
    )));
    assert!(!is_believed(&equipoise(
        &folder,
        &["build", "--full-refresh"]
    )));
    let folder = built();
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(["build", "--project-dir"])
        .arg(folder.path().join("project"))
        .env("SHOP_REGION", "us")
        .output()
        .expect("the program runs");
    assert!(!is_believed(&elsewhere));
}

#[test]
fn what_asks_for_the_time_gets_no_receipt() {
    for text in [
        "select '{{ run_started_at }}' as started_at",
        "select now() as started_at",
    ] {
        let folder = written();
        let model = format!("{{{{ config(materialized='table') }}}}\n{text}\n");
        fs::write(folder.path().join("project/models/started.sql"), model).unwrap();
        let_settle(folder.path());
        assert!(equipoise(&folder, &["build"]).status.success());
        assert_eq!(receipts(&folder), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_refreshed_table_stays_until_something_changes() {
    let folder = built();
    let refreshed = equipoise(
        &folder,
        &["build", "--full-refresh", "--log-format", "json"],
    );
    let said = String::from_utf8_lossy(&refreshed.stderr);
    assert!(said.contains("\"version\":2"), "{said}");
    // The long way, without a receipt.
    let again = equipoise(&folder, &["build", "--log-format", "json"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("\"state\":\"unchanged\""), "{said}");
    assert!(said.contains("\"built\":0"), "{said}");
}
