//! What an edit of a split does to units, counted over all buckets and not sampled.
//! In: two splits and what decides the bucket under each. Out: how many buckets enter, leave and move, and between which
//! variants.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use super::super::bucketing::Algorithm;
use super::super::set::{Allocation, Experiment, Flag, Rollout, Split};

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

    /// The same for machines.
    pub fn to_json(&self) -> Json {
        let count = |count: f64| match self.is_rehashed {
            true => json!(count),
            false => json!(count as u64),
        };
        let counts = |counts: &[(Box<str>, f64)]| -> Map<String, Json> {
            let named = counts.iter();
            named
                .map(|(name, buckets)| (name.to_string(), count(*buckets)))
                .collect()
        };
        let moved: Vec<Json> = self
            .moved
            .iter()
            .map(|(from, to, buckets)| json!({"from": from, "to": to, "buckets": count(*buckets)}))
            .collect();
        json!({
            "buckets": self.buckets,
            "is_expected_value": self.is_rehashed,
            "moved": count(self.moved()),
            "entered": count(self.entered()),
            "left": count(self.left()),
            "kept": count(self.kept),
            "moves": moved,
            "enters": counts(&self.entered),
            "leaves": counts(&self.left),
        })
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

/// What changes when `after` follows `before`; variants are compared by name. Without a `before`, units only enter.
pub fn allocation_change(
    before: Option<(&Experiment, &Allocation)>,
    after: (&Experiment, &Allocation),
) -> SplitChange {
    let drawn = |(experiment, allocation): (&Experiment, &Allocation)| {
        let name = |target: usize| experiment.variants[target].clone();
        Drawn::new(
            allocation.algorithm,
            &allocation.salt,
            &allocation.split,
            name,
        )
    };
    split_change(before.map(drawn), drawn(after))
}

/// The same for a rollout, by the names of its flag's variants.
pub fn rollout_change(before: (&Flag, &Rollout), after: (&Flag, &Rollout)) -> SplitChange {
    let drawn = |(flag, rollout): (&Flag, &Rollout)| {
        let name = |target: usize| flag.variants[target].key.clone();
        Drawn::new(rollout.algorithm, &rollout.salt, &rollout.split, name)
    };
    split_change(Some(drawn(before)), drawn(after))
}

/// A split with names, and what decides the bucket that a unit has in it.
struct Drawn {
    hashing: (Algorithm, Box<str>, u32),
    /// Sorted, not overlapping.
    ranges: Vec<(u32, u32, Box<str>)>,
}

impl Drawn {
    fn new(
        algorithm: Algorithm,
        salt: &str,
        split: &Split,
        name: impl Fn(usize) -> Box<str>,
    ) -> Self {
        let range =
            |range: &super::super::set::SplitRange| (range.start, range.end, name(range.target));
        Self {
            hashing: (algorithm, salt.into(), split.buckets),
            ranges: split.ranges.iter().map(range).collect(),
        }
    }

    fn buckets(&self) -> u32 {
        self.hashing.2
    }

    fn variant(&self, bucket: u32) -> Option<&str> {
        let holds = |(start, end, _): &&(u32, u32, Box<str>)| (*start..*end).contains(&bucket);
        self.ranges.iter().find(holds).map(|(_, _, name)| &**name)
    }

    /// The share of each variant, and of none.
    fn shares(&self) -> Vec<(Option<&str>, f64)> {
        let mut rest = 1.0;
        let mut shares: Vec<(Option<&str>, f64)> = Vec::new();
        for (start, end, name) in &self.ranges {
            let share = f64::from(end - start) / f64::from(self.buckets());
            rest -= share;
            shares.push((Some(name), share));
        }
        shares.push((None, rest.max(0.0)));
        shares
    }
}

fn split_change(before: Option<Drawn>, after: Drawn) -> SplitChange {
    let is_rehashed = before
        .as_ref()
        .is_some_and(|before| before.hashing != after.hashing);
    let mut change = SplitChange {
        buckets: after.buckets(),
        is_rehashed,
        ..SplitChange::default()
    };
    match before {
        // Two independent draws: the expected number of units in each pair is the product of the shares.
        Some(before) if is_rehashed => {
            for (from, share) in before.shares() {
                for (to, other) in after.shares() {
                    change.add(from, to, share * other * f64::from(after.buckets()));
                }
            }
        }
        before => {
            let old = |bucket| before.as_ref().and_then(|before| before.variant(bucket));
            for (start, end) in segments(before.as_ref(), &after) {
                change.add(old(start), after.variant(start), f64::from(end - start));
            }
        }
    }
    change
}

/// The stretches of buckets on which neither split changes its variant.
fn segments(before: Option<&Drawn>, after: &Drawn) -> Vec<(u32, u32)> {
    let both = before.into_iter().chain([after]);
    let mut cuts: Vec<u32> = both
        .flat_map(|drawn| {
            drawn
                .ranges
                .iter()
                .flat_map(|(start, end, _)| [*start, *end])
        })
        .chain([0, after.buckets()])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

fn bump(counts: &mut Vec<(Box<str>, f64)>, name: &str, count: f64) {
    match counts.iter_mut().find(|(known, _)| **known == *name) {
        Some(known) => known.1 += count,
        None => counts.push((name.into(), count)),
    }
}
