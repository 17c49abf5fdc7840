//! The mergeable state: all a method ever sees of the data.
//! In: one row of values per unit. Out: [`State`] with count, extremes, means in double-double and centred cross products.
//! An [`Accumulator`] keeps exact sums of values and products, so its state is correctly rounded and the same bytes for every order
//! of rows, batches and partitions; mean 1e9 with variance 1 is as exact as any other data. "Sum of squares minus square of the sum" is
//! safe here and only here, because both are exact integers.

use super::double_double::DoubleDouble;
use super::exact_sum::{ExactSum, Wide};
use super::status::Status;

/// Count, extremes, means and centred cross products of `width` values per unit.
/// One value makes a mean; two a ratio or CUPED; four a CUPED ratio; k + 1 several covariates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Units with a finite number in every value.
    pub n: u64,
    /// Units left out because a value was NULL.
    pub nulls: u64,
    /// Units left out because a value was NaN or infinite.
    pub non_finite: u64,
    /// Least value, infinite when there is none; per value, as all below.
    pub min: Vec<f64>,
    pub max: Vec<f64>,
    pub mean: Vec<DoubleDouble>,
    /// Sums of (v_i - mean_i)(v_j - mean_j) for i <= j, row by row: the upper triangle.
    pub cross_products: Vec<f64>,
}

impl State {
    /// The state of no unit.
    pub fn empty(width: usize) -> Self {
        Accumulator::new(width).finish()
    }

    /// The state of one value per unit.
    pub fn of(values: &[f64]) -> Self {
        let mut accumulator = Accumulator::new(1);
        values.iter().for_each(|value| accumulator.push(&[*value]));
        accumulator.finish()
    }

    /// The state of several values per unit, given as one slice per value; all slices must be equally long.
    pub fn of_columns(columns: &[&[f64]]) -> Self {
        let mut accumulator = Accumulator::new(columns.len());
        let mut row = vec![0.0; columns.len()];
        for unit in 0..columns.first().map_or(0, |column| column.len()) {
            for (value, column) in row.iter_mut().zip(columns) {
                *value = column[unit];
            }
            accumulator.push(&row);
        }
        accumulator.finish()
    }

    /// The state known only by count, mean and variance (divisor n - 1).
    pub fn of_moments(n: u64, mean: f64, variance: f64) -> Self {
        let squares = if n < 2 {
            0.0
        } else {
            variance * (n - 1) as f64
        };
        Self {
            n,
            min: vec![f64::INFINITY],
            max: vec![f64::NEG_INFINITY],
            mean: vec![DoubleDouble::from(mean)],
            cross_products: vec![squares],
            ..Self::default()
        }
    }

    /// The union of two states; commutative to the bit, associative to the last rounding.
    pub fn merge(&self, other: &Self) -> Self {
        Self::merge_all([self, other])
    }

    /// The union of states, the same bytes in any order; the empty union has width 0.
    pub fn merge_all<'a>(states: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut accumulator = Accumulator::default();
        states
            .into_iter()
            .for_each(|state| accumulator.push_state(state));
        accumulator.finish()
    }

    /// How many values each unit has.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The centred cross product of two values.
    pub fn cross_product(&self, i: usize, j: usize) -> f64 {
        self.cross_products[triangle_index(self.width(), i.min(j), i.max(j))]
    }

    /// What forbids a use of this state, if anything does.
    pub fn fault(&self, width: usize) -> Option<Status> {
        if self.non_finite > 0 {
            return Some(Status::NonFinite);
        }
        (self.width() < width).then_some(Status::WrongWidth)
    }
}

/// What NULL means for a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NullPolicy {
    /// NULL is a value of zero: a unit without an event has had none.
    Zero,
    /// A unit with a NULL is counted in `nulls` and left out.
    #[default]
    Exclude,
    /// A NULL is an error of the data: the unit is counted in `nulls`, and [`NullPolicy::check`] refuses the state.
    Fail,
}

impl NullPolicy {
    /// Reads the name used in YAML and SQL.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "zero" => Some(Self::Zero),
            "exclude" => Some(Self::Exclude),
            "fail" => Some(Self::Fail),
            _ => None,
        }
    }

    /// Whether a state may be used under this policy.
    pub fn check(self, state: &State) -> Status {
        if self == Self::Fail && state.nulls > 0 {
            Status::NullsPresent
        } else {
            Status::Ok
        }
    }
}

/// What to say of units that have no value where each must have one.
pub fn missing_values(name: &str, nulls: u64, units: u64) -> String {
    format!(
        "`{name}` has no value for {nulls} of the {units} units of a variant or segment, and forbids that (`fill: fail`); find \
         out why they have none, or say what they mean: `fill: exclude` leaves such units out, `fill: zero` counts them as 0"
    )
}

/// Exact sums of values and products; what states are made of while data flows.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    n: u64,
    nulls: u64,
    non_finite: u64,
    min: Vec<f64>,
    max: Vec<f64>,
    sums: Vec<ExactSum>,
    products: Vec<ExactSum>,
}

impl Accumulator {
    pub fn new(width: usize) -> Self {
        let mut accumulator = Self::default();
        accumulator.set_width(width);
        accumulator
    }

    pub fn width(&self) -> usize {
        self.sums.len()
    }

    /// Adds one unit; a NaN or an infinity is counted and leaves the unit out.
    #[inline]
    pub fn push(&mut self, values: &[f64]) {
        if values.iter().any(|value| !value.is_finite()) {
            self.non_finite += 1;
            return;
        }
        self.n += 1;
        self.widen_range(values);
        let mut product = 0;
        for (i, value) in values.iter().enumerate() {
            if *value == 0.0 {
                product += values.len() - i;
                continue;
            }
            self.sums[i].add(*value);
            for other in &values[i..] {
                if *other != 0.0 {
                    self.products[product].add_product(*value, *other);
                }
                product += 1;
            }
        }
    }

    /// Adds one unit whose values may be missing.
    #[inline]
    pub fn push_optional(&mut self, values: &[Option<f64>], policy: NullPolicy) {
        if policy != NullPolicy::Zero && values.iter().any(Option::is_none) {
            self.nulls += 1;
            return;
        }
        let present: Vec<f64> = values.iter().map(|value| value.unwrap_or(0.0)).collect();
        self.push(&present);
    }

    /// Counts units that were left out because a value was NULL.
    #[inline]
    pub fn push_nulls(&mut self, units: u64) {
        self.nulls += units;
    }

    /// Adds units that are zero in every value, at no cost: most units of a sparse metric.
    pub fn push_zeros(&mut self, units: u64) {
        if units > 0 {
            self.n += units;
            let zeros = vec![0.0; self.width()];
            self.widen_range(&zeros);
        }
    }

    /// Adds all that another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.count(other.n, other.nulls, other.non_finite);
        self.set_width(other.width());
        self.widen_limits(&other.min, &other.max);
        self.sums
            .iter_mut()
            .zip(&other.sums)
            .for_each(|(sum, part)| sum.merge(part));
        self.products
            .iter_mut()
            .zip(&other.products)
            .for_each(|(sum, part)| sum.merge(part));
    }

    /// Adds all units of a finished state: sums n m and products C + n m m', exactly. A state of another width is counted
    /// as non-finite units, so that no result looks complete.
    pub fn push_state(&mut self, state: &State) {
        self.set_width(state.width());
        if state.width() != self.width() || !is_summable(state) {
            self.count(0, state.nulls, state.n + state.non_finite);
            return;
        }
        self.count(state.n, state.nulls, state.non_finite);
        self.widen_limits(&state.min, &state.max);
        let mut product = 0;
        for (i, mean) in state.mean.iter().enumerate() {
            self.sums[i].add_multiple(state.n, mean.high);
            self.sums[i].add_multiple(state.n, mean.low);
            for other in &state.mean[i..] {
                let sum = &mut self.products[product];
                sum.add(state.cross_products[product]);
                for (a, b) in [
                    (mean.high, other.high),
                    (mean.high, other.low),
                    (mean.low, other.high),
                    (mean.low, other.low),
                ] {
                    sum.add_product_multiple(state.n, a, b);
                }
                product += 1;
            }
        }
    }

    /// Adds units whose numbers are whole, of which the sums are known, then the products in the order of a state, and the extremes.
    pub fn push_totals(&mut self, units: u64, totals: &[i128], min: &[f64], max: &[f64]) {
        self.set_width(min.len());
        self.n += units;
        self.widen_limits(min, max);
        let sums = self.sums.iter_mut().chain(&mut self.products);
        sums.zip(totals)
            .for_each(|(sum, total)| sum.add_whole(*total));
    }

    /// The state of everything seen, each number rounded once.
    pub fn finish(&self) -> State {
        let wide = |sums: &[ExactSum]| sums.iter().map(ExactSum::to_wide).collect::<Vec<_>>();
        let counts = State {
            n: self.n,
            nulls: self.nulls,
            non_finite: self.non_finite,
            min: self.min.clone(),
            max: self.max.clone(),
            ..State::default()
        };
        of_sums(counts, &wide(&self.sums), &wide(&self.products), None)
    }

    /// The state of these units and those of another accumulator, whose values are multiplied by `scales`: what cancels out exactly is 0,
    /// though a hundredth is no binary number.
    pub fn finish_with(&self, scaled: &Self, scales: &[u64]) -> State {
        let mut whole = scaled.clone();
        whole.set_width(scales.len());
        let mut own = self.clone();
        own.set_width(scales.len());
        let sum = |own: &ExactSum, whole: &ExactSum, scale| {
            own.to_wide().times_count(scale).plus(&whole.to_wide())
        };
        let sums: Vec<Wide> = (0..scales.len())
            .map(|at| sum(&own.sums[at], &whole.sums[at], scales[at]))
            .collect();
        let products = pairs(scales.len()).enumerate();
        let products: Vec<Wide> = products
            .map(|(at, (i, j))| {
                sum(
                    &own.products[at],
                    &whole.products[at],
                    scales[i] * scales[j],
                )
            })
            .collect();
        let unscaled = |limits: &[f64]| -> Vec<f64> {
            let pairs = limits.iter().zip(scales);
            pairs.map(|(limit, scale)| limit / *scale as f64).collect()
        };
        own.widen_limits(&unscaled(&whole.min), &unscaled(&whole.max));
        let counts = State {
            n: own.n + whole.n,
            nulls: own.nulls + whole.nulls,
            non_finite: own.non_finite + whole.non_finite,
            min: own.min,
            max: own.max,
            ..State::default()
        };
        of_sums(counts, &sums, &products, Some(scales))
    }

    /// The accumulator as bytes, for shipping it between partitions.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for count in [self.width() as u64, self.n, self.nulls, self.non_finite] {
            bytes.extend(count.to_le_bytes());
        }
        for limit in self.min.iter().chain(&self.max) {
            bytes.extend(limit.to_le_bytes());
        }
        for sum in self.sums.iter_mut().chain(&mut self.products) {
            let (lowest, digits) = sum.parts();
            bytes.extend(lowest.to_le_bytes());
            bytes.extend((digits.len() as u32).to_le_bytes());
            digits
                .iter()
                .for_each(|digit| bytes.extend(digit.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`Accumulator::to_bytes`] wrote; `None` when the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes };
        let width = usize::try_from(reader.whole()?)
            .ok()
            .filter(|width| *width <= 4096)?;
        let mut accumulator = Self::new(width);
        accumulator.n = reader.whole()?;
        accumulator.nulls = reader.whole()?;
        accumulator.non_finite = reader.whole()?;
        for limit in accumulator.min.iter_mut().chain(&mut accumulator.max) {
            *limit = f64::from_bits(reader.whole()?);
        }
        for sum in accumulator.sums.iter_mut().chain(&mut accumulator.products) {
            let lowest = reader.half()? as i32;
            let length = reader.half()?;
            let digits = (0..length)
                .map(|_| reader.whole().map(|digit| digit as i64))
                .collect::<Option<_>>()?;
            *sum = ExactSum::from_parts(lowest, digits);
        }
        reader.bytes.is_empty().then_some(accumulator)
    }

    /// About how many bytes of memory this takes.
    pub fn memory(&self) -> usize {
        let sums = (self.sums.capacity() + self.products.capacity())
            * (size_of::<ExactSum>() + 10 * size_of::<i64>());
        size_of::<Self>() + sums + 16 * self.width()
    }

    fn count(&mut self, n: u64, nulls: u64, non_finite: u64) {
        self.n += n;
        self.nulls += nulls;
        self.non_finite += non_finite;
    }

    /// An accumulator without a width takes the first one it meets.
    fn set_width(&mut self, width: usize) {
        if self.sums.is_empty() && width > 0 {
            self.min = vec![f64::INFINITY; width];
            self.max = vec![f64::NEG_INFINITY; width];
            self.sums = vec![ExactSum::default(); width];
            self.products = vec![ExactSum::default(); width * (width + 1) / 2];
        }
    }

    #[inline]
    fn widen_range(&mut self, values: &[f64]) {
        for ((min, max), value) in self.min.iter_mut().zip(&mut self.max).zip(values) {
            // Adding zero turns -0 into 0: which zero came first must not show.
            let value = value + 0.0;
            *min = if value < *min { value } else { *min };
            *max = if value > *max { value } else { *max };
        }
    }

    fn widen_limits(&mut self, min: &[f64], max: &[f64]) {
        self.min
            .iter_mut()
            .zip(min)
            .for_each(|(limit, other)| *limit = limit.min(*other));
        self.max
            .iter_mut()
            .zip(max)
            .for_each(|(limit, other)| *limit = limit.max(*other));
    }
}

/// Means and cross products S/n and (n P - S S') / n, from exact sums of values that are multiplied by `scales`.
fn of_sums(mut state: State, sums: &[Wide], products: &[Wide], scales: Option<&[u64]>) -> State {
    let scale = |at: usize| scales.map_or(1, |scales| scales[at]);
    let means = sums.iter().enumerate();
    state.mean = means
        .map(|(at, sum)| sum.divided_by(state.n * scale(at)))
        .collect();
    let products = pairs(sums.len()).zip(products);
    state.cross_products = products
        .map(|((i, j), product)| {
            let centred = product.times_count(state.n).minus(&sums[i].times(&sums[j]));
            centred.divided_by(state.n * scale(i) * scale(j)).high
        })
        .collect();
    state
}

/// The upper triangle, row by row.
fn pairs(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).flat_map(move |i| (i..width).map(move |j| (i, j)))
}

fn is_summable(state: &State) -> bool {
    state
        .mean
        .iter()
        .all(|mean| mean.high.is_finite() && mean.low.is_finite())
        && state
            .cross_products
            .iter()
            .all(|product| product.is_finite())
}

/// The place of (i, j), i <= j, in the upper triangle stored row by row.
pub(crate) fn triangle_index(width: usize, i: usize, j: usize) -> usize {
    i * width - i * (i + 1) / 2 + j
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn whole(&mut self) -> Option<u64> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*head))
    }

    fn half(&mut self) -> Option<u32> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_at_a_billion_with_variance_one_is_exact() {
        let state = State::of(&[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        assert_eq!(state.mean[0].high, 1e9 + 1.0);
        assert_eq!(state.cross_products, [2.0]);
    }

    #[test]
    fn what_cancels_out_with_hundredths_is_zero() {
        let (mut hundredths, mut own) = (Accumulator::new(2), Accumulator::new(2));
        hundredths.push(&[10.0, 3.0]);
        hundredths.push(&[-51.0, -3.0]);
        own.push(&[0.375, 0.5]);
        own.push(&[0.035, -0.5]);
        let state = own.finish_with(&hundredths, &[100, 1]);
        assert_eq!((state.n, state.mean[1]), (4, DoubleDouble::ZERO));
        // The binary number nearest to 0.035 is larger by 3e-18.
        assert!((0.0..1e-17).contains(&state.mean[0].high));
        assert_eq!(
            (&state.min, &state.max),
            (&vec![-0.51, -3.0], &vec![0.375, 3.0])
        );
        let expected = State::of_columns(&[&[0.1, -0.51, 0.375, 0.035], &[3.0, -3.0, 0.5, -0.5]]);
        for (found, expected) in state.cross_products.iter().zip(&expected.cross_products) {
            assert!(
                (found - expected).abs() < 1e-15,
                "{found} is not {expected}"
            );
        }
        let mut known = Accumulator::default();
        known.push_totals(2, &[-41, 0, 2701, 183, 18], &[-51.0, -3.0], &[10.0, 3.0]);
        assert_eq!(own.finish_with(&known, &[100, 1]), state);
    }

    #[test]
    fn bytes_are_read_back_and_garbage_is_not() {
        let mut accumulator = Accumulator::new(2);
        accumulator.push(&[1.5, -2.0]);
        accumulator.push(&[f64::NAN, 1.0]);
        accumulator.push_optional(&[None, Some(1.0)], NullPolicy::Exclude);
        let bytes = accumulator.to_bytes();
        let back = Accumulator::from_bytes(&bytes).expect("these bytes were just written");
        assert_eq!(back.finish(), accumulator.finish());
        assert!(Accumulator::from_bytes(&bytes[1..]).is_none());
    }

    #[test]
    fn zeros_in_bulk_are_zeros_one_by_one() {
        let (mut bulk, mut single) = (Accumulator::new(1), Accumulator::new(1));
        bulk.push(&[3.0]);
        bulk.push_zeros(4);
        [0.0, 0.0, 3.0, -0.0, 0.0]
            .iter()
            .for_each(|value| single.push(&[*value]));
        assert_eq!(bulk.finish(), single.finish());
    }

    #[test]
    fn the_triangle_is_stored_row_by_row() {
        let state = State::of_columns(&[&[1.0, 2.0], &[3.0, 5.0], &[0.0, 4.0]]);
        assert_eq!(state.cross_product(0, 1), 1.0);
        assert_eq!(state.cross_product(2, 1), 4.0);
        assert_eq!(state.cross_products, [0.5, 1.0, 2.0, 2.0, 4.0, 8.0]);
    }
}
