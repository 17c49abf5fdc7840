{# One row per experiment, metric, version of the metric, treatment and segment: the treatment compared with the control,
   adjusted by the covariate where that narrows the interval. An experiment that started with an older version of a metric has
   a row of that version, which is decisive, and one of today's. `aggregates`: the rows of `metric_aggregates`. #}
{% macro experiment_results(aggregates) %}
with aggregates as (
    select * from {{ aggregates }}
),

experiments as (
    select * from {{ experiment_definitions() }}
),

roles as (
    select * from {{ experiment_metrics() }}
),

-- Each treatment beside the control of the same experiment, metric and segment.
pairs as (
    select
        treatments.experiment_key,
        treatments.metric_name,
        treatments.metric_version,
        treatments.variant,
        controls.variant as control_variant,
        treatments.segment_dimension,
        treatments.segment,
        roles.role,
        roles.margin,
        roles.is_decisive,
        roles.kind,
        roles.direction,
        roles.has_covariate,
        experiments.alpha,
        controls.state as control_state,
        treatments.state as treatment_state,
        controls.before_state as control_before_state,
        treatments.before_state as treatment_before_state
    from aggregates as treatments
    inner join experiments
        on experiments.experiment_key = treatments.experiment_key
        and experiments.control_variant <> treatments.variant
    inner join aggregates as controls
        on controls.experiment_key = treatments.experiment_key
        and controls.variant = experiments.control_variant
        and controls.metric_name = treatments.metric_name
        and controls.metric_version = treatments.metric_version
        and controls.segment_dimension = treatments.segment_dimension
        and controls.segment = treatments.segment
    inner join roles
        on roles.experiment_key = treatments.experiment_key
        and roles.metric_name = treatments.metric_name
        and roles.metric_version = treatments.metric_version
),

mean_tests as (
    select
        *,
        welch_t(control_state, treatment_state, alpha) as test,
        relative_lift_delta_t(control_state, treatment_state, alpha) as relative,
        welch_t(control_before_state, treatment_before_state, alpha) as before,
        cuped_single_within_theta(control_state, treatment_state, alpha) as adjusted,
        cuped_rel_exact_gradient_within_theta(control_state, treatment_state, alpha) as adjusted_relative
    from pairs
    where kind <> 'ratio'
),

ratio_tests as (
    select
        *,
        ratio_delta_welch(control_state, treatment_state, alpha) as test,
        ratio_delta_rel(control_state, treatment_state, alpha) as relative,
        ratio_delta_welch(control_before_state, treatment_before_state, alpha) as before,
        cuped_ratio_within_theta(control_state, treatment_state, alpha) as adjusted
    from pairs
    where kind = 'ratio'
),

-- Cross products stand row by row above the diagonal: of two values, (value, value), (value, before), (before, before).
mean_numbers as (
    select
        *,
        -- Of no unit there is no mean.
        case when control_state['n'] > 0 then control_state['mean'][1] end as control_value,
        case when treatment_state['n'] > 0 then treatment_state['mean'][1] end as treatment_value,
        -- A quantile is no quotient.
        case when kind <> 'quantile' then control_state['mean'][1] * control_state['n'] end as control_numerator,
        case when kind <> 'quantile' then treatment_state['mean'][1] * treatment_state['n'] end as treatment_numerator,
        case when kind <> 'quantile' then cast(control_state['n'] as double) end as control_denominator,
        case when kind <> 'quantile' then cast(treatment_state['n'] as double) end as treatment_denominator,
        control_state['cross_products'][1] / nullif(control_state['n'] - 1, 0) as control_variance,
        treatment_state['cross_products'][1] / nullif(treatment_state['n'] - 1, 0) as treatment_variance,
        control_state['cross_products'][1] + treatment_state['cross_products'][1] as value_square,
        control_state['cross_products'][2] + treatment_state['cross_products'][2] as value_before_product,
        control_state['cross_products'][3] + treatment_state['cross_products'][3] as before_square
    from mean_tests
),

means as (
    select
        experiment_key, metric_name, metric_version, variant, control_variant, segment_dimension, segment, role, margin, is_decisive,
        kind, direction, alpha,
        control_state['n'] as control_units,
        treatment_state['n'] as treatment_units,
        control_state['non_finite'] + treatment_state['non_finite'] as non_finite,
        control_numerator, control_denominator, treatment_numerator, treatment_denominator,
        control_value, treatment_value, control_variance, treatment_variance,
        test['effect'] as raw_effect,
        test['se'] as raw_standard_error,
        test['ci_low'] as raw_effect_low,
        test['ci_high'] as raw_effect_high,
        test['p_two_sided'] as raw_p_value,
        relative['lift'] as raw_lift,
        relative['ci_low'] as raw_lift_low,
        relative['ci_high'] as raw_lift_high,
        test['status'] as status,
        before['effect'] as before_effect,
        before['p_two_sided'] as before_p_value,
        case when has_covariate then adjusted['effect'] end as adjusted_effect,
        case when has_covariate then adjusted['se'] end as adjusted_standard_error,
        case when has_covariate then adjusted['ci_low'] end as adjusted_effect_low,
        case when has_covariate then adjusted['ci_high'] end as adjusted_effect_high,
        case when has_covariate then adjusted['p_two_sided'] end as adjusted_p_value,
        case when has_covariate then adjusted_relative['lift'] end as adjusted_lift,
        case when has_covariate then adjusted_relative['ci_low'] end as adjusted_lift_low,
        case when has_covariate then adjusted_relative['ci_high'] end as adjusted_lift_high,
        value_before_product / nullif(sqrt(value_square) * sqrt(before_square), 0) as before_correlation
    from mean_numbers
),

ratios as (
    select
        experiment_key, metric_name, metric_version, variant, control_variant, segment_dimension, segment, role, margin, is_decisive,
        kind, direction, alpha,
        control_state['n'] as control_units,
        treatment_state['n'] as treatment_units,
        control_state['non_finite'] + treatment_state['non_finite'] as non_finite,
        control_state['mean'][1] * control_state['n'] as control_numerator,
        control_state['mean'][2] * control_state['n'] as control_denominator,
        treatment_state['mean'][1] * treatment_state['n'] as treatment_numerator,
        treatment_state['mean'][2] * treatment_state['n'] as treatment_denominator,
        -- An arm has its ratio also where the other has none.
        coalesce(test['ratio1'], control_state['mean'][1] / nullif(control_state['mean'][2], 0)) as control_value,
        coalesce(test['ratio2'], treatment_state['mean'][1] / nullif(treatment_state['mean'][2], 0)) as treatment_value,
        test['uvar1'] as control_variance,
        test['uvar2'] as treatment_variance,
        test['effect'] as raw_effect,
        test['se'] as raw_standard_error,
        test['ci_low'] as raw_effect_low,
        test['ci_high'] as raw_effect_high,
        test['p_two_sided'] as raw_p_value,
        relative['lift'] as raw_lift,
        relative['ci_low'] as raw_lift_low,
        relative['ci_high'] as raw_lift_high,
        test['status'] as status,
        before['effect'] as before_effect,
        before['p_two_sided'] as before_p_value,
        case when has_covariate then adjusted['effect'] end as adjusted_effect,
        case when has_covariate then adjusted['se'] end as adjusted_standard_error,
        case when has_covariate then adjusted['ci_low'] end as adjusted_effect_low,
        case when has_covariate then adjusted['ci_high'] end as adjusted_effect_high,
        case when has_covariate then adjusted['p_two_sided'] end as adjusted_p_value,
        cast(null as double) as adjusted_lift,
        cast(null as double) as adjusted_lift_low,
        cast(null as double) as adjusted_lift_high,
        cast(null as double) as before_correlation
    from ratio_tests
),

tested as (
    select * from means
    union all
    select * from ratios
),

-- Chosen by the variance alone, which says nothing about the effect; where the values before explain all of it, there is no
-- test of what is left, and the unadjusted numbers stand. A relative effect of an adjusted ratio is not
-- computed, so a ratio is decided by its unadjusted numbers.
judged as (
    select
        *,
        1 - power(adjusted_standard_error / nullif(raw_standard_error, 0), 2) as variance_reduction,
        mde_z(control_variance, treatment_variance, control_units, treatment_units, alpha, {{ var('power', 0.8) }})['mde']
            as detectable_effect,
        coalesce(
            kind <> 'ratio'
            and adjusted_p_value is not null
            and 1 - power(adjusted_standard_error / nullif(raw_standard_error, 0), 2) >= {{ var('least_variance_reduction', 0.01) }},
            false
        ) as is_adjusted
    from tested
)

select
    experiment_key,
    metric_name,
    metric_version,
    variant,
    control_variant,
    segment_dimension,
    segment,
    role,
    is_decisive,
    kind,
    direction,
    margin,
    alpha,
    control_units,
    treatment_units,
    round(control_numerator, 6) as control_numerator,
    round(control_denominator, 6) as control_denominator,
    round(treatment_numerator, 6) as treatment_numerator,
    round(treatment_denominator, 6) as treatment_denominator,
    control_value,
    treatment_value,
    is_adjusted,
    case when is_adjusted then adjusted_effect else raw_effect end as effect,
    case when is_adjusted then adjusted_standard_error else raw_standard_error end as standard_error,
    case when is_adjusted then adjusted_effect_low else raw_effect_low end as effect_low,
    case when is_adjusted then adjusted_effect_high else raw_effect_high end as effect_high,
    case when is_adjusted then adjusted_p_value else raw_p_value end as p_value,
    case when is_adjusted then adjusted_lift else raw_lift end as lift,
    case when is_adjusted then adjusted_lift_low else raw_lift_low end as lift_low,
    case when is_adjusted then adjusted_lift_high else raw_lift_high end as lift_high,
    status,
    non_finite,
    detectable_effect,
    detectable_effect / nullif(abs(control_value), 0) as detectable_lift,
    before_effect,
    before_p_value,
    before_correlation,
    variance_reduction,
    raw_effect,
    raw_p_value,
    adjusted_effect,
    adjusted_p_value
from judged
order by experiment_key, metric_name, metric_version, variant, segment_dimension, segment
{% endmacro %}
