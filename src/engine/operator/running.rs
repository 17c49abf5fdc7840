//! Running totals of one unit's events: every window's counts and sums are differences of two of them.
//! In: a [`Unit`] in time order. Out: [`Running`], a row of totals before each event and after the last. All totals are whole numbers, so that
//! differences are exact; a unit with other numbers is told apart and goes the slow way.

use super::lanes::{Lanes, RunningTotals};
use super::layout::{MOST_EVENTS, SMALL_STEP, WIDE_STEP};
use super::numbers::{LARGEST_WHOLE, is_null, nearest_whole};
use super::unit::Unit;

#[derive(Default)]
pub struct Running {
    counts: Vec<f32>,
    sums: Vec<f64>,
}

impl Running {
    /// False when some number is not whole, or large, or there are too many events.
    #[inline(always)]
    pub fn fill(&mut self, lanes: &Lanes, unit: &Unit, columns: usize) -> bool {
        let (counts, sums) = (lanes.layout.counts, lanes.layout.sums);
        let events = unit.times.len();
        if events > usize::from(MOST_EVENTS) {
            return false;
        }
        if self.counts.len() < (events + 1) * counts || self.sums.len() < (events + 1) * sums {
            self.counts.resize((events + 1) * counts, 0.0);
            self.sums.resize((events + 1) * sums, 0.0);
        }
        // The first row stays zero.
        let totals = &lanes.totals;
        match totals.has_conditions {
            false => self.count_events(unit, &totals.count_rows, counts),
            true => self.count_values(lanes, unit, columns),
        }
        self.sum_values(totals, unit, (sums, columns))
    }

    /// Every event adds the row of its name.
    #[inline(always)]
    fn count_events(&mut self, unit: &Unit, adds: &[f32], width: usize) {
        const TWO: usize = 2 * SMALL_STEP;
        let long = width - width % TWO;
        for step in (0..long).step_by(TWO) {
            self.count_step::<TWO>(unit, adds, (width, step));
        }
        for step in (long..width).step_by(SMALL_STEP) {
            self.count_step::<SMALL_STEP>(unit, adds, (width, step));
        }
    }

    #[inline(always)]
    fn count_step<const S: usize>(
        &mut self,
        unit: &Unit,
        adds: &[f32],
        (width, step): (usize, usize),
    ) {
        let mut total = [0.0; S];
        let rows = self.counts[width..].chunks_exact_mut(width);
        for (name, row) in unit.names.iter().zip(rows) {
            let adds = &adds[usize::from(*name) * width + step..][..S];
            for at in 0..S {
                total[at] += adds[at];
            }
            row[step..step + S].copy_from_slice(&total);
        }
    }

    /// The same where some counts take only events with a value.
    fn count_values(&mut self, lanes: &Lanes, unit: &Unit, columns: usize) {
        let (width, totals) = (lanes.layout.counts, &lanes.totals);
        for (event, name) in unit.names.iter().enumerate() {
            let values = &unit.values[event * columns..(event + 1) * columns];
            let adds = &totals.count_rows[usize::from(*name) * width..][..width];
            let (before, after) = self.counts.split_at_mut((event + 1) * width);
            let before = &before[event * width..];
            let conditions = totals.counts.iter().map(|(_, column)| column);
            for (at, column) in conditions.enumerate() {
                let counts = column.is_none_or(|column| !is_null(values[usize::from(column)]));
                after[at] = before[at] + if counts { adds[at] } else { 0.0 };
            }
        }
    }

    /// Every event adds its values to the sums of its name; false when one of them is not whole, or large.
    #[inline(always)]
    fn sum_values(
        &mut self,
        totals: &RunningTotals,
        unit: &Unit,
        (width, columns): (usize, usize),
    ) -> bool {
        const TWO: usize = 2 * WIDE_STEP;
        let place = (width, columns);
        let (mut is_whole, mut step) = (true, 0);
        while step < width {
            let is_long = step + TWO <= width;
            is_whole = match (is_long, columns == 1) {
                (true, true) => self.sum_step::<TWO, true>(totals, unit, place, step),
                (true, false) => self.sum_step::<TWO, false>(totals, unit, place, step),
                (false, true) => self.sum_step::<WIDE_STEP, true>(totals, unit, place, step),
                (false, false) => self.sum_step::<WIDE_STEP, false>(totals, unit, place, step),
            };
            step += if is_long { TWO } else { WIDE_STEP };
        }
        is_whole
    }

    #[inline(always)]
    fn sum_step<const S: usize, const ONE_COLUMN: bool>(
        &mut self,
        totals: &RunningTotals,
        unit: &Unit,
        (width, columns): (usize, usize),
        step: usize,
    ) -> bool {
        let (columns, summed) = match ONE_COLUMN {
            true => (1, 1),
            false => (columns, totals.columns),
        };
        let (mut total, mut is_whole) = ([0.0; S], true);
        let events = unit.names.iter().zip(unit.values.chunks_exact(columns));
        for ((name, values), row) in events.zip(self.sums[width..].chunks_exact_mut(width)) {
            let first = usize::from(*name) * summed;
            for (row, value) in (first..first + summed).zip(values) {
                // Without a branch, which would go either way all the time.
                let bits = if is_null(*value) { 0 } else { value.to_bits() };
                let value = f64::from_bits(bits & totals.summed[row]);
                is_whole &= (value.abs() <= LARGEST_WHOLE) & (value == nearest_whole(value));
                let takes = &totals.sum_rows[row * width + step..][..S];
                for at in 0..S {
                    total[at] += takes[at] * value;
                }
            }
            row[step..step + S].copy_from_slice(&total);
        }
        is_whole
    }

    /// Counts of the events `start..end`, and whether there was one.
    #[inline(always)]
    pub fn count(&self, width: usize, start: usize, end: usize, into: &mut [f32]) {
        let (before, after) = (&self.counts[start * width..], &self.counts[end * width..]);
        let (counts, any) = into[..2 * width].split_at_mut(width);
        for step in (0..width).step_by(SMALL_STEP) {
            let block = step..step + SMALL_STEP;
            let (mut count, mut is_any) = ([0.0; SMALL_STEP], [0.0; SMALL_STEP]);
            let (after, before) = (&after[block.clone()], &before[block.clone()]);
            for at in 0..SMALL_STEP {
                count[at] = after[at] - before[at];
                is_any[at] = if count[at] < 1.0 { count[at] } else { 1.0 };
            }
            counts[block.clone()].copy_from_slice(&count);
            any[block].copy_from_slice(&is_any);
        }
    }

    #[inline(always)]
    pub fn sum(&self, width: usize, start: usize, end: usize, into: &mut [f64]) {
        let (before, after) = (&self.sums[start * width..], &self.sums[end * width..]);
        for ((sum, after), before) in into.iter_mut().zip(after).zip(before).take(width) {
            *sum = after - before;
        }
    }
}
