//! GrowthBook's hashes, ranges and namespaces, in its own fractions of one.

use crate::flags::bucketing::{Algorithm, growthbook_namespace};

/// A half-open range of fractions.
pub type Range = (f64, f64);

/// The fraction of a unit under a seed, or none for an unknown version of the hash.
pub fn hash(seed: &str, unit: &str, version: f64) -> Option<f64> {
    let algorithm = match version {
        1.0 => Algorithm::FnvGrowthbook1,
        2.0 => Algorithm::FnvGrowthbook2,
        _ => return None,
    };
    Some(algorithm.bucket(seed, unit).fraction())
}

/// Whether the unit is in the namespace's range.
pub fn in_namespace(unit: &str, name: &str, range: Range) -> bool {
    in_range(growthbook_namespace(name, unit).fraction(), range)
}

pub fn in_range(fraction: f64, range: Range) -> bool {
    fraction >= range.0 && fraction < range.1
}

/// The first range that has the fraction.
pub fn choose_variation(fraction: f64, ranges: &[Range]) -> Option<usize> {
    ranges.iter().position(|range| in_range(fraction, *range))
}

pub fn equal_weights(count: usize) -> Vec<f64> {
    vec![1.0 / count as f64; count]
}

/// One range for each variation, cut to the coverage; weights that do not add up to one become equal.
pub fn get_bucket_ranges(count: usize, coverage: f64, weights: Option<&[f64]>) -> Vec<Range> {
    let coverage = coverage.clamp(0.0, 1.0);
    let is_sound = |weights: &&[f64]| {
        let total: f64 = weights.iter().sum();
        weights.len() == count && (0.99..=1.01).contains(&total)
    };
    let weights = weights
        .filter(is_sound)
        .map_or_else(|| equal_weights(count), <[f64]>::to_vec);
    let mut start = 0.0;
    let range = |weight: f64| {
        let range = (start, start + coverage * weight);
        start += weight;
        range
    };
    weights.into_iter().map(range).collect()
}
