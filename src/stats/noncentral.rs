//! The noncentral t distribution, for power. In: a critical value, degrees of freedom, a shift. Out: a probability.

use super::gamma::ln_gamma;
use super::normal;
use super::quadrature::integrate;

/// P(T' > t) for degrees >= 1 and noncentrality `shift`: the normal tail averaged over s = sqrt(chi-squared/df), whose density is
/// log-concave, by Gauss-Legendre over the part that matters. (Definition; Johnson, Kotz and Balakrishnan 1995, ch. 31.)
pub fn upper(t: f64, degrees: f64, shift: f64) -> f64 {
    let (low, high) = scale_range(degrees);
    let normaliser =
        (degrees / 2.0).ln() * (degrees / 2.0) - ln_gamma(degrees / 2.0) + std::f64::consts::LN_2;
    let density = |s: f64| (normaliser + (degrees - 1.0) * s.ln() - degrees * s * s / 2.0).exp();
    integrate(low, high, 48, |s| density(s) * normal::upper(t * s - shift))
}

/// Where s = sqrt(chi-squared/df) has all but 1e-20 of its probability.
fn scale_range(degrees: f64) -> (f64, f64) {
    let spread = 10.0 / (2.0 * degrees).sqrt();
    ((1.0 - spread).max(0.0), 1.0 + spread.max(0.1 / degrees))
}
