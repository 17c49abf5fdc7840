//! Unleash's features as Unleash's engines evaluate them (client specification 5).
//! In: the client features JSON, a context, one random draw. Out: whether a feature is on and which variant it has.
//! What is random in Unleash uses the draw, so that the answer depends on nothing else.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use regex::RegexBuilder;
use semver::Version;
use serde_json::{Value as Json, json};

use super::javascript;
use crate::flags::bucketing::{Algorithm, unleash_variant};
use crate::flags::context::parse_instant;

/// The features and segments that a server sends.
#[derive(Clone, Debug, Default)]
pub struct UnleashState {
    features: Vec<Json>,
    segments: Vec<Json>,
}

/// One request: Unleash's context, and what stands for chance and for the clock.
#[derive(Clone, Debug)]
pub struct UnleashRequest<'a> {
    pub context: &'a Json,
    /// From 0 to 1; used where a feature asks for chance.
    pub draw: f64,
    pub now: DateTime<Utc>,
}

impl UnleashState {
    pub fn read(body: &Json) -> Self {
        let list = |name: &str| {
            body.get(name)
                .and_then(Json::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let mut state = Self {
            features: list("features"),
            segments: list("segments"),
        };
        list("events").iter().for_each(|event| state.apply(event));
        state
    }

    pub fn features(&self) -> &[Json] {
        &self.features
    }

    pub fn is_enabled(&self, name: &str, request: &UnleashRequest<'_>) -> bool {
        self.feature(name).is_some_and(|feature| {
            self.is_on(feature, request)
                && items(&feature["dependencies"])
                    .iter()
                    .all(|parent| self.has(parent, request))
        })
    }

    /// The variant as the SDKs report it; `disabled` where there is none.
    pub fn variant(&self, name: &str, request: &UnleashRequest<'_>) -> Json {
        let is_enabled = self.is_enabled(name, request);
        let chosen = self
            .feature(name)
            .filter(|_| is_enabled)
            .and_then(|feature| self.chosen(feature, request));
        let Some(variant) = chosen else {
            return json!({"name": "disabled", "enabled": false, "feature_enabled": is_enabled});
        };
        let mut result = json!({"name": variant["name"], "enabled": true, "feature_enabled": true});
        if !variant["payload"].is_null() {
            result["payload"] = variant["payload"].clone();
        }
        result
    }

    /// One event of the delta API.
    fn apply(&mut self, event: &Json) {
        match event["type"].as_str().unwrap_or_default() {
            "hydration" => {
                self.features = items(&event["features"]).to_vec();
                self.segments = items(&event["segments"]).to_vec();
            }
            "feature-updated" => replace(
                &mut self.features,
                "name",
                &event["feature"]["name"],
                Some(&event["feature"]),
            ),
            "feature-removed" => replace(&mut self.features, "name", &event["featureName"], None),
            "segment-updated" => replace(
                &mut self.segments,
                "id",
                &event["segment"]["id"],
                Some(&event["segment"]),
            ),
            "segment-removed" => replace(&mut self.segments, "id", &event["segmentId"], None),
            _ => {}
        }
    }

    fn feature(&self, name: &str) -> Option<&Json> {
        self.features
            .iter()
            .find(|feature| feature["name"].as_str() == Some(name))
    }

    /// The feature by itself: switched on, and some strategy agrees.
    fn is_on(&self, feature: &Json, request: &UnleashRequest<'_>) -> bool {
        let strategies = items(&feature["strategies"]);
        feature["enabled"] == json!(true)
            && (strategies.is_empty() || self.strategy(feature, request).is_some())
    }

    /// The first strategy that agrees.
    fn strategy<'a>(&self, feature: &'a Json, request: &UnleashRequest<'_>) -> Option<&'a Json> {
        items(&feature["strategies"])
            .iter()
            .find(|strategy| self.agrees(feature, strategy, request))
    }

    /// A parent must be on (or off, if so asked) and, if named, have one of the variants. Parents with parents are not
    /// supported by Unleash, which also ends circles.
    fn has(&self, wanted: &Json, request: &UnleashRequest<'_>) -> bool {
        let Some(parent) = wanted["feature"]
            .as_str()
            .and_then(|name| self.feature(name))
        else {
            return false;
        };
        if !items(&parent["dependencies"]).is_empty() {
            return false;
        }
        let is_on = self.is_on(parent, request);
        if wanted["enabled"] == json!(false) {
            return !is_on;
        }
        let variants = items(&wanted["variants"]);
        is_on
            && (variants.is_empty() || {
                let name = self
                    .chosen(parent, request)
                    .map_or(json!("disabled"), |variant| variant["name"].clone());
                variants.contains(&name)
            })
    }

    /// The variant of a feature that is on: of its strategy, or else its own.
    fn chosen<'a>(&self, feature: &'a Json, request: &UnleashRequest<'_>) -> Option<&'a Json> {
        let name = feature["name"].as_str().unwrap_or_default();
        let strategy = self.strategy(feature, request).unwrap_or(&Json::Null);
        let own = items(&strategy["variants"]);
        if own.is_empty() {
            let variants = items(&feature["variants"]);
            let stickiness = variants
                .first()
                .and_then(|variant| variant["stickiness"].as_str());
            return pick(variants, name, stickiness, request);
        }
        let parameter = |name: &str| strategy["parameters"][name].as_str();
        pick(
            own,
            parameter("groupId").unwrap_or(name),
            parameter("stickiness"),
            request,
        )
    }

    fn agrees(&self, feature: &Json, strategy: &Json, request: &UnleashRequest<'_>) -> bool {
        let segments: Option<Vec<&Json>> = items(&strategy["segments"])
            .iter()
            .map(|id| self.segments.iter().find(|segment| segment["id"] == *id))
            .collect();
        let Some(segments) = segments else {
            return false;
        };
        let shared = segments
            .into_iter()
            .flat_map(|segment| items(&segment["constraints"]));
        items(&strategy["constraints"])
            .iter()
            .chain(shared)
            .all(|constraint| meets(constraint, request))
            && activates(feature, strategy, request)
    }
}

fn replace(list: &mut Vec<Json>, key: &str, id: &Json, new: Option<&Json>) {
    list.retain(|item| item[key] != *id);
    list.extend(new.cloned());
}

/// What a strategy does apart from its constraints; one that is not known never agrees.
fn activates(feature: &Json, strategy: &Json, request: &UnleashRequest<'_>) -> bool {
    let parameters = &strategy["parameters"];
    let list = |name: &str| {
        parameters[name]
            .as_str()
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
    };
    let rolls = |percentage: &str, unit: Option<String>, group: Option<&str>| {
        let percentage = percentage_of(&parameters[percentage]);
        let bucket = unit.map(|unit| {
            Algorithm::MurmurUnleash
                .bucket(group.unwrap_or_default(), &unit)
                .index
                + 1
        });
        percentage
            .zip(bucket)
            .is_some_and(|(percentage, bucket)| f64::from(bucket) <= percentage)
    };
    let group = parameters["groupId"].as_str();
    match strategy["name"].as_str().unwrap_or_default() {
        "default" => true,
        "userWithId" => request
            .field("userId")
            .is_some_and(|user| list("userIds").any(|known| known == user)),
        "gradualRolloutUserId" => rolls("percentage", request.field("userId"), group),
        "gradualRolloutSessionId" => rolls("percentage", request.field("sessionId"), group),
        "gradualRolloutRandom" => percentage_of(&parameters["percentage"])
            .is_some_and(|percentage| request.draw * 100.0 < percentage),
        "flexibleRollout" => {
            let unit = request.sticky_value(parameters["stickiness"].as_str());
            rolls("rollout", unit, group.or_else(|| feature["name"].as_str()))
        }
        "remoteAddress" => request
            .field("remoteAddress")
            .is_some_and(|address| list("IPs").any(|range| is_in_network(&address, range))),
        _ => false,
    }
}

fn percentage_of(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// An override for this context, else by weight.
fn pick<'a>(
    variants: &'a [Json],
    group: &str,
    stickiness: Option<&str>,
    request: &UnleashRequest<'_>,
) -> Option<&'a Json> {
    if let Some(variant) = variants
        .iter()
        .find(|variant| is_overridden(variant, request))
    {
        return Some(variant);
    }
    let weight = |variant: &Json| variant["weight"].as_f64().unwrap_or(0.0).max(0.0) as u32;
    let total: u32 = variants.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let unit = request
        .sticky_value(stickiness)
        .unwrap_or_else(|| request.random_unit());
    let target = unleash_variant(group, &unit, total) + 1;
    let mut sum = 0;
    variants.iter().find(|variant| {
        sum += weight(variant);
        sum >= target
    })
}

fn is_overridden(variant: &Json, request: &UnleashRequest<'_>) -> bool {
    items(&variant["overrides"]).iter().any(|rule| {
        let value = rule["contextName"]
            .as_str()
            .and_then(|name| request.field(name));
        value.is_some_and(|value| items(&rule["values"]).contains(&json!(value)))
    })
}

impl UnleashRequest<'_> {
    /// A field of the context, or one of its properties; numbers and booleans as texts.
    fn field(&self, name: &str) -> Option<String> {
        let value = match &self.context[name] {
            Json::Null | Json::Object(_) | Json::Array(_) => &self.context["properties"][name],
            value => value,
        };
        match value {
            Json::Null | Json::Object(_) | Json::Array(_) => None,
            value => Some(javascript::text(value)),
        }
    }

    fn sticky_value(&self, stickiness: Option<&str>) -> Option<String> {
        match stickiness.unwrap_or("default") {
            "default" | "" => Some(
                self.field("userId")
                    .or_else(|| self.field("sessionId"))
                    .unwrap_or_else(|| self.random_unit()),
            ),
            "random" => Some(self.random_unit()),
            name => self.field(name),
        }
    }

    fn random_unit(&self) -> String {
        ((self.draw * 10_000.0) as u32).to_string()
    }
}

/// A constraint that cannot be read is never met, inverted or not.
fn meets(constraint: &Json, request: &UnleashRequest<'_>) -> bool {
    let is_inverted = constraint["inverted"] == json!(true);
    holds(constraint, request).is_some_and(|holds| holds != is_inverted)
}

fn holds(constraint: &Json, request: &UnleashRequest<'_>) -> Option<bool> {
    let name = constraint["contextName"].as_str()?;
    let operator = constraint["operator"].as_str()?;
    let value = request.field(name);
    let among = |value: &String| {
        items(&constraint["values"])
            .iter()
            .any(|item| item.as_str() == Some(value))
    };
    match operator {
        "IN" => Some(value.as_ref().is_some_and(among)),
        "NOT_IN" => Some(!value.as_ref().is_some_and(among)),
        "STR_STARTS_WITH" => Some(any_text(constraint, value, |text, part| {
            text.starts_with(part)
        })),
        "STR_ENDS_WITH" => Some(any_text(constraint, value, |text, part| {
            text.ends_with(part)
        })),
        "STR_CONTAINS" => Some(any_text(constraint, value, |text, part| {
            text.contains(part)
        })),
        "REGEX" => is_match(constraint, value),
        "IN_CIDR" => Some(value.is_some_and(|address| {
            items(&constraint["values"])
                .iter()
                .filter_map(Json::as_str)
                .any(|range| is_in_network(&address, range))
        })),
        _ => compared(
            operator,
            constraint["value"].as_str()?,
            name,
            value,
            request,
        ),
    }
}

/// Operators that compare with one value: a number, a date or a version.
fn compared(
    operator: &str,
    wanted: &str,
    name: &str,
    value: Option<String>,
    request: &UnleashRequest<'_>,
) -> Option<bool> {
    let (kind, comparison) = operator.split_once('_')?;
    let ordering = match kind {
        "NUM" => {
            let wanted: f64 = wanted.parse().ok()?;
            value.and_then(|value| value.parse::<f64>().ok()?.partial_cmp(&wanted))
        }
        "DATE" => {
            let wanted = parse_instant(wanted)?;
            let clock = (name == "currentTime").then_some(request.now);
            value
                .map_or(clock, |value| parse_instant(&value))
                .map(|instant| instant.cmp(&wanted))
        }
        "SEMVER" => {
            let wanted = Version::parse(wanted).ok()?;
            value
                .and_then(|value| Version::parse(&value).ok())
                .map(|version| version.cmp_precedence(&wanted))
        }
        _ => return None,
    };
    Some(match comparison {
        "EQ" => ordering.is_some_and(|order| order.is_eq()),
        "GT" | "AFTER" => ordering.is_some_and(|order| order.is_gt()),
        "GTE" => ordering.is_some_and(|order| order.is_ge()),
        "LT" | "BEFORE" => ordering.is_some_and(|order| order.is_lt()),
        "LTE" => ordering.is_some_and(|order| order.is_le()),
        _ => return None,
    })
}

fn any_text(constraint: &Json, value: Option<String>, holds: impl Fn(&str, &str) -> bool) -> bool {
    let ignores_case = constraint["caseInsensitive"] == json!(true);
    let fold = |text: &str| {
        if ignores_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    value.is_some_and(|value| {
        let parts = items(&constraint["values"]).iter().filter_map(Json::as_str);
        parts
            .into_iter()
            .any(|part| holds(&fold(&value), &fold(part)))
    })
}

fn is_match(constraint: &Json, value: Option<String>) -> Option<bool> {
    let regex = RegexBuilder::new(constraint["value"].as_str()?)
        .case_insensitive(constraint["caseInsensitive"] == json!(true))
        .size_limit(1 << 20)
        .build()
        .ok()?;
    Some(value.is_some_and(|value| regex.is_match(&value)))
}

/// An address in a range like `10.0.0.0/8`, or the same address.
fn is_in_network(address: &str, range: &str) -> bool {
    let (network, length) = range
        .split_once('/')
        .map_or((range, None), |(network, length)| (network, Some(length)));
    let (Ok(address), Ok(network)) = (address.parse::<IpAddr>(), network.parse::<IpAddr>()) else {
        return false;
    };
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (
            u128::from(address.to_bits()),
            u128::from(network.to_bits()),
            32,
        ),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let length = length.map_or(Some(width), |length| {
        length.parse::<u32>().ok().filter(|length| *length <= width)
    });
    length.is_some_and(|length| {
        let shift = width - length;
        length == 0 || address >> shift == network >> shift
    })
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}
