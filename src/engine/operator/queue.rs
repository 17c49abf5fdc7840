//! Rows wait until there are enough of them for their cells.
//! In: rows of units, each for some cells of one combination of segment values. Out: the cells of a block one after the other, each with
//! all of its rows: so the sums of a cell are fetched once per block, and a row that several experiments share is written once.

use super::blocks::Matrix;
use super::cells::{Cells, UnitRow};
use super::layout::{RowLayout, SMALL_STEP, WIDE_STEP};

/// Rows that wait for a cell on average before a block is added.
const ROWS_PER_CELL: usize = 32;
/// Numbers of all rows of a block: 2 MB, so that they stay near the processor while all cells take theirs.
const MOST_NUMBERS: usize = 1 << 19;

/// The largest numbers of a row or of many, without their signs.
#[derive(Clone, Copy, Default)]
pub struct Largest {
    pub small: f32,
    pub wide: f32,
    /// Whether some wide number is apart, and NaN here.
    pub has_gaps: bool,
}

impl Largest {
    #[inline(always)]
    pub fn of(row: &UnitRow, layout: &RowLayout) -> Largest {
        let (small, wide) = row.numbers[..layout.stride()].split_at(layout.small_lanes);
        Largest {
            small: largest(small),
            wide: largest(wide),
            has_gaps: !row.apart.is_empty(),
        }
    }

    /// Whether few rows of this size can be added before the sums must be moved on, or not without looking at each number.
    pub fn is_rare(self) -> bool {
        self.small > 256.0 || self.wide > (1 << 22) as f32 || self.has_gaps
    }
}

#[inline(always)]
fn largest(numbers: &[f32]) -> f32 {
    let whole = numbers.len() - numbers.len() % SMALL_STEP;
    let largest = largest_in_steps::<SMALL_STEP>(&numbers[..whole]);
    largest.max(largest_in_steps::<WIDE_STEP>(&numbers[whole..]))
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

#[derive(Default)]
pub struct Queue {
    numbers: Vec<f32>,
    /// Classes that count each row.
    classes: Vec<u64>,
    /// Cells that get a row, row by row, and where those of each row end.
    waiting: Vec<u32>,
    ends: Vec<u32>,
    /// Largest small number of the block, and the largest wide one without its sign.
    largest: Largest,
    starts: Vec<u32>,
    sorted: Vec<u32>,
}

impl Queue {
    /// Memory of the queue of so many cells: at most a row for each that waits, its cell and its place, and where rows end and cells start.
    pub fn memory(layout: &RowLayout, cells: usize) -> usize {
        let rows = cells * ROWS_PER_CELL;
        let numbers = (rows * layout.stride()).min(MOST_NUMBERS);
        numbers * size_of::<f32>() + rows * 20 + cells * 8
    }

    /// A row goes to some cells.
    #[inline(always)]
    pub fn push(&mut self, row: &UnitRow, layout: &RowLayout, largest: Largest, cells: &[u32]) {
        self.numbers
            .extend_from_slice(&row.numbers[..layout.stride()]);
        self.classes.push(row.classes);
        self.waiting.extend_from_slice(cells);
        self.ends.push(self.waiting.len() as u32);
        self.largest.small = self.largest.small.max(largest.small);
        self.largest.wide = self.largest.wide.max(largest.wide);
        self.largest.has_gaps |= largest.has_gaps;
    }

    pub fn is_full(&self, cells: usize) -> bool {
        self.waiting.len() >= cells * ROWS_PER_CELL || self.numbers.len() >= MOST_NUMBERS
    }

    /// Adds all that waits.
    pub fn empty(&mut self, layout: &RowLayout, cells: &mut Cells, count: usize) {
        self.sort(count);
        let matrix = Matrix::new(
            &self.numbers,
            layout.stride(),
            (self.largest.small, self.largest.wide),
            self.largest.has_gaps,
        );
        let all = self.classes.iter().fold(u64::MAX, |all, row| all & row);
        for (cell, start) in self.starts.windows(2).enumerate() {
            let rows = &self.sorted[start[0] as usize..start[1] as usize];
            if !rows.is_empty() {
                cells.add(layout, cell, matrix, (rows, &self.classes, all));
            }
        }
        self.numbers.clear();
        self.classes.clear();
        self.waiting.clear();
        self.ends.clear();
        self.largest = Largest::default();
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
