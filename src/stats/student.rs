//! Student's t distribution with real degrees of freedom.
//! In: t and degrees of freedom, both double-double. Out: two-sided and upper [`Tail`]s, quantiles.
//!
//! With v = ln(1 + t^2/nu) and N = nu - 1/2 the density becomes e^(-N v/2) h(v), h(v) = sqrt((v/2) / sinh(v/2)), an even
//! function that hardly moves. Expanding h and integrating term by term over the normal deviate z = sqrt(N v) gives
//! P(T > t) = P(Z > z) + phi(z) S, with S a short positive-coefficient recursion: all digits for nu >= 30 at a small cost.
//! (The substitution is Wallace's, Ann. Math. Statist. 30, 1959; the even expansion is in Temme, "The uniform asymptotic
//! expansion of a class of integrals related to cumulative distribution functions", SIAM J. Math. Anal. 13, 1982.)
//! Elsewhere: the incomplete beta function's continued fraction.

use super::beta::continued_fraction;
use super::double_double::DoubleDouble;
use super::gamma::half_step_ratio;
use super::normal::{self, INVERSE_SQRT_TWO_PI};
use super::tail::Tail;
use std::f64::consts::PI;

/// P(|T| > |t|) for `degrees` > 0.
pub fn two_sided_tail(t: DoubleDouble, degrees: DoubleDouble) -> Tail {
    let size = t.abs();
    if size.high == 0.0 {
        return Tail::CERTAIN;
    }
    if degrees.high > 1e18 {
        return normal::two_sided_tail(size);
    }
    let distance = Distance::new(size, degrees);
    if degrees.high >= EXPANSION_DEGREES && distance.log.high <= EXPANSION_REACH {
        return expansion_tail(&distance, degrees);
    }
    fraction_tail(&distance, degrees)
}

/// P(T > t) for `degrees` > 0.
pub fn upper_tail(t: DoubleDouble, degrees: DoubleDouble) -> Tail {
    let both = two_sided_tail(t, degrees);
    if t.high < 0.0 {
        let p = both.p() / 2.0;
        return Tail {
            exponent: DoubleDouble::ZERO,
            factor: 1.0 - p,
            complement: p,
        };
    }
    Tail {
        factor: both.factor / 2.0,
        complement: (1.0 + both.complement) / 2.0,
        ..both
    }
}

/// The t with P(T > t) = p, for p in (0, 1) and degrees > 0.
pub fn upper_quantile(p: f64, degrees: f64) -> f64 {
    if p > 0.5 {
        return -upper_quantile(1.0 - p, degrees);
    }
    if p == 0.5 {
        return 0.0;
    }
    let deviate = normal::upper_quantile(p);
    if degrees > 1e18 {
        return deviate;
    }
    if degrees >= EXPANSION_DEGREES && deviate * deviate < 0.5 * EXPANSION_REACH * degrees {
        return expansion_quantile(deviate, degrees);
    }
    search_quantile(p, deviate, degrees)
}

/// The density at t.
pub fn density(t: f64, degrees: f64) -> f64 {
    if degrees > 1e18 {
        return normal::density(t);
    }
    let log = Distance::new(DoubleDouble::from(t.abs()), DoubleDouble::from(degrees))
        .log
        .high;
    (-0.5 * (degrees + 1.0) * log).exp() * half_step_ratio(0.5 * degrees) / (degrees * PI).sqrt()
}

/// From here on the expansion has all digits.
const EXPANSION_DEGREES: f64 = 30.0;
/// The largest ln(1 + t^2/nu) the expansion is used for; its terms fall at least like (v / 2 pi)^2.
const EXPANSION_REACH: f64 = 1.0;
/// An exponent below this may be formed in plain binary64: 40 units of 2^-53 are 4e-15.
const PLAIN_EXPONENT: f64 = 40.0;

/// How far t lies out: `ratio` = t^2/nu and `log` = ln(1 + ratio).
struct Distance {
    ratio: DoubleDouble,
    log: DoubleDouble,
}

impl Distance {
    fn new(size: DoubleDouble, degrees: DoubleDouble) -> Self {
        if size.high > 1e140 {
            let log = 2.0 * size.high.ln() - degrees.high.ln();
            return Self {
                ratio: DoubleDouble::from(f64::MAX),
                log: DoubleDouble::from(log),
            };
        }
        let ratio = size.square() / degrees;
        let plain = ratio.high.ln_1p();
        let log = if plain * degrees.high < 2.0 * PLAIN_EXPONENT {
            DoubleDouble::from(plain)
        } else {
            ratio.ln_1p()
        };
        Self { ratio, log }
    }

    /// 1 / (1 + ratio), the x of I_x(nu/2, 1/2).
    fn inner_share(&self) -> f64 {
        1.0 / (1.0 + self.ratio.high)
    }
}

fn expansion_tail(distance: &Distance, degrees: DoubleDouble) -> Tail {
    let centre = degrees - 0.5;
    let square = centre * distance.log;
    let exponent = square.scaled(0.5);
    let deviate = square.high.sqrt();
    let shift = expansion_shift(deviate, distance.log.high, centre.high);
    let factor = 2.0 * (normal::scaled_upper(deviate) + INVERSE_SQRT_TWO_PI * shift);
    let complement = if deviate < normal::CENTRAL {
        2.0 * (normal::central_probability(deviate) - normal::density(deviate) * shift)
    } else {
        1.0 - factor * (-exponent.high).exp()
    };
    Tail {
        exponent,
        factor,
        complement,
    }
}

/// S in P(T > t) = P(Z > z) + phi(z) S: with J_m = integral of u^m phi(u) above z and J_m = z^(m-1) phi + (m-1) J_(m-2), each term
/// h_k J_(4k) / N^(2k) splits into a part with P(Z > z), which the normalisation turns into exactly one, and a part with phi(z).
fn expansion_shift(deviate: f64, log: f64, centre: f64) -> f64 {
    let step = 1.0 / centre;
    let mut power = deviate * step;
    let mut boundary = 0.0;
    let mut moment = 1.0;
    let mut shift = 0.0;
    let mut whole = 1.0;
    let mut odd = 1.0;
    for coefficient in EXPANSION {
        for _ in 0..2 {
            boundary = power + odd * step * boundary;
            moment *= odd * step;
            power *= log;
            odd += 2.0;
        }
        let change = coefficient * boundary;
        shift += change;
        whole += coefficient * moment;
        if change.abs() < 1e-18 {
            break;
        }
    }
    shift / whole
}

/// h(v) - 1 = sum of these times v^(2k): the Taylor series of sqrt((v/2) / sinh(v/2)).
const EXPANSION: [f64; 14] = [
    -0.020_833_333_333_333_332,
    0.000_390_625,
    -7.879_670_965_608_466e-6,
    1.696_766_579_172_178_1e-7,
    -3.805_064_191_721_906_7e-9,
    8.748_377_596_315_408e-11,
    -2.044_523_359_411_974e-12,
    4.833_351_797_967_705e-14,
    -1.152_434_101_767_386e-15,
    2.766_052_043_599_37e-17,
    -6.674_281_950_891_66e-19,
    1.617_455_077_181_58e-20,
    -3.933_977_920_091_38e-22,
    9.597_634_062_586_05e-24,
];

/// P(|T| > t) = I_x(nu/2, 1/2) with x = nu / (nu + t^2), or 1 - I_(1-x)(1/2, nu/2) when t is central.
fn fraction_tail(distance: &Distance, degrees: DoubleDouble) -> Tail {
    let shape = 0.5 * degrees.high;
    let exponent = (degrees * distance.log).scaled(0.5);
    let inner = distance.inner_share();
    let outer = distance.ratio.high * inner;
    // 1 / B(a, 1/2) = gamma(a + 1/2) / (gamma(a) sqrt(pi)).
    let prefactor = outer.sqrt() * half_step_ratio(shape) / PI.sqrt();
    if inner < (shape + 1.0) / (shape + 2.5) {
        let factor = prefactor / shape * continued_fraction(shape, 0.5, inner);
        return Tail {
            exponent,
            factor,
            complement: 1.0 - factor * (-exponent.high).exp(),
        };
    }
    let complement =
        (-exponent.high).exp() * prefactor * 2.0 * continued_fraction(0.5, shape, outer);
    Tail {
        exponent: DoubleDouble::ZERO,
        factor: 1.0 - complement,
        complement,
    }
}

/// Solves P(Z > z) + phi(z) S(z) = P(Z > z0) for z = z0 + d: with everything over phi(z0) the left side is a short series in d.
fn expansion_quantile(deviate: f64, degrees: f64) -> f64 {
    let centre = degrees - 0.5;
    let mut step = 0.0;
    for _ in 0..8 {
        let z = deviate + step;
        let shift = expansion_shift(z, z * z / centre, centre);
        let growth = (-step * (deviate + 0.5 * step)).exp();
        // The normal probability between z0 and z over phi(z0), by Taylor: d is below 0.01 here.
        let passed = step
            * (1.0
                - step / 2.0
                    * (deviate
                        - step / 3.0
                            * ((deviate * deviate - 1.0)
                                - step / 4.0 * deviate * (deviate * deviate - 3.0))));
        let residual = shift * growth - passed;
        step += residual / growth;
        if residual.abs() <= 1e-14 * deviate {
            break;
        }
    }
    let z = deviate + step;
    (degrees * (z * z / centre).exp_m1()).sqrt()
}

/// Newton on ln p over ln t, where the curve is close to a line both in the centre and in the tail.
fn search_quantile(p: f64, deviate: f64, degrees: f64) -> f64 {
    let target = p.ln();
    let centre = (degrees - 0.5).max(0.5 * degrees);
    let start = (0.5 * (deviate * deviate / centre).min(600.0).exp_m1().ln() + 0.5 * degrees.ln())
        .min(690.0);
    let mut log_t = start;
    for _ in 0..200 {
        let t = log_t.exp();
        let tail = upper_tail(DoubleDouble::from(t), DoubleDouble::from(degrees));
        let slope = -t * density(t, degrees) / tail.p();
        let step = (tail.ln_p() - target) / slope;
        if !step.is_finite() {
            return f64::NAN;
        }
        log_t -= step.clamp(-3.0, 3.0);
        if step.abs() < 1e-15 * (1.0 + log_t.abs()) {
            break;
        }
    }
    log_t.exp()
}
