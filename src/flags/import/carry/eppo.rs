//! Eppo's Universal Flag Configuration: allocations become rules that fall through.

use chrono::{Duration, SecondsFormat};
use semver::Version;
use serde_json::{Map, Value as Json, json};

use super::{
    Draft, Imported, Refusal, Variants, all, any, in_ranges, items, rule, strict_version, text,
};
use crate::flags::context::{Type, parse_instant};
use crate::flags::targeting::quoted;

/// Carries a configuration over. The subject is the unit `id`; its values without a match are those in the code.
pub fn from_ufc(body: &Json) -> Imported {
    let mut draft = Draft::new("subject", "id");
    let flags = body["flags"].as_object().cloned().unwrap_or_default();
    let kinds = attribute_kinds(&flags);
    for (key, flag) in &flags {
        draft.add(key, |draft| carry(draft, key, flag, &kinds));
    }
    draft.finish()
}

type Kinds = Map<String, Json>;
type Ranges = Vec<(u32, u32)>;

fn carry(draft: &mut Draft, key: &str, flag: &Json, kinds: &Kinds) -> Result<Json, Refusal> {
    if flag["totalShards"]
        .as_u64()
        .is_some_and(|total| total != 10_000)
    {
        return Err(format!(
            "it has {} shards, and md5-mod10000/1 has 10,000",
            flag["totalShards"]
        ));
    }
    let kind = match text(&flag["variationType"])? {
        "BOOLEAN" => "boolean",
        "STRING" => "string",
        "INTEGER" => "integer",
        "NUMERIC" => "float",
        _ => "object",
    };
    let mut variants = Variants::default();
    for (name, variation) in flag["variations"].as_object().into_iter().flatten() {
        variants
            .0
            .push((name.clone(), value(kind, &variation["value"])?));
    }
    let mut rules = Vec::new();
    for allocation in items(&flag["allocations"]) {
        rules.extend(allocation_rules(draft, allocation, kinds)?);
    }
    let state = if flag["enabled"] == json!(true) {
        "enabled"
    } else {
        "disabled"
    };
    Ok(
        json!({"key": key, "type": kind, "state": state, "variants": variants.to_json(), "rules": rules}),
    )
}

fn value(kind: &str, value: &Json) -> Result<Json, Refusal> {
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    match kind {
        "object" => serde_json::from_str(text(value)?)
            .map_err(|error| format!("a variation is no JSON: {error}")),
        "integer" if !is_whole => Err(format!("a variation of an integer flag is {value}")),
        _ => Ok(value.clone()),
    }
}

/// Shards that all splits share become part of the condition; what is left is a split over one salt, or a rule for each
/// variation.
fn allocation_rules(
    draft: &mut Draft,
    allocation: &Json,
    kinds: &Kinds,
) -> Result<Vec<Json>, Refusal> {
    let id = text(&allocation["key"])?;
    let when = condition(draft, items(&allocation["rules"]), kinds)?;
    let splits: Vec<(String, Vec<(String, Ranges)>)> = items(&allocation["splits"])
        .iter()
        .map(split)
        .collect::<Result<_, _>>()?;
    let shared: Vec<(String, Ranges)> = splits.first().map_or_else(Vec::new, |(_, first)| {
        first
            .iter()
            .filter(|shard| splits.iter().all(|(_, shards)| shards.contains(shard)))
            .cloned()
            .collect()
    });
    let own = |shards: &[(String, Ranges)]| -> Vec<(String, Ranges)> {
        shards
            .iter()
            .filter(|shard| !shared.contains(shard))
            .cloned()
            .collect()
    };
    let mut conditions: Vec<String> = when.into_iter().collect();
    conditions.extend(shared.iter().map(in_shard));
    let rest: Vec<(String, Vec<(String, Ranges)>)> = splits
        .iter()
        .map(|(variation, shards)| (variation.clone(), own(shards)))
        .collect();
    let mut rules = match rollout(&rest) {
        Some(rollout) => vec![rule(id, all(&conditions), ("rollout", rollout))],
        None => rest
            .iter()
            .enumerate()
            .map(|(index, (variation, shards))| {
                let tests = conditions
                    .iter()
                    .cloned()
                    .chain(shards.iter().map(in_shard))
                    .collect::<Vec<_>>();
                let id = if rest.len() == 1 {
                    id.to_owned()
                } else {
                    format!("{id}.{}", index + 1)
                };
                rule(&id, all(&tests), ("serve", json!(variation)))
            })
            .collect(),
    };
    let active = period(allocation)?;
    for rule in &mut rules {
        rule["otherwise"] = json!("next");
        if let Some(active) = &active {
            rule["active"] = active.clone();
        }
    }
    Ok(rules)
}

fn split(split: &Json) -> Result<(String, Vec<(String, Ranges)>), Refusal> {
    let number = |value: &Json| {
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(10_000)
    };
    let shard = |shard: &Json| -> Result<(String, Ranges), Refusal> {
        let ranges = items(&shard["ranges"])
            .iter()
            .map(|range| (number(&range["start"]), number(&range["end"]).min(10_000)));
        Ok((text(&shard["salt"])?.to_owned(), ranges.collect()))
    };
    let mut shards: Vec<(String, Ranges)> = items(&split["shards"])
        .iter()
        .map(shard)
        .collect::<Result<_, _>>()?;
    // A shard that has every bucket decides nothing.
    shards.retain(|(_, ranges)| !ranges.contains(&(0, 10_000)));
    Ok((text(&split["variationKey"])?.to_owned(), shards))
}

/// One salt and no bucket twice.
fn rollout(splits: &[(String, Vec<(String, Ranges)>)]) -> Option<Json> {
    let salt = &splits.first()?.1.first()?.0;
    let mut by_variation = Map::new();
    let mut taken: Ranges = Vec::new();
    for (variation, shards) in splits {
        let [(own, ranges)] = shards.as_slice() else {
            return None;
        };
        let is_free = ranges.iter().all(|(start, end)| {
            start < end && taken.iter().all(|(from, to)| end <= from || to <= start)
        });
        if own != salt || !is_free || by_variation.contains_key(variation) {
            return None;
        }
        taken.extend(ranges);
        by_variation.insert(variation.clone(), json!(ranges));
    }
    Some(json!({"salt": salt, "split": by_variation}))
}

fn in_shard((salt, ranges): &(String, Ranges)) -> String {
    in_ranges(
        &format!("bucket('md5-mod10000/1', {}, id)", quoted(salt)),
        ranges,
    )
}

/// An end is inclusive in UFC and exclusive here.
fn period(allocation: &Json) -> Result<Option<Json>, Refusal> {
    let mut period = Map::new();
    for (name, ours, later) in [("startAt", "from", 0), ("endAt", "to", 1)] {
        if let Some(written) = allocation[name].as_str() {
            let instant =
                parse_instant(written).ok_or_else(|| format!("`{written}` is no instant"))?;
            let instant = instant + Duration::milliseconds(later);
            period.insert(
                ours.to_owned(),
                json!(instant.to_rfc3339_opts(SecondsFormat::Millis, true)),
            );
        }
    }
    Ok((!period.is_empty()).then(|| period.into()))
}

fn condition(draft: &mut Draft, rules: &[Json], kinds: &Kinds) -> Result<Option<String>, Refusal> {
    let mut ways = Vec::new();
    for rule in rules {
        let tests: Vec<String> = items(&rule["conditions"])
            .iter()
            .map(|test| one(draft, test, kinds))
            .collect::<Result<_, _>>()?;
        match all(&tests) {
            Some(way) => ways.push(way),
            None => return Ok(None),
        }
    }
    Ok(any(&ways))
}

fn one(draft: &mut Draft, test: &Json, kinds: &Kinds) -> Result<String, Refusal> {
    let (name, operator, value) = (
        text(&test["attribute"])?,
        text(&test["operator"])?,
        &test["value"],
    );
    let kind = match kinds.get(name).and_then(Json::as_str) {
        Some("number") => Type::Float,
        Some("boolean") => Type::Boolean,
        _ => Type::Text,
    };
    let attribute = draft.attribute(name, kind)?;
    let sign = |operator: &str| match operator {
        "GTE" => ">=",
        "GT" => ">",
        "LTE" => "<=",
        _ => "<",
    };
    Ok(match (operator, kind) {
        ("IS_NULL", _) if value == &json!(true) => format!("{attribute} IS NULL"),
        ("IS_NULL", _) => format!("{attribute} IS NOT NULL"),
        ("MATCHES", Type::Text) => format!("regexp_like({attribute}, {})", quoted(text(value)?)),
        ("NOT_MATCHES", Type::Text) => {
            format!("NOT regexp_like({attribute}, {})", quoted(text(value)?))
        }
        ("ONE_OF", _) => membership(&attribute, kind, value, "IN"),
        ("NOT_ONE_OF", _) => membership(&attribute, kind, value, "NOT IN"),
        ("GTE" | "GT" | "LTE" | "LT", Type::Float) => {
            format!("{attribute} {} {}", sign(operator), number(value)?)
        }
        ("GTE" | "GT" | "LTE" | "LT", Type::Text) => strict_version(
            &attribute,
            &format!(
                "semver({attribute}) {} semver({})",
                sign(operator),
                quoted(text(value)?)
            ),
        ),
        _ => {
            return Err(format!(
                "`{operator}` on the {kind} `{name}` has no counterpart"
            ));
        }
    })
}

/// Values that the attribute's type cannot have match nothing.
fn membership(attribute: &str, kind: Type, values: &Json, word: &str) -> String {
    let fits = |value: &&str| match kind {
        Type::Float => value.parse::<f64>().is_ok_and(f64::is_finite),
        Type::Boolean => matches!(*value, "true" | "false"),
        _ => true,
    };
    let texts = items(values).iter().filter_map(Json::as_str).filter(fits);
    let listed: Vec<String> = texts
        .map(|text| {
            if kind == Type::Text {
                quoted(text)
            } else {
                text.to_owned()
            }
        })
        .collect();
    match (listed.is_empty(), word) {
        (true, "IN") => "false".to_owned(),
        (true, _) => format!("{attribute} IS NOT NULL"),
        (false, word) => format!("{attribute} {word} ({})", listed.join(", ")),
    }
}

fn number(value: &Json) -> Result<String, Refusal> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number
        .map(|number| format!("{number:?}"))
        .ok_or_else(|| format!("`{value}` is no number"))
}

/// What the conditions of all flags compare an attribute with: numbers, booleans, or texts.
fn attribute_kinds(flags: &Map<String, Json>) -> Kinds {
    let mut kinds = Kinds::new();
    let allocations = flags.values().flat_map(|flag| items(&flag["allocations"]));
    let rules = allocations.flat_map(|allocation| items(&allocation["rules"]));
    for test in rules.flat_map(|rule| items(&rule["conditions"])) {
        let name = test["attribute"].as_str().unwrap_or_default();
        let found = compared_with(test);
        let known = kinds.get(name).and_then(Json::as_str);
        let kind = match (known, found) {
            (Some("number"), _) | (_, Some("number")) => "number",
            (Some("text"), _) | (_, Some("text")) => "text",
            (known, found) => match found.or(known) {
                Some(kind) => kind,
                None => continue,
            },
        };
        let kind = json!(kind);
        kinds.insert(name.to_owned(), kind);
    }
    kinds
}

fn compared_with(test: &Json) -> Option<&'static str> {
    let value = &test["value"];
    match test["operator"].as_str()? {
        "GTE" | "GT" | "LTE" | "LT" => {
            let is_version = value
                .as_str()
                .is_some_and(|text| Version::parse(text).is_ok());
            Some(if is_version { "text" } else { "number" })
        }
        "ONE_OF" | "NOT_ONE_OF" => {
            let is_boolean = items(value)
                .iter()
                .all(|item| matches!(item.as_str(), Some("true" | "false")));
            Some(if is_boolean { "boolean" } else { "text" })
        }
        "MATCHES" | "NOT_MATCHES" => Some("text"),
        _ => None,
    }
}
