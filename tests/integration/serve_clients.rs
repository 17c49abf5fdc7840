//! Real OpenFeature clients against a running server. Each test is skipped, saying so, when its packages are not installed:
//! `pip install openfeature-sdk openfeature-provider-ofrep`, and in a folder named by `EQUIPOISE_NODE_MODULES` (or in the
//! repository) `npm install @openfeature/server-sdk @openfeature/ofrep-provider @openfeature/web-sdk
//! @openfeature/ofrep-web-provider eventsource`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::serve_ofrep::FLAGS;
use crate::serve_support::TestServer;

#[test]
fn python_evaluates_every_type() {
    let probe = Command::new("python3")
        .args(["-c", "import openfeature.contrib.provider.ofrep"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: python3 with `openfeature-provider-ofrep` is not installed");
        return;
    }
    let server = TestServer::start(FLAGS);
    let script = script_folder().join("ofrep.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(format!("http://{}", server.address))
        .output()
        .unwrap();
    let seen = printed(&output.stdout, &output.stderr);
    assert_eq!(seen["float"][0].to_string(), "1.0");
    check_values(&seen);
    check_errors(&seen);
}

#[test]
fn javascript_on_a_server_evaluates_every_type() {
    let Some(folder) = node_folder("ofrep-provider") else {
        return;
    };
    let server = TestServer::start(FLAGS);
    let script = copied_script(&folder, "ofrep_server.mjs");
    let output = Command::new("node")
        .arg(&script)
        .arg(format!("http://{}", server.address))
        .output()
        .unwrap();
    fs::remove_file(script).unwrap();
    let seen = printed(&output.stdout, &output.stderr);
    check_values(&seen);
    check_errors(&seen);
}

#[test]
fn javascript_in_a_page_gets_304_and_hears_of_an_edit() {
    let Some(folder) = node_folder("ofrep-web-provider") else {
        return;
    };
    let server = TestServer::start(FLAGS);
    let script = copied_script(&folder, "ofrep_web.mjs");
    let mut page = Command::new("node")
        .arg(&script)
        .arg(format!("http://{}", server.address))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(page.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("connected"));
    page.stdin.take().unwrap().write_all(b"edited\n").unwrap();
    server.write(
        "flags/all.yml",
        &FLAGS.replace("greeting: \"hi\"", "greeting: \"hello\""),
    );
    let seen: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(page.wait().unwrap().success());
    fs::remove_file(script).unwrap();
    check_values(&seen["first"]);
    assert_eq!(
        seen["first"]["missing"],
        json!([true, null, "ERROR", "FLAG_NOT_FOUND"])
    );
    let statuses = seen["statuses"].as_array().unwrap();
    assert_eq!(
        (
            statuses[0].as_u64(),
            statuses[1].as_u64(),
            statuses.last().unwrap().as_u64()
        ),
        (Some(200), Some(304), Some(200))
    );
    assert_eq!(seen["after"], "hello");
}

fn check_values(seen: &Value) {
    assert_eq!(seen["boolean"], json!([true, "on", "STATIC", null]));
    assert_eq!(seen["string"], json!(["hi", "greeting", "STATIC", null]));
    assert_eq!(seen["integer"], json!([42, "answer", "STATIC", null]));
    assert_eq!(seen["float"][0].as_f64(), Some(1.0));
    assert_eq!(seen["float"][1], "one");
    assert_eq!(seen["object"][0], json!({"color": "red", "size": 3}));
    assert_eq!(
        seen["targeted"],
        json!(["german", "german", "TARGETING_MATCH", null])
    );
}

fn check_errors(seen: &Value) {
    let value_and_code = |name: &str| (seen[name][0].clone(), seen[name][3].clone());
    assert_eq!(
        value_and_code("missing"),
        (json!(true), json!("FLAG_NOT_FOUND"))
    );
    assert_eq!(
        value_and_code("mismatch"),
        (json!(true), json!("TYPE_MISMATCH"))
    );
    assert_eq!(
        value_and_code("no_key"),
        (json!("default"), json!("TARGETING_KEY_MISSING"))
    );
}

fn printed(output: &[u8], errors: &[u8]) -> Value {
    let text = String::from_utf8_lossy(output);
    serde_json::from_str(text.trim())
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(errors)))
}

fn script_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The folder whose `node_modules` has the package.
fn node_folder(package: &str) -> Option<PathBuf> {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("EQUIPOISE_NODE_MODULES").map_or(repository, PathBuf::from);
    let is_there = folder
        .join("node_modules/@openfeature")
        .join(package)
        .is_dir();
    if !is_there
        || Command::new("node")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
    {
        println!(
            "skipped: node with `@openfeature/{package}` is not installed in `{}`",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

/// Modules are looked for beside the script, so it has to lie where they are.
fn copied_script(folder: &Path, name: &str) -> PathBuf {
    let copy = folder.join(format!("{}-{name}", uuid::Uuid::new_v4().simple()));
    fs::copy(script_folder().join(name), &copy).unwrap();
    copy
}
