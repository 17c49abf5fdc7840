//! Post-stratification. In: control and treatment samples per stratum. Out: the weighted effect.
//! `d = sum w_k d_k`, `w_k = N_k / N`. For "these units" the weights are fixed; for the population they came from the mix is random too and
//! adds `Var_w(d_k) / N` (GrowthBook does this; the standard error differs by 15 % between heterogeneous strata). Use the random
//! version for decisions. Miratrix, Sekhon and Yu, JRSS B 75 (2013); Xie and Aurisset, KDD 2016.

use super::double_double::DoubleDouble;
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::status::Status;

/// The weights N_k / N are known shares of the population.
pub fn post_strat_fixed_weights(strata: &[(Sample, Sample)], alpha: f64) -> PostStratified {
    post_stratified(strata, false, alpha)
}

/// The weights N_k / N are themselves a multinomial sample.
pub fn post_strat_random_weights(strata: &[(Sample, Sample)], alpha: f64) -> PostStratified {
    post_stratified(strata, true, alpha)
}

record! {
    /// A post-stratified effect.
    pub struct PostStratified {
        effect: Number,
        se: Number,
        z: Number,
        p_two_sided: Number,
        log10_p: Number,
        ci_low: Number,
        ci_high: Number,
        /// Strata after merging.
        strata: Option<i64>,
        /// Strata with fewer than two units in an arm, which were merged into the largest one.
        merged: Option<i64>,
    }
}

fn post_stratified(strata: &[(Sample, Sample)], is_random: bool, alpha: f64) -> PostStratified {
    if !is_share(alpha)
        || !strata
            .iter()
            .all(|(control, treatment)| control.is_valid() && treatment.is_valid())
    {
        return PostStratified::empty(Status::InvalidInput);
    }
    let merged = merge_small(strata);
    let Some((cells, number_merged)) = merged else {
        return PostStratified::empty(missing_status(strata));
    };
    let total = cells.iter().fold(0.0, |sum, (control, treatment)| {
        sum + control.n + treatment.n
    });
    let (mut effect, mut variance) = (DoubleDouble::ZERO, DoubleDouble::ZERO);
    for (control, treatment) in &cells {
        let weight = DoubleDouble::from(control.n + treatment.n) / total;
        let difference = treatment.mean - control.mean;
        effect = effect + weight * difference;
        variance = variance
            + weight.square() * (control.variance_of_mean() + treatment.variance_of_mean());
    }
    if is_random {
        // sum w (d - mean)^2 rather than sum w d^2 - mean^2: no cancellation.
        let spread = cells
            .iter()
            .fold(DoubleDouble::ZERO, |sum, (control, treatment)| {
                let weight = DoubleDouble::from(control.n + treatment.n) / total;
                sum + weight * (treatment.mean - control.mean - effect).square()
            });
        variance = variance + spread / total;
    }
    let plain = PostStratified {
        effect: finite(effect.value()),
        se: finite(variance.sqrt().value()),
        strata: i64::try_from(cells.len()).ok(),
        merged: i64::try_from(number_merged).ok(),
        ..PostStratified::default()
    };
    if variance.high == 0.0 {
        return PostStratified {
            status: Status::ZeroVariance,
            ..plain
        };
    }
    let se = variance.sqrt();
    let tail = normal::two_sided_tail(effect / se);
    let half = se * normal::upper_quantile(alpha / 2.0);
    PostStratified {
        z: finite((effect / se).value()),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        ci_low: finite((effect - half).value()),
        ci_high: finite((effect + half).value()),
        ..plain
    }
}

/// Merges every stratum without two units in each arm into the largest stratum; `None` when nothing usable remains.
fn merge_small(strata: &[(Sample, Sample)]) -> Option<(Vec<(Sample, Sample)>, usize)> {
    let is_small = |cell: &(Sample, Sample)| cell.0.n < 2.0 || cell.1.n < 2.0;
    let size = |cell: &(Sample, Sample)| cell.0.n + cell.1.n;
    let mut cells: Vec<(Sample, Sample)> = strata
        .iter()
        .filter(|cell| size(cell) > 0.0)
        .copied()
        .collect();
    let mut merged = 0;
    while let Some(place) = cells.iter().position(is_small) {
        let small = cells.remove(place);
        merged += 1;
        // Of equally large strata the first.
        let largest = (0..cells.len()).reduce(|best, other| {
            if size(&cells[other]) > size(&cells[best]) {
                other
            } else {
                best
            }
        })?;
        cells[largest] = (
            united(&cells[largest].0, &small.0),
            united(&cells[largest].1, &small.1),
        );
    }
    (!cells.is_empty()).then_some((cells, merged))
}

/// Two samples as one (Chan, Golub and LeVeque 1979).
fn united(a: &Sample, b: &Sample) -> Sample {
    if a.n == 0.0 || b.n == 0.0 {
        return if a.n == 0.0 { *b } else { *a };
    }
    let n = a.n + b.n;
    let squares = |sample: &Sample| {
        if sample.n < 2.0 {
            DoubleDouble::ZERO
        } else {
            sample.variance * (sample.n - 1.0)
        }
    };
    let shift = b.mean - a.mean;
    let all = squares(a) + squares(b) + shift.square() * a.n * b.n / n;
    Sample {
        n,
        mean: a.mean + shift * b.n / n,
        variance: all / (n - 1.0),
    }
}

fn missing_status(strata: &[(Sample, Sample)]) -> Status {
    let control: f64 = strata.iter().map(|cell| cell.0.n).sum();
    let treatment: f64 = strata.iter().map(|cell| cell.1.n).sum();
    if (control == 0.0) != (treatment == 0.0) {
        Status::OneArmMissing
    } else {
        Status::InsufficientData
    }
}
