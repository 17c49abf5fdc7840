//! Running totals of one unit's events: every window's counts and sums are differences of two of them.
//! In: a [`Unit`] in time order. Out: [`Running`], a row of totals before each event and after the last. All totals are whole numbers, so that
//! differences are exact; a unit with other numbers is told apart and goes the slow way.

use super::kernel::{LARGEST_WHOLE, Unit, is_null, nearest_whole};
use super::lanes::Lanes;
use super::layout::{MOST_EVENTS, SMALL_STEP, WIDE_STEP};

#[derive(Default)]
pub struct Running {
    counts: Vec<f32>,
    sums: Vec<f64>,
}

impl Running {
    /// False when some number is not whole, or large, or there are too many events.
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
        let mut is_whole = true;
        for (event, name) in unit.names.iter().enumerate() {
            let next_counts = row_after::<f32, SMALL_STEP>(&mut self.counts, event, counts);
            let next_sums = row_after::<f64, WIDE_STEP>(&mut self.sums, event, sums);
            let values = &unit.values[event * columns..(event + 1) * columns];
            for (at, column) in &lanes.totals.count_feeds[usize::from(*name)] {
                let counts = column.is_none_or(|column| !is_null(values[usize::from(column)]));
                next_counts[usize::from(*at)] += f32::from(u8::from(counts));
            }
            for (at, column) in &lanes.totals.sum_feeds[usize::from(*name)] {
                let value = values[usize::from(*column)];
                if !is_null(value) {
                    is_whole &= value.abs() <= LARGEST_WHOLE && value == nearest_whole(value);
                    next_sums[usize::from(*at)] += value;
                }
            }
        }
        is_whole
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

/// The row after that of an event, which begins as its copy.
#[inline]
fn row_after<N: Copy, const STEP: usize>(rows: &mut [N], event: usize, width: usize) -> &mut [N] {
    let (before, after) = rows.split_at_mut((event + 1) * width);
    let (before, after) = (&before[event * width..], &mut after[..width]);
    // In steps of fixed length, as few numbers are not worth a call.
    for (to, from) in after.chunks_exact_mut(STEP).zip(before.chunks_exact(STEP)) {
        let to: &mut [N; STEP] = to.try_into().expect("a step has as many numbers");
        *to = *<&[N; STEP]>::try_from(from).expect("a step has as many numbers");
    }
    after
}
