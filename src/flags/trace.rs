//! The steps of one evaluation, for a person who asks why.
//! The evaluation tells each step to a [`Trace`]; the one that ignores them costs nothing, so the explained evaluation
//! is the served one.

use super::bucketing::Bucket;
use super::context::Context;
use super::set::{Allocation, Experiment, Flag, Holdout, Layer, Rule, Variant};
use super::targeting::Explanation;

/// Hears the steps of an evaluation.
pub trait Trace {
    fn step(&mut self, step: impl FnOnce() -> Step);
}

/// One step: what was looked at, what came of it, and for a predicate how its parts came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub name: &'static str,
    pub subject: String,
    pub outcome: String,
    pub predicate: Option<Explanation>,
}

impl Trace for () {
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}

impl Step {
    fn new(name: &'static str, subject: impl Into<String>, outcome: impl Into<String>) -> Self {
        Self {
            name,
            subject: subject.into(),
            outcome: outcome.into(),
            predicate: None,
        }
    }

    pub(super) fn state(flag: &Flag) -> Self {
        Self::new(
            "state",
            &*flag.key,
            if flag.is_enabled {
                "enabled"
            } else {
                "disabled"
            },
        )
    }

    pub(super) fn prerequisite(flag: &Flag, wanted: &Variant, found: Option<&Variant>) -> Self {
        let outcome = format!("wants `{}`, gives {}", wanted.key, default_words(found));
        Self::new("prerequisite", &*flag.key, outcome)
    }

    pub(super) fn forced(flag: &Flag, variant: &Variant, unit: &str) -> Self {
        Self::new(
            "forced",
            &*flag.key,
            format!("unit `{unit}` is forced to `{}`", variant.key),
        )
    }

    pub(super) fn rule(rule: &Rule, is_active: bool, matches: bool, context: &Context) -> Self {
        let outcome = match (is_active, matches) {
            (false, _) => "not active now",
            (true, false) => "does not match",
            (true, true) => "matches",
        };
        let predicate = rule.when.as_ref().map(|when| when.explain(context));
        Self {
            predicate,
            ..Self::new("rule", &*rule.id, outcome)
        }
    }

    pub(super) fn holdout(holdout: &Holdout, bucket: Bucket, is_held_out: bool) -> Self {
        let outcome = if is_held_out {
            "held out"
        } else {
            "not held out"
        };
        Self::new(
            "holdout",
            &*holdout.key,
            format!("bucket {} of {}: {outcome}", bucket.index, bucket.of),
        )
    }

    pub(super) fn layer(layer: &Layer, bucket: Bucket, is_admitted: bool) -> Self {
        let outcome = if is_admitted {
            "in the slot"
        } else {
            "outside the slot"
        };
        Self::new(
            "layer",
            &*layer.key,
            format!("bucket {} of {}: {outcome}", bucket.index, bucket.of),
        )
    }

    pub(super) fn not_started(experiment: &Experiment) -> Self {
        Self::new("allocation", &*experiment.key, "no allocation is valid yet")
    }

    pub(super) fn allocation(
        allocation: &Allocation,
        bucket: Bucket,
        variant: Option<&str>,
        is_sticky: bool,
    ) -> Self {
        let place = format!("{} with salt `{}`", allocation.algorithm, allocation.salt);
        let sticky = if is_sticky {
            ", kept from the first assignment"
        } else {
            ""
        };
        let outcome = format!("{place}: {}{sticky}", bucket_words(bucket, variant));
        Self::new("allocation", &*allocation.id, outcome)
    }

    pub(super) fn split(
        name: &'static str,
        salt: &str,
        bucket: Bucket,
        variant: Option<&str>,
    ) -> Self {
        Self::new(name, salt, bucket_words(bucket, variant))
    }

    pub(super) fn default(flag: &Flag) -> Self {
        Self::new("default", &*flag.key, default_words(flag.default_variant()))
    }
}

fn default_words(variant: Option<&Variant>) -> String {
    variant.map_or_else(
        || "the value in the code".to_owned(),
        |variant| format!("`{}`", variant.key),
    )
}

fn bucket_words(bucket: Bucket, variant: Option<&str>) -> String {
    let variant = variant.map_or_else(
        || "in no range".to_owned(),
        |variant| format!("`{variant}`"),
    );
    format!("bucket {} of {} is {variant}", bucket.index, bucket.of)
}
