//! Sums of every experiment x variant x segment, exact whatever the order of units.
//! In: rows of whole numbers and their products, many at a time, and their cell. Out: [`State`]s per metric, after merging the cells of
//! all partitions.
//!
//! Sums of small numbers are kept in 32 bits, and moved to binary64, which adds whole numbers exactly below 2^53, before they leave them;
//! those of wide ones are kept in 128-bit integers. Decimals with up to two places are whole numbers after scaling by 100. Units whose
//! numbers are neither are kept [`Apart`], metric by metric.

use std::collections::HashMap;

use super::apart::Apart;
use super::blocks::{self, Limits, Rows, Small, SmallTotals, WideTotals};
use super::lanes::Lanes;
use super::layout::{RowLayout, SMALL_STEP, Section, WIDE_LINE};
use super::numbers::Exact;
use crate::metrics::plan::MetricPlan;
use crate::stats::double_double::DoubleDouble;
use crate::stats::state::State;

/// Sums and products of a metric of four numbers: a ratio with its covariates.
const MOST_ENTRIES: usize = 4 + 4 * 5 / 2;

/// The cells of one combination of segment values: experiments x variants.
pub struct Cells {
    small: SmallSums,
    wide: WideSums,
    classes: usize,
    units: Vec<u64>,
    crossed_over: Vec<u64>,
    /// Units that a metric's class counts but whose numbers are elsewhere: (cell, metric).
    apart: HashMap<(u32, u32), Apart>,
}

/// Cell by cell, as [`super::layout::Side`] says.
struct SmallSums {
    entries: usize,
    limits: usize,
    /// Sums of the last rows, and a bound of each cell's.
    recent: Vec<u32>,
    bounds: Vec<u32>,
    /// Sums of the rows before.
    settled: Vec<f64>,
    min: Vec<u16>,
    max: Vec<u16>,
}

struct WideSums {
    entries: usize,
    limits: usize,
    /// Sums of 128 bits, their lower and their upper half.
    low: Vec<u64>,
    high: Vec<i64>,
    min: Vec<f64>,
    max: Vec<f64>,
}

/// A unit's contribution to each of its cells.
#[derive(Default)]
pub struct UnitRow {
    /// As [`RowLayout`] says, and a step more; NaN where a wide number is apart.
    pub numbers: Vec<f32>,
    /// A bit per class that the unit counts for.
    pub classes: u64,
    /// Metrics whose numbers are not whole, or large, with the numbers.
    pub apart: Vec<(u32, Exact)>,
    /// Whether some wide number is NaN.
    pub has_gaps: bool,
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

/// Rows that are added together.
pub struct Block<'a, N, const S: usize> {
    pub small: Rows<'a, N, S>,
    pub wide: Rows<'a, f64, WIDE_LINE>,
    /// Line of a row's wide part from which on it has its numbers with gaps; without it there are none.
    pub gaps: Option<usize>,
    /// Classes of each row, and those that every row has.
    pub classes: &'a [u64],
    pub all: u64,
    /// No sum or product of a row's small numbers is larger.
    pub largest: u32,
    /// Extremes of all rows, as cells keep theirs.
    pub small_limits: Limits<'a, u16>,
    pub wide_limits: Limits<'a, f64>,
}

impl<N, const S: usize> Block<'_, N, S> {
    /// Those of some rows that a class counts; there must be room for all of them.
    #[inline(always)]
    fn counted<'a>(&self, class: usize, rows: &'a [u32], room: &'a mut [u32]) -> &'a [u32] {
        if self.all >> class & 1 != 0 {
            return rows;
        }
        // Without a branch, as nobody can guess which rows count: one that does not is written over by the next.
        let mut count = 0;
        for row in rows {
            room[count] = *row;
            count += (self.classes[*row as usize] >> class & 1) as usize;
        }
        &room[..count]
    }

    /// Line of a row's wide part where the numbers of a section start.
    #[inline(always)]
    pub fn wide_numbers(&self, section: &Section) -> usize {
        match self.gaps {
            None => section.entries.start / WIDE_LINE,
            Some(first) => first + section.limits.start / WIDE_LINE,
        }
    }
}

impl Cells {
    pub fn new(lanes: &Lanes, cells: usize) -> Cells {
        let (small, wide) = (&lanes.layout.small, &lanes.layout.wide);
        Cells {
            small: SmallSums {
                entries: small.entries,
                limits: small.limits,
                recent: vec![0; cells * small.entries],
                bounds: vec![0; cells],
                settled: vec![0.0; cells * small.entries],
                min: vec![u16::MAX; cells * small.limits],
                max: vec![0; cells * small.limits],
            },
            wide: WideSums {
                entries: wide.entries,
                limits: wide.limits,
                low: vec![0; cells * wide.entries],
                high: vec![0; cells * wide.entries],
                min: vec![f64::INFINITY; cells * wide.limits],
                max: vec![f64::NEG_INFINITY; cells * wide.limits],
            },
            classes: lanes.classes.len(),
            units: vec![0; cells * lanes.classes.len()],
            crossed_over: vec![0; cells],
            apart: HashMap::new(),
        }
    }

    /// Bytes that one combination of segment values takes.
    pub fn memory(lanes: &Lanes, cells: usize) -> usize {
        let (small, wide) = (&lanes.layout.small, &lanes.layout.wide);
        let sums = small.entries * 12 + wide.entries * 16;
        let limits = small.limits * 4 + wide.limits * 16;
        cells * (sums + limits + lanes.classes.len() * 8 + 12)
    }

    /// Adds the small numbers of rows of a block to a cell, and counts the rows. In the room, which is for all of them, those that a class
    /// counts are put together.
    #[inline(always)]
    pub fn add_small<N: Small, const S: usize>(
        &mut self,
        layout: &RowLayout,
        cell: usize,
        block: &Block<'_, N, S>,
        (rows, room): (&[u32], &mut [u32]),
    ) {
        for class in 0..self.classes {
            let counted = block.counted(class, rows, room);
            self.units[cell * self.classes + class] += counted.len() as u64;
            for rows in counted.chunks((u32::MAX / block.largest) as usize) {
                self.small
                    .make_room(cell, rows.len() as u32 * block.largest);
                self.small.add(layout, (cell, class), block, rows);
            }
        }
    }

    /// Adds their wide numbers.
    #[inline(always)]
    pub fn add_wide<N, const S: usize>(
        &mut self,
        layout: &RowLayout,
        cell: usize,
        block: &Block<'_, N, S>,
        (rows, room): (&[u32], &mut [u32]),
    ) {
        for class in 0..self.classes {
            let counted = block.counted(class, rows, room);
            if !counted.is_empty() {
                self.wide.add(layout, (cell, class), block, counted);
            }
        }
    }

    /// To be called before cells are merged or looked at.
    pub fn settle(&mut self) {
        (0..self.crossed_over.len()).for_each(|cell| self.small.settle(cell));
    }

    pub fn add_crossed_over(&mut self, cell: usize) {
        self.crossed_over[cell] += 1;
    }

    /// Adds the metrics of a row that are apart, and the unit itself if nothing else will.
    #[cold]
    pub fn add_apart(&mut self, cell: usize, row: &UnitRow) {
        for (metric, numbers) in &row.apart {
            let apart = self.apart.entry((cell as u32, *metric)).or_default();
            apart.push(numbers);
        }
        for class in (0..self.classes).filter(|_| row.is_apart) {
            self.units[cell * self.classes + class] += row.classes >> class & 1;
        }
    }

    /// Adds the cells of another partition or segment; the order does not matter. Both are settled.
    pub fn merge(&mut self, other: &Cells) {
        self.small.merge(&other.small);
        self.wide.merge(&other.wide);
        add_all(&mut self.units, &other.units);
        add_all(&mut self.crossed_over, &other.crossed_over);
        for (key, part) in &other.apart {
            self.apart.entry(*key).or_default().merge(part);
        }
    }

    /// Units in the cell that were seen in two variants.
    pub fn crossed_over(&self, cell: usize) -> u64 {
        self.crossed_over[cell]
    }

    /// Units of a metric in a cell whose numbers are not whole, or large.
    pub fn apart(&self, cell: usize, metric: usize) -> Option<&Apart> {
        self.apart.get(&(cell as u32, metric as u32))
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
        let place = &lanes.layout.places[metric];
        let apart = self.apart(cell, metric);
        let counted = self.units[cell * self.classes + lanes.metrics[metric].class];
        let whole = counted - apart.map_or(0, Apart::units);
        let mut totals = [0; MOST_ENTRIES];
        let totals = &mut totals[..place.entries.len()];
        for (total, entry) in totals.iter_mut().zip(&place.entries) {
            *total = match place.is_small {
                true => self.small.sum(cell, *entry),
                false => self.wide.sum(cell, *entry),
            };
        }
        fill_whole(state, whole, totals, scales);
        for position in (0..width).filter(|_| whole > 0) {
            let (min, max) = match place.is_small {
                true => self.small.limits(cell, place.limits[position]),
                false => self.wide.limits(cell, place.limits[position]),
            };
            (state.min[position], state.max[position]) = (min, max);
        }
        match apart {
            Some(apart) => {
                *state = apart.joined((whole, totals), (&state.min, &state.max), scales);
            }
            None => unscale_limits(state, scales),
        }
    }
}

impl SmallSums {
    /// Moves a cell's last sums on if rows with a sum up to `more` might not fit.
    #[inline(always)]
    fn make_room(&mut self, cell: usize, more: u32) {
        match self.bounds[cell].checked_add(more) {
            Some(bound) => self.bounds[cell] = bound,
            None => {
                self.settle(cell);
                self.bounds[cell] = more;
            }
        }
    }

    fn settle(&mut self, cell: usize) {
        let of_cell = cell * self.entries..(cell + 1) * self.entries;
        let recent = &mut self.recent[of_cell.clone()];
        for (settled, recent) in self.settled[of_cell].iter_mut().zip(recent) {
            *settled += f64::from(std::mem::take(recent));
        }
        self.bounds[cell] = 0;
    }

    #[inline(always)]
    fn add<N: Small, const S: usize>(
        &mut self,
        layout: &RowLayout,
        (cell, class): (usize, usize),
        block: &Block<'_, N, S>,
        rows: &[u32],
    ) {
        let sections = layout.small.sections.iter();
        for section in sections.filter(|section| section.class == class) {
            let (sums, limits) = section.of_cell(cell, &layout.small);
            let mut totals = SmallTotals {
                recent: &mut self.recent[sums],
                min: &mut self.min[limits.clone()],
                max: &mut self.max[limits],
            };
            let known = block.small_limits.of(&section.limits);
            blocks::add_small(block.small, section, (rows, known), &mut totals);
        }
    }

    fn merge(&mut self, other: &SmallSums) {
        add_all(&mut self.settled, &other.settled);
        lower_all(&mut self.min, &other.min);
        raise_all(&mut self.max, &other.max);
    }

    fn sum(&self, cell: usize, entry: usize) -> i128 {
        // Below 2^53, so that 64 bits are enough.
        i128::from(self.settled[cell * self.entries + entry] as i64)
    }

    fn limits(&self, cell: usize, number: usize) -> (f64, f64) {
        let at = cell * self.limits + number;
        (f64::from(self.min[at]), f64::from(self.max[at]))
    }
}

impl WideSums {
    #[inline(always)]
    fn add<N, const S: usize>(
        &mut self,
        layout: &RowLayout,
        (cell, class): (usize, usize),
        block: &Block<'_, N, S>,
        rows: &[u32],
    ) {
        let sections = layout.wide.sections.iter();
        for section in sections.filter(|section| section.class == class) {
            let (sums, limits) = section.of_cell(cell, &layout.wide);
            let mut totals = WideTotals {
                low: &mut self.low[sums.clone()],
                high: &mut self.high[sums],
                min: &mut self.min[limits.clone()],
                max: &mut self.max[limits],
            };
            let rows = (rows, block.wide_limits.of(&section.limits));
            let numbers = block.wide_numbers(section);
            blocks::add_wide(block.wide, (section, numbers), rows, &mut totals);
        }
    }

    fn merge(&mut self, other: &WideSums) {
        let totals = self.low.iter_mut().zip(&mut self.high);
        for ((low, high), (part, upper)) in totals.zip(other.low.iter().zip(&other.high)) {
            *low = low.wrapping_add(*part);
            *high += upper + i64::from(*low < *part);
        }
        lower_all(&mut self.min, &other.min);
        raise_all(&mut self.max, &other.max);
    }

    fn sum(&self, cell: usize, entry: usize) -> i128 {
        let at = cell * self.entries + entry;
        (i128::from(self.high[at]) << 64) + i128::from(self.low[at])
    }

    fn limits(&self, cell: usize, number: usize) -> (f64, f64) {
        let at = cell * self.limits + number;
        (self.min[at], self.max[at])
    }
}

fn lower_all<T: Copy + PartialOrd>(limits: &mut [T], parts: &[T]) {
    for (limit, part) in limits.iter_mut().zip(parts) {
        *limit = if *part < *limit { *part } else { *limit };
    }
}

fn raise_all<T: Copy + PartialOrd>(limits: &mut [T], parts: &[T]) {
    for (limit, part) in limits.iter_mut().zip(parts) {
        *limit = if *part > *limit { *part } else { *limit };
    }
}

fn add_all<T: Copy + std::ops::AddAssign>(totals: &mut [T], parts: &[T]) {
    for (total, part) in totals.iter_mut().zip(parts) {
        *total += *part;
    }
}

pub fn unscale_limits(state: &mut State, scales: &[f64]) {
    for limits in [&mut state.min, &mut state.max] {
        let limits = limits.iter_mut().zip(scales);
        limits.for_each(|(limit, scale)| *limit /= scale);
    }
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
