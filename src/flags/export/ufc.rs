//! Our flags as Eppo's Universal Flag Configuration.
//! UFC has no state between allocations: the first one that matches decides. So a rule that keeps its units becomes one
//! allocation for each variant range, and one more that gives everybody else the default.

use chrono::{Duration, SecondsFormat};
use serde_json::{Value as Json, json};

use super::condition::{self, Affix, Check, Condition, Test};
use super::pieces::{Gate, Piece, pieces};
use super::{Exported, Refusal, flags, forced};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::{Type, Value};
use crate::flags::import::number_text;
use crate::flags::set::{Flag, FlagSet, Outcome, Period, Rule, ValueType};
use crate::flags::targeting::{Comparison, version_text};

/// The whole set as UFC, for one environment.
pub fn to_ufc(set: &FlagSet, environment: &str, created_at: &str) -> Exported {
    let exporter = Exporter { set };
    let (flags, report) = flags(set, |flag| exporter.flag(flag));
    let document = json!({
        "createdAt": created_at,
        "format": "SERVER",
        "environment": {"name": environment},
        "flags": flags,
    });
    Exported { document, report }
}

struct Exporter<'a> {
    set: &'a FlagSet,
}

impl Exporter<'_> {
    fn flag(&self, flag: &Flag) -> Result<Json, Refusal> {
        if !flag.prerequisites.is_empty() {
            return Err("UFC has no prerequisites".to_owned());
        }
        let mut allocations = Vec::new();
        if flag.is_enabled {
            for (variant, units) in forced(flag) {
                let rules = json!([{"conditions": [one_of("id", units)]}]);
                let key = format!("forced.{}", flag.variants[variant].key);
                allocations.push(allocation(
                    flag,
                    &key,
                    &rules,
                    Period::default(),
                    variant,
                    json!([]),
                    false,
                ));
            }
            for (index, rule) in flag.rules.iter().enumerate() {
                let is_last = index + 1 == flag.rules.len();
                self.rule(flag, rule, is_last, &mut allocations)?;
            }
        }
        if let Some(default) = flag.default {
            allocations.push(allocation(
                flag,
                "default",
                &json!([]),
                Period::default(),
                default,
                json!([]),
                false,
            ));
        }
        let variations: serde_json::Map<String, Json> = flag
            .variants
            .iter()
            .map(|variant| {
                (
                    variant.key.to_string(),
                    json!({"key": variant.key, "value": value(flag.kind, &variant.value)}),
                )
            })
            .collect();
        Ok(json!({
            "key": flag.key,
            "enabled": true,
            "variationType": variation_type(flag.kind),
            "variations": variations,
            "allocations": allocations,
            "totalShards": 10_000,
        }))
    }

    fn rule(
        &self,
        flag: &Flag,
        rule: &Rule,
        is_last: bool,
        allocations: &mut Vec<Json>,
    ) -> Result<(), Refusal> {
        let Some(rules) = self.rules(rule)? else {
            return Ok(());
        };
        if let Outcome::Serve(variant) = rule.outcome {
            allocations.push(allocation(
                flag,
                &rule.id,
                &rules,
                rule.active,
                variant,
                json!([]),
                false,
            ));
            return Ok(());
        }
        for piece in pieces(self.set, rule) {
            self.check(&piece)?;
            let key = piece
                .name
                .map_or_else(|| rule.id.to_string(), |name| format!("{}.{name}", rule.id));
            let key = unique(&key, allocations);
            if let Some(split) = splits(flag, &piece) {
                let mut whole = frame(&key, &rules, piece.period, piece.is_logged);
                whole["splits"] = split;
                allocations.push(whole);
            }
            if let (true, Some(holdout)) = (rule.falls_through, &piece.holdout) {
                let default = flag
                    .default
                    .ok_or("held-out units would need a default variant")?;
                let key = unique(&format!("{key}.holdout"), allocations);
                allocations.push(allocation(
                    flag,
                    &key,
                    &rules,
                    piece.period,
                    default,
                    json!([shard(holdout)]),
                    false,
                ));
            }
        }
        match (rule.falls_through, flag.default) {
            (true, _) => Ok(()),
            (false, None) if is_last => Ok(()),
            (false, None) => {
                Err("a rule before the last keeps units for the value in the code".to_owned())
            }
            (false, Some(default)) => {
                let key = unique(&format!("{}.rest", rule.id), allocations);
                allocations.push(allocation(
                    flag,
                    &key,
                    &rules,
                    rule.active,
                    default,
                    json!([]),
                    false,
                ));
                Ok(())
            }
        }
    }

    fn check(&self, piece: &Piece<'_>) -> Result<(), Refusal> {
        let algorithms = piece
            .gates
            .iter()
            .map(|gate| gate.algorithm)
            .chain([piece.algorithm]);
        match algorithms
            .into_iter()
            .find(|algorithm| *algorithm != Algorithm::Md5Mod10000)
        {
            Some(other) => Err(format!(
                "UFC hashes with {}, not with {other}",
                Algorithm::Md5Mod10000
            )),
            None if piece.unit != 0 => {
                Err("UFC splits by its subject only, which is another unit".to_owned())
            }
            None => Ok(()),
        }
    }

    /// The rule's condition as alternatives of conditions; nothing where it never holds.
    fn rules(&self, rule: &Rule) -> Result<Option<Json>, Refusal> {
        let condition = widened(condition::of_rule(rule.when.as_ref())?);
        let ways = condition.ways()?;
        if ways.is_empty() {
            return Ok(None);
        }
        let mut rules = Vec::new();
        for way in &ways {
            let mut conditions = Vec::new();
            for test in way {
                conditions.extend(self.conditions(test)?);
            }
            rules.push(json!({ "conditions": conditions }));
        }
        let is_always = ways.iter().any(Vec::is_empty);
        Ok(Some(if is_always { json!([]) } else { json!(rules) }))
    }

    fn conditions(&self, test: &Test) -> Result<Vec<Json>, Refusal> {
        let is_subject = self
            .set
            .schema
            .kinds()
            .first()
            .is_some_and(|kind| kind.slot == test.slot);
        let name = if is_subject { "id" } else { &*test.name };
        let one = |operator: &str, value: Json| {
            Ok(vec![
                json!({"attribute": name, "operator": operator, "value": value}),
            ])
        };
        match (&test.check, test.kind) {
            (Check::IsNull, _) => one("IS_NULL", json!(true)),
            (Check::IsNotNull, _) => one("IS_NULL", json!(false)),
            (Check::In(values), kind) if kind != Type::Version => {
                one("ONE_OF", json!(texts(values)?))
            }
            (Check::NotIn(values), kind) if kind != Type::Version => {
                one("NOT_ONE_OF", json!(texts(values)?))
            }
            (Check::Compare(Comparison::Equal, Value::Text(key)), Type::Version) => {
                let version = json!(version_text(key));
                Ok(["GTE", "LTE"]
                    .map(|operator| json!({"attribute": name, "operator": operator, "value": version}))
                    .to_vec())
            }
            (Check::Compare(Comparison::Equal, value), _) => {
                one("ONE_OF", json!(texts(std::slice::from_ref(value))?))
            }
            (Check::Compare(Comparison::NotEqual, value), _) => {
                one("NOT_ONE_OF", json!(texts(std::slice::from_ref(value))?))
            }
            (Check::Compare(operator, value), kind) => {
                one(order_name(*operator), ordered(kind, value)?)
            }
            (
                Check::Affix {
                    place,
                    text,
                    is_negated,
                },
                _,
            ) => one(regex_name(*is_negated), json!(affix_regex(*place, text))),
            (Check::Matches { regex, is_negated }, _) => one(regex_name(*is_negated), json!(regex)),
            (check, kind) => Err(format!("UFC cannot check a {kind} like this: {check:?}")),
        }
    }
}

fn affix_regex(place: Affix, text: &str) -> String {
    condition::affix_regex(place, text)
}

/// UFC has no list of versions and no other version: those become alternatives.
fn widened(condition: Condition) -> Condition {
    match condition {
        Condition::All(parts) => Condition::All(parts.into_iter().map(widened).collect()),
        Condition::Any(parts) => Condition::Any(parts.into_iter().map(widened).collect()),
        Condition::Test(test) if test.kind == Type::Version => versions(test),
        test => test,
    }
}

fn versions(test: Test) -> Condition {
    let with = |operator, value: &Value| {
        Condition::Test(Test {
            check: Check::Compare(operator, value.clone()),
            ..test.clone()
        })
    };
    let other = |value: &Value| {
        Condition::Any(vec![
            with(Comparison::Less, value),
            with(Comparison::Greater, value),
        ])
    };
    match &test.check {
        Check::In(values) => Condition::Any(
            values
                .iter()
                .map(|value| with(Comparison::Equal, value))
                .collect(),
        ),
        Check::NotIn(values) => Condition::All(values.iter().map(other).collect()),
        Check::Compare(Comparison::NotEqual, value) => other(value),
        _ => Condition::Test(test),
    }
}

fn one_of(attribute: &str, values: Vec<&str>) -> Json {
    json!({"attribute": attribute, "operator": "ONE_OF", "value": values})
}

fn regex_name(is_negated: bool) -> &'static str {
    if is_negated { "NOT_MATCHES" } else { "MATCHES" }
}

fn order_name(operator: Comparison) -> &'static str {
    match operator {
        Comparison::Less => "LT",
        Comparison::LessOrEqual => "LTE",
        Comparison::Greater => "GT",
        _ => "GTE",
    }
}

fn ordered(kind: Type, value: &Value) -> Result<Json, Refusal> {
    match (kind, value) {
        (Type::Version, Value::Text(key)) => Ok(json!(version_text(key))),
        (_, Value::Integer(integer)) => Ok(json!(integer)),
        (_, Value::Float(float)) => Ok(json!(float)),
        _ => Err(format!("UFC cannot order a {kind}")),
    }
}

/// UFC compares the texts of values.
fn texts(values: &[Value]) -> Result<Vec<String>, Refusal> {
    let text = |value: &Value| match value {
        Value::Text(text) => Ok(text.to_string()),
        Value::Boolean(boolean) => Ok(boolean.to_string()),
        Value::Integer(integer) => Ok(integer.to_string()),
        Value::Float(float) => Ok(number_text(*float)),
        other => Err(format!("UFC cannot compare with {other:?}")),
    };
    values.iter().map(text).collect()
}

fn allocation(
    flag: &Flag,
    key: &str,
    rules: &Json,
    period: Period,
    variant: usize,
    shards: Json,
    is_logged: bool,
) -> Json {
    let mut whole = frame(key, rules, period, is_logged);
    whole["splits"] = json!([{"variationKey": flag.variants[variant].key, "shards": shards}]);
    whole
}

/// An end is inclusive in UFC and exclusive here; instants have milliseconds there.
fn frame(key: &str, rules: &Json, period: Period, is_logged: bool) -> Json {
    let mut whole = json!({"key": key, "rules": rules, "splits": [], "doLog": is_logged});
    if let Some(from) = period.from {
        whole["startAt"] = json!(from.to_rfc3339_opts(SecondsFormat::Millis, true));
    }
    if let Some(to) = period.to {
        whole["endAt"] =
            json!((to - Duration::milliseconds(1)).to_rfc3339_opts(SecondsFormat::Millis, true));
    }
    whole
}

fn splits(flag: &Flag, piece: &Piece<'_>) -> Option<Json> {
    let gates: Vec<Json> = piece.gates.iter().map(shard).collect();
    let mut splits = Vec::new();
    for (variant, known) in flag.variants.iter().enumerate() {
        let ranges: Vec<Json> = piece
            .ranges
            .iter()
            .filter(|range| range.target == variant)
            .map(|range| json!({"start": range.start, "end": range.end}))
            .collect();
        if !ranges.is_empty() {
            let own = json!({"salt": piece.salt, "ranges": ranges});
            let shards: Vec<Json> = gates.iter().cloned().chain([own]).collect();
            splits.push(json!({"variationKey": known.key, "shards": shards}));
        }
    }
    (!splits.is_empty()).then(|| json!(splits))
}

fn shard(gate: &Gate<'_>) -> Json {
    let ranges: Vec<Json> = gate
        .ranges
        .iter()
        .map(|(start, end)| json!({"start": start, "end": end}))
        .collect();
    json!({"salt": gate.salt, "ranges": ranges})
}

/// A key that no allocation has yet.
fn unique(key: &str, allocations: &[Json]) -> String {
    let is_taken = |key: &str| {
        allocations
            .iter()
            .any(|allocation| allocation["key"] == json!(key))
    };
    let numbered = (2..).map(|number| format!("{key}.{number}"));
    std::iter::once(key.to_owned())
        .chain(numbered)
        .find(|key| !is_taken(key))
        .unwrap_or_default()
}

fn variation_type(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Boolean => "BOOLEAN",
        ValueType::Text => "STRING",
        ValueType::Integer => "INTEGER",
        ValueType::Float => "NUMERIC",
        ValueType::Object => "JSON",
    }
}

/// Objects are sent as texts.
fn value(kind: ValueType, value: &Json) -> Json {
    if kind == ValueType::Object {
        json!(value.to_string())
    } else {
        value.clone()
    }
}
