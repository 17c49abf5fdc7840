//! Methods for experiments that are looked at: sample ratios, confidence sequences, group sequential designs, Bayes.

use super::{ALPHA, flag_or, number, number_or, of_kind, text_or};
use crate::sql::functions::arguments::{Arguments, Kind, Parameter};
use crate::sql::functions::scalar::record_function;
use crate::stats::group_sequential::{
    self, GroupSequential, GroupSequentialPower, GroupSequentialTest, Sides, Spending,
};
use crate::stats::status::Status;
use crate::stats::{always_valid, bayes, sample_ratio};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = sample_ratio_methods();
    functions.extend(sequence_methods());
    functions.extend(design_methods());
    functions.extend(bayes_methods());
    functions
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

fn sequence_methods() -> Vec<Arc<ScalarUDF>> {
    const EFFECT: [Parameter; 2] = [number("effect"), number("se")];
    const SEQUENCE: &[Parameter] = &[
        EFFECT[0],
        EFFECT[1],
        number("n"),
        ALPHA,
        number_or("n_star", 5000.0),
    ];
    const MIXTURE: &[Parameter] = &[EFFECT[0], EFFECT[1], number("tau2"), ALPHA];
    vec![
        record_function("asymp_cs_two_sided", SEQUENCE, |a, row| {
            let [effect, se, n, alpha, n_star] = [0, 1, 2, 3, 4].map(|place| a.number(place, row));
            Ok(always_valid::asymp_cs_two_sided(
                effect, se, n, alpha, n_star,
            ))
        }),
        record_function("asymp_cs_one_sided", SEQUENCE, |a, row| {
            let [effect, se, n, alpha, n_star] = [0, 1, 2, 3, 4].map(|place| a.number(place, row));
            Ok(always_valid::asymp_cs_one_sided(
                effect, se, n, alpha, n_star,
            ))
        }),
        record_function("msprt_normal", MIXTURE, |a, row| {
            let [effect, se, tau2, alpha] = [0, 1, 2, 3].map(|place| a.number(place, row));
            Ok(always_valid::msprt_normal(effect, se, tau2, alpha))
        }),
    ]
}

/// The design stands in `alpha`, `spending` (obf, pocock, power, hsd), `phi` (of power and hsd) and `sides` (1 or 2).
fn design_methods() -> Vec<Arc<ScalarUDF>> {
    const DESIGN: [Parameter; 4] = [
        ALPHA,
        text_or("spending", "obf"),
        number_or("phi", 2.0),
        number_or("sides", 2.0),
    ];
    const BOUNDS: &[Parameter] = &[
        of_kind("t", Kind::Numbers),
        DESIGN[0],
        DESIGN[1],
        DESIGN[2],
        DESIGN[3],
    ];
    const TEST: &[Parameter] = &[
        number("effect"),
        number("se"),
        of_kind("t", Kind::Numbers),
        DESIGN[0],
        DESIGN[1],
        DESIGN[2],
        DESIGN[3],
    ];
    const POWER: &[Parameter] = &[
        number("drift"),
        of_kind("t", Kind::Numbers),
        DESIGN[0],
        DESIGN[1],
        DESIGN[2],
        DESIGN[3],
    ];
    const INFLATION: &[Parameter] = &[
        number_or("power", 0.8),
        of_kind("t", Kind::Numbers),
        DESIGN[0],
        DESIGN[1],
        DESIGN[2],
        DESIGN[3],
    ];
    /// Reads the design whose `alpha` stands at `first`.
    fn design(
        arguments: &Arguments<'_>,
        row: usize,
        first: usize,
        is_split: bool,
    ) -> Option<(f64, Spending, Sides)> {
        let spending = Spending::named(
            arguments.text(first + 1, row),
            arguments.number(first + 2, row),
        )?;
        let sides = Sides::named(arguments.number(first + 3, row), is_split)?;
        Some((arguments.number(first, row), spending, sides))
    }
    fn bounds(arguments: &Arguments<'_>, row: usize, is_split: bool) -> GroupSequential {
        match design(arguments, row, 1, is_split) {
            Some((alpha, spending, sides)) => {
                group_sequential::gst_bounds(&arguments.numbers(0, row), alpha, spending, sides)
            }
            None => GroupSequential::empty(Status::InvalidInput),
        }
    }
    vec![
        record_function("gst_bounds_joint", BOUNDS, |a, row| {
            Ok(bounds(a, row, false))
        }),
        record_function("gst_bounds_split", BOUNDS, |a, row| {
            Ok(bounds(a, row, true))
        }),
        record_function("gst_test", TEST, |a, row| {
            Ok(match design(a, row, 3, false) {
                Some((alpha, spending, sides)) => group_sequential::gst_test(
                    a.number(0, row),
                    a.number(1, row),
                    &a.numbers(2, row),
                    alpha,
                    spending,
                    sides,
                ),
                None => GroupSequentialTest::empty(Status::InvalidInput),
            })
        }),
        record_function("gst_power", POWER, |a, row| {
            Ok(match design(a, row, 2, false) {
                Some((alpha, spending, sides)) => group_sequential::gst_power(
                    &a.numbers(1, row),
                    alpha,
                    spending,
                    sides,
                    a.number(0, row),
                ),
                None => GroupSequentialPower::empty(Status::InvalidInput),
            })
        }),
        record_function("gst_inflation", INFLATION, |a, row| {
            Ok(match design(a, row, 2, false) {
                Some((alpha, spending, sides)) => group_sequential::gst_inflation(
                    &a.numbers(1, row),
                    alpha,
                    a.number(0, row),
                    spending,
                    sides,
                ),
                None => GroupSequentialPower::empty(Status::InvalidInput),
            })
        }),
    ]
}

fn bayes_methods() -> Vec<Arc<ScalarUDF>> {
    const NORMAL: &[Parameter] = &[
        number("effect"),
        number("se"),
        number_or("prior_mean", 0.0),
        number_or("prior_var", 1.0),
        flag_or("proper", false),
        ALPHA,
    ];
    const BETA: &[Parameter] = &[
        number("x1"),
        number("n1"),
        number("x2"),
        number("n2"),
        number_or("prior_a", 1.0),
        number_or("prior_b", 1.0),
    ];
    vec![
        record_function("bayes_normal_effect", NORMAL, |a, row| {
            let [effect, se, prior_mean, prior_var, alpha] =
                [0, 1, 2, 3, 5].map(|place| a.number(place, row));
            Ok(bayes::bayes_normal_effect(
                effect,
                se,
                prior_mean,
                prior_var,
                a.flag(4, row),
                alpha,
            ))
        }),
        record_function("bayes_beta_binomial", BETA, |a, row| {
            let [x1, n1, x2, n2, prior_a, prior_b] =
                [0, 1, 2, 3, 4, 5].map(|place| a.number(place, row));
            Ok(bayes::bayes_beta_binomial(x1, n1, x2, n2, prior_a, prior_b))
        }),
    ]
}
