//! Eppo's Universal Flag Configuration as Eppo's SDKs evaluate it.
//! In: the UFC JSON, a subject with attributes, an instant. Out: the assigned value with the variation and allocation
//! that gave it, and the evaluation code.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use regex::Regex;
use semver::Version;
use serde_json::{Map, Value as Json};

use super::javascript::number_text;
use crate::flags::bucketing::Algorithm;
use crate::flags::context::parse_instant;

/// A configuration as the server sends it.
#[derive(Clone, Debug, Default)]
pub struct Ufc {
    flags: Map<String, Json>,
}

/// What a flag gives a subject; no value is the value in the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub value: Option<Json>,
    pub variation: Option<String>,
    pub allocation: Option<String>,
    pub code: Code,
    /// The allocation asks for its assignments to be logged.
    pub is_logged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Match,
    FlagUnrecognizedOrDisabled,
    TypeMismatch,
    DefaultAllocationNull,
    AssignmentError,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Self::Match => "MATCH",
            Self::FlagUnrecognizedOrDisabled => "FLAG_UNRECOGNIZED_OR_DISABLED",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::DefaultAllocationNull => "DEFAULT_ALLOCATION_NULL",
            Self::AssignmentError => "ASSIGNMENT_ERROR",
        }
    }
}

impl Ufc {
    pub fn read(body: &Json) -> Self {
        Self {
            flags: body
                .get("flags")
                .and_then(Json::as_object)
                .cloned()
                .unwrap_or_default(),
        }
    }

    pub fn flags(&self) -> &Map<String, Json> {
        &self.flags
    }

    /// Evaluates a flag of an expected type: `STRING`, `BOOLEAN`, `INTEGER`, `NUMERIC` or `JSON`.
    pub fn evaluate(
        &self,
        key: &str,
        kind: &str,
        subject: &str,
        attributes: &Map<String, Json>,
        now: DateTime<Utc>,
    ) -> Assignment {
        let Some(flag) = self
            .flags
            .get(key)
            .filter(|flag| flag["enabled"] == Json::Bool(true))
        else {
            return Assignment::none(Code::FlagUnrecognizedOrDisabled);
        };
        if flag["variationType"].as_str() != Some(kind) {
            return Assignment::none(Code::TypeMismatch);
        }
        let subject = Subject {
            key: subject,
            attributes,
        };
        let matched = items(&flag["allocations"]).iter().find_map(|allocation| {
            Some((allocation, matching_split(flag, allocation, &subject, now)?))
        });
        match matched {
            Some((allocation, split)) if !subject.key.is_empty() => {
                assigned(flag, kind, allocation, split)
            }
            _ => Assignment::none(Code::DefaultAllocationNull),
        }
    }
}

impl Assignment {
    fn none(code: Code) -> Self {
        Self {
            value: None,
            variation: None,
            allocation: None,
            code,
            is_logged: false,
        }
    }
}

fn assigned(flag: &Json, kind: &str, allocation: &Json, split: &Json) -> Assignment {
    let variation = split["variationKey"].as_str().unwrap_or_default();
    let value = flag["variations"]
        .get(variation)
        .and_then(|variation| value_of(kind, &variation["value"]));
    Assignment {
        code: if value.is_some() {
            Code::Match
        } else {
            Code::AssignmentError
        },
        is_logged: value.is_some() && allocation["doLog"] != Json::Bool(false),
        value,
        variation: Some(variation.to_owned()),
        allocation: allocation["key"].as_str().map(str::to_owned),
    }
}

struct Subject<'a> {
    key: &'a str,
    attributes: &'a Map<String, Json>,
}

impl Subject<'_> {
    /// The subject's key stands for a missing `id`.
    fn attribute(&self, name: &str) -> Json {
        let given = self.attributes.get(name).cloned();
        given
            .or_else(|| (name == "id").then(|| Json::from(self.key)))
            .unwrap_or_default()
    }
}

fn matching_split<'a>(
    flag: &Json,
    allocation: &'a Json,
    subject: &Subject<'_>,
    now: DateTime<Utc>,
) -> Option<&'a Json> {
    let instant = |name: &str| allocation[name].as_str().and_then(parse_instant);
    let is_open = instant("startAt").is_none_or(|start| start <= now)
        && instant("endAt").is_none_or(|end| now <= end);
    let rules = items(&allocation["rules"]);
    let is_eligible = rules.is_empty() || rules.iter().any(|rule| matches_rule(rule, subject));
    if !is_open || !is_eligible {
        return None;
    }
    let total = flag["totalShards"]
        .as_u64()
        .and_then(|total| u32::try_from(total).ok())
        .unwrap_or(10_000);
    items(&allocation["splits"]).iter().find(|split| {
        items(&split["shards"])
            .iter()
            .all(|shard| is_in_shard(shard, subject.key, total))
    })
}

fn is_in_shard(shard: &Json, subject: &str, total: u32) -> bool {
    let salt = shard["salt"].as_str().unwrap_or_default();
    let bucket = u64::from(Algorithm::Md5Mod10000.draw(salt, subject).cut(total));
    items(&shard["ranges"]).iter().any(|range| {
        let bounds = range["start"].as_u64().zip(range["end"].as_u64());
        bounds.is_some_and(|(start, end)| (start..end).contains(&bucket))
    })
}

fn matches_rule(rule: &Json, subject: &Subject<'_>) -> bool {
    items(&rule["conditions"])
        .iter()
        .all(|condition| matches(condition, subject).unwrap_or(false))
}

/// Nothing where the operator cannot be applied; only `IS_NULL` can be applied to what is missing.
fn matches(condition: &Json, subject: &Subject<'_>) -> Option<bool> {
    let attribute = subject.attribute(condition["attribute"].as_str()?);
    let expected = &condition["value"];
    Some(match condition["operator"].as_str()? {
        "IS_NULL" => attribute.is_null() == expected.as_bool()?,
        "MATCHES" => Regex::new(expected.as_str()?)
            .ok()?
            .is_match(&text(&attribute)?),
        "NOT_MATCHES" => !Regex::new(expected.as_str()?)
            .ok()?
            .is_match(&text(&attribute)?),
        "ONE_OF" => is_one_of(&text(&attribute)?, expected)?,
        "NOT_ONE_OF" => !is_one_of(&text(&attribute)?, expected)?,
        "GTE" => order(&attribute, expected)?.is_ge(),
        "GT" => order(&attribute, expected)?.is_gt(),
        "LTE" => order(&attribute, expected)?.is_le(),
        "LT" => order(&attribute, expected)?.is_lt(),
        _ => return None,
    })
}

fn is_one_of(attribute: &str, expected: &Json) -> Option<bool> {
    Some(
        expected
            .as_array()?
            .iter()
            .any(|value| value.as_str() == Some(attribute)),
    )
}

/// Versions where the condition is one, else numbers.
fn order(attribute: &Json, expected: &Json) -> Option<Ordering> {
    if let Some(version) = expected.as_str().and_then(|text| Version::parse(text).ok()) {
        return Some(Version::parse(attribute.as_str()?).ok()?.cmp(&version));
    }
    number(attribute)?.partial_cmp(&number(expected)?)
}

fn number(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(boolean) => Some(boolean.to_string()),
        Json::Number(number) => number.as_f64().map(number_text),
        _ => None,
    }
}

/// The value of a variation, if it has the flag's type; JSON is sent as a text.
fn value_of(kind: &str, value: &Json) -> Option<Json> {
    match (kind, value) {
        ("STRING", Json::String(_)) | ("BOOLEAN", Json::Bool(_)) | ("NUMERIC", Json::Number(_)) => {
            Some(value.clone())
        }
        ("INTEGER", Json::Number(number)) if number.as_f64()?.fract() == 0.0 => Some(value.clone()),
        ("JSON", Json::String(text)) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}
