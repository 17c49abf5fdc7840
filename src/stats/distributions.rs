//! Distributions and moments as results of their own. In: a deviate, a probability, a state. Out: tails with their logarithms, quantiles, moments.

use super::double_double::DoubleDouble;
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::state::State;
use super::status::Status;
use super::student;
use super::tail::Tail;

/// P(Z > z) of the standard normal distribution.
pub fn norm_sf(z: f64) -> TailProbability {
    if z.is_nan() {
        TailProbability::empty(Status::InvalidInput)
    } else {
        TailProbability::of(&normal::upper_tail(DoubleDouble::from(z)))
    }
}

/// P(T > t) of Student's distribution with real degrees of freedom.
pub fn t_sf(t: f64, df: f64) -> TailProbability {
    if t.is_nan() || !(df > 0.0) {
        return TailProbability::empty(Status::InvalidInput);
    }
    TailProbability::of(&student::upper_tail(
        DoubleDouble::from(t),
        DoubleDouble::from(df),
    ))
}

/// The z with P(Z > z) = p.
pub fn norm_isf(p: f64) -> Deviate {
    if is_share(p) {
        Deviate::of(normal::upper_quantile(p))
    } else {
        Deviate::empty(Status::InvalidInput)
    }
}

/// The t with P(T > t) = p.
pub fn t_isf(p: f64, df: f64) -> Deviate {
    if is_share(p) && df > 0.0 {
        Deviate::of(student::upper_quantile(p, df))
    } else {
        Deviate::empty(Status::InvalidInput)
    }
}

/// Count, mean and variance of the first value of a state.
pub fn moments(state: &State) -> MomentSummary {
    let counts = MomentSummary {
        n: finite(state.n as f64),
        nulls: i64::try_from(state.nulls).ok(),
        ..MomentSummary::default()
    };
    match Sample::of_state(state, 0) {
        Err(status) => MomentSummary { status, ..counts },
        Ok(_) if state.n == 0 => MomentSummary {
            status: Status::InsufficientData,
            ..counts
        },
        Ok(sample) => MomentSummary {
            mean: finite(sample.mean.value()),
            var: if state.n > 1 {
                finite(sample.variance.value())
            } else {
                None
            },
            se: if state.n > 1 {
                finite(sample.variance_of_mean().sqrt().value())
            } else {
                None
            },
            sum: finite((sample.mean * sample.n).value()),
            min: finite(state.min[0]),
            max: finite(state.max[0]),
            status: if state.n > 1 {
                Status::Ok
            } else {
                Status::InsufficientData
            },
            ..counts
        },
    }
}

record! {
    /// A tail probability.
    pub struct TailProbability {
        sf: Number,
        log10_sf: Number,
    }
}

impl TailProbability {
    fn of(tail: &Tail) -> Self {
        let log10_sf = finite(tail.log10_p());
        let status = if log10_sf.is_some() {
            Status::Ok
        } else {
            Status::Overflow
        };
        Self {
            sf: finite(tail.p()),
            log10_sf,
            status,
        }
    }
}

record! {
    /// A quantile.
    pub struct Deviate {
        x: Number,
    }
}

impl Deviate {
    fn of(x: f64) -> Self {
        Self {
            x: finite(x),
            status: if x.is_finite() {
                Status::Ok
            } else {
                Status::Overflow
            },
        }
    }
}

record! {
    /// The moments of one value.
    pub struct MomentSummary {
        n: Number,
        nulls: Option<i64>,
        mean: Number,
        /// Divisor n - 1.
        var: Number,
        /// Standard error of the mean.
        se: Number,
        sum: Number,
        min: Number,
        max: Number,
    }
}
