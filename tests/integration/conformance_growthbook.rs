//! GrowthBook's SDK cases and generated cases answered by its JavaScript SDK.

use equipoise::flags::import::growthbook::{
    self, Evaluator, Experiment, Payload, StickyDocuments, User, choose_variation, equal_weights,
    get_bucket_ranges, in_namespace,
};
use serde_json::{Map, Value, json};

use super::{Suite, load, same};

#[test]
fn hash() {
    each("hash", |suite, name, case| {
        let version = case[2].as_f64().unwrap();
        let actual = growthbook::hash(text(&case[0]), text(&case[1]), version);
        suite.check(name, json!(actual), case[3].clone());
    });
}

#[test]
fn choose_variation_takes_the_first_range() {
    each("chooseVariation", |suite, name, case| {
        let chosen = choose_variation(case[1].as_f64().unwrap(), &pairs(&case[2]));
        suite.check(
            name,
            json!(chosen.map_or(-1, |index| index as i64)),
            case[3].clone(),
        );
    });
}

#[test]
fn in_namespace_is_half_open() {
    each("inNamespace", |suite, name, case| {
        let range = (case[2][1].as_f64().unwrap(), case[2][2].as_f64().unwrap());
        suite.check(
            name,
            json!(in_namespace(text(&case[1]), text(&case[2][0]), range)),
            case[3].clone(),
        );
    });
}

#[test]
fn bucket_ranges() {
    each("getBucketRange", |suite, name, case| {
        let weights: Option<Vec<f64>> = case[1][2]
            .as_array()
            .map(|weights| weights.iter().filter_map(Value::as_f64).collect());
        let count = case[1][0].as_u64().unwrap() as usize;
        let ranges = get_bucket_ranges(
            count,
            case[1][1].as_f64().unwrap_or(1.0),
            weights.as_deref(),
        );
        let actual: Vec<_> = ranges
            .iter()
            .map(|range| (rounded(range.0), rounded(range.1)))
            .collect();
        let expected: Vec<_> = pairs(&case[2])
            .iter()
            .map(|range| (rounded(range.0), rounded(range.1)))
            .collect();
        suite.check(name, actual, expected);
    });
}

#[test]
fn equal_weights_add_up() {
    each("getEqualWeights", |suite, name, case| {
        let weights = equal_weights(usize::try_from(case[0].as_i64().unwrap()).unwrap_or(0));
        let expected: Vec<f64> = case[1]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_f64)
            .map(rounded)
            .collect();
        suite.check(name, weights.into_iter().map(rounded).collect(), expected);
    });
}

#[test]
fn conditions() {
    each("evalCondition", |suite, name, case| {
        let groups = case
            .get(4)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let actual = growthbook::eval_condition(&case[2], &case[1], &groups);
        suite.check(name, json!(actual), case[3].clone());
    });
}

#[test]
fn features() {
    each("feature", |suite, name, case| {
        let payload = Payload::read(&case[1]);
        let result = Evaluator::new(&payload, user(&case[1]))
            .feature(text(&case[2]))
            .to_json();
        suite.check_json(name, &result, &case[3]);
    });
}

#[test]
fn experiments() {
    each("run", |suite, name, case| {
        let payload = Payload::read(&case[1]);
        let experiment = Experiment(case[2].as_object().unwrap().clone());
        let result = Evaluator::new(&payload, user(&case[1])).run(&experiment, None);
        let actual = json!([result.value, result.is_in_experiment, result.is_hash_used]);
        suite.check_json(name, &actual, &json!([case[3], case[4], case[5]]));
    });
}

#[test]
fn sticky_buckets() {
    each("stickyBucket", |suite, name, case| {
        let payload = Payload::read(&case[1]);
        let mut user = user(&case[1]);
        let documents = case[2].as_array().unwrap();
        user.sticky = Some(StickyDocuments::of_user(documents, &user.attributes));
        let mut evaluator = Evaluator::new(&payload, user);
        let result = evaluator.feature(text(&case[3]));
        let experiment = result
            .experiment_result
            .map_or(Value::Null, |result| result.to_json());
        let kept = evaluator.user().sticky.clone().unwrap().0;
        suite.check_json(name, &json!([experiment, kept]), &json!([case[4], case[5]]));
    });
}

#[test]
fn generated_cases_agree_with_the_javascript_sdk() {
    let Some(file) = load("diff_growthbook.json") else {
        return;
    };
    let payload = Payload::read(&file);
    let mut suite = Suite::new("diff_growthbook");
    for case in file["cases"].as_array().unwrap() {
        let user = User::new(case["attributes"].as_object().unwrap().clone());
        let result = Evaluator::new(&payload, user)
            .feature(text(&case["feature"]))
            .to_json();
        let mut actual = Map::new();
        for (field, expected) in case["expect"].as_object().unwrap() {
            let found = match (field.as_str(), expected) {
                ("experiment", Value::Object(fields)) => fields
                    .keys()
                    .map(|field| (field.clone(), result["experimentResult"][field].clone()))
                    .collect(),
                _ => result[field].clone(),
            };
            actual.insert(field.clone(), found);
        }
        suite.check_json(text(&case["id"]), &Value::Object(actual), &case["expect"]);
    }
    suite.finish();
}

/// Runs every case of a section; its name is the case's first entry, or its identifier.
fn each(section: &str, mut run: impl FnMut(&mut Suite, &str, &Value)) {
    let Some(file) = load(&format!("growthbook_{section}.json")) else {
        return;
    };
    let mut suite = Suite::new(&format!("growthbook_{section}"));
    for case in file["cases"].as_array().unwrap() {
        let name = format!("{} {}", text(&case["id"]), case["case"][0]);
        run(&mut suite, &name, &case["case"]);
    }
    suite.finish();
}

fn user(context: &Value) -> User {
    let object = |name: &str| context[name].as_object().cloned().unwrap_or_default();
    User {
        forced_variations: object("forcedVariations"),
        overrides: object("overrides"),
        url: context["url"].as_str().unwrap_or_default().to_owned(),
        is_enabled: context["enabled"] != json!(false),
        is_qa: context["qaMode"] == json!(true),
        ..User::new(object("attributes"))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn pairs(value: &Value) -> Vec<(f64, f64)> {
    let pair = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
    value.as_array().unwrap().iter().map(pair).collect()
}

/// The suite's own tolerance for sums of floats.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[test]
fn json_is_compared_by_value() {
    assert!(same(
        &json!({"a": 1, "b": [2.0]}),
        &json!({"b": [2], "a": 1.0})
    ));
    assert!(!same(&json!(1), &json!("1")));
}
