//! A/A calibration: are p values uniform when nothing happened? In: p values, or units to re-randomise. Out: the false positive rate with
//! its exact band and the Kolmogorov-Smirnov test, as a build test would want them.

use super::beta;
use super::mean_tests::welch_t;
use super::random::{bits, uniform};
use super::record::{Number, finite, record};
use super::resampling::{MOST_REPLICATES, Unit};
use super::sample::{Sample, is_share};
use super::state::Accumulator;
use super::status::Status;

/// Judges p values of A/A comparisons: the share below alpha must lie in the exact binomial band of 99.9 %, and the distribution must not differ
/// from the uniform by Kolmogorov-Smirnov at 0.001. Both bands are wide on purpose: a build test must not cry wolf.
pub fn aa_calibration(p_values: &[f64], alpha: f64) -> Calibration {
    if !is_share(alpha) || !p_values.iter().all(|p| (0.0..=1.0).contains(p)) {
        return Calibration::empty(Status::InvalidInput);
    }
    if p_values.len() < 2 {
        return Calibration::empty(Status::InsufficientData);
    }
    const BAND: f64 = 0.001;
    let n = p_values.len() as f64;
    let positives = p_values.iter().filter(|p| **p <= alpha).count() as f64;
    let band_low = binomial_quantile(n, alpha, BAND / 2.0) / n;
    let band_high = binomial_quantile(n, alpha, 1.0 - BAND / 2.0) / n;
    let rate = positives / n;
    let ks = uniform_distance(p_values);
    let ks_p = kolmogorov_upper(ks * (n.sqrt() + 0.12 + 0.11 / n.sqrt()));
    Calibration {
        n: finite(n),
        false_positive_rate: finite(rate),
        band_low: finite(band_low),
        band_high: finite(band_high),
        ks: finite(ks),
        ks_p: finite(ks_p),
        calibrated: Some(rate >= band_low && rate <= band_high && ks_p >= BAND),
        status: Status::Ok,
    }
}

/// Re-randomises the units with `salts` different salts, the treatment getting `share` of them, and returns Welch's p of each comparison.
/// The same p values for any order of the units.
pub fn aa_p_values(units: &[Unit], salts: u32, seed: u64, share: f64) -> Vec<f64> {
    (0..u64::from(salts))
        .filter_map(|salt| resalted_p(units, seed, salt, share))
        .collect()
}

/// [`aa_p_values`] as a result.
pub fn aa_resalted(units: &[Unit], salts: u32, seed: u64, share: f64) -> ResaltedComparisons {
    let is_countable = (1..=MOST_REPLICATES).contains(&salts);
    if !is_share(share) || !is_countable || units.iter().any(|unit| !unit.value.is_finite()) {
        return ResaltedComparisons::empty(Status::InvalidInput);
    }
    let p_values = aa_p_values(units, salts, seed, share);
    let status = if p_values.is_empty() {
        Status::InsufficientData
    } else {
        Status::Ok
    };
    ResaltedComparisons { p_values, status }
}

record! {
    /// The p values of re-randomised comparisons.
    pub struct ResaltedComparisons {
        p_values: Vec<f64>,
    }
}

record! {
    /// A verdict on p values of A/A comparisons.
    pub struct Calibration {
        n: Number,
        false_positive_rate: Number,
        band_low: Number,
        band_high: Number,
        /// Largest distance of the distribution of p from the uniform.
        ks: Number,
        ks_p: Number,
        calibrated: Option<bool>,
    }
}

fn resalted_p(units: &[Unit], seed: u64, salt: u64, share: f64) -> Option<f64> {
    let (mut control, mut treatment) = (Accumulator::new(1), Accumulator::new(1));
    for unit in units {
        let arm = if uniform(bits(seed, unit.key, salt)) < share {
            &mut treatment
        } else {
            &mut control
        };
        arm.push(&[unit.value]);
    }
    let control = Sample::of_state(&control.finish(), 0).ok()?;
    let treatment = Sample::of_state(&treatment.finish(), 0).ok()?;
    welch_t(&control, &treatment, 0.05).p_two_sided
}

/// The smallest count whose cumulative binomial probability reaches `level`.
fn binomial_quantile(n: f64, p: f64, level: f64) -> f64 {
    let (mut low, mut high) = (-1.0, n);
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0f64).floor();
        // P(X <= k) = I_(1-p)(n - k, k + 1).
        let cumulative = if middle >= n {
            1.0
        } else {
            beta::ln_tails(n - middle, middle + 1.0, 1.0 - p, p).0.exp()
        };
        if cumulative >= level {
            high = middle
        } else {
            low = middle
        }
    }
    high
}

fn uniform_distance(p_values: &[f64]) -> f64 {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance =
        |(place, p): (usize, &f64)| ((place + 1) as f64 / n - p).max(p - place as f64 / n);
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max)
}

/// Kolmogorov's limit distribution, `2 sum (-1)^(k-1) e^(-2 k^2 x^2)`, with Stephens' correction (1970) in the argument.
fn kolmogorov_upper(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    let term =
        |k: i32| (-2.0 * f64::from(k * k) * x * x).exp() * if k % 2 == 1 { 2.0 } else { -2.0 };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}
