//! Units of one cell and metric whose numbers are not whole, or large: exact sums in the accumulators of the statistics.
//! In: their numbers. Out: one [`State`], with that of the units whose numbers were added up as whole ones.

use super::numbers::Exact;
use crate::stats::state::{Accumulator, State};

#[derive(Clone, Debug, Default)]
pub struct Apart {
    /// Of units whose numbers are whole, multiplied by their scales.
    whole: Accumulator,
    own: Accumulator,
    units: u64,
    /// Of units that have a number that is not finite, the later half of their numbers where all of these are: what they did before a
    /// window is known, whatever is in it.
    before: Accumulator,
}

impl Apart {
    pub fn push(&mut self, unit: &Exact) {
        self.units += 1;
        let sums = match unit.is_whole {
            true => &mut self.whole,
            false => &mut self.own,
        };
        if sums.width() == 0 {
            *sums = Accumulator::new(unit.numbers.len());
        }
        sums.push(&unit.numbers);
        let before = &unit.numbers[unit.numbers.len() / 2..];
        if is_finite(before) && !is_finite(&unit.numbers) {
            self.before.merge(&Accumulator::new(before.len()));
            self.before.push(before);
        }
    }

    pub fn merge(&mut self, other: &Apart) {
        self.units += other.units;
        self.whole.merge(&other.whole);
        self.own.merge(&other.own);
        self.before.merge(&other.before);
    }

    pub fn units(&self) -> u64 {
        self.units
    }

    pub fn memory(&self) -> usize {
        self.whole.memory() + self.own.memory() + self.before.memory()
    }

    /// The state of these units and of others, of whom the sums are known and the extremes; all are multiplied by the scales.
    pub fn joined(
        &self,
        (units, totals): (u64, &[i128]),
        (min, max): (&[f64], &[f64]),
        scales: &[f64],
    ) -> State {
        let mut whole = self.whole.clone();
        whole.push_totals(units, totals, min, max);
        let scales: Vec<u64> = scales.iter().map(|scale| *scale as u64).collect();
        self.own.finish_with(&whole, &scales)
    }
}

fn is_finite(numbers: &[f64]) -> bool {
    numbers.iter().all(|number| number.is_finite())
}

/// Makes `before` the state of what the units of a state did before the window, which is the later half of their numbers; `apart` knows
/// units that the state leaves out for what is in the window.
pub fn fill_before(before: &mut State, state: &State, apart: Option<&Apart>) {
    let later = state.width() / 2..state.width();
    (before.n, before.nulls, before.non_finite) = (state.n, state.nulls, state.non_finite);
    before.min.clear();
    before.min.extend(&state.min[later.clone()]);
    before.max.clear();
    before.max.extend(&state.max[later.clone()]);
    before.mean.clear();
    before.mean.extend(&state.mean[later.clone()]);
    before.cross_products.clear();
    for i in later {
        let products = (i..state.width()).map(|j| state.cross_product(i, j));
        before.cross_products.extend(products);
    }
    if let Some(apart) = apart.filter(|apart| apart.before.width() > 0) {
        let others = apart.before.finish();
        before.non_finite -= others.n;
        *before = before.merge(&others);
    }
}
