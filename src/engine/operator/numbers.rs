//! Numbers as the kernel wants them: whole, so that sums of them are exact in any order.
//! In: numbers of value columns. Out: hundredths of decimals that have some, other numbers as they are, what stands for NULL, and the
//! way back.

use crate::stats::double_sum::DoubleSum;

/// Values up to here, once scaled to whole numbers, take the fast way: their products stay far below 2^53.
pub const LARGEST_WHOLE: f64 = (1u64 << 24) as f64;

/// Decimals with two places become whole numbers.
pub const SCALE: f64 = 100.0;

/// Below it, whole numbers are told from others by [`nearest_whole`], and of decimals they are hundredths.
const MOST_HUNDREDTHS: f64 = (1u64 << 51) as f64;

/// A decimal number as the kernel wants it: hundredths, if there are so many of them that dividing gives exactly that number again; any
/// other number is itself. Some of those are whole too, from 2e13 on, and are hidden in a NaN.
#[inline(always)]
pub fn scaled(value: f64) -> f64 {
    let (number, is_known) = surely_scaled(value);
    if is_known { number } else { hidden(value) }
}

/// The same, and false where it may be another number, hardly ever.
#[inline(always)]
pub fn surely_scaled(value: f64) -> (f64, bool) {
    let whole = nearest_whole(value * SCALE);
    let is_hundredths = (whole / SCALE == value) & (whole.abs() < MOST_HUNDREDTHS);
    let number = if is_hundredths { whole } else { value };
    // A NaN is neither less nor greater.
    let is_broken = (value < nearest_whole(value)) | (value > nearest_whole(value));
    (number, is_hundredths | is_broken)
}

/// What is neither hundredths nor a number with a fraction.
#[cold]
fn hidden(value: f64) -> f64 {
    const SIGN: u64 = 1 << 63;
    match value.abs() < MOST_HUNDREDTHS {
        _ if value.is_nan() => f64::NAN,
        true => f64::from_bits(HIDDEN | (value.to_bits() & SIGN) | value.abs() as u64),
        false => value,
    }
}

/// A quiet NaN, with room for whole numbers below [`MOST_HUNDREDTHS`]; that of [`NULL`] is too small to be hidden.
const HIDDEN: u64 = 0x7ff8 << 48;

/// The number itself of one of a column that has this scale; NULL stays.
#[inline(always)]
pub fn unscaled(number: f64, scale: f64) -> f64 {
    match scale == 1.0 {
        true => number,
        false if is_hundredths(number) => number / scale,
        false if number.is_nan() && !is_null(number) => shown(number),
        false => number,
    }
}

#[cold]
fn shown(number: f64) -> f64 {
    let whole = number.to_bits() & (MOST_HUNDREDTHS as u64 - 1);
    match whole {
        0 => f64::NAN,
        _ => (whole as f64).copysign(number),
    }
}

/// Whether a number of a scaled column stands for hundredths.
#[inline(always)]
fn is_hundredths(number: f64) -> bool {
    number.abs() < MOST_HUNDREDTHS && number == nearest_whole(number)
}

/// Whether a cap cuts a number. One that is not finite is not cut, so that it is seen.
#[inline(always)]
pub fn exceeds(value: f64, cap: f64) -> bool {
    value > cap && value < f64::INFINITY
}

/// Whether a number of a column is a new extreme; a NaN always is, so that it is seen.
#[inline(always)]
pub fn is_beyond(number: f64, known: f64, scale: f64, is_max: bool) -> bool {
    let (value, known) = match is_hundredths(number) && is_hundredths(known) {
        true => (number, known),
        false => (unscaled(number, scale), unscaled(known, scale)),
    };
    value.is_nan() || if is_max { value > known } else { value < known }
}

/// The sum of numbers of a column, rounded once: of hundredths as long as all are some, else of the numbers themselves.
pub fn total(numbers: impl Iterator<Item = f64> + Clone, scale: f64) -> f64 {
    if scale == 1.0 {
        return numbers.collect::<DoubleSum>().rounded();
    }
    match numbers.clone().all(is_hundredths) {
        true => rescaled(numbers.collect::<DoubleSum>().rounded(), scale),
        false => {
            let own = numbers.map(|number| unscaled(number, scale));
            scaled(own.collect::<DoubleSum>().rounded())
        }
    }
}

/// A whole number of hundredths as a column has it.
fn rescaled(hundredths: f64, scale: f64) -> f64 {
    match is_hundredths(hundredths) {
        true => hundredths,
        false => scaled(hundredths / scale),
    }
}

/// [`total`] of numbers that come one by one.
#[derive(Clone, Debug, Default)]
pub struct Total {
    whole: DoubleSum,
    own: DoubleSum,
    has_others: bool,
}

impl Total {
    pub fn add(&mut self, number: f64, scale: f64) {
        if scale == 1.0 {
            return self.whole.add(number);
        }
        match is_hundredths(number) {
            true => self.whole.add(number),
            false => self.has_others = true,
        }
        self.own.add(unscaled(number, scale));
    }

    /// As a number of the column.
    pub fn rounded(&self, scale: f64) -> f64 {
        match (scale == 1.0, self.has_others) {
            (true, _) => self.whole.rounded(),
            (false, true) => scaled(self.own.rounded()),
            (false, false) => rescaled(self.whole.rounded(), scale),
        }
    }
}

/// A unit's numbers of a metric as they are added up: all of them as they are, where that is exact, or the numbers themselves.
pub struct Exact {
    pub numbers: Vec<f64>,
    pub is_whole: bool,
}

impl Exact {
    /// Of numbers of columns, each with its scale.
    pub fn of(numbers: impl Iterator<Item = (f64, f64)> + Clone) -> Exact {
        let is_whole = numbers.clone().all(|(number, _)| is_hundredths(number));
        let numbers = numbers.map(|(number, scale)| match is_whole {
            true => number,
            false => unscaled(number, scale),
        });
        Exact {
            numbers: numbers.collect(),
            is_whole,
        }
    }
}

/// The nearest whole number of a number below 2^51; of others, something else.
// Adding 1.5 x 2^52 leaves no bits for a fraction. `round` and `trunc` are function calls on processors without SSE 4.1.
#[inline(always)]
pub fn nearest_whole(value: f64) -> f64 {
    const NO_FRACTION: f64 = 1.5 * (1u64 << 52) as f64;
    (value + NO_FRACTION) - NO_FRACTION
}

/// Whether a row can hold the number.
#[inline(always)]
pub fn fits(value: f64) -> bool {
    value.abs() <= LARGEST_WHOLE && value == nearest_whole(value)
}

/// NULL in a value column: a NaN with a payload of its own, so that a NaN in the data is still seen.
pub const NULL: f64 = f64::from_bits(0x7ff8_0000_dead_0001);

#[inline(always)]
pub fn is_null(value: f64) -> bool {
    value.to_bits() == NULL.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Stream;

    fn comes_back(value: f64) {
        let found = unscaled(scaled(value), SCALE);
        assert!(
            found == value || (found.is_nan() && value.is_nan()),
            "{value:e} became {found:e}"
        );
    }

    #[test]
    fn every_number_comes_back_as_it_was() {
        let edges = [
            0.0,
            0.01,
            -0.07,
            1.0 / 7.0,
            0.125,
            0.29,
            1e13 + 0.01,
            22_517_998_136_852.47,
            22_517_998_136_852.48,
            22_517_998_136_853.0,
            3e13,
            3e13 + 0.5,
            2_251_799_813_685_247.0,
            2_251_799_813_685_248.0,
            9e15,
            1e17,
            1e306,
            1.7e308,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
            5e-324,
            1e-310,
        ];
        for edge in edges {
            comes_back(edge);
            comes_back(-edge);
        }
        let mut random = Stream::new(3);
        for _ in 0..200_000 {
            let bits = (random.uniform() * 2f64.powi(53)) as u64
                ^ ((random.uniform() * 2f64.powi(53)) as u64) << 11;
            comes_back(f64::from_bits(bits));
            let size = 10f64.powi((random.uniform() * 20.0) as i32);
            let value = (random.uniform() - 0.5) * size;
            comes_back(value);
            comes_back((value * 100.0).round() / 100.0);
            comes_back(value.round());
        }
    }

    #[test]
    fn hundredths_are_whole_and_nothing_else_is() {
        for (value, expected) in [
            (0.29, 29.0),
            (-1234.56, -123_456.0),
            (7.0, 700.0),
            (-0.0, 0.0),
        ] {
            assert_eq!(scaled(value), expected);
        }
        for value in [1.0 / 3.0, 0.125, 0.1 + 0.2, 1e300] {
            assert_eq!(scaled(value), value);
        }
        // Whole numbers with too many hundredths are no numbers to whoever adds whole ones.
        assert!(scaled(3e13 + 1.0).is_nan() && !is_null(scaled(3e13 + 1.0)));
        assert_eq!(unscaled(NULL, SCALE).to_bits(), NULL.to_bits());
    }

    #[test]
    fn totals_are_decimal_until_a_number_is_not() {
        let sum = |values: &[f64]| {
            let numbers = values.iter().map(|value| scaled(*value));
            let mut one_by_one = Total::default();
            numbers
                .clone()
                .for_each(|number| one_by_one.add(number, SCALE));
            let found = total(numbers, SCALE);
            assert_eq!(one_by_one.rounded(SCALE).to_bits(), found.to_bits());
            unscaled(found, SCALE)
        };
        assert_eq!(sum(&[0.1, 0.2]), 0.3);
        assert_eq!(sum(&[0.1, 0.2, 0.125]), 0.425_000_000_000_000_04);
        assert_eq!(sum(&[1e6 + 1.0 / 7.0, -1e6]), 1e6 + 1.0 / 7.0 - 1e6);
        assert_eq!(sum(&[1e306, 1e306]), 2e306);
        assert_eq!(sum(&[4e13, 1.0, -4e13]), 1.0);
        assert_eq!(sum(&[2e13, 2e13, 0.01]), 4e13 + 0.01);
    }
}
