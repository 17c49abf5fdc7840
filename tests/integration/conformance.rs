//! The published and generated test cases of the systems whose flags we read. Prints `passed / total` per suite.
//! The cases are read from the folder `EQUIPOISE_CONFORMANCE`, by default `../shared/conformance`.

use std::path::PathBuf;

use serde_json::Value;

#[path = "conformance_bucketing.rs"]
mod bucketing;
#[path = "conformance_eppo.rs"]
mod eppo;
#[path = "conformance_flagd.rs"]
mod flagd;
#[path = "conformance_growthbook.rs"]
mod growthbook;
#[path = "conformance_unleash.rs"]
mod unleash;

/// The JSON file of a suite, or nothing, with a printed reason, where the folder is not there.
pub fn load(file: &str) -> Option<Value> {
    let path = folder().join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("a suite is JSON")),
        Err(error) => {
            println!("skipped {file}: {} {error}", path.display());
            None
        }
    }
}

/// The outcome of one suite: counts, prints, and fails with the first differences.
pub struct Suite {
    name: String,
    passed: usize,
    failures: Vec<String>,
}

impl Suite {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            passed: 0,
            failures: Vec::new(),
        }
    }

    pub fn check<T: PartialEq + std::fmt::Debug>(&mut self, case: &str, actual: T, expected: T) {
        if actual == expected {
            self.passed += 1;
        } else {
            self.failures
                .push(format!("{case}: got {actual:?}, expected {expected:?}"));
        }
    }

    /// Compares JSON: numbers by value, objects without order.
    pub fn check_json(&mut self, case: &str, actual: &Value, expected: &Value) {
        if same(actual, expected) {
            self.passed += 1;
        } else {
            self.failures
                .push(format!("{case}: got {actual}, expected {expected}"));
        }
    }

    pub fn finish(self) {
        let total = self.passed + self.failures.len();
        println!(
            "conformance {}: {} / {total} passed",
            self.name, self.passed
        );
        assert!(
            self.failures.is_empty(),
            "{} failed:\n{}",
            self.name,
            self.failures[..self.failures.len().min(20)].join("\n")
        );
    }
}

/// Equality of JSON in which `1` and `1.0` are the same number.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

fn folder() -> PathBuf {
    std::env::var_os("EQUIPOISE_CONFORMANCE")
        .map_or_else(|| "../shared/conformance".into(), PathBuf::from)
}
