{# One row per experiment: the decision with its reasons. `experiments`: the definitions with `has_ended`; `units`: the rows
   of `experiment_units`; `sample_ratios` and `results`: the rows of the macros of these names. #}
{% macro experiment_decisions(experiments, units, sample_ratios, results) %}
with all_units as (
    select * from {{ units }}
),

experiments as (
    select * from {{ experiments }}
),

variants as (
    select * from {{ variant_definitions() }}
),

units as (
    select
        experiment_key,
        count(*) as units,
        count(*) filter (where exclusion is distinct from 'holdout') as admitted_units,
        count(*) filter (where n_variants > 1 and exclusion is distinct from 'holdout') as crossed_over_units,
        count(*) filter (where exclusion = 'unknown_variant') as unknown_variant_units,
        count(*) filter (where is_analysed) as analysed_units,
        max(assigned_at) as last_assigned_at
    from all_units
    group by experiment_key
),

variant_units as (
    select experiment_key, variant, count(*) as units
    from all_units
    where is_analysed
    group by experiment_key, variant
),

missing_variants as (
    select variants.experiment_key, count(*) filter (where variant_units.units is null) as missing_variants
    from variants
    left join variant_units
        on variant_units.experiment_key = variants.experiment_key
        and variant_units.variant = variants.variant
    group by variants.experiment_key
),

sample_ratios as (
    select * from {{ sample_ratios }} where is_decisive
),

all_results as (
    select * from {{ results }} where segment_dimension = 'all' and is_decisive
),

metric_evidence as (
    select
        experiment_key,
        array_agg(
            named_struct(
                'metric_name', metric_name,
                'variant', variant,
                'role', role,
                'direction', direction,
                'margin', margin,
                'effect', effect,
                'lift', lift,
                'lift_low', lift_low,
                'lift_high', lift_high,
                'p_value', p_value,
                'before_p_value', before_p_value,
                'non_finite', non_finite,
                'status', status
            ) order by metric_name, variant
        ) as metrics
    from all_results
    group by experiment_key
),

evidence as (
    select
        experiments.experiment_key,
        experiments.owner,
        experiments.primary_metric,
        experiments.alpha,
        experiments.crossover_limit,
        experiments.has_ended,
        sample_ratios.p_value as sample_ratio_p_value,
        coalesce(units.units, 0) as units,
        coalesce(units.analysed_units, 0) as analysed_units,
        units.crossed_over_units / cast(nullif(units.admitted_units, 0) as double) as crossed_over_share,
        missing_variants.missing_variants,
        coalesce(units.unknown_variant_units, 0) as unknown_variant_units,
        coalesce(metric_evidence.metrics, make_array()) as metrics
    from experiments
    left join units on units.experiment_key = experiments.experiment_key
    left join missing_variants on missing_variants.experiment_key = experiments.experiment_key
    left join sample_ratios on sample_ratios.experiment_key = experiments.experiment_key
    left join metric_evidence on metric_evidence.experiment_key = experiments.experiment_key
),

decided as (
    select
        *,
        decide(
            named_struct(
                'experiment_key', experiment_key,
                'has_ended', has_ended,
                'alpha', alpha,
                'sample_ratio_p_value', sample_ratio_p_value,
                'crossed_over_share', crossed_over_share,
                'crossover_limit', crossover_limit,
                'missing_variants', missing_variants,
                'unknown_variant_units', unknown_variant_units,
                'metrics', metrics
            )
        ) as verdict
    from evidence
),

primaries as (
    select * from all_results where role = 'primary'
),

-- The numbers are those of the treatment that the decision is about, or of the first one if it is about none.
ranked as (
    select
        decided.*,
        decided.verdict['decision'] as decision,
        decided.verdict['variant'] as variant,
        decided.verdict['reasons'] as reasons,
        primaries.effect,
        primaries.effect_low,
        primaries.effect_high,
        primaries.p_value,
        primaries.lift,
        primaries.lift_low,
        primaries.lift_high,
        row_number() over (
            partition by decided.experiment_key
            order by case when primaries.variant = decided.verdict['variant'] then 0 else 1 end, primaries.variant
        ) as place
    from decided
    left join primaries on primaries.experiment_key = decided.experiment_key
)

select
    experiment_key,
    decision,
    variant,
    reasons,
    primary_metric,
    effect,
    effect_low,
    effect_high,
    p_value,
    lift,
    lift_low,
    lift_high,
    units,
    analysed_units,
    sample_ratio_p_value,
    crossed_over_share,
    crossover_limit,
    has_ended,
    owner
from ranked
where place = 1
order by experiment_key
{% endmacro %}
