//! Non-inferiority: is the treatment not worse than the control by more than a margin? In: two samples, a margin relative to the control mean.
//! Out: a one-sided Welch test against the margin and the bound to report.

use super::double_double::DoubleDouble;
use super::mean_tests::{Difference, satterthwaite};
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::status::Status;
use super::student;
use super::tail::Tail;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better: inferior is a decrease below minus the margin.
    IncreaseGood,
    /// Less is better: inferior is an increase above the margin.
    DecreaseGood,
}

impl Direction {
    /// Reads the name used in YAML and SQL.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "increase_good" | "increase" => Some(Self::IncreaseGood),
            "decrease_good" | "decrease" => Some(Self::DecreaseGood),
            _ => None,
        }
    }

    fn sign(self) -> f64 {
        if self == Self::IncreaseGood {
            1.0
        } else {
            -1.0
        }
    }
}

/// The margin `nim |mC|` taken as a fixed number (Spotify's rule): `t = (d + margin)/se`, Welch's degrees of freedom. `bound` is the one-sided
/// confidence bound of the effect on the side of harm.
pub fn non_inferiority_fixed_margin(
    control: &Sample,
    treatment: &Sample,
    nim_relative: f64,
    direction: Direction,
    alpha: f64,
) -> NonInferiority {
    test(control, treatment, nim_relative, direction, alpha, false)
}

/// The exact form: the margin moves with the control mean, so what is tested is the contrast `mT - (1 -+ nim) mC` with variance
/// `vT + (1 -+ nim)^2 vC`. The default for decisions.
pub fn non_inferiority_linear_margin(
    control: &Sample,
    treatment: &Sample,
    nim_relative: f64,
    direction: Direction,
    alpha: f64,
) -> NonInferiority {
    test(control, treatment, nim_relative, direction, alpha, true)
}

record! {
    /// The result of a non-inferiority test.
    pub struct NonInferiority {
        /// The margin in the metric's unit.
        margin_abs: Number,
        effect: Number,
        /// Of the test statistic.
        se: Number,
        df: Number,
        t: Number,
        p_one_sided: Number,
        log10_p: Number,
        /// One-sided bound of the effect: lower when more is better, upper when less is better. For a linear margin it is the bound of the
        /// contrast minus the margin, comparable to -margin (or margin) in the same way.
        bound: Number,
        non_inferior: Option<bool>,
    }
}

fn test(
    control: &Sample,
    treatment: &Sample,
    nim_relative: f64,
    direction: Direction,
    alpha: f64,
    is_linear: bool,
) -> NonInferiority {
    if !is_share(alpha) || !(nim_relative >= 0.0) || !nim_relative.is_finite() {
        return NonInferiority::empty(Status::InvalidInput);
    }
    let difference = match Difference::of(control, treatment) {
        Ok(difference) => difference,
        Err(faulty) => {
            return NonInferiority {
                effect: faulty.effect,
                ..NonInferiority::empty(faulty.status)
            };
        }
    };
    let baseline = control.mean.abs().scaled(1.0 / difference.unit);
    let margin = baseline * nim_relative;
    let plain = NonInferiority {
        margin_abs: finite(margin.value() * difference.unit),
        effect: finite(difference.effect.value() * difference.unit),
        ..NonInferiority::default()
    };
    if difference.variance.high == 0.0 {
        return NonInferiority {
            status: Status::ZeroVariance,
            se: Some(0.0),
            ..plain
        };
    }
    // Towards "more is better"; the sign of the baseline says which way the margin moves with the control mean.
    let slope = if is_linear {
        1.0 - direction.sign() * nim_relative * control.mean.high.signum()
    } else {
        1.0
    };
    let control_part = difference.control_variance / control.n * (slope * slope);
    let treatment_part = difference.treatment_variance / treatment.n;
    let se = (control_part + treatment_part).sqrt();
    let degrees = satterthwaite(
        control_part,
        control.n - 1.0,
        treatment_part,
        treatment.n - 1.0,
    );
    let signed_effect = difference.effect * direction.sign();
    let statistic = (signed_effect + margin) / se;
    let tail: Tail = student::upper_tail(statistic, degrees);
    let quantile = student::upper_quantile(alpha, degrees.high);
    let bound: DoubleDouble = (signed_effect - se * quantile) * direction.sign();
    let p = tail.p();
    NonInferiority {
        se: finite(se.value() * difference.unit),
        df: finite(degrees.value()),
        t: finite(statistic.value()),
        p_one_sided: finite(p),
        log10_p: finite(tail.log10_p()),
        bound: finite(bound.value() * difference.unit),
        non_inferior: Some(p < alpha),
        ..plain
    }
}
