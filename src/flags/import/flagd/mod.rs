//! flagd's flags (schema version 0) as flagd's in-process evaluators answer them.
//! In: the JSON of a flag set, a context, the version of `fractional`. Out: value, variant, reason or error code, and
//! metadata. The version matters: version 2 and version 3 put half of the units into different variants.

mod cbor;
mod fractional;
mod logic;

pub use fractional::FractionalVersion;

use serde_json::{Map, Value as Json, json};

use self::logic::Logic;
use crate::flags::set::ValueType;

/// A flag set, its shared evaluators put in place.
#[derive(Clone, Debug, Default)]
pub struct FlagdFlags {
    flags: Map<String, Json>,
    metadata: Map<String, Json>,
}

/// What is asked of a flag.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub flag: &'a str,
    pub kind: ValueType,
    /// The value in the code, given back where the flag has none.
    pub default: &'a Json,
    pub context: &'a Map<String, Json>,
    /// Seconds since 1970, which targeting may read.
    pub timestamp: i64,
}

/// The answer in OpenFeature's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    pub value: Json,
    pub variant: Option<String>,
    pub reason: &'static str,
    pub error: Option<&'static str>,
    pub metadata: Map<String, Json>,
}

impl FlagdFlags {
    /// Reads a flag set; `$ref` is replaced by the evaluator of that name where there is one.
    pub fn read(body: &Json) -> Self {
        let object = |name: &str| {
            body.get(name)
                .and_then(Json::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let evaluators = object("$evaluators");
        let mut flags = object("flags");
        flags
            .values_mut()
            .for_each(|flag| insert_references(flag, &evaluators));
        Self {
            flags,
            metadata: object("metadata"),
        }
    }

    pub fn flags(&self) -> &Map<String, Json> {
        &self.flags
    }

    pub fn evaluate(&self, request: &Request<'_>, version: FractionalVersion) -> Resolution {
        let flag = self.flags.get(request.flag);
        let mut metadata = self.metadata.clone();
        metadata.extend(
            flag.and_then(|flag| flag["metadata"].as_object())
                .cloned()
                .unwrap_or_default(),
        );
        let answer = flag.map_or(Err("FLAG_NOT_FOUND"), |flag| {
            resolve(flag, request, version)
        });
        match answer {
            Ok(Answer {
                value,
                variant,
                reason,
            }) => {
                let value = value.unwrap_or_else(|| request.default.clone());
                Resolution {
                    value,
                    variant,
                    reason,
                    error: None,
                    metadata,
                }
            }
            Err(error) => {
                let value = request.default.clone();
                Resolution {
                    value,
                    variant: None,
                    reason: "ERROR",
                    error: Some(error),
                    metadata,
                }
            }
        }
    }
}

/// No value is the value in the code.
struct Answer {
    value: Option<Json>,
    variant: Option<String>,
    reason: &'static str,
}

fn resolve(
    flag: &Json,
    request: &Request<'_>,
    version: FractionalVersion,
) -> Result<Answer, &'static str> {
    if flag["state"] == json!("DISABLED") {
        return Ok(Answer {
            value: None,
            variant: None,
            reason: "DISABLED",
        });
    }
    let (variant, reason) = match &flag["targeting"] {
        Json::Object(rule) if !rule.is_empty() => {
            match targeted(&flag["targeting"], request, version)? {
                Json::Null => (default_variant(flag), "DEFAULT"),
                chosen => (Some(variant_name(&chosen)), "TARGETING_MATCH"),
            }
        }
        Json::Null | Json::Object(_) => (default_variant(flag), "STATIC"),
        _ => return Err("PARSE_ERROR"),
    };
    let Some(variant) = variant else {
        return Ok(Answer {
            value: None,
            variant: None,
            reason: "DEFAULT",
        });
    };
    let value = flag["variants"].get(&variant).ok_or("GENERAL")?;
    if !has_type(request.kind, value) {
        return Err("TYPE_MISMATCH");
    }
    Ok(Answer {
        value: Some(value.clone()),
        variant: Some(variant),
        reason,
    })
}

fn targeted(
    rule: &Json,
    request: &Request<'_>,
    version: FractionalVersion,
) -> Result<Json, &'static str> {
    if !logic::is_known(rule) {
        return Err("PARSE_ERROR");
    }
    let mut data = request.context.clone();
    data.insert(
        "$flagd".into(),
        json!({"flagKey": request.flag, "timestamp": request.timestamp}),
    );
    let data = Json::Object(data);
    Ok(Logic {
        root: &data,
        version,
    }
    .apply(rule, &data))
}

/// Some files write the name of the field in snake case.
fn default_variant(flag: &Json) -> Option<String> {
    let stated = flag
        .get("defaultVariant")
        .or_else(|| flag.get("default_variant"))?;
    match stated {
        Json::Null => None,
        Json::String(name) if name.is_empty() => None,
        other => Some(variant_name(other)),
    }
}

fn variant_name(value: &Json) -> String {
    super::javascript::text(value)
}

/// A float may be written as a whole number, and a whole number as a float without a fraction.
fn has_type(kind: ValueType, value: &Json) -> bool {
    match kind {
        ValueType::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        kind => kind.accepts(value),
    }
}

fn insert_references(value: &mut Json, evaluators: &Map<String, Json>) {
    let evaluator = value
        .get("$ref")
        .and_then(Json::as_str)
        .and_then(|name| evaluators.get(name));
    if let Some(evaluator) = evaluator {
        *value = evaluator.clone();
        return;
    }
    match value {
        Json::Array(items) => items
            .iter_mut()
            .for_each(|item| insert_references(item, evaluators)),
        Json::Object(fields) => fields
            .values_mut()
            .for_each(|field| insert_references(field, evaluators)),
        _ => {}
    }
}
