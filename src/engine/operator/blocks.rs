//! Sums, products and extremes of many rows of one cell at once, in registers.
//! In: a matrix of rows, and which of them the cell gets. Out: added to the cell's totals. Loops over fixed steps, without branches per
//! number: this is where the time goes.
//!
//! Everything is exact: rows hold whole numbers, and before a sum could leave those that its type holds exactly it is moved on.

use super::layout::{Group, SMALL_STEP, WIDE_STEP};

/// Rows of numbers, [`super::layout::RowLayout`] says where which.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub numbers: &'a [f32],
    pub stride: usize,
    /// Rows whose small products binary32 adds exactly.
    pub small_rows: usize,
    /// Rows whose wide products stay below 2^51 together.
    pub wide_rows: usize,
    /// Whether some wide number is NaN.
    pub has_gaps: bool,
}

impl<'a> Matrix<'a> {
    /// With the largest small and the largest wide number that the rows may hold.
    pub fn new(
        numbers: &'a [f32],
        stride: usize,
        (small, wide): (f32, f32),
        has_gaps: bool,
    ) -> Matrix<'a> {
        let rows = |bits: u64, largest: f32| {
            ((1u64 << bits) as f64 / f64::from(largest.max(1.0)).powi(2)) as usize
        };
        Matrix {
            numbers,
            stride,
            small_rows: rows(24, small),
            wide_rows: rows(51, wide),
            has_gaps,
        }
    }
}

/// Where a cell keeps what it knows of a group.
pub struct Totals<'a> {
    pub small: &'a mut [f64],
    pub wide: WideTotals<'a>,
    /// Of the whole row.
    pub min: &'a mut [f32],
    pub max: &'a mut [f32],
}

/// Whole numbers of 128 bits as halves, so that many are added at once.
pub struct WideTotals<'a> {
    pub low: &'a mut [u64],
    pub high: &'a mut [i64],
}

/// Adds rows to the totals of a group of metrics.
pub fn add(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("fma") {
            // SAFETY: the processor has just said that it knows these instructions.
            return unsafe { add_with_avx512(matrix, group, rows, totals) };
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: as above.
            return unsafe { add_with_avx2(matrix, group, rows, totals) };
        }
    }
    add_portably(matrix, group, rows, totals);
}

/// The same code compiled for vectors of four times the length, and twice as many.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
fn add_with_avx512(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    add_in_steps::<true, true>(matrix, group, rows, totals);
}

/// The same code compiled for vectors of twice the length.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_with_avx2(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    add_in_steps::<false, true>(matrix, group, rows, totals);
}

fn add_portably(matrix: Matrix, group: &Group, rows: &[u32], totals: &mut Totals) {
    add_in_steps::<false, false>(matrix, group, rows, totals);
}

/// In steps of the layout, or in multiples of them where that many fit into `LONG` vectors; `FUSED` where the processor multiplies
/// and adds in one go.
#[inline(always)]
fn add_in_steps<const LONG: bool, const FUSED: bool>(
    matrix: Matrix,
    group: &Group,
    rows: &[u32],
    totals: &mut Totals,
) {
    const TWO: usize = 2 * SMALL_STEP;
    const FOUR: usize = 4 * SMALL_STEP;
    const TWO_WIDE: usize = 2 * WIDE_STEP;
    let mut step = 0;
    while step < group.padded {
        let place = (group, step);
        let steps = (group.padded - step)
            / if group.is_small {
                SMALL_STEP
            } else {
                WIDE_STEP
            };
        step += match (group.is_small, steps) {
            (true, 4..) if LONG => add_small_step::<FOUR, FUSED>(matrix, place, rows, totals),
            (true, 2..) if LONG => add_small_step::<TWO, FUSED>(matrix, place, rows, totals),
            (true, _) => add_small_step::<SMALL_STEP, FUSED>(matrix, place, rows, totals),
            (false, 2..) if LONG => add_wide_step::<TWO_WIDE, FUSED>(matrix, place, rows, totals),
            (false, _) => add_wide_step::<WIDE_STEP, FUSED>(matrix, place, rows, totals),
        };
    }
}

#[inline(always)]
fn add_small_step<const S: usize, const FUSED: bool>(
    matrix: Matrix,
    place: (&Group, usize),
    rows: &[u32],
    totals: &mut Totals,
) -> usize {
    match place.0.width {
        1 => add_small::<1, 2, S, FUSED>(matrix, place, rows, totals),
        2 => add_small::<2, 5, S, FUSED>(matrix, place, rows, totals),
        _ => add_small::<4, 14, S, FUSED>(matrix, place, rows, totals),
    }
    S
}

#[inline(always)]
fn add_wide_step<const S: usize, const FUSED: bool>(
    matrix: Matrix,
    place: (&Group, usize),
    rows: &[u32],
    totals: &mut Totals,
) -> usize {
    match (place.0.width, matrix.has_gaps) {
        (1, false) => add_wide::<1, 2, S, FUSED, false>(matrix, place, rows, totals),
        (2, false) => add_wide::<2, 5, S, FUSED, false>(matrix, place, rows, totals),
        (_, false) => add_wide::<4, 14, S, FUSED, false>(matrix, place, rows, totals),
        (1, true) => add_wide::<1, 2, S, FUSED, true>(matrix, place, rows, totals),
        (2, true) => add_wide::<2, 5, S, FUSED, true>(matrix, place, rows, totals),
        (_, true) => add_wide::<4, 14, S, FUSED, true>(matrix, place, rows, totals),
    }
    S
}

/// `E` sums and products of `W` small numbers of each of `S` metrics.
#[inline(always)]
fn add_small<const W: usize, const E: usize, const S: usize, const FUSED: bool>(
    matrix: Matrix,
    (group, step): (&Group, usize),
    rows: &[u32],
    totals: &mut Totals,
) {
    let first = group.offset + step;
    let mut high = block_of::<_, W, S>(totals.max, first, group.padded);
    for rows in rows.chunks(matrix.small_rows) {
        let mut sums = [[0.0_f32; S]; E];
        for row in rows {
            let numbers = matrix.block::<W, S>(*row, first, group.padded);
            sum_up(&mut sums, &numbers, |a, b, sum| match FUSED {
                // Whole numbers that are exact either way.
                true => a.mul_add(b, sum),
                false => a * b + sum,
            });
            raise(&mut high, &numbers);
        }
        for (entry, sums) in sums.iter().enumerate() {
            let at = group.entries + entry * group.padded + step;
            let mut block = block_of::<_, 1, S>(totals.small, at, 0);
            for (total, sum) in block[0].iter_mut().zip(sums) {
                *total += f64::from(*sum);
            }
            put_back(totals.small, &block, at, 0);
        }
    }
    put_back(totals.max, &high, first, group.padded);
    lower_small::<W, S>(matrix, (first, group.padded), rows, totals.min);
}

/// `E` sums and products of `W` wide numbers of each of `S` metrics; a NaN, which there is only with `GAPS`, is elsewhere and adds nothing.
#[inline(always)]
fn add_wide<const W: usize, const E: usize, const S: usize, const FUSED: bool, const GAPS: bool>(
    matrix: Matrix,
    (group, step): (&Group, usize),
    rows: &[u32],
    totals: &mut Totals,
) {
    let first = group.offset + step;
    let mut low = block_of::<_, W, S>(totals.min, first, group.padded);
    let mut high = block_of::<_, W, S>(totals.max, first, group.padded);
    for rows in rows.chunks(matrix.wide_rows) {
        let mut sums = [[0.0_f64; S]; E];
        for row in rows {
            let numbers = matrix.block::<W, S>(*row, first, group.padded);
            let mut present = [[0.0_f64; S]; W];
            for position in 0..W {
                for at in 0..S {
                    let number = numbers[position][at];
                    present[position][at] =
                        f64::from(if GAPS && number.is_nan() { 0.0 } else { number });
                }
            }
            sum_up(&mut sums, &present, |a, b, sum| match FUSED {
                true => a.mul_add(b, sum),
                false => a * b + sum,
            });
            raise(&mut high, &numbers);
            lower(&mut low, &numbers);
        }
        for (entry, sums) in sums.iter().enumerate() {
            let at = group.entries + entry * group.padded + step;
            add_whole(&mut totals.wide, at, sums);
        }
    }
    put_back(totals.min, &low, first, group.padded);
    put_back(totals.max, &high, first, group.padded);
}

/// Adds whole numbers below 2^51 to totals of 128 bits.
#[inline(always)]
fn add_whole<const S: usize>(totals: &mut WideTotals, at: usize, sums: &[f64; S]) {
    let mut low = block_of::<_, 1, S>(totals.low, at, 0);
    let mut high = block_of::<_, 1, S>(totals.high, at, 0);
    for ((low, high), sum) in low[0].iter_mut().zip(&mut high[0]).zip(sums) {
        // At this size the last bit of a binary64 is worth 1, so that its bits count like an integer. `as` saturates, one by one.
        const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
        let whole = (sum + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits());
        let next = low.wrapping_add(whole);
        *high += (whole as i64 >> 63) + i64::from(next < whole);
        *low = next;
    }
    put_back(totals.low, &low, at, 0);
    put_back(totals.high, &high, at, 0);
}

impl Matrix<'_> {
    #[inline(always)]
    fn block<const W: usize, const S: usize>(
        &self,
        row: u32,
        first: usize,
        apart: usize,
    ) -> [[f32; S]; W] {
        block_of(self.numbers, row as usize * self.stride + first, apart)
    }
}

/// `S` numbers of each of `W` positions that lie `apart`.
#[inline(always)]
fn block_of<N: Copy + Default, const W: usize, const S: usize>(
    numbers: &[N],
    start: usize,
    apart: usize,
) -> [[N; S]; W] {
    let mut blocks = [[N::default(); S]; W];
    for (position, block) in blocks.iter_mut().enumerate() {
        let from = start + position * apart;
        block.copy_from_slice(&numbers[from..from + S]);
    }
    blocks
}

/// The other way round.
#[inline(always)]
fn put_back<N: Copy, const W: usize, const S: usize>(
    numbers: &mut [N],
    blocks: &[[N; S]; W],
    start: usize,
    apart: usize,
) {
    for (position, block) in blocks.iter().enumerate() {
        let to = start + position * apart;
        numbers[to..to + S].copy_from_slice(block);
    }
}

/// Minima of small numbers. Those are never negative: where all minima are 0 there is nothing left to find.
#[inline(always)]
fn lower_small<const W: usize, const S: usize>(
    matrix: Matrix,
    (first, apart): (usize, usize),
    rows: &[u32],
    minima: &mut [f32],
) {
    for position in 0..W {
        let at = first + position * apart;
        let mut low = block_of::<_, 1, S>(minima, at, 0);
        if low[0].iter().any(|low| *low > 0.0) {
            for row in rows {
                lower(&mut low, &matrix.block(*row, at, 0));
            }
            put_back(minima, &low, at, 0);
        }
    }
}

#[inline(always)]
fn lower<const W: usize, const S: usize>(low: &mut [[f32; S]; W], numbers: &[[f32; S]; W]) {
    for position in 0..W {
        for at in 0..S {
            let (number, low) = (numbers[position][at], &mut low[position][at]);
            // A NaN compares false and changes nothing.
            *low = if number < *low { number } else { *low };
        }
    }
}

#[inline(always)]
fn raise<const W: usize, const S: usize>(high: &mut [[f32; S]; W], numbers: &[[f32; S]; W]) {
    for position in 0..W {
        for at in 0..S {
            let (number, high) = (numbers[position][at], &mut high[position][at]);
            *high = if number > *high { number } else { *high };
        }
    }
}

/// Sums first, then the products of the upper triangle; `add_product` is a x b + sum.
#[inline(always)]
fn sum_up<N, const W: usize, const E: usize, const S: usize>(
    sums: &mut [[N; S]; E],
    numbers: &[[N; S]; W],
    add_product: impl Fn(N, N, N) -> N,
) where
    N: Copy + std::ops::AddAssign,
{
    let mut entry = W;
    for i in 0..W {
        for at in 0..S {
            sums[i][at] += numbers[i][at];
        }
        for j in i..W {
            for at in 0..S {
                sums[entry][at] = add_product(numbers[i][at], numbers[j][at], sums[entry][at]);
            }
            entry += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Add = fn(Matrix, &Group, &[u32], &mut Totals);

    fn group(width: usize, is_small: bool) -> Group {
        Group {
            width,
            class: 0,
            is_small,
            metrics: Vec::new(),
            padded: 24 + if is_small { SMALL_STEP } else { WIDE_STEP },
            offset: 4,
            entries: 8,
        }
    }

    /// Whole numbers up to a limit, wide ones of both signs, and now and then none.
    fn numbers(count: usize, is_small: bool, limit: u64) -> Vec<f32> {
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            seed >> 33
        };
        let number = |_| match (is_small, next() % limit, next()) {
            (true, number, _) => number as f32,
            (false, _, choice) if choice % 16 == 0 => f32::NAN,
            (false, number, choice) => (number as f32) * if choice % 2 == 0 { 1.0 } else { -1.0 },
        };
        (0..count).map(number).collect()
    }

    /// Sums, products and extremes of a group: as text, so that bits are compared and differences are readable.
    fn totals(add: Add, group: &Group, numbers: &[f32], rows: &[u32], limit: u64) -> String {
        let (stride, entries) = (
            numbers.len() / 100,
            8 + group.entries_per_metric() * group.padded,
        );
        let (mut small, mut low, mut high) =
            (vec![0.0; entries], vec![0; entries], vec![0; entries]);
        let (mut min, mut max) = (vec![f32::INFINITY; stride], vec![f32::NEG_INFINITY; stride]);
        let wide = WideTotals {
            low: &mut low,
            high: &mut high,
        };
        let mut totals = Totals {
            small: &mut small,
            wide,
            min: &mut min,
            max: &mut max,
        };
        let matrix = Matrix::new(numbers, stride, (limit as f32, limit as f32), true);
        for rows in rows.chunks(70) {
            add(matrix, group, rows, &mut totals);
        }
        let sum = |at: usize| match group.is_small {
            true => small[at] as i128,
            false => (i128::from(high[at]) << 64) + i128::from(low[at]),
        };
        let sums: Vec<i128> = (8..entries).map(sum).collect();
        let lanes = 4..4 + group.width * group.padded;
        format!("{sums:?} {:?} {:?}", &min[lanes.clone()], &max[lanes])
    }

    /// The same number by number.
    fn expected(group: &Group, numbers: &[f32], rows: &[u32]) -> String {
        let stride = numbers.len() / 100;
        let lane = |row: &u32, lane: usize| numbers[*row as usize * stride + 4 + lane];
        let whole = |number: f32| if number.is_nan() { 0 } else { number as i128 };
        let places = || 0..group.padded;
        let at = |position: usize, place: usize| position * group.padded + place;
        let mut sums: Vec<i128> = Vec::new();
        for i in 0..group.width {
            sums.extend(places().map(|place| {
                rows.iter()
                    .map(|row| whole(lane(row, at(i, place))))
                    .sum::<i128>()
            }));
        }
        for i in 0..group.width {
            for j in i..group.width {
                let product =
                    |row, place| whole(lane(row, at(i, place))) * whole(lane(row, at(j, place)));
                sums.extend(
                    places().map(|place| rows.iter().map(|row| product(row, place)).sum::<i128>()),
                );
            }
        }
        let lanes = 0..group.width * group.padded;
        let extreme = |start: f32, pick: fn(f32, f32) -> f32| -> Vec<f32> {
            let of = |number| rows.iter().map(|row| lane(row, number)).fold(start, pick);
            lanes.clone().map(of).collect()
        };
        let (min, max) = (
            extreme(f32::INFINITY, f32::min),
            extreme(f32::NEG_INFINITY, f32::max),
        );
        format!("{sums:?} {min:?} {max:?}")
    }

    #[test]
    fn every_way_to_add_is_exact() {
        let rows: Vec<u32> = (0..400).map(|row| row * 37 % 100).collect();
        for (width, is_small, limit) in [1, 2, 4].into_iter().flat_map(|width| {
            [
                (width, true, 64),
                (width, true, 1 << 12),
                (width, false, 1 << 10),
                (width, false, 1 << 24),
            ]
        }) {
            let group = group(width, is_small);
            let numbers = numbers(100 * (4 + width * group.padded), is_small, limit);
            let expected = expected(&group, &numbers, &rows);
            let found = |add| totals(add, &group, &numbers, &rows, limit);
            assert_eq!(found(add), expected);
            assert_eq!(found(add_portably), expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                // SAFETY: the processor knows these instructions.
                assert_eq!(
                    found(|m, g, r, t| unsafe { add_with_avx2(m, g, r, t) }),
                    expected
                );
            }
        }
    }
}
