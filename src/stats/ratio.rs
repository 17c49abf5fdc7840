//! Ratios of two sums per unit, such as clicks per visit. In: two [`Moments`] (numerator, denominator). Out: Welch's test by the delta
//! method, and the [`Sample`] that carries a ratio into every other method.
//! With R = mean(y)/mean(x), one unit contributes a variance `w2 = g'Cg/(n-1)`, g = (1, -R)/mean(x): that of the linearised values
//! (y - R x)/mean(x). Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018; Budylin et al., WSDM 2018.
//! Assumes many independent units and a denominator well away from zero: `denominator_ratio` below 10 says that it is not.

use super::double_double::DoubleDouble;
use super::mean_tests::{MeanTest, welch_t};
use super::record::{Number, finite, record};
use super::sample::{Moments, Sample};
use super::status::Status;

/// Welch's test of the difference of two ratios.
pub fn ratio_delta_welch(control: &Moments<2>, treatment: &Moments<2>, alpha: f64) -> RatioTest {
    let (control_sample, treatment_sample) = match (ratio_sample(control), ratio_sample(treatment))
    {
        (Ok(control), Ok(treatment)) => (control, treatment),
        (Err(status), _) | (_, Err(status)) => return without_test(control, treatment, status),
    };
    let test = welch_t(&control_sample, &treatment_sample, alpha);
    RatioTest {
        ratio1: finite(control_sample.mean.value()),
        ratio2: finite(treatment_sample.mean.value()),
        uvar1: finite(control_sample.variance.value()),
        uvar2: finite(treatment_sample.variance.value()),
        denominator_ratio: finite(denominator_ratio(control).min(denominator_ratio(treatment))),
        ..RatioTest::from_test(test)
    }
}

/// What is left without a test: of too few units the ratios and their difference, where both arms have a unit.
fn without_test(control: &Moments<2>, treatment: &Moments<2>, status: Status) -> RatioTest {
    let status = arm_status(control.n, treatment.n, status);
    let ratio = |arm: &Moments<2>| linearisation(arm.mean[0], arm.mean[1]).map(|(ratio, _)| ratio);
    match (status, ratio(control), ratio(treatment)) {
        (Status::InsufficientData, Ok(control), Ok(treatment)) => RatioTest {
            effect: finite((treatment - control).value()),
            ratio1: finite(control.value()),
            ratio2: finite(treatment.value()),
            ..RatioTest::empty(status)
        },
        _ => RatioTest::empty(status),
    }
}

/// A ratio as a sample: mean R, variance of one linearised unit.
#[inline]
pub fn ratio_sample(moments: &Moments<2>) -> Result<Sample, Status> {
    moments.fault().map_or(Ok(()), Err)?;
    let (ratio, gradient) = linearisation(moments.mean[0], moments.mean[1])?;
    let numerator = moments.cross_products[0][0] * gradient[0].square();
    let squares = beyond_rounding(moments.form(&gradient, &gradient), numerator);
    Ok(Sample {
        n: moments.n,
        mean: ratio,
        variance: squares / (moments.n - 1.0),
    })
}

record! {
    /// The result of a test of a difference of ratios; `ratio1` and `uvar1` are the control's ratio and unit variance.
    pub struct RatioTest {
        effect: Number,
        se: Number,
        df: Number,
        t: Number,
        p_two_sided: Number,
        log10_p: Number,
        p_greater: Number,
        p_less: Number,
        ci_low: Number,
        ci_high: Number,
        ratio1: Number,
        ratio2: Number,
        uvar1: Number,
        uvar2: Number,
        /// The smaller |mean(x)| / se(mean(x)) of the arms: below 10 the delta method is doubtful.
        denominator_ratio: Number,
    }
}

impl RatioTest {
    fn from_test(test: MeanTest) -> Self {
        Self {
            effect: test.effect,
            se: test.se,
            df: test.df,
            t: test.t,
            p_two_sided: test.p_two_sided,
            log10_p: test.log10_p,
            p_greater: test.p_greater,
            p_less: test.p_less,
            ci_low: test.ci_low,
            ci_high: test.ci_high,
            status: test.status,
            ..Self::default()
        }
    }
}

/// What is left of `squares`; nothing where that cannot be told from nothing. Three cross products of the size of the squares, one of
/// them twice, are each rounded to 53 bits: of a numerator that is a multiple of its denominator their rounding is left, above or
/// below zero, and a test by it would find any difference significant.
#[inline]
pub(crate) fn beyond_rounding(left: DoubleDouble, squares: DoubleDouble) -> DoubleDouble {
    const ROUNDING: f64 = 1.0 / (1u64 << 50) as f64;
    if left.high <= (squares.high * ROUNDING).max(0.0) {
        DoubleDouble::ZERO
    } else {
        left
    }
}

/// The ratio of two means and its gradient (1, -R)/mean(x).
#[inline]
fn linearisation(
    numerator: DoubleDouble,
    denominator: DoubleDouble,
) -> Result<(DoubleDouble, [DoubleDouble; 2]), Status> {
    if denominator.high == 0.0 {
        return Err(Status::ZeroBaseline);
    }
    let ratio = numerator / denominator;
    Ok((
        ratio,
        [DoubleDouble::ONE / denominator, -ratio / denominator],
    ))
}

/// An arm without units is missing, whatever else is wrong.
pub(crate) fn arm_status(control_n: f64, treatment_n: f64, status: Status) -> Status {
    if (control_n == 0.0) != (treatment_n == 0.0) {
        Status::OneArmMissing
    } else {
        status
    }
}

fn denominator_ratio(moments: &Moments<2>) -> f64 {
    let variance = moments.cross_products[1][1].high / (moments.n - 1.0) / moments.n;
    moments.mean[1].high.abs() / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::state::State;

    fn arm(numerators: &[f64], denominators: &[f64]) -> Moments<2> {
        Moments::of_state(&State::of_columns(&[numerators, denominators])).expect("two values")
    }

    #[test]
    fn a_numerator_that_is_a_multiple_of_its_denominator_has_no_variance() {
        for units in [2, 5, 30, 1_000] {
            let items: Vec<f64> = (0..units).map(|unit| f64::from(unit * 37 % 7)).collect();
            for price in [9.99, 0.1, 1.0 / 3.0, 1e-150, 7.7e90] {
                let paid = |price: f64| items.iter().map(|n| n * price).collect::<Vec<_>>();
                let control = arm(&paid(price), &items);
                let treatment = arm(&paid(price * 1.01), &items);
                let test = ratio_delta_welch(&control, &treatment, 0.05);
                assert_eq!(
                    (test.status, test.se, test.p_two_sided),
                    (Status::ZeroVariance, Some(0.0), None),
                    "{units} units at {price}"
                );
            }
        }
    }

    #[test]
    fn a_denominator_of_five_nines_of_the_numerator_keeps_its_variance() {
        let (all, up): (Vec<f64>, Vec<f64>) = (0..200)
            .map(|unit| (1e6 + f64::from(unit * 37 % 101) * 1e4, f64::from(unit % 11)))
            .map(|(all, down)| (all, all - down))
            .unzip();
        let test = ratio_delta_welch(&arm(&up, &all), &arm(&up[..150], &all[..150]), 0.05);
        assert_eq!(test.status, Status::Ok);
    }

    #[test]
    fn one_unit_has_a_ratio_and_no_test() {
        let one = arm(&[1.0], &[4.0]);
        let test = ratio_delta_welch(&one, &arm(&[1.0, 2.0], &[2.0, 2.0]), 0.05);
        assert_eq!(test.status, Status::InsufficientData);
        assert_eq!(
            (test.ratio1, test.ratio2, test.effect, test.se),
            (Some(0.25), Some(0.75), Some(0.5), None)
        );
        let nothing = arm(&[1.0], &[0.0]);
        assert_eq!(ratio_delta_welch(&one, &nothing, 0.05).effect, None);
        let missing = arm(&[], &[]);
        let test = ratio_delta_welch(&one, &missing, 0.05);
        assert_eq!((test.status, test.effect), (Status::OneArmMissing, None));
    }
}
