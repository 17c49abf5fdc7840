{# One row per experiment and step of the waterfall from assigned to analysed units. `units`: the rows of
   `experiment_units`. #}
{% macro experiment_health(units) %}
with units as (
    select * from {{ units }}
),

assigned as (
    select
        experiment_key,
        count(*) as units,
        sum(n_assignments) as logged_rows,
        count(*) filter (where n_assignments > 1) as repeated_units,
        count(*) filter (where n_variants > 1 and exclusion is distinct from 'holdout') as crossed_over_units
    from units
    group by experiment_key
),

-- One reason per unit, the first that holds, so the steps add up.
excluded as (
    select experiment_key, exclusion as step, count(*) as units
    from units
    where exclusion is not null
    group by experiment_key, exclusion
),

steps as (
    select experiment_key, 'assigned' as step, 0 as rank, units, units as left_after from assigned
    union all
    select
        experiment_key,
        step,
        case step
            when 'holdout' then 1 when 'unknown_variant' then 2 when 'crossed_over' then 3 when 'outside_period' then 5
            else 4
        end as rank,
        units,
        -units as left_after
    from excluded
),

waterfall as (
    select
        experiment_key,
        row_number() over (partition by experiment_key order by rank, step) as step_number,
        step,
        units,
        sum(left_after) over (
            partition by experiment_key order by rank, step rows between unbounded preceding and current row
        ) as units_left
    from steps
)

select
    waterfall.experiment_key,
    waterfall.step_number,
    waterfall.step,
    waterfall.units,
    waterfall.units_left,
    waterfall.units / cast(assigned.units as double) as share_of_units,
    assigned.logged_rows,
    assigned.repeated_units,
    assigned.crossed_over_units
from waterfall
inner join assigned on assigned.experiment_key = waterfall.experiment_key
order by experiment_key, step_number
{% endmacro %}
