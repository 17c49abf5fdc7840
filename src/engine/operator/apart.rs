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
    }

    pub fn merge(&mut self, other: &Apart) {
        self.units += other.units;
        self.whole.merge(&other.whole);
        self.own.merge(&other.own);
    }

    pub fn units(&self) -> u64 {
        self.units
    }

    pub fn memory(&self) -> usize {
        self.whole.memory() + self.own.memory()
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
