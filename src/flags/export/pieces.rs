//! What an experiment or a rollout does, cut into pieces of time in which nothing changes.
//! In: a rule. Out: for each piece the ranges that give a variant, and the splits that a unit must pass before.

use chrono::{DateTime, Utc};

use crate::flags::bucketing::Algorithm;
use crate::flags::set::{Experiment, FlagSet, HELD_OUT, Outcome, Period, Rule, SplitRange};

/// A stretch of time with one behaviour.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    pub period: Period,
    /// The allocation in force, for the name of the piece; none for a rollout.
    pub name: Option<&'a str>,
    pub unit: usize,
    /// Splits that the unit must be in, such as a layer's slot or the outside of a holdout.
    pub gates: Vec<Gate<'a>>,
    /// The holdout of the piece: its units get the default.
    pub holdout: Option<Gate<'a>>,
    pub algorithm: Algorithm,
    pub salt: &'a str,
    pub buckets: u32,
    /// Over the variants of the flag.
    pub ranges: Vec<SplitRange>,
    pub is_logged: bool,
}

/// Ranges of a split.
#[derive(Clone, Debug)]
pub struct Gate<'a> {
    pub algorithm: Algorithm,
    pub salt: &'a str,
    pub buckets: u32,
    pub ranges: Vec<(u32, u32)>,
}

/// The pieces of a rule, earliest first; a rule that serves one variant has none.
pub fn pieces<'a>(set: &'a FlagSet, rule: &'a Rule) -> Vec<Piece<'a>> {
    match &rule.outcome {
        Outcome::Serve(_) => Vec::new(),
        Outcome::Rollout(rollout) => vec![Piece {
            period: rule.active,
            name: None,
            unit: rollout.unit,
            gates: Vec::new(),
            holdout: None,
            algorithm: rollout.algorithm,
            salt: &rollout.salt,
            buckets: rollout.split.buckets,
            ranges: rollout.split.joined().ranges,
            is_logged: false,
        }],
        Outcome::Experiment {
            experiment,
            variants,
        } => {
            let periods = periods(set, *experiment, rule.active);
            periods
                .into_iter()
                .filter_map(|period| piece(set, *experiment, variants, period))
                .collect()
        }
    }
}

/// The rule's period, cut wherever an allocation, a slot or the holdout starts or ends.
fn periods(set: &FlagSet, index: usize, whole: Period) -> Vec<Period> {
    let experiment = &set.experiments[index];
    let mut cuts: Vec<DateTime<Utc>> = experiment
        .allocations
        .iter()
        .map(|allocation| allocation.valid_from)
        .collect();
    let slots = slots(set, index).map(|slot| slot.active);
    let holdout = experiment
        .holdout
        .map(|holdout| set.holdouts[holdout].active);
    cuts.extend(
        slots
            .chain(holdout)
            .flat_map(|period| [period.from, period.to])
            .flatten(),
    );
    cuts.retain(|cut| whole.contains(*cut) && whole.from != Some(*cut));
    cuts.sort_unstable();
    cuts.dedup();
    let starts = std::iter::once(whole.from).chain(cuts.iter().copied().map(Some));
    let ends = cuts
        .iter()
        .copied()
        .map(Some)
        .chain(std::iter::once(whole.to));
    starts
        .zip(ends)
        .map(|(from, to)| Period { from, to })
        .collect()
}

fn slots(set: &FlagSet, index: usize) -> impl Iterator<Item = &crate::flags::set::Slot> {
    let layer = set.experiments[index].layer.map(|layer| &set.layers[layer]);
    layer
        .into_iter()
        .flat_map(|layer| &layer.slots)
        .filter(move |slot| slot.experiment == index)
}

/// Before the first allocation nobody gets a variant, but the holdout already counts.
fn piece<'a>(
    set: &'a FlagSet,
    index: usize,
    variants: &[usize],
    period: Period,
) -> Option<Piece<'a>> {
    let experiment: &Experiment = &set.experiments[index];
    let instant = period.from.unwrap_or(DateTime::<Utc>::MIN_UTC);
    let allocation = experiment.allocation(instant);
    let holdout = experiment
        .holdout
        .map(|holdout| &set.holdouts[holdout])
        .filter(|known| known.active.contains(instant));
    let holdout = holdout.map(|known| Gate {
        algorithm: known.algorithm,
        salt: &known.salt,
        buckets: known.split.buckets,
        ranges: known
            .split
            .ranges
            .iter()
            .filter(|range| range.target == HELD_OUT)
            .map(|range| (range.start, range.end))
            .collect(),
    });
    let mut gates: Vec<Gate<'a>> = holdout.iter().map(Gate::outside).collect();
    if let Some(layer) = experiment.layer.map(|layer| &set.layers[layer]) {
        let active = slots(set, index).filter(|slot| slot.active.contains(instant));
        let ranges = active.flat_map(|slot| slot.ranges.clone()).collect();
        gates.push(Gate {
            algorithm: layer.algorithm,
            salt: &layer.salt,
            buckets: layer.algorithm.buckets(),
            ranges,
        });
    }
    let shape = allocation.or(experiment.allocations.first())?;
    let ranges = allocation.map_or_else(Vec::new, |allocation| allocation.split.joined().ranges);
    let own = |range: SplitRange| SplitRange {
        target: variants[range.target],
        ..range
    };
    Some(Piece {
        period,
        name: Some(allocation.map_or("before", |allocation| &allocation.id)),
        unit: experiment.unit,
        gates,
        holdout,
        algorithm: shape.algorithm,
        salt: &shape.salt,
        buckets: shape.split.buckets,
        ranges: ranges.into_iter().map(own).collect(),
        is_logged: true,
    })
}

impl<'a> Gate<'a> {
    /// The other buckets.
    fn outside(&self) -> Gate<'a> {
        let mut ranges = Vec::new();
        let mut start = 0;
        let mut sorted = self.ranges.clone();
        sorted.sort_unstable();
        for (from, to) in sorted {
            if start < from {
                ranges.push((start, from));
            }
            start = to;
        }
        if start < self.buckets {
            ranges.push((start, self.buckets));
        }
        Gate {
            ranges,
            ..self.clone()
        }
    }
}
