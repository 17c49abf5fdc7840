//! Flags that are carried over answer as they did in the system they come from: every flag of the conformance suites
//! that is not in the report, for every context of the suite.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use equipoise::flags::import::carry::{
    Imported, from_flagd, from_growthbook, from_openfeature_manifest, from_ufc, from_unleash,
};
use equipoise::flags::import::eppo::Ufc;
use equipoise::flags::import::flagd::{FlagdFlags, FractionalVersion, Request};
use equipoise::flags::import::growthbook::{Evaluator, Payload, User};
use equipoise::flags::import::unleash::{UnleashRequest, UnleashState};
use equipoise::flags::set::ValueType;
use equipoise::flags::{EvaluationError, FlagSet, FlagSource, evaluate, resolve};
use serde_json::{Value, json};

#[test]
fn eppo_flags_are_carried_over() {
    let (Some(flags), Some(cases)) = (load("eppo_ufc_flags-v1.json"), load("eppo_ufc.json")) else {
        return;
    };
    let (ufc, imported) = (Ufc::read(&flags), from_ufc(&flags));
    let mut comparison = Comparison::new("Eppo", &imported);
    for case in cases["cases"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let attributes = case["subjectAttributes"].as_object().unwrap();
        let kind = ufc
            .flags()
            .get(text("flag"))
            .map_or("", |flag| flag["variationType"].as_str().unwrap());
        let theirs = ufc
            .evaluate(text("flag"), kind, text("subjectKey"), attributes, now())
            .value;
        comparison.check(
            text("flag"),
            text("subjectKey"),
            &case["subjectAttributes"],
            theirs,
        );
    }
    comparison.finish(15, 100);
}

#[test]
fn growthbook_features_are_carried_over() {
    let Some(file) = load("diff_growthbook.json") else {
        return;
    };
    let payload = Payload::read(&file);
    let mut comparison = Comparison::new("GrowthBook", &from_growthbook(&file));
    for case in file["cases"].as_array().unwrap().iter().step_by(5) {
        let attributes = case["attributes"].as_object().unwrap();
        for feature in payload.features.keys() {
            let theirs = Evaluator::new(&payload, User::new(attributes.clone()))
                .feature(feature)
                .value;
            comparison.check(
                feature,
                "",
                &case["attributes"],
                Some(theirs).filter(|value| !value.is_null()),
            );
        }
    }
    comparison.finish(20, 1_000);
}

#[test]
fn flagd_flags_are_carried_over_in_both_versions() {
    let Some(file) = load("diff_flagd.json") else {
        return;
    };
    for version in [FractionalVersion::Two, FractionalVersion::Three] {
        let flagd = FlagdFlags::read(&file);
        let mut comparison =
            Comparison::new(&format!("flagd {version:?}"), &from_flagd(&file, version));
        for (index, case) in file["cases"]
            .as_array()
            .unwrap()
            .iter()
            .step_by(5)
            .enumerate()
        {
            let context = &without_one(&case["context"], index);
            for (flag, definition) in flagd.flags() {
                let kind = ValueType::parse(flag.rsplit('-').next().unwrap()).unwrap();
                let request = Request {
                    flag,
                    kind,
                    default: &Value::Null,
                    context,
                    timestamp: now().timestamp(),
                };
                let theirs = flagd.evaluate(&request, version).value;
                if definition["state"] == json!("ENABLED") {
                    comparison.check(
                        flag,
                        "",
                        &Value::Object(context.clone()),
                        Some(theirs).filter(|value| !value.is_null()),
                    );
                }
            }
        }
        comparison.finish(40, 1_000);
    }
}

#[test]
fn unleash_features_are_carried_over() {
    let (Some(states), Some(cases)) = (load("unleash_states.json"), load("unleash_spec.json"))
    else {
        return;
    };
    let mut total = (0, 0);
    for (spec, body) in states.as_object().unwrap() {
        let state = UnleashState::read(body);
        let mut comparison = Comparison::new(&format!("Unleash {spec}"), &from_unleash(body));
        for case in cases["cases"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|case| case["spec"] == json!(spec))
        {
            let request = UnleashRequest {
                context: &case["context"],
                draw: 0.5,
                now: now(),
            };
            let has_own_clock = case["context"].get("currentTime").is_some();
            let name = case["toggleName"].as_str().unwrap();
            if !has_own_clock {
                let theirs = json!(state.is_enabled(name, &request));
                comparison.check(
                    name,
                    "",
                    &numbers(&flat(&case["context"]), &comparison.set.clone()),
                    Some(theirs),
                );
            }
        }
        total = (
            total.0 + comparison.carried(),
            total.1 + comparison.compared,
        );
        comparison.finish(0, 0);
    }
    println!(
        "import of Unleash: {} features carried over, {} answers compared",
        total.0, total.1
    );
    assert!(total.0 > 60 && total.1 > 60, "{total:?}");
}

#[test]
fn a_manifest_is_carried_over() {
    let manifest = json!({"flags": {"greeting": {"flagType": "string", "defaultValue": "hello", "description": "What we say"}}});
    let set = sound(&from_openfeature_manifest(&manifest));
    let context = set.schema.empty_context();
    assert_eq!(
        evaluate(&set, "greeting", &context, now()).unwrap().value(),
        Some(&json!("hello"))
    );
}

#[test]
fn what_is_not_carried_over_is_said() {
    let features = json!({"features": {
        "fine": {"defaultValue": 1, "rules": [{"force": 2, "condition": {"age": {"$gt": 3}}}]},
        "parent": {"defaultValue": true, "rules": [{"parentConditions": [{"id": "fine", "condition": {"value": 1}}], "force": false}]},
        "mixed": {"defaultValue": 1, "rules": [{"force": "a", "condition": {"age": "old"}}]},
        "values": {"defaultValue": 1, "rules": [{"force": "a"}]},
    }});
    let imported = from_growthbook(&features);
    let said: Vec<String> = imported
        .report
        .iter()
        .map(|remark| format!("{}: {}", remark.flag, remark.text))
        .collect();
    assert_eq!(
        said,
        [
            "parent: a prerequisite that fails gives null there and the default here",
            "mixed: the attribute `age` is a float elsewhere and a string here",
            "values: its values have different types",
        ]
    );
    assert_eq!(sound(&imported).flags.len(), 1);
}

/// Compares flag by flag with the imported set, and counts.
struct Comparison {
    name: String,
    set: FlagSet,
    left_out: Vec<String>,
    compared: usize,
    of_other_type: usize,
    differences: Vec<String>,
}

impl Comparison {
    fn new(name: &str, imported: &Imported) -> Self {
        let left_out = imported.report.iter().filter(|remark| remark.is_left_out);
        Self {
            name: name.to_owned(),
            left_out: left_out
                .map(|remark| format!("{}: {}", remark.flag, remark.text))
                .collect(),
            set: sound(imported),
            compared: 0,
            of_other_type: 0,
            differences: Vec::new(),
        }
    }

    fn carried(&self) -> usize {
        self.set.flags.len()
    }

    /// A context whose attributes have other types than the flags use is no context here.
    fn check(&mut self, flag: &str, unit: &str, attributes: &Value, theirs: Option<Value>) {
        if self.set.flag(flag).is_none() {
            return;
        }
        let mut request = attributes.as_object().unwrap().clone();
        if !unit.is_empty() {
            let name = self.set.schema.kinds()[0].unit.to_string();
            request.entry(name).or_insert(json!(unit));
        }
        let Ok(context) = self.set.schema.context(&request) else {
            self.of_other_type += 1;
            return;
        };
        self.compared += 1;
        let ours = match evaluate(&self.set, flag, &context, now()) {
            Ok(answer) => answer.value().cloned(),
            Err(EvaluationError::TargetingKeyMissing { .. }) => None,
            Err(error) => panic!("{error:?}"),
        };
        if ours != theirs {
            self.differences.push(format!(
                "{flag} for {attributes}: ours {ours:?}, theirs {theirs:?}"
            ));
        }
    }

    fn finish(self, least_flags: usize, least_compared: usize) {
        let Self {
            name,
            compared,
            of_other_type,
            differences,
            left_out,
            ..
        } = &self;
        let carried = self.carried();
        println!(
            "import of {name}: {carried} flags carried over, {} left out, {compared} answers compared, {of_other_type} contexts of other types",
            left_out.len()
        );
        assert!(
            differences.is_empty(),
            "{name}: {} differ:\n{}",
            differences.len(),
            differences[..differences.len().min(5)].join("\n")
        );
        assert!(
            carried >= least_flags && *compared >= least_compared,
            "{name}: {left_out:#?}"
        );
    }
}

fn sound(imported: &Imported) -> FlagSet {
    let yaml = imported.to_yaml();
    let spec = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    let checked = resolve(&[FlagSource {
        file: "imported.yml".into(),
        spec,
    }]);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    checked.value
}

/// Unleash's properties beside the other fields.
fn flat(context: &Value) -> Value {
    let mut flat = context.clone();
    if let Some(Value::Object(properties)) = flat
        .as_object_mut()
        .and_then(|fields| fields.remove("properties"))
    {
        flat.as_object_mut().unwrap().extend(properties);
    }
    flat
}

/// Unleash's clients send numbers as texts.
fn numbers(context: &Value, set: &FlagSet) -> Value {
    use equipoise::flags::context::Type;
    let mut context = context.clone();
    for attribute in set
        .schema
        .attributes()
        .iter()
        .filter(|attribute| attribute.kind == Type::Float)
    {
        let number = context[&*attribute.name]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok());
        if let Some(number) = number {
            context[&*attribute.name] = json!(number);
        }
    }
    context
}

/// The context without one of its fields, so that missing ones are compared too.
fn without_one(context: &Value, index: usize) -> serde_json::Map<String, Value> {
    let mut context = context.as_object().unwrap().clone();
    let name = context.keys().nth(index % context.len()).unwrap().clone();
    context.remove(&name);
    context
}

fn now() -> DateTime<Utc> {
    "2026-11-22T00:00:00Z".parse().expect("an instant")
}

fn load(file: &str) -> Option<Value> {
    let folder = std::env::var_os("EQUIPOISE_CONFORMANCE")
        .map_or_else(|| "../shared/conformance".into(), PathBuf::from);
    match std::fs::read_to_string(folder.join(file)) {
        Ok(text) => Some(serde_json::from_str(&text).expect("a suite is JSON")),
        Err(error) => {
            println!("skipped {file}: {error}");
            None
        }
    }
}
