//! Sums and extremes of many rows of one cell at once, in registers.
//! In: rows in lines of the cache, and which of them the cell gets. Out: added to the cell's totals. Loops over lines of a fixed length,
//! without branches per number: this is where the time goes.
//!
//! Everything is exact: rows hold whole numbers, and before a sum could leave those that its type holds exactly it is moved on.

use std::hint::black_box;
use std::ops::{AddAssign, Mul, Range};

use super::layout::{Section, WIDE_LINE};

/// Numbers that are loaded together: a line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Line<N, const S: usize>(pub [N; S]);

/// Rows of numbers in lines, the same number of lines for each.
#[derive(Clone, Copy)]
pub struct Rows<'a, N, const S: usize> {
    pub lines: &'a [Line<N, S>],
    /// Lines of a row.
    pub stride: usize,
    /// Rows whose numbers of one place can be added without leaving what the type holds.
    pub most: usize,
}

/// A line as words. While no sum leaves the bits of its number, words are added instead of the numbers in them.
// Compilers keep words in vectors over a loop, but not numbers of 16 bits.
type Words = [u64; 8];

/// A small number in a row: 16 bits where they are enough.
pub trait Small: Copy + Default + PartialOrd + Mul<Output = Self> {
    /// Largest sum.
    const MOST: f64;
    /// Whether the wide numbers of such a row may be elsewhere.
    const HAS_GAPS: bool;
    /// A whole number from 0 to 2^23.
    fn of(number: f32) -> Self;
    fn narrow(self) -> u16;
    fn wide(self) -> u32;
}

/// What, added to a number below it, leaves the number in the lowest bits.
const LOWEST_BITS: f32 = (1 << 23) as f32;

impl Small for u16 {
    const MOST: f64 = u16::MAX as f64;
    const HAS_GAPS: bool = false;

    #[inline(always)]
    fn of(number: f32) -> u16 {
        (number + LOWEST_BITS).to_bits() as u16
    }
    #[inline(always)]
    fn narrow(self) -> u16 {
        self
    }
    #[inline(always)]
    fn wide(self) -> u32 {
        u32::from(self)
    }
}

impl Small for u32 {
    const MOST: f64 = u32::MAX as f64;
    const HAS_GAPS: bool = true;

    #[inline(always)]
    fn of(number: f32) -> u32 {
        (number + LOWEST_BITS).to_bits() & ((1 << 23) - 1)
    }
    #[inline(always)]
    fn narrow(self) -> u16 {
        self as u16
    }
    #[inline(always)]
    fn wide(self) -> u32 {
        self
    }
}

#[inline(always)]
fn words_of<N: Small, const S: usize>(line: &Line<N, S>) -> Words {
    const { assert!(size_of::<Line<N, S>>() == size_of::<Words>()) };
    // SAFETY: a line is as long as the words and aligned to more than they are, and any bits are words.
    unsafe { *std::ptr::from_ref(line).cast::<Words>() }
}

#[inline(always)]
fn numbers_of<N: Small, const S: usize>(words: &Words) -> [N; S] {
    const { assert!(size_of::<[N; S]>() == size_of::<Words>()) };
    // SAFETY: the numbers are as long as the words, aligned to no more than they are, and integers, which any bits are.
    unsafe { *std::ptr::from_ref(words).cast::<[N; S]>() }
}

/// Extremes of numbers, side by side.
#[derive(Clone, Copy)]
pub struct Limits<'a, N> {
    pub min: &'a [N],
    pub max: &'a [N],
}

impl<'a, N> Limits<'a, N> {
    #[inline(always)]
    pub fn of(&self, places: &Range<usize>) -> Limits<'a, N> {
        Limits {
            min: &self.min[places.clone()],
            max: &self.max[places.clone()],
        }
    }
}

/// Where a cell keeps what it knows of a section of small numbers.
pub struct SmallTotals<'a> {
    /// Sums of few rows.
    pub recent: &'a mut [u32],
    pub min: &'a mut [u16],
    pub max: &'a mut [u16],
}

/// The same of wide ones: whole numbers of 128 bits as halves, so that many are added at once.
pub struct WideTotals<'a> {
    pub low: &'a mut [u64],
    pub high: &'a mut [i64],
    pub min: &'a mut [f64],
    pub max: &'a mut [f64],
}

/// Adds small numbers and products; those of all rows together must fit into 32 bits. Extremes that no row of the block is beyond, as
/// `known` says, stay.
#[inline(always)]
pub fn add_small<N: Small, const S: usize>(
    matrix: Rows<'_, N, S>,
    section: &Section,
    (rows, known): (&[u32], Limits<'_, u16>),
    totals: &mut SmallTotals<'_>,
) {
    let lines = section.entries.start / S..section.entries.end / S;
    let mut line = lines.start;
    while line < lines.end {
        let sums = &mut totals.recent[(line - lines.start) * S..];
        line += match lines.end - line {
            4.. => small_sums::<N, S, 4>(matrix, line, rows, sums),
            2.. => small_sums::<N, S, 2>(matrix, line, rows, sums),
            _ => small_sums::<N, S, 1>(matrix, line, rows, sums),
        };
    }
    for line in 0..section.numbers.len().div_ceil(S) {
        let of_line = line * S..(line + 1) * S;
        let place = lines.start + line;
        let min = &mut totals.min[of_line.clone()];
        let max = &mut totals.max[of_line.clone()];
        let has_min = none_is_lower(&known.min[of_line.clone()], min);
        let has_max = none_is_lower(max, &known.max[of_line]);
        match (has_min, has_max) {
            (true, true) => {}
            (true, false) => small_limits::<N, S, false>(matrix, place, rows, (min, max)),
            (false, _) => small_limits::<N, S, true>(matrix, place, rows, (min, max)),
        }
    }
}

/// Extremes of all rows, into those of a section.
#[inline(always)]
pub fn limits_of_small<N: Small, const S: usize>(
    matrix: Rows<'_, N, S>,
    section: &Section,
    all: &[u32],
    (min, max): (&mut [u16], &mut [u16]),
) {
    for line in 0..section.numbers.len().div_ceil(S) {
        let of_line = line * S..(line + 1) * S;
        let limits = (&mut min[of_line.clone()], &mut max[of_line]);
        small_limits::<N, S, true>(matrix, section.entries.start / S + line, all, limits);
    }
}

/// Whether no number is lower than the one at the same place.
#[inline(always)]
fn none_is_lower<N: Copy + PartialOrd>(numbers: &[N], others: &[N]) -> bool {
    let pairs = numbers.iter().zip(others);
    pairs.fold(true, |none, (number, other)| none & (number >= other))
}

#[inline(always)]
fn small_sums<N: Small, const S: usize, const L: usize>(
    matrix: Rows<'_, N, S>,
    first: usize,
    rows: &[u32],
    totals: &mut [u32],
) -> usize {
    for rows in rows.chunks(matrix.most) {
        let mut words = [[0_u64; 8]; L];
        for row in rows {
            let lines = matrix.lines_of::<L>(*row, first);
            for (words, line) in words.iter_mut().zip(lines) {
                let more = words_of(line);
                for at in 0..8 {
                    words[at] = words[at].wrapping_add(more[at]);
                }
            }
        }
        // The box keeps compilers from taking the words apart all through the loop, number by number.
        for (totals, words) in totals.chunks_exact_mut(S).zip(&black_box(words)) {
            let sums = numbers_of::<N, S>(words);
            for at in 0..S {
                totals[at] += sums[at].wide();
            }
        }
    }
    L
}

#[inline(always)]
fn small_limits<N: Small, const S: usize, const BOTH: bool>(
    matrix: Rows<'_, N, S>,
    place: usize,
    rows: &[u32],
    (min, max): (&mut [u16], &mut [u16]),
) {
    let first = matrix.lines_of::<1>(rows[0], place)[0];
    let (mut low, mut high) = (first.0, first.0);
    for row in rows {
        let [numbers] = matrix.lines_of::<1>(*row, place);
        raise(&mut high, &numbers.0);
        if BOTH {
            lower(&mut low, &numbers.0);
        }
    }
    let (low, high) = black_box((low, high));
    for at in 0..S {
        max[at] = max[at].max(high[at].narrow());
        if BOTH {
            min[at] = min[at].min(low[at].narrow());
        }
    }
}

/// Adds wide numbers and products; `limits` is the line where the numbers themselves start, NaN where they are elsewhere. Extremes that
/// no row of the block is beyond, as `known` says, stay.
#[inline(always)]
pub fn add_wide(
    matrix: Rows<'_, f64, WIDE_LINE>,
    (section, limits): (&Section, usize),
    (rows, known): (&[u32], Limits<'_, f64>),
    totals: &mut WideTotals<'_>,
) {
    const S: usize = WIDE_LINE;
    let lines = section.entries.start / S..section.entries.end / S;
    let mut line = lines.start;
    while line < lines.end {
        let at = (line - lines.start) * S;
        let sums = (&mut totals.low[at..], &mut totals.high[at..]);
        line += match lines.end - line {
            5 => wide_sums::<5>(matrix, line, rows, sums),
            4.. => wide_sums::<4>(matrix, line, rows, sums),
            2.. => wide_sums::<2>(matrix, line, rows, sums),
            _ => wide_sums::<1>(matrix, line, rows, sums),
        };
    }
    for line in 0..section.limits.len() / S {
        let of_line = line * S..(line + 1) * S;
        let min = &mut totals.min[of_line.clone()];
        let max = &mut totals.max[of_line.clone()];
        let has_min = none_is_lower(&known.min[of_line.clone()], min);
        let has_max = none_is_lower(max, &known.max[of_line]);
        match (has_min, has_max) {
            (true, true) => {}
            (true, false) => wide_limits::<false>(matrix, limits + line, rows, (min, max)),
            (false, _) => wide_limits::<true>(matrix, limits + line, rows, (min, max)),
        }
    }
}

/// Extremes of all rows, into those of a section.
#[inline(always)]
pub fn limits_of_wide(
    matrix: Rows<'_, f64, WIDE_LINE>,
    first: usize,
    all: &[u32],
    (min, max): (&mut [f64], &mut [f64]),
) {
    let limits = min.chunks_exact_mut(WIDE_LINE);
    for (line, limits) in limits.zip(max.chunks_exact_mut(WIDE_LINE)).enumerate() {
        wide_limits::<true>(matrix, first + line, all, limits);
    }
}

#[inline(always)]
fn wide_sums<const L: usize>(
    matrix: Rows<'_, f64, WIDE_LINE>,
    first: usize,
    rows: &[u32],
    (low, high): (&mut [u64], &mut [i64]),
) -> usize {
    for rows in rows.chunks(matrix.most) {
        let mut sums = [[0.0; WIDE_LINE]; L];
        for row in rows {
            add_lines(&mut sums, matrix.lines_of::<L>(*row, first));
        }
        let low = low.chunks_exact_mut(WIDE_LINE);
        let high = high.chunks_exact_mut(WIDE_LINE);
        for (sums, (low, high)) in sums.iter().zip(low.zip(high)) {
            add_whole(low, high, sums);
        }
    }
    L
}

#[inline(always)]
fn wide_limits<const BOTH: bool>(
    matrix: Rows<'_, f64, WIDE_LINE>,
    place: usize,
    rows: &[u32],
    (min, max): (&mut [f64], &mut [f64]),
) {
    let (mut low, mut high) = ([f64::INFINITY; WIDE_LINE], [f64::NEG_INFINITY; WIDE_LINE]);
    low.copy_from_slice(min);
    high.copy_from_slice(max);
    for row in rows {
        let [numbers] = matrix.lines_of::<1>(*row, place);
        raise(&mut high, &numbers.0);
        if BOTH {
            lower(&mut low, &numbers.0);
        }
    }
    max.copy_from_slice(&high);
    if BOTH {
        min.copy_from_slice(&low);
    }
}

/// Adds whole numbers below 2^51 to totals of 128 bits.
#[inline(always)]
fn add_whole(low: &mut [u64], high: &mut [i64], sums: &[f64; WIDE_LINE]) {
    for ((low, high), sum) in low.iter_mut().zip(high).zip(sums) {
        // At this size the last bit of a binary64 is worth 1, so that its bits count like an integer. `as` saturates, one by one.
        const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
        let whole = (sum + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits());
        let next = low.wrapping_add(whole);
        *high += (whole as i64 >> 63) + i64::from(next < whole);
        *low = next;
    }
}

impl<'a, N, const S: usize> Rows<'a, N, S> {
    #[inline(always)]
    fn lines_of<const L: usize>(&self, row: u32, first: usize) -> &'a [Line<N, S>; L] {
        let lines = &self.lines[row as usize * self.stride + first..][..L];
        lines.try_into().expect("as many lines were taken")
    }
}

#[inline(always)]
fn add_lines<N: Copy + AddAssign, const S: usize, const L: usize>(
    sums: &mut [[N; S]; L],
    lines: &[Line<N, S>; L],
) {
    for (sums, line) in sums.iter_mut().zip(lines) {
        for at in 0..S {
            sums[at] += line.0[at];
        }
    }
}

// A NaN compares false and changes nothing.

#[inline(always)]
fn lower<N: Copy + PartialOrd, const S: usize>(low: &mut [N; S], numbers: &[N; S]) {
    for at in 0..S {
        low[at] = if numbers[at] < low[at] {
            numbers[at]
        } else {
            low[at]
        };
    }
}

#[inline(always)]
fn raise<N: Copy + PartialOrd, const S: usize>(high: &mut [N; S], numbers: &[N; S]) {
    for at in 0..S {
        high[at] = if numbers[at] > high[at] {
            numbers[at]
        } else {
            high[at]
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::operator::layout::SMALL_LINE;
    use crate::engine::operator::vectors::for_long_vectors;

    const ROWS: usize = 100;

    /// Some lines of sums before the section, which are not its own.
    fn section(numbers: usize, entries: usize, line: usize) -> Section {
        Section {
            class: 0,
            numbers: 0..numbers,
            entries: 2 * line..2 * line + entries.next_multiple_of(line),
            limits: 0..numbers.next_multiple_of(line),
            products: Vec::new(),
        }
    }

    fn random(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut seed = seed;
        move |below| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        }
    }

    /// Some of the rows, most of them several times.
    fn chosen(next: &mut impl FnMut(u64) -> u64) -> Vec<u32> {
        (0..400).map(|_| next(ROWS as u64) as u32).collect()
    }

    fn matrix<N: Copy, const S: usize>(
        stride: usize,
        mut number: impl FnMut() -> N,
    ) -> Vec<Line<N, S>> {
        let mut line = || Line(std::array::from_fn(|_| number()));
        (0..ROWS * stride).map(|_| line()).collect()
    }

    fn add_small_numbers<N: Small, const S: usize>(
        (numbers, entries): (usize, usize),
        below: u64,
        add: impl Fn(Rows<'_, N, S>, &Section, (&[u32], Limits<'_, u16>), &mut SmallTotals<'_>),
    ) {
        let mut next = random(entries as u64);
        let section = section(numbers, entries, S);
        let stride = section.entries.end / S;
        let lines = matrix::<N, S>(stride, || N::of(next(below) as f32));
        let rows = Rows {
            lines: &lines,
            stride,
            most: (N::MOST / (below - 1) as f64) as usize,
        };
        let chosen = chosen(&mut next);
        let (mut recent, mut min, mut max) = (
            vec![7; section.entries.len()],
            vec![u16::MAX; section.limits.len()],
            vec![0; section.limits.len()],
        );
        for rows_of_block in chosen.chunks(70) {
            let (mut low, mut high) = (vec![u16::MAX; min.len()], vec![0; max.len()]);
            limits_of_small(rows, &section, rows_of_block, (&mut low, &mut high));
            let known = Limits {
                min: &low,
                max: &high,
            };
            let mut totals = SmallTotals {
                recent: &mut recent,
                min: &mut min,
                max: &mut max,
            };
            add(rows, &section, (rows_of_block, known), &mut totals);
        }
        let number = |row: &u32, at: usize| {
            let line = &lines[*row as usize * stride + section.entries.start / S + at / S];
            line.0[at % S].wide()
        };
        for (at, found) in recent.iter().enumerate() {
            let sum: u32 = chosen.iter().map(|row| number(row, at)).sum();
            assert_eq!(*found, 7 + sum, "entry {at} of {entries}");
        }
        for at in 0..numbers {
            let numbers = || chosen.iter().map(|row| number(row, at));
            let found = (u32::from(min[at]), u32::from(max[at]));
            assert_eq!(Some(found), numbers().min().zip(numbers().max()));
        }
    }

    for_long_vectors! {
        fn add_narrow_block(matrix: Rows<'_, u16, SMALL_LINE>, section: &Section, rows: (&[u32], Limits<'_, u16>), totals: &mut SmallTotals<'_>) {
            add_small(matrix, section, rows, totals)
        }
    }

    for_long_vectors! {
        fn add_wide_block(matrix: Rows<'_, f64, WIDE_LINE>, section: (&Section, usize), rows: (&[u32], Limits<'_, f64>), totals: &mut WideTotals<'_>) {
            add_wide(matrix, section, rows, totals)
        }
    }

    #[test]
    fn sums_of_small_numbers_are_exact() {
        for shape in [(1, 1), (5, 40), (40, 64), (33, 97), (70, 230), (64, 260)] {
            add_small_numbers::<u16, SMALL_LINE>(shape, 64 * 64, add_small);
            add_small_numbers::<u16, SMALL_LINE>(shape, 64 * 64, add_narrow_block);
            add_small_numbers::<u16, SMALL_LINE>(shape, 2, add_narrow_block);
            const HALF: usize = SMALL_LINE / 2;
            add_small_numbers::<u32, HALF>(shape, 1 << 12, add_small);
        }
    }

    type AddWide = fn(
        Rows<'_, f64, WIDE_LINE>,
        (&Section, usize),
        (&[u32], Limits<'_, f64>),
        &mut WideTotals<'_>,
    );

    /// With a line of numbers of their own after the sums where there are gaps.
    fn add_wide_numbers((numbers, entries): (usize, usize), has_gaps: bool, add: AddWide) {
        const LARGEST: u64 = 1 << 44;
        let mut next = random(entries as u64);
        let section = section(numbers, entries, WIDE_LINE);
        let (sums, end) = (
            section.entries.start / WIDE_LINE,
            section.entries.end / WIDE_LINE,
        );
        let stride = end + section.limits.len() / WIDE_LINE;
        let number = |next: &mut dyn FnMut(u64) -> u64| {
            next(LARGEST) as f64 * if next(2) == 0 { 1.0 } else { -1.0 }
        };
        let mut lines = matrix::<f64, WIDE_LINE>(stride, || number(&mut next));
        if has_gaps {
            let gaps = lines.iter_mut().flat_map(|line| &mut line.0).step_by(5);
            gaps.for_each(|number| *number = f64::NAN);
            for (at, line) in lines.iter_mut().enumerate() {
                if at % stride < end {
                    line.0.iter_mut().for_each(|number| {
                        *number = if number.is_nan() { 0.0 } else { *number };
                    });
                }
            }
        }
        let rows = Rows {
            lines: &lines,
            stride,
            most: ((1u64 << 51) / LARGEST) as usize,
        };
        let limits = if has_gaps { end } else { sums };
        let chosen = chosen(&mut next);
        let (mut low, mut high) = (
            vec![u64::MAX - 5; section.entries.len()],
            vec![-1; section.entries.len()],
        );
        let (mut min, mut max) = (
            vec![f64::INFINITY; section.limits.len()],
            vec![f64::NEG_INFINITY; section.limits.len()],
        );
        for rows_of_block in chosen.chunks(170) {
            let mut lowest = vec![f64::INFINITY; min.len()];
            let mut highest = vec![f64::NEG_INFINITY; max.len()];
            limits_of_wide(rows, limits, rows_of_block, (&mut lowest, &mut highest));
            let known = Limits {
                min: &lowest,
                max: &highest,
            };
            let mut totals = WideTotals {
                low: &mut low,
                high: &mut high,
                min: &mut min,
                max: &mut max,
            };
            add(
                rows,
                (&section, limits),
                (rows_of_block, known),
                &mut totals,
            );
        }
        let number = |row: &u32, first: usize, at: usize| {
            lines[*row as usize * stride + first + at / WIDE_LINE].0[at % WIDE_LINE]
        };
        for at in 0..section.entries.len() {
            let sum: i128 = chosen.iter().map(|row| number(row, sums, at) as i128).sum();
            let found = (i128::from(high[at]) << 64) + i128::from(low[at]);
            assert_eq!(found, sum - 6, "entry {at} of {entries}");
        }
        for at in 0..numbers {
            let numbers = || chosen.iter().map(|row| number(row, limits, at));
            let expected = (
                numbers().fold(f64::INFINITY, f64::min),
                numbers().fold(f64::NEG_INFINITY, f64::max),
            );
            assert_eq!((min[at], max[at]), expected);
        }
    }

    #[test]
    fn sums_of_wide_numbers_are_exact() {
        for shape in [(1, 2), (3, 9), (8, 20), (11, 33), (9, 41), (16, 57)] {
            for has_gaps in [false, true] {
                add_wide_numbers(shape, has_gaps, add_wide);
                add_wide_numbers(shape, has_gaps, add_wide_block);
            }
        }
    }
}
