//! Experiments as they are delivered: their unit, layer, holdout and the history of their splits.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Duration;
use serde_saphyr::Spanned;

use super::places::{Place, Placed, place};
use super::splits::grown;
use super::{FlagSource, Resolver};
use crate::diagnostics::{Code, did_you_mean};
use crate::flags::bucketing::Algorithm;
use crate::flags::set::{Allocation, Experiment, Rebucket, Split};
use crate::flags::spec::{AllocationSpec, ExperimentSpec};

impl Resolver {
    /// Experiments without allocations are delivered by something else, and only analysed here.
    pub fn experiments(&mut self, source: &FlagSource) {
        for spec in &source.spec.experiments {
            let is_first =
                self.experiment_names.get(&spec.key.value) == Some(&place(&source.file, &spec.key));
            match spec.is_delivered() {
                true if is_first => self.experiment(&source.file, spec),
                true => {}
                false => self.without_allocations(&source.file, spec),
            }
        }
    }

    fn without_allocations(&mut self, file: &Arc<str>, spec: &ExperimentSpec) {
        let delivery = [
            ("layer", &spec.layer),
            ("holdout", &spec.holdout),
            ("sticky", &spec.sticky),
        ];
        for (key, value) in delivery {
            let Some(value) = value else { continue };
            let message = format!(
                "`{}` has a `{key}` but no `allocations`: nothing is delivered",
                spec.key.value
            );
            let hint = "add `allocations` beside it, or take it away";
            self.error(Code::E0604, &place(file, value), message, hint);
        }
    }

    fn experiment(&mut self, file: &Arc<str>, spec: &ExperimentSpec) {
        let unit = spec
            .unit
            .as_ref()
            .map_or(Some(0), |unit| self.unit(file, unit))
            .unwrap_or_default();
        let holdout = spec
            .holdout
            .as_ref()
            .and_then(|holdout| self.holdout(file, holdout, unit));
        let index = self.set.experiments.len();
        let variants = variant_names(spec);
        let allocations = self.allocations(file, index, spec, &variants);
        if let Some(layer) = &spec.layer {
            let placed = Placed {
                value: layer.value.clone(),
                place: place(file, layer),
            };
            self.experiment_layers
                .insert(spec.key.value.clone(), placed);
        }
        if allocations.is_empty() {
            return;
        }
        self.experiment_index.insert(spec.key.value.clone(), index);
        let is_sticky = self.is_sticky(file, spec.sticky.as_ref());
        self.set.experiments.push(Experiment {
            key: spec.key.value.as_str().into(),
            unit,
            layer: None,
            holdout,
            is_sticky,
            variants: variants.into_iter().map(Box::from).collect(),
            allocations,
        });
    }

    fn holdout(&mut self, file: &Arc<str>, name: &Spanned<String>, unit: usize) -> Option<usize> {
        let Some(index) = self.holdout_index.get(&name.value).copied() else {
            let hint = did_you_mean(&name.value, self.holdout_names.keys().map(String::as_str));
            self.error(
                Code::E0207,
                &place(file, name),
                format!("unknown holdout `{}`", name.value),
                hint,
            );
            return None;
        };
        if self.set.holdouts[index].unit != unit {
            let message = format!(
                "the holdout `{}` holds out another unit than the experiment assigns",
                name.value
            );
            self.error(
                Code::E0604,
                &place(file, name),
                message,
                "use a holdout of the same unit",
            );
        }
        Some(index)
    }

    fn is_sticky(&mut self, file: &Arc<str>, spec: Option<&Spanned<String>>) -> bool {
        match spec.map(|sticky| (sticky, sticky.value.as_str())) {
            None | Some((_, "none")) => false,
            Some((_, "first_assignment")) => true,
            Some((sticky, other)) => {
                let message = format!("`sticky` cannot be `{other}`");
                self.error(
                    Code::E0106,
                    &place(file, sticky),
                    message,
                    "write `none` or `first_assignment`",
                );
                false
            }
        }
    }

    fn allocations(
        &mut self,
        file: &Arc<str>,
        experiment: usize,
        spec: &ExperimentSpec,
        variants: &[&str],
    ) -> Vec<Allocation> {
        let mut allocations: Vec<Allocation> = Vec::new();
        let mut places: HashMap<&str, Place> = HashMap::new();
        for allocation in &spec.allocations {
            let at = place(file, &allocation.id);
            if places.insert(&allocation.id.value, at.clone()).is_some() {
                let message = format!("two allocations are named `{}`", allocation.id.value);
                self.error(
                    Code::E0201,
                    &at,
                    message,
                    "give every allocation its own id",
                );
                continue;
            }
            for step in self.allocation(file, allocation, &allocations, variants) {
                self.allocation_places
                    .insert((experiment, allocations.len()), at.clone());
                allocations.push(step);
            }
        }
        allocations
    }

    /// One allocation, or the steps of its ramp.
    fn allocation(
        &mut self,
        file: &Arc<str>,
        spec: &AllocationSpec,
        earlier: &[Allocation],
        variants: &[&str],
    ) -> Vec<Allocation> {
        let base = spec
            .extends
            .as_ref()
            .and_then(|id| self.base(file, id, earlier));
        let Some(valid_from) = self.instant(file, &spec.valid_from) else {
            return Vec::new();
        };
        let Some((algorithm, salt, buckets)) = self.hashing(file, spec, base) else {
            return Vec::new();
        };
        let rebucket = self.rebucket(file, spec.rebucket.as_ref());
        let phase =
            earlier.last().map_or(0, |last| last.phase) + u32::from(rebucket != Rebucket::Forbid);
        let start = base.map_or_else(
            || Split {
                buckets,
                ranges: Vec::new(),
            },
            |base| base.split.clone(),
        );
        let splits = self.splits(file, spec, start, buckets, variants);
        let every = spec
            .every
            .as_ref()
            .and_then(|every| self.duration(file, every))
            .unwrap_or(Duration::zero());
        let is_ramp = splits.len() > 1;
        let mut extends = spec.extends.as_ref().map(|id| Box::from(id.value.as_str()));
        let mut rebucket = Some(rebucket);
        splits
            .into_iter()
            .enumerate()
            .map(|(step, split)| {
                let id: Box<str> = match is_ramp {
                    true => format!("{}.{}", spec.id.value, step + 1).into(),
                    false => spec.id.value.as_str().into(),
                };
                Allocation {
                    extends: extends.replace(id.clone()),
                    id,
                    valid_from: valid_from + every * i32::try_from(step).unwrap_or(i32::MAX),
                    algorithm,
                    salt: salt.clone(),
                    split,
                    rebucket: rebucket.take().unwrap_or(Rebucket::Forbid),
                    phase,
                }
            })
            .collect()
    }

    fn base<'a>(
        &mut self,
        file: &Arc<str>,
        id: &Spanned<String>,
        earlier: &'a [Allocation],
    ) -> Option<&'a Allocation> {
        // A ramp is extended by its last step.
        let prefix = format!("{}.", id.value);
        let found = earlier
            .iter()
            .rev()
            .find(|known| *known.id == *id.value || is_step(&known.id, &prefix));
        if found.is_none() {
            let hint = did_you_mean(&id.value, earlier.iter().map(|allocation| &*allocation.id));
            self.error(
                Code::E0207,
                &place(file, id),
                format!("no earlier allocation is named `{}`", id.value),
                hint,
            );
        }
        found
    }

    /// Algorithm, salt and number of buckets: stated, or those of the allocation that is extended.
    fn hashing(
        &mut self,
        file: &Arc<str>,
        spec: &AllocationSpec,
        base: Option<&Allocation>,
    ) -> Option<(Algorithm, Box<str>, u32)> {
        let algorithm = match (&spec.algorithm, base) {
            (None, Some(base)) => base.algorithm,
            (stated, _) => self.algorithm(file, stated.as_ref()),
        };
        let buckets = match (&spec.buckets, base) {
            (None, Some(base)) => base.split.buckets,
            (stated, _) => self.buckets(file, algorithm, stated.as_ref()),
        };
        match (&spec.salt, base) {
            (Some(salt), _) => Some((algorithm, salt.value.as_str().into(), buckets)),
            (None, Some(base)) => Some((algorithm, base.salt.clone(), buckets)),
            (None, None) => {
                let message = format!("the allocation `{}` has no salt", spec.id.value);
                let hint = "give it a `salt` of its own, or let it extend an earlier allocation";
                self.error(Code::E0105, &place(file, &spec.id), message, hint);
                None
            }
        }
    }

    /// The split, or one for each step of the ramp, each grown from the one before.
    fn splits(
        &mut self,
        file: &Arc<str>,
        spec: &AllocationSpec,
        start: Split,
        buckets: u32,
        variants: &[&str],
    ) -> Vec<Split> {
        let at = place(file, &spec.id);
        if let Some(ramp) = &spec.ramp
            && ramp.value.len() > 1
            && spec.every.is_none()
        {
            let hint = "say how long a step lasts, for example `every: 3d`";
            self.error(
                Code::E0105,
                &place(file, ramp),
                "a ramp of several steps has no `every`",
                hint,
            );
        }
        match (&spec.split, &spec.weights) {
            (Some(split), None) if spec.ramp.is_none() && spec.percent.is_none() => {
                vec![self.written_split(file, buckets, split, variants)]
            }
            (None, Some(weights)) => {
                let percentages = self.percentages(file, spec);
                let Some(shares) = self.shares(file, weights, variants) else {
                    return Vec::new();
                };
                let grow = |split: &mut Split, fraction: f64| {
                    *split = grown(split, fraction, &shares);
                    Some(split.clone())
                };
                percentages.into_iter().scan(start, grow).collect()
            }
            _ => {
                let message = format!(
                    "the allocation `{}` says in no single way how to split",
                    spec.id.value
                );
                let hint = "give it `split`, or `weights` with `percent` or `ramp`";
                self.error(Code::E0606, &at, message, hint);
                Vec::new()
            }
        }
    }

    /// The fractions of all buckets to grow to.
    fn percentages(&mut self, file: &Arc<str>, spec: &AllocationSpec) -> Vec<f64> {
        let stated: Vec<(Place, f64)> = match (&spec.ramp, &spec.percent) {
            (Some(ramp), _) => ramp
                .value
                .iter()
                .map(|percent| (place(file, ramp), *percent))
                .collect(),
            (None, Some(percent)) => vec![(place(file, percent), percent.value)],
            (None, None) => vec![(place(file, &spec.id), 100.0)],
        };
        if let Some(falling) = stated.windows(2).find(|pair| pair[1].1 <= pair[0].1) {
            let message = format!(
                "the ramp goes from {} to {} percent",
                falling[0].1, falling[1].1
            );
            self.error(
                Code::E0606,
                &falling[1].0,
                message,
                "a ramp only grows; to shrink, add an allocation",
            );
        }
        stated
            .iter()
            .filter_map(|(at, percent)| self.percentage(at, *percent))
            .collect()
    }

    fn rebucket(&mut self, file: &Arc<str>, spec: Option<&Spanned<String>>) -> Rebucket {
        let Some(spec) = spec else {
            return Rebucket::Forbid;
        };
        let reason = spec
            .value
            .strip_prefix("allow(")
            .and_then(|rest| rest.strip_suffix(')'))
            .map(str::trim);
        match (spec.value.as_str(), reason) {
            ("forbid", _) => Rebucket::Forbid,
            (_, Some(reason)) if !reason.is_empty() => Rebucket::Allow {
                reason: reason.into(),
            },
            (other, _) => {
                let message = format!("`rebucket` cannot be `{other}`");
                self.error(
                    Code::E0106,
                    &place(file, spec),
                    message,
                    "write `forbid` or `allow(reason)`",
                );
                Rebucket::Forbid
            }
        }
    }
}

fn is_step(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The variants of an experiment are those of its allocations, in the order of their first mention.
fn variant_names(spec: &ExperimentSpec) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for allocation in &spec.allocations {
        let split = allocation.split.iter().flat_map(|split| split.keys());
        let weights = allocation.weights.iter().flat_map(|weights| weights.keys());
        for name in split.chain(weights) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}
