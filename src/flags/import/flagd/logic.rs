//! JsonLogic with flagd's four operators, on JavaScript's conversions (jsonlogic.com/operations.html).

use std::borrow::Cow;
use std::cmp::Ordering;

use semver::Version;
use serde_json::{Value as Json, json};

use super::fractional::{FractionalVersion, fractional};
use crate::flags::import::javascript::{
    self, is_loosely_same, is_same, is_truthy, number, number_text, order,
};

/// Applies rules to data; `root` is the context that flagd's operators look at.
#[derive(Clone, Copy)]
pub struct Logic<'a> {
    pub root: &'a Json,
    pub version: FractionalVersion,
}

/// True when every operator of a rule exists.
pub fn is_known(rule: &Json) -> bool {
    match (operation(rule), rule) {
        (Some((name, arguments)), _) => OPERATORS.contains(&name) && is_known(arguments),
        (None, Json::Array(items)) => items.iter().all(is_known),
        _ => true,
    }
}

const OPERATORS: &[&str] = &[
    "var",
    "missing",
    "missing_some",
    "if",
    "?:",
    "==",
    "===",
    "!=",
    "!==",
    "!",
    "!!",
    "or",
    "and",
    ">",
    ">=",
    "<",
    "<=",
    "max",
    "min",
    "+",
    "-",
    "*",
    "/",
    "%",
    "map",
    "reduce",
    "filter",
    "all",
    "none",
    "some",
    "merge",
    "in",
    "cat",
    "substr",
    "log",
    "fractional",
    "starts_with",
    "ends_with",
    "sem_ver",
];

impl Logic<'_> {
    pub fn apply(self, rule: &Json, data: &Json) -> Json {
        match (operation(rule), rule) {
            (Some((name, arguments)), _) => self.operate(name, arguments, data),
            (None, Json::Array(items)) => items.iter().map(|item| self.apply(item, data)).collect(),
            _ => rule.clone(),
        }
    }

    /// These decide themselves which of their arguments are evaluated, and on what.
    fn operate(self, name: &str, arguments: &Json, data: &Json) -> Json {
        let list = as_list(arguments);
        match name {
            "if" | "?:" => self.choose(&list, data),
            "and" => self.connect(&list, data, false),
            "or" => self.connect(&list, data, true),
            "map" => self.each(&list, data, |_, mapped| Some(mapped)),
            "filter" => self.each(&list, data, |item, kept| {
                truthy(&kept).then(|| item.clone())
            }),
            "reduce" => self.reduce(&list, data),
            "all" => json!(
                self.count(&list, data)
                    .is_some_and(|(matching, all)| all > 0 && matching == all)
            ),
            "some" => json!(
                self.count(&list, data)
                    .is_some_and(|(matching, _)| matching > 0)
            ),
            "none" => json!(
                self.count(&list, data)
                    .is_none_or(|(matching, _)| matching == 0)
            ),
            _ => {
                let values = as_list(&self.apply(arguments, data)).into_owned();
                self.calculate(name, &values, data)
            }
        }
    }

    fn calculate(self, name: &str, values: &[Json], data: &Json) -> Json {
        let at = |index: usize| values.get(index).unwrap_or(&Json::Null);
        match name {
            "var" => variable(at(0), at(1), data),
            "missing" => missing(values, data),
            "missing_some" => missing_some(at(0), at(1), data),
            "==" => json!(is_equal(at(0), at(1))),
            "===" => json!(is_same(at(0), at(1))),
            "!=" => json!(!is_equal(at(0), at(1))),
            "!==" => json!(!is_same(at(0), at(1))),
            "!" => json!(!truthy(at(0))),
            "!!" => json!(truthy(at(0))),
            "<" => json!(is_ordered(values, Ordering::is_lt)),
            "<=" => json!(is_ordered(values, Ordering::is_le)),
            ">" => json!(is_ordered(values, Ordering::is_gt)),
            ">=" => json!(is_ordered(values, Ordering::is_ge)),
            "in" => json!(contains(at(1), at(0))),
            "cat" => json!(values.iter().map(javascript::text).collect::<String>()),
            "substr" => substring(at(0), at(1), at(2)),
            "merge" => values
                .iter()
                .flat_map(|value| as_list(value).into_owned())
                .collect(),
            "log" => at(0).clone(),
            "fractional" => fractional(values, self.root, self.version),
            "starts_with" => affix(values, |text, affix| text.starts_with(affix)),
            "ends_with" => affix(values, |text, affix| text.ends_with(affix)),
            "sem_ver" => compare_versions(values),
            arithmetic => numeric(arithmetic, values),
        }
    }

    fn choose(self, list: &[Json], data: &Json) -> Json {
        let mut rest = list;
        loop {
            match rest {
                [condition, result, others @ ..] => {
                    if truthy(&self.apply(condition, data)) {
                        return self.apply(result, data);
                    }
                    rest = others;
                }
                [otherwise] => return self.apply(otherwise, data),
                [] => return Json::Null,
            }
        }
    }

    /// The first value that decides, else the last.
    fn connect(self, list: &[Json], data: &Json, deciding: bool) -> Json {
        let mut last = Json::Null;
        for item in list {
            last = self.apply(item, data);
            if truthy(&last) == deciding {
                break;
            }
        }
        last
    }

    fn each(self, list: &[Json], data: &Json, keep: impl Fn(&Json, Json) -> Option<Json>) -> Json {
        let items = self.items(list, data).unwrap_or_default();
        let rule = list.get(1).unwrap_or(&Json::Null);
        items
            .iter()
            .filter_map(|item| keep(item, self.apply(rule, item)))
            .collect()
    }

    fn count(self, list: &[Json], data: &Json) -> Option<(usize, usize)> {
        let items = self.items(list, data)?;
        let rule = list.get(1)?;
        Some((
            items
                .iter()
                .filter(|item| truthy(&self.apply(rule, item)))
                .count(),
            items.len(),
        ))
    }

    fn reduce(self, list: &[Json], data: &Json) -> Json {
        let start = list
            .get(2)
            .map_or(Json::Null, |start| self.apply(start, data));
        let Some(rule) = list.get(1) else {
            return start;
        };
        let items = self.items(list, data).unwrap_or_default();
        items.into_iter().fold(start, |sum, item| {
            self.apply(rule, &json!({"current": item, "accumulator": sum}))
        })
    }

    fn items(self, list: &[Json], data: &Json) -> Option<Vec<Json>> {
        match self.apply(list.first()?, data) {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }
}

/// An object with one key is an operation, any other is data.
fn operation(rule: &Json) -> Option<(&str, &Json)> {
    let fields = rule.as_object()?;
    let (name, arguments) = fields.iter().next()?;
    (fields.len() == 1).then_some((name.as_str(), arguments))
}

fn as_list(value: &Json) -> std::borrow::Cow<'_, [Json]> {
    match value {
        Json::Array(items) => items.as_slice().into(),
        single => vec![single.clone()].into(),
    }
}

/// As in JavaScript, except that an empty list is false.
fn truthy(value: &Json) -> bool {
    is_truthy(value) && !value.as_array().is_some_and(Vec::is_empty)
}

/// JavaScript's `==`, except that null equals zero and false: what both of flagd's packages do.
fn is_equal(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Null, other @ (Json::Number(_) | Json::Bool(_)))
        | (other @ (Json::Number(_) | Json::Bool(_)), Json::Null) => number(other) == 0.0,
        _ => is_loosely_same(left, right),
    }
}

fn variable(path: &Json, default: &Json, data: &Json) -> Json {
    let path = text_or_nothing(path);
    if path.is_empty() {
        return data.clone();
    }
    let found = path
        .split('.')
        .try_fold(Cow::Borrowed(data), |current, name| part(current, name));
    found
        .filter(|found| !found.is_null())
        .map_or_else(|| default.clone(), Cow::into_owned)
}

/// A field, an item, or a letter of a text.
fn part<'a>(value: Cow<'a, Json>, name: &str) -> Option<Cow<'a, Json>> {
    let position = || name.parse::<usize>().ok();
    match value {
        Cow::Borrowed(Json::Object(fields)) => fields.get(name).map(Cow::Borrowed),
        Cow::Borrowed(Json::Array(items)) => items.get(position()?).map(Cow::Borrowed),
        text => {
            let letter = text.as_str()?.chars().nth(position()?)?;
            Some(Cow::Owned(json!(letter.to_string())))
        }
    }
}

fn missing(names: &[Json], data: &Json) -> Json {
    let names = match names {
        [Json::Array(names)] => names,
        names => names,
    };
    let is_missing = |name: &&Json| {
        let value = variable(name, &Json::Null, data);
        value.is_null() || value == json!("")
    };
    names.iter().filter(is_missing).cloned().collect()
}

fn missing_some(wanted: &Json, names: &Json, data: &Json) -> Json {
    let names = as_list(names);
    let absent = missing(&names, data);
    let count = absent.as_array().map_or(0, Vec::len);
    if (names.len() - count) as f64 >= number(wanted) {
        json!([])
    } else {
        absent
    }
}

/// Two values in order, or the second between the first and the third.
fn is_ordered(values: &[Json], holds: impl Fn(Ordering) -> bool) -> bool {
    let in_order = |left: &Json, right: &Json| order(left, right).is_some_and(&holds);
    match values {
        [left, right] => in_order(left, right),
        [low, value, high, ..] => in_order(low, value) && in_order(value, high),
        _ => false,
    }
}

fn contains(container: &Json, item: &Json) -> bool {
    match container {
        Json::Array(items) => items.iter().any(|candidate| is_same(candidate, item)),
        Json::String(text) => text.contains(&javascript::text(item)),
        _ => false,
    }
}

fn text_or_nothing(value: &Json) -> String {
    if value.is_null() {
        String::new()
    } else {
        javascript::text(value)
    }
}

/// A negative start counts from the end; a negative length leaves so many off the end.
fn substring(text: &Json, start: &Json, length: &Json) -> Json {
    let units: Vec<u16> = text_or_nothing(text).encode_utf16().collect();
    let size = units.len() as i64;
    let from_end = |at: i64| {
        if at < 0 {
            (size + at).max(0)
        } else {
            at.min(size)
        }
    };
    let start = from_end(number(start) as i64);
    let end = match length {
        Json::Null => size,
        length => match number(length) as i64 {
            length @ ..0 => size + length,
            length => start.saturating_add(length).min(size),
        },
    };
    json!(String::from_utf16_lossy(
        &units[start as usize..end.max(start) as usize]
    ))
}

fn affix(values: &[Json], holds: impl Fn(&str, &str) -> bool) -> Json {
    match values {
        [Json::String(text), Json::String(affix)] => json!(holds(text, affix)),
        _ => Json::Null,
    }
}

fn numeric(name: &str, values: &[Json]) -> Json {
    let numbers: Vec<f64> = values.iter().map(number).collect();
    let result = match (name, numbers.as_slice()) {
        ("+", numbers) => numbers.iter().sum(),
        ("*", numbers) => numbers.iter().product(),
        ("-", [single]) => -single,
        ("-", [left, right, ..]) => left - right,
        ("/", [left, right, ..]) => left / right,
        ("%", [left, right, ..]) => left % right,
        ("max", numbers) => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ("min", numbers) => numbers.iter().copied().fold(f64::INFINITY, f64::min),
        _ => f64::NAN,
    };
    // Whole results stay integers, so that they can be weights and names of variants.
    number_text(result)
        .parse::<i64>()
        .map_or_else(|_| json!(result), |whole| json!(whole))
}

fn compare_versions(values: &[Json]) -> Json {
    let [left, operator, right] = values else {
        return Json::Null;
    };
    let (Some(left), Some(right)) = (version(left), version(right)) else {
        return Json::Null;
    };
    let order = left.cmp_precedence(&right);
    json!(match operator.as_str() {
        Some("=") => order.is_eq(),
        Some("!=") => order.is_ne(),
        Some("<") => order.is_lt(),
        Some("<=") => order.is_le(),
        Some(">") => order.is_gt(),
        Some(">=") => order.is_ge(),
        Some("^") => left.major == right.major,
        Some("~") => left.major == right.major && left.minor == right.minor,
        _ => return Json::Null,
    })
}

/// A version, also as a number, with a leading `v`, or without minor and patch.
fn version(value: &Json) -> Option<Version> {
    if !value.is_string() && !value.is_number() {
        return None;
    }
    let text = javascript::text(value);
    let text = text.strip_prefix(['v', 'V']).unwrap_or(&text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 2_usize.saturating_sub(numbers.matches('.').count());
    Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}
