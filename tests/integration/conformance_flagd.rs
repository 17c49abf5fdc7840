//! flagd's own test bed, and generated cases answered by its JavaScript and Python evaluators.

use equipoise::flags::import::flagd::{FlagdFlags, FractionalVersion, Request, Resolution};
use equipoise::flags::set::ValueType;
use serde_json::{Value, json};

use super::{Suite, load};

#[test]
fn evaluator_test_kit() {
    test_bed("flagd_evaluator.json", "flagd_testkit_flags.json");
}

#[test]
fn provider_test_bed() {
    test_bed("flagd_provider.json", "flagd_provider_flags.json");
}

#[test]
fn generated_cases_agree_with_both_versions() {
    let Some(file) = load("diff_flagd.json") else {
        return;
    };
    let flags = FlagdFlags::read(if file["flags"]["flags"].is_object() {
        &file["flags"]
    } else {
        &file
    });
    for (name, version) in [
        ("v2", FractionalVersion::Two),
        ("v3", FractionalVersion::Three),
    ] {
        let mut suite = Suite::new(&format!("diff_flagd {name}"));
        for case in file["cases"].as_array().unwrap() {
            let result = evaluate(&flags, case, version);
            let actual =
                json!({"value": result.value, "variant": result.variant, "reason": result.reason});
            suite.check_json(case["id"].as_str().unwrap(), &actual, &case[name]);
        }
        suite.finish();
    }
}

/// A case without a version of `fractional` must pass with both.
fn test_bed(cases: &str, flags: &str) {
    let (Some(file), Some(flags)) = (load(cases), load(flags)) else {
        return;
    };
    let flags = FlagdFlags::read(&flags);
    let mut suite = Suite::new(cases.trim_end_matches(".json"));
    for case in file["cases"].as_array().unwrap() {
        for version in versions(&case["tags"]) {
            let result = evaluate(&flags, case, version);
            let name = format!("{} {} {version:?}", case["id"], case["flag"]);
            suite.check_json(&name, &shown(&result, &case["expect"]), &case["expect"]);
        }
    }
    suite.finish();
}

fn versions(tags: &Value) -> Vec<FractionalVersion> {
    let has = |tag: &str| tags.as_array().unwrap().contains(&json!(tag));
    match (
        has("@fractional-v1") || has("@deprecated"),
        has("@fractional-v2"),
        has("@fractional-v3"),
    ) {
        (true, _, _) => Vec::new(),
        (_, true, false) => vec![FractionalVersion::Two],
        (_, false, true) => vec![FractionalVersion::Three],
        _ => vec![FractionalVersion::Two, FractionalVersion::Three],
    }
}

fn evaluate(flags: &FlagdFlags, case: &Value, version: FractionalVersion) -> Resolution {
    let request = Request {
        flag: case["flag"].as_str().unwrap(),
        kind: ValueType::parse(case["type"].as_str().unwrap()).unwrap(),
        default: &case["default"],
        context: case["context"].as_object().unwrap(),
        timestamp: 1_780_000_000,
    };
    flags.evaluate(&request, version)
}

/// The fields that the case speaks of.
fn shown(result: &Resolution, expected: &Value) -> Value {
    let field = |name: &str| match name {
        "value" => result.value.clone(),
        "variant" => json!(result.variant),
        "reason" => json!(result.reason),
        "errorCode" => json!(result.error),
        "metadata" => json!(result.metadata),
        other => panic!("the case has a field that nobody reads: {other}"),
    };
    expected
        .as_object()
        .unwrap()
        .keys()
        .map(|name| (name.clone(), field(name)))
        .collect()
}
