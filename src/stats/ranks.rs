//! The Mann-Whitney test. In: raw values per arm. Out: U, its normal approximation, the probability of superiority.
//! Not a test of means: two arms of equal means may differ here, and the reverse. A diagnostic.

use super::double_double::DoubleDouble;
use super::normal;
use super::record::{Number, finite, record};
use super::status::Status;

/// Mann-Whitney's U of the treatment with mid-ranks, `sigma^2 = n1 n2/12 ((N+1) - sum(t^3-t)/(N(N-1)))` and, if asked, continuity 1/2.
/// Mann and Whitney 1947; ties as in Lehmann, Nonparametrics (1975).
pub fn mann_whitney_u(control: &[f64], treatment: &[f64], has_continuity: bool) -> MannWhitney {
    if control
        .iter()
        .chain(treatment)
        .any(|value| !value.is_finite())
    {
        return MannWhitney::empty(Status::NonFinite);
    }
    if control.is_empty() || treatment.is_empty() {
        let status = if control.len() == treatment.len() {
            Status::InsufficientData
        } else {
            Status::OneArmMissing
        };
        return MannWhitney::empty(status);
    }
    let (n1, n2) = (control.len() as f64, treatment.len() as f64);
    let ranks = ranks(control, treatment);
    let u2 = ranks.treatment_sum - n2 * (n2 + 1.0) / 2.0;
    let pairs = n1 * n2;
    let plain = MannWhitney {
        u2: finite(u2),
        prob_superiority: finite(u2 / pairs),
        ..MannWhitney::default()
    };
    let total = n1 + n2;
    let variance = DoubleDouble::from(pairs)
        * (DoubleDouble::from(total + 1.0)
            - DoubleDouble::from(ranks.ties) / (total * (total - 1.0)))
        / 12.0;
    if variance.high <= 0.0 {
        return MannWhitney {
            status: Status::ZeroVariance,
            ..plain
        };
    }
    let correction = if has_continuity { 0.5 } else { 0.0 };
    let distance = ((u2 - pairs / 2.0).abs() - correction).max(0.0);
    let z_abs = DoubleDouble::from(distance) / variance.sqrt();
    let tail = normal::two_sided_tail(z_abs);
    MannWhitney {
        z_abs: finite(z_abs.value()),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        ..plain
    }
}

record! {
    /// The result of the Mann-Whitney test.
    pub struct MannWhitney {
        /// Pairs in which the treatment value is larger, ties counting half.
        u2: Number,
        z_abs: Number,
        p_two_sided: Number,
        log10_p: Number,
        /// P(Y > X) + P(Y = X)/2 for one unit of each arm.
        prob_superiority: Number,
    }
}

struct Ranks {
    treatment_sum: f64,
    /// Sum of t^3 - t over groups of equal values.
    ties: f64,
}

fn ranks(control: &[f64], treatment: &[f64]) -> Ranks {
    let mut values: Vec<(f64, bool)> = control.iter().map(|value| (value + 0.0, false)).collect();
    values.extend(treatment.iter().map(|value| (value + 0.0, true)));
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = Ranks {
        treatment_sum: 0.0,
        ties: 0.0,
    };
    let mut before = 0.0;
    for group in values.chunk_by(|a, b| a.0 == b.0) {
        let size = group.len() as f64;
        let middle = before + (size + 1.0) / 2.0;
        ranks.treatment_sum += middle
            * group
                .iter()
                .filter(|(_, is_treatment)| *is_treatment)
                .count() as f64;
        ranks.ties += size * size * size - size;
        before += size;
    }
    ranks
}
