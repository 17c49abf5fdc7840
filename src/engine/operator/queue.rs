//! Rows wait until there are enough of them for their cells.
//! In: rows of units, each for some cells. Out: the cells of a block one after the other, each with all of its rows: so the sums of
//! a cell are fetched once per block, and a row that several experiments share is written once.

use super::blocks::Matrix;
use super::cells::{Cells, UnitRow};
use super::layout::RowLayout;

/// Rows that wait for a cell on average before a block is added.
const ROWS_PER_CELL: usize = 24;
/// Numbers of all rows of a block: 32 MB.
const MOST_NUMBERS: usize = 8 << 20;

#[derive(Default)]
pub struct Queue {
    numbers: Vec<f32>,
    /// Classes that count each row.
    classes: Vec<u64>,
    /// Cell, and which row it gets.
    waiting: Vec<(u32, u32)>,
    /// Largest small number of the block.
    largest: usize,
    starts: Vec<u32>,
    sorted: Vec<u32>,
}

impl Queue {
    /// Memory of a queue that serves so many cells: at most a row for each that waits, a pair and a place for it, and where cells start.
    pub fn memory(layout: &RowLayout, cells: usize) -> usize {
        let rows = cells * ROWS_PER_CELL;
        let numbers = (rows * layout.stride()).min(MOST_NUMBERS);
        numbers * size_of::<f32>() + rows * 20 + cells * 8
    }

    /// Numbers of a unit are at most the number of its events.
    pub fn begin_unit(&mut self, events: usize) {
        self.largest = self.largest.max(events);
    }

    pub fn push_row(&mut self, row: &UnitRow, stride: usize) {
        self.numbers.extend_from_slice(&row.numbers[..stride]);
        self.classes.push(row.classes);
    }

    /// The last row goes to a cell.
    #[inline]
    pub fn push(&mut self, cell: usize) {
        self.waiting
            .push((cell as u32, self.classes.len() as u32 - 1));
    }

    pub fn is_full(&self, cells: usize) -> bool {
        self.waiting.len() >= cells * ROWS_PER_CELL || self.numbers.len() >= MOST_NUMBERS
    }

    /// Adds all that waits; `cells` are those of all segments, so many of each.
    pub fn empty(&mut self, layout: &RowLayout, cells: &mut [Cells], per_segment: usize) {
        self.sort(cells.len() * per_segment);
        let largest = self.largest.max(1);
        let matrix = Matrix {
            numbers: &self.numbers,
            stride: layout.stride(),
            small_rows: ((1 << 24) / (largest * largest)).max(1),
        };
        let all = self.classes.iter().fold(u64::MAX, |all, row| all & row);
        for (cell, start) in self.starts.windows(2).enumerate() {
            let rows = &self.sorted[start[0] as usize..start[1] as usize];
            if !rows.is_empty() {
                let (segment, cell) = (cell / per_segment, cell % per_segment);
                cells[segment].add(layout, cell, matrix, (rows, &self.classes, all));
            }
        }
        self.numbers.clear();
        self.classes.clear();
        self.waiting.clear();
        self.largest = 0;
    }

    /// Rows by cell, as `starts` says.
    fn sort(&mut self, cells: usize) {
        self.starts.clear();
        self.starts.resize(cells + 1, 0);
        for (cell, _) in &self.waiting {
            self.starts[*cell as usize + 1] += 1;
        }
        for cell in 0..cells {
            self.starts[cell + 1] += self.starts[cell];
        }
        self.sorted.resize(self.waiting.len(), 0);
        let mut next = self.starts.clone();
        for (cell, row) in &self.waiting {
            let at = &mut next[*cell as usize];
            self.sorted[*at as usize] = *row;
            *at += 1;
        }
    }
}
