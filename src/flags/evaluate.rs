//! Evaluates one flag for one unit at one instant.
//! The order is fixed: state, prerequisites, forced units, then rule by rule its predicate, holdout, layer slot and
//! allocation, at last the default. Every step that decides is in the answer. Nothing is allocated on the way.

use std::cell::Cell;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::bucketing::{Algorithm, Bucket};
use super::context::{Context, ContextKind};
use super::set::{
    Allocation, Experiment, Flag, FlagSet, HELD_OUT, MEASURED, Outcome, Prerequisite, Rollout,
    Rule, Variant,
};
use super::targeting::Predicate;
use super::trace::{Step, Trace};

/// What the flag says, and everything that decided it.
///
/// # Errors
/// The flag does not exist, or a split was reached and the context has no identifier to split by.
pub fn evaluate<'a>(
    set: &'a FlagSet,
    key: &str,
    context: &'a Context,
    now: DateTime<Utc>,
) -> Result<Evaluation<'a>, EvaluationError<'a>> {
    evaluate_traced(set, key, context, now, &mut ())
}

/// The same for a flag of the set.
///
/// # Errors
/// A split was reached and the context has no identifier to split by.
pub fn evaluate_flag<'a>(
    set: &'a FlagSet,
    flag: &'a Flag,
    context: &'a Context,
    now: DateTime<Utc>,
) -> Result<Evaluation<'a>, EvaluationError<'a>> {
    Evaluator {
        set,
        context,
        now,
        known: &[],
    }
    .flag(flag, &mut ())
}

/// Evaluates many flags for one context: a condition that several rules have is evaluated once.
pub struct Evaluations<'a> {
    set: &'a FlagSet,
    context: &'a Context,
    now: DateTime<Utc>,
    known: Vec<Cell<Option<bool>>>,
}

impl<'a> Evaluations<'a> {
    pub fn new(set: &'a FlagSet, context: &'a Context, now: DateTime<Utc>) -> Self {
        Self {
            set,
            context,
            now,
            known: vec![Cell::new(None); set.predicates],
        }
    }

    /// As [`evaluate_flag`].
    ///
    /// # Errors
    /// As [`evaluate_flag`].
    pub fn flag(&self, flag: &'a Flag) -> Result<Evaluation<'a>, EvaluationError<'a>> {
        let (set, context, now) = (self.set, self.context, self.now);
        Evaluator {
            set,
            context,
            now,
            known: &self.known,
        }
        .flag(flag, &mut ())
    }
}

/// The same, telling `trace` each step.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_traced<'a, T: Trace>(
    set: &'a FlagSet,
    key: &str,
    context: &'a Context,
    now: DateTime<Utc>,
    trace: &mut T,
) -> Result<Evaluation<'a>, EvaluationError<'a>> {
    let flag = set.flag(key).ok_or(EvaluationError::FlagNotFound)?;
    Evaluator {
        set,
        context,
        now,
        known: &[],
    }
    .flag(flag, trace)
}

/// The answer for one flag.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    pub flag: &'a Flag,
    /// Absent where the value in the code counts.
    pub variant: Option<&'a Variant>,
    pub reason: Reason,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// Present when a split or a forced unit decided, also for units that a holdout or a layer kept out.
    pub assignment: Option<Assignment<'a>>,
}

/// What put a unit where it is: enough to derive the variant again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment<'a> {
    pub unit_type: &'a str,
    pub unit: &'a str,
    pub experiment: Option<&'a str>,
    pub allocation: Option<&'a str>,
    pub algorithm: Option<Algorithm>,
    pub salt: Option<&'a str>,
    pub bucket: Option<Bucket>,
    pub layer: Option<(&'a str, Bucket)>,
    pub holdout: Option<HoldoutPart<'a>>,
    /// The experiment's own name of the variant; [`HOLDOUT_VARIANT`] for held-out units, none when not allocated.
    pub variant: Option<&'a str>,
    pub is_override: bool,
    pub is_sticky: bool,
}

/// The part of a holdout that the unit is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoldoutPart<'a> {
    pub key: &'a str,
    pub bucket: Bucket,
    pub is_held_out: bool,
    pub is_measured: bool,
}

/// The variant under which held-out units are logged.
pub const HOLDOUT_VARIANT: &str = "__holdout";

/// Which step decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Disabled,
    PrerequisiteFailed,
    ForcedUnit,
    ForcedRule,
    HeldOut,
    OutsideSlot,
    NotStarted,
    NotAllocated,
    Allocated,
    Sticky,
    RolledOut,
    /// The flag has no rules.
    Static,
    /// No rule matched.
    Default,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationError<'a> {
    FlagNotFound,
    /// The identifier of this kind of unit is missing.
    TargetingKeyMissing {
        unit: &'a str,
    },
}

impl<'a> Evaluation<'a> {
    /// The value; absent where the value in the code counts.
    pub fn value(&self) -> Option<&'a Json> {
        self.variant.map(|variant| &variant.value)
    }
}

impl Reason {
    /// The reason code that is logged.
    pub fn code(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::PrerequisiteFailed => "prerequisite_failed",
            Self::ForcedUnit => "forced_unit",
            Self::ForcedRule => "forced_rule",
            Self::HeldOut => "held_out",
            Self::OutsideSlot => "outside_slot",
            Self::NotStarted => "not_started",
            Self::NotAllocated => "not_allocated",
            Self::Allocated => "allocated",
            Self::Sticky => "sticky",
            Self::RolledOut => "rolled_out",
            Self::Static => "static",
            Self::Default => "default",
        }
    }

    /// OpenFeature's word for it.
    pub fn openfeature(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::ForcedUnit | Self::ForcedRule => "TARGETING_MATCH",
            Self::HeldOut | Self::Allocated | Self::Sticky | Self::RolledOut => "SPLIT",
            Self::Static => "STATIC",
            Self::PrerequisiteFailed
            | Self::OutsideSlot
            | Self::NotStarted
            | Self::NotAllocated
            | Self::Default => "DEFAULT",
        }
    }
}

struct Evaluator<'a, 'k> {
    set: &'a FlagSet,
    context: &'a Context,
    now: DateTime<Utc>,
    /// Which conditions hold, by their numbers; empty where each is asked for once.
    known: &'k [Cell<Option<bool>>],
}

/// Variant (an index), reason and assignment of a rule that decided.
type Decision<'a> = (Option<usize>, Reason, Option<Assignment<'a>>);

impl<'a> Evaluator<'a, '_> {
    fn flag<T: Trace>(
        &self,
        flag: &'a Flag,
        trace: &mut T,
    ) -> Result<Evaluation<'a>, EvaluationError<'a>> {
        trace.step(|| Step::state(flag));
        if !flag.is_enabled {
            return Ok(answer(flag, flag.default, Reason::Disabled, None, None));
        }
        for prerequisite in &flag.prerequisites {
            if !self.prerequisite(*prerequisite, trace)? {
                return Ok(answer(
                    flag,
                    flag.default,
                    Reason::PrerequisiteFailed,
                    None,
                    None,
                ));
            }
        }
        if let Some((variant, assignment)) = self.forced(flag) {
            trace.step(|| Step::forced(flag, &flag.variants[variant], assignment.unit));
            return Ok(answer(
                flag,
                Some(variant),
                Reason::ForcedUnit,
                None,
                Some(assignment),
            ));
        }
        for rule in &flag.rules {
            if let Some((variant, reason, assignment)) = self.rule(flag, rule, trace)? {
                return Ok(answer(flag, variant, reason, Some(&rule.id), assignment));
            }
        }
        let reason = if flag.rules.is_empty() {
            Reason::Static
        } else {
            Reason::Default
        };
        trace.step(|| Step::default(flag));
        Ok(answer(flag, flag.default, reason, None, None))
    }

    fn prerequisite<T: Trace>(
        &self,
        wanted: Prerequisite,
        trace: &mut T,
    ) -> Result<bool, EvaluationError<'a>> {
        let flag = &self.set.flags[wanted.flag];
        // Circles were refused when the set was made, so this ends.
        let found = self.flag(flag, &mut ())?;
        let wanted = &flag.variants[wanted.variant];
        trace.step(|| Step::prerequisite(flag, wanted, found.variant));
        Ok(found.variant == Some(wanted))
    }

    fn forced(&self, flag: &'a Flag) -> Option<(usize, Assignment<'a>)> {
        if flag.forced.is_empty() {
            return None;
        }
        self.set.schema.kinds().iter().find_map(|kind| {
            let unit = self.context.unit(kind)?;
            let variant = *flag.forced.get(unit)?;
            Some((
                variant,
                Assignment {
                    is_override: true,
                    ..Assignment::of(kind, unit)
                },
            ))
        })
    }

    fn rule<T: Trace>(
        &self,
        flag: &'a Flag,
        rule: &'a Rule,
        trace: &mut T,
    ) -> Result<Option<Decision<'a>>, EvaluationError<'a>> {
        let is_active = rule.active.contains(self.now);
        let matches = is_active && rule.when.as_ref().is_none_or(|when| self.matches(when));
        trace.step(|| Step::rule(rule, is_active, matches, self.context));
        if !matches {
            return Ok(None);
        }
        let (variant, reason, assignment) = match &rule.outcome {
            Outcome::Serve(variant) => (Some(*variant), Reason::ForcedRule, None),
            Outcome::Rollout(rollout) => self.rollout(flag, rollout, trace)?,
            Outcome::Experiment {
                experiment,
                variants,
            } => {
                let (variant, reason, assignment) = self.experiment(*experiment, trace)?;
                (
                    variant.map(|variant| variants[variant]),
                    reason,
                    Some(assignment),
                )
            }
        };
        Ok(match variant {
            Some(variant) => Some((Some(variant), reason, assignment)),
            None if rule.falls_through && reason != Reason::HeldOut => None,
            None => Some((flag.default, reason, assignment)),
        })
    }

    fn matches(&self, when: &Predicate) -> bool {
        let Some(known) = self.known.get(when.number()) else {
            return when.matches(self.context);
        };
        known.get().unwrap_or_else(|| {
            let matches = when.matches(self.context);
            known.set(Some(matches));
            matches
        })
    }

    fn rollout<T: Trace>(
        &self,
        flag: &'a Flag,
        rollout: &'a Rollout,
        trace: &mut T,
    ) -> Result<(Option<usize>, Reason, Option<Assignment<'a>>), EvaluationError<'a>> {
        let (kind, unit) = self.unit(rollout.unit)?;
        let bucket = rollout
            .algorithm
            .bucket_of(&rollout.salt, unit, rollout.split.buckets);
        let variant = rollout.split.target(bucket.index);
        trace.step(|| {
            Step::split(
                "rollout",
                &rollout.salt,
                bucket,
                variant.map(|index| &*flag.variants[index].key),
            )
        });
        let assignment = Assignment {
            algorithm: Some(rollout.algorithm),
            salt: Some(&rollout.salt),
            bucket: Some(bucket),
            variant: variant.map(|index| &*flag.variants[index].key),
            ..Assignment::of(kind, unit)
        };
        let reason = if variant.is_some() {
            Reason::RolledOut
        } else {
            Reason::NotAllocated
        };
        Ok((variant, reason, Some(assignment)))
    }

    fn experiment<T: Trace>(
        &self,
        index: usize,
        trace: &mut T,
    ) -> Result<(Option<usize>, Reason, Assignment<'a>), EvaluationError<'a>> {
        let experiment = &self.set.experiments[index];
        let (kind, unit) = self.unit(experiment.unit)?;
        let mut assignment = Assignment {
            experiment: Some(&experiment.key),
            ..Assignment::of(kind, unit)
        };
        assignment.holdout = self.holdout(experiment, unit, trace);
        if assignment
            .holdout
            .is_some_and(|holdout| holdout.is_held_out)
        {
            assignment.variant = Some(HOLDOUT_VARIANT);
            return Ok((None, Reason::HeldOut, assignment));
        }
        if !self.layer(index, experiment, unit, &mut assignment, trace) {
            return Ok((None, Reason::OutsideSlot, assignment));
        }
        let Some(allocation) = experiment.allocation(self.now) else {
            trace.step(|| Step::not_started(experiment));
            return Ok((None, Reason::NotStarted, assignment));
        };
        Ok(self.allocate(experiment, allocation, unit, assignment, trace))
    }

    fn holdout<T: Trace>(
        &self,
        experiment: &Experiment,
        unit: &str,
        trace: &mut T,
    ) -> Option<HoldoutPart<'a>> {
        let holdout = &self.set.holdouts[experiment.holdout?];
        if !holdout.active.contains(self.now) {
            return None;
        }
        let bucket = holdout
            .algorithm
            .bucket_of(&holdout.salt, unit, holdout.split.buckets);
        let part = holdout.split.target(bucket.index);
        trace.step(|| Step::holdout(holdout, bucket, part == Some(HELD_OUT)));
        Some(HoldoutPart {
            key: &holdout.key,
            bucket,
            is_held_out: part == Some(HELD_OUT),
            is_measured: part == Some(MEASURED),
        })
    }

    fn layer<T: Trace>(
        &self,
        index: usize,
        experiment: &Experiment,
        unit: &str,
        assignment: &mut Assignment<'a>,
        trace: &mut T,
    ) -> bool {
        let Some(layer) = experiment.layer.map(|layer| &self.set.layers[layer]) else {
            return true;
        };
        let bucket = layer.algorithm.bucket(&layer.salt, unit);
        assignment.layer = Some((&layer.key, bucket));
        let is_admitted = layer.admits(index, bucket, self.now);
        trace.step(|| Step::layer(layer, bucket, is_admitted));
        is_admitted
    }

    fn allocate<T: Trace>(
        &self,
        experiment: &'a Experiment,
        allocation: &'a Allocation,
        unit: &str,
        mut assignment: Assignment<'a>,
        trace: &mut T,
    ) -> (Option<usize>, Reason, Assignment<'a>) {
        let bucket =
            allocation
                .algorithm
                .bucket_of(&allocation.salt, unit, allocation.split.buckets);
        let pin = experiment
            .is_sticky
            .then(|| self.pinned(experiment, allocation, unit))
            .flatten();
        let (variant, reason, decided_by) = match pin {
            Some((variant, pinned)) => (Some(variant), Reason::Sticky, pinned),
            None => match allocation.split.target(bucket.index) {
                Some(variant) => (Some(variant), Reason::Allocated, allocation),
                None => (None, Reason::NotAllocated, allocation),
            },
        };
        assignment.allocation = Some(&decided_by.id);
        assignment.algorithm = Some(allocation.algorithm);
        assignment.salt = Some(&allocation.salt);
        assignment.bucket = Some(bucket);
        assignment.is_sticky = reason == Reason::Sticky;
        assignment.variant = variant.map(|index| &*experiment.variants[index]);
        trace.step(|| {
            Step::allocation(decided_by, bucket, assignment.variant, assignment.is_sticky)
        });
        (variant, reason, assignment)
    }

    /// The first assignment, unless a rebucketing since then began a new phase.
    fn pinned(
        &self,
        experiment: &'a Experiment,
        current: &Allocation,
        unit: &str,
    ) -> Option<(usize, &'a Allocation)> {
        let pin = self.set.pins.get(&experiment.key, unit)?;
        let pinned = experiment
            .allocation_by_id(&pin.allocation)
            .filter(|pinned| pinned.phase == current.phase)?;
        let variant = experiment
            .variants
            .iter()
            .position(|variant| *variant == pin.variant)?;
        Some((variant, pinned))
    }

    fn unit(&self, kind: usize) -> Result<(&'a ContextKind, &'a str), EvaluationError<'a>> {
        let kind = &self.set.schema.kinds()[kind];
        match self.context.unit(kind) {
            Some(unit) => Ok((kind, unit)),
            None => Err(EvaluationError::TargetingKeyMissing { unit: &kind.unit }),
        }
    }
}

impl<'a> Assignment<'a> {
    fn of(kind: &'a ContextKind, unit: &'a str) -> Self {
        Self {
            unit_type: &kind.name,
            unit,
            experiment: None,
            allocation: None,
            algorithm: None,
            salt: None,
            bucket: None,
            layer: None,
            holdout: None,
            variant: None,
            is_override: false,
            is_sticky: false,
        }
    }
}

fn answer<'a>(
    flag: &'a Flag,
    variant: Option<usize>,
    reason: Reason,
    rule: Option<&'a str>,
    assignment: Option<Assignment<'a>>,
) -> Evaluation<'a> {
    Evaluation {
        flag,
        variant: variant.map(|variant| &flag.variants[variant]),
        reason,
        rule,
        assignment,
    }
}
