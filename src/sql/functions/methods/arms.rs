//! Methods over the states of two arms: means, lifts, shares, covariates, strata, clusters, margins.

use super::{ALPHA, ARMS, number, of_kind, text_or, with_moments, with_samples};
use crate::sql::functions::arguments::{Arguments, Kind, Parameter};
use crate::sql::functions::scalar::record_function;
use crate::stats::clusters::{self, ClusterTest};
use crate::stats::cuped::{self, ThetaRule};
use crate::stats::cuped_multi::{cuped_multi, cuped_multi_interacted};
use crate::stats::mean_tests::{self, MeanTest, ZTest};
use crate::stats::non_inferiority::{self, Direction, NonInferiority};
use crate::stats::sample::Sample;
use crate::stats::status::Status;
use crate::stats::strata::{self, PostStratified};
use crate::stats::{lift, proportions, ratio};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = mean_methods();
    functions.extend(lift_methods());
    functions.extend(proportion_methods());
    functions.extend(covariate_methods());
    functions.extend(stratum_methods());
    functions.extend(margin_methods());
    functions
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
        record_function("cuped_ratio_rel_exact_gradient", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                lift::RelativeLift::empty,
                |c, t, alpha| {
                    cuped::cuped_ratio_rel_exact_gradient(c, t, ThetaRule::WithinArms, alpha)
                },
            ))
        }),
        record_function("cuped_multi_pooled_theta", ARMS, |a, row| {
            Ok(cuped_multi(
                &a.state(0, row),
                &a.state(1, row),
                ThetaRule::Concatenated,
                a.number(2, row),
            ))
        }),
        record_function("cuped_multi_within_theta", ARMS, |a, row| {
            Ok(cuped_multi(
                &a.state(0, row),
                &a.state(1, row),
                ThetaRule::WithinArms,
                a.number(2, row),
            ))
        }),
        record_function("cuped_multi_interacted", ARMS, |a, row| {
            Ok(cuped_multi_interacted(
                &a.state(0, row),
                &a.state(1, row),
                a.number(2, row),
            ))
        }),
    ]
}

/// Strata and clusters. The lists of control and treatment states must be in the same order of strata.
fn stratum_methods() -> Vec<Arc<ScalarUDF>> {
    const STRATA: &[Parameter] = &[
        of_kind("controls", Kind::States),
        of_kind("treatments", Kind::States),
        ALPHA,
    ];
    fn stratified(
        arguments: &Arguments<'_>,
        row: usize,
        method: fn(&[(Sample, Sample)], f64) -> PostStratified,
    ) -> Result<PostStratified> {
        let (controls, treatments) = (arguments.states(0, row)?, arguments.states(1, row)?);
        if controls.len() != treatments.len() {
            return Ok(PostStratified::empty(Status::InvalidInput));
        }
        let sample = |state| {
            if state == &Default::default() {
                Ok(Sample::new(0.0, 0.0, f64::NAN))
            } else {
                Sample::of_state(state, 0)
            }
        };
        let pairs = controls
            .iter()
            .zip(&treatments)
            .map(|(control, treatment)| Ok((sample(control)?, sample(treatment)?)));
        Ok(
            match pairs.collect::<std::result::Result<Vec<_>, Status>>() {
                Ok(strata) => method(&strata, arguments.number(2, row)),
                Err(status) => PostStratified::empty(status),
            },
        )
    }
    vec![
        record_function("post_strat_fixed_weights", STRATA, |a, row| {
            stratified(a, row, strata::post_strat_fixed_weights)
        }),
        record_function("post_strat_random_weights", STRATA, |a, row| {
            stratified(a, row, strata::post_strat_random_weights)
        }),
        record_function("cluster_delta", ARMS, |a, row| {
            Ok(with_moments(
                a,
                row,
                ClusterTest::empty,
                clusters::cluster_delta,
            ))
        }),
    ]
}

fn margin_methods() -> Vec<Arc<ScalarUDF>> {
    const MARGIN: &[Parameter] = &[
        ARMS[0],
        ARMS[1],
        number("nim_relative"),
        text_or("direction", "increase_good"),
        ALPHA,
    ];
    type Method = fn(&Sample, &Sample, f64, Direction, f64) -> NonInferiority;
    fn with_margin(
        arguments: &Arguments<'_>,
        row: usize,
        method: Method,
    ) -> Result<NonInferiority> {
        let Some(direction) = Direction::named(arguments.text(3, row)) else {
            return Ok(NonInferiority::empty(Status::InvalidInput));
        };
        Ok(match (arguments.sample(0, row), arguments.sample(1, row)) {
            (Ok(control), Ok(treatment)) => method(
                &control,
                &treatment,
                arguments.number(2, row),
                direction,
                arguments.number(4, row),
            ),
            (Err(status), _) | (_, Err(status)) => NonInferiority::empty(status),
        })
    }
    vec![
        record_function("non_inferiority_fixed_margin", MARGIN, |a, row| {
            with_margin(a, row, non_inferiority::non_inferiority_fixed_margin)
        }),
        record_function("non_inferiority_linear_margin", MARGIN, |a, row| {
            with_margin(a, row, non_inferiority::non_inferiority_linear_margin)
        }),
    ]
}
