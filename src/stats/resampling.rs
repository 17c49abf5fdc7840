//! Resampling: Poisson bootstrap and permutation tests of a difference of means. In: raw values, units' keys, a seed. Out: intervals and p values
//! that are the same for any order of the rows, because every random number is keyed by seed, unit and replicate.

use super::double_double::DoubleDouble;
use super::quantiles::quantile;
use super::random::{Stream, bits, poisson_one};
use super::record::{Number, finite, record};
use super::sample::is_share;
use super::state::State;
use super::status::Status;

/// A unit with its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// From [`super::random::unit_key`] or a whole-number identifier.
    pub key: u64,
    pub value: f64,
}

/// More replicates than this are a slip of the pen, and would run for days.
pub const MOST_REPLICATES: u32 = 10_000_000;

/// The Poisson bootstrap of treatment mean minus control mean: each unit counts Poisson(1) times in each replicate. Percentile interval.
/// Chamandy, Muralidharan, Najmi and Naidu, "Estimating uncertainty for massive data streams", Google 2012.
pub fn poisson_bootstrap(
    control: &[Unit],
    treatment: &[Unit],
    replicates: u32,
    seed: u64,
    alpha: f64,
) -> Bootstrap {
    if control
        .iter()
        .chain(treatment)
        .any(|unit| !unit.value.is_finite())
    {
        return Bootstrap::empty(Status::NonFinite);
    }
    if !is_share(alpha) || !(2..=MOST_REPLICATES).contains(&replicates) {
        return Bootstrap::empty(Status::InvalidInput);
    }
    if control.len() < 2 || treatment.len() < 2 {
        let is_one = control.is_empty() != treatment.is_empty();
        return Bootstrap::empty(if is_one {
            Status::OneArmMissing
        } else {
            Status::InsufficientData
        });
    }
    let (control, treatment) = (in_order(control), in_order(treatment));
    let mean = |units: &[Unit]| {
        State::of(&units.iter().map(|unit| unit.value).collect::<Vec<_>>()).mean[0]
    };
    let centre = mean(&control);
    let effect = mean(&treatment) - centre;
    let differences: Vec<f64> = (0..u64::from(replicates))
        .filter_map(|replicate| {
            let control = weighted_mean(&control, centre.high, seed, replicate)?;
            let treatment = weighted_mean(&treatment, centre.high, seed, replicate)?;
            Some(treatment - control)
        })
        .collect();
    let spread = State::of(&differences);
    let variance = spread.cross_products[0] / (spread.n as f64 - 1.0);
    Bootstrap {
        effect: finite(effect.value()),
        se: finite(variance.sqrt()),
        ci_low: quantile(&differences, alpha / 2.0),
        ci_high: quantile(&differences, 1.0 - alpha / 2.0),
        replicates: i64::try_from(differences.len()).ok(),
        status: if variance > 0.0 {
            Status::Ok
        } else {
            Status::ZeroVariance
        },
    }
}

/// The exact permutation test: the share of all assignments of the values to arms of these sizes with `|d*| >= |d|`. (scipy doubles the smaller
/// tail, which differs when the arms differ in size.) Needs at most a few million assignments; beyond that use [`permutation_sampled`].
pub fn permutation_exact_mean_diff(control: &[f64], treatment: &[f64]) -> Permutation {
    let setup = match Setup::of(control, treatment) {
        Ok(setup) => setup,
        Err(status) => return Permutation::empty(status),
    };
    let total = number_of_choices(control.len() + treatment.len(), control.len());
    if total > 2e7 {
        return Permutation::empty(Status::InvalidInput);
    }
    let extreme = setup.count_extreme(0, control.len(), 0.0);
    Permutation {
        p_two_sided: finite(extreme as f64 / total),
        n_perm: finite(total),
        n_extreme: finite(extreme as f64),
        status: Status::Ok,
    }
}

/// The permutation test by random assignments, `p = (1 + extreme) / (1 + drawn)`. Phipson and Smyth 2010.
pub fn permutation_sampled(
    control: &[f64],
    treatment: &[f64],
    permutations: u32,
    seed: u64,
) -> Permutation {
    let setup = match Setup::of(control, treatment) {
        Ok(_) if !(1..=MOST_REPLICATES).contains(&permutations) => {
            return Permutation::empty(Status::InvalidInput);
        }
        Ok(setup) => setup,
        Err(status) => return Permutation::empty(status),
    };
    let mut stream = Stream::new(seed);
    let mut values = setup.values.clone();
    let mut extreme = 0u32;
    for _ in 0..permutations {
        let mut sum = 0.0;
        for place in 0..control.len() {
            let other = place + stream.below((values.len() - place) as u64) as usize;
            values.swap(place, other);
            sum += values[place];
        }
        extreme += u32::from(setup.is_extreme(sum));
    }
    Permutation {
        p_two_sided: finite((1.0 + f64::from(extreme)) / (1.0 + f64::from(permutations))),
        n_perm: finite(f64::from(permutations)),
        n_extreme: finite(f64::from(extreme)),
        status: Status::Ok,
    }
}

record! {
    /// A bootstrapped effect.
    pub struct Bootstrap {
        effect: Number,
        /// Standard deviation of the replicates.
        se: Number,
        ci_low: Number,
        ci_high: Number,
        replicates: Option<i64>,
    }
}

record! {
    /// The result of a permutation test.
    pub struct Permutation {
        p_two_sided: Number,
        /// Assignments looked at.
        n_perm: Number,
        /// Those at least as extreme as the observed one.
        n_extreme: Number,
    }
}

/// Sums must not depend on the order of the input.
fn in_order(units: &[Unit]) -> Vec<Unit> {
    let mut sorted = units.to_vec();
    sorted.sort_by(|a, b| a.key.cmp(&b.key).then(a.value.total_cmp(&b.value)));
    sorted
}

/// The mean of a replicate, around a centre that keeps the sums small; `None` when no unit was drawn.
fn weighted_mean(units: &[Unit], centre: f64, seed: u64, replicate: u64) -> Option<f64> {
    let (mut weight, mut sum) = (0.0, 0.0);
    for unit in units {
        let count = f64::from(poisson_one(bits(seed, unit.key, replicate)));
        weight += count;
        sum += count * (unit.value - centre);
    }
    (weight > 0.0).then(|| sum / weight)
}

struct Setup {
    /// Sorted, and shifted by their mean: then only the control's sum matters.
    values: Vec<f64>,
    observed: f64,
    tolerance: f64,
}

impl Setup {
    fn of(control: &[f64], treatment: &[f64]) -> Result<Self, Status> {
        if control.is_empty() || treatment.is_empty() {
            return Err(if control.len() == treatment.len() {
                Status::InsufficientData
            } else {
                Status::OneArmMissing
            });
        }
        if control
            .iter()
            .chain(treatment)
            .any(|value| !value.is_finite())
        {
            return Err(Status::NonFinite);
        }
        let mut values: Vec<f64> = control.iter().chain(treatment).copied().collect();
        values.sort_by(f64::total_cmp);
        let centre = State::of(&values).mean[0];
        let shift = |value: &f64| (DoubleDouble::from(*value) - centre).value();
        let size = values
            .iter()
            .map(|value| shift(value).abs())
            .fold(0.0, f64::max);
        Ok(Self {
            observed: control.iter().map(shift).sum::<f64>().abs(),
            // Sums of decimals that are equal on paper differ in the last bits.
            tolerance: 1e-12 * size * values.len() as f64,
            values: values.iter().map(shift).collect(),
        })
    }

    /// With all values summing to zero the difference of means is the control's sum times a constant.
    fn is_extreme(&self, sum: f64) -> bool {
        sum.abs() >= self.observed - self.tolerance
    }

    /// Walks all ways to choose `left` more control values from place `from` on.
    fn count_extreme(&self, from: usize, left: usize, sum: f64) -> u64 {
        if left == 0 {
            return u64::from(self.is_extreme(sum));
        }
        let last = self.values.len() - left;
        (from..=last)
            .map(|place| self.count_extreme(place + 1, left - 1, sum + self.values[place]))
            .sum()
    }
}

fn number_of_choices(total: usize, chosen: usize) -> f64 {
    (1..=chosen.min(total - chosen)).fold(1.0, |ways, place| {
        (ways * (total - place + 1) as f64 / place as f64).round()
    })
}
