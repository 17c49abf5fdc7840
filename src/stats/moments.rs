//! Sums of values and of their products while rows come and go, and what SQL makes of them: variances, correlations, lines of regression.
//! In: rows of one or two binary64 numbers, or other sums. Out: numbers that depend on no order of rows: each centred product
//! C = (n P - S S') / n is rounded once, and what is made of it twice or three times.
//!
//! One pass over data near 1e9 with plain sums of squares loses every digit of C; here nothing is lost before C is known.
//! Names and formulas are those of SQL:2016 (ISO/IEC 9075-2, 10.9), with the first argument as y.

use super::double_double::{DoubleDouble, two_product};
use super::double_sum::DoubleSum;
use super::exact_sum::Wide;
use super::state::triangle_index;

/// `VALUES` numbers a row and `SUMS` sums: of each value, and where there are more, two of each product.
#[derive(Clone, Debug)]
pub struct Moments<const VALUES: usize, const SUMS: usize> {
    n: u64,
    /// Of the values; then of rounded products, row by row of the upper triangle; then of what rounding took from those.
    sums: [DoubleSum; SUMS],
}

/// A sum and its count.
pub type Total = Moments<1, 1>;
/// What a variance is made of.
pub type Spread = Moments<1, 3>;
/// What a correlation is made of.
pub type Joint = Moments<2, 8>;

/// Positions of the arguments of a function of two.
const Y: usize = 0;
const X: usize = 1;

impl<const VALUES: usize, const SUMS: usize> Default for Moments<VALUES, SUMS> {
    fn default() -> Self {
        Self {
            n: 0,
            sums: std::array::from_fn(|_| DoubleSum::default()),
        }
    }
}

impl<const VALUES: usize, const SUMS: usize> Moments<VALUES, SUMS> {
    const PRODUCTS: usize = VALUES * (VALUES + 1) / 2;
    const HAS_PRODUCTS: bool = SUMS > VALUES;

    #[inline]
    pub fn add(&mut self, row: [f64; VALUES]) {
        self.n += 1;
        for (sum, value) in self.sums.iter_mut().zip(row) {
            sum.add(value);
        }
        if Self::HAS_PRODUCTS {
            self.add_products(row, 1.0);
        }
    }

    /// Takes away a row that was added before.
    #[inline]
    pub fn remove(&mut self, row: [f64; VALUES]) {
        self.n -= 1;
        for (sum, value) in self.sums.iter_mut().zip(row) {
            sum.remove(value);
        }
        if Self::HAS_PRODUCTS {
            self.add_products(row, -1.0);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(more);
        }
    }

    /// Rows.
    pub fn n(&self) -> u64 {
        self.n
    }

    pub fn sums(&self) -> &[DoubleSum; SUMS] {
        &self.sums
    }

    pub fn sums_mut(&mut self) -> &mut [DoubleSum; SUMS] {
        &mut self.sums
    }

    /// Of rows and sums that another one had.
    pub fn from_parts(n: u64, sums: [DoubleSum; SUMS]) -> Self {
        Self { n, sums }
    }

    /// Products with a number that is not finite are left out: the sum of that number says so already.
    #[inline]
    fn add_products(&mut self, row: [f64; VALUES], sign: f64) {
        let mut place = VALUES;
        for i in 0..VALUES {
            for j in i..VALUES {
                let (rounded, rest) = self.sums.split_at_mut(place + Self::PRODUCTS);
                add_product(&mut rounded[place], &mut rest[0], sign * row[i], row[j]);
                place += 1;
            }
        }
    }

    fn sum(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sums[0].rounded())
    }

    /// The rounded sum divided by the count.
    fn quotient(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sums[0].rounded() / self.n as f64)
    }

    /// The mean of a value to twice the digits; NaN where a value was not finite.
    fn mean(&self, value: usize) -> DoubleDouble {
        match self.sums[value].to_wide() {
            Some(sum) => sum.divided_by(self.n),
            None => DoubleDouble::from(f64::NAN),
        }
    }

    /// Sum of (v_i - mean_i)(v_j - mean_j), rounded once; NaN where a value was not finite.
    fn centred(&self, i: usize, j: usize) -> f64 {
        let sum = |value: usize| self.sums[value].to_wide();
        match (sum(i), sum(j), self.product(i, j)) {
            (Some(a), Some(b), Some(product)) => {
                let scaled = product.times_count(self.n).minus(&a.times(&b));
                scaled.divided_by(self.n).high
            }
            _ => f64::NAN,
        }
    }

    fn product(&self, i: usize, j: usize) -> Option<Wide> {
        let place = VALUES + triangle_index(VALUES, i.min(j), i.max(j));
        let mut all = self.sums[place].clone();
        all.merge(&self.sums[place + Self::PRODUCTS]);
        all.to_wide()
    }
}

/// Below it, the error of a rounded product may have no number: 2^-1074 2^106 = 2^-968.
const SMALLEST_PRODUCT: f64 = 1e-290;

#[inline]
fn add_product(rounded: &mut DoubleSum, rest: &mut DoubleSum, a: f64, b: f64) {
    let product = two_product(a, b);
    let size = product.high.abs();
    if size > SMALLEST_PRODUCT && size < f64::INFINITY {
        rounded.add(product.high);
        rest.add(product.low);
    } else if a.is_finite() && b.is_finite() {
        rounded.add_product(a, b);
    }
}

/// What SQL makes of [`Moments`]; `None` is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfTotal {
    Sum,
    Mean,
}

impl OfTotal {
    pub fn value(self, total: &Total) -> Option<f64> {
        match self {
            OfTotal::Sum => total.sum(),
            OfTotal::Mean => total.quotient(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfSpread {
    /// C / (n - 1), of two rows or more.
    VarianceOfSample,
    /// C / n.
    VarianceOfPopulation,
    DeviationOfSample,
    DeviationOfPopulation,
}

impl OfSpread {
    pub fn value(self, spread: &Spread) -> Option<f64> {
        let is_sample = matches!(
            self,
            OfSpread::VarianceOfSample | OfSpread::DeviationOfSample
        );
        let variance = centred_mean(spread, (0, 0), is_sample)?;
        Some(match self {
            OfSpread::VarianceOfSample | OfSpread::VarianceOfPopulation => variance,
            OfSpread::DeviationOfSample | OfSpread::DeviationOfPopulation => variance.sqrt(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfJoint {
    CovarianceOfSample,
    CovarianceOfPopulation,
    /// C_xy / sqrt(C_xx C_yy); NULL where a value does not vary.
    Correlation,
    /// C_xy / C_xx; NULL where x does not vary.
    Slope,
    Intercept,
    /// The square of the correlation; NULL where a value does not vary.
    Determination,
    MeanX,
    MeanY,
    SquaresX,
    SquaresY,
    Products,
}

impl OfJoint {
    pub fn value(self, joint: &Joint) -> Option<f64> {
        let several = joint.n() > 1;
        let any = joint.n() > 0;
        match self {
            OfJoint::CovarianceOfSample => centred_mean(joint, (X, Y), true),
            OfJoint::CovarianceOfPopulation => centred_mean(joint, (X, Y), false),
            OfJoint::Correlation => correlation(joint).filter(|_| several),
            OfJoint::Determination => correlation(joint).filter(|_| several).map(|r| r * r),
            OfJoint::Slope => slope(joint).filter(|_| several).map(DoubleDouble::value),
            OfJoint::Intercept => {
                let line = |slope: DoubleDouble| (joint.mean(Y) - slope * joint.mean(X)).value();
                slope(joint).filter(|_| several).map(line)
            }
            OfJoint::MeanX => any.then(|| joint.mean(X).value()),
            OfJoint::MeanY => any.then(|| joint.mean(Y).value()),
            OfJoint::SquaresX => any.then(|| joint.centred(X, X)),
            OfJoint::SquaresY => any.then(|| joint.centred(Y, Y)),
            OfJoint::Products => any.then(|| joint.centred(X, Y)),
        }
    }
}

/// C / (n - 1) of a sample, C / n of a population.
fn centred_mean<const VALUES: usize, const SUMS: usize>(
    moments: &Moments<VALUES, SUMS>,
    (i, j): (usize, usize),
    is_sample: bool,
) -> Option<f64> {
    let divisor = moments.n().checked_sub(u64::from(is_sample))?;
    (divisor > 0).then(|| moments.centred(i, j) / divisor as f64)
}

fn correlation(joint: &Joint) -> Option<f64> {
    let (xx, yy, xy) = (
        joint.centred(X, X),
        joint.centred(Y, Y),
        joint.centred(X, Y),
    );
    if xx == 0.0 || yy == 0.0 {
        return None;
    }
    let product = two_product(xx, yy);
    // The root of the product is nearer to the exact one than the product of roots, but the product may leave the range of doubles.
    let root = match product.high.is_finite() && product.high > SMALLEST_PRODUCT {
        true => product.sqrt(),
        false => DoubleDouble::from(xx.sqrt()) * yy.sqrt(),
    };
    let found = (DoubleDouble::from(xy) / root).value();
    // A NaN stays one.
    Some(found.clamp(-1.0, 1.0))
}

fn slope(joint: &Joint) -> Option<DoubleDouble> {
    let xx = joint.centred(X, X);
    (xx != 0.0).then(|| DoubleDouble::from(joint.centred(X, Y)) / xx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Stream;
    use crate::stats::state::State;

    fn spread(values: &[f64]) -> Spread {
        let mut spread = Spread::default();
        values.iter().for_each(|value| spread.add([*value]));
        spread
    }

    fn joint(rows: &[[f64; 2]]) -> Joint {
        let mut joint = Joint::default();
        rows.iter().for_each(|row| joint.add(*row));
        joint
    }

    /// Numbers of many sizes: small, huge, near a billion, with products beyond the largest and below the smallest double.
    fn random_rows(random: &mut Stream, kind: usize) -> Vec<[f64; 2]> {
        let number = |random: &mut Stream| {
            let uniform = random.uniform();
            match kind % 4 {
                0 => (uniform * 1e4).round() / 100.0,
                1 => 1e9 + uniform,
                2 => (uniform - 0.5) * 10f64.powi((random.uniform() * 500.0) as i32 - 250),
                _ => (uniform * 3.0).floor() * 1e-160,
            }
        };
        (0..60).map(|_| [number(random), number(random)]).collect()
    }

    #[test]
    fn centred_products_are_those_of_states_in_any_order_and_after_rows_have_left() {
        let mut random = Stream::new(3);
        for round in 0..200 {
            let rows = random_rows(&mut random, round);
            let columns = [0, 1].map(|value| rows.iter().map(|row| row[value]).collect::<Vec<_>>());
            let state = State::of_columns(&[&columns[0], &columns[1]]);
            let mut reversed = joint(&rows[..20]);
            rows[20..].iter().rev().for_each(|row| reversed.add(*row));
            let others = random_rows(&mut random, round + 1);
            let mut left = joint(&others);
            left.merge(&reversed);
            others.iter().for_each(|row| left.remove(*row));
            for (i, j) in [(0, 0), (0, 1), (1, 1)] {
                let expected = state.cross_product(i, j).to_bits();
                assert_eq!(joint(&rows).centred(i, j).to_bits(), expected);
                assert_eq!(reversed.centred(i, j).to_bits(), expected);
                assert_eq!(left.centred(i, j).to_bits(), expected);
            }
            assert_eq!(left.mean(0), state.mean[0]);
        }
    }

    #[test]
    fn usual_products_take_no_memory() {
        let prices = (0..100_000).map(|at| f64::from(at % 9973) / 100.0);
        let mut moments = Spread::default();
        prices.for_each(|price| moments.add([price]));
        assert!(moments.sums().iter().all(DoubleSum::is_usual));
    }

    #[test]
    fn data_far_from_zero_keep_their_digits() {
        let spread = spread(&[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        assert_eq!(OfSpread::VarianceOfSample.value(&spread), Some(1.0));
        let far = joint(&[[1e9, 2e9], [1e9 + 1.0, 2e9 + 3.0], [1e9 + 2.0, 2e9 + 6.0]]);
        assert_eq!(OfJoint::Correlation.value(&far), Some(1.0));
        assert_eq!(OfJoint::Slope.value(&far), Some(1.0 / 3.0));
        let intercept = OfJoint::Intercept.value(&far).expect("x varies");
        // 1e9 - 2e9 / 3, whose nearest double this is.
        assert_eq!(intercept, 1e9 / 3.0);
    }

    #[test]
    fn nothing_and_one_row_are_null_where_sql_says_so() {
        let (none, one) = (Spread::default(), spread(&[3.5]));
        assert_eq!(OfSpread::VarianceOfPopulation.value(&none), None);
        assert_eq!(OfSpread::VarianceOfPopulation.value(&one), Some(0.0));
        assert_eq!(OfSpread::DeviationOfSample.value(&one), None);
        let (none, one) = (Joint::default(), joint(&[[1.0, 2.0]]));
        for function in [
            OfJoint::CovarianceOfSample,
            OfJoint::Correlation,
            OfJoint::Slope,
            OfJoint::Intercept,
            OfJoint::Determination,
        ] {
            assert_eq!(function.value(&none), None, "{function:?}");
            assert_eq!(function.value(&one), None, "{function:?}");
        }
        assert_eq!(OfJoint::MeanX.value(&one), Some(2.0));
        assert_eq!(OfJoint::SquaresY.value(&one), Some(0.0));
        let level = joint(&[[1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]);
        assert_eq!(OfJoint::Correlation.value(&level), None);
        assert_eq!(OfJoint::Slope.value(&level), Some(0.0));
        assert_eq!(OfJoint::Intercept.value(&level), Some(1.0));
    }

    #[test]
    fn what_is_not_finite_gives_nan_until_it_leaves() {
        let mut spread = spread(&[1.0, 3.0, f64::INFINITY]);
        assert!(
            OfSpread::VarianceOfSample
                .value(&spread)
                .is_some_and(f64::is_nan)
        );
        spread.remove([f64::INFINITY]);
        assert_eq!(OfSpread::VarianceOfSample.value(&spread), Some(2.0));
        let rows = joint(&[[f64::NAN, 1.0], [2.0, 2.0], [3.0, 4.0]]);
        assert!(OfJoint::Correlation.value(&rows).is_some_and(f64::is_nan));
        assert_eq!(OfJoint::MeanX.value(&rows), Some(7.0 / 3.0));
    }
}
