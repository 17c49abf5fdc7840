//! flagd's `fractional`: integer weights over a 32-bit MurmurHash3.

use serde_json::Value as Json;

use super::cbor;
use crate::flags::bucketing::{Algorithm, Draw, hash::Murmur3};

/// The version of the hash's input. Version 2 hashes a text, version 3 the CBOR of any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FractionalVersion {
    Two,
    Three,
}

/// The variant of the unit, or null where the configuration or the unit is not usable.
pub fn fractional(arguments: &[Json], root: &Json, version: FractionalVersion) -> Json {
    choose(arguments, root, version).unwrap_or(Json::Null)
}

const MOST: u64 = i32::MAX as u64;

fn choose(arguments: &[Json], root: &Json, version: FractionalVersion) -> Option<Json> {
    let (first, rest) = arguments.split_first()?;
    let (draw, entries) = match (version, first) {
        (_, Json::Array(_)) => (shorthand(root, version)?, arguments),
        (_, Json::Null) => return None,
        (FractionalVersion::Two, Json::String(text)) => {
            (Algorithm::MurmurFlagd2.draw("", text), rest)
        }
        (FractionalVersion::Two, _) => return None,
        (FractionalVersion::Three, value) => (draw_value(value), rest),
    };
    let entries: Vec<(Json, u64)> = entries.iter().map(entry).collect::<Option<_>>()?;
    let total: u64 = entries.iter().map(|(_, weight)| weight).sum();
    if total == 0 || total > MOST {
        return None;
    }
    let bucket = u64::from(draw.cut(total as u32));
    let mut end = 0;
    entries.into_iter().find_map(|(variant, weight)| {
        end += weight;
        (bucket < end).then_some(variant)
    })
}

/// Without an expression to split by, units are split by flag and targeting key.
fn shorthand(root: &Json, version: FractionalVersion) -> Option<Draw> {
    let unit = root
        .get("targetingKey")?
        .as_str()
        .filter(|unit| !unit.is_empty())?;
    let flag = root["$flagd"]["flagKey"].as_str()?;
    let algorithm = match version {
        FractionalVersion::Two => Algorithm::MurmurFlagd2,
        FractionalVersion::Three => Algorithm::MurmurFlagd3,
    };
    Some(algorithm.draw(flag, unit))
}

fn draw_value(value: &Json) -> Draw {
    let mut hasher = Murmur3::new(0);
    hasher.update(&cbor::encode(value));
    Draw::Scaled(hasher.finish())
}

/// A variant and its weight, by default 1; a negative weight is 0, since it may come out of a calculation.
fn entry(entry: &Json) -> Option<(Json, u64)> {
    let (variant, weight) = match entry.as_array()?.as_slice() {
        [variant] => (variant, 1),
        [variant, weight] => (variant, whole(weight)?),
        _ => return None,
    };
    let is_variant = !variant.is_array() && !variant.is_object();
    is_variant.then(|| (variant.clone(), weight))
}

fn whole(weight: &Json) -> Option<u64> {
    let number = weight.as_f64().filter(|number| number.fract() == 0.0)?;
    Some(number.max(0.0) as u64)
}
