//! All cases of the statistics vectors: 60-digit truth against every function of the library; and our own cases at the edges, made by
//! `tests/oracle/edges.py` with 50 digits. `EQUIPOISE_VECTORS` names the vectors; without it `../shared/vectors/statistics.json`, then the
//! copy in `tests/data`.

use super::vectors_run::run;
use equipoise::stats::clusters::ClusterRow;
use equipoise::stats::mean_tests;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::state::State;
use equipoise::stats::{Kind, Record, Sink, Status};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;

#[test]
fn vectors_are_met_within_their_tolerance() {
    check_all(&read_vectors());
}

#[test]
fn vectors_at_the_edges_are_met_within_their_tolerance() {
    check_all(&read_edges());
}

fn check_all(text: &str) {
    let document: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let cases = document["cases"]
        .as_array()
        .expect("the vectors hold a list of cases");
    let mut worst: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases {
        let function = case["function"]
            .as_str()
            .expect("every case names its function");
        let entry = worst.entry(function).or_default();
        entry.0 += 1;
        match check(function, case) {
            Ok(error) => entry.1 = entry.1.max(error),
            Err(complaint) => failures.push(format!("{} {function}: {complaint}", case["id"])),
        }
    }
    report(cases.len(), &worst);
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Writes past the capture of the test harness: the table is wanted whether the test fails or not.
pub fn report(cases: usize, worst: &BTreeMap<&str, (usize, f64)>) {
    let mut lines = vec![format!("{cases} cases, {} functions", worst.len())];
    lines.extend(worst.iter().map(|(function, (count, error))| {
        format!("{function:32} {count:4} cases, worst relative error {error:.1e}")
    }));
    writeln!(std::io::stdout(), "{}", lines.join("\n")).expect("standard output is open");
}

pub fn read_vectors() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    if let Ok(path) = std::env::var("EQUIPOISE_VECTORS") {
        return std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read EQUIPOISE_VECTORS={path}: {error}"));
    }
    let shared = format!("{root}/../shared/vectors/statistics.json");
    std::fs::read_to_string(shared)
        .or_else(|_| std::fs::read_to_string(format!("{root}/tests/data/statistics.json")))
        .expect("tests/data/statistics.json is part of the repository")
}

pub fn read_edges() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/statistics_edges.json"
    );
    std::fs::read_to_string(path).expect("it is part of the repository")
}

/// The largest relative error over all expected fields, or what is wrong.
fn check(function: &str, case: &Value) -> Result<f64, String> {
    let answer = run(function, &Inputs(&case["inputs"])).ok_or("unknown function")?;
    compare(&answer, case)
}

/// The same for an answer that came another way.
pub fn compare(answer: &Answers, case: &Value) -> Result<f64, String> {
    let tolerance = case["tolerance"]
        .as_f64()
        .expect("every case has a tolerance");
    let expected = case["expected"]
        .as_object()
        .expect("expected values are named");
    let mut worst = 0.0f64;
    for (field, wanted) in expected {
        let found = answer
            .get(field)
            .ok_or_else(|| format!("has no field `{field}`"))?;
        let error = difference(found, wanted)
            .ok_or_else(|| format!("{field}: expected {wanted}, got {found:?}"))?;
        if error.is_nan() || error > tolerance {
            return Err(format!(
                "{field}: expected {wanted}, got {found:?}, relative error {error:.1e}"
            ));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// The relative error (absolute where zero is expected); `None` when the two are of different kinds.
fn difference(found: &Answer, wanted: &Value) -> Option<f64> {
    match (found, wanted) {
        (Answer::Number(None), Value::String(text)) if text == "NaN" => Some(0.0),
        (Answer::Number(Some(found)), Value::Number(wanted)) => {
            Some(relative_error(*found, wanted.as_f64()?))
        }
        (Answer::Flag(found), Value::Bool(wanted)) => (found == wanted).then_some(0.0),
        (Answer::Numbers(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            let errors = found.iter().zip(wanted).map(|(found, wanted)| {
                wanted.as_f64().map(|wanted| relative_error(*found, wanted))
            });
            errors
                .collect::<Option<Vec<f64>>>()
                .map(|errors| errors.into_iter().fold(0.0, f64::max))
        }
        // Text fields are names, never expected as numbers.
        (Answer::Text(found), Value::String(wanted)) => (found == wanted).then_some(0.0),
        _ => None,
    }
}

fn relative_error(found: f64, wanted: f64) -> f64 {
    let error = (found - wanted).abs();
    // Below the normal numbers one unit in the last place is more than any tolerance.
    if wanted == 0.0 || error <= 5e-324 {
        error
    } else {
        error / wanted.abs()
    }
}

/// One field of a result.
#[derive(Clone, Debug)]
pub enum Answer {
    Number(Option<f64>),
    Flag(bool),
    Text(String),
    Numbers(Vec<f64>),
}

pub type Answers = BTreeMap<String, Answer>;

/// The fields of a record by name.
pub fn answers<R: Record>(record: &R) -> Answers {
    let mut collector = Collector {
        fields: R::FIELDS,
        answers: Answers::new(),
    };
    record.write(&mut collector);
    collector.answers
}

struct Collector {
    fields: &'static [(&'static str, Kind)],
    answers: Answers,
}

impl Collector {
    fn put(&mut self, column: usize, answer: Answer) {
        self.answers
            .insert(self.fields[column].0.to_string(), answer);
    }
}

impl Sink for Collector {
    fn number(&mut self, column: usize, value: Option<f64>) {
        self.put(column, Answer::Number(value));
    }
    fn whole(&mut self, column: usize, value: Option<i64>) {
        self.put(column, Answer::Number(value.map(|value| value as f64)));
    }
    fn flag(&mut self, column: usize, value: Option<bool>) {
        self.put(column, value.map_or(Answer::Number(None), Answer::Flag));
    }
    fn text(&mut self, column: usize, value: &'static str) {
        self.put(column, Answer::Text(value.to_string()));
    }
    fn numbers(&mut self, column: usize, values: &[f64]) {
        self.put(column, Answer::Numbers(values.to_vec()));
    }
}

/// The inputs of a case: numbers may be quoted.
pub struct Inputs<'a>(pub &'a Value);

impl Inputs<'_> {
    pub fn number(&self, name: &str) -> f64 {
        number(&self.0[name])
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.0[name])
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    pub fn rows(&self, name: &str) -> Option<Vec<Vec<f64>>> {
        Some(self.0[name].as_array()?.iter().map(numbers).collect())
    }

    pub fn samples(&self) -> (Sample, Sample) {
        let arm = |arm: u8| {
            Sample::new(
                self.number(&format!("n{arm}")),
                self.number(&format!("mean{arm}")),
                self.number(&format!("var{arm}")),
            )
        };
        (arm(1), arm(2))
    }

    pub fn counts(&self) -> [f64; 4] {
        ["x1", "n1", "x2", "n2"].map(|name| self.number(name))
    }

    pub fn moments<const P: usize>(&self, columns: [&str; P]) -> (Moments<P>, Moments<P>) {
        let arm = |arm: &str| {
            Moments::of_state(&self.state(arm, columns))
                .expect("the state is as wide as its columns")
        };
        (arm("control"), arm("treatment"))
    }

    pub fn state<const P: usize>(&self, arm: &str, columns: [&str; P]) -> State {
        let values = columns.map(|column| numbers(&self.0[arm][column]));
        State::of_columns(&values.each_ref().map(Vec::as_slice))
    }

    pub fn strata(&self) -> Vec<(Sample, Sample)> {
        let strata = self.0["strata"].as_array().expect("strata are a list");
        strata
            .iter()
            .map(|stratum| Inputs(stratum).samples())
            .collect()
    }

    pub fn cluster_rows(&self) -> Option<Vec<ClusterRow>> {
        let columns = self.0["columns"].as_array()?;
        let place = |names: &[&str]| {
            columns
                .iter()
                .position(|column| names.contains(&column.as_str().unwrap_or_default()))
        };
        let (cluster, arm, value) = (
            place(&["cluster"])?,
            place(&["treated", "treatment", "arm", "t"])?,
            place(&["y", "value"])?,
        );
        let rows = self.0["rows"].as_array()?.iter().map(numbers);
        Some(
            rows.map(|row| ClusterRow {
                cluster: row[cluster],
                is_treatment: row[arm] != 0.0,
                value: row[value],
            })
            .collect(),
        )
    }

    pub fn raw_samples(&self) -> (Sample, Sample) {
        let arm = |name: &str| {
            Sample::of_state(&State::of(&self.numbers(name)), 0).expect("the values are finite")
        };
        (arm("x1"), arm("x2"))
    }
}

pub fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().expect("JSON numbers are binary64 here"),
        Value::String(text) => text.parse().expect("quoted inputs are decimals"),
        _ => f64::NAN,
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("this input is a list")
        .iter()
        .map(number)
        .collect()
}

#[test]
fn a_case_without_enough_data_says_so() {
    let result = mean_tests::welch_t(
        &Sample::new(1.0, 3.0, f64::NAN),
        &Sample::new(60.0, 4.0, 1.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect, result.p_two_sided),
        (Status::InsufficientData, Some(1.0), None)
    );
    let result = mean_tests::welch_t(
        &Sample::new(0.0, 0.0, f64::NAN),
        &Sample::new(60.0, 4.0, 1.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect),
        (Status::OneArmMissing, None)
    );
    let result = mean_tests::welch_t(
        &Sample::new(50.0, 3.0, 0.0),
        &Sample::new(60.0, 4.0, 0.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect, result.se, result.p_two_sided),
        (Status::ZeroVariance, Some(1.0), Some(0.0), None)
    );
}
