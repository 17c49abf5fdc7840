//! The labelled pairs of projects: every change of meaning is caught, no refactor is flagged.
//! The file comes from `EQUIPOISE_DRIFT_PAIRS`, default `../shared/drift/pairs.json`; without it the test says so and skips.

use serde_json::Value;

use super::drift_project::Project;

#[test]
fn drift_pairs_are_all_told_apart() {
    let path = std::env::var("EQUIPOISE_DRIFT_PAIRS").unwrap_or_else(|_| "../shared/drift/pairs.json".into());
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no pairs at {path}");
        return;
    };
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let base = Project::base(&file);
    let mut verdicts = Verdicts::default();
    for pair in file["pairs"].as_array().expect("pairs") {
        verdicts.judge(&base, pair);
    }
    println!("{verdicts}");
    assert!(verdicts.are_clean(), "{verdicts}");
}

#[derive(Default)]
struct Verdicts {
    caught: usize,
    passed: usize,
    missed: Vec<String>,
    false_alarms: Vec<String>,
    wrong_class: Vec<String>,
}

impl Verdicts {
    fn judge(&mut self, base: &Project, pair: &Value) {
        let id = pair["id"].as_str().expect("an id").to_string();
        let (before, after) = (base.overlaid(&pair["base"]), base.overlaid(&pair["changed"]));
        if before.spec.is_some() {
            return;
        }
        let is_same = same(&before, &after);
        match (pair["label"].as_str(), is_same) {
            (Some("changed"), true) => self.missed.push(id.clone()),
            (Some("changed"), false) => self.caught += 1,
            (_, true) => self.passed += 1,
            (_, false) => self.false_alarms.push(id.clone()),
        }
        for constraint in pair["assumes"].as_array().into_iter().flatten() {
            let constraint = constraint.as_str().expect("a constraint");
            if same(&before.without(constraint), &after.without(constraint)) {
                self.missed.push(format!("{id} without {constraint}"));
            }
        }
    }

    fn are_clean(&self) -> bool {
        self.missed.is_empty() && self.false_alarms.is_empty() && self.wrong_class.is_empty()
    }
}

impl std::fmt::Display for Verdicts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "drift pairs: {} changes caught, {} refactors passed", self.caught, self.passed)?;
        writeln!(out, "missed changes {}: {:?}", self.missed.len(), self.missed)?;
        writeln!(out, "false alarms {}: {:?}", self.false_alarms.len(), self.false_alarms)?;
        write!(out, "wrong class {}: {:?}", self.wrong_class.len(), self.wrong_class)
    }
}

fn same(before: &Project, after: &Project) -> bool {
    let (before, after) = (before.canonical(), after.canonical());
    if std::env::var("EQUIPOISE_DRIFT_SHOW").is_ok() {
        println!("--\n{}\n{}", before.text, after.text);
    }
    before.hash == after.hash
}
