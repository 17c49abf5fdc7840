//! The incomplete beta function. In: shapes > 0 and 0 < x < 1, with 1 - x beside it. Out: its continued fraction, logs of both tails.
//! The prefactor of Student's t is left to `student`, which knows how to form it without cancellation.

use super::gamma::{deviance, stirling_error};
use std::f64::consts::TAU;

/// `ln(x^a y^b / B(a, b))` with y = 1 - x, by Loader's saddle-point form: no log gamma of a large number is subtracted from another.
pub fn ln_kernel(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let n = a + b;
    let correction = stirling_error(n) - stirling_error(a) - stirling_error(b);
    correction - deviance(a, n * x) - deviance(b, n * y) + 0.5 * (a * b / (TAU * n)).ln()
}

/// Logs of I_x(a, b) and of 1 - I_x(a, b), y = 1 - x.
pub fn ln_tails(a: f64, b: f64, x: f64, y: f64) -> (f64, f64) {
    let kernel = ln_kernel(a, b, x, y);
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = (kernel - a.ln() + continued_fraction(a, b, x).ln()).min(0.0);
        (lower, ln_complement(lower))
    } else {
        let upper = (kernel - b.ln() + continued_fraction(b, a, y).ln()).min(0.0);
        (ln_complement(upper), upper)
    }
}

/// `ln(1 - e^logarithm)`.
fn ln_complement(logarithm: f64) -> f64 {
    if logarithm > -0.7 {
        (-logarithm.exp_m1()).ln()
    } else {
        (-logarithm.exp()).ln_1p()
    }
}

/// `F` with `I_x(a, b) = x^a (1-x)^b / (a B(a, b)) F`, for x below about (a + 1) / (a + b + 2), by Lentz's method on
/// DLMF 8.17.22.
pub fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const MOST_TERMS: u32 = 100_000;
    let mut c = 1.0;
    let mut d = 1.0 / guarded(1.0 - (a + b) * x / (a + 1.0), TINY);
    let mut fraction = d;
    for term in 1..MOST_TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guarded(1.0 + even * d, TINY);
        c = guarded(1.0 + even / c, TINY);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guarded(1.0 + odd * d, TINY);
        c = guarded(1.0 + odd / c, TINY);
        let change = d * c;
        fraction *= change;
        if (change - 1.0).abs() < 2e-16 {
            break;
        }
    }
    fraction
}

fn guarded(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}
