//! A flag set made ready to answer fast.
//! In: a checked set. Out: for every evaluation the JSON text of its answer, for every instant the epoch it lies in. Evaluating is
//! left to `flags`, requests to [`super::ofrep`] and [`super::bulk`].

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::{flag_error_text, quoted};
use super::answers::{Answers, Decision, Rendered};
use super::assignments::EventParts;
use super::bulk::Counts;
use super::cache::Decisions;
use super::definitions::Exports;
use super::ofrep::error_details;
use super::{ServeConfig, etag};
use crate::flags::set::{Flag, Period, ValueType, Variant};
use crate::flags::{self, Evaluation, EvaluationError, FlagSet, Reason};

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
    /// What bulk answers were put together from lately.
    pub decisions: Decisions,
    /// What ETags of bulk answers begin with.
    pub tag_seed: [u8; 32],
    /// By the index of the flag.
    answers: Vec<Answers>,
    /// Instants at which an answer may change though nothing was edited, ascending.
    boundaries: Vec<DateTime<Utc>>,
}

/// A piece of a bulk answer.
pub enum Part {
    /// Consecutive flags whose answers depend on nothing, and what decided them.
    Constant {
        text: Box<str>,
        reasons: Box<[(Reason, u64)]>,
    },
    /// The flag at this index.
    Flag(usize),
}

impl Served {
    /// Renders what depends on nothing.
    pub fn new(set: FlagSet, version: String, exports: Exports, config: &ServeConfig) -> Served {
        let mut served = Served {
            parts: Vec::new(),
            decisions: Decisions::default(),
            tag_seed: etag::seed(&version, config.strict_reasons),
            answers: set.flags.iter().map(|_| Answers::default()).collect(),
            boundaries: boundaries(&set),
            loaded_at: Utc::now().timestamp(),
            set,
            version,
            exports,
            strict_reasons: config.strict_reasons,
        };
        served.parts = parts(&served);
        served
    }

    /// What the flag at `index` answers, and the position of that among all it can answer.
    pub fn answer(&self, index: usize, evaluation: &Evaluation<'_>) -> (u32, &Rendered) {
        self.answers[index].find(Decision::of(evaluation), || Rendered {
            text: self.text(evaluation).into(),
            event: EventParts::of(evaluation, &self.version),
        })
    }

    /// The position of a flag's answer that it cannot be decided.
    pub fn error(&self, index: usize, error: &EvaluationError<'_>) -> u32 {
        let unit = match error {
            EvaluationError::TargetingKeyMissing { unit } => unit,
            EvaluationError::FlagNotFound => "",
        };
        let render = || {
            let key = &self.set.flags[index].key;
            let details = error_details(error);
            Rendered {
                text: flag_error_text(Some(key), "TARGETING_KEY_MISSING", &details).into(),
                event: None,
            }
        };
        self.answers[index]
            .find(Decision::without_unit(unit), render)
            .0
    }

    /// The texts at these positions, one for each of [`parts`](Self::parts), between `before` and `after`.
    pub fn join(&self, before: &str, positions: &[u32], after: &str) -> String {
        let texts = || {
            self.parts
                .iter()
                .zip(positions)
                .map(|(part, position)| self.text_of(part, *position))
        };
        let length: usize = texts().map(|text| text.len() + 1).sum();
        let mut joined = String::with_capacity(before.len() + length + after.len());
        joined.push_str(before);
        for (index, text) in texts().enumerate() {
            if index > 0 {
                joined.push(',');
            }
            joined.push_str(text);
        }
        joined.push_str(after);
        joined
    }

    fn text_of<'a>(&'a self, part: &'a Part, position: u32) -> &'a str {
        match part {
            Part::Constant { text, .. } => text,
            Part::Flag(index) => &self.answers[*index].at(position).text,
        }
    }

    /// The answer of one flag. Python's provider reads key, variant and reason of every answer, so all are always there.
    fn text(&self, evaluation: &Evaluation<'_>) -> String {
        let flag = evaluation.flag;
        let mut text = head(flag, evaluation.variant);
        text.push_str(reason_text(evaluation.reason, self.strict_reasons));
        text.push_str(r#"","metadata":{"#);
        let metadata = metadata(flag);
        text.push_str(&metadata);
        write_assignment(evaluation, !metadata.is_empty(), &mut text);
        text.push_str("}}");
        text
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

/// The answer up to its reason. Without a variant the client takes the value in its code; Python's provider reads `variant`
/// nevertheless.
fn head(flag: &Flag, variant: Option<&Variant>) -> String {
    let key = quoted(&flag.key);
    match variant {
        Some(variant) => format!(
            r#"{{"key":{key},"value":{},"variant":{},"reason":""#,
            value_text(flag.kind, &variant.value),
            quoted(&variant.key)
        ),
        None => format!(r#"{{"key":{key},"variant":"","reason":""#),
    }
}

/// `"name":value` of each of the flag's own entries, separated by commas.
fn metadata(flag: &Flag) -> String {
    let entries = flag.metadata.iter();
    let entries: Vec<String> = entries
        .map(|(name, value)| format!("{}:{value}", quoted(name)))
        .collect();
    entries.join(",")
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
            .filter_map(|flag| flags::evaluate_flag(&served.set, flag, &context, now).ok())
            .collect();
        let mut reasons = Counts::default();
        evaluations
            .iter()
            .for_each(|evaluation| reasons.add(evaluation.reason, 1));
        let texts: Vec<String> = evaluations.iter().map(|one| served.text(one)).collect();
        parts.push(Part::Constant {
            text: texts.join(",").into(),
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
