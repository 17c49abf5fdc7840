//! Our flags in the formats of other systems, so that their SDKs give the same answers.
//! In: a checked set. Out: a JSON document and a report: a flag that a format cannot express exactly is left out and
//! named, with the reason, instead of being exported to something that answers otherwise.

mod condition;
mod flagd;
mod growthbook;
mod manifest;
mod pieces;
mod ufc;

pub use flagd::to_flagd;
pub use growthbook::to_growthbook;
pub use manifest::to_openfeature_manifest;
pub use ufc::to_ufc;

use serde_json::Value as Json;

use super::set::{Flag, FlagSet};

/// A document and what is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    pub document: Json,
    pub report: Vec<NotCarried>,
}

/// A flag that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried {
    pub flag: String,
    pub reason: String,
}

/// Why a flag cannot be exported.
type Refusal = String;

/// Exports flag by flag; what is refused goes into the report.
fn flags(
    set: &FlagSet,
    mut export: impl FnMut(&Flag) -> Result<Json, Refusal>,
) -> (serde_json::Map<String, Json>, Vec<NotCarried>) {
    let (mut flags, mut report) = (serde_json::Map::new(), Vec::new());
    for flag in &set.flags {
        match export(flag) {
            Ok(json) => {
                flags.insert(flag.key.to_string(), json);
            }
            Err(reason) => report.push(NotCarried {
                flag: flag.key.to_string(),
                reason,
            }),
        }
    }
    (flags, report)
}

/// Forced units by variant, in a fixed order.
fn forced(flag: &Flag) -> Vec<(usize, Vec<&str>)> {
    let mut forced: Vec<(usize, Vec<&str>)> = Vec::new();
    for variant in 0..flag.variants.len() {
        let mut units: Vec<&str> = flag
            .forced
            .iter()
            .filter(|(_, forced)| **forced == variant)
            .map(|(unit, _)| &**unit)
            .collect();
        units.sort_unstable();
        if !units.is_empty() {
            forced.push((variant, units));
        }
    }
    forced
}
