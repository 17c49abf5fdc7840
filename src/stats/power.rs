//! Planning: power, sample size and minimum detectable effect. In: variances, counts, levels. Out: one number each.
//! Two-sided tests throughout. For a ratio pass the unit variance of the linearised ratio (`uvar` of its test) as the variance; for CUPED
//! multiply variances by 1 - rho^2, or use the functions that do; for a sequential design use the inflation functions.

use super::noncentral;
use super::normal;
use super::record::{Number, finite, record};
use super::sample::is_share;
use super::status::Status;
use super::student;

/// Power of the z test to find `effect`: both tails counted.
pub fn power_z_two_sided(var1: f64, var2: f64, n1: f64, n2: f64, effect: f64, alpha: f64) -> Power {
    let variance = var1 / n1 + var2 / n2;
    if let Some(status) = plan_fault(&[var1, var2, n1, n2], &[alpha], variance) {
        return Power::empty(status);
    }
    let quantile = normal::upper_quantile(alpha / 2.0);
    let shift = effect / variance.sqrt();
    let power = normal::upper(quantile - shift) + normal::upper(quantile + shift);
    Power {
        power: finite(power),
        status: Status::Ok,
    }
}

/// Power of Student's t test at the standardised effect d (effect over common standard deviation), both tails; exact by the noncentral t.
pub fn power_t_two_sided(effect_size_d: f64, n1: f64, n2: f64, alpha: f64) -> Power {
    let degrees = n1 + n2 - 2.0;
    if !is_share(alpha)
        || !effect_size_d.is_finite()
        || !(n1 > 0.0 && n2 > 0.0 && degrees.is_finite())
    {
        return Power::empty(Status::InvalidInput);
    }
    if degrees < 1.0 {
        return Power::empty(Status::InsufficientData);
    }
    let quantile = student::upper_quantile(alpha / 2.0, degrees);
    let shift = effect_size_d.abs() * (n1 / (n1 + n2) * n2).sqrt();
    let power =
        noncentral::upper(quantile, degrees, shift) + noncentral::upper(quantile, degrees, -shift);
    Power {
        power: finite(power.min(1.0)),
        status: Status::Ok,
    }
}

/// Control units for a z test, `(z_(1-alpha/2) + z_power)^2 (var1 + var2/ratio) / effect^2`; `ratio` is treatment over control units. The far
/// tail is left out, as everywhere.
pub fn sample_size_z(
    var1: f64,
    var2: f64,
    effect: f64,
    alpha: f64,
    power: f64,
    ratio: f64,
) -> SampleSize {
    let variance = var1 + var2 / ratio;
    if let Some(status) = plan_fault(&[var1, var2, ratio], &[alpha, power], variance) {
        return SampleSize::empty(status);
    }
    if effect == 0.0 || effect.is_nan() {
        return SampleSize::empty(Status::InvalidInput);
    }
    let quantiles = normal::upper_quantile(alpha / 2.0) + normal::lower_quantile(power);
    SampleSize::of((quantiles / effect).powi(2) * variance)
}

/// Control units to tell share p2 from p1, equal arms, unpooled variances (Wald).
pub fn sample_size_prop_unpooled(p1: f64, p2: f64, alpha: f64, power: f64) -> SampleSize {
    if !((0.0..=1.0).contains(&p1) && (0.0..=1.0).contains(&p2)) {
        return SampleSize::empty(Status::InvalidInput);
    }
    sample_size_z(p1 * (1.0 - p1), p2 * (1.0 - p2), p2 - p1, alpha, power, 1.0)
}

/// Smallest effect found with the given power: `(z_(1-alpha/2) + z_power) se`, in the metric's unit.
pub fn mde_z(var1: f64, var2: f64, n1: f64, n2: f64, alpha: f64, power: f64) -> DetectableEffect {
    let variance = var1 / n1 + var2 / n2;
    if let Some(status) = plan_fault(&[var1, var2, n1, n2], &[alpha, power], variance) {
        return DetectableEffect::empty(status);
    }
    let quantiles = normal::upper_quantile(alpha / 2.0) + normal::lower_quantile(power);
    DetectableEffect {
        mde: finite(quantiles * variance.sqrt()),
        status: Status::Ok,
    }
}

/// The same after CUPED with correlation rho: variances times 1 - rho^2.
pub fn mde_z_cuped(
    var1: f64,
    var2: f64,
    n1: f64,
    n2: f64,
    alpha: f64,
    power: f64,
    rho: f64,
) -> DetectableEffect {
    if !(-1.0..=1.0).contains(&rho) {
        return DetectableEffect::empty(Status::InvalidInput);
    }
    let kept = (1.0 - rho) * (1.0 + rho);
    mde_z(var1 * kept, var2 * kept, n1, n2, alpha, power)
}

/// Control units for a z test after CUPED with correlation rho.
pub fn sample_size_z_cuped(
    var1: f64,
    var2: f64,
    effect: f64,
    alpha: f64,
    power: f64,
    ratio: f64,
    rho: f64,
) -> SampleSize {
    if !(-1.0..=1.0).contains(&rho) {
        return SampleSize::empty(Status::InvalidInput);
    }
    let kept = (1.0 - rho) * (1.0 + rho);
    sample_size_z(var1 * kept, var2 * kept, effect, alpha, power, ratio)
}

/// Levels and power per metric of a whole decision: alpha is split over success metrics and treatments only, beta over the guardrails plus
/// one. Schultzberg, Ankargren and Franberg, arXiv 2402.11609 (2024).
pub fn decision_design_corrections(
    success_metrics: f64,
    guardrail_metrics: f64,
    treatments: f64,
    alpha: f64,
    power: f64,
) -> DesignCorrections {
    let are_counts = success_metrics >= 0.0 && guardrail_metrics >= 0.0 && treatments >= 1.0;
    if !are_counts || !is_share(alpha) || !is_share(power) {
        return DesignCorrections::empty(Status::InvalidInput);
    }
    DesignCorrections {
        alpha_per_success: if success_metrics > 0.0 {
            finite(alpha / (success_metrics * treatments))
        } else {
            None
        },
        alpha_guardrail: Some(alpha),
        power_per_metric: finite(1.0 - (1.0 - power) / (guardrail_metrics + 1.0)),
        status: Status::Ok,
    }
}

record! {
    /// A probability to find the effect.
    pub struct Power {
        power: Number,
    }
}

record! {
    /// Units in the control arm.
    pub struct SampleSize {
        n_control: Number,
        /// The next whole number.
        n_control_ceil: Number,
    }
}

impl SampleSize {
    pub(crate) fn of(n_control: f64) -> Self {
        let status = if n_control.is_finite() {
            Status::Ok
        } else {
            Status::Overflow
        };
        Self {
            n_control: finite(n_control),
            n_control_ceil: finite(n_control.ceil()),
            status,
        }
    }
}

record! {
    /// A smallest effect, in the metric's unit.
    pub struct DetectableEffect {
        mde: Number,
    }
}

record! {
    /// Levels and power for each metric of a decision.
    pub struct DesignCorrections {
        alpha_per_success: Number,
        alpha_guardrail: Number,
        power_per_metric: Number,
    }
}

/// What makes a plan impossible: a negative or missing number, a level outside (0, 1), no variance.
fn plan_fault(sizes: &[f64], levels: &[f64], variance: f64) -> Option<Status> {
    if sizes.iter().any(|size| size.is_nan() || *size < 0.0)
        || !levels.iter().all(|level| is_share(*level))
    {
        return Some(Status::InvalidInput);
    }
    if !variance.is_finite() {
        return Some(Status::InsufficientData);
    }
    (variance == 0.0).then_some(Status::ZeroVariance)
}
