//! CASE within CASE within OR: each level opens the one below several times, so forms of such conditions must stop growing somewhere.

use equipoise::sql::canonical;
use serde_json::{Value, json};

use super::drift_project::Project;

/// CASE so many deep, each WHEN an OR with the CASE below; every test is about another number or text.
fn nest(depth: usize, next: &mut u32) -> String {
    *next += 1;
    let number = *next;
    if depth == 0 {
        return match number % 3 {
            0 => format!("amount_cents > {number}"),
            1 => format!("status = 's{number}'"),
            _ => format!("tax_cents IS DISTINCT FROM {number}"),
        };
    }
    let (first, second) = (nest(depth - 1, next), nest(depth - 1, next));
    format!(
        "CASE WHEN ({first}) OR country = 'c{number}' THEN TRUE WHEN ({second}) OR tax_cents < {number} THEN FALSE \
         ELSE plan = 'p{number}' END"
    )
}

fn text_of(condition: &str) -> String {
    let file: Value = serde_json::from_str(include_str!("drift_base.json")).expect("JSON");
    let metric = format!(
        "SELECT user_id AS unit, COUNT(*) AS value FROM fct_orders WHERE {condition} GROUP BY user_id"
    );
    let project = Project::base(&file).overlaid(&json!({"metric": metric}));
    canonical::canonicalise(&project.queries().metric.inlined, &project.catalog()).text
}

#[test]
fn deep_nests_of_case_have_forms_of_bounded_size() {
    // Without a budget of steps the form of the third was not done after two minutes.
    for depth in 1..=4 {
        let condition = format!("({}) OR amount_cents = 0", nest(depth, &mut 0));
        let text = text_of(&condition);
        assert!(text.len() < 100_000, "{} at depth {depth}", text.len());
        assert_eq!(text, text_of(&condition), "depth {depth}");
    }
}

#[test]
fn nests_within_the_budget_have_one_form_however_they_are_written() {
    let inner = "CASE WHEN status = 'a' OR amount_cents > 1 THEN TRUE ELSE plan = 'p' END";
    let turned = "CASE WHEN 1 < amount_cents OR 'a' = status THEN TRUE ELSE 'p' = plan END";
    let outer = |inner: &str| {
        format!("CASE WHEN ({inner}) OR country = 'c' THEN FALSE ELSE tax_cents > 2 END")
    };
    assert_eq!(text_of(&outer(inner)), text_of(&outer(turned)));
    let other = inner.replace("'p'", "'q'");
    assert_ne!(text_of(&outer(inner)), text_of(&outer(&other)));
}
