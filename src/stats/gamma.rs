//! The gamma function where its logarithm would cancel, and the chi-squared tail.
//! In: arguments > 0. Out: ratios of gamma functions, Stirling errors, log gamma, [`Tail`]s.
//! Differences of `lgamma` at 1e9 keep six digits; Loader's Stirling errors keep sixteen (Loader, "Fast and accurate computation of
//! binomial probabilities", 2000).

use super::double_double::DoubleDouble;
use super::normal;
use super::tail::Tail;
use std::f64::consts::PI;

/// `gamma(a + 1/2) / gamma(a)` for a > 0, to a few units in the last place.
pub fn half_step_ratio(a: f64) -> f64 {
    let mut shifted = a;
    let mut factor = 1.0;
    // gamma(a+1/2)/gamma(a) = a/(a+1/2) times the same one step up; from 12 on the series has all digits.
    while shifted < 12.0 {
        factor *= shifted / (shifted + 0.5);
        shifted += 1.0;
    }
    factor * half_step_series(shifted)
}

/// With n = a - 1/4: sqrt(n) (1 + 1/64 n^-2 - 19/8192 n^-4 + ...), Tricomi and Erdelyi 1951 (DLMF 5.11.13).
fn half_step_series(a: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        1.0,
        0.015_625,
        -0.002_319_335_937_5,
        0.001_203_536_987_304_687_5,
        -0.001_298_762_857_913_970_9,
        0.002_385_557_512_752_712,
        -0.006_670_963_462_056_534,
        0.026_412_154_660_064_857,
    ];
    let centre = a - 0.25;
    let inverse_square = 1.0 / (centre * centre);
    let series = COEFFICIENTS
        .iter()
        .rev()
        .fold(0.0, |sum, coefficient| sum * inverse_square + coefficient);
    centre.sqrt() * series
}

/// Stirling's error `ln gamma(x + 1) - (x ln x - x + ln(2 pi x) / 2)` for x > 0.
pub fn stirling_error(x: f64) -> f64 {
    if x < 15.0 {
        // delta(x) - delta(x+1) = (x + 1/2) ln(1 + 1/x) - 1, all terms positive: recursion upwards adds them.
        let mut sum = 0.0;
        let mut shifted = x;
        while shifted < 15.0 {
            sum += stirling_step(shifted);
            shifted += 1.0;
        }
        return sum + stirling_series(shifted);
    }
    stirling_series(x)
}

/// `(x + 1/2) ln(1 + 1/x) - 1`, by the atanh series in y = 1/(2x+1): sum of y^(2k)/(2k+1), k >= 1.
fn stirling_step(x: f64) -> f64 {
    if x < 0.5 {
        return (x + 0.5) * (1.0 / x).ln_1p() - 1.0;
    }
    let y = 1.0 / (2.0 * x + 1.0);
    let square = y * y;
    let mut power = square;
    let mut sum = 0.0;
    let mut odd = 3.0;
    while power > 1e-18 * sum {
        sum += power / odd;
        power *= square;
        odd += 2.0;
    }
    sum
}

/// 1/(12x) - 1/(360x^3) + ..., Abramowitz and Stegun 6.1.41.
fn stirling_series(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
        -3617.0 / 122_400.0,
    ];
    let inverse_square = 1.0 / (x * x);
    COEFFICIENTS
        .iter()
        .rev()
        .fold(0.0, |sum, coefficient| sum * inverse_square + coefficient)
        / x
}

/// `ln gamma(x)` for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    if x < 1e-3 {
        // gamma(x) = gamma(1+x)/x, and ln gamma(1+x) = -gamma x + pi^2/12 x^2 - zeta(3)/3 x^3.
        return -x.ln()
            + x * (-0.577_215_664_901_532_9 + x * (PI * PI / 12.0 - x * 0.400_685_634_386_531_4));
    }
    stirling_error(x) + x * x.ln() - x + 0.5 * (2.0 * PI / x).ln()
}

/// P(X > x) for chi-squared with a whole number of degrees of freedom.
/// The survival function goes up from 1 or 2 degrees of freedom in steps of two, Q(a+1) = Q(a) + x^a e^-x / gamma(a+1); all terms are
/// positive, so no digit is lost (Abramowitz and Stegun 26.4.4, 26.4.5).
pub fn chi_squared_upper_tail(statistic: DoubleDouble, degrees: u32) -> Tail {
    if statistic.high <= 0.0 || degrees == 0 {
        return Tail::CERTAIN;
    }
    let half = statistic.scaled(0.5);
    let x = half.high;
    let (mut shape, mut factor, mut term) = if degrees % 2 == 1 {
        let deviate = statistic.sqrt().high;
        (
            0.5,
            2.0 * normal::scaled_upper(deviate),
            2.0 * normal::INVERSE_SQRT_TWO_PI * deviate,
        )
    } else {
        (1.0, 1.0, x)
    };
    let mut exponent = half;
    while shape + 0.5 < f64::from(degrees) / 2.0 {
        factor += term;
        shape += 1.0;
        term *= x / shape;
        if factor > 1e250 {
            // Moves a power of e from the factor into the exponent before the factor overflows.
            const SHIFT: f64 = 512.0;
            factor *= (-SHIFT).exp();
            term *= (-SHIFT).exp();
            exponent = exponent - SHIFT;
        }
    }
    let complement = if x < f64::from(degrees) / 2.0 + 1.0 {
        lower_gamma(f64::from(degrees) / 2.0, half)
    } else {
        1.0 - factor * (-exponent.high).exp()
    };
    Tail {
        exponent,
        factor,
        complement,
    }
}

/// P(a, x) by its series x^a e^-x / gamma(a+1) (1 + x/(a+1) + ...), for x not far above a.
fn lower_gamma(a: f64, x: DoubleDouble) -> f64 {
    let mut sum = 1.0;
    let mut term = 1.0;
    let mut shifted = a;
    while term > 1e-17 * sum {
        shifted += 1.0;
        term *= x.high / shifted;
        sum += term;
    }
    sum * poisson_kernel(a, x.high)
}

/// `x^a e^-x / gamma(a + 1)` by Loader's saddle-point form, whose deviance does not cancel.
pub fn poisson_kernel(a: f64, x: f64) -> f64 {
    (-stirling_error(a) - deviance(a, x)).exp() / (2.0 * PI * a).sqrt()
}

/// `a ln(a/x) + x - a`, accurate near a = x (Loader 2000, bd0).
pub fn deviance(a: f64, x: f64) -> f64 {
    let difference = a - x;
    if difference.abs() < 0.1 * (a + x) {
        let v = difference / (a + x);
        let mut sum = difference * v;
        let mut power = 2.0 * a * v;
        let mut odd = 3.0;
        loop {
            power *= v * v;
            let next = sum + power / odd;
            if next == sum {
                return next;
            }
            sum = next;
            odd += 2.0;
        }
    }
    a * (a / x).ln() + x - a
}
