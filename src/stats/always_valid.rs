//! Inference that may be looked at any time. In: an effect, its standard error, what the sequence is tuned to. Out: intervals and p
//! values that hold at all looks together. Group sequential designs (`group_sequential`) have more power when a maximum size is committed;
//! these are for open-ended experiments and guardrail alarms. Never tune blindly: n_star 5,000 at 40,000 units costs a tenth of the power.

use super::double_double::DoubleDouble;
use super::record::{Number, finite, record};
use super::sample::is_share;
use super::status::Status;
use std::f64::consts::LN_10;

/// The asymptotic confidence sequence, two-sided, tightest near `n_star` units:
/// `rho = sqrt((-2 ln a + ln(-2 ln a + 1)) / n_star)`, half-width `se sqrt(n) sqrt(2 (n rho^2 + 1)/(n rho)^2 ln(sqrt(n rho^2 + 1)/a))`.
/// `log_e` is the log of the e-value, `p = min(1, 1/e)`, formed in logs. Waudby-Smith et al., arXiv 2103.06476 v7, eqs. 9, 155, 161.
pub fn asymp_cs_two_sided(
    effect: f64,
    se: f64,
    n: f64,
    alpha: f64,
    n_star: f64,
) -> ConfidenceSequence {
    if let Some(status) = fault(effect, se, alpha, &[n, n_star]) {
        return ConfidenceSequence::empty(status);
    }
    let level = -2.0 * alpha.ln();
    let rho_square = (level + level.ln_1p()) / n_star;
    let scaled = n * rho_square;
    let grown = scaled.ln_1p();
    let halfwidth = se * (2.0 * (scaled + 1.0) / scaled * (0.5 * grown - alpha.ln())).sqrt();
    let z_square = (effect / se) * (effect / se);
    let log_e = scaled / (2.0 * (scaled + 1.0)) * z_square - 0.5 * grown;
    ConfidenceSequence {
        rho: finite(rho_square.sqrt()),
        halfwidth: finite(halfwidth),
        ci_low: finite(effect - halfwidth),
        ci_high: finite(effect + halfwidth),
        log_e: finite(log_e),
        p: finite((-log_e).min(0.0).exp()),
        log10_p: finite((-log_e).min(0.0) / LN_10),
        status: Status::Ok,
    }
}

/// The one-sided asymptotic confidence sequence: `lower` and `upper` are one-sided bounds, each of confidence 1 - alpha.
/// rho of 2 alpha, `halfwidth = se sqrt(n) sqrt(2 (n rho^2 + 1)/(n rho)^2 ln(1 + sqrt(n rho^2 + 1)/(2 a)))`. Same source, eq. 134.
pub fn asymp_cs_one_sided(
    effect: f64,
    se: f64,
    n: f64,
    alpha: f64,
    n_star: f64,
) -> OneSidedSequence {
    if let Some(status) = fault(effect, se, alpha, &[n, n_star]) {
        return OneSidedSequence::empty(status);
    }
    let level = -2.0 * (2.0 * alpha).ln();
    let rho_square = (level + level.ln_1p()) / n_star;
    if !(rho_square > 0.0) {
        return OneSidedSequence::empty(Status::InvalidInput);
    }
    let scaled = n * rho_square;
    let halfwidth = se
        * (2.0 * (scaled + 1.0) / scaled * ((scaled + 1.0).sqrt() / (2.0 * alpha)).ln_1p()).sqrt();
    OneSidedSequence {
        rho: finite(rho_square.sqrt()),
        halfwidth: finite(halfwidth),
        lower: finite(effect - halfwidth),
        upper: finite(effect + halfwidth),
        p_greater: finite(one_sided_p(effect, se, scaled)),
        p_less: finite(one_sided_p(-effect, se, scaled)),
        status: Status::Ok,
    }
}

/// The mixture sequential probability ratio test with a N(0, tau2) mixture, V = se^2:
/// `Lambda = sqrt(V/(V+tau2)) exp(tau2 d^2 / (2V(V+tau2)))`, `p = min(1, 1/Lambda)`; keep the running minimum.
/// Robbins 1970; Johari, Koomen, Pekelis and Walsh, Operations Research 70 (2022).
pub fn msprt_normal(effect: f64, se: f64, tau2: f64, alpha: f64) -> Msprt {
    if let Some(status) = fault(effect, se, alpha, &[tau2]) {
        return Msprt::empty(status);
    }
    let variance = DoubleDouble::from(se) * se;
    let total = variance + tau2;
    let growth = (tau2 / variance.value()).ln_1p();
    let z_square = (DoubleDouble::from(effect) / se).square();
    let log_lambda = (DoubleDouble::from(tau2) / total * z_square - growth)
        .scaled(0.5)
        .value();
    let halfwidth = (total / tau2 * variance * (growth - 2.0 * alpha.ln()))
        .sqrt()
        .value();
    Msprt {
        log_lambda: finite(log_lambda),
        p: finite((-log_lambda).min(0.0).exp()),
        log10_p: finite((-log_lambda).min(0.0) / LN_10),
        halfwidth: finite(halfwidth),
        ci_low: finite(effect - halfwidth),
        ci_high: finite(effect + halfwidth),
        status: Status::Ok,
    }
}

record! {
    /// One look of a two-sided confidence sequence.
    pub struct ConfidenceSequence {
        /// The tuning parameter of the mixture.
        rho: Number,
        halfwidth: Number,
        ci_low: Number,
        ci_high: Number,
        /// Natural logarithm of the e-value against no effect.
        log_e: Number,
        p: Number,
        log10_p: Number,
    }
}

record! {
    /// One look of a one-sided confidence sequence.
    pub struct OneSidedSequence {
        rho: Number,
        halfwidth: Number,
        lower: Number,
        upper: Number,
        /// The smallest alpha whose lower bound lies above zero, rho held fixed; closed form.
        p_greater: Number,
        p_less: Number,
    }
}

record! {
    /// One look of the mixture sequential probability ratio test.
    pub struct Msprt {
        /// Natural logarithm of the likelihood ratio.
        log_lambda: Number,
        p: Number,
        log10_p: Number,
        halfwidth: Number,
        ci_low: Number,
        ci_high: Number,
    }
}

/// Inverts `d = halfwidth(a)` for a: `a = sqrt(k) / (2 expm1(d^2 k' ))`; one when the bound is never above zero.
fn one_sided_p(effect: f64, se: f64, scaled: f64) -> f64 {
    if effect <= 0.0 {
        return 1.0;
    }
    let exponent = (effect / se) * (effect / se) * scaled / (2.0 * (scaled + 1.0));
    ((scaled + 1.0).sqrt() / 2.0 / exponent.exp_m1()).min(1.0)
}

fn fault(effect: f64, se: f64, alpha: f64, sizes: &[f64]) -> Option<Status> {
    let is_valid = effect.is_finite()
        && se >= 0.0
        && se.is_finite()
        && sizes.iter().all(|size| *size > 0.0 && size.is_finite());
    if !is_valid || !is_share(alpha) {
        return Some(Status::InvalidInput);
    }
    (se == 0.0).then_some(Status::ZeroVariance)
}
