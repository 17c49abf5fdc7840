//! The sum of doubles as SQL means it, rounded once: the same bits whatever the order and the partitions.
//! In: binary64 numbers one at a time, or other sums. Out: the nearest number to the exact sum; with NaN or infinities what IEEE 754 says.
//! Most sums are the exact sum of two numbers: additions keep their error (Knuth's TwoSum), and the sum of the errors rarely has one of its
//! own. What has goes to an [`ExactSum`], which is slower.

use super::double_double::two_sum;
use super::exact_sum::{ExactSum, Wide};

/// Below it, no sum of two numbers is infinite.
const LARGEST_USUAL: f64 = f64::MAX / 4.0;

/// A running sum, from which numbers can be taken away again.
#[derive(Clone, Debug, Default)]
pub struct DoubleSum {
    high: f64,
    low: f64,
    rest: Option<Box<Rest>>,
}

/// What two numbers cannot hold.
#[derive(Clone, Debug, Default)]
struct Rest {
    sum: ExactSum,
    nan: i64,
    positive_infinite: i64,
    negative_infinite: i64,
}

impl Rest {
    fn is_finite(&self) -> bool {
        [self.nan, self.positive_infinite, self.negative_infinite] == [0; 3]
    }
}

impl DoubleSum {
    #[inline]
    pub fn add(&mut self, value: f64) {
        // A NaN compares false.
        if value.abs() < LARGEST_USUAL {
            let sum = two_sum(self.high, value);
            let error = two_sum(self.low, sum.low);
            if sum.high.abs() < LARGEST_USUAL {
                (self.high, self.low) = (sum.high, error.high);
                if error.low != 0.0 {
                    self.rest().sum.add(error.low);
                }
                return;
            }
        }
        self.count(value, 1);
    }

    /// Takes away a number that was added before.
    #[inline]
    pub fn remove(&mut self, value: f64) {
        match value.is_finite() {
            true => self.add(-value),
            false => self.count(value, -1),
        }
    }

    /// Adds the exact product of two finite numbers, the slow way.
    #[cold]
    pub fn add_product(&mut self, a: f64, b: f64) {
        if a != 0.0 && b != 0.0 {
            self.rest().sum.add_product(a, b);
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.add(other.high);
        self.add(other.low);
        if let Some(more) = &other.rest {
            let rest = self.rest();
            rest.sum.merge(&more.sum);
            rest.nan += more.nan;
            rest.positive_infinite += more.positive_infinite;
            rest.negative_infinite += more.negative_infinite;
        }
    }

    /// The nearest number, ties to even; never -0.
    pub fn rounded(&self) -> f64 {
        let Some(rest) = &self.rest else {
            return self.high + self.low;
        };
        match (rest.positive_infinite > 0, rest.negative_infinite > 0) {
            _ if rest.nan > 0 => f64::NAN,
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => self.exact(Some(rest)).rounded(),
        }
    }

    /// The exact sum; `None` where a number in it is not finite.
    pub fn to_wide(&self) -> Option<Wide> {
        let rest = self.rest.as_deref();
        rest.is_none_or(Rest::is_finite).then(|| self.exact(rest))
    }

    fn exact(&self, rest: Option<&Rest>) -> Wide {
        let mut sum = rest.map_or_else(ExactSum::default, |rest| rest.sum.clone());
        sum.add(self.high);
        sum.add(self.low);
        sum.to_wide()
    }

    /// Whether two numbers hold the sum, so that it takes no memory but its own.
    #[inline]
    pub fn is_usual(&self) -> bool {
        self.rest.is_none()
    }

    /// Two numbers, and what they cannot hold, for [`DoubleSum::from_parts`].
    pub fn parts(&mut self) -> (f64, f64, Option<Vec<u8>>) {
        let rest = self.rest.as_mut().map(|rest| {
            let infinite = [rest.positive_infinite, rest.negative_infinite];
            let (lowest, digits) = rest.sum.parts();
            let first = [rest.nan, infinite[0], infinite[1], i64::from(lowest)];
            let words = first.iter().chain(digits);
            words.flat_map(|word| word.to_le_bytes()).collect()
        });
        (self.high, self.low, rest)
    }

    /// The sum that [`DoubleSum::parts`] described; `None` when the bytes are something else.
    pub fn from_parts(high: f64, low: f64, rest: Option<&[u8]>) -> Option<Self> {
        let rest = match rest {
            None => None,
            Some(bytes) => {
                let (words, []) = bytes.as_chunks() else {
                    return None;
                };
                let words: Vec<i64> = words.iter().map(|word| i64::from_le_bytes(*word)).collect();
                let [
                    nan,
                    positive_infinite,
                    negative_infinite,
                    lowest,
                    digits @ ..,
                ] = &words[..]
                else {
                    return None;
                };
                Some(Box::new(Rest {
                    sum: ExactSum::from_parts(i32::try_from(*lowest).ok()?, digits.to_vec()),
                    nan: *nan,
                    positive_infinite: *positive_infinite,
                    negative_infinite: *negative_infinite,
                }))
            }
        };
        Some(Self { high, low, rest })
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Adds or takes away a number that is no finite one, or adds a huge one.
    #[cold]
    fn count(&mut self, value: f64, times: i64) {
        let rest = self.rest();
        match value {
            f64::INFINITY => rest.positive_infinite += times,
            f64::NEG_INFINITY => rest.negative_infinite += times,
            _ if value.is_nan() => rest.nan += times,
            _ => rest.sum.add(value),
        }
    }
}

impl FromIterator<f64> for DoubleSum {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sum = Self::default();
        values.into_iter().for_each(|value| sum.add(value));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Stream;

    fn sum(values: &[f64]) -> DoubleSum {
        values.iter().copied().collect()
    }

    /// Numbers whose sums lose everything when they are added one by one.
    fn hostile(random: &mut Stream, length: usize) -> Vec<f64> {
        let number = |random: &mut Stream| {
            let exponent = (random.uniform() * 600.0) as i32 - 300;
            (random.uniform() - 0.5) * 10f64.powi(exponent)
        };
        let mut values: Vec<f64> = (0..length).map(|_| number(random)).collect();
        // Most of the large ones cancel.
        let back: Vec<f64> = values.iter().skip(1).map(|value| -value).collect();
        values.extend(back);
        values
    }

    #[test]
    fn sums_are_those_of_the_superaccumulator_in_any_order_and_in_parts() {
        let mut random = Stream::new(7);
        for round in 0..300 {
            let mut values = match round % 3 {
                0 => hostile(&mut random, 40),
                1 => (0..200).map(|_| random.uniform() * 1e6).collect(),
                _ => (0..200).map(|at| f64::from(at) * 0.01).collect(),
            };
            let mut exact = ExactSum::default();
            values.iter().for_each(|value| exact.add(*value));
            let expected = exact.to_wide().rounded().to_bits();
            assert_eq!(sum(&values).rounded().to_bits(), expected);
            values.reverse();
            assert_eq!(sum(&values).rounded().to_bits(), expected);
            let (left, right) = values.split_at(values.len() / 3);
            let (mut merged, mut other) = (sum(left), sum(right));
            let (high, low, rest) = other.parts();
            let other = DoubleSum::from_parts(high, low, rest.as_deref()).expect("whole parts");
            merged.merge(&other);
            assert_eq!(merged.rounded().to_bits(), expected);
        }
    }

    #[test]
    fn usual_sums_take_no_memory() {
        let prices = (0..1_000_000).map(|at| f64::from(at % 9973) / 100.0);
        assert!(prices.collect::<DoubleSum>().is_usual());
        let seconds = (0..1_000_000).map(|at| f64::from(at).sqrt());
        assert!(seconds.collect::<DoubleSum>().is_usual());
    }

    #[test]
    fn what_is_taken_away_leaves_what_was_there() {
        let mut running = sum(&[0.1, 1e300, f64::INFINITY, f64::NAN, f64::MAX, f64::MAX]);
        for value in [1e300, f64::INFINITY, f64::NAN, f64::MAX] {
            running.remove(value);
        }
        running.remove(f64::MAX);
        assert_eq!(running.rounded(), 0.1);
    }

    #[test]
    fn specials_are_those_of_ieee_754() {
        let cases = [
            (&[][..], 0.0),
            (&[-0.0, -0.0], 0.0),
            (&[f64::INFINITY, 1.0], f64::INFINITY),
            (&[f64::NEG_INFINITY, 1e308, 1e308], f64::NEG_INFINITY),
            (&[f64::MAX, f64::MAX], f64::INFINITY),
            (&[f64::MAX, f64::MAX, -f64::MAX], f64::MAX),
            (&[-f64::MAX, -1e300, 1e300], -f64::MAX),
        ];
        for (values, expected) in cases {
            let found = sum(values).rounded();
            assert_eq!(found.to_bits(), expected.to_bits(), "{values:?}: {found}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).rounded().is_nan());
        assert!(sum(&[1.0, f64::NAN, f64::INFINITY]).rounded().is_nan());
    }

    #[test]
    fn damaged_parts_are_none() {
        assert!(DoubleSum::from_parts(0.0, 0.0, Some(&[1; 24])).is_none());
        assert!(DoubleSum::from_parts(0.0, 0.0, Some(&[0; 33])).is_none());
        assert!(DoubleSum::from_parts(0.0, 0.0, Some(&[0; 32])).is_some());
    }
}
