-- What the exclusions leave is what is analysed; a unit that falls out of both is a wrong row.
with last_steps as (
    select experiment_key, min(units_left) as units_left
    from {{ ref('experiment_health') }}
    group by experiment_key
),

analysed as (
    select experiment_key, count(*) filter (where is_analysed) as units
    from {{ ref('fact_assignments') }}
    group by experiment_key
)

select analysed.experiment_key, analysed.units, last_steps.units_left
from analysed
left join last_steps on last_steps.experiment_key = analysed.experiment_key
where coalesce(last_steps.units_left, -1) <> analysed.units
