//! The list of scalar functions: which method of the library each name calls, with which parameters.

use super::arguments::{Arguments, Default, Kind, Parameter};
use super::scalar::{function, record_function};
use super::state_type::{state_type, write_states};
use crate::stats::cuped::{self, ThetaRule};
use crate::stats::mean_tests::{self, MeanTest, ZTest};
use crate::stats::sample::{Moments, Sample};
use crate::stats::state::State;
use crate::stats::status::Status;
use crate::stats::{lift, power, proportions, ratio, sample_ratio};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![state_of()];
    functions.extend(mean_methods());
    functions.extend(lift_methods());
    functions.extend(proportion_methods());
    functions.extend(covariate_methods());
    functions.extend(sample_ratio_methods());
    functions.extend(planning_methods());
    functions
}

const fn number(name: &'static str) -> Parameter {
    Parameter {
        name,
        kind: Kind::Number,
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

const fn of_kind(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        default: None,
    }
}

const ALPHA: Parameter = number_or("alpha", 0.05);
const ARMS: &[Parameter] = &[
    of_kind("control", Kind::State),
    of_kind("treatment", Kind::State),
    ALPHA,
];

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

fn mean_methods() -> Vec<Arc<ScalarUDF>> {
    vec![
        record_function("welch_t", ARMS, |a, row| {
            Ok(with_samples(a, row, MeanTest::empty, mean_tests::welch_t))
        }),
        record_function("student_t", ARMS, |a, row| {
            Ok(with_samples(a, row, MeanTest::empty, mean_tests::student_t))
        }),
        record_function("z_test_unpooled", ARMS, |a, row| {
            Ok(with_samples(
                a,
                row,
                ZTest::empty,
                mean_tests::z_test_unpooled,
            ))
        }),
        record_function("ratio_delta_welch", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                ratio::RatioTest::empty,
                ratio::ratio_delta_welch,
            ))
        }),
    ]
}

fn lift_methods() -> Vec<Arc<ScalarUDF>> {
    vec![
        record_function("relative_lift_delta_t", ARMS, |a, row| {
            Ok(with_samples(
                a,
                row,
                lift::RelativeLift::empty,
                lift::relative_lift_delta_t,
            ))
        }),
        record_function("relative_lift_delta_z", ARMS, |a, row| {
            Ok(with_samples(
                a,
                row,
                lift::RelativeLift::empty,
                lift::relative_lift_delta_z,
            ))
        }),
        record_function("relative_lift_log_t", ARMS, |a, row| {
            Ok(with_samples(
                a,
                row,
                lift::LogLift::empty,
                lift::relative_lift_log_t,
            ))
        }),
        record_function("relative_lift_fieller_z", ARMS, |a, row| {
            Ok(with_samples(
                a,
                row,
                lift::FiellerLift::empty,
                lift::relative_lift_fieller_z,
            ))
        }),
        record_function("ratio_delta_rel", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                lift::RelativeLift::empty,
                |control, treatment, alpha| match (
                    ratio::ratio_sample(control),
                    ratio::ratio_sample(treatment),
                ) {
                    (Ok(control), Ok(treatment)) => {
                        lift::relative_lift_delta_t(&control, &treatment, alpha)
                    }
                    (Err(status), _) | (_, Err(status)) => lift::RelativeLift::empty(status),
                },
            ))
        }),
    ]
}

fn proportion_methods() -> Vec<Arc<ScalarUDF>> {
    const COUNTS: &[Parameter] = &[
        number("x1"),
        number("n1"),
        number("x2"),
        number("n2"),
        ALPHA,
    ];
    const TABLE: &[Parameter] = &[of_kind("table", Kind::NumberLists)];
    fn counts<R>(
        arguments: &Arguments<'_>,
        row: usize,
        test: fn(f64, f64, f64, f64, f64) -> R,
    ) -> Result<R> {
        let [x1, n1, x2, n2, alpha] = [0, 1, 2, 3, 4].map(|place| arguments.number(place, row));
        Ok(test(x1, n1, x2, n2, alpha))
    }
    vec![
        record_function("prop_z_pooled", COUNTS, |a, row| {
            counts(a, row, proportions::prop_z_pooled)
        }),
        record_function("prop_z_unpooled", COUNTS, |a, row| {
            counts(a, row, proportions::prop_z_unpooled)
        }),
        record_function("prop_welch_ml_var", COUNTS, |a, row| {
            counts(a, row, proportions::prop_welch_ml_var)
        }),
        record_function("prop_welch_unbiased_var", COUNTS, |a, row| {
            counts(a, row, proportions::prop_welch_unbiased_var)
        }),
        record_function("newcombe", COUNTS, |a, row| {
            counts(a, row, proportions::newcombe)
        }),
        record_function("fisher_exact", TABLE, |a, row| {
            Ok(match a.number_lists(0, row)?.as_slice() {
                [first, second] if first.len() == 2 && second.len() == 2 => {
                    proportions::fisher_exact([[first[0], first[1]], [second[0], second[1]]])
                }
                _ => proportions::Fisher::empty(Status::InvalidInput),
            })
        }),
    ]
}

/// The suffix of a name says where theta comes from: `pooled` from the concatenated arms, `within` from inside the arms.
fn covariate_methods() -> Vec<Arc<ScalarUDF>> {
    use cuped::{
        CupedRatioTest, CupedTest, cuped_ratio, cuped_rel_exact_gradient, cuped_rel_growthbook,
        cuped_single,
    };
    vec![
        record_function("cuped_single_pooled_theta", ARMS, |a, row| {
            Ok(with_moments(a, row, CupedTest::empty, |c, t, alpha| {
                cuped_single(c, t, ThetaRule::Concatenated, alpha)
            }))
        }),
        record_function("cuped_single_within_theta", ARMS, |a, row| {
            Ok(with_moments(a, row, CupedTest::empty, |c, t, alpha| {
                cuped_single(c, t, ThetaRule::WithinArms, alpha)
            }))
        }),
        record_function("cuped_rel_exact_gradient", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                lift::RelativeLift::empty,
                |c, t, alpha| cuped_rel_exact_gradient(c, t, ThetaRule::Concatenated, alpha),
            ))
        }),
        record_function("cuped_rel_exact_gradient_within_theta", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                lift::RelativeLift::empty,
                |c, t, alpha| cuped_rel_exact_gradient(c, t, ThetaRule::WithinArms, alpha),
            ))
        }),
        record_function("cuped_rel_growthbook", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                lift::RelativeLift::empty,
                |c, t, alpha| cuped_rel_growthbook(c, t, ThetaRule::Concatenated, alpha),
            ))
        }),
        record_function("cuped_ratio_pooled_theta", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                CupedRatioTest::empty,
                |c, t, alpha| cuped_ratio(c, t, ThetaRule::Concatenated, alpha),
            ))
        }),
        record_function("cuped_ratio_within_theta", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                CupedRatioTest::empty,
                |c, t, alpha| cuped_ratio(c, t, ThetaRule::WithinArms, alpha),
            ))
        }),
    ]
}

fn sample_ratio_methods() -> Vec<Arc<ScalarUDF>> {
    const COUNTS: &[Parameter] = &[
        of_kind("observed", Kind::Numbers),
        of_kind("weights", Kind::Numbers),
    ];
    const SEQUENTIAL: &[Parameter] = &[COUNTS[0], COUNTS[1], number_or("k", 100.0)];
    const LOOKS: &[Parameter] = &[
        of_kind("looks", Kind::NumberLists),
        COUNTS[1],
        SEQUENTIAL[2],
    ];
    vec![
        record_function("srm", COUNTS, |a, row| {
            Ok(sample_ratio::srm(&a.numbers(0, row), &a.numbers(1, row)))
        }),
        record_function("srm_chi2", COUNTS, |a, row| {
            Ok(sample_ratio::srm_chi2(
                &a.numbers(0, row),
                &a.numbers(1, row),
            ))
        }),
        record_function("srm_exact", COUNTS, |a, row| {
            Ok(sample_ratio::srm_exact(
                &a.numbers(0, row),
                &a.numbers(1, row),
            ))
        }),
        record_function("srm_sequential_dirichlet", SEQUENTIAL, |a, row| {
            Ok(sample_ratio::srm_sequential_dirichlet(
                &a.numbers(0, row),
                &a.numbers(1, row),
                a.number(2, row),
            ))
        }),
        record_function("srm_sequential_running", LOOKS, |a, row| {
            Ok(sample_ratio::srm_sequential_running(
                &a.number_lists(0, row)?,
                &a.numbers(1, row),
                a.number(2, row),
            ))
        }),
    ]
}

fn planning_methods() -> Vec<Arc<ScalarUDF>> {
    const POWER: Parameter = number_or("power", 0.8);
    const SIZES: [Parameter; 4] = [number("var1"), number("var2"), number("n1"), number("n2")];
    const POWER_Z: &[Parameter] = &[
        SIZES[0],
        SIZES[1],
        SIZES[2],
        SIZES[3],
        number("effect"),
        ALPHA,
    ];
    const POWER_T: &[Parameter] = &[number("effect_size_d"), number("n1"), number("n2"), ALPHA];
    const SIZE_Z: &[Parameter] = &[
        SIZES[0],
        SIZES[1],
        number("effect"),
        ALPHA,
        POWER,
        number_or("ratio", 1.0),
    ];
    const SIZE_CUPED: &[Parameter] = &[
        SIZES[0],
        SIZES[1],
        number("effect"),
        ALPHA,
        POWER,
        number_or("ratio", 1.0),
        number("rho"),
    ];
    const SIZE_SHARES: &[Parameter] = &[number("p1"), number("p2"), ALPHA, POWER];
    const MDE: &[Parameter] = &[SIZES[0], SIZES[1], SIZES[2], SIZES[3], ALPHA, POWER];
    const MDE_CUPED: &[Parameter] = &[
        SIZES[0],
        SIZES[1],
        SIZES[2],
        SIZES[3],
        ALPHA,
        POWER,
        number("rho"),
    ];
    const DESIGN: &[Parameter] = &[
        number("success_metrics"),
        number("guardrail_metrics"),
        number("treatments"),
        ALPHA,
        POWER,
    ];
    vec![
        record_function("power_z_two_sided", POWER_Z, |a, row| {
            let [var1, var2, n1, n2, effect, alpha] =
                [0, 1, 2, 3, 4, 5].map(|place| a.number(place, row));
            Ok(power::power_z_two_sided(var1, var2, n1, n2, effect, alpha))
        }),
        record_function("power_t_two_sided", POWER_T, |a, row| {
            let [effect_size, n1, n2, alpha] = [0, 1, 2, 3].map(|place| a.number(place, row));
            Ok(power::power_t_two_sided(effect_size, n1, n2, alpha))
        }),
        record_function("sample_size_z", SIZE_Z, |a, row| {
            let [var1, var2, effect, alpha, power, ratio] =
                [0, 1, 2, 3, 4, 5].map(|place| a.number(place, row));
            Ok(power::sample_size_z(
                var1, var2, effect, alpha, power, ratio,
            ))
        }),
        record_function("sample_size_z_cuped", SIZE_CUPED, |a, row| {
            let [var1, var2, effect, alpha, power, ratio, rho] =
                [0, 1, 2, 3, 4, 5, 6].map(|place| a.number(place, row));
            Ok(power::sample_size_z_cuped(
                var1, var2, effect, alpha, power, ratio, rho,
            ))
        }),
        record_function("sample_size_prop_unpooled", SIZE_SHARES, |a, row| {
            let [p1, p2, alpha, power] = [0, 1, 2, 3].map(|place| a.number(place, row));
            Ok(power::sample_size_prop_unpooled(p1, p2, alpha, power))
        }),
        record_function("mde_z", MDE, |a, row| {
            let [var1, var2, n1, n2, alpha, power] =
                [0, 1, 2, 3, 4, 5].map(|place| a.number(place, row));
            Ok(power::mde_z(var1, var2, n1, n2, alpha, power))
        }),
        record_function("mde_z_cuped", MDE_CUPED, |a, row| {
            let [var1, var2, n1, n2, alpha, power, rho] =
                [0, 1, 2, 3, 4, 5, 6].map(|place| a.number(place, row));
            Ok(power::mde_z_cuped(var1, var2, n1, n2, alpha, power, rho))
        }),
        record_function("decision_design_corrections", DESIGN, |a, row| {
            let [success, guardrail, treatments, alpha, power] =
                [0, 1, 2, 3, 4].map(|place| a.number(place, row));
            Ok(power::decision_design_corrections(
                success, guardrail, treatments, alpha, power,
            ))
        }),
    ]
}

/// Calls a test on the first value of two states and alpha.
#[inline]
fn with_samples<R>(
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
fn with_moments<const P: usize, R>(
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
