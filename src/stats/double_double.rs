//! Numbers of about 32 digits, kept as the unevaluated sum of two binary64 numbers.
//! In: binary64. Out: [`DoubleDouble`]. Used where one rounding would be multiplied by hundreds: the exponent of a tail,
//! the difference of two means near 1e9, a quadratic form that cancels.
//! Algorithms and error bounds: Joldes, Muller and Popescu, "Tight and rigorous error bounds for basic building blocks
//! of double-word arithmetic", ACM TOMS 44 (2017). A relative error of a few 2^-104 is guaranteed away from underflow.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// The exact sum of two numbers: the rounded sum and its rounding error (Knuth's TwoSum).
#[inline]
pub fn two_sum(a: f64, b: f64) -> DoubleDouble {
    let high = a + b;
    let a_part = high - b;
    let b_part = high - a_part;
    DoubleDouble {
        high,
        low: (a - a_part) + (b - b_part),
    }
}

/// The exact sum when `|a| >= |b|` (Dekker's Fast2Sum).
#[inline]
pub fn fast_two_sum(a: f64, b: f64) -> DoubleDouble {
    let high = a + b;
    DoubleDouble {
        high,
        low: b - (high - a),
    }
}

/// The exact product of two numbers, as long as it does not underflow.
#[inline]
pub fn two_product(a: f64, b: f64) -> DoubleDouble {
    let high = a * b;
    DoubleDouble {
        high,
        low: a.mul_add(b, -high),
    }
}

/// An unevaluated sum `high + low` with `high` the nearest binary64 number to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DoubleDouble {
    pub high: f64,
    pub low: f64,
}

impl DoubleDouble {
    pub const ZERO: Self = Self {
        high: 0.0,
        low: 0.0,
    };
    pub const ONE: Self = Self {
        high: 1.0,
        low: 0.0,
    };
    const LN_2: Self = Self {
        high: std::f64::consts::LN_2,
        low: 2.319_046_813_846_299_6e-17,
    };

    /// The normalised sum of two binary64 numbers.
    #[inline]
    pub fn new(high: f64, low: f64) -> Self {
        two_sum(high, low)
    }

    /// The nearest binary64 number.
    #[inline]
    pub fn value(self) -> f64 {
        self.high
    }

    #[inline]
    pub fn is_finite(self) -> bool {
        self.high.is_finite()
    }

    #[inline]
    pub fn abs(self) -> Self {
        if self.high < 0.0 { -self } else { self }
    }

    #[inline]
    pub fn square(self) -> Self {
        self * self
    }

    /// Square root; zero for zero, NaN below.
    #[inline]
    pub fn sqrt(self) -> Self {
        if self.high == 0.0 {
            return Self::ZERO;
        }
        // One Newton step from the rounded root doubles its digits (Karp and Markstein 1997).
        let root = self.high.sqrt();
        let residual = self - two_product(root, root);
        fast_two_sum(root, residual.high / (2.0 * root))
    }

    /// Multiplies by a power of two, exactly.
    #[inline]
    pub fn scaled(self, power_of_two: f64) -> Self {
        Self {
            high: self.high * power_of_two,
            low: self.low * power_of_two,
        }
    }

    /// `e^self`, by reduction modulo ln 2, division by 256, Taylor and eight squarings.
    pub fn exp(self) -> Self {
        if self.high < -700.0 || self.high > 700.0 {
            return Self::from(self.high.exp());
        }
        let power = (self.high / std::f64::consts::LN_2).round();
        let reduced = (self - Self::LN_2 * power).scaled(1.0 / 256.0);
        let mut term = reduced;
        let mut sum = reduced;
        for divisor in 2..=9 {
            term = term * reduced / f64::from(divisor);
            sum = sum + term;
        }
        for _ in 0..8 {
            sum = sum.scaled(2.0) + sum.square();
        }
        (sum + 1.0).scaled(2f64.powi(power as i32))
    }

    /// `ln(1 + self)` for `self >= 0`, relative to the result also near zero.
    pub fn ln_1p(self) -> Self {
        if self.high < 0.1 {
            return self.ln_1p_series();
        }
        // One Newton step on exp: ln(1+w) = y + ((1+w) e^-y - 1), with y the rounded logarithm.
        let rounded = self.high.ln_1p();
        let residual = (self + 1.0) * Self::from(-rounded).exp() - 1.0;
        let correction = residual - residual.square().scaled(0.5);
        correction + rounded
    }

    /// The natural logarithm, for positive numbers; absolute error near 1e-31 times its size.
    pub fn ln(self) -> Self {
        let power = self.high.log2().floor().clamp(-1000.0, 1000.0);
        let reduced = self.scaled(2f64.powi(-(power as i32)));
        (reduced - 1.0).ln_1p_any() + Self::LN_2 * power
    }

    /// `ln(1 + self)` for any `self > -1`.
    pub fn ln_1p_any(self) -> Self {
        if self.high >= 0.0 {
            self.ln_1p()
        } else {
            -(-self / (self + 1.0)).ln_1p()
        }
    }

    /// `2 atanh(w / (2 + w))`, whose series needs only odd powers of a number below 0.05.
    fn ln_1p_series(self) -> Self {
        let ratio = self / (self + 2.0);
        let square = ratio.square();
        let mut sum = Self::ZERO;
        for odd in (1..=11).rev().map(|half| f64::from(2 * half + 1)) {
            sum = (sum + Self::ONE / odd) * square;
        }
        (ratio + ratio * sum).scaled(2.0)
    }
}

impl From<f64> for DoubleDouble {
    #[inline]
    fn from(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Neg for DoubleDouble {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self {
            high: -self.high,
            low: -self.low,
        }
    }
}

impl Add for DoubleDouble {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        let sum = two_sum(self.high, other.high);
        let rest = two_sum(self.low, other.low);
        let first = fast_two_sum(sum.high, sum.low + rest.high);
        fast_two_sum(first.high, rest.low + first.low)
    }
}

impl Add<f64> for DoubleDouble {
    type Output = Self;
    #[inline]
    fn add(self, other: f64) -> Self {
        let sum = two_sum(self.high, other);
        fast_two_sum(sum.high, self.low + sum.low)
    }
}

impl Sub for DoubleDouble {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        self + (-other)
    }
}

impl Sub<f64> for DoubleDouble {
    type Output = Self;
    #[inline]
    fn sub(self, other: f64) -> Self {
        self + (-other)
    }
}

impl Mul for DoubleDouble {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        let product = two_product(self.high, other.high);
        let cross = self.high.mul_add(other.low, self.low * other.high);
        fast_two_sum(product.high, product.low + cross)
    }
}

impl Mul<f64> for DoubleDouble {
    type Output = Self;
    #[inline]
    fn mul(self, other: f64) -> Self {
        let product = two_product(self.high, other);
        fast_two_sum(product.high, self.low.mul_add(other, product.low))
    }
}

impl Div for DoubleDouble {
    type Output = Self;
    #[inline]
    fn div(self, other: Self) -> Self {
        let quotient = self.high / other.high;
        let residual = self - other * quotient;
        fast_two_sum(quotient, residual.high / other.high)
    }
}

impl Div<f64> for DoubleDouble {
    type Output = Self;
    #[inline]
    fn div(self, other: f64) -> Self {
        let quotient = self.high / other;
        let residual = self - two_product(quotient, other);
        fast_two_sum(quotient, residual.high / other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_times_three_is_one_to_thirty_digits() {
        let error = DoubleDouble::ONE / 3.0 * 3.0 - 1.0;
        assert!(error.high.abs() < 1e-31, "{error:?}");
    }

    #[test]
    fn the_square_of_a_root_gives_the_number_back() {
        let root = DoubleDouble::from(2.0).sqrt();
        assert!((root.square() - 2.0).high.abs() < 1e-31);
    }

    #[test]
    fn logarithm_and_exponential_are_inverse() {
        for number in [1e-9, 0.003, 0.0999, 0.1, 1.0, 37.5, 1e9, 1e200] {
            let back = DoubleDouble::from(number).ln_1p().exp() - 1.0;
            let error = (back - number).high.abs() / (1.0 + number);
            assert!(error < 1e-28, "{number}: {error}");
        }
    }

    #[test]
    fn the_logarithm_of_three_is_the_published_constant() {
        // OEIS A002391: 1.0986122886681098 and, behind it, -9.07129723500153e-17.
        let logarithm = DoubleDouble::from(2.0).ln_1p();
        assert_eq!(logarithm.high, 1.098_612_288_668_109_8);
        assert!((logarithm.low + 9.071_297_235_001_53e-17).abs() < 1e-30);
    }
}
