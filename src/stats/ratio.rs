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
        (Err(status), _) | (_, Err(status)) => {
            return RatioTest::empty(arm_status(control.n, treatment.n, status));
        }
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

/// A ratio as a sample: mean R, variance of one linearised unit.
#[inline]
pub fn ratio_sample(moments: &Moments<2>) -> Result<Sample, Status> {
    moments.fault().map_or(Ok(()), Err)?;
    let (ratio, gradient) = linearisation(moments.mean[0], moments.mean[1])?;
    let variance = moments.form(&gradient, &gradient) / (moments.n - 1.0);
    // A quadratic form of rounded cross products may come out below zero by a rounding.
    let variance = if variance.high < 0.0 {
        DoubleDouble::ZERO
    } else {
        variance
    };
    Ok(Sample {
        n: moments.n,
        mean: ratio,
        variance,
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
