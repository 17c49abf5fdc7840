//! Sums, products and extremes of many rows of one cell at once, in registers.
//! In: a matrix of rows, and which of them the cell gets. Out: added to the cell's totals. Loops over fixed steps, without branches per
//! number: this is where the time goes.
//!
//! Everything is exact: rows hold whole numbers, and before a sum could leave those that its type holds exactly it is moved on.

use super::layout::{Group, SMALL_STEP, WIDE_STEP};

/// Wide rows that are added before their sums are moved on: 32 products below 2^48 stay below 2^53.
const WIDE_ROWS: usize = 32;

/// Rows of numbers, [`super::layout::RowLayout`] says where which.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub numbers: &'a [f32],
    pub stride: usize,
    /// Rows whose small products binary32 adds exactly.
    pub small_rows: usize,
}

/// Where a cell keeps what it knows of a group.
pub struct Totals<'a> {
    pub small: &'a mut [f64],
    pub wide: &'a mut [i128],
    /// Of the whole row.
    pub min: &'a mut [f32],
    pub max: &'a mut [f32],
}

/// Adds rows to the totals of a group of metrics.
pub fn add(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it knows these instructions.
        return unsafe { add_with_avx2(matrix, group, rows, totals) };
    }
    add_anywhere(matrix, group, rows, totals);
}

/// The same code compiled for vectors of twice the length.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_with_avx2(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    add_anywhere(matrix, group, rows, totals);
}

#[inline(always)]
fn add_anywhere(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    match (group.is_small, group.width) {
        (true, 1) => add_small::<1, 2>(matrix, group, rows, totals),
        (true, 2) => add_small::<2, 5>(matrix, group, rows, totals),
        (true, _) => add_small::<4, 14>(matrix, group, rows, totals),
        (false, 1) => add_wide::<1, 2>(matrix, group, rows, totals),
        (false, 2) => add_wide::<2, 5>(matrix, group, rows, totals),
        (false, _) => add_wide::<4, 14>(matrix, group, rows, totals),
    }
}

/// `E` sums and products of `W` small numbers per metric.
#[inline(always)]
fn add_small<const W: usize, const E: usize>(
    matrix: Matrix,
    group: &Group,
    rows: &[u32],
    totals: &mut Totals,
) {
    for step in (0..group.padded).step_by(SMALL_STEP) {
        let first = group.offset + step;
        for rows in rows.chunks(matrix.small_rows) {
            let mut sums = [[0.0_f32; SMALL_STEP]; E];
            for row in rows {
                let start = *row as usize * matrix.stride + first;
                let numbers = block_of::<W, SMALL_STEP>(matrix.numbers, start, group.padded);
                sum_up(&mut sums, &numbers);
            }
            for (entry, sums) in sums.iter().enumerate() {
                let at = group.entries + entry * group.padded + step;
                let totals = &mut totals.small[at..at + SMALL_STEP];
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total += f64::from(*sum);
                }
            }
        }
        widen::<W, SMALL_STEP>(matrix, first, group.padded, rows, totals);
    }
}

/// `E` sums and products of `W` wide numbers per metric; a NaN is elsewhere and adds nothing.
#[inline(always)]
fn add_wide<const W: usize, const E: usize>(
    matrix: Matrix,
    group: &Group,
    rows: &[u32],
    totals: &mut Totals,
) {
    for step in (0..group.padded).step_by(WIDE_STEP) {
        let first = group.offset + step;
        for rows in rows.chunks(WIDE_ROWS) {
            let mut sums = [[0.0_f64; WIDE_STEP]; E];
            for row in rows {
                let start = *row as usize * matrix.stride + first;
                let numbers = block_of::<W, WIDE_STEP>(matrix.numbers, start, group.padded);
                let mut present = [[0.0_f64; WIDE_STEP]; W];
                for position in 0..W {
                    for at in 0..WIDE_STEP {
                        let number = numbers[position][at];
                        present[position][at] =
                            f64::from(if number.is_nan() { 0.0 } else { number });
                    }
                }
                sum_up(&mut sums, &present);
            }
            for (entry, sums) in sums.iter().enumerate() {
                let at = group.entries + entry * group.padded + step;
                let totals = &mut totals.wide[at..at + WIDE_STEP];
                for (total, sum) in totals.iter_mut().zip(sums) {
                    // Up to 2^53 the conversion is exact; to 64 bits it is one instruction, to 128 a function call.
                    *total += i128::from(*sum as i64);
                }
            }
        }
        widen::<W, WIDE_STEP>(matrix, first, group.padded, rows, totals);
    }
}

/// `S` numbers of each of `W` positions that lie `apart`.
#[inline(always)]
fn block_of<const W: usize, const S: usize>(
    numbers: &[f32],
    start: usize,
    apart: usize,
) -> [[f32; S]; W] {
    let mut blocks = [[0.0; S]; W];
    for (position, block) in blocks.iter_mut().enumerate() {
        let from = start + position * apart;
        block.copy_from_slice(&numbers[from..from + S]);
    }
    blocks
}

/// Extremes of a step of numbers, in a loop of its own: together with the sums they need more registers than there are.
#[inline(always)]
fn widen<const W: usize, const S: usize>(
    matrix: Matrix,
    first: usize,
    apart: usize,
    rows: &[u32],
    totals: &mut Totals,
) {
    for position in 0..W {
        let at = first + position * apart;
        let (mut low, mut high) = ([0.0; S], [0.0; S]);
        low.copy_from_slice(&totals.min[at..at + S]);
        high.copy_from_slice(&totals.max[at..at + S]);
        for row in rows {
            let start = *row as usize * matrix.stride + at;
            let numbers = &matrix.numbers[start..start + S];
            for at in 0..S {
                // A NaN compares false and changes nothing.
                low[at] = if numbers[at] < low[at] {
                    numbers[at]
                } else {
                    low[at]
                };
                high[at] = if numbers[at] > high[at] {
                    numbers[at]
                } else {
                    high[at]
                };
            }
        }
        totals.min[at..at + S].copy_from_slice(&low);
        totals.max[at..at + S].copy_from_slice(&high);
    }
}

/// Sums first, then the products of the upper triangle.
#[inline(always)]
fn sum_up<N, const W: usize, const E: usize, const S: usize>(
    sums: &mut [[N; S]; E],
    numbers: &[[N; S]; W],
) where
    N: Copy + std::ops::AddAssign + std::ops::Mul<Output = N>,
{
    let mut entry = W;
    for i in 0..W {
        for at in 0..S {
            sums[i][at] += numbers[i][at];
        }
        for j in i..W {
            for at in 0..S {
                sums[entry][at] += numbers[i][at] * numbers[j][at];
            }
            entry += 1;
        }
    }
}
