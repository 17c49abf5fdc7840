//! Running totals of one unit's events: every window's counts and sums are differences of two of them.
//! In: a [`Unit`] in time order. Out: [`Running`], a row of totals before each event and after the last. All totals are whole numbers, so that
//! differences are exact; a unit with other numbers is told apart and goes the slow way.

use super::kernel::{LARGEST_WHOLE, Unit, is_null, nearest_whole};
use super::lanes::{Lanes, RunningTotals};
use super::layout::{MOST_EVENTS, SMALL_STEP, WIDE_STEP};

#[derive(Default)]
pub struct Running {
    counts: Vec<f32>,
    sums: Vec<f64>,
    /// The values that some sum takes, 0 for those that none does.
    values: Vec<f64>,
}

impl Running {
    /// False when some number is not whole, or large, or there are too many events.
    pub fn fill(&mut self, lanes: &Lanes, unit: &Unit, columns: usize) -> bool {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has just said that it knows these instructions.
            return unsafe { self.fill_with_avx2(lanes, unit, columns) };
        }
        self.fill_portably(lanes, unit, columns)
    }

    /// The same code compiled for longer vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn fill_with_avx2(&mut self, lanes: &Lanes, unit: &Unit, columns: usize) -> bool {
        self.fill_portably(lanes, unit, columns)
    }

    #[inline(always)]
    fn fill_portably(&mut self, lanes: &Lanes, unit: &Unit, columns: usize) -> bool {
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
        let is_whole = self.take_values(totals, unit, columns);
        self.sum_values(totals, unit, sums);
        is_whole
    }

    /// Every event adds the row of its name.
    #[inline(always)]
    fn count_events(&mut self, unit: &Unit, adds: &[f32], width: usize) {
        for step in (0..width).step_by(SMALL_STEP) {
            let mut total = [0.0; SMALL_STEP];
            let names = unit.names.iter();
            for (name, row) in names.zip(self.counts[width..].chunks_exact_mut(width)) {
                let adds = &adds[usize::from(*name) * width + step..][..SMALL_STEP];
                for at in 0..SMALL_STEP {
                    total[at] += adds[at];
                }
                row[step..step + SMALL_STEP].copy_from_slice(&total);
            }
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

    /// The values that are summed; false when one of them is not whole, or large.
    #[inline(always)]
    fn take_values(&mut self, totals: &RunningTotals, unit: &Unit, columns: usize) -> bool {
        let width = totals.columns;
        if width == 0 {
            return true;
        }
        self.values.resize(unit.names.len() * width, 0.0);
        let mut is_whole = true;
        let events = unit.names.iter().zip(unit.values.chunks_exact(columns));
        for ((name, values), taken) in events.zip(self.values.chunks_exact_mut(width)) {
            let summed = &totals.summed[usize::from(*name) * width..][..width];
            for ((taken, value), summed) in taken.iter_mut().zip(values).zip(summed) {
                // Without a branch, which would go either way all the time.
                let bits = if is_null(*value) { 0 } else { value.to_bits() };
                *taken = f64::from_bits(bits & summed);
                is_whole &= (taken.abs() <= LARGEST_WHOLE) & (*taken == nearest_whole(*taken));
            }
        }
        is_whole
    }

    /// Every event adds its values to the sums of its name, and zeros to the others.
    #[inline(always)]
    fn sum_values(&mut self, totals: &RunningTotals, unit: &Unit, width: usize) {
        for step in (0..width).step_by(WIDE_STEP) {
            let mut total = [0.0; WIDE_STEP];
            let mut column_of = [0; WIDE_STEP];
            for (column, (_, known)) in column_of.iter_mut().zip(&totals.sums[step..]) {
                *column = usize::from(*known);
            }
            let values = self.values.chunks_exact(totals.columns);
            let rows = self.sums[width..].chunks_exact_mut(width);
            for ((name, values), row) in unit.names.iter().zip(values).zip(rows) {
                let takes = &totals.sum_rows[usize::from(*name) * width + step..][..WIDE_STEP];
                for at in 0..WIDE_STEP {
                    total[at] += takes[at] * values[column_of[at]];
                }
                row[step..step + WIDE_STEP].copy_from_slice(&total);
            }
        }
    }

    /// Counts of the events `start..end`, and whether there was one.
    #[inline]
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

    #[inline]
    pub fn sum(&self, width: usize, start: usize, end: usize, into: &mut [f64]) {
        let (before, after) = (&self.sums[start * width..], &self.sums[end * width..]);
        for ((sum, after), before) in into.iter_mut().zip(after).zip(before).take(width) {
            *sum = after - before;
        }
    }
}
