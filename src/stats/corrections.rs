//! Multiplicity. In: p values of one family, in the order of its plan. Out: adjusted p values in the same order, or a gatekeeping verdict.
//! The family must be declared before the data: adjusting what was chosen afterwards adjusts nothing. Ties keep the given order, so equal
//! inputs give equal bytes. A missing p (NaN) stays missing and does not count in the family.

use super::record::record;
use super::sample::is_share;
use super::status::Status;

/// `min(1, m p)`.
pub fn adjust_bonferroni(p: &[f64]) -> Adjusted {
    adjust(p, |sorted| {
        let m = sorted.len() as f64;
        sorted.iter_mut().for_each(|p| *p *= m);
    })
}

/// Holm's step-down: the running maximum of `(m-k+1) p(k)`. Holm, Scandinavian Journal of Statistics 6 (1979).
pub fn adjust_holm(p: &[f64]) -> Adjusted {
    adjust(p, |sorted| {
        let m = sorted.len();
        let mut largest = 0.0f64;
        for (place, p) in sorted.iter_mut().enumerate() {
            largest = largest.max(*p * (m - place) as f64);
            *p = largest;
        }
    })
}

/// Hochberg's step-up: the running minimum of `(m-k+1) p(k)` from the largest p; for independent or positively dependent tests.
/// Hochberg, Biometrika 75 (1988).
pub fn adjust_hochberg(p: &[f64]) -> Adjusted {
    adjust(p, |sorted| step_up(sorted, |m, rank| m - rank + 1.0))
}

/// Benjamini and Hochberg's false discovery rate: the running minimum of `m p(k) / k`. JRSS B 57 (1995).
pub fn adjust_bh(p: &[f64]) -> Adjusted {
    adjust(p, |sorted| step_up(sorted, |m, rank| m / rank))
}

/// Benjamini and Yekutieli's, valid under any dependence: BH times `sum 1/i`. Annals of Statistics 29 (2001).
pub fn adjust_by(p: &[f64]) -> Adjusted {
    let m = p.iter().filter(|p| !p.is_nan()).count();
    // Small terms first: the sum is then the same to the last bit wherever it is computed.
    let harmonic: f64 = (1..=m).rev().map(|rank| 1.0 / rank as f64).sum();
    adjust(p, |sorted| step_up(sorted, |m, rank| harmonic * m / rank))
}

/// Hierarchical (fixed sequence) gatekeeping: families are tested in their order, a family with Holm at the full alpha, and the next one
/// opens only when all of the family before were rejected. `gates[i]` is the family (0, 1, ...) of `p[i]`. The adjusted p of a
/// hypothesis is the largest of its own and of all families before. Maurer, Hothorn and Lehmacher 1995; Dmitrienko et al. 2003.
pub fn gatekeeping(p: &[f64], gates: &[f64], alpha: f64) -> Gatekeeping {
    let are_gates =
        gates.len() == p.len() && gates.iter().all(|gate| *gate >= 0.0 && gate.fract() == 0.0);
    if !are_gates || !are_probabilities(p) || !is_share(alpha) {
        return Gatekeeping::empty(Status::InvalidInput);
    }
    let mut order: Vec<f64> = gates.to_vec();
    order.sort_by(f64::total_cmp);
    order.dedup();
    let mut result = Gatekeeping {
        adjusted: vec![f64::NAN; p.len()],
        rejected: vec![0.0; p.len()],
        status: Status::Ok,
    };
    let mut before = 0.0f64;
    for gate in order {
        let members: Vec<usize> = (0..p.len()).filter(|place| gates[*place] == gate).collect();
        let family: Vec<f64> = members.iter().map(|place| p[*place]).collect();
        let adjusted = adjust_holm(&family).adjusted;
        for (place, value) in members.iter().zip(&adjusted) {
            result.adjusted[*place] = value.max(before);
            result.rejected[*place] = f64::from(u8::from(value.max(before) <= alpha));
        }
        // A missing p in a family keeps the gate behind it shut.
        let largest = adjusted.iter().fold(0.0, |largest: f64, value| {
            if value.is_nan() {
                1.0
            } else {
                largest.max(*value)
            }
        });
        before = before.max(largest);
    }
    result
}

record! {
    /// Adjusted p values in the order of the input.
    pub struct Adjusted {
        adjusted: Vec<f64>,
    }
}

record! {
    /// A gatekeeping verdict in the order of the input; `rejected` is 1 or 0.
    pub struct Gatekeeping {
        adjusted: Vec<f64>,
        rejected: Vec<f64>,
    }
}

/// Sorts, adjusts in rising order, and puts the results back where they came from.
fn adjust(p: &[f64], in_order: impl Fn(&mut [f64])) -> Adjusted {
    if !are_probabilities(p) {
        return Adjusted::empty(Status::InvalidInput);
    }
    let mut order: Vec<usize> = (0..p.len()).filter(|place| !p[*place].is_nan()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut sorted: Vec<f64> = order.iter().map(|place| p[*place]).collect();
    in_order(&mut sorted);
    let mut adjusted = vec![f64::NAN; p.len()];
    for (place, value) in order.iter().zip(sorted) {
        adjusted[*place] = value.min(1.0);
    }
    Adjusted {
        adjusted,
        status: if p.is_empty() {
            Status::InsufficientData
        } else {
            Status::Ok
        },
    }
}

/// The running minimum, from the largest p down, of p times a factor of the family's size and the rank.
fn step_up(sorted: &mut [f64], factor: impl Fn(f64, f64) -> f64) {
    let m = sorted.len() as f64;
    let mut smallest = f64::INFINITY;
    for (place, p) in sorted.iter_mut().enumerate().rev() {
        smallest = smallest.min(*p * factor(m, (place + 1) as f64));
        *p = smallest;
    }
}

fn are_probabilities(p: &[f64]) -> bool {
    p.iter().all(|p| p.is_nan() || (0.0..=1.0).contains(p))
}
