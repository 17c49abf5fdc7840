//! Methods that plan: power, sample size, detectable effect, levels per metric.

use super::{ALPHA, number, number_or};
use crate::sql::functions::arguments::Parameter;
use crate::sql::functions::scalar::record_function;
use crate::stats::power;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
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
