//! What is kept of the units of special metrics, per segment, cell and metric: sums, or the units' numbers themselves.
//! In: each unit's numbers. Out: [`State`]s, after merging those of all partitions. Numbers are kept only where a quantile needs them, as
//! the cap or as what is asked for; units that are zero in all of them are counted.

use std::collections::HashMap;

use super::apart::{Apart, fill_before};
use super::cells::{unscale_limits, whole_state};
use super::numbers::{Exact, fits, is_null, unscaled};
use super::special::at_most;
use crate::metrics::plan::{Cap, Fill, MetricPlan, SpecialMetric};
use crate::stats::quantiles::{quantile_estimate, quantile_state_of};
use crate::stats::state::{Accumulator, State, missing_values};

/// What the cells of a metric hold.
#[derive(Clone)]
pub struct Shape {
    /// What each of a unit's numbers is divided by.
    pub scales: Vec<f64>,
    /// All numbers are kept rather than their sums.
    pub keeps_rows: bool,
    /// How many of the numbers are of the window, when what was before is a state of its own.
    pub before_apart: Option<usize>,
}

/// Cells by segment; within one, cell by cell, those of all metrics.
#[derive(Default)]
pub struct SpecialCells {
    shapes: Vec<Shape>,
    /// Of a segment.
    cells: usize,
    by_segment: Vec<Vec<Cell>>,
    /// Memory of all cells, about.
    pub bytes: usize,
}

#[derive(Default)]
enum Cell {
    #[default]
    Empty,
    Sums(Box<Sums>),
    Rows(Box<Rows>),
}

/// Caps that are quantiles, by cell and metric, one for each of a unit's numbers.
pub type Caps = HashMap<(usize, usize), Vec<Option<f64>>>;

impl SpecialCells {
    pub fn new(shapes: Vec<Shape>, cells: usize) -> SpecialCells {
        SpecialCells {
            shapes,
            cells,
            ..SpecialCells::default()
        }
    }

    /// Adds the numbers of one unit.
    pub fn push(&mut self, segment: usize, cell: usize, metric: usize, numbers: &[f64]) {
        self.make(segment, cell, metric);
        let scales = &self.shapes[metric].scales;
        match &mut self.by_segment[segment][cell * self.shapes.len() + metric] {
            Cell::Sums(sums) => sums.push(numbers, scales),
            Cell::Rows(rows) => self.bytes += rows.push(numbers, scales),
            Cell::Empty => unreachable!("it was just made"),
        }
    }

    /// Adds the values of one unit's events.
    pub fn push_list(
        &mut self,
        segment: usize,
        cell: usize,
        metric: usize,
        values: impl ExactSizeIterator<Item = f64>,
    ) {
        self.make(segment, cell, metric);
        if let Cell::Rows(rows) = &mut self.by_segment[segment][cell * self.shapes.len() + metric] {
            self.bytes += rows.push_list(values);
        }
    }

    /// A cell that was met for the first time.
    #[inline]
    fn make(&mut self, segment: usize, cell: usize, metric: usize) {
        if segment >= self.by_segment.len() {
            let cells = self.cells * self.shapes.len();
            self.bytes += (segment + 1 - self.by_segment.len()) * cells * size_of::<Cell>();
            self.by_segment
                .resize_with(segment + 1, || (0..cells).map(|_| Cell::Empty).collect());
        }
        let cell = &mut self.by_segment[segment][cell * self.shapes.len() + metric];
        if let Cell::Empty = cell {
            let shape = &self.shapes[metric];
            *cell = match shape.keeps_rows {
                true => Cell::Rows(Box::default()),
                false => Cell::Sums(Box::new(Sums::new(shape))),
            };
            self.bytes += match cell {
                Cell::Sums(sums) => sums.bytes(),
                _ => size_of::<Rows>(),
            };
        }
    }

    /// Adds another worker's cells; `segments` says which segment each of theirs is here.
    pub fn merge(&mut self, other: SpecialCells, segments: &[usize]) {
        self.bytes += other.bytes;
        for (cells, segment) in other.by_segment.into_iter().zip(segments) {
            if *segment >= self.by_segment.len() {
                self.by_segment.resize_with(segment + 1, Vec::new);
            }
            let known = &mut self.by_segment[*segment];
            if known.is_empty() {
                *known = cells;
                continue;
            }
            for (known, cell) in known.iter_mut().zip(cells) {
                match (known, cell) {
                    (_, Cell::Empty) => {}
                    (Cell::Sums(known), Cell::Sums(sums)) => known.merge(&sums),
                    (Cell::Rows(known), Cell::Rows(rows)) => known.merge(*rows),
                    (known, cell) => *known = cell,
                }
            }
        }
    }

    /// Why there are no states: a unit has no value where it must have one.
    pub fn refusal(&self, plan: &MetricPlan) -> Option<String> {
        let specials = plan.specials.iter().enumerate();
        let mut forbidding = specials.filter(|(_, metric)| metric.fill == Fill::Fail);
        forbidding.find_map(|(at, metric)| {
            (0..self.cells).find_map(|cell| {
                let counts = self.of(0..self.by_segment.len(), cell, at);
                let (missing, units) = counts
                    .map(Cell::missing)
                    .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
                let name = metric.name.split('@').next().unwrap_or(&metric.name);
                (missing > 0).then(|| missing_values(name, missing, units))
            })
        })
    }

    /// Memory that making the states takes beside: the largest list of numbers, and once more to sort it.
    pub fn bytes_to_finish(&self) -> usize {
        let mut most = 0;
        for metric in (0..self.shapes.len()).filter(|metric| self.shapes[*metric].keeps_rows) {
            // A pooled cap sees all variants of an experiment; more than all cells there cannot be.
            let all =
                (0..self.cells).flat_map(|cell| self.of(0..self.by_segment.len(), cell, metric));
            let numbers: usize = all.map(Cell::numbers).sum();
            most = most.max(numbers);
        }
        most * 2 * size_of::<f64>()
    }

    /// Caps over all segments; `variants` are those of an experiment.
    pub fn caps(&self, plan: &MetricPlan, variants: usize) -> Caps {
        let mut caps = Caps::new();
        for (at, metric) in plan.specials.iter().enumerate() {
            for (position, cap) in metric.caps.iter().enumerate() {
                let Some(Cap::Quantile { share, is_pooled }) = cap else {
                    continue;
                };
                for cell in 0..self.cells {
                    let pool = match is_pooled {
                        true => cell / variants * variants..(cell / variants + 1) * variants,
                        false => cell..cell + 1,
                    };
                    let first = pool.start;
                    let known =
                        (*is_pooled && cell > first).then(|| caps.get(&(first, at)).cloned());
                    let found = self.capped_positions(metric, position).map(|position| {
                        let shared = known.as_ref().map(|known| known.as_ref()?[position]);
                        let cap =
                            shared.unwrap_or_else(|| self.cap(pool.clone(), at, position, *share));
                        (position, cap)
                    });
                    let found: Vec<_> = found.collect();
                    let into = caps.entry((cell, at)).or_insert(vec![None; metric.width()]);
                    found
                        .into_iter()
                        .for_each(|(position, cap)| into[position] = cap);
                }
            }
        }
        caps
    }

    /// A number of the window, and the same before it.
    fn capped_positions(
        &self,
        metric: &SpecialMetric,
        position: usize,
    ) -> impl Iterator<Item = usize> {
        let before = metric.lookback.map(|_| metric.measured() + position);
        std::iter::once(position).chain(before)
    }

    fn cap(
        &self,
        cells: std::ops::Range<usize>,
        metric: usize,
        position: usize,
        share: f64,
    ) -> Option<f64> {
        let mut values = Vec::new();
        for cell in cells {
            for cell in self.of(0..self.by_segment.len(), cell, metric) {
                if let Cell::Rows(rows) = cell {
                    rows.collect(position, self.shapes[metric].scales.len(), &mut values);
                }
            }
        }
        quantile_estimate(&values, &[], share).quantile
    }

    /// The state of a metric in a cell of some segments taken together, and that of the time before if it is one of its own;
    /// nothing where there was no unit.
    pub fn state(
        &self,
        plan: &MetricPlan,
        segments: &[usize],
        (cell, at): (usize, usize),
        caps: &Caps,
    ) -> Option<(State, Option<State>)> {
        let (metric, shape) = (&plan.specials[at], &self.shapes[at]);
        let mut cells = self.of(segments.iter().copied(), cell, at).peekable();
        cells.peek()?;
        if shape.keeps_rows {
            let rows: Vec<&Rows> = cells.filter_map(Cell::rows).collect();
            return Some(match metric.quantile {
                Some(q) => (quantile_of(&rows, q), None),
                None => capped_state(&rows, shape, caps.get(&(cell, at))),
            });
        }
        let mut sums = Sums::new(shape);
        cells
            .filter_map(Cell::sums)
            .for_each(|part| sums.merge(part));
        let state = sums.state(&shape.scales);
        let before = match &sums.before {
            Some(before) => Some(before.state(&shape.scales)),
            None => metric.lookback.map(|_| {
                let mut before = State::default();
                fill_before(&mut before, &state, Some(&sums.apart));
                before
            }),
        };
        Some((state, before))
    }

    /// The cell of a metric in some segments, where it has units.
    fn of(
        &self,
        segments: impl Iterator<Item = usize>,
        cell: usize,
        metric: usize,
    ) -> impl Iterator<Item = &Cell> {
        let at = cell * self.shapes.len() + metric;
        segments
            .filter_map(move |segment| self.by_segment.get(segment)?.get(at))
            .filter(|cell| !matches!(cell, Cell::Empty))
    }
}

impl Cell {
    fn rows(&self) -> Option<&Rows> {
        match self {
            Cell::Rows(rows) => Some(rows),
            _ => None,
        }
    }

    fn sums(&self) -> Option<&Sums> {
        match self {
            Cell::Sums(sums) => Some(sums),
            _ => None,
        }
    }

    /// Units without a value, and all units.
    fn missing(&self) -> (u64, u64) {
        match self {
            Cell::Empty => (0, 0),
            Cell::Sums(sums) => (sums.nulls, sums.nulls + sums.units()),
            Cell::Rows(rows) => (rows.nulls, rows.units),
        }
    }

    fn numbers(&self) -> usize {
        self.rows()
            .map_or(0, |rows| rows.numbers.len() + rows.zeros as usize)
    }
}

/// Exact sums of one cell: whole numbers as such, any other in an accumulator of the statistics library.
struct Sums {
    whole: u64,
    nulls: u64,
    totals: Vec<i128>,
    min: Vec<f64>,
    max: Vec<f64>,
    apart: Apart,
    before: Option<Box<Sums>>,
}

impl Sums {
    fn new(shape: &Shape) -> Sums {
        let width = shape.scales.len();
        match shape.before_apart {
            None => Sums::of_width(width, None),
            Some(measured) => Sums::of_width(
                width,
                Some(Box::new(Sums::of_width(width - measured, None))),
            ),
        }
    }

    fn of_width(width: usize, before: Option<Box<Sums>>) -> Sums {
        Sums {
            whole: 0,
            nulls: 0,
            totals: vec![0; width + width * (width + 1) / 2],
            min: vec![f64::INFINITY; width],
            max: vec![f64::NEG_INFINITY; width],
            apart: Apart::default(),
            before,
        }
    }

    fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.bytes());
        before
            + size_of::<Sums>()
            + self.totals.len() * 16
            + self.min.len() * 16
            + self.apart.memory()
    }

    fn units(&self) -> u64 {
        self.whole + self.apart.units()
    }

    #[inline]
    fn push(&mut self, numbers: &[f64], scales: &[f64]) {
        if let Some(before) = &mut self.before {
            let later = numbers.len() - before.min.len();
            before.push(&numbers[later..], &scales[later..]);
        }
        if numbers.iter().any(|number| is_null(*number)) {
            self.nulls += 1;
            return;
        }
        if !numbers.iter().all(|number| fits(*number)) {
            let scaled = numbers.iter().copied().zip(scales.iter().copied());
            self.apart.push(&Exact::of(scaled));
            return;
        }
        self.whole += 1;
        let mut product = numbers.len();
        for (at, number) in numbers.iter().enumerate() {
            self.min[at] = self.min[at].min(*number);
            self.max[at] = self.max[at].max(*number);
            self.totals[at] += i128::from(*number as i64);
            for other in &numbers[at..] {
                // Both are below 2^25.
                self.totals[product] += i128::from(*number as i64 * *other as i64);
                product += 1;
            }
        }
    }

    fn merge(&mut self, other: &Sums) {
        self.whole += other.whole;
        self.nulls += other.nulls;
        self.apart.merge(&other.apart);
        let totals = self.totals.iter_mut().zip(&other.totals);
        totals.for_each(|(total, part)| *total += part);
        let min = self.min.iter_mut().zip(&other.min);
        min.for_each(|(limit, part)| *limit = limit.min(*part));
        let max = self.max.iter_mut().zip(&other.max);
        max.for_each(|(limit, part)| *limit = limit.max(*part));
        if let (Some(before), Some(part)) = (&mut self.before, &other.before) {
            before.merge(part);
        }
    }

    /// `scales` may be those of more numbers: the last ones count.
    fn state(&self, scales: &[f64]) -> State {
        let scales = &scales[scales.len() - self.min.len()..];
        let mut state = match self.apart.units() {
            0 => {
                let mut whole = whole_state(self.whole, &self.totals, scales);
                whole.min.clone_from(&self.min);
                whole.max.clone_from(&self.max);
                unscale_limits(&mut whole, scales);
                whole
            }
            _ => {
                let limits = (self.min.as_slice(), self.max.as_slice());
                self.apart
                    .joined((self.whole, &self.totals), limits, scales)
            }
        };
        state.nulls = self.nulls;
        state
    }
}

/// The numbers of a cell's units.
#[derive(Default)]
struct Rows {
    numbers: Vec<f64>,
    /// Units whose numbers are all zero.
    zeros: u64,
    /// Of lists: how many numbers each unit has.
    lengths: Vec<u32>,
    nulls: u64,
    units: u64,
}

impl Rows {
    /// Adds a unit and says how much memory that took.
    fn push(&mut self, numbers: &[f64], scales: &[f64]) -> usize {
        self.units += 1;
        self.nulls += u64::from(numbers.iter().any(|number| is_null(*number)));
        if numbers.iter().all(|number| *number == 0.0) {
            self.zeros += 1;
            return 0;
        }
        let before = self.numbers.capacity();
        let own = numbers.iter().zip(scales);
        self.numbers
            .extend(own.map(|(number, scale)| unscaled(*number, *scale)));
        (self.numbers.capacity() - before) * size_of::<f64>()
    }

    fn push_list(&mut self, values: impl ExactSizeIterator<Item = f64>) -> usize {
        self.units += 1;
        if values.len() == 0 {
            self.nulls += 1;
            return 0;
        }
        let before = (self.numbers.capacity(), self.lengths.capacity());
        self.lengths.push(values.len() as u32);
        self.numbers.extend(values);
        (self.numbers.capacity() - before.0) * size_of::<f64>()
            + (self.lengths.capacity() - before.1) * size_of::<u32>()
    }

    fn merge(&mut self, other: Rows) {
        self.zeros += other.zeros;
        self.nulls += other.nulls;
        self.units += other.units;
        self.numbers.extend(other.numbers);
        self.lengths.extend(other.lengths);
    }

    /// One number of each unit that has it.
    fn collect(&self, position: usize, width: usize, values: &mut Vec<f64>) {
        let numbers = self.numbers.iter().skip(position).step_by(width).copied();
        values.extend(numbers.filter(|number| !is_null(*number)));
        values.extend(std::iter::repeat_n(0.0, self.zeros as usize));
    }
}

fn quantile_of(rows: &[&Rows], q: f64) -> State {
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    for rows in rows {
        rows.collect(0, 1, &mut values);
        lengths.extend_from_slice(&rows.lengths);
    }
    quantile_state_of(&values, &lengths, q)
}

/// The state of numbers whose caps are known now.
fn capped_state(
    rows: &[&Rows],
    shape: &Shape,
    caps: Option<&Vec<Option<f64>>>,
) -> (State, Option<State>) {
    let width = shape.scales.len();
    let measured = shape.before_apart;
    let (mut all, mut before) = (
        Accumulator::new(width),
        Accumulator::new(width - measured.unwrap_or(0)),
    );
    let capped = |position: usize, number: f64| match caps.and_then(|caps| caps[position]) {
        Some(cap) => at_most(number, cap),
        None => number,
    };
    let mut push = |numbers: &[f64]| {
        let numbers: Vec<f64> = numbers
            .iter()
            .enumerate()
            .map(|(position, number)| capped(position, *number))
            .collect();
        match numbers.iter().any(|number| is_null(*number)) {
            true => all.push_nulls(1),
            false => all.push(&numbers),
        }
        if let Some(measured) = measured {
            before.push(&numbers[measured..]);
        }
    };
    for rows in rows {
        rows.numbers.chunks_exact(width).for_each(&mut push);
        let zeros = vec![0.0; width];
        (0..rows.zeros).for_each(|_| push(&zeros));
    }
    (all.finish(), measured.map(|_| before.finish()))
}
