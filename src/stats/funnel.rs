//! How far a unit goes through the steps of a funnel.
//! In: a unit's rows in the order of time, each with the steps that it can be. Out: how many steps were gone in their order, each at or
//! after the one before, each by a row of its own.
//!
//! A row is taken for the next step as soon as one can be: that leaves most rows for the steps after it. Rows of one instant may be taken
//! in any order, so there the most steps are those of a matching between steps and rows (Kuhn, "The Hungarian method for the assignment
//! problem", 1955: one augmenting path a step).

/// Rows are a time and a number whose bit k says that the row can be step k + 1; they are sorted by time.
pub fn steps_reached<T: PartialEq>(rows: &[(T, u64)]) -> u32 {
    let of_one_time = rows.chunk_by(|one, other| one.0 == other.0);
    of_one_time.fold(0, |reached, rows| match rows {
        [row] => reached + u32::from(can_be(row, reached)),
        _ => reached + steps_at_once(rows, reached),
    })
}

fn can_be<T>(row: &(T, u64), step: u32) -> bool {
    row.1.checked_shr(step).is_some_and(|bits| bits & 1 == 1)
}

/// How many steps from `first` on find rows of their own.
fn steps_at_once<T>(rows: &[(T, u64)], first: u32) -> u32 {
    let mut step_of = vec![None; rows.len()];
    let mut step = first;
    while find_row(step, rows, &mut step_of, &mut vec![false; rows.len()]) {
        step += 1;
    }
    step - first
}

/// Gives a step a row, if need be one whose step finds another.
fn find_row<T>(
    step: u32,
    rows: &[(T, u64)],
    step_of: &mut [Option<u32>],
    tried: &mut [bool],
) -> bool {
    for row in 0..rows.len() {
        if tried[row] || !can_be(&rows[row], step) {
            continue;
        }
        tried[row] = true;
        if step_of[row].is_none_or(|other| find_row(other, rows, step_of, tried)) {
            step_of[row] = Some(step);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Stream;

    /// By trying every way.
    fn most(rows: &[(u64, u64)], step: u32, since: u64, taken: u32) -> u32 {
        let free = (0..rows.len()).filter(|row| taken >> row & 1 == 0 && rows[*row].0 >= since);
        let ways = free.filter(|row| can_be(&rows[*row], step));
        ways.map(|row| 1 + most(rows, step + 1, rows[row].0, taken | 1 << row))
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn no_other_way_goes_further() {
        let mut random = Stream::new(19);
        for _ in 0..3_000 {
            let (length, instants) = (random.below(8), 1 + random.below(4));
            let mut rows: Vec<(u64, u64)> = (0..length)
                .map(|_| (random.below(instants), random.below(16)))
                .collect();
            rows.sort_unstable();
            let expected = most(&rows, 0, 0, 0);
            assert_eq!(steps_reached(&rows), expected, "{rows:?}");
            rows.reverse();
            rows.sort_by_key(|row| row.0);
            assert_eq!(steps_reached(&rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn a_row_that_can_be_two_steps_leaves_the_second_to_the_one_that_can_be_no_other() {
        assert_eq!(steps_reached(&[(1, 0b10), (1, 0b11)]), 2);
        assert_eq!(steps_reached(&[(1, 0b10), (2, 0b11)]), 1);
        assert_eq!(steps_reached(&[(1, 0b11)]), 1);
        assert_eq!(steps_reached::<u8>(&[]), 0);
        let many: Vec<(u8, u64)> = vec![(0, u64::MAX); 80];
        assert_eq!(steps_reached(&many), 64);
    }
}
