//! The fields of a metric definition: flat, normalised, and sorted by what they are for.
//! In: a definition as nested YAML values. Out: [`Fields`] and, for each, the [`Part`] of the meaning it belongs to.

use std::collections::BTreeMap;

use serde_json::Value;

/// Field path to value, such as `window.length` to `7d`.
pub type Fields = BTreeMap<String, String>;

/// What a field decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The estimand: numbers move.
    Definition,
    /// How the same estimand is estimated: estimates move, their meaning does not.
    Method,
    /// What is decided from the numbers.
    Decision,
    /// Who answers for it.
    People,
    /// Words for readers.
    Documentation,
}

/// The part a field belongs to. A field nobody has heard of counts as definition: better one review too many.
pub fn part_of(field: &str) -> Part {
    let first = field.split('.').next().unwrap_or(field);
    match first {
        "cuped" | "variance_reduction" | "variance" | "covariate" | "mde" | "power" => Part::Method,
        "direction"
        | "guardrail"
        | "guardrails"
        | "margin"
        | "required_for"
        | "tier"
        | "is_guardrail"
        | "inverse"
        | "desired_change"
        | "preferred_direction"
        | "decision"
        | "alpha" => Part::Decision,
        "owner" | "team" | "approvers" | "certified" | "sla" | "drives" | "area" | "contact"
        | "steward" | "reviewers" => Part::People,
        "name" | "id" | "version" | "label" | "title" | "description" | "display" | "tags"
        | "format" | "docs" | "doc" | "notes" | "links" | "meta" | "unit_of_measure" | "group"
        | "category" | "alias_of" | "synonyms" | "examples" => Part::Documentation,
        _ => Part::Definition,
    }
}

/// Makes a nested definition flat. Durations become seconds and numbers one spelling, so that `7d` and `168h`, `0.990` and
/// `0.99` are one value; a list whose order says nothing is sorted; null and absent are one.
pub fn flatten(definition: &Value) -> Fields {
    let mut fields = Fields::new();
    add(&mut fields, String::new(), definition);
    fields
}

fn add(fields: &mut Fields, path: String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, value) in entries {
                add(
                    fields,
                    if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    },
                    value,
                );
            }
        }
        Value::Array(items) => {
            let mut texts: Vec<String> = items.iter().map(scalar).collect();
            if is_set(&path) {
                texts.sort();
                texts.dedup();
            }
            fields.insert(path, format!("[{}]", texts.join(", ")));
        }
        value => {
            fields.insert(path, scalar(value));
        }
    }
}

fn is_set(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or(path);
    matches!(part_of(path), Part::People | Part::Documentation) || matches!(first, "required_for")
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => duration(text)
            .or_else(|| number(text))
            .unwrap_or_else(|| text.trim().to_string()),
        Value::Number(value) => number(&value.to_string()).unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    }
}

/// `7d`, `168h` and `1w` are one fixed length.
fn duration(text: &str) -> Option<String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let seconds: u64 = match unit.trim() {
        "s" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(seconds)
        .map(|seconds| format!("{seconds} s"))
}

fn number(text: &str) -> Option<String> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite()
        && text.starts_with(|first: char| first.is_ascii_digit() || "-.+".contains(first)))
    .then(|| value.to_string())
}
