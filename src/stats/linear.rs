//! Small symmetric systems in double-double. In: a positive semi-definite matrix. Out: a solution with the columns it could not use.

use super::double_double::DoubleDouble;

/// A solution of `A x = b`; columns that add nothing have coefficient zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    pub coefficients: Vec<DoubleDouble>,
    /// Which columns were used.
    pub is_used: Vec<bool>,
    /// The inverse of A over the used columns, zero elsewhere.
    pub inverse: Vec<Vec<DoubleDouble>>,
}

impl Solution {
    pub fn rank(&self) -> usize {
        self.is_used.iter().filter(|used| **used).count()
    }
}

/// Solves by Cholesky with diagonal pivots; a column whose remaining part is below 1e-10 of itself is a combination of the others and
/// is dropped. Higham, Accuracy and Stability of Numerical Algorithms (2002), ch. 10.
pub fn solve(matrix: &[Vec<DoubleDouble>], right: &[DoubleDouble]) -> Solution {
    const LEAST_PIVOT: f64 = 1e-10;
    let size = right.len();
    let order = pivot_order(matrix, LEAST_PIVOT);
    let mut is_used = vec![false; size];
    order.iter().for_each(|column| is_used[*column] = true);
    let mut inverse = vec![vec![DoubleDouble::ZERO; size]; size];
    let factor = factorise(matrix, &order);
    for (place, column) in order.iter().enumerate() {
        let mut unit = vec![DoubleDouble::ZERO; order.len()];
        unit[place] = DoubleDouble::ONE;
        for (row, value) in order.iter().zip(back_substitute(&factor, unit)) {
            inverse[*row][*column] = value;
        }
    }
    let chosen = order.iter().map(|column| right[*column]).collect();
    let mut coefficients = vec![DoubleDouble::ZERO; size];
    for (column, value) in order.iter().zip(back_substitute(&factor, chosen)) {
        coefficients[*column] = value;
    }
    Solution {
        coefficients,
        is_used,
        inverse,
    }
}

/// Columns in the order of their remaining diagonals, largest share first, as far as they are independent.
fn pivot_order(matrix: &[Vec<DoubleDouble>], least: f64) -> Vec<usize> {
    let mut rest: Vec<Vec<DoubleDouble>> = matrix.to_vec();
    let mut open: Vec<usize> = (0..matrix.len()).collect();
    let mut order = Vec::new();
    let share = |rest: &[Vec<DoubleDouble>], column: usize| {
        rest[column][column].high / matrix[column][column].high
    };
    while let Some(best) = open
        .iter()
        .copied()
        .filter(|column| share(&rest, *column) > least)
        .max_by(|a, b| {
            // Equal shares keep the first column: the result must not depend on anything but the data.
            share(&rest, *a).total_cmp(&share(&rest, *b)).then(b.cmp(a))
        })
    {
        open.retain(|column| *column != best);
        order.push(best);
        for row in &open {
            let multiple = rest[*row][best] / rest[best][best];
            for column in &open {
                let change = multiple * rest[best][*column];
                rest[*row][*column] = rest[*row][*column] - change;
            }
        }
    }
    order
}

/// The lower triangle L with L L' = the matrix over the chosen columns.
fn factorise(matrix: &[Vec<DoubleDouble>], order: &[usize]) -> Vec<Vec<DoubleDouble>> {
    let mut factor = vec![vec![DoubleDouble::ZERO; order.len()]; order.len()];
    for row in 0..order.len() {
        for column in 0..=row {
            let mut rest = matrix[order[row]][order[column]];
            for inner in 0..column {
                rest = rest - factor[row][inner] * factor[column][inner];
            }
            factor[row][column] = if row == column {
                rest.sqrt()
            } else {
                rest / factor[column][column]
            };
        }
    }
    factor
}

/// Solves L L' x = b.
fn back_substitute(factor: &[Vec<DoubleDouble>], right: Vec<DoubleDouble>) -> Vec<DoubleDouble> {
    let mut solution = right;
    for row in 0..solution.len() {
        for inner in 0..row {
            solution[row] = solution[row] - factor[row][inner] * solution[inner];
        }
        solution[row] = solution[row] / factor[row][row];
    }
    for row in (0..solution.len()).rev() {
        for inner in row + 1..solution.len() {
            solution[row] = solution[row] - factor[inner][row] * solution[inner];
        }
        solution[row] = solution[row] / factor[row][row];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[f64]]) -> Vec<Vec<DoubleDouble>> {
        rows.iter()
            .map(|row| row.iter().map(|value| DoubleDouble::from(*value)).collect())
            .collect()
    }

    #[test]
    fn a_regular_system_is_solved() {
        let solution = solve(
            &matrix(&[&[4.0, 1.0], &[1.0, 3.0]]),
            &[1.0.into(), 2.0.into()],
        );
        assert!((solution.coefficients[0].high - 1.0 / 11.0).abs() < 1e-16);
        assert!((solution.coefficients[1].high - 7.0 / 11.0).abs() < 1e-15);
        assert!((solution.inverse[0][0].high - 3.0 / 11.0).abs() < 1e-16);
    }

    #[test]
    fn a_repeated_column_is_dropped() {
        let solution = solve(
            &matrix(&[&[4.0, 4.0], &[4.0, 4.0]]),
            &[2.0.into(), 2.0.into()],
        );
        assert_eq!(
            (
                solution.rank(),
                solution.coefficients[0].high,
                solution.coefficients[1].high
            ),
            (1, 0.5, 0.0)
        );
    }
}
