//! What YAML 1.1, which dbt reads by way of PyYAML, means by a scalar that stands without quotes: `010` is 8, `1e3` a text, `no` false.
//! In: a [`Node`], read by the rules of YAML 1.2. Out: the node that dbt would have read.

use std::sync::LazyLock;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use regex::{Captures, Regex};

use super::{Node, Spot, Value};

impl Node {
    /// This value as dbt reads it, with everything inside.
    pub fn as_dbt_reads_it(&self) -> Node {
        let value = match &self.value {
            Value::Sequence(items) => {
                Value::Sequence(items.iter().map(Node::as_dbt_reads_it).collect())
            }
            Value::Mapping(entries) => {
                let read =
                    |(key, node): &(Spot<String>, Node)| (key.clone(), node.as_dbt_reads_it());
                Value::Mapping(entries.iter().map(read).collect())
            }
            other => match &self.written {
                Some(written) => plain(written),
                None => other.clone(),
            },
        };
        Node {
            value,
            ..self.clone()
        }
    }
}

/// What a word means where YAML 1.1 has booleans besides `true` and `false`.
pub fn old_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" | "true" => Some(true),
        "n" | "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// A scalar without quotes, by the rules of PyYAML: <https://github.com/yaml/pyyaml/blob/main/lib/yaml/resolver.py>.
fn plain(text: &str) -> Value {
    null(text)
        .or_else(|| boolean(text).map(Value::Bool))
        .or_else(|| integer(text).map(Value::Int))
        .or_else(|| float(text).map(Value::Float))
        .or_else(|| time(text).map(Value::String))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

fn null(text: &str) -> Option<Value> {
    matches!(text, "" | "~" | "null" | "Null" | "NULL").then_some(Value::Null)
}

/// In one case throughout, or with one capital letter: `yEs` is a text. So are `y` and `n`, which PyYAML left out.
fn boolean(text: &str) -> Option<bool> {
    let rest = text.get(1..)?;
    let is_capital = text.starts_with(|letter: char| letter.is_ascii_uppercase());
    let is_lower = rest.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_upper = is_capital && rest.bytes().all(|byte| byte.is_ascii_uppercase());
    (text.len() > 1 && (is_lower || is_upper))
        .then(|| old_boolean(text))
        .flatten()
}

fn integer(text: &str) -> Option<i64> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?P<sign>[-+]?)(?:0b(?P<binary>[01_]+)|0x(?P<hexadecimal>[0-9a-fA-F_]+)|0(?P<octal>[0-7_]+)|(?P<decimal>0|[1-9][0-9_]*)|(?P<sixty>[1-9][0-9_]*(?::[0-5]?[0-9])+))$",
        )
        .expect("the pattern is constant")
    });
    let found = NUMBER.captures(text)?;
    let of = |name: &str, base: u32| {
        let digits = found.name(name)?.as_str().replace('_', "");
        i64::from_str_radix(&digits, base).ok()
    };
    let size = of("binary", 2)
        .or_else(|| of("hexadecimal", 16))
        .or_else(|| of("octal", 8))
        .or_else(|| of("decimal", 10))
        .or_else(|| in_sixties(found.name("sixty")?.as_str()))?;
    Some(if &found["sign"] == "-" { -size } else { size })
}

/// `1:30` is 90: minutes and seconds, or hours and minutes.
fn in_sixties(text: &str) -> Option<i64> {
    text.replace('_', "")
        .split(':')
        .try_fold(0_i64, |sum, part| {
            sum.checked_mul(60)?.checked_add(part.parse().ok()?)
        })
}

/// With a point; an exponent has a sign, so that `1e3` and `1.5e3` are texts.
fn float(text: &str) -> Option<f64> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$",
        )
        .expect("the pattern is constant")
    });
    static SIXTIES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?P<sign>[-+]?)(?P<whole>[0-9][0-9_]*(?::[0-5]?[0-9])+)(?P<fraction>\.[0-9_]*)$",
        )
        .expect("the pattern is constant")
    });
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    if NUMBER.is_match(text) {
        return text.replace('_', "").parse().ok();
    }
    let found = SIXTIES.captures(text)?;
    let whole = in_sixties(&found["whole"])? as f64;
    let fraction: f64 = format!("0{}", found["fraction"].replace('_', ""))
        .parse()
        .ok()?;
    let size = whole + fraction;
    Some(if &found["sign"] == "-" { -size } else { size })
}

/// A date or a time, as Python prints it: with a blank in the middle, and with its zone if it has one. No time at all if its parts
/// are too large, which dbt does not survive.
fn time(text: &str) -> Option<String> {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)(?:[Tt]|[ \t]+)(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d*))?(?:[ \t]*(?P<zone>Z|(?P<sign>[-+])(?P<hours>\d\d?)(?::(?P<minutes>\d\d))?))?$",
        )
        .expect("the pattern is constant")
    });
    let found = TIME.captures(text)?;
    let part = |name: &str| number(&found, name);
    let day = NaiveDate::from_ymd_opt(part("year") as i32, part("month"), part("day"))?;
    let fraction = found.name("fraction").map_or("", |digits| digits.as_str());
    let micros: u32 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let time = NaiveTime::from_hms_micro_opt(part("hour"), part("minute"), part("second"), micros)?;
    let time = day.and_time(time);
    let shape = match micros {
        0 => "%Y-%m-%d %H:%M:%S",
        _ => "%Y-%m-%d %H:%M:%S%.6f",
    };
    match found.name("zone") {
        None => Some(time.format(shape).to_string()),
        Some(_) => {
            let seconds = (part("hours") * 3_600 + part("minutes") * 60) as i32;
            let is_behind = found.name("sign").is_some_and(|sign| sign.as_str() == "-");
            zoned(time, if is_behind { -seconds } else { seconds }, shape)
        }
    }
}

fn number(found: &Captures<'_>, name: &str) -> u32 {
    found
        .name(name)
        .and_then(|digits| digits.as_str().parse().ok())
        .unwrap_or(0)
}

fn zoned(time: NaiveDateTime, seconds: i32, shape: &str) -> Option<String> {
    let zone = FixedOffset::east_opt(seconds)?;
    let time: DateTime<FixedOffset> = time.and_local_timezone(zone).single()?;
    Some(time.format(&format!("{shape}%:z")).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Value, parse};

    /// As dbt 1.10 prints each of them in the SQL of `accepted_values`, but for `True` and `None`.
    #[test]
    fn scalars_are_what_dbt_makes_of_them() {
        for (written, read) in [
            ("01", "1"),
            ("08", "\"08\""),
            ("010", "8"),
            ("0o10", "\"0o10\""),
            ("1e3", "\"1e3\""),
            ("1.5e3", "\"1.5e3\""),
            ("1.5e+3", "1500.0"),
            ("0x10", "16"),
            ("0X1F", "\"0X1F\""),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("1__0", "10"),
            ("1_000.5", "1000.5"),
            ("1:30", "90"),
            ("-1:30", "-90"),
            ("1:30.5", "90.5"),
            ("+5", "5"),
            ("-0", "0"),
            ("1.50", "1.5"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "\"-.5\""),
            (".5e+1", "5.0"),
            ("1.0e-7", "1e-7"),
            ("yes", "true"),
            ("No", "false"),
            ("ON", "true"),
            ("off", "false"),
            ("y", "\"y\""),
            ("n", "\"n\""),
            ("true", "true"),
            ("TRUE", "true"),
            ("tRUE", "\"tRUE\""),
            ("~", "null"),
            ("Null", "null"),
            ("nUll", "\"nUll\""),
            ("\"\"", "\"\""),
            ("2020-01-02", "\"2020-01-02\""),
            ("2020-1-2", "\"2020-1-2\""),
            ("2020-01-02 10:00:00", "\"2020-01-02 10:00:00\""),
            ("2020-01-02T10:00:00Z", "\"2020-01-02 10:00:00+00:00\""),
            ("2020-01-02 10:00:00.5", "\"2020-01-02 10:00:00.500000\""),
            (
                "2020-01-02 10:00:00 +02:00",
                "\"2020-01-02 10:00:00+02:00\"",
            ),
            ("2020-01-02t10:00:00+5", "\"2020-01-02 10:00:00+05:00\""),
            ("'7'", "\"7\""),
            ("\"01\"", "\"01\""),
            ("\"yes\"", "\"yes\""),
            ("' a '", "\" a \""),
            ("12345678901234567.0", "1.2345678901234568e+16"),
            ("!!str 01", "\"01\""),
        ] {
            let file = "orders.yml".into();
            for text in [
                format!("values: [{written}, x]\n"),
                format!("values:\n  - {written} # a comment\n"),
                format!("ä: &a {written}\nvalues:\n- *a\n"),
            ] {
                let node = parse(&file, &text).value.as_dbt_reads_it();
                let Some(Value::Sequence(items)) = node.get("values").map(|list| &list.value)
                else {
                    panic!("{text}: {node:?}");
                };
                assert_eq!(items[0].to_json().to_string(), read, "{text}");
            }
        }
    }
}
