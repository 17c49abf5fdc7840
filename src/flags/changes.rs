//! What an edit does to units, counted over all buckets and not sampled.
//! In: two splits, or two sets of definitions. Out: how many buckets enter, leave and move, and between which variants.

use std::fmt;

use super::set::{Allocation, Experiment, FlagSet, Slot, Split};

/// The difference between two splits of one experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitChange {
    /// The number of buckets that the counts are out of.
    pub buckets: u32,
    /// Another algorithm, salt or number of buckets: every unit is drawn again, and the counts are expected values.
    pub is_rehashed: bool,
    pub entered: Vec<(Box<str>, f64)>,
    pub left: Vec<(Box<str>, f64)>,
    pub moved: Vec<(Box<str>, Box<str>, f64)>,
    pub kept: f64,
}

impl SplitChange {
    pub fn entered(&self) -> f64 {
        self.entered.iter().fold(0.0, |sum, (_, count)| sum + count)
    }

    pub fn left(&self) -> f64 {
        self.left.iter().fold(0.0, |sum, (_, count)| sum + count)
    }

    pub fn moved(&self) -> f64 {
        self.moved
            .iter()
            .fold(0.0, |sum, (_, _, count)| sum + count)
    }

    pub fn is_empty(&self) -> bool {
        self.entered() + self.left() + self.moved() == 0.0
    }

    /// Adds `count` buckets that were `before` and are `after`.
    fn add(&mut self, before: Option<&str>, after: Option<&str>, count: f64) {
        match (before, after) {
            _ if count == 0.0 => {}
            (None, None) => {}
            (Some(before), Some(after)) if before == after => self.kept += count,
            (None, Some(after)) => bump(&mut self.entered, after, count),
            (Some(before), None) => bump(&mut self.left, before, count),
            (Some(before), Some(after)) => match self
                .moved
                .iter_mut()
                .find(|(from, to, _)| **from == *before && **to == *after)
            {
                Some(known) => known.2 += count,
                None => self.moved.push((before.into(), after.into(), count)),
            },
        }
    }
}

impl fmt::Display for SplitChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.is_rehashed { "about " } else { "" };
        let (moved, entered, left) = (self.moved(), self.entered(), self.left());
        write!(
            formatter,
            "of {} buckets {about}{moved:.0} move, {about}{entered:.0} enter, {about}{left:.0} leave",
            self.buckets
        )?;
        for (from, to, count) in &self.moved {
            write!(formatter, "; {from} -> {to} {count:.0}")?;
        }
        Ok(())
    }
}

/// What changes when `after` follows `before`; variants are compared by name.
pub fn allocation_change(
    before: (&Experiment, &Allocation),
    after: (&Experiment, &Allocation),
) -> SplitChange {
    let ((old_experiment, old), (new_experiment, new)) = (before, after);
    let is_rehashed = old.algorithm != new.algorithm
        || old.salt != new.salt
        || old.split.buckets != new.split.buckets;
    let mut change = SplitChange {
        buckets: new.split.buckets,
        is_rehashed,
        ..SplitChange::default()
    };
    let old_name = |target: usize| &*old_experiment.variants[target];
    let new_name = |target: usize| &*new_experiment.variants[target];
    if is_rehashed {
        add_independent(
            &mut change,
            &shares(&old.split, old_name),
            &shares(&new.split, new_name),
        );
        return change;
    }
    for segment in segments(&old.split, &new.split) {
        let before = old.split.target(segment.0).map(old_name);
        let after = new.split.target(segment.0).map(new_name);
        change.add(before, after, f64::from(segment.1 - segment.0));
    }
    change
}

/// The difference between two sets, experiment by experiment, at their last allocations and layer slots.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentChange {
    pub experiment: Box<str>,
    pub kind: ChangeKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    Added,
    Removed,
    /// From one allocation to another, with the counts of their splits.
    Allocation {
        from: Box<str>,
        to: Box<str>,
        change: SplitChange,
    },
    /// Buckets of the layer that enter and leave the experiment's slot.
    Slot {
        layer: Box<str>,
        buckets: u32,
        entered: u32,
        left: u32,
    },
    /// The layer or the holdout is another one.
    Delivery {
        what: &'static str,
        from: Option<Box<str>>,
        to: Option<Box<str>>,
    },
}

impl fmt::Display for ExperimentChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.experiment;
        match &self.kind {
            ChangeKind::Added => write!(formatter, "`{key}` is new"),
            ChangeKind::Removed => write!(formatter, "`{key}` is gone"),
            ChangeKind::Allocation { from, to, change } => {
                write!(formatter, "`{key}`: from `{from}` to `{to}`, {change}")
            }
            ChangeKind::Slot {
                layer,
                buckets,
                entered,
                left,
            } => {
                write!(
                    formatter,
                    "`{key}`: of {buckets} buckets of the layer `{layer}` {entered} enter, {left} leave"
                )
            }
            ChangeKind::Delivery { what, from, to } => {
                let name = |name: &Option<Box<str>>| {
                    name.as_ref()
                        .map_or("none".to_owned(), |name| format!("`{name}`"))
                };
                write!(
                    formatter,
                    "`{key}`: the {what} was {} and is {}; every unit is drawn again",
                    name(from),
                    name(to)
                )
            }
        }
    }
}

/// What changes for units from one version of the definitions to the next.
pub fn changes(before: &FlagSet, after: &FlagSet) -> Vec<ExperimentChange> {
    let mut changes = Vec::new();
    for new in &after.experiments {
        let kinds = match before.experiments.iter().find(|old| old.key == new.key) {
            Some(old) => experiment_changes(before, old, after, new),
            None => vec![ChangeKind::Added],
        };
        changes.extend(kinds.into_iter().map(|kind| ExperimentChange {
            experiment: new.key.clone(),
            kind,
        }));
    }
    let is_gone = |old: &&Experiment| after.experiments.iter().all(|new| new.key != old.key);
    changes.extend(
        before
            .experiments
            .iter()
            .filter(is_gone)
            .map(|old| ExperimentChange {
                experiment: old.key.clone(),
                kind: ChangeKind::Removed,
            }),
    );
    changes
}

fn experiment_changes(
    before: &FlagSet,
    old: &Experiment,
    after: &FlagSet,
    new: &Experiment,
) -> Vec<ChangeKind> {
    let mut kinds = Vec::new();
    if let (Some(from), Some(to)) = (old.allocations.last(), new.allocations.last()) {
        let change = allocation_change((old, from), (new, to));
        if from.id != to.id || !change.is_empty() {
            kinds.push(ChangeKind::Allocation {
                from: from.id.clone(),
                to: to.id.clone(),
                change,
            });
        }
    }
    let layer = |set: &FlagSet, experiment: &Experiment| {
        experiment.layer.map(|layer| set.layers[layer].key.clone())
    };
    let holdout = |set: &FlagSet, experiment: &Experiment| {
        experiment
            .holdout
            .map(|holdout| set.holdouts[holdout].key.clone())
    };
    let (old_layer, new_layer) = (layer(before, old), layer(after, new));
    if old_layer != new_layer {
        kinds.push(ChangeKind::Delivery {
            what: "layer",
            from: old_layer,
            to: new_layer,
        });
    } else {
        kinds.extend(slot_change(before, old, after, new));
    }
    let (from, to) = (holdout(before, old), holdout(after, new));
    if from != to {
        kinds.push(ChangeKind::Delivery {
            what: "holdout",
            from,
            to,
        });
    }
    kinds
}

fn slot_change(
    before: &FlagSet,
    old: &Experiment,
    after: &FlagSet,
    new: &Experiment,
) -> Option<ChangeKind> {
    let (old_layer, new_layer) = (&before.layers[old.layer?], &after.layers[new.layer?]);
    let has = |set: &FlagSet, slots: &[Slot], key: &str, bucket: u32| {
        slots.iter().any(|slot| {
            *set.experiments[slot.experiment].key == *key
                && slot
                    .ranges
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&bucket))
        })
    };
    let (mut entered, mut left) = (0, 0);
    let buckets = new_layer.algorithm.buckets();
    for bucket in 0..buckets {
        let was = has(before, &old_layer.slots, &old.key, bucket);
        let is = has(after, &new_layer.slots, &new.key, bucket);
        entered += u32::from(is && !was);
        left += u32::from(was && !is);
    }
    (entered + left > 0).then(|| ChangeKind::Slot {
        layer: new_layer.key.clone(),
        buckets,
        entered,
        left,
    })
}

fn bump(counts: &mut Vec<(Box<str>, f64)>, name: &str, count: f64) {
    match counts.iter_mut().find(|(known, _)| **known == *name) {
        Some(known) => known.1 += count,
        None => counts.push((name.into(), count)),
    }
}

/// The stretches of buckets on which neither split changes its target.
fn segments(one: &Split, other: &Split) -> Vec<(u32, u32)> {
    let mut cuts: Vec<u32> = [one, other]
        .iter()
        .flat_map(|split| {
            split
                .ranges
                .iter()
                .flat_map(|range| [range.start, range.end])
        })
        .chain([0, one.buckets])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The share of each variant, and of none.
fn shares<'a>(split: &Split, name: impl Fn(usize) -> &'a str) -> Vec<(Option<&'a str>, f64)> {
    let mut shares: Vec<(Option<&str>, f64)> = Vec::new();
    let mut rest = 1.0;
    for range in &split.ranges {
        let share = f64::from(range.end - range.start) / f64::from(split.buckets);
        rest -= share;
        shares.push((Some(name(range.target)), share));
    }
    shares.push((None, rest.max(0.0)));
    shares
}

/// Two independent draws: the expected number of units in each pair is the product of the shares.
fn add_independent(
    change: &mut SplitChange,
    before: &[(Option<&str>, f64)],
    after: &[(Option<&str>, f64)],
) {
    for (from, share) in before {
        for (to, other) in after {
            change.add(*from, *to, share * other * f64::from(change.buckets));
        }
    }
}
