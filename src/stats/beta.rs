//! The regularised incomplete beta function's continued fraction. In: shapes > 0 and 0 < x < 1. Out: factors of tails.
//! The prefactors are left to the callers, who know how to form them without cancellation.

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
