//! Rows wait until there are enough of them for their cells.
//! In: rows of units, each for some cells of one combination of segment values. Out: their products, and the cells of a block one after
//! the other, each with all of its rows: so the sums of a cell are fetched once per block, and what several experiments share of a row is
//! multiplied and written once.

use std::ops::{Mul, Range};

use super::blocks::{self, Limits, Line, Rows, Small};
use super::cells::{Block, Cells, UnitRow};
use super::layout::{Product, RowLayout, SMALL_LINE, SMALL_STEP, Side, WIDE_LINE, WIDE_STEP};
use super::vectors::for_long_vectors;

/// Rows that wait for a cell on average before a block is added.
const ROWS_PER_CELL: usize = 48;
/// Bytes of all rows of a block, so that they stay near the processor while all cells take theirs.
const MOST_BYTES: usize = 1 << 21;

/// Rows whose small products 16 bits hold.
type Narrow = Queue<u16, SMALL_LINE>;
/// Rows with large numbers, or with some that are elsewhere.
type Full = Queue<u32, { SMALL_LINE / 2 }>;

/// The rows that wait for the cells of one combination of segment values.
#[derive(Default)]
pub struct Queues {
    narrow: Narrow,
    full: Full,
}

/// The largest numbers of a row or of many, without their signs.
#[derive(Clone, Copy, Default)]
pub struct Largest {
    pub small: f32,
    pub wide: f32,
}

impl Largest {
    #[inline(always)]
    pub fn of(row: &UnitRow, layout: &RowLayout) -> Largest {
        let (small, wide) = row.numbers[..layout.stride()].split_at(layout.wide_start());
        Largest {
            small: largest_in_steps::<SMALL_STEP>(small),
            wide: largest_in_steps::<WIDE_STEP>(wide),
        }
    }

    /// Whether products of the small numbers of sixteen rows fit into 16 bits together, and those of many wide ones into binary64.
    fn is_usual(self) -> bool {
        self.small < 64.0 && self.wide <= (1 << 22) as f32
    }
}

#[inline(always)]
fn largest_in_steps<const S: usize>(numbers: &[f32]) -> f32 {
    // Steps of a fixed length, and a NaN compares false.
    let mut largest = [0.0_f32; S];
    for numbers in numbers.chunks_exact(S) {
        for (largest, number) in largest.iter_mut().zip(numbers) {
            let number = number.abs();
            *largest = if number > *largest { number } else { *largest };
        }
    }
    largest.into_iter().fold(0.0, f32::max)
}

impl Queues {
    /// Memory of the queues of so many cells: at most a row for each that waits, its cell, its place and room for it, and where rows end and cells
    /// start.
    pub fn memory(layout: &RowLayout, cells: usize) -> usize {
        let rows = cells * ROWS_PER_CELL;
        let row = size_of::<u16>() * layout.small.entries + size_of::<f64>() * layout.wide.entries;
        (rows * row).min(MOST_BYTES) + rows * 24 + cells * 8
    }

    /// A row goes to some cells.
    #[inline(always)]
    pub fn push(
        &mut self,
        row: &UnitRow,
        layout: &RowLayout,
        waiting: &[u32],
        (cells, count): (&mut Cells, usize),
    ) {
        let largest = Largest::of(row, layout);
        match largest.is_usual() && !row.has_gaps {
            true => {
                if self.narrow.is_full(count) {
                    empty_narrow(&mut self.narrow, layout, cells, count);
                }
                self.narrow.push(row, layout, largest, waiting);
            }
            false => {
                if self.full.is_full(count) {
                    empty_full(&mut self.full, layout, cells, count);
                }
                self.full.push(row, layout, largest, waiting);
            }
        }
    }

    /// Adds all that waits.
    pub fn empty(&mut self, layout: &RowLayout, (cells, count): (&mut Cells, usize)) {
        empty_narrow(&mut self.narrow, layout, cells, count);
        empty_full(&mut self.full, layout, cells, count);
    }
}

for_long_vectors! {
    fn empty_narrow(queue: &mut Narrow, layout: &RowLayout, cells: &mut Cells, count: usize) {
        queue.empty(layout, cells, count)
    }
}

for_long_vectors! {
    fn empty_full(queue: &mut Full, layout: &RowLayout, cells: &mut Cells, count: usize) {
        queue.empty(layout, cells, count)
    }
}

/// Rows of one kind.
#[derive(Default)]
struct Queue<N, const S: usize> {
    small: Vec<Line<N, S>>,
    wide: Vec<Line<f64, WIDE_LINE>>,
    /// Classes that count each row.
    classes: Vec<u64>,
    /// Cells that get a row, row by row, and where those of each row end.
    waiting: Vec<u32>,
    ends: Vec<u32>,
    /// Of the whole block.
    largest: Largest,
    small_limits: Extremes<u16>,
    wide_limits: Extremes<f64>,
    starts: Vec<u32>,
    sorted: Vec<u32>,
    /// Room for those of a cell that one class counts.
    counted: Vec<u32>,
    small_row: Products<N>,
    wide_row: Products<f64>,
}

impl<N: Small, const S: usize> Queue<N, S> {
    #[inline(always)]
    fn push(&mut self, row: &UnitRow, layout: &RowLayout, largest: Largest, cells: &[u32]) {
        let (small, wide) = row.numbers[..layout.stride()].split_at(layout.wide_start());
        self.small_row.fill(&layout.small, small, N::of);
        self.small_row.append(&layout.small, &mut self.small);
        let number = |number: f32| {
            if number.is_nan() {
                0.0
            } else {
                f64::from(number)
            }
        };
        self.wide_row.fill(&layout.wide, wide, number);
        self.wide_row.append(&layout.wide, &mut self.wide);
        if N::HAS_GAPS {
            self.append_gaps(layout, &wide[..layout.wide.numbers]);
        }
        self.classes.push(row.classes);
        self.waiting.extend_from_slice(cells);
        self.ends.push(self.waiting.len() as u32);
        self.largest.small = self.largest.small.max(largest.small);
        self.largest.wide = self.largest.wide.max(largest.wide);
    }

    /// The wide numbers themselves, section by section as a cell keeps their extremes.
    fn append_gaps(&mut self, layout: &RowLayout, numbers: &[f32]) {
        for section in &layout.wide.sections {
            for numbers in numbers[section.numbers.clone()].chunks(WIDE_LINE) {
                let mut line = Line([f64::NAN; WIDE_LINE]);
                for (to, number) in line.0.iter_mut().zip(numbers) {
                    *to = f64::from(*number);
                }
                self.wide.push(line);
            }
        }
    }

    fn is_full(&self, cells: usize) -> bool {
        let bytes = size_of_val(self.small.as_slice()) + size_of_val(self.wide.as_slice());
        self.waiting.len() >= cells * ROWS_PER_CELL || bytes >= MOST_BYTES
    }

    #[inline(always)]
    fn empty(&mut self, layout: &RowLayout, cells: &mut Cells, count: usize) {
        if self.waiting.is_empty() {
            return;
        }
        self.sort(count);
        self.find_limits(layout);
        let mut counted = std::mem::take(&mut self.counted);
        counted.resize(self.ends.len(), 0);
        let block = self.block(layout);
        // One side after the other, as both together with the cells' sums are more than what lies near the processor.
        for (cell, start) in self.starts.windows(2).enumerate() {
            let rows = &self.sorted[start[0] as usize..start[1] as usize];
            if !rows.is_empty() {
                cells.add_small(layout, cell, &block, (rows, &mut counted));
            }
        }
        for (cell, start) in self.starts.windows(2).enumerate() {
            let rows = &self.sorted[start[0] as usize..start[1] as usize];
            if !rows.is_empty() {
                cells.add_wide(layout, cell, &block, (rows, &mut counted));
            }
        }
        self.counted = counted;
        self.small.clear();
        self.wide.clear();
        self.classes.clear();
        self.waiting.clear();
        self.ends.clear();
        self.largest = Largest::default();
    }

    fn block<'a>(&'a self, layout: &RowLayout) -> Block<'a, N, S> {
        let square = |number: f32| f64::from(number.max(1.0)).powi(2);
        let gaps = layout.wide.entries / WIDE_LINE;
        Block {
            small: Rows {
                lines: &self.small,
                stride: layout.small.entries / S,
                most: (N::MOST / square(self.largest.small)) as usize,
            },
            wide: Rows {
                lines: &self.wide,
                stride: match N::HAS_GAPS {
                    true => gaps + layout.wide.limits / WIDE_LINE,
                    false => gaps,
                },
                most: ((1u64 << 51) as f64 / square(self.largest.wide)) as usize,
            },
            gaps: N::HAS_GAPS.then_some(gaps),
            classes: &self.classes,
            all: self.classes.iter().fold(u64::MAX, |all, row| all & row),
            largest: square(self.largest.small) as u32,
            small_limits: self.small_limits.lend(),
            wide_limits: self.wide_limits.lend(),
        }
    }

    /// Extremes of all rows: few rows are beyond those of a cell that has seen many.
    #[inline(always)]
    fn find_limits(&mut self, layout: &RowLayout) {
        let mut small = std::mem::take(&mut self.small_limits);
        let mut wide = std::mem::take(&mut self.wide_limits);
        small.clear(layout.small.limits, (u16::MAX, 0));
        wide.clear(layout.wide.limits, (f64::INFINITY, f64::NEG_INFINITY));
        let (block, all) = (
            self.block(layout),
            Vec::from_iter(0..self.ends.len() as u32),
        );
        for section in &layout.small.sections {
            let limits = small.of(&section.limits);
            blocks::limits_of_small(block.small, section, &all, limits);
        }
        for section in &layout.wide.sections {
            let limits = wide.of(&section.limits);
            blocks::limits_of_wide(block.wide, block.wide_numbers(section), &all, limits);
        }
        (self.small_limits, self.wide_limits) = (small, wide);
    }

    /// Rows by cell, as `starts` says.
    fn sort(&mut self, cells: usize) {
        self.starts.clear();
        self.starts.resize(cells + 1, 0);
        for cell in &self.waiting {
            self.starts[*cell as usize + 1] += 1;
        }
        for cell in 0..cells {
            self.starts[cell + 1] += self.starts[cell];
        }
        self.sorted.resize(self.waiting.len(), 0);
        let (mut next, mut start) = (self.starts.clone(), 0);
        for (row, end) in self.ends.iter().enumerate() {
            for cell in &self.waiting[start..*end as usize] {
                let at = &mut next[*cell as usize];
                self.sorted[*at as usize] = row as u32;
                *at += 1;
            }
            start = *end as usize;
        }
    }
}

/// Extremes of the rows of a block.
#[derive(Default)]
struct Extremes<N> {
    min: Vec<N>,
    max: Vec<N>,
}

impl<N: Copy> Extremes<N> {
    /// As they are before the first row.
    fn clear(&mut self, numbers: usize, (min, max): (N, N)) {
        self.min.clear();
        self.min.resize(numbers, min);
        self.max.clear();
        self.max.resize(numbers, max);
    }

    fn of(&mut self, places: &Range<usize>) -> (&mut [N], &mut [N]) {
        (&mut self.min[places.clone()], &mut self.max[places.clone()])
    }

    fn lend(&self) -> Limits<'_, N> {
        Limits {
            min: &self.min,
            max: &self.max,
        }
    }
}

/// One row in the making: its numbers, and their sums and products.
#[derive(Default)]
struct Products<N> {
    numbers: Vec<N>,
    entries: Vec<N>,
}

impl<N: Copy + Default + Mul<Output = N>> Products<N> {
    #[inline(always)]
    fn fill(&mut self, side: &Side, numbers: &[f32], number: impl Fn(f32) -> N) {
        // Blocks may read and write a step too far.
        self.numbers
            .resize(numbers.len() + SMALL_STEP, N::default());
        self.entries.resize(side.entries + SMALL_STEP, N::default());
        for (to, from) in self.numbers.iter_mut().zip(numbers) {
            *to = number(*from);
        }
        for section in &side.sections {
            let (start, numbers) = (
                section.entries.start,
                &self.numbers[section.numbers.clone()],
            );
            self.entries[start..start + numbers.len()].copy_from_slice(numbers);
            for product in &section.products {
                match size_of::<N>() {
                    ..8 => self.multiply::<SMALL_STEP>(product),
                    _ => self.multiply::<WIDE_STEP>(product),
                }
            }
        }
    }

    #[inline(always)]
    fn multiply<const S: usize>(&mut self, product: &Product) {
        let [left, right] = product.factors.map(|from| {
            let factors: [N; S] = self.numbers[from..from + S]
                .try_into()
                .expect("they are as many");
            factors
        });
        let to = &mut self.entries[product.to..product.to + S];
        for at in 0..S {
            to[at] = left[at] * right[at];
        }
    }

    #[inline(always)]
    fn append<const S: usize>(&self, side: &Side, lines: &mut Vec<Line<N, S>>) {
        let entries = self.entries[..side.entries].chunks_exact(S);
        lines.extend(entries.map(|line| Line(line.try_into().expect("a line is as long"))));
    }
}
