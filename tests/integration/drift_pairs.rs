//! The labelled pairs of projects: every change of meaning is caught, no refactor is flagged.
//! The file comes from `EQUIPOISE_DRIFT_PAIRS`, default `../shared/drift/pairs.json`; without it the test says so and skips.

use serde_json::Value;

use equipoise::contracts::{Class, Drift, Lock, Locked, Meaning, compare};

use super::drift_project::Project;

#[test]
fn drift_pairs_are_all_told_apart() {
    let path = std::env::var("EQUIPOISE_DRIFT_PAIRS")
        .unwrap_or_else(|_| "../shared/drift/pairs.json".into());
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

/// Further pairs of the same kinds, over the same base project; their labels were checked by running both sides.
#[test]
fn drift_pairs_of_our_own_are_told_apart() {
    let base = base_project();
    let file: Value = serde_json::from_str(include_str!("drift_more_pairs.json")).expect("JSON");
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
        let (before, after) = (
            base.overlaid(&pair["base"]),
            base.overlaid(&pair["changed"]),
        );
        let drift = drift(&before, &after);
        let (class, expected) = (
            tool_class(drift.class),
            pair["change_class"].as_str().expect("a class"),
        );
        if class != expected {
            self.wrong_class.push(format!(
                "{id} is {expected}, said {} ({class})",
                drift.class
            ));
        }
        if std::env::var("EQUIPOISE_DRIFT_SHOW").is_ok() {
            println!("{id} {}", drift.class);
            drift
                .changes
                .iter()
                .for_each(|change| println!("    {}: {}", change.class, change.words()));
        }
        // A change of people moves no number: `same` may be reported, but not as breaking.
        let is_same = match pair["label"].as_str() {
            Some("same") => class != "breaking",
            _ => matches!(drift.class, Class::None | Class::Cosmetic),
        };
        match (pair["label"].as_str(), is_same) {
            (Some("changed"), true) => self.missed.push(id.clone()),
            (Some("changed"), false) => self.caught += 1,
            (_, true) => self.passed += 1,
            (_, false) => self.false_alarms.push(id.clone()),
        }
        for constraint in pair["assumes"].as_array().into_iter().flatten() {
            let constraint = constraint.as_str().expect("a constraint");
            let (before, after) = (before.without(constraint), after.without(constraint));
            if tool_class(self::drift(&before, &after).class) != "breaking" {
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
        writeln!(
            out,
            "drift pairs: {} changes caught, {} refactors passed",
            self.caught, self.passed
        )?;
        writeln!(
            out,
            "missed changes {}: {:?}",
            self.missed.len(),
            self.missed
        )?;
        writeln!(
            out,
            "false alarms {}: {:?}",
            self.false_alarms.len(),
            self.false_alarms
        )?;
        write!(
            out,
            "wrong class {}: {:?}",
            self.wrong_class.len(),
            self.wrong_class
        )
    }
}

fn drift(before: &Project, after: &Project) -> Drift {
    let catalog = after.catalog();
    compare(&before.meaning(), &after.meaning(), &|constraint| {
        catalog.declares(constraint)
    })
}

/// The classes of the pairs: none of meaning moves, no major version is needed, or one is.
fn tool_class(class: Class) -> &'static str {
    match class {
        Class::None | Class::Cosmetic => "cosmetic",
        Class::People | Class::Additive | Class::Method => "compatible",
        _ => "breaking",
    }
}

/// A constraint that a locked meaning leans on is gone: the message says which, and the class is not breaking but lost.
#[test]
fn drift_names_the_assumption_that_was_lost() {
    let base = base_project();
    let joined = base.overlaid(&serde_json::json!({"models": {"fct_orders":
        "SELECT o.order_id, o.user_id, o.amount_cents, o.status FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id \
         LEFT JOIN raw_exposures x ON x.user_id = o.user_id"}}));
    let drift = drift(&joined, &joined.without("raw_exposures.user_id UNIQUE"));
    assert_eq!(drift.class, Class::AssumptionLost);
    assert!(
        drift.changes[0]
            .words()
            .contains("raw_exposures.user_id UNIQUE"),
        "{}",
        drift.changes[0].words()
    );
}

#[test]
fn drift_says_in_words_what_changed_and_where() {
    let base = base_project();
    let changed = base.overlaid(&serde_json::json!({"models": {
        "stg_users": "SELECT user_id, signup_at, country, plan FROM raw_users"}}));
    let words: Vec<String> = drift(&base, &changed)
        .changes
        .into_iter()
        .map(|change| change.words())
        .collect();
    assert_eq!(
        words,
        [
            "filter removed two models up, in stg_users: `not is_internal`; rows with `is_internal` are counted again"
        ]
    );
}

#[test]
fn drift_lock_reads_what_it_writes() {
    let base = base_project();
    let mut lock = Lock::default();
    lock.metrics.insert(
        "revenue \"net\"".into(),
        Locked::new(
            Meaning {
                name: "revenue \"net\"".into(),
                ..base.meaning()
            },
            "first\nlock",
            ["team \"a\"".to_string()].into(),
        ),
    );
    let text = lock.to_string();
    let read = Lock::parse(&text).expect("its own text");
    assert_eq!(read.to_string(), text);
    let meaning = &read.metrics["revenue \"net\""].meaning;
    let catalog = base.catalog();
    assert_eq!(
        compare(meaning, &base.meaning(), &|constraint| catalog
            .declares(constraint))
        .class,
        Class::None
    );
    let error = Lock::parse(&format!(
        "{text}{}",
        &text[text.find("\n[").expect("a block")..]
    ))
    .expect_err("two blocks");
    assert!(error.message.contains("two blocks"), "{error}");
}

fn base_project() -> Project {
    Project::base(&serde_json::from_str(include_str!("drift_base.json")).expect("JSON"))
}
