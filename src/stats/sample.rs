//! What a test sees of an arm. In: a [`State`] or known moments. Out: [`Sample`] (one value) and [`Moments`] (several values), plain
//! `Copy` numbers on the stack, so that millions of analyses a second need no allocation.

use super::double_double::DoubleDouble;
use super::state::State;
use super::status::Status;

/// One arm of a comparison of means: count, mean and variance (divisor n - 1) of independent units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub n: f64,
    pub mean: DoubleDouble,
    /// NaN when n < 2.
    pub variance: DoubleDouble,
}

impl Sample {
    /// The sample with known moments.
    #[inline]
    pub fn new(n: f64, mean: f64, variance: f64) -> Self {
        Self {
            n,
            mean: DoubleDouble::from(mean),
            variance: DoubleDouble::from(variance),
        }
    }

    /// The sample of 0/1 values with `successes` ones, with the unbiased variance p(1-p) n/(n-1) of any other mean.
    pub fn of_proportion(successes: f64, n: f64) -> Self {
        let (share, variance) = share_and_variance(successes, n);
        Self {
            n,
            mean: share,
            variance: variance * n / (n - 1.0),
        }
    }

    /// The same with the variance p(1-p), which GrowthBook and Spotify use.
    pub fn of_proportion_plain(successes: f64, n: f64) -> Self {
        let (share, variance) = share_and_variance(successes, n);
        Self {
            n,
            mean: share,
            variance,
        }
    }

    /// One value of a state.
    pub fn of_state(state: &State, value: usize) -> Result<Self, Status> {
        state.fault(value + 1).map_or(Ok(()), Err)?;
        let variance =
            DoubleDouble::from(state.cross_product(value, value)) / (state.n as f64 - 1.0);
        Ok(Self {
            n: state.n as f64,
            mean: state.mean[value],
            variance,
        })
    }

    /// The variance of the mean.
    #[inline]
    pub fn variance_of_mean(&self) -> DoubleDouble {
        self.variance / self.n
    }

    /// Whether the moments can be moments at all.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.n >= 0.0
            && self.n.is_finite()
            && self.mean.is_finite()
            && (self.n < 2.0 || (self.variance.high >= 0.0 && self.variance.is_finite()))
    }
}

fn share_and_variance(successes: f64, n: f64) -> (DoubleDouble, DoubleDouble) {
    let share = DoubleDouble::from(successes) / n;
    let other = DoubleDouble::from(n - successes) / n;
    (share, share * other)
}

/// Count, means and centred cross products of P values per unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments<const P: usize> {
    pub n: f64,
    pub mean: [DoubleDouble; P],
    /// Symmetric; sums of products of deviations from the means.
    pub cross_products: [[DoubleDouble; P]; P],
}

impl<const P: usize> Moments<P> {
    /// The first P values of a state.
    pub fn of_state(state: &State) -> Result<Self, Status> {
        state.fault(P).map_or(Ok(()), Err)?;
        let mut moments = Self {
            n: state.n as f64,
            mean: [DoubleDouble::ZERO; P],
            cross_products: [[DoubleDouble::ZERO; P]; P],
        };
        let mut row = 0;
        for i in 0..P {
            moments.mean[i] = state.mean[i];
            for j in i..P {
                let product = DoubleDouble::from(state.cross_products[row + j - i]);
                moments.cross_products[i][j] = product;
                moments.cross_products[j][i] = product;
            }
            // The upper triangle stands row by row.
            row += state.width() - i;
        }
        Ok(moments)
    }

    /// The sum over i, j of `left_i right_j C_ij`.
    #[inline]
    pub fn form(&self, left: &[DoubleDouble; P], right: &[DoubleDouble; P]) -> DoubleDouble {
        let mut sum = DoubleDouble::ZERO;
        for i in 0..P {
            let mut row = DoubleDouble::ZERO;
            for j in 0..P {
                row = row + self.cross_products[i][j] * right[j];
            }
            sum = sum + left[i] * row;
        }
        sum
    }

    /// Both samples as one, around the common mean (Chan, Golub and LeVeque 1979).
    pub fn concatenated(&self, other: &Self) -> Self {
        let n = self.n + other.n;
        let weight = DoubleDouble::from(self.n) * other.n / n;
        let mut all = *self;
        all.n = n;
        for i in 0..P {
            let shift = other.mean[i] - self.mean[i];
            all.mean[i] = self.mean[i] + shift * other.n / n;
            for j in 0..P {
                let between = shift * (other.mean[j] - self.mean[j]) * weight;
                all.cross_products[i][j] =
                    self.cross_products[i][j] + other.cross_products[i][j] + between;
            }
        }
        all
    }

    /// Why no variance can be had, if none can.
    pub fn fault(&self) -> Option<Status> {
        let is_finite = self
            .mean
            .iter()
            .chain(self.cross_products.iter().flatten())
            .all(|number| number.is_finite());
        let is_valid =
            self.n >= 0.0 && is_finite && (0..P).all(|i| self.cross_products[i][i].high >= 0.0);
        if !is_valid {
            return Some(Status::InvalidInput);
        }
        (self.n < 2.0).then_some(Status::InsufficientData)
    }
}

/// What forbids a comparison of two arms of these sizes, if anything does.
#[inline]
pub(crate) fn size_fault(control: f64, treatment: f64) -> Option<Status> {
    if control >= 2.0 && treatment >= 2.0 {
        return None;
    }
    Some(if (control == 0.0) != (treatment == 0.0) {
        Status::OneArmMissing
    } else {
        Status::InsufficientData
    })
}

/// Whether a level or probability lies strictly between zero and one.
#[inline]
pub(crate) fn is_share(level: f64) -> bool {
    level > 0.0 && level < 1.0
}
