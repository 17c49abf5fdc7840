//! A flag set made ready to answer fast.
//! In: a checked set. Out: for every evaluation the JSON text of its answer, for every instant the epoch it lies in. Evaluating is
//! left to `flags`, requests to [`super::ofrep`] and [`super::bulk`].

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::ServeConfig;
use super::answer::quoted;
use super::bulk::Counts;
use super::cache::Decisions;
use super::definitions::Exports;
use super::fragments::Fragments;
use crate::flags::set::{Flag, Period, ValueType, Variant};
use crate::flags::{self, Evaluation, FlagSet, Reason};

/// What all requests are answered from.
pub struct Served {
    pub set: FlagSet,
    pub version: String,
    /// Seconds since 1970.
    pub loaded_at: i64,
    pub strict_reasons: bool,
    /// The documents other systems' SDKs poll, each with its ETag.
    pub exports: Exports,
    /// The flags in order, as a bulk answer goes through them.
    pub parts: Vec<Part>,
    /// The texts of bulk answers.
    pub fragments: Fragments,
    /// What bulk answers were put together from lately.
    pub decisions: Decisions,
    rendered: HashMap<Box<str>, Rendered>,
    /// Instants at which an answer may change though nothing was edited, ascending.
    boundaries: Vec<DateTime<Utc>>,
}

/// A piece of a bulk answer.
pub enum Part {
    /// Consecutive flags whose answers depend on nothing, and what decided them.
    Constant {
        fragment: u32,
        reasons: Box<[(Reason, u64)]>,
    },
    /// The flag at this index.
    Flag(usize),
}

/// The constant parts of a flag's answers.
struct Rendered {
    /// `{"key":…,"value":…,"variant":…,"reason":"` for each variant.
    heads: Vec<String>,
    /// The same without a value: the client takes the one in its code. Python's provider reads `variant` nevertheless.
    code_default: String,
    /// `"name":value` of each metadata entry, separated by commas.
    metadata: String,
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
        let mut served = Served {
            parts: Vec::new(),
            fragments: Fragments::default(),
            decisions: Decisions::default(),
            rendered,
            boundaries,
            loaded_at,
            set,
            version,
            exports,
            strict_reasons: config.strict_reasons,
        };
        served.parts = parts(&served);
        served
    }

    /// Writes the answer of one flag. Python's provider reads key, variant and reason of every answer, so all are always there.
    pub fn write(&self, evaluation: &Evaluation<'_>, out: &mut String) {
        let rendered = self
            .rendered
            .get(&evaluation.flag.key)
            .expect("every flag of the set was rendered");
        out.push_str(rendered.head(evaluation.flag, evaluation.variant));
        out.push_str(reason_text(evaluation.reason, self.strict_reasons));
        out.push_str(r#"","metadata":{"#);
        out.push_str(&rendered.metadata);
        write_assignment(evaluation, !rendered.metadata.is_empty(), out);
        out.push_str("}}");
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
    fn head(&self, flag: &Flag, variant: Option<&Variant>) -> &str {
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

/// What a client needs to report an exposure: which experiment, by which allocation.
fn write_assignment(evaluation: &Evaluation<'_>, mut needs_comma: bool, out: &mut String) {
    let assignment = evaluation.assignment.as_ref();
    let parts = [
        (
            "experiment",
            assignment.and_then(|assignment| assignment.experiment),
        ),
        (
            "allocation",
            assignment.and_then(|assignment| assignment.allocation),
        ),
        ("rule", evaluation.rule),
    ];
    for (name, value) in parts {
        let Some(value) = value else {
            continue;
        };
        if std::mem::replace(&mut needs_comma, true) {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&quoted(value));
    }
}

/// OFREP 0.3.0 knows STATIC, TARGETING_MATCH, SPLIT, DISABLED and UNKNOWN; OpenFeature's own list has DEFAULT too, and the
/// clients take it.
fn reason_text(reason: Reason, is_strict: bool) -> &'static str {
    match reason.openfeature() {
        "DEFAULT" if is_strict => "UNKNOWN",
        other => other,
    }
}

/// Python's provider tells a float from an integer by the decimal point, so 1 of a float flag is `1.0`.
fn value_text(kind: ValueType, value: &Value) -> String {
    match (kind, value.as_f64()) {
        (ValueType::Float, Some(number)) => Value::from(number).to_string(),
        _ => value.to_string(),
    }
}

/// Flags that are disabled or have nothing to decide by give every context the same answer; neighbours become one text.
fn parts(served: &Served) -> Vec<Part> {
    let (context, now) = (served.set.schema.empty_context(), Utc::now());
    let mut parts = Vec::new();
    for (is_constant, run) in runs(&served.set.flags) {
        if !is_constant {
            parts.extend(run.map(Part::Flag));
            continue;
        }
        let evaluations: Vec<Evaluation<'_>> = run
            .map(|index| &served.set.flags[index])
            .filter_map(|flag| flags::evaluate(&served.set, &flag.key, &context, now).ok())
            .collect();
        let mut reasons = Counts::default();
        evaluations
            .iter()
            .for_each(|evaluation| reasons.add(evaluation.reason, 1));
        let fragment = served.fragments.add(|out| {
            for (index, evaluation) in evaluations.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                served.write(evaluation, out);
            }
        });
        parts.push(Part::Constant {
            fragment,
            reasons: reasons.finish(),
        });
    }
    parts
}

/// Runs of neighbours, each with whether they are constant.
fn runs(flags: &[Flag]) -> impl Iterator<Item = (bool, Range<usize>)> {
    let mut end = 0;
    flags
        .chunk_by(|one, next| is_constant(one) == is_constant(next))
        .map(move |run| {
            let start = end;
            end += run.len();
            (is_constant(&run[0]), start..end)
        })
}

fn is_constant(flag: &Flag) -> bool {
    let decides =
        !flag.prerequisites.is_empty() || !flag.forced.is_empty() || !flag.rules.is_empty();
    !flag.is_enabled || !decides
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
