//! Sums of numbers and of products without any rounding, so that they cannot depend on the order of the terms.
//! In: binary64 terms in any order, on any thread. Out: one correctly rounded number, or an exact [`Wide`] integer for more work.
//! A small superaccumulator (Neal, "Fast exact summation using small and large superaccumulators", arXiv 1505.05571, 2015): fixed-point
//! digits of 32 bits in 64-bit words, carried late. Only the digits in use are kept, 4 to 10 for usual data.

use super::double_double::DoubleDouble;
use std::cmp::Ordering;

const DIGIT_BITS: i32 = 32;
const DIGIT_MASK: u128 = 0xffff_ffff;
/// Each term adds less than 2^32 to a digit, so 2^30 terms stay far from the ends of a 64-bit word.
const MOST_PENDING: u32 = 1 << 30;

/// An exact running sum.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    /// The digit position of `digits[0]`: its unit is 2^(32 lowest).
    lowest: i32,
    digits: Vec<i64>,
    pending: u32,
}

impl ExactSum {
    /// Adds a finite number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let (negative, mantissa, exponent) = decompose(value);
        self.add_scaled(negative, u128::from(mantissa), exponent);
    }

    /// Adds the exact product of two finite numbers.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64) {
        let (negative_a, mantissa_a, exponent_a) = decompose(a);
        let (negative_b, mantissa_b, exponent_b) = decompose(b);
        let product = u128::from(mantissa_a) * u128::from(mantissa_b);
        self.add_scaled(negative_a != negative_b, product, exponent_a + exponent_b);
    }

    /// Adds `count` times a finite number.
    pub fn add_multiple(&mut self, count: u64, value: f64) {
        let (negative, mantissa, exponent) = decompose(value);
        self.add_scaled(negative, u128::from(mantissa) * u128::from(count), exponent);
    }

    /// Adds `count` times the product of two finite numbers.
    pub fn add_product_multiple(&mut self, count: u64, a: f64, b: f64) {
        let (negative_a, mantissa_a, exponent_a) = decompose(a);
        let (negative_b, mantissa_b, exponent_b) = decompose(b);
        let product = u128::from(mantissa_a) * u128::from(mantissa_b);
        // 106 bits of product leave room for 22 bits of the count at a time.
        for part in 0..3 {
            let piece = u128::from((count >> (22 * part)) & 0x3f_ffff);
            self.add_scaled(
                negative_a != negative_b,
                product * piece,
                exponent_a + exponent_b + 22 * part,
            );
        }
    }

    /// Adds a whole number.
    pub fn add_whole(&mut self, number: i128) {
        self.add_scaled(number < 0, number.unsigned_abs(), 0);
    }

    /// Adds another exact sum.
    pub fn merge(&mut self, other: &Self) {
        let mut carried = other.clone();
        carried.carry();
        self.carry();
        for (offset, digit) in carried.digits.iter().enumerate() {
            if *digit != 0 {
                *self.digit(carried.lowest + offset as i32) += digit;
            }
        }
        self.pending = 2;
    }

    /// The exact value.
    pub fn to_wide(&self) -> Wide {
        let mut carried = self.clone();
        carried.carry();
        Wide::from_digits(&carried.digits, carried.lowest)
    }

    /// The lowest digit's position and the carried digits, for storage.
    pub fn parts(&mut self) -> (i32, &[i64]) {
        self.carry();
        (self.lowest, &self.digits)
    }

    /// The sum that [`ExactSum::parts`] described.
    pub fn from_parts(lowest: i32, digits: Vec<i64>) -> Self {
        Self {
            lowest,
            digits,
            pending: 2,
        }
    }

    #[inline]
    fn add_scaled(&mut self, negative: bool, mantissa: u128, exponent: i32) {
        if mantissa == 0 {
            return;
        }
        if self.pending >= MOST_PENDING {
            self.carry();
        }
        self.pending += 1;
        let shift = exponent & (DIGIT_BITS - 1);
        let mut position = exponent >> 5;
        let mut rest = mantissa << shift;
        let mut above = if shift == 0 {
            0
        } else {
            mantissa >> (128 - shift)
        };
        while rest != 0 || above != 0 {
            let part = (rest & DIGIT_MASK) as i64;
            if part != 0 {
                *self.digit(position) += if negative { -part } else { part };
            }
            rest = (rest >> DIGIT_BITS) | (above << (128 - DIGIT_BITS));
            above >>= DIGIT_BITS;
            position += 1;
        }
    }

    /// The digit at a position; the window grows to hold it.
    #[inline]
    fn digit(&mut self, position: i32) -> &mut i64 {
        let offset = position.wrapping_sub(self.lowest);
        if offset < 0 || offset as usize >= self.digits.len() {
            return self.grow_to(position);
        }
        &mut self.digits[offset as usize]
    }

    #[cold]
    fn grow_to(&mut self, position: i32) -> &mut i64 {
        if self.digits.is_empty() {
            self.lowest = position;
        }
        if position < self.lowest {
            let missing = (self.lowest - position) as usize;
            self.digits.splice(0..0, std::iter::repeat_n(0, missing));
            self.lowest = position;
        }
        let offset = (position - self.lowest) as usize;
        if offset >= self.digits.len() {
            self.digits.resize(offset + 1, 0);
        }
        &mut self.digits[offset]
    }

    /// Moves what exceeds 32 bits to the next digit; every digit but the highest ends in [0, 2^32).
    fn carry(&mut self) {
        self.pending = 0;
        let mut carried = 0;
        for digit in &mut self.digits {
            let sum = *digit + carried;
            carried = sum >> DIGIT_BITS;
            *digit = sum & DIGIT_MASK as i64;
        }
        match carried {
            0 => {}
            // A lone borrow goes back into the highest digit, so that negative sums keep their length.
            -1 if !self.digits.is_empty() => {
                let last = self.digits.len() - 1;
                self.digits[last] -= 1 << DIGIT_BITS;
            }
            _ => self.digits.push(carried),
        }
    }
}

/// Sign, whole mantissa and exponent of a finite number: `(-1)^sign mantissa 2^exponent`.
#[inline]
fn decompose(value: f64) -> (bool, u64, i32) {
    let bits = value.to_bits();
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let fraction = bits & 0x000f_ffff_ffff_ffff;
    let mantissa = if biased == 0 {
        fraction
    } else {
        fraction | (1 << 52)
    };
    (bits >> 63 == 1, mantissa, biased.max(1) - 1075)
}

/// An exact number: `(-1)^negative words 2^(32 lowest)`, least significant word first.
#[derive(Clone, Debug, Default)]
pub struct Wide {
    negative: bool,
    words: Vec<u32>,
    lowest: i32,
}

impl Wide {
    fn from_digits(digits: &[i64], lowest: i32) -> Self {
        let negative = digits
            .iter()
            .rev()
            .find(|digit| **digit != 0)
            .is_some_and(|digit| *digit < 0);
        let mut words = Vec::with_capacity(digits.len() + 1);
        let mut carried = 0;
        for digit in digits {
            let sum = carried + if negative { -digit } else { *digit };
            words.push((sum as u64 & 0xffff_ffff) as u32);
            carried = sum >> DIGIT_BITS;
        }
        words.push(carried as u32);
        Self {
            negative,
            words,
            lowest,
        }
        .trimmed()
    }

    pub fn is_zero(&self) -> bool {
        self.words.is_empty()
    }

    /// The exact product.
    pub fn times(&self, other: &Self) -> Self {
        let mut words = vec![0u32; self.words.len() + other.words.len()];
        for (low, a) in self.words.iter().enumerate() {
            let mut carried = 0u64;
            for (high, b) in other.words.iter().enumerate() {
                let sum = u64::from(words[low + high]) + u64::from(*a) * u64::from(*b) + carried;
                words[low + high] = sum as u32;
                carried = sum >> 32;
            }
            words[low + other.words.len()] = carried as u32;
        }
        Self {
            negative: self.negative != other.negative,
            words,
            lowest: self.lowest + other.lowest,
        }
        .trimmed()
    }

    /// The exact product with a count.
    pub fn times_count(&self, count: u64) -> Self {
        let words = vec![count as u32, (count >> 32) as u32];
        self.times(&Self {
            negative: false,
            words,
            lowest: 0,
        })
    }

    /// The exact sum.
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, false)
    }

    /// The exact difference.
    pub fn minus(&self, other: &Self) -> Self {
        self.combined(other, true)
    }

    fn combined(&self, other: &Self, is_difference: bool) -> Self {
        let lowest = self.lowest.min(other.lowest);
        let highest = self.highest().max(other.highest()) + 1;
        let length = (highest - lowest).max(0) as usize;
        let mut digits = vec![0i64; length];
        for (number, is_subtracted) in [(self, false), (other, is_difference)] {
            for (offset, word) in number.words.iter().enumerate() {
                let signed = if number.negative != is_subtracted {
                    -i64::from(*word)
                } else {
                    i64::from(*word)
                };
                digits[(number.lowest - lowest) as usize + offset] += signed;
            }
        }
        ExactSum {
            lowest,
            digits,
            pending: 2,
        }
        .to_wide()
    }

    /// The quotient by a count, correctly rounded to double-double.
    pub fn divided_by(&self, count: u64) -> DoubleDouble {
        if self.is_zero() || count == 0 {
            return DoubleDouble::ZERO;
        }
        let quotient = self.quotient(count);
        let high = quotient.rounded();
        if !high.is_finite() {
            return DoubleDouble::from(high);
        }
        let mut nearest = ExactSum::default();
        nearest.add(high);
        DoubleDouble {
            high,
            low: quotient.minus(&nearest.to_wide()).rounded(),
        }
    }

    /// The quotient with at least 256 bits, its last bit set when a remainder is left: enough to round as the exact one does.
    fn quotient(&self, count: u64) -> Self {
        const EXTRA_WORDS: usize = 8;
        let mut words = vec![0u32; self.words.len() + EXTRA_WORDS];
        let mut remainder = 0u128;
        for place in (0..words.len()).rev() {
            let word = if place >= EXTRA_WORDS {
                self.words[place - EXTRA_WORDS]
            } else {
                0
            };
            let dividend = (remainder << 32) | u128::from(word);
            words[place] = (dividend / u128::from(count)) as u32;
            remainder = dividend % u128::from(count);
        }
        if remainder != 0 {
            words[0] |= 1;
        }
        Self {
            negative: self.negative,
            words,
            lowest: self.lowest - EXTRA_WORDS as i32,
        }
        .trimmed()
    }

    /// The nearest binary64 number, ties to even; infinite beyond the largest.
    pub fn rounded(&self) -> f64 {
        let Some(top) = self.words.last() else {
            return 0.0;
        };
        let bits = self.words.len() as i32 * DIGIT_BITS - top.leading_zeros() as i32;
        let dropped = (bits - 64).max(0);
        let mut mantissa = 0u64;
        let mut is_inexact = false;
        for (place, word) in self.words.iter().enumerate() {
            let position = place as i32 * DIGIT_BITS - dropped;
            if position >= 0 {
                mantissa |= u64::from(*word) << position;
            } else if position > -DIGIT_BITS {
                mantissa |= u64::from(*word) >> -position;
                is_inexact |= *word << (DIGIT_BITS + position) != 0;
            } else {
                is_inexact |= *word != 0;
            }
        }
        // The lowest of 64 bits stands for everything below; the conversion to 53 bits then rounds to even correctly.
        let rounded = (mantissa | u64::from(is_inexact)) as f64;
        let magnitude = scale(rounded, dropped + self.lowest * DIGIT_BITS);
        if self.negative { -magnitude } else { magnitude }
    }

    fn highest(&self) -> i32 {
        self.lowest + self.words.len() as i32
    }

    fn trimmed(mut self) -> Self {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        self
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.minus(other).is_zero()
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let difference = self.minus(other);
        Some(match (difference.is_zero(), difference.negative) {
            (true, _) => Ordering::Equal,
            (false, true) => Ordering::Less,
            (false, false) => Ordering::Greater,
        })
    }
}

/// `value 2^exponent` in steps that stay representable.
fn scale(value: f64, exponent: i32) -> f64 {
    let mut scaled = value;
    let mut rest = exponent;
    while rest != 0 && scaled != 0.0 && scaled.is_finite() {
        let step = rest.clamp(-900, 900);
        scaled *= 2f64.powi(step);
        rest -= step;
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut total = ExactSum::default();
        values.iter().for_each(|value| total.add(*value));
        total.to_wide().rounded()
    }

    #[test]
    fn nothing_is_lost_between_huge_and_tiny_terms() {
        assert_eq!(sum(&[1e300, 1.0, -1e300, 1e-300]), 1.0);
        assert_eq!(sum(&[1e300, 1e-300, -1e300]), 1e-300);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[-0.1; 10]), -1.0);
    }

    #[test]
    fn the_order_of_the_terms_does_not_matter() {
        let values: Vec<f64> = (0..2000)
            .map(|step| (f64::from(step) * 1.37).sin() * 10f64.powi(step % 60 - 30))
            .collect();
        let mut backwards = values.clone();
        backwards.reverse();
        assert_eq!(sum(&values).to_bits(), sum(&backwards).to_bits());
    }

    #[test]
    fn a_sum_merged_from_parts_is_the_sum() {
        let (mut left, mut right) = (ExactSum::default(), ExactSum::default());
        for step in 0..1000 {
            let value = f64::from(step).cos() * 1e7;
            if step % 3 == 0 {
                left.add(value)
            } else {
                right.add_product(value, -0.1)
            }
        }
        let mut whole = right.clone();
        whole.merge(&left);
        left.merge(&right);
        assert!(left.to_wide() == whole.to_wide());
        let (lowest, digits) = left.parts();
        let stored = ExactSum::from_parts(lowest, digits.to_vec());
        assert!(stored.to_wide() == whole.to_wide());
    }

    #[test]
    fn a_quotient_is_the_nearest_double_double() {
        let mut one = ExactSum::default();
        one.add(1.0);
        let third = one.to_wide().divided_by(3);
        assert_eq!(third.high, 1.0 / 3.0);
        assert_eq!(third.low, 1.850_371_707_708_594e-17);
    }

    #[test]
    fn counts_multiply_exactly() {
        let mut product = ExactSum::default();
        product.add_product_multiple(u64::MAX, 0.1, -0.3);
        let mut factors = ExactSum::default();
        factors.add_product(0.1, -0.3);
        assert!(product.to_wide() == factors.to_wide().times_count(u64::MAX));
    }
}
