{# One row per experiment and population: whether its variants have the planned shares. `assignments`: the log, one row per
   assignment; `units`: the rows of `experiment_units`. #}
{% macro sample_ratio_checks(assignments, units) %}
with all_units as (
    select * from {{ units }}
),

variants as (
    select * from {{ variant_definitions() }}
),

logged as (
    select 'logged rows' as population, experiment_key, variant, count(*) as units
    from {{ assignments }}
    group by experiment_key, variant
),

assigned as (
    select 'assigned units' as population, experiment_key, variant, count(*) as units
    from all_units
    group by experiment_key, variant
),

analysed as (
    select 'analysed units' as population, experiment_key, variant, count(*) as units
    from all_units
    where is_analysed
    group by experiment_key, variant
),

counts as (
    select * from logged
    union all
    select * from assigned
    union all
    select * from analysed
),

populations as (
    select distinct experiment_key, population from counts
),

-- A planned variant without a unit counts as zero, so that a lost arm is seen.
observed as (
    select
        populations.experiment_key,
        populations.population,
        variants.variant,
        variants.share,
        coalesce(counts.units, 0) as units
    from populations
    inner join variants on variants.experiment_key = populations.experiment_key
    left join counts
        on counts.experiment_key = populations.experiment_key
        and counts.population = populations.population
        and counts.variant = variants.variant
),

lists as (
    select
        experiment_key,
        population,
        array_agg(variant order by variant) as variants,
        array_agg(share order by variant) as shares,
        array_agg(cast(units as double) order by variant) as units,
        sum(units) as total_units
    from observed
    group by experiment_key, population
),

tested as (
    select *, srm(units, shares) as test
    from lists
)

-- Looked at daily, p < 0.01 is no rare event; only p < 0.001 is an alarm.
select
    experiment_key,
    population,
    variants,
    shares,
    units,
    total_units,
    test['chi2'] as chi_square,
    test['p'] as p_value,
    test['is_exact'] as is_exact,
    case
        when test['p'] < 0.001 then 'mismatch'
        when test['p'] < 0.01 then 'warning'
        when test['p'] is null then 'untested'
        else 'ok'
    end as verdict,
    population = 'analysed units' as is_decisive
from tested
order by experiment_key, population
{% endmacro %}
