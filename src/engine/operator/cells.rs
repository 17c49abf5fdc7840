//! Sums of every experiment x variant x segment, exact whatever the order of units.
//! In: rows of whole numbers, many at a time, and their cell. Out: [`State`]s per metric, after merging the cells of all partitions.
//!
//! Sums of small numbers are kept in binary64, which adds whole numbers exactly below 2^53, those of wide ones in 128-bit integers.
//! Decimals with up to two places are whole numbers after scaling by 100. A number that is neither goes to an exact accumulator
//! of the statistics library, metric by metric.

use std::collections::HashMap;

use super::blocks::{self, Matrix, Totals, WideTotals};
use super::lanes::Lanes;
use super::layout::{RowLayout, SMALL_STEP};
use crate::metrics::plan::MetricPlan;
use crate::stats::double_double::DoubleDouble;
use crate::stats::state::{Accumulator, State};

/// Sums and products of a metric of four numbers: a ratio with its covariates.
const MOST_ENTRIES: usize = 4 + 4 * 5 / 2;

/// The cells of one combination of segment values: experiments x variants.
pub struct Cells {
    stride: usize,
    small_entries: usize,
    wide_entries: usize,
    small: Vec<f64>,
    /// Sums of 128 bits, their lower and their upper half.
    wide_low: Vec<u64>,
    wide_high: Vec<i64>,
    /// Extremes of the numbers of a row, which binary32 holds exactly up to 2^24.
    min: Vec<f32>,
    max: Vec<f32>,
    classes: usize,
    units: Vec<u64>,
    crossed_over: Vec<u64>,
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
#[derive(Default)]
pub struct UnitRow {
    /// As [`RowLayout`] says, and a step more; NaN where a wide number is apart.
    pub numbers: Vec<f32>,
    /// A bit per class that the unit counts for.
    pub classes: u64,
    /// Metrics whose numbers are not whole, or large, with the numbers.
    pub apart: Vec<(u32, Vec<f64>)>,
    /// Whether all metrics are apart, so that the row itself says nothing.
    pub is_apart: bool,
}

impl UnitRow {
    pub fn new(layout: &RowLayout) -> UnitRow {
        UnitRow {
            numbers: vec![0.0; layout.stride() + SMALL_STEP],
            ..UnitRow::default()
        }
    }
}

impl Cells {
    pub fn new(lanes: &Lanes, cells: usize) -> Cells {
        let layout = &lanes.layout;
        let stride = layout.stride();
        Cells {
            stride,
            small_entries: layout.small_entries,
            wide_entries: layout.wide_entries,
            small: vec![0.0; cells * layout.small_entries],
            wide_low: vec![0; cells * layout.wide_entries],
            wide_high: vec![0; cells * layout.wide_entries],
            min: vec![f32::INFINITY; cells * stride],
            max: vec![f32::NEG_INFINITY; cells * stride],
            classes: lanes.classes.len(),
            units: vec![0; cells * lanes.classes.len()],
            crossed_over: vec![0; cells],
            apart: HashMap::new(),
        }
    }

    /// Bytes that one combination of segment values takes.
    pub fn memory(lanes: &Lanes, cells: usize) -> usize {
        let layout = &lanes.layout;
        let sums = layout.small_entries * 8 + layout.wide_entries * 16;
        cells * (sums + layout.stride() * 8 + lanes.classes.len() * 8 + 8)
    }

    /// Adds rows to a cell; with the classes of all rows of the matrix, and those that every row has.
    pub fn add(
        &mut self,
        layout: &RowLayout,
        cell: usize,
        matrix: Matrix,
        (rows, classes, all): (&[u32], &[u64], u64),
    ) {
        let wide = cell * self.wide_entries..(cell + 1) * self.wide_entries;
        let mut totals = Totals {
            small: &mut self.small[cell * self.small_entries..(cell + 1) * self.small_entries],
            wide: WideTotals {
                low: &mut self.wide_low[wide.clone()],
                high: &mut self.wide_high[wide],
            },
            min: &mut self.min[cell * self.stride..(cell + 1) * self.stride],
            max: &mut self.max[cell * self.stride..(cell + 1) * self.stride],
        };
        for class in 0..self.classes {
            let bit = 1 << class;
            let counted: Vec<u32>;
            let counted = if all & bit != 0 {
                rows
            } else {
                let counts = |row: &&u32| classes[**row as usize] & bit != 0;
                counted = rows.iter().filter(counts).copied().collect();
                &counted
            };
            self.units[cell * self.classes + class] += counted.len() as u64;
            for group in layout.groups.iter().filter(|group| group.class == class) {
                blocks::add(matrix, group, counted, &mut totals);
            }
        }
    }

    pub fn add_crossed_over(&mut self, cell: usize) {
        self.crossed_over[cell] += 1;
    }

    /// Adds the metrics of a row that are apart, and the unit itself if nothing else will.
    #[cold]
    pub fn add_apart(&mut self, cell: usize, row: &UnitRow) {
        for (metric, values) in &row.apart {
            let apart = self.apart.entry((cell as u32, *metric)).or_default();
            apart.units += 1;
            if apart.sums.width() == 0 {
                apart.sums = Accumulator::new(values.len());
            }
            apart.sums.push(values);
        }
        for class in (0..self.classes).filter(|_| row.is_apart) {
            self.units[cell * self.classes + class] += row.classes >> class & 1;
        }
    }

    /// Adds the cells of another partition or segment; the order does not matter.
    pub fn merge(&mut self, other: &Cells) {
        add_all(&mut self.small, &other.small);
        let (low, high) = (&mut self.wide_low, &mut self.wide_high);
        for ((low, high), (part, upper)) in low
            .iter_mut()
            .zip(high)
            .zip(other.wide_low.iter().zip(&other.wide_high))
        {
            *low = low.wrapping_add(*part);
            *high += upper + i64::from(*low < *part);
        }
        add_all(&mut self.units, &other.units);
        add_all(&mut self.crossed_over, &other.crossed_over);
        for (limit, part) in self.min.iter_mut().zip(&other.min) {
            *limit = limit.min(*part);
        }
        for (limit, part) in self.max.iter_mut().zip(&other.max) {
            *limit = limit.max(*part);
        }
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

    fn wide(&self, at: usize) -> i128 {
        (i128::from(self.wide_high[at]) << 64) + i128::from(self.wide_low[at])
    }

    /// Makes `state` that of one metric in one cell; `scales` are what the whole numbers must be divided by.
    pub fn fill(
        &self,
        state: &mut State,
        (plan, lanes): (&MetricPlan, &Lanes),
        (cell, metric): (usize, usize),
        scales: &[f64],
    ) {
        let width = plan.metrics[metric].width();
        let (group, place) = lanes.layout.places[metric];
        let group = &lanes.layout.groups[group];
        let apart = self.apart.get(&(cell as u32, metric as u32));
        let counted = self.units[cell * self.classes + lanes.metrics[metric].class];
        let whole = counted - apart.map_or(0, |apart| apart.units);
        let entry = |entry: usize| group.entries + entry * group.padded + place;
        let mut totals = [0; MOST_ENTRIES];
        let totals = &mut totals[..group.entries_per_metric()];
        for (index, total) in totals.iter_mut().enumerate() {
            *total = match group.is_small {
                // Below 2^53, so that 64 bits are enough.
                true => i128::from(self.small[cell * self.small_entries + entry(index)] as i64),
                false => self.wide(cell * self.wide_entries + entry(index)),
            };
        }
        fill_whole(state, whole, totals, scales);
        for position in (0..width).filter(|_| whole > 0) {
            let at = cell * self.stride + group.lane(position, place);
            state.min[position] = f64::from(self.min[at]) / scales[position];
            state.max[position] = f64::from(self.max[at]) / scales[position];
        }
        if let Some(apart) = apart {
            *state = joined(&apart.sums, state);
        }
    }
}

fn add_all<T: Copy + std::ops::AddAssign>(totals: &mut [T], parts: &[T]) {
    for (total, part) in totals.iter_mut().zip(parts) {
        *total += *part;
    }
}

/// The exact sum of both.
pub fn joined(apart: &Accumulator, whole: &State) -> State {
    let mut sums = apart.clone();
    if whole.n > 0 {
        sums.push_state(whole);
    }
    sums.finish()
}

/// Mean S/n and C = (n P - S S') / n from whole sums, each rounded once and then divided by its scale.
pub fn whole_state(n: u64, totals: &[i128], scales: &[f64]) -> State {
    let mut state = State::default();
    fill_whole(&mut state, n, totals, scales);
    state
}

/// The same into the memory of another.
fn fill_whole(state: &mut State, n: u64, totals: &[i128], scales: &[f64]) {
    let width = scales.len();
    let (sums, products) = totals.split_at(width);
    let count = n as i128;
    (state.n, state.nulls, state.non_finite) = (n, 0, 0);
    state.min.clear();
    state.min.resize(width, f64::INFINITY);
    state.max.clear();
    state.max.resize(width, f64::NEG_INFINITY);
    state.mean.clear();
    state
        .mean
        .extend(sums.iter().zip(scales).map(|(sum, scale)| match n {
            0 => DoubleDouble::from(0.0),
            _ => quotient(*sum, n as f64 * scale),
        }));
    state.cross_products.clear();
    let mut products = products.iter();
    for i in 0..width {
        for (j, product) in (i..width).zip(&mut products) {
            let centred = count * product - sums[i] * sums[j];
            state.cross_products.push(match n {
                0 => 0.0,
                _ => quotient(centred, n as f64 * scales[i] * scales[j]).high,
            });
        }
    }
}

/// Whole numbers that binary64 holds all of.
const MOST_EXACT: u64 = 1 << 53;

/// An integer of up to 106 bits and more as a double-double, divided.
fn quotient(numerator: i128, divisor: f64) -> DoubleDouble {
    // Most fit into a binary64; conversions of 128 bits are function calls.
    if let Ok(small) = i64::try_from(numerator)
        && small.unsigned_abs() <= MOST_EXACT
    {
        return DoubleDouble::from(small as f64) / divisor;
    }
    let high = numerator as f64;
    let low = (numerator - high as i128) as f64;
    (DoubleDouble::from(high) + DoubleDouble::from(low)) / divisor
}
