//! The list of scalar functions: which method of the library each name calls, with which parameters.
//! In: opened [`Arguments`]. Out: one function per method, its name that of the method, its struct's fields those of the record.

mod arms;
mod lists;
mod looks;
mod plans;

use super::arguments::{Arguments, Default, Kind, Parameter};
use super::scalar::{function, record_function};
use super::state_type::{state_type, write_states};
use crate::stats::distributions;
use crate::stats::sample::{Moments, Sample};
use crate::stats::state::State;
use crate::stats::status::Status;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![state_of()];
    functions.extend(basic_methods());
    functions.extend(arms::all());
    functions.extend(looks::all());
    functions.extend(plans::all());
    functions.extend(lists::all());
    functions
}

const ALPHA: Parameter = number_or("alpha", 0.05);
const ARMS: &[Parameter] = &[
    of_kind("control", Kind::State),
    of_kind("treatment", Kind::State),
    ALPHA,
];

const fn number(name: &'static str) -> Parameter {
    of_kind(name, Kind::Number)
}

const fn of_kind(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        default: None,
    }
}

const fn number_or(name: &'static str, default: f64) -> Parameter {
    Parameter {
        name,
        kind: Kind::Number,
        default: Some(Default::Number(default)),
    }
}

const fn flag_or(name: &'static str, default: bool) -> Parameter {
    Parameter {
        name,
        kind: Kind::Flag,
        default: Some(Default::Flag(default)),
    }
}

const fn text_or(name: &'static str, default: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Text,
        default: Some(Default::Text(default)),
    }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        default: Some(Default::Nothing),
    }
}

/// `state_of(n, mean, variance)`: a state from known moments.
fn state_of() -> Arc<ScalarUDF> {
    const PARAMETERS: &[Parameter] = &[number("n"), number("mean"), number("variance")];
    let evaluate = |arguments: &Arguments<'_>, rows: usize| {
        let states: Vec<Option<State>> =
            (0..rows).map(|row| state_of_row(arguments, row)).collect();
        write_states(&states).map(|array| Arc::new(array) as _)
    };
    function("state_of", PARAMETERS, state_type(), Arc::new(evaluate))
}

/// NULL when n is no count; a missing variance is zero cross products of less than two units.
fn state_of_row(arguments: &Arguments<'_>, row: usize) -> Option<State> {
    let [n, mean, variance] = [0, 1, 2].map(|place| arguments.number(place, row));
    let is_count = n >= 0.0 && n.fract() == 0.0 && n <= 9e15;
    let is_known = mean.is_finite() && (n < 2.0 || variance >= 0.0 && variance.is_finite());
    (is_count && (n == 0.0 || is_known))
        .then(|| State::of_moments(n as u64, if n == 0.0 { 0.0 } else { mean }, variance))
}

/// Distributions and the moments of a state.
fn basic_methods() -> Vec<Arc<ScalarUDF>> {
    const STATE: &[Parameter] = &[of_kind("state", Kind::State)];
    const Z: &[Parameter] = &[number("z")];
    const T: &[Parameter] = &[number("t"), number("df")];
    const P: &[Parameter] = &[number("p")];
    const P_T: &[Parameter] = &[number("p"), number("df")];
    vec![
        record_function("moments", STATE, |a, row| {
            Ok(distributions::moments(&a.state(0, row)))
        }),
        record_function("norm_sf", Z, |a, row| {
            Ok(distributions::norm_sf(a.number(0, row)))
        }),
        record_function("norm_isf", P, |a, row| {
            Ok(distributions::norm_isf(a.number(0, row)))
        }),
        record_function("t_sf", T, |a, row| {
            Ok(distributions::t_sf(a.number(0, row), a.number(1, row)))
        }),
        record_function("t_isf", P_T, |a, row| {
            Ok(distributions::t_isf(a.number(0, row), a.number(1, row)))
        }),
    ]
}

/// Calls a test on the first value of two states and alpha.
#[inline]
pub(super) fn with_samples<R>(
    arguments: &Arguments<'_>,
    row: usize,
    empty: fn(Status) -> R,
    test: impl Fn(&Sample, &Sample, f64) -> R,
) -> R {
    match (arguments.sample(0, row), arguments.sample(1, row)) {
        (Ok(control), Ok(treatment)) => test(&control, &treatment, arguments.number(2, row)),
        (Err(status), _) | (_, Err(status)) => empty(status),
    }
}

/// Calls a test on the first P values of two states and alpha.
#[inline]
pub(super) fn with_moments<const P: usize, R>(
    arguments: &Arguments<'_>,
    row: usize,
    empty: fn(Status) -> R,
    test: impl Fn(&Moments<P>, &Moments<P>, f64) -> R,
) -> R {
    match (arguments.moments(0, row), arguments.moments(1, row)) {
        (Ok(control), Ok(treatment)) => test(&control, &treatment, arguments.number(2, row)),
        (Err(status), _) | (_, Err(status)) => empty(status),
    }
}
