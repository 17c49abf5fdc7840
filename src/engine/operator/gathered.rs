//! Values gathered from several places, a few at a time.
//! In: ranges of slices. Out: the values of all of them as one slice, in memory that is used again.

use std::ops::Range;

/// Bytes that are copied whatever a range needs of them: a unit has few rows in a run, and copying a number of bytes that is not known
/// before takes longer than copying more.
const BLOCK_BYTES: usize = 256;
/// The same for ranges that need no more, such as those of a day.
const SHORT_BYTES: usize = 64;

pub struct Gathered<T> {
    /// Longer than what was gathered.
    values: Vec<T>,
    length: usize,
}

impl<T> Default for Gathered<T> {
    fn default() -> Gathered<T> {
        Gathered {
            values: Vec::new(),
            length: 0,
        }
    }
}

impl<T: Copy + Default> Gathered<T> {
    const BLOCK: usize = BLOCK_BYTES / size_of::<T>();
    const SHORT: usize = SHORT_BYTES / size_of::<T>();

    pub fn as_slice(&self) -> &[T] {
        &self.values[..self.length]
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    #[inline(always)]
    pub fn append(&mut self, from: &[T], range: &Range<usize>) {
        let block = range.start..range.start + Self::BLOCK;
        let end = self.length + range.len();
        if range.len() > Self::BLOCK
            || block.end > from.len()
            || self.length + Self::BLOCK > self.values.len()
        {
            self.append_long(&from[range.clone()]);
        } else {
            let (to, from) = (&mut self.values[self.length..], &from[block]);
            match range.len() <= Self::SHORT {
                true => to[..Self::SHORT].copy_from_slice(&from[..Self::SHORT]),
                false => to[..Self::BLOCK].copy_from_slice(from),
            }
        }
        self.length = end;
    }

    #[inline(never)]
    fn append_long(&mut self, from: &[T]) {
        self.room(from.len()).copy_from_slice(from);
    }

    /// The values of a row of several columns stand together.
    pub fn append_rows(&mut self, columns: &[Vec<T>], range: &Range<usize>) {
        if range.is_empty() {
            return;
        }
        let length = columns.len() * range.len();
        let room = self.room(length);
        for (at, column) in columns.iter().enumerate() {
            let to = room[at..].iter_mut().step_by(columns.len());
            to.zip(&column[range.clone()])
                .for_each(|(to, value)| *to = *value);
        }
        self.length += length;
    }

    /// Where the next values go; behind them there is room for a block.
    fn room(&mut self, length: usize) -> &mut [T] {
        let end = self.length + length;
        if self.values.len() < end + Self::BLOCK {
            self.values.resize(2 * (end + Self::BLOCK), T::default());
        }
        &mut self.values[self.length..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_what_ranges_hold() {
        let from: Vec<u64> = (0..1000).collect();
        let mut gathered = Gathered::default();
        for _ in 0..2 {
            gathered.clear();
            let mut expected = Vec::new();
            // Empty, short and long ones, and some at the end, where no whole block is left.
            let starts = (0..40).map(|step| step * 23);
            let ranges = starts.map(|start| start..start + start % 50);
            for range in ranges.chain([995..1000, 1000..1000, 984..1000, 3..4]) {
                gathered.append(&from, &range);
                expected.extend_from_slice(&from[range]);
            }
            let other = |value: &u64| value + 1000;
            let columns = [from.clone(), from.iter().map(other).collect()];
            gathered.append_rows(&columns, &(4..5));
            gathered.append_rows(&columns, &(0..0));
            gathered.append_rows(&columns, &(998..1000));
            expected.extend([4, 1004, 998, 1998, 999, 1999]);
            assert_eq!(gathered.as_slice(), expected);
        }
    }
}
