//! Probabilities that may be smaller than any binary64 number.
//! In: a logarithm and a factor from a distribution. Out: p, log10 p and 1 - p, each accurate where it is small.
//! Never `1 - cdf`: that is 0 for a normal deviate above 8.3.

use super::double_double::DoubleDouble;
use std::f64::consts::LN_10;

/// The probability `factor * e^-exponent`, with its complement beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// At least zero; double-double because its absolute error is the relative error of p.
    pub exponent: DoubleDouble,
    pub factor: f64,
    /// One minus the probability, accurate when it is small.
    pub complement: f64,
}

impl Tail {
    pub const CERTAIN: Self = Self {
        exponent: DoubleDouble::ZERO,
        factor: 1.0,
        complement: 0.0,
    };

    /// The tail of a plain probability in [0, 1].
    pub fn of(p: f64) -> Self {
        Self {
            exponent: DoubleDouble::ZERO,
            factor: p,
            complement: 1.0 - p,
        }
    }

    /// The probability; 0 only when it is below the smallest subnormal number, and then [`Tail::log10_p`] tells it.
    #[inline]
    pub fn p(&self) -> f64 {
        if self.complement <= 0.25 {
            return 1.0 - self.complement;
        }
        if self.exponent.high > 600.0 {
            // In two halves: the exponential alone may underflow where its product with a large factor does not.
            let half = (-0.5 * self.exponent.high).exp();
            return self.factor * (half - half * self.exponent.low) * half;
        }
        let exponential = (-self.exponent.high).exp();
        self.factor * (exponential - exponential * self.exponent.low)
    }

    /// The decimal logarithm of the probability; relative to itself also when p is near one.
    #[inline]
    pub fn log10_p(&self) -> f64 {
        self.ln_p() / LN_10
    }

    /// The natural logarithm of the probability.
    #[inline]
    pub fn ln_p(&self) -> f64 {
        if self.complement <= 0.25 {
            return (-self.complement).ln_1p();
        }
        let logarithm = DoubleDouble::from(self.factor.ln());
        (logarithm - self.exponent).high
    }

    /// The same probability times a factor; the complement follows where it stays accurate.
    pub fn times(self, factor: f64) -> Self {
        let scaled = Self {
            factor: self.factor * factor,
            complement: 1.0,
            ..self
        };
        let p = if self.complement <= 0.25 {
            (1.0 - self.complement) * factor
        } else {
            scaled.p()
        };
        Self {
            complement: 1.0 - p,
            ..scaled
        }
    }
}
