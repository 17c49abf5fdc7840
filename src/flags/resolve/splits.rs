//! Ranges of buckets: as written, or grown from percentages.

use std::sync::Arc;

use serde_saphyr::Spanned;

use super::Resolver;
use super::places::{Place, place};
use crate::diagnostics::Code;
use crate::flags::set::{Split, SplitRange};
use crate::flags::spec::{Ordered, Ranges};

impl Resolver {
    /// A split as written; targets are looked up in `names`.
    pub fn written_split(
        &mut self,
        file: &Arc<str>,
        buckets: u32,
        spec: &Ordered<Spanned<Ranges>>,
        names: &[&str],
    ) -> Split {
        let mut split = Split {
            buckets,
            ranges: Vec::new(),
        };
        for (name, ranges) in spec.iter() {
            let Some(target) = names.iter().position(|known| **known == name.value) else {
                let hint = crate::diagnostics::did_you_mean(&name.value, names.iter().copied());
                self.error(
                    Code::E0207,
                    &place(file, name),
                    format!("unknown variant `{}`", name.value),
                    hint,
                );
                continue;
            };
            self.add_ranges(&mut split, &place(file, ranges), &ranges.value, target);
        }
        split
    }

    /// Adds ranges that are inside the buckets and overlap nothing so far.
    pub fn add_ranges(
        &mut self,
        split: &mut Split,
        place: &Place,
        ranges: &[(u32, u32)],
        target: usize,
    ) {
        for &(start, end) in ranges {
            if start >= end || end > split.buckets {
                let message = format!("[{start}, {end}] is no range of {} buckets", split.buckets);
                let hint = format!(
                    "ranges are half-open: 0 <= start < end <= {}",
                    split.buckets
                );
                self.error(Code::E0606, place, message, hint);
                continue;
            }
            if let Some(other) = split
                .ranges
                .iter()
                .find(|other| other.start < end && start < other.end)
            {
                let message = format!("[{start}, {end}] overlaps [{}, {}]", other.start, other.end);
                self.error(
                    Code::E0606,
                    place,
                    message,
                    "a bucket can stand for one thing only",
                );
                continue;
            }
            split.ranges.push(SplitRange { start, end, target });
        }
        split.ranges.sort_unstable();
    }

    /// Weights as shares of one, all known and positive in sum.
    pub fn shares(
        &mut self,
        file: &Arc<str>,
        weights: &Ordered<Spanned<f64>>,
        names: &[&str],
    ) -> Option<Vec<f64>> {
        let mut shares = vec![0.0; names.len()];
        for (name, weight) in weights.iter() {
            let at = place(file, weight);
            let Some(target) = names.iter().position(|known| **known == name.value) else {
                let hint = crate::diagnostics::did_you_mean(&name.value, names.iter().copied());
                self.error(
                    Code::E0207,
                    &place(file, name),
                    format!("unknown variant `{}`", name.value),
                    hint,
                );
                continue;
            };
            if !(weight.value.is_finite() && weight.value >= 0.0) {
                self.error(
                    Code::E0603,
                    &at,
                    format!("the weight {} is no share", weight.value),
                    "weights are at least 0",
                );
                return None;
            }
            shares[target] = weight.value;
        }
        let sum: f64 = shares.iter().sum();
        let first = weights.iter().next();
        if sum <= 0.0 {
            if let Some((name, _)) = first {
                self.error(
                    Code::E0603,
                    &place(file, name),
                    "all weights are 0",
                    "give one variant a weight",
                );
            }
            return None;
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        Some(shares)
    }

    pub fn percentage(&mut self, place: &Place, percent: f64) -> Option<f64> {
        if (0.0..=100.0).contains(&percent) {
            return Some(percent / 100.0);
        }
        self.error(
            Code::E0603,
            place,
            format!("{percent} is no percentage"),
            "write a number from 0 to 100",
        );
        None
    }
}

/// Grows a split to a fraction of all buckets, shared out by weight. No bucket that is taken changes its target: each
/// target keeps what it has and takes the lowest free buckets, in the order of targets, so a ramp never moves a unit.
pub fn grown(base: &Split, fraction: f64, shares: &[f64]) -> Split {
    let mut owners = owners(base);
    let has = base.counts(shares.len());
    let mut free = (0..owners.len())
        .filter(|bucket| owners[*bucket].is_none())
        .collect::<Vec<_>>()
        .into_iter();
    for (target, wanted) in wanted_counts(base.buckets, fraction, shares)
        .into_iter()
        .enumerate()
    {
        let missing = wanted.saturating_sub(has[target]) as usize;
        for bucket in free.by_ref().take(missing) {
            owners[bucket] = Some(target);
        }
    }
    Split {
        buckets: base.buckets,
        ranges: ranges(&owners),
    }
}

/// The targets' bucket counts, rounded on running sums so that they add up to the rounded whole.
fn wanted_counts(buckets: u32, fraction: f64, shares: &[f64]) -> Vec<u32> {
    let whole = f64::from(buckets) * fraction;
    let mut sum = 0.0;
    let mut taken = 0;
    let count = |share: &f64| {
        sum += share;
        let upto = (whole * sum).round() as u32;
        let count = upto - taken;
        taken = upto;
        count
    };
    shares.iter().map(count).collect()
}

fn owners(split: &Split) -> Vec<Option<usize>> {
    let mut owners = vec![None; split.buckets as usize];
    for range in &split.ranges {
        owners[range.start as usize..range.end as usize].fill(Some(range.target));
    }
    owners
}

fn ranges(owners: &[Option<usize>]) -> Vec<SplitRange> {
    let mut ranges: Vec<SplitRange> = Vec::new();
    for (bucket, owner) in owners.iter().enumerate() {
        let (Some(target), bucket) = (*owner, bucket as u32) else {
            continue;
        };
        match ranges.last_mut() {
            Some(last) if last.end == bucket && last.target == target => last.end += 1,
            _ => ranges.push(SplitRange {
                start: bucket,
                end: bucket + 1,
                target,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_keeps_every_bucket_it_has() {
        let shares = [0.5, 0.3, 0.2];
        let mut split = Split {
            buckets: 10_000,
            ranges: Vec::new(),
        };
        for percent in [1.0, 5.0, 7.3, 25.0, 100.0] {
            let next = grown(&split, percent / 100.0, &shares);
            let kept = (0..10_000).filter(|bucket| split.target(*bucket).is_some());
            assert!(
                kept.into_iter()
                    .all(|bucket| next.target(bucket) == split.target(bucket))
            );
            split = next;
        }
        assert_eq!(split.counts(3), [5_000, 3_000, 2_000]);
    }
}
