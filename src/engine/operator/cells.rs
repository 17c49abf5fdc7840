//! Sums of every experiment x variant x segment, exact whatever the order of units.
//! In: one row of whole numbers per unit and its cell. Out: [`State`]s per metric, after merging the cells of all partitions.
//!
//! Binary64 adds whole numbers exactly below 2^53, so a cell adds rows in binary64, many entries at a time, and empties itself into
//! 128-bit integers before the bound could be passed. Decimals with up to two places are whole numbers after scaling by
//! 100. A number that is neither goes to an exact accumulator of the statistics library, metric by metric.

use std::collections::HashMap;

use super::lanes::Lanes;
use crate::metrics::plan::MetricPlan;
use crate::stats::double_double::DoubleDouble;
use crate::stats::state::{Accumulator, State};

const EXACT: f64 = (1u64 << 53) as f64;

/// The cells of one combination of segment values: experiments x variants.
pub struct Cells {
    pub stride: usize,
    classes: usize,
    values: usize,
    sums: Vec<f64>,
    totals: Vec<i128>,
    /// Rows added to `sums` since a cell was last emptied.
    pending: Vec<u32>,
    units: Vec<u64>,
    crossed_over: Vec<u64>,
    min: Vec<f64>,
    max: Vec<f64>,
    /// Units that a metric's class counts but whose numbers are elsewhere: (cell, metric).
    apart: HashMap<(u32, u32), Apart>,
}

/// Units of one cell and metric that are not whole numbers.
#[derive(Clone, Default)]
struct Apart {
    units: u64,
    sums: Accumulator,
}

/// A unit's contribution to each of its cells.
pub struct UnitRow {
    /// Sums and products of all metrics, whole numbers; zero where a metric does not count.
    pub entries: Vec<f64>,
    /// Largest magnitude among the entries.
    pub largest: f64,
    /// 1 per class that the unit counts for.
    pub classes: Vec<u64>,
    /// Unscaled values per metric and position, NaN where the metric does not count; empty unless extremes are kept.
    pub values: Vec<f64>,
    /// Metrics whose numbers are not whole, with the numbers.
    pub apart: Vec<(u32, Vec<f64>)>,
}

impl Cells {
    pub fn new(lanes: &Lanes, cells: usize) -> Cells {
        let values = lanes
            .metrics
            .iter()
            .map(|metric| metric.lanes.len())
            .sum::<usize>();
        Cells {
            stride: lanes.stride,
            classes: lanes.classes.len(),
            values,
            sums: vec![0.0; cells * lanes.stride],
            totals: vec![0; cells * lanes.stride],
            pending: vec![0; cells],
            units: vec![0; cells * lanes.classes.len()],
            crossed_over: vec![0; cells],
            min: vec![f64::INFINITY; cells * values],
            max: vec![f64::NEG_INFINITY; cells * values],
            apart: HashMap::new(),
        }
    }

    /// Bytes that one combination of segment values takes.
    pub fn memory(lanes: &Lanes, cells: usize) -> usize {
        let values = lanes
            .metrics
            .iter()
            .map(|metric| metric.lanes.len())
            .sum::<usize>();
        cells * (lanes.stride * 24 + lanes.classes.len() * 8 + values * 16 + 12)
    }

    #[inline]
    pub fn add(&mut self, cell: usize, row: &UnitRow) {
        let span = cell * self.stride..(cell + 1) * self.stride;
        for (sum, entry) in self.sums[span].iter_mut().zip(&row.entries) {
            *sum += entry;
        }
        let span = cell * self.classes..(cell + 1) * self.classes;
        for (units, class) in self.units[span].iter_mut().zip(&row.classes) {
            *units += class;
        }
        self.pending[cell] += 1;
        self.widen(cell, &row.values);
        if !row.apart.is_empty() {
            self.add_apart(cell, row);
        }
    }

    /// Empties the cell when one more row of such a size could leave the whole numbers that binary64 adds exactly.
    #[inline]
    pub fn make_room(&mut self, cell: usize, largest: f64) {
        if f64::from(self.pending[cell] + 1) * largest >= EXACT {
            self.empty(cell);
        }
    }

    pub fn add_crossed_over(&mut self, cell: usize) {
        self.crossed_over[cell] += 1;
    }

    #[inline]
    fn widen(&mut self, cell: usize, values: &[f64]) {
        let span = cell * self.values..cell * self.values + values.len();
        let limits = self.min[span.clone()].iter_mut().zip(&mut self.max[span]);
        for ((min, max), value) in limits.zip(values) {
            // A NaN compares false and changes nothing.
            *min = if *value < *min { *value } else { *min };
            *max = if *value > *max { *value } else { *max };
        }
    }

    #[cold]
    fn add_apart(&mut self, cell: usize, row: &UnitRow) {
        for (metric, values) in &row.apart {
            let apart = self.apart.entry((cell as u32, *metric)).or_default();
            apart.units += 1;
            if apart.sums.width() == 0 {
                apart.sums = Accumulator::new(values.len());
            }
            apart.sums.push(values);
        }
    }

    #[cold]
    fn empty(&mut self, cell: usize) {
        let span = cell * self.stride..(cell + 1) * self.stride;
        for (total, sum) in self.totals[span.clone()]
            .iter_mut()
            .zip(&mut self.sums[span])
        {
            *total += *sum as i128;
            *sum = 0.0;
        }
        self.pending[cell] = 0;
    }

    /// Adds the cells of another partition or segment; the order does not matter.
    pub fn merge(&mut self, other: &mut Cells) {
        (0..self.pending.len()).for_each(|cell| self.empty(cell));
        (0..other.pending.len()).for_each(|cell| other.empty(cell));
        self.totals
            .iter_mut()
            .zip(&other.totals)
            .for_each(|(total, part)| *total += part);
        self.units
            .iter_mut()
            .zip(&other.units)
            .for_each(|(units, part)| *units += part);
        self.crossed_over
            .iter_mut()
            .zip(&other.crossed_over)
            .for_each(|(units, part)| *units += part);
        self.min
            .iter_mut()
            .zip(&other.min)
            .for_each(|(limit, part)| *limit = limit.min(*part));
        self.max
            .iter_mut()
            .zip(&other.max)
            .for_each(|(limit, part)| *limit = limit.max(*part));
        for (key, part) in &other.apart {
            let apart = self.apart.entry(*key).or_default();
            apart.units += part.units;
            apart.sums.merge(&part.sums);
        }
    }

    /// Units in the cell that were seen in two variants.
    pub fn crossed_over(&self, cell: usize) -> u64 {
        self.crossed_over[cell]
    }

    /// The state of one metric in one cell; `scales` are what the whole numbers must be divided by.
    pub fn state(
        &mut self,
        plan: &MetricPlan,
        lanes: &Lanes,
        cell: usize,
        metric: usize,
        scales: &[f64],
    ) -> State {
        if self.pending[cell] > 0 {
            self.empty(cell);
        }
        let width = plan.metrics[metric].width();
        let compiled = &lanes.metrics[metric];
        let apart = self.apart.get(&(cell as u32, metric as u32));
        let counted = self.units[cell * self.classes + compiled.class];
        let start = cell * self.stride + compiled.offset;
        let totals = &self.totals[start..start + width + width * (width + 1) / 2];
        let mut state = whole_state(
            counted - apart.map_or(0, |apart| apart.units),
            totals,
            scales,
        );
        let values: usize = lanes.metrics[..metric]
            .iter()
            .map(|metric| metric.lanes.len())
            .sum();
        let values = cell * self.values + values..cell * self.values + values + width;
        state.min.copy_from_slice(&self.min[values.clone()]);
        state.max.copy_from_slice(&self.max[values]);
        match apart {
            None => state,
            Some(apart) => joined(&apart.sums, &state),
        }
    }
}

/// The exact sum of both; extremes were kept for both together.
fn joined(apart: &Accumulator, whole: &State) -> State {
    let mut sums = apart.clone();
    if whole.n > 0 {
        sums.push_state(whole);
    }
    State {
        min: whole.min.clone(),
        max: whole.max.clone(),
        ..sums.finish()
    }
}

/// Mean S/n and C = (n P - S S') / n from whole sums, each rounded once and then divided by its scale.
fn whole_state(n: u64, totals: &[i128], scales: &[f64]) -> State {
    let width = scales.len();
    let (sums, products) = totals.split_at(width);
    let count = n as i128;
    let mut cross_products = Vec::with_capacity(products.len());
    for i in 0..width {
        for j in i..width {
            let centred = count * products[cross_products.len()] - sums[i] * sums[j];
            cross_products.push(if n == 0 {
                0.0
            } else {
                quotient(centred, n as f64 * scales[i] * scales[j]).high
            });
        }
    }
    let mean = |(sum, scale): (&i128, &f64)| {
        if n == 0 {
            DoubleDouble::from(0.0)
        } else {
            quotient(*sum, n as f64 * scale)
        }
    };
    State {
        n,
        nulls: 0,
        non_finite: 0,
        min: vec![f64::INFINITY; width],
        max: vec![f64::NEG_INFINITY; width],
        mean: sums.iter().zip(scales).map(mean).collect(),
        cross_products,
    }
}

/// An integer of up to 106 bits and more as a double-double, divided.
fn quotient(numerator: i128, divisor: f64) -> DoubleDouble {
    let high = numerator as f64;
    let low = (numerator - high as i128) as f64;
    (DoubleDouble::from(high) + DoubleDouble::from(low)) / divisor
}
