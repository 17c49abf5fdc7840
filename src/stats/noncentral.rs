//! The noncentral t distribution, for power. In: a critical value, degrees of freedom, a shift. Out: a probability.

use super::gamma::{deviance, stirling_error};
use super::normal;
use super::quadrature::integrate;

/// P(T' > t) for degrees >= 1 and noncentrality `shift`: the normal tail averaged over s = sqrt(chi-squared/df), whose density is
/// log-concave, by Gauss-Legendre over the part that matters. (Definition; Johnson, Kotz and Balakrishnan 1995, ch. 31.)
pub fn upper(t: f64, degrees: f64, shift: f64) -> f64 {
    let (low, high) = scale_range(degrees);
    // With a = df/2 the density is 2 sqrt(a / 2 pi) / s e^(-stirling error - deviance): no log gamma of a large number is subtracted.
    let half = degrees / 2.0;
    let scale = (2.0 * half / std::f64::consts::PI).sqrt() * (-stirling_error(half)).exp();
    let density = |s: f64| scale / s * (-deviance(half, half * s * s)).exp();
    integrate(low, high, 48, |s| density(s) * normal::upper(t * s - shift))
}

/// Where s = sqrt(chi-squared/df) has all but 1e-20 of its probability.
fn scale_range(degrees: f64) -> (f64, f64) {
    let spread = 10.0 / (2.0 * degrees).sqrt();
    ((1.0 - spread).max(0.0), 1.0 + spread.max(0.1 / degrees))
}
