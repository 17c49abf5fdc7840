//! `flag eval`: the served evaluation of one flag, step by step.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::super::{Common, Exit, OutputFormat, output};
use super::wrong;
use crate::diagnostics::did_you_mean;
use crate::flags::targeting::Explanation;
use crate::flags::{Assignment, Evaluation, EvaluationError, FlagSet, Step, evaluate_traced};

pub fn run(
    common: &Common,
    set: &FlagSet,
    key: &str,
    context: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Exit> {
    let request = match serde_json::from_str(context) {
        Ok(Json::Object(request)) => request,
        Ok(_) => {
            return wrong(
                "`--context` must be a JSON object, such as '{\"targetingKey\": \"u1\"}'",
            );
        }
        Err(error) => return wrong(&format!("`--context` is no JSON: {error}")),
    };
    let context = match set.schema.context(&request) {
        Ok(context) => context,
        Err(error) => return wrong(&format!("`--context`: {error}")),
    };
    let mut steps: Vec<Step> = Vec::new();
    match evaluate_traced(set, key, &context, now, &mut steps) {
        Ok(answer) => {
            let text = match common.output {
                OutputFormat::Json => format!("{:#}\n", answer_json(&answer, &steps)),
                _ => answer_text(&answer, &steps),
            };
            output::print(&text)?;
            Ok(Exit::Good)
        }
        Err(EvaluationError::FlagNotFound) => {
            let known = set.flags.iter().map(|flag| &*flag.key);
            wrong(&format!(
                "there is no flag `{key}`: {}",
                did_you_mean(key, known)
            ))
        }
        Err(EvaluationError::TargetingKeyMissing { unit }) => {
            output::print(&steps_text(&steps))?;
            let first = set.schema.kinds().first().map(|kind| &*kind.unit);
            let name = if first == Some(unit) {
                "targetingKey"
            } else {
                unit
            };
            wrong(&format!(
                "the flag splits by `{unit}`, which the context does not have: add `\"{name}\": \"...\"`"
            ))
        }
    }
}

fn answer_text(answer: &Evaluation<'_>, steps: &[Step]) -> String {
    let variant = match answer.variant {
        Some(variant) => format!("{} = {}", variant.key, variant.value),
        None => "the value in the code".to_owned(),
    };
    let (code, word) = (answer.reason.code(), answer.reason.openfeature());
    steps_text(steps) + &format!("{:<12} {variant} ({code}, {word})\n", "answer")
}

fn steps_text(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        text += &format!("{:<12} {}: {}\n", step.name, step.subject, step.outcome);
        let parts = step.predicate.iter();
        parts.for_each(|part| part_text(part, 1, &mut text));
    }
    text
}

fn part_text(part: &Explanation, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    *text += &format!("{:12} {indent}{} -> {}\n", "", part.sql, part.result);
    part.parts
        .iter()
        .for_each(|part| part_text(part, depth + 1, text));
}

fn answer_json(answer: &Evaluation<'_>, steps: &[Step]) -> Json {
    let step = |step: &Step| {
        let condition = step.predicate.as_ref().map(part_json);
        json!({"step": step.name, "subject": step.subject, "outcome": step.outcome, "condition": condition})
    };
    json!({
        "key": answer.flag.key,
        "value": answer.value(),
        "variant": answer.variant.map(|variant| &variant.key),
        "reason": answer.reason.openfeature(),
        "reason_code": answer.reason.code(),
        "rule_id": answer.rule,
        "assignment": answer.assignment.as_ref().map(assignment_json),
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn part_json(part: &Explanation) -> Json {
    let parts: Vec<Json> = part.parts.iter().map(part_json).collect();
    json!({"sql": part.sql, "result": part.result, "parts": parts})
}

/// The columns of the assignment log.
fn assignment_json(assignment: &Assignment<'_>) -> Json {
    json!({
        "unit_type": assignment.unit_type,
        "unit_id": assignment.unit,
        "experiment_key": assignment.experiment,
        "allocation_id": assignment.allocation,
        "algorithm": assignment.algorithm.map(|algorithm| algorithm.id()),
        "salt": assignment.salt,
        "bucket": assignment.bucket.map(|bucket| bucket.index),
        "layer_key": assignment.layer.map(|layer| layer.0),
        "layer_bucket": assignment.layer.map(|layer| layer.1.index),
        "holdout_key": assignment.holdout.map(|holdout| holdout.key),
        "variant": assignment.variant,
        "is_override": assignment.is_override,
        "is_sticky": assignment.is_sticky,
    })
}
