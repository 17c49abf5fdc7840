//! Methods over lists: raw values (from array_agg), families of p values, effects of segments and days.
//! None of them depends on the order of its raw values; lists that belong together must be in the same order.

use super::{ALPHA, flag_or, number, number_or, of_kind};
use crate::sql::functions::arguments::{Arguments, Kind, Parameter};
use crate::sql::functions::scalar::{function, record_function};
use crate::sql::functions::state_type::{state_type, write_states};
use crate::stats::corrections::{self, Adjusted};
use crate::stats::mean_tests::ZTest;
use crate::stats::quantiles::{self, ClusteredQuantile};
use crate::stats::resampling::{self, Bootstrap, Unit};
use crate::stats::status::Status;
use crate::stats::{calibration, funnel, heterogeneity, random, ranks};
use datafusion::arrow::array::Int64Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut functions = quantile_methods();
    functions.extend(resampling_methods());
    functions.extend(family_methods());
    functions.extend(difference_methods());
    functions.push(unit_key());
    functions.push(quantile_state());
    functions.push(steps_reached());
    functions
}

const X1: Parameter = of_kind("x1", Kind::Numbers);
const X2: Parameter = of_kind("x2", Kind::Numbers);

fn quantile_methods() -> Vec<Arc<ScalarUDF>> {
    const VALUES: Parameter = of_kind("values", Kind::Numbers);
    const AT_SHARE: &[Parameter] = &[VALUES, number("q")];
    const AT_CAP: &[Parameter] = &[VALUES, number("cap")];
    const ESTIMATE: &[Parameter] = &[VALUES, number("nu"), optional_list("clusters")];
    const TEST: &[Parameter] = &[
        X1,
        X2,
        number("nu"),
        ALPHA,
        optional_list("clusters1"),
        optional_list("clusters2"),
    ];
    const CLUSTERED: &[Parameter] = &[
        number("n_events"),
        number("n_star"),
        number("nu"),
        number("q_lower"),
        number("q_upper"),
        number("n_clusters"),
        number("s_sum"),
        number("s_ss"),
        number("n_sum"),
        number("n_ss"),
        number("sn_sp"),
    ];
    vec![
        record_function("winsorize_upper", AT_SHARE, |a, row| {
            Ok(quantiles::winsorize_upper(
                &a.numbers(0, row),
                a.number(1, row),
            ))
        }),
        record_function("winsorize_at", AT_CAP, |a, row| {
            Ok(quantiles::winsorize_at(
                &a.numbers(0, row),
                a.number(1, row),
            ))
        }),
        record_function("quantile_estimate", ESTIMATE, |a, row| {
            Ok(quantiles::quantile_estimate(
                &a.numbers(0, row),
                &a.numbers(2, row),
                a.number(1, row),
            ))
        }),
        record_function("quantile_test", TEST, |a, row| -> Result<ZTest> {
            let nu = a.number(2, row);
            let control = quantiles::quantile_estimate(&a.numbers(0, row), &a.numbers(4, row), nu);
            let treatment =
                quantiles::quantile_estimate(&a.numbers(1, row), &a.numbers(5, row), nu);
            Ok(quantiles::quantile_test(
                &control,
                &treatment,
                a.number(3, row),
            ))
        }),
        record_function("quantile_var_clustered", CLUSTERED, |a, row| {
            let [n_events, n_star, nu, q_lower, q_upper, n_clusters] =
                [0, 1, 2, 3, 4, 5].map(|place| a.number(place, row));
            let [s_sum, s_ss, n_sum, n_ss, sn_sp] =
                [6, 7, 8, 9, 10].map(|place| a.number(place, row));
            Ok(quantiles::quantile_var_clustered(&ClusteredQuantile {
                n_events,
                n_star,
                nu,
                q_lower,
                q_upper,
                n_clusters,
                s_sum,
                s_ss,
                n_sum,
                n_ss,
                sn_sp,
            }))
        }),
    ]
}

/// Keys are whole numbers (see `unit_key`), so that a unit's weight depends on nothing but seed, unit and replicate.
fn resampling_methods() -> Vec<Arc<ScalarUDF>> {
    const RANKS: &[Parameter] = &[X1, X2, flag_or("continuity", true)];
    const EXACT: &[Parameter] = &[X1, X2];
    const SAMPLED: &[Parameter] = &[
        X1,
        X2,
        number_or("permutations", 9999.0),
        number_or("seed", 0.0),
    ];
    const BOOTSTRAP: &[Parameter] = &[
        of_kind("keys1", Kind::Numbers),
        X1,
        of_kind("keys2", Kind::Numbers),
        X2,
        number_or("replicates", 1000.0),
        number_or("seed", 0.0),
        ALPHA,
    ];
    const RESALT: &[Parameter] = &[
        of_kind("keys", Kind::Numbers),
        of_kind("values", Kind::Numbers),
        number_or("salts", 1000.0),
        number_or("seed", 0.0),
        number_or("share", 0.5),
    ];
    vec![
        record_function("mann_whitney_u", RANKS, |a, row| {
            Ok(ranks::mann_whitney_u(
                &a.numbers(0, row),
                &a.numbers(1, row),
                a.flag(2, row),
            ))
        }),
        record_function("permutation_exact_mean_diff", EXACT, |a, row| {
            Ok(resampling::permutation_exact_mean_diff(
                &a.numbers(0, row),
                &a.numbers(1, row),
            ))
        }),
        record_function("permutation_sampled", SAMPLED, |a, row| {
            let (permutations, seed) = (a.number(2, row) as u32, a.number(3, row) as u64);
            Ok(resampling::permutation_sampled(
                &a.numbers(0, row),
                &a.numbers(1, row),
                permutations,
                seed,
            ))
        }),
        record_function("poisson_bootstrap", BOOTSTRAP, |a, row| {
            Ok(match (units(a, 0, 1, row), units(a, 2, 3, row)) {
                (Some(control), Some(treatment)) => {
                    let (replicates, seed) = (a.number(4, row) as u32, a.number(5, row) as u64);
                    resampling::poisson_bootstrap(
                        &control,
                        &treatment,
                        replicates,
                        seed,
                        a.number(6, row),
                    )
                }
                _ => Bootstrap::empty(Status::InvalidInput),
            })
        }),
        record_function("aa_p_values", RESALT, |a, row| {
            let units = units(a, 0, 1, row).unwrap_or_default();
            Ok(calibration::aa_resalted(
                &units,
                a.number(2, row) as u32,
                a.number(3, row) as u64,
                a.number(4, row),
            ))
        }),
    ]
}

fn family_methods() -> Vec<Arc<ScalarUDF>> {
    const FAMILY: &[Parameter] = &[of_kind("p", Kind::Numbers)];
    const GATES: &[Parameter] = &[FAMILY[0], of_kind("gates", Kind::Numbers), ALPHA];
    const LEVEL: &[Parameter] = &[FAMILY[0], ALPHA];
    fn adjusted(
        arguments: &Arguments<'_>,
        row: usize,
        method: fn(&[f64]) -> Adjusted,
    ) -> Result<Adjusted> {
        Ok(method(&arguments.numbers(0, row)))
    }
    vec![
        record_function("adjust_bonferroni", FAMILY, |a, row| {
            adjusted(a, row, corrections::adjust_bonferroni)
        }),
        record_function("adjust_holm", FAMILY, |a, row| {
            adjusted(a, row, corrections::adjust_holm)
        }),
        record_function("adjust_hochberg", FAMILY, |a, row| {
            adjusted(a, row, corrections::adjust_hochberg)
        }),
        record_function("adjust_bh", FAMILY, |a, row| {
            adjusted(a, row, corrections::adjust_bh)
        }),
        record_function("adjust_by", FAMILY, |a, row| {
            adjusted(a, row, corrections::adjust_by)
        }),
        record_function("gatekeeping", GATES, |a, row| {
            Ok(corrections::gatekeeping(
                &a.numbers(0, row),
                &a.numbers(1, row),
                a.number(2, row),
            ))
        }),
        record_function("aa_calibration", LEVEL, |a, row| {
            Ok(calibration::aa_calibration(
                &a.numbers(0, row),
                a.number(1, row),
            ))
        }),
    ]
}

fn difference_methods() -> Vec<Arc<ScalarUDF>> {
    const SEGMENTS: &[Parameter] = &[
        of_kind("effects", Kind::Numbers),
        of_kind("ses", Kind::Numbers),
    ];
    const DAYS: &[Parameter] = &[
        of_kind("days", Kind::Numbers),
        SEGMENTS[0],
        SEGMENTS[1],
        ALPHA,
    ];
    const CELLS: &[Parameter] = &[
        of_kind("cc", Kind::State),
        of_kind("ct", Kind::State),
        of_kind("tc", Kind::State),
        of_kind("tt", Kind::State),
        ALPHA,
    ];
    const TABLE: &[Parameter] = &[of_kind("table", Kind::NumberLists)];
    vec![
        record_function("segment_heterogeneity_q", SEGMENTS, |a, row| {
            Ok(heterogeneity::segment_heterogeneity_q(
                &a.numbers(0, row),
                &a.numbers(1, row),
            ))
        }),
        record_function("novelty_trend", DAYS, |a, row| {
            Ok(heterogeneity::novelty_trend(
                &a.numbers(0, row),
                &a.numbers(1, row),
                &a.numbers(2, row),
                a.number(3, row),
            ))
        }),
        record_function("interaction_2x2", CELLS, |a, row| {
            Ok(
                match (
                    a.sample(0, row),
                    a.sample(1, row),
                    a.sample(2, row),
                    a.sample(3, row),
                ) {
                    (Ok(cc), Ok(ct), Ok(tc), Ok(tt)) => {
                        heterogeneity::interaction_2x2(&cc, &ct, &tc, &tt, a.number(4, row))
                    }
                    (Err(status), ..)
                    | (_, Err(status), ..)
                    | (_, _, Err(status), _)
                    | (.., Err(status)) => ZTest::empty(status),
                },
            )
        }),
        record_function("assignment_dependence", TABLE, |a, row| {
            Ok(heterogeneity::assignment_dependence(
                &a.number_lists(0, row)?,
            ))
        }),
    ]
}

/// `unit_key(text)`: a stable whole number of 53 bits for a unit's identifier, exact in a double.
fn unit_key() -> Arc<ScalarUDF> {
    const PARAMETERS: &[Parameter] = &[of_kind("unit", Kind::Text)];
    let evaluate = |arguments: &Arguments<'_>, rows: usize| {
        let keys =
            (0..rows).map(|row| i64::try_from(random::unit_key(arguments.text(0, row)) >> 11).ok());
        Ok(Arc::new(keys.collect::<Int64Array>()) as _)
    };
    function("unit_key", PARAMETERS, DataType::Int64, Arc::new(evaluate))
}

/// `quantile_state(values_of_units, q)`: a quantile as a state that tests of means read.
fn quantile_state() -> Arc<ScalarUDF> {
    const PARAMETERS: &[Parameter] = &[of_kind("units", Kind::NumberLists), number("q")];
    let evaluate = |arguments: &Arguments<'_>, rows: usize| {
        let state = |row| {
            let units = arguments.number_lists(0, row)?;
            Ok(Some(quantiles::quantile_state(
                &units,
                arguments.number(1, row),
            )))
        };
        let states = (0..rows).map(state).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(write_states(&states)?) as _)
    };
    function(
        "quantile_state",
        PARAMETERS,
        state_type(),
        Arc::new(evaluate),
    )
}

/// `steps_reached(rows)`: how many steps were gone in their order. A row is its time and a number: bit k says that it is step
/// k + 1. A row takes a unit one step further at most.
fn steps_reached() -> Arc<ScalarUDF> {
    const PARAMETERS: &[Parameter] = &[of_kind("rows", Kind::NumberLists)];
    let evaluate = |arguments: &Arguments<'_>, rows: usize| {
        let steps = |row| {
            let rows = arguments.number_lists(0, row)?;
            let parts = |row: &Vec<f64>| Some((*row.first()?, *row.get(1)? as u64));
            let mut events: Vec<(f64, u64)> = rows.iter().filter_map(parts).collect();
            events.sort_by(|one, other| one.0.total_cmp(&other.0));
            Ok(Some(i64::from(funnel::steps_reached(&events))))
        };
        let steps = (0..rows).map(steps).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Int64Array::from(steps)) as _)
    };
    function(
        "steps_reached",
        PARAMETERS,
        DataType::Int64,
        Arc::new(evaluate),
    )
}

const fn optional_list(name: &'static str) -> Parameter {
    super::optional(name, Kind::Numbers)
}

/// Keys and values as units; `None` when the lists differ in length or a key is no whole number.
fn units(arguments: &Arguments<'_>, keys: usize, values: usize, row: usize) -> Option<Vec<Unit>> {
    let (keys, values) = (arguments.numbers(keys, row), arguments.numbers(values, row));
    let are_whole = keys.iter().all(|key| *key >= 0.0 && key.fract() == 0.0);
    let pairs = keys.iter().zip(&values).map(|(key, value)| Unit {
        key: *key as u64,
        value: *value,
    });
    (keys.len() == values.len() && are_whole).then(|| pairs.collect())
}
