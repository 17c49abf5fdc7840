//! Sample ratio checks: did each arm get the share of units it was promised?
//! In: counts per arm and promised weights (any scale). Out: chi-square, exact multinomial and sequential tests.
//! Looked at daily with alpha 0.05 a chi-square raises a false alarm in 27 % of experiments of 28 days; at 0.001 in 0.7 %.

use super::double_double::DoubleDouble;
use super::gamma::{chi_squared_upper_tail, ln_gamma, stirling_error};
use super::proportions::ln_binomial;
use super::record::{Number, finite, record};
use super::status::Status;

/// Pearson's test, `sum (O-E)^2/E` with degrees of freedom one less than the number of arms with a positive weight. (gbstats keeps len - 1
/// when it skips an arm without weight: its p is too large.) Pearson 1900.
pub fn srm_chi2(observed: &[f64], weights: &[f64]) -> SampleRatioTest {
    let shares = match Shares::of(observed, weights) {
        Ok(shares) => shares,
        Err(status) => return SampleRatioTest::empty(status),
    };
    if shares.has_forbidden {
        return shares.impossible();
    }
    let statistic = shares.chi_squared();
    let tail = chi_squared_upper_tail(statistic, shares.degrees);
    SampleRatioTest {
        chi2: finite(statistic.value()),
        df: Some(i64::from(shares.degrees)),
        p: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        is_exact: Some(false),
        status: if statistic.is_finite() {
            Status::Ok
        } else {
            Status::Overflow
        },
    }
}

/// The exact multinomial test: the probability of all splits no more probable than the observed one. Falls back to [`srm_chi2`] when the
/// splits are more than a few million; `is_exact` says which it was. Two arms: the exact binomial test.
pub fn srm_exact(observed: &[f64], weights: &[f64]) -> SampleRatioTest {
    let shares = match Shares::of(observed, weights) {
        Ok(shares) => shares,
        Err(status) => return SampleRatioTest::empty(status),
    };
    let plain = srm_chi2(observed, weights);
    let are_whole = observed.iter().all(|count| count.fract() == 0.0);
    if shares.has_forbidden || !are_whole || shares.number_of_splits() > 4e6 {
        return plain;
    }
    let p = shares.exact_p().min(1.0);
    SampleRatioTest {
        p: finite(p),
        log10_p: finite(p.log10()),
        is_exact: Some(true),
        ..plain
    }
}

/// Exact below 1,000 units, chi-square above: what to call when the size is not known beforehand.
pub fn srm(observed: &[f64], weights: &[f64]) -> SampleRatioTest {
    if observed.iter().sum::<f64>() < 1000.0 {
        srm_exact(observed, weights)
    } else {
        srm_chi2(observed, weights)
    }
}

/// The sequential test of Lindon and Malek (arXiv 2011.03567): log Bayes factor of a Dirichlet(k theta0) mixture against the promised
/// shares. `p` = min(1, 1/BF) is valid at every look when its running minimum is kept. Larger k looks for smaller mismatches.
pub fn srm_sequential_dirichlet(
    observed: &[f64],
    weights: &[f64],
    k: f64,
) -> SequentialSampleRatio {
    let shares = match Shares::of(observed, weights) {
        Ok(shares) if k > 0.0 && k.is_finite() => shares,
        Ok(_) => return SequentialSampleRatio::empty(Status::InvalidInput),
        Err(status) => return SequentialSampleRatio::empty(status),
    };
    if shares.has_forbidden {
        return SequentialSampleRatio {
            p: Some(0.0),
            ..SequentialSampleRatio::empty(Status::Overflow)
        };
    }
    let log_bf = shares.log_bayes_factor(k);
    SequentialSampleRatio {
        log_bf: finite(log_bf),
        p: finite((-log_bf).min(0.0).exp()),
        log10_p: finite((-log_bf).min(0.0) / std::f64::consts::LN_10),
        status: Status::Ok,
    }
}

/// The running minimum of the sequential p over looks, each with the counts so far.
pub fn srm_sequential_running(looks: &[Vec<f64>], weights: &[f64], k: f64) -> RunningSampleRatio {
    let mut lowest = 1.0f64;
    let mut p_running = Vec::with_capacity(looks.len());
    for look in looks {
        let test = srm_sequential_dirichlet(look, weights, k);
        match test.p {
            Some(p) => lowest = lowest.min(p),
            None if test.status == Status::InsufficientData => {}
            None => return RunningSampleRatio::empty(test.status),
        }
        p_running.push(lowest);
    }
    RunningSampleRatio {
        p_running,
        status: Status::Ok,
    }
}

record! {
    /// The result of a sample ratio test.
    pub struct SampleRatioTest {
        chi2: Number,
        df: Option<i64>,
        p: Number,
        log10_p: Number,
        /// Whether p is that of the exact multinomial test.
        is_exact: Option<bool>,
    }
}

record! {
    /// The result of one look of the sequential sample ratio test.
    pub struct SequentialSampleRatio {
        /// Natural logarithm of the Bayes factor against the promised shares.
        log_bf: Number,
        p: Number,
        log10_p: Number,
    }
}

record! {
    /// Sequential p values that are valid at every look.
    pub struct RunningSampleRatio {
        p_running: Vec<f64>,
    }
}

/// Counts and normalised weights of the arms with a positive weight.
struct Shares {
    observed: Vec<f64>,
    weights: Vec<f64>,
    total: DoubleDouble,
    weight: DoubleDouble,
    degrees: u32,
    /// An arm that should get nobody got somebody.
    has_forbidden: bool,
}

impl Shares {
    fn of(observed: &[f64], weights: &[f64]) -> Result<Self, Status> {
        let is_number = |number: &f64| *number >= 0.0 && number.is_finite();
        if observed.len() != weights.len()
            || !observed.iter().all(is_number)
            || !weights.iter().all(is_number)
        {
            return Err(Status::InvalidInput);
        }
        let arms: Vec<(f64, f64)> = observed
            .iter()
            .copied()
            .zip(weights.iter().copied())
            .filter(|arm| arm.1 > 0.0)
            .collect();
        let total = arms.iter().fold(DoubleDouble::ZERO, |sum, arm| sum + arm.0);
        if arms.len() < 2 || total.high == 0.0 {
            return Err(Status::InsufficientData);
        }
        Ok(Self {
            total,
            weight: arms.iter().fold(DoubleDouble::ZERO, |sum, arm| sum + arm.1),
            degrees: arms.len() as u32 - 1,
            has_forbidden: observed
                .iter()
                .zip(weights)
                .any(|(count, weight)| *weight == 0.0 && *count > 0.0),
            observed: arms.iter().map(|arm| arm.0).collect(),
            weights: arms.iter().map(|arm| arm.1).collect(),
        })
    }

    fn chi_squared(&self) -> DoubleDouble {
        let mut sum = DoubleDouble::ZERO;
        for (count, weight) in self.observed.iter().zip(&self.weights) {
            let expected = self.total * *weight / self.weight;
            sum = sum + (expected - *count).square() / expected;
        }
        sum
    }

    /// An arm without weight got units: no chance could do that.
    fn impossible(&self) -> SampleRatioTest {
        SampleRatioTest {
            p: Some(0.0),
            df: Some(i64::from(self.degrees)),
            ..SampleRatioTest::empty(Status::Overflow)
        }
    }

    fn share(&self, arm: usize) -> f64 {
        (DoubleDouble::from(self.weights[arm]) / self.weight).value()
    }

    /// (total + arms - 1) choose (arms - 1).
    fn number_of_splits(&self) -> f64 {
        (1..=self.degrees).fold(1.0, |splits, arm| {
            splits * (self.total.high + f64::from(arm)) / f64::from(arm)
        })
    }

    fn exact_p(&self) -> f64 {
        let limit = self.ln_probability(&self.observed) + 1e-7;
        let mut split = vec![0.0; self.observed.len()];
        self.sum_splits(&mut split, 0, self.total.high, limit)
    }

    /// Sums the probabilities of all ways to give `rest` units to the arms from `arm` on.
    fn sum_splits(&self, split: &mut [f64], arm: usize, rest: f64, limit: f64) -> f64 {
        if arm + 1 == split.len() {
            split[arm] = rest;
            let logarithm = self.ln_probability(split);
            return if logarithm <= limit {
                logarithm.exp()
            } else {
                0.0
            };
        }
        let mut sum = 0.0;
        for count in 0..=rest as u64 {
            split[arm] = count as f64;
            sum += self.sum_splits(split, arm + 1, rest - count as f64, limit);
        }
        sum
    }

    /// The multinomial as binomials, one arm against the rest.
    fn ln_probability(&self, split: &[f64]) -> f64 {
        let (mut rest, mut rest_share, mut sum) = (self.total.high, 1.0, 0.0);
        for (arm, count) in split.iter().enumerate().take(split.len() - 1) {
            let share = self.share(arm);
            sum += ln_binomial(*count, rest, (share / rest_share).min(1.0));
            rest -= count;
            rest_share -= share;
        }
        sum
    }

    /// `ln B(k th + c) - ln B(k th) - sum c ln th`, B the multivariate beta function, with log gammas split into Stirling's leading terms,
    /// which cancel analytically, and Stirling errors, which are small: lgamma differences lose nine digits at 1e9 units.
    fn log_bayes_factor(&self, k: f64) -> f64 {
        let total = self.total.high;
        let mut sum = DoubleDouble::ZERO;
        for (arm, count) in self.observed.iter().enumerate() {
            let prior = DoubleDouble::from(k) * self.weights[arm] / self.weight;
            let share = DoubleDouble::from(self.weights[arm]) / self.weight;
            sum = sum + ln_rising(prior, *count) - share.ln() * *count;
        }
        (sum - ln_rising(DoubleDouble::from(k), total)).value()
    }
}

/// `ln gamma(a + n) - ln gamma(a)` in double-double, but for the Stirling errors.
fn ln_rising(a: DoubleDouble, n: f64) -> DoubleDouble {
    if n == 0.0 {
        return DoubleDouble::ZERO;
    }
    if a.high < 1e-3 {
        return DoubleDouble::from(ln_gamma(a.high + n)) - ln_gamma(a.high);
    }
    let end = a + n;
    let leading = (end - 0.5) * end.ln() - (a - 0.5) * a.ln() - n;
    leading + (stirling_error(end.high) - stirling_error(a.high))
}
