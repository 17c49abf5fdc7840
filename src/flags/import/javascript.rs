//! JavaScript's conversions and comparisons on JSON values.
//! The formats that we read were defined by what their JavaScript evaluators do, so this is part of their meaning
//! (ECMA-262, clauses 7.1 and 7.2). `undefined` does not occur: what is missing is null.

use std::cmp::Ordering;

use serde_json::Value as Json;

/// `Boolean(value)`.
pub fn is_truthy(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(boolean) => *boolean,
        Json::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(_) | Json::Object(_) => true,
    }
}

/// `String(value)`.
pub fn text(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(boolean) => boolean.to_string(),
        Json::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), number_text),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(item_text).collect::<Vec<_>>().join(","),
        Json::Object(_) => "[object Object]".to_owned(),
    }
}

/// `Number(value)`; NaN where it is none.
pub fn number(value: &Json) -> f64 {
    match value {
        Json::Null => 0.0,
        Json::Bool(boolean) => f64::from(u8::from(*boolean)),
        Json::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Json::String(text) => text_number(text),
        Json::Array(_) | Json::Object(_) => text_number(&text(value)),
    }
}

/// `left === right`, where two lists or objects are never the same one.
pub fn is_same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        (Json::Array(_) | Json::Object(_), _) => false,
        _ => left == right,
    }
}

/// `left == right`.
pub fn is_loosely_same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Null, _) | (_, Json::Null) => left.is_null() && right.is_null(),
        (Json::String(left), Json::String(right)) => left == right,
        (Json::Array(_) | Json::Object(_), Json::Array(_) | Json::Object(_)) => false,
        (Json::Array(_) | Json::Object(_), Json::String(right)) => text(left) == *right,
        (Json::String(left), Json::Array(_) | Json::Object(_)) => *left == text(right),
        _ => number(left) == number(right),
    }
}

/// The order that `<` and `>` use: texts by UTF-16 code unit, everything else as numbers; none where one is no number.
pub fn order(left: &Json, right: &Json) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (primitive_text(left), primitive_text(right)) {
        return Some(text_order(&left, &right));
    }
    number(left).partial_cmp(&number(right))
}

/// The order of two texts by UTF-16 code unit.
pub fn text_order(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

/// True when `JSON.stringify` writes both alike: the order of keys counts, `1` and `1.0` are one number.
pub fn is_written_alike(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| is_written_alike(left, right))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.0 == right.0 && is_written_alike(left.1, right.1))
        }
        (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

/// A number as JavaScript writes it.
pub fn number_text(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".to_owned()
    } else if (1e-6..1e21).contains(&size) {
        format!("{number}")
    } else {
        let text = format!("{number:e}");
        text.replace('e', "e+").replace("e+-", "e-")
    }
}

fn item_text(item: &Json) -> String {
    if item.is_null() {
        String::new()
    } else {
        text(item)
    }
}

/// Lists and objects compare as the texts that they become.
fn primitive_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Array(_) | Json::Object(_) => Some(text(value)),
        _ => None,
    }
}

fn text_number(text: &str) -> f64 {
    let text = text.trim();
    let radix = |digits: &str, radix| {
        u64::from_str_radix(digits, radix).map_or(f64::NAN, |number| number as f64)
    };
    match text.get(..2) {
        _ if text.is_empty() => 0.0,
        Some("0x" | "0X") => radix(&text[2..], 16),
        Some("0b" | "0B") => radix(&text[2..], 2),
        Some("0o" | "0O") => radix(&text[2..], 8),
        _ => decimal(text),
    }
}

/// Rust also reads `inf` and `nan`, which JavaScript does not; `Infinity` it reads as written only.
fn decimal(text: &str) -> f64 {
    match text.trim_start_matches(['+', '-']) {
        "Infinity" => {
            if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        digits if digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// A regular expression in the words of the `regex` crate. In JavaScript `\d`, `\w` and `\b` know ASCII only, and `[` is a
/// letter like others inside a class (ECMA-262, clause 22.2).
pub fn regex(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut letters = pattern.chars().peekable();
    let mut is_in_class = false;
    while let Some(letter) = letters.next() {
        match (letter, is_in_class) {
            ('\\', _) => {
                let escaped = letters.next().unwrap_or('\\');
                translated.push_str(&escape(escaped, is_in_class));
            }
            ('[', false) => {
                is_in_class = true;
                translated.push('[');
            }
            ('[', true) => translated.push_str("\\["),
            // Twice these are operations on classes in Rust. A range may end in `-`.
            ('-', true) if letters.peek() == Some(&'-') => {
                letters.next();
                translated.push_str("-\\-");
            }
            ('&' | '~', true) if letters.peek() == Some(&letter) => {
                translated.push('\\');
                translated.push(letter);
            }
            (']', true) => {
                is_in_class = false;
                translated.push(']');
            }
            _ => translated.push(letter),
        }
    }
    translated
}

fn escape(letter: char, is_in_class: bool) -> String {
    match (letter, is_in_class) {
        ('d', true) => "0-9".to_owned(),
        ('d', false) => "[0-9]".to_owned(),
        ('D', false) => "[^0-9]".to_owned(),
        ('w', true) => "0-9A-Za-z_".to_owned(),
        ('w', false) => "[0-9A-Za-z_]".to_owned(),
        ('W', false) => "[^0-9A-Za-z_]".to_owned(),
        ('b', false) => "(?-u:\\b)".to_owned(),
        (other, _) => format!("\\{other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_convert_as_in_javascript() {
        let texts = [
            json!(1.0),
            json!(1e21),
            json!(1e-7),
            json!([1, null, "a"]),
            json!({}),
            json!(null),
        ];
        assert_eq!(
            texts.map(|value| text(&value)),
            ["1", "1e+21", "1e-7", "1,,a", "[object Object]", "null"]
        );
        assert_eq!(
            [
                json!(""),
                json!(" 8 "),
                json!("0x10"),
                json!([5]),
                json!(true)
            ]
            .map(|value| number(&value)),
            [0.0, 8.0, 16.0, 5.0, 1.0]
        );
        assert!(
            ["inf", "8px", "nan"]
                .iter()
                .all(|text| number(&json!(text)).is_nan())
        );
    }

    #[test]
    fn values_compare_as_in_javascript() {
        assert_eq!(order(&json!("8"), &json!(5)), Some(Ordering::Greater));
        assert_eq!(order(&json!("10"), &json!("9")), Some(Ordering::Less));
        assert_eq!(order(&json!("a"), &json!(5)), None);
        assert!(is_loosely_same(&json!("1"), &json!(1)) && !is_same(&json!("1"), &json!(1)));
        assert!(!is_loosely_same(&json!(null), &json!(0)));
    }

    #[test]
    fn patterns_mean_what_they_mean_in_javascript() {
        let is_match = |pattern: &str, text: &str| {
            let pattern = regex(pattern);
            regex::Regex::new(&pattern).expect(&pattern).is_match(text)
        };
        assert!(is_match("^\\w+$", "abc_1") && !is_match("^\\w+$", "é"));
        assert!(is_match("^[\\w-]+\\d$", "a-b1") && !is_match("\\d", "٣"));
        assert!(is_match("[[:alpha:]]", "p]") && !is_match("[[:alpha:]]", "p"));
        assert!(is_match("^[a&&b]+$", "a&b") && is_match("^[+--]$", ","));
        assert!(is_match("\\bé", "xé") && is_match("a\\.b\\/c", "a.b/c"));
    }
}
