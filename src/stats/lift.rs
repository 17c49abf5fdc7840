//! Relative effects over the control mean. In: two [`Sample`]s. Out: lift and its interval by the delta method, on the log scale, by Fieller.
//! `lift = (mT - mC) / |mC|`, a share (0.05 is five per cent). Significance must not depend on the display scale, so `p_absolute`, the p of
//! the absolute Welch test, stands beside the p of the relative statistic; decisions read `p_absolute`.
//! spotify-confidence scales the absolute interval by the control mean, ignoring that mean's variance: 90 % coverage at a lift of
//! 50 %. Fieller's set covers as promised at any baseline; it is the default when g > 0.005.

use super::double_double::DoubleDouble;
use super::mean_tests::{Difference, MeanTest, interval, satterthwaite};
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::status::Status;
use super::student;
use super::tail::Tail;

/// Delta method with t quantiles: `var = vT/mC^2 + vC mT^2/mC^4`, degrees of freedom of the absolute Welch test.
pub fn relative_lift_delta_t(control: &Sample, treatment: &Sample, alpha: f64) -> RelativeLift {
    match Scaled::of(control, treatment, alpha) {
        Ok(scaled) => {
            let degrees = scaled.difference.welch_degrees();
            scaled.lift(Some(degrees), alpha)
        }
        Err(status) => RelativeLift::empty(status),
    }
}

/// Delta method with normal quantiles.
pub fn relative_lift_delta_z(control: &Sample, treatment: &Sample, alpha: f64) -> RelativeLift {
    match Scaled::of(control, treatment, alpha) {
        Ok(scaled) => scaled.lift(None, alpha),
        Err(status) => RelativeLift::empty(status),
    }
}

/// Interval of the ratio of means on the log scale, `ln(mT/mC) -+ t sqrt(vT/mT^2 + vC/mC^2)`, both means above zero; Satterthwaite's
/// degrees of freedom on that scale (tea-tasting's rule).
pub fn relative_lift_log_t(control: &Sample, treatment: &Sample, alpha: f64) -> LogLift {
    let scaled = match Scaled::of(control, treatment, alpha) {
        Ok(scaled) => scaled,
        Err(status) => return LogLift::empty(status),
    };
    if control.mean.high <= 0.0 || treatment.mean.high <= 0.0 {
        return LogLift {
            lift: finite(scaled.lift.value()),
            ..LogLift::empty(Status::ZeroBaseline)
        };
    }
    let control_part = scaled.control_variance / scaled.control_mean.square();
    let treatment_part = scaled.treatment_variance / scaled.treatment_mean.square();
    let degrees = satterthwaite(
        control_part,
        control.n - 1.0,
        treatment_part,
        treatment.n - 1.0,
    );
    let se = (control_part + treatment_part).sqrt();
    let logarithm = scaled.lift.ln_1p_any();
    let tail = student::two_sided_tail(logarithm / se, degrees);
    let half = se * student::upper_quantile(alpha / 2.0, degrees.high);
    let ci_high = finite((logarithm + half).high.exp_m1());
    LogLift {
        lift: finite(scaled.lift.value()),
        se_log: finite(se.value()),
        df: finite(degrees.value()),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        ci_low: finite((logarithm - half).high.exp_m1()),
        ci_high,
        status: if ci_high.is_some() {
            Status::Ok
        } else {
            Status::Overflow
        },
    }
}

/// Fieller's confidence set for the ratio of means with normal quantiles. With `g = q^2 vC/mC^2 < 1` it is the interval
/// `(r -+ (q/|mC|) sqrt(vT + r^2 vC - g vT)) / (1-g) - 1`; otherwise the baseline cannot be told from zero and there is no interval.
/// Fieller, JRSS B 16 (1954); Franz, arXiv 0710.2024 (2007).
pub fn relative_lift_fieller_z(control: &Sample, treatment: &Sample, alpha: f64) -> FiellerLift {
    let scaled = match Scaled::of(control, treatment, alpha) {
        Ok(scaled) => scaled,
        Err(status) => return FiellerLift::empty(status),
    };
    let quantile = normal::upper_quantile(alpha / 2.0);
    let baseline = scaled.control_mean;
    let g = (DoubleDouble::from(quantile) / baseline).square() * scaled.control_variance;
    let unbounded = FiellerLift {
        lift: finite(scaled.lift.value()),
        g: finite(g.value()),
        bounded: Some(false),
        ..FiellerLift::empty(Status::Unbounded)
    };
    if g.high >= 1.0 {
        return unbounded;
    }
    let ratio = scaled.treatment_mean / baseline;
    let spread = scaled.treatment_variance * (DoubleDouble::ONE - g)
        + ratio.square() * scaled.control_variance;
    let half = (spread.sqrt() * quantile / baseline).abs();
    let remainder = DoubleDouble::ONE - g;
    let low = (ratio - half) / remainder - 1.0;
    let high = (ratio + half) / remainder - 1.0;
    // For a negative baseline a lift is an increase over |mC|: the mirror image.
    let (low, high) = if baseline.high > 0.0 {
        (low, high)
    } else {
        (-high, -low)
    };
    FiellerLift {
        bounded: Some(true),
        ci_low: finite(low.value()),
        ci_high: finite(high.value()),
        status: Status::Ok,
        ..unbounded
    }
}

record! {
    /// A relative effect by the delta method.
    pub struct RelativeLift {
        /// (treatment - control) / |control|.
        lift: Number,
        se: Number,
        /// Degrees of freedom; empty for normal quantiles.
        df: Number,
        /// Of the statistic lift / se.
        p_two_sided: Number,
        log10_p: Number,
        /// Of the absolute test of the same hypothesis: the one to decide by.
        p_absolute: Number,
        log10_p_absolute: Number,
        ci_low: Number,
        ci_high: Number,
    }
}

record! {
    /// A relative effect on the log scale.
    pub struct LogLift {
        lift: Number,
        /// Standard error of the logarithm of the ratio.
        se_log: Number,
        df: Number,
        p_two_sided: Number,
        log10_p: Number,
        ci_low: Number,
        ci_high: Number,
    }
}

record! {
    /// A relative effect with Fieller's set.
    pub struct FiellerLift {
        lift: Number,
        /// Squared relative half-width of the baseline's own interval: above 0.1 the baseline is weak, from 1 on there is no interval.
        g: Number,
        bounded: Option<bool>,
        ci_low: Number,
        ci_high: Number,
    }
}

/// Means and variances of means in common units, checked.
struct Scaled {
    difference: Difference,
    control_mean: DoubleDouble,
    treatment_mean: DoubleDouble,
    /// Variances of the means.
    control_variance: DoubleDouble,
    treatment_variance: DoubleDouble,
    lift: DoubleDouble,
}

impl Scaled {
    fn of(control: &Sample, treatment: &Sample, alpha: f64) -> Result<Self, Status> {
        if !is_share(alpha) {
            return Err(Status::InvalidInput);
        }
        let difference =
            Difference::of(control, treatment).map_err(|faulty: MeanTest| faulty.status)?;
        if control.mean.high == 0.0 {
            return Err(Status::ZeroBaseline);
        }
        if difference.variance.high == 0.0 {
            return Err(Status::ZeroVariance);
        }
        let control_mean = control.mean.scaled(1.0 / difference.unit);
        Ok(Self {
            control_mean,
            treatment_mean: treatment.mean.scaled(1.0 / difference.unit),
            control_variance: difference.control_variance / control.n,
            treatment_variance: difference.treatment_variance / treatment.n,
            lift: difference.effect / control_mean.abs(),
            difference,
        })
    }

    fn lift(&self, degrees: Option<DoubleDouble>, alpha: f64) -> RelativeLift {
        let ratio = self.treatment_mean / self.control_mean;
        let variance = self.treatment_variance + ratio.square() * self.control_variance;
        let se = variance.sqrt() / self.control_mean.abs();
        let absolute = self.difference.effect / self.difference.variance.sqrt();
        let (tail, absolute_tail, quantile) = match degrees {
            Some(degrees) => (
                student::two_sided_tail(self.lift / se, degrees),
                student::two_sided_tail(absolute, degrees),
                student::upper_quantile(alpha / 2.0, degrees.high),
            ),
            None => (
                normal::two_sided_tail(self.lift / se),
                normal::two_sided_tail(absolute),
                normal::upper_quantile(alpha / 2.0),
            ),
        };
        let (ci_low, ci_high) = interval(self.lift, se, quantile, 1.0);
        relative_lift(
            self.lift,
            se,
            degrees,
            &tail,
            &absolute_tail,
            (ci_low, ci_high),
        )
    }
}

/// Assembles a relative result, which overflows when the baseline is tiny.
pub(crate) fn relative_lift(
    lift: DoubleDouble,
    se: DoubleDouble,
    degrees: Option<DoubleDouble>,
    tail: &Tail,
    absolute: &Tail,
    (ci_low, ci_high): (Number, Number),
) -> RelativeLift {
    let is_complete = lift.is_finite() && se.is_finite() && ci_low.is_some() && ci_high.is_some();
    RelativeLift {
        lift: finite(lift.value()),
        se: finite(se.value()),
        df: degrees.and_then(|degrees| finite(degrees.value())),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        p_absolute: finite(absolute.p()),
        log10_p_absolute: finite(absolute.log10_p()),
        ci_low,
        ci_high,
        status: if is_complete {
            Status::Ok
        } else {
            Status::Overflow
        },
    }
}
