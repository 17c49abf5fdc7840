//! GrowthBook's conditions: a MongoDB-like language over the attributes, with JavaScript's comparisons.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};

use crate::flags::import::javascript::{self, is_same, is_truthy, is_written_alike};

/// Whether an object meets a condition; saved groups are looked up by their id.
pub fn eval_condition(object: &Json, condition: &Json, saved_groups: &Map<String, Json>) -> bool {
    Matcher { saved_groups }.condition(object, condition, &[])
}

struct Matcher<'a> {
    saved_groups: &'a Map<String, Json>,
}

impl Matcher<'_> {
    /// `visited` holds the saved groups that led here; one that comes again matches nobody.
    fn condition(&self, object: &Json, condition: &Json, visited: &[&str]) -> bool {
        let Some(parts) = condition.as_object() else {
            return entries(condition).all(|(key, part)| {
                self.value(&part, at_path(object, &key), Case::Sensitive, visited)
            });
        };
        parts.iter().all(|(key, part)| match key.as_str() {
            "$or" => self.any(object, part, visited),
            "$nor" => !self.any(object, part, visited),
            "$and" => items(part)
                .iter()
                .all(|part| self.condition(object, part, visited)),
            "$not" => !self.condition(object, part, visited),
            "$savedGroup" => self.saved_group(object, part, visited),
            path => self.value(part, at_path(object, path), Case::Sensitive, visited),
        })
    }

    fn any(&self, object: &Json, parts: &Json, visited: &[&str]) -> bool {
        let parts = items(parts);
        parts.is_empty()
            || parts
                .iter()
                .any(|part| self.condition(object, part, visited))
    }

    fn saved_group(&self, object: &Json, reference: &Json, visited: &[&str]) -> bool {
        let Some(id) = reference.get("id").and_then(Json::as_str) else {
            return false;
        };
        let (false, Some(group)) = (visited.contains(&id), self.saved_groups.get(id)) else {
            return false;
        };
        match group.get("type").and_then(Json::as_str) {
            Some("list") => {
                let key = reference
                    .get("attributeKey")
                    .or_else(|| group.get("attributeKey"))
                    .and_then(Json::as_str);
                let values = group.get("values").and_then(Json::as_array);
                key.zip(values).is_some_and(|(key, values)| {
                    is_in(at_path(object, key), values, Case::Sensitive)
                })
            }
            Some("condition") => group
                .get("condition")
                .filter(|condition| condition.is_object())
                .is_some_and(|condition| {
                    self.condition(object, condition, &[visited, &[id]].concat())
                }),
            _ => false,
        }
    }

    /// A plain value is compared for equality; an object of operators must hold entirely.
    fn value(&self, condition: &Json, value: &Json, case: Case, visited: &[&str]) -> bool {
        match condition {
            Json::String(wanted) => case.fold(&javascript::text(value)) == case.fold(wanted),
            Json::Number(wanted) => wanted.as_f64() == Some(javascript::number(value)),
            Json::Bool(wanted) => !value.is_null() && is_truthy(value) == *wanted,
            Json::Null => value.is_null(),
            Json::Object(operators) if is_operators(operators) => operators
                .iter()
                .all(|(operator, wanted)| self.operator(operator, value, wanted, visited)),
            Json::Array(_) | Json::Object(_) => is_written_alike(value, condition),
        }
    }

    fn operator(&self, operator: &str, actual: &Json, expected: &Json, visited: &[&str]) -> bool {
        match operator {
            "$eq" => is_same(actual, expected),
            "$ne" => !is_same(actual, expected),
            "$lt" => javascript::order(actual, expected).is_some_and(Ordering::is_lt),
            "$lte" => javascript::order(actual, expected).is_some_and(Ordering::is_le),
            "$gt" => javascript::order(actual, expected).is_some_and(Ordering::is_gt),
            "$gte" => javascript::order(actual, expected).is_some_and(Ordering::is_ge),
            "$veq" => version_order(actual, expected).is_eq(),
            "$vne" => version_order(actual, expected).is_ne(),
            "$vlt" => version_order(actual, expected).is_lt(),
            "$vlte" => version_order(actual, expected).is_le(),
            "$vgt" => version_order(actual, expected).is_gt(),
            "$vgte" => version_order(actual, expected).is_ge(),
            "$exists" => is_truthy(expected) != actual.is_null(),
            "$in" => expected
                .as_array()
                .is_some_and(|list| is_in(actual, list, Case::Sensitive)),
            "$nin" => expected
                .as_array()
                .is_some_and(|list| !is_in(actual, list, Case::Sensitive)),
            "$ini" => expected
                .as_array()
                .is_some_and(|list| is_in(actual, list, Case::Insensitive)),
            "$nini" => expected
                .as_array()
                .is_some_and(|list| !is_in(actual, list, Case::Insensitive)),
            "$inGroup" => is_in(actual, self.group(expected), Case::Sensitive),
            "$notInGroup" => !is_in(actual, self.group(expected), Case::Sensitive),
            "$not" => !self.value(expected, actual, Case::Sensitive, visited),
            "$size" => actual.as_array().is_some_and(|list| {
                self.value(expected, &Json::from(list.len()), Case::Sensitive, visited)
            }),
            "$elemMatch" => self.element_matches(actual, expected, visited),
            "$all" => self.has_all(actual, expected, Case::Sensitive, visited),
            "$alli" => self.has_all(actual, expected, Case::Insensitive, visited),
            "$regex" => is_match(expected, actual, Case::Sensitive),
            "$regexi" => is_match(expected, actual, Case::Insensitive),
            "$type" => expected.as_str() == Some(type_name(actual)),
            _ => false,
        }
    }

    fn group(&self, id: &Json) -> &[Json] {
        let group = id.as_str().and_then(|id| self.saved_groups.get(id));
        match group {
            Some(Json::Array(values)) => values,
            Some(group) => group.get("values").map_or(&[], items),
            None => &[],
        }
    }

    /// Elements that are false, zero, empty or null never match.
    fn element_matches(&self, actual: &Json, expected: &Json, visited: &[&str]) -> bool {
        let has_operators = expected.as_object().is_some_and(is_operators);
        let matches = |element: &Json| match has_operators {
            true => self.value(expected, element, Case::Sensitive, visited),
            false => self.condition(element, expected, visited),
        };
        items(actual)
            .iter()
            .any(|element| is_truthy(element) && matches(element))
    }

    fn has_all(&self, actual: &Json, expected: &Json, case: Case, visited: &[&str]) -> bool {
        let (Some(actual), Some(expected)) = (actual.as_array(), expected.as_array()) else {
            return false;
        };
        expected.iter().all(|wanted| {
            actual
                .iter()
                .any(|value| self.value(wanted, value, case, visited))
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Sensitive,
    Insensitive,
}

impl Case {
    fn fold(self, text: &str) -> String {
        if self == Self::Insensitive {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    }
}

/// The value at a path of names with dots between them; null where there is none.
fn at_path<'a>(object: &'a Json, path: &str) -> &'a Json {
    path.split('.')
        .try_fold(object, step)
        .unwrap_or(&Json::Null)
}

fn step<'a>(current: &'a Json, name: &str) -> Option<&'a Json> {
    match current {
        Json::Object(fields) => fields.get(name),
        Json::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_operators(fields: &Map<String, Json>) -> bool {
    !fields.is_empty() && fields.keys().all(|key| key.starts_with('$'))
}

/// A list is in another when they share an element.
fn is_in(actual: &Json, expected: &[Json], case: Case) -> bool {
    let equal = |left: &Json, right: &Json| match (left, right) {
        (Json::String(left), Json::String(right)) => case.fold(left) == case.fold(right),
        _ => is_same(left, right),
    };
    match actual {
        Json::Array(elements) => elements
            .iter()
            .any(|element| expected.iter().any(|wanted| equal(element, wanted))),
        single => expected.iter().any(|wanted| equal(single, wanted)),
    }
}

fn is_match(pattern: &Json, actual: &Json, case: Case) -> bool {
    let regex: Option<Regex> = pattern.as_str().and_then(|pattern| {
        let mut builder = RegexBuilder::new(&javascript::regex(pattern));
        builder
            .case_insensitive(case == Case::Insensitive)
            .size_limit(1 << 20)
            .build()
            .ok()
    });
    regex.is_some_and(|regex| regex.is_match(&javascript::text(actual)))
}

/// What JavaScript's `Object.entries` gives for what is no object: positions and letters, or positions and items.
fn entries(value: &Json) -> impl Iterator<Item = (String, Json)> {
    let letters = value.as_str().unwrap_or_default().chars();
    let letters = letters.map(|letter| Json::from(letter.to_string()));
    let items = items(value).iter().cloned();
    let numbered = letters.chain(items).enumerate();
    numbered.map(|(position, item)| (position.to_string(), item))
}

fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn version_order(left: &Json, right: &Json) -> Ordering {
    javascript::text_order(&padded_version(left), &padded_version(right))
}

/// A version as a text that sorts: numbers padded to five places, `~` at the end of a release.
fn padded_version(version: &Json) -> String {
    let text = match version {
        Json::Number(_) => javascript::text(version),
        Json::String(text) if !text.is_empty() => text.clone(),
        _ => "0".to_owned(),
    };
    let text = text.strip_prefix('v').unwrap_or(&text);
    let text = text.split('+').next().unwrap_or(text);
    let mut parts: Vec<String> = text.split(['-', '.']).map(padded_part).collect();
    if parts.len() == 3 {
        parts.push("~".to_owned());
    }
    parts.join("-")
}

fn padded_part(part: &str) -> String {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        format!("{part:>5}")
    } else {
        part.to_owned()
    }
}
