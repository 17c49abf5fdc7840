//! A flag set made ready to answer fast.
//! In: a checked set. Out: for every variant the JSON text of its value, for every instant the epoch it lies in. Immutable;
//! evaluating is left to `flags`, requests to [`super::ofrep`].

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::ServeConfig;
use super::definitions::Exports;
use crate::flags::FlagSet;
use crate::flags::set::{Flag, Period, ValueType, Variant};

/// What all requests are answered from.
pub struct Served {
    pub set: FlagSet,
    pub version: String,
    /// Seconds since 1970.
    pub loaded_at: i64,
    pub strict_reasons: bool,
    /// The documents other systems' SDKs poll, each with its ETag.
    pub exports: Exports,
    rendered: HashMap<Box<str>, Rendered>,
    /// Instants at which an answer may change though nothing was edited, ascending.
    boundaries: Vec<DateTime<Utc>>,
}

/// The constant parts of a flag's answers.
pub struct Rendered {
    /// `{"key":…,"value":…,"variant":…,"reason":"` for each variant.
    heads: Vec<String>,
    /// The same without a value: the client takes the one in its code. Python's provider reads `variant` nevertheless.
    code_default: String,
    /// `"name":value` of each metadata entry, separated by commas.
    pub metadata: String,
}

impl Served {
    /// Renders the constant parts.
    pub fn new(set: FlagSet, version: String, exports: Exports, config: &ServeConfig) -> Served {
        let rendered = set
            .flags
            .iter()
            .map(|flag| (flag.key.clone(), Rendered::new(flag)))
            .collect();
        let boundaries = boundaries(&set);
        let loaded_at = Utc::now().timestamp();
        Served {
            rendered,
            boundaries,
            loaded_at,
            set,
            version,
            exports,
            strict_reasons: config.strict_reasons,
        }
    }

    /// The constant parts of a flag of this set.
    pub fn rendered(&self, flag: &Flag) -> &Rendered {
        self.rendered
            .get(&flag.key)
            .expect("every flag of the set was rendered")
    }

    /// How many boundaries have passed: within one epoch equal contexts get equal answers.
    pub fn epoch(&self, now: DateTime<Utc>) -> usize {
        self.boundaries.partition_point(|boundary| *boundary <= now)
    }

    /// The next instant at which an answer may change.
    pub fn next_boundary(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.boundaries.get(self.epoch(now)).copied()
    }
}

impl Rendered {
    fn new(flag: &Flag) -> Rendered {
        let head = |variant: &Variant| {
            let (key, name) = (Value::from(&*flag.key), Value::from(&*variant.key));
            format!(
                r#"{{"key":{key},"value":{},"variant":{name},"reason":""#,
                value_text(flag.kind, &variant.value)
            )
        };
        let metadata: Vec<String> = flag
            .metadata
            .iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
            .collect();
        Rendered {
            heads: flag.variants.iter().map(head).collect(),
            code_default: format!(
                r#"{{"key":{},"variant":"","reason":""#,
                Value::from(&*flag.key)
            ),
            metadata: metadata.join(","),
        }
    }

    /// The text up to the reason, for a variant of this flag or for the value in the code.
    pub fn head(&self, flag: &Flag, variant: Option<&Variant>) -> &str {
        let Some(variant) = variant else {
            return &self.code_default;
        };
        let index = flag
            .variants
            .iter()
            .position(|other| std::ptr::eq(other, variant));
        &self.heads[index.expect("an evaluation answers with a variant of its flag")]
    }
}

/// Python's provider tells a float from an integer by the decimal point, so 1 of a float flag is `1.0`.
fn value_text(kind: ValueType, value: &Value) -> String {
    match (kind, value.as_f64()) {
        (ValueType::Float, Some(number)) => Value::from(number).to_string(),
        _ => value.to_string(),
    }
}

fn boundaries(set: &FlagSet) -> Vec<DateTime<Utc>> {
    let of = |period: &Period| {
        [period.from, period.to]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let allocations = set
        .experiments
        .iter()
        .flat_map(|experiment| experiment.allocations.iter().map(|one| one.valid_from));
    let slots = set
        .layers
        .iter()
        .flat_map(|layer| layer.slots.iter().flat_map(|slot| of(&slot.active)));
    let holdouts = set.holdouts.iter().flat_map(|holdout| of(&holdout.active));
    let rules = set
        .flags
        .iter()
        .flat_map(|flag| flag.rules.iter().flat_map(|rule| of(&rule.active)));
    let mut boundaries: Vec<_> = allocations
        .chain(slots)
        .chain(holdouts)
        .chain(rules)
        .collect();
    boundaries.sort_unstable();
    boundaries.dedup();
    boundaries
}

/// The document as a body, with the ETag of its content.
pub fn tagged(document: &Bytes) -> (Bytes, String) {
    (
        document.clone(),
        format!("\"{}\"", &blake3::hash(document).to_hex()[..32]),
    )
}
