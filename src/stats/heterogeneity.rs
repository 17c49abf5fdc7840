//! Does the effect differ: between segments, between arms of another experiment, over time? In: effects with standard errors, or samples of
//! four cells, or a table of counts. Out: tests and shrunken effects. A segment effect that is the largest of many is too large: read the
//! shrunken one.

use super::double_double::DoubleDouble;
use super::gamma::chi_squared_upper_tail;
use super::mean_tests::{Difference, ZTest, z_test};
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::status::Status;

/// Cochran's Q over independent segments, `Q = sum w (d_k - pooled)^2`, w = 1/se^2, chi-squared with K - 1; `i2 = max(0, (Q - df)/Q)`. `tau2` is
/// DerSimonian and Laird's variance between segments, `shrunken` the empirical Bayes effects with it.
/// Cochran 1954; Higgins and Thompson 2002; DerSimonian and Laird 1986.
pub fn segment_heterogeneity_q(effects: &[f64], ses: &[f64]) -> Heterogeneity {
    if let Some(status) = effects_fault(effects, ses, 2) {
        return Heterogeneity::empty(status);
    }
    let weights: Vec<DoubleDouble> = ses
        .iter()
        .map(|se| DoubleDouble::ONE / (DoubleDouble::from(*se) * *se))
        .collect();
    let weight = weights
        .iter()
        .fold(DoubleDouble::ZERO, |sum, weight| sum + *weight);
    let weighted = weights
        .iter()
        .zip(effects)
        .fold(DoubleDouble::ZERO, |sum, (weight, effect)| {
            sum + *weight * *effect
        });
    let pooled = weighted / weight;
    let q = weights
        .iter()
        .zip(effects)
        .fold(DoubleDouble::ZERO, |sum, (weight, effect)| {
            sum + *weight * (pooled - *effect).square()
        });
    let degrees = effects.len() as u32 - 1;
    let tail = chi_squared_upper_tail(q, degrees);
    let excess = (q - f64::from(degrees)).value().max(0.0);
    let squares = weights
        .iter()
        .fold(DoubleDouble::ZERO, |sum, weight| sum + weight.square());
    let tau2 = excess / (weight - squares / weight).value();
    let shrink = |(effect, se): (&f64, &f64)| {
        pooled.value() + (effect - pooled.value()) * tau2 / (tau2 + se * se)
    };
    Heterogeneity {
        pooled: finite(pooled.value()),
        pooled_se: finite((DoubleDouble::ONE / weight).sqrt().value()),
        q: finite(q.value()),
        df: Some(i64::from(degrees)),
        p: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        i2: finite(if excess > 0.0 {
            excess / q.value()
        } else {
            0.0
        }),
        tau2: finite(tau2),
        shrunken: effects.iter().zip(ses).map(shrink).collect(),
        status: Status::Ok,
    }
}

/// The interaction of two experiments on their common units: the difference of differences `(tt - tc) - (ct - cc)`, first letter the arm of
/// experiment A, second of B, with variance `sum s^2/n` over the four cells.
pub fn interaction_2x2(cc: &Sample, ct: &Sample, tc: &Sample, tt: &Sample, alpha: f64) -> ZTest {
    let (without, with) = (Difference::of(cc, ct), Difference::of(tc, tt));
    let (without, with) = match (without, with) {
        (Ok(without), Ok(with)) => (without, with),
        (Err(faulty), _) | (_, Err(faulty)) => return ZTest::empty(faulty.status),
    };
    let unit = without.unit.max(with.unit);
    let rescaled = |difference: &Difference| {
        let factor = difference.unit / unit;
        (
            difference.effect.scaled(factor),
            difference.variance.scaled(factor).scaled(factor),
        )
    };
    let ((effect_without, variance_without), (effect_with, variance_with)) =
        (rescaled(&without), rescaled(&with));
    let variance = variance_without + variance_with;
    let difference = Difference {
        effect: effect_with - effect_without,
        variance,
        unit,
        ..with
    };
    z_test(&difference, variance, alpha)
}

/// Whether assignment to one experiment depends on assignment to another: Pearson's chi-square on the table of counts, one row per arm of
/// the first and one column per arm of the second. Rows and columns without a unit do not count.
pub fn assignment_dependence(table: &[Vec<f64>]) -> Dependence {
    let width = table.first().map_or(0, Vec::len);
    if table.iter().any(|row| {
        row.len() != width
            || row
                .iter()
                .any(|count| !(*count >= 0.0 && count.is_finite()))
    }) {
        return Dependence::empty(Status::InvalidInput);
    }
    let sum = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.fold(DoubleDouble::ZERO, |sum, number| sum + number)
    };
    let rows: Vec<DoubleDouble> = table
        .iter()
        .map(|row| sum(&mut row.iter().copied()))
        .collect();
    let columns: Vec<DoubleDouble> = (0..width)
        .map(|column| sum(&mut table.iter().map(|row| row[column])))
        .collect();
    let total = rows
        .iter()
        .fold(DoubleDouble::ZERO, |total, row| total + *row);
    let count = |sums: &[DoubleDouble]| sums.iter().filter(|sum| sum.high > 0.0).count() as u32;
    let degrees = count(&rows).saturating_sub(1) * count(&columns).saturating_sub(1);
    if degrees == 0 {
        return Dependence::empty(Status::InsufficientData);
    }
    let mut chi2 = DoubleDouble::ZERO;
    for (row, row_sum) in table.iter().zip(&rows) {
        for (observed, column_sum) in row.iter().zip(&columns) {
            let expected = *row_sum * *column_sum / total;
            if expected.high > 0.0 {
                chi2 = chi2 + (expected - *observed).square() / expected;
            }
        }
    }
    let tail = chi_squared_upper_tail(chi2, degrees);
    Dependence {
        chi2: finite(chi2.value()),
        df: Some(i64::from(degrees)),
        p: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        status: Status::Ok,
    }
}

/// Does the effect fade or grow with the days since exposure? Weighted least squares of daily effects on the day, weights 1/se^2, for effects of
/// disjoint cohorts (independent). A negative slope of a positive effect is novelty wearing off.
pub fn novelty_trend(days: &[f64], effects: &[f64], ses: &[f64], alpha: f64) -> Trend {
    if days.len() != effects.len() || !days.iter().all(|day| day.is_finite()) || !is_share(alpha) {
        return Trend::empty(Status::InvalidInput);
    }
    if let Some(status) = effects_fault(effects, ses, 3) {
        return Trend::empty(status);
    }
    let weights: Vec<DoubleDouble> = ses
        .iter()
        .map(|se| DoubleDouble::ONE / (DoubleDouble::from(*se) * *se))
        .collect();
    let total = weights
        .iter()
        .fold(DoubleDouble::ZERO, |sum, weight| sum + *weight);
    let mean = |values: &[f64]| {
        weights
            .iter()
            .zip(values)
            .fold(DoubleDouble::ZERO, |sum, (weight, value)| {
                sum + *weight * *value
            })
            / total
    };
    let (day, effect) = (mean(days), mean(effects));
    let (mut square, mut cross) = (DoubleDouble::ZERO, DoubleDouble::ZERO);
    for place in 0..days.len() {
        let shift = -(day - days[place]);
        square = square + weights[place] * shift.square();
        cross = cross - weights[place] * shift * (effect - effects[place]);
    }
    if square.high <= 0.0 {
        return Trend::empty(Status::ZeroVariance);
    }
    let slope = cross / square;
    let se = (DoubleDouble::ONE / square).sqrt();
    let tail = normal::two_sided_tail(slope / se);
    let half = se * normal::upper_quantile(alpha / 2.0);
    Trend {
        slope: finite(slope.value()),
        se: finite(se.value()),
        intercept: finite((effect - slope * day).value()),
        z: finite((slope / se).value()),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        ci_low: finite((slope - half).value()),
        ci_high: finite((slope + half).value()),
        status: Status::Ok,
    }
}

record! {
    /// Heterogeneity of effects over segments.
    pub struct Heterogeneity {
        /// Precision-weighted mean effect.
        pooled: Number,
        pooled_se: Number,
        q: Number,
        df: Option<i64>,
        p: Number,
        log10_p: Number,
        /// Share of the variation that is not chance.
        i2: Number,
        tau2: Number,
        shrunken: Vec<f64>,
    }
}

record! {
    /// Dependence of two assignments.
    pub struct Dependence {
        chi2: Number,
        df: Option<i64>,
        p: Number,
        log10_p: Number,
    }
}

record! {
    /// A trend of the effect, per day.
    pub struct Trend {
        slope: Number,
        se: Number,
        /// The effect on day zero.
        intercept: Number,
        z: Number,
        p_two_sided: Number,
        log10_p: Number,
        ci_low: Number,
        ci_high: Number,
    }
}

fn effects_fault(effects: &[f64], ses: &[f64], least: usize) -> Option<Status> {
    let is_valid = effects.len() == ses.len()
        && effects.iter().all(|effect| effect.is_finite())
        && ses.iter().all(|se| *se >= 0.0 && se.is_finite());
    if !is_valid {
        return Some(Status::InvalidInput);
    }
    if effects.len() < least {
        return Some(Status::InsufficientData);
    }
    ses.contains(&0.0).then_some(Status::ZeroVariance)
}
