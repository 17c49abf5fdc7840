//! Tests of a difference of two means: Welch, Student, z.
//! In: two [`Sample`]s and a two-sided level. Out: effect, standard error, statistic, p values, interval.
//! The effect is treatment minus control, in the metric's unit; `p_greater` is the probability of a statistic at least as large when
//! there is no effect. Units must be independent; means must be about normal, which the central limit theorem gives for large n.

use super::double_double::DoubleDouble;
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share, size_fault};
use super::status::Status;
use super::student;
use super::tail::Tail;

/// Welch's t test: variances may differ. `df = (v1+v2)^2 / (v1^2/(n1-1) + v2^2/(n2-1))` with v = variance/n.
/// Welch, "The generalization of Student's problem", Biometrika 34 (1947). An arm without variance is fine: the other's n - 1 stand.
pub fn welch_t(control: &Sample, treatment: &Sample, alpha: f64) -> MeanTest {
    match Difference::of(control, treatment) {
        Ok(difference) => t_test(&difference, difference.welch_degrees(), alpha),
        Err(faulty) => faulty,
    }
}

/// Student's t test: one variance for both arms, `df = n1 + n2 - 2`. Student, Biometrika 6 (1908). Prefer [`welch_t`].
pub fn student_t(control: &Sample, treatment: &Sample, alpha: f64) -> MeanTest {
    match Difference::of(control, treatment) {
        Ok(difference) => {
            let degrees = control.n + treatment.n - 2.0;
            let squares = difference.control_variance * (control.n - 1.0)
                + difference.treatment_variance * (treatment.n - 1.0);
            let pooled = squares / degrees;
            let variance = pooled / control.n + pooled / treatment.n;
            t_test(
                &Difference {
                    variance,
                    ..difference
                },
                DoubleDouble::from(degrees),
                alpha,
            )
        }
        Err(faulty) => faulty,
    }
}

/// The z test with unpooled variances: [`welch_t`] with the normal distribution, for large samples.
pub fn z_test_unpooled(control: &Sample, treatment: &Sample, alpha: f64) -> ZTest {
    match Difference::of(control, treatment) {
        Ok(difference) => z_test(&difference, difference.variance, alpha),
        Err(faulty) => ZTest {
            effect: faulty.effect,
            ..ZTest::empty(faulty.status)
        },
    }
}

record! {
    /// The result of a t test.
    pub struct MeanTest {
        /// Treatment mean minus control mean.
        effect: Number,
        /// Standard error of the effect.
        se: Number,
        /// Degrees of freedom.
        df: Number,
        /// Effect over standard error.
        t: Number,
        p_two_sided: Number,
        /// Decimal logarithm of `p_two_sided`, also where that is below any binary64 number.
        log10_p: Number,
        p_greater: Number,
        p_less: Number,
        /// Ends of the two-sided interval of confidence 1 - alpha.
        ci_low: Number,
        ci_high: Number,
    }
}

record! {
    /// The result of a z test.
    pub struct ZTest {
        effect: Number,
        se: Number,
        z: Number,
        p_two_sided: Number,
        log10_p: Number,
        p_greater: Number,
        p_less: Number,
        ci_low: Number,
        ci_high: Number,
    }
}

/// A difference of means before a distribution is chosen; all but `unit` in units of a power of two that keeps squares in range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub effect: DoubleDouble,
    pub control_variance: DoubleDouble,
    pub treatment_variance: DoubleDouble,
    pub variance: DoubleDouble,
    pub control_n: f64,
    pub treatment_n: f64,
    pub unit: f64,
}

impl Difference {
    /// The difference, or the result that says why there is none.
    #[inline]
    pub fn of(control: &Sample, treatment: &Sample) -> Result<Self, MeanTest> {
        if !control.is_valid() || !treatment.is_valid() {
            return Err(MeanTest::empty(Status::InvalidInput));
        }
        let effect = treatment.mean - control.mean;
        if let Some(status) = size_fault(control.n, treatment.n) {
            let has_effect = control.n > 0.0 && treatment.n > 0.0;
            let effect = if has_effect {
                finite(effect.value())
            } else {
                None
            };
            return Err(MeanTest {
                effect,
                ..MeanTest::empty(status)
            });
        }
        let unit = unit_of(control.variance.high.max(treatment.variance.high));
        let control_variance = control.variance.scaled(1.0 / unit).scaled(1.0 / unit);
        let treatment_variance = treatment.variance.scaled(1.0 / unit).scaled(1.0 / unit);
        Ok(Self {
            effect: effect.scaled(1.0 / unit),
            control_variance,
            treatment_variance,
            variance: control_variance / control.n + treatment_variance / treatment.n,
            control_n: control.n,
            treatment_n: treatment.n,
            unit,
        })
    }

    /// Welch's and Satterthwaite's degrees of freedom.
    #[inline]
    pub fn welch_degrees(&self) -> DoubleDouble {
        satterthwaite(
            self.control_variance / self.control_n,
            self.control_n - 1.0,
            self.treatment_variance / self.treatment_n,
            self.treatment_n - 1.0,
        )
    }
}

/// `(a+b)^2 / (a^2/df_a + b^2/df_b)`: the degrees of freedom of a sum of two estimated variances. Satterthwaite 1946.
#[inline]
pub(crate) fn satterthwaite(
    a: DoubleDouble,
    df_a: f64,
    b: DoubleDouble,
    df_b: f64,
) -> DoubleDouble {
    // Over the larger variance, so that no square under- or overflows.
    let (large, df_large, small, df_small) = if a.high >= b.high {
        (a, df_a, b, df_b)
    } else {
        (b, df_b, a, df_a)
    };
    let ratio = small / large;
    (ratio + 1.0).square() / (ratio.square() / df_small + DoubleDouble::ONE / df_large)
}

/// A power of two near the standard deviation when its square is near the limits of binary64, else one.
#[inline]
fn unit_of(variance: f64) -> f64 {
    if variance == 0.0 || (1e-200..1e200).contains(&variance) {
        return 1.0;
    }
    2f64.powi((variance.log2() / 2.0).floor() as i32)
}

/// A t test of `difference.effect` against `difference.variance`.
#[inline]
pub(crate) fn t_test(difference: &Difference, degrees: DoubleDouble, alpha: f64) -> MeanTest {
    if !is_share(alpha) {
        return MeanTest::empty(Status::InvalidInput);
    }
    if difference.variance.high == 0.0 {
        return without_variance(difference.effect.value() * difference.unit);
    }
    let se = difference.variance.sqrt();
    let statistic = difference.effect / se;
    let tail = student::two_sided_tail(statistic, degrees);
    let (p_greater, p_less) = one_sided(&tail, statistic.high);
    let quantile = student::upper_quantile(alpha / 2.0, degrees.high);
    let (ci_low, ci_high) = interval(difference.effect, se, quantile, difference.unit);
    with_overflow(MeanTest {
        effect: finite(difference.effect.value() * difference.unit),
        se: finite(se.value() * difference.unit),
        df: finite(degrees.value()),
        t: finite(statistic.value()),
        p_two_sided: finite(tail.p()),
        log10_p: finite(tail.log10_p()),
        p_greater: finite(p_greater),
        p_less: finite(p_less),
        ci_low,
        ci_high,
        status: Status::Ok,
    })
}

/// A z test whose statistic uses `variance` and whose interval uses the unpooled variance.
pub(crate) fn z_test(difference: &Difference, variance: DoubleDouble, alpha: f64) -> ZTest {
    if !is_share(alpha) {
        return ZTest::empty(Status::InvalidInput);
    }
    let unit = difference.unit;
    if variance.high == 0.0 {
        let degenerate = without_variance(difference.effect.value() * unit);
        return ZTest {
            effect: degenerate.effect,
            se: degenerate.se,
            ci_low: degenerate.ci_low,
            ci_high: degenerate.ci_high,
            ..ZTest::empty(Status::ZeroVariance)
        };
    }
    let se = variance.sqrt();
    let statistic = difference.effect / se;
    let tail = normal::two_sided_tail(statistic);
    let (p_greater, p_less) = one_sided(&tail, statistic.high);
    let quantile = normal::upper_quantile(alpha / 2.0);
    let (ci_low, ci_high) = interval(
        difference.effect,
        difference.variance.sqrt(),
        quantile,
        unit,
    );
    let log10_p = finite(tail.log10_p());
    ZTest {
        effect: finite(difference.effect.value() * unit),
        se: finite(se.value() * unit),
        z: finite(statistic.value()),
        p_two_sided: finite(tail.p()),
        log10_p,
        p_greater: finite(p_greater),
        p_less: finite(p_less),
        ci_low,
        ci_high,
        status: if log10_p.is_some() && ci_high.is_some() {
            Status::Ok
        } else {
            Status::Overflow
        },
    }
}

/// P(greater) and P(less) from the two-sided tail and the sign of the statistic.
#[inline]
pub(crate) fn one_sided(tail: &Tail, statistic: f64) -> (f64, f64) {
    let small = 0.5 * tail.p();
    let large = 1.0 - small;
    if statistic > 0.0 {
        (small, large)
    } else {
        (large, small)
    }
}

/// `effect -+ quantile se`, each end rounded once.
#[inline]
pub(crate) fn interval(
    effect: DoubleDouble,
    se: DoubleDouble,
    quantile: f64,
    unit: f64,
) -> (Number, Number) {
    let half = se * quantile;
    (
        finite((effect - half).value() * unit),
        finite((effect + half).value() * unit),
    )
}

/// No arm varies: the effect is certain for these units, but nothing can be tested. Never p = 0, never p = 1.
fn without_variance(effect: f64) -> MeanTest {
    let effect = finite(effect);
    MeanTest {
        effect,
        se: Some(0.0),
        ci_low: effect,
        ci_high: effect,
        ..MeanTest::empty(Status::ZeroVariance)
    }
}

#[inline]
fn with_overflow(test: MeanTest) -> MeanTest {
    let is_complete = test.t.is_some()
        && test.log10_p.is_some()
        && test.ci_low.is_some()
        && test.ci_high.is_some();
    MeanTest {
        status: if is_complete {
            Status::Ok
        } else {
            Status::Overflow
        },
        ..test
    }
}
