with definitions as (
    select * from {{ experiment_definitions() }} as experiments
),

-- The data reach to the end of their last day; an experiment has ended when they reach the end of its period.
data_end as (
    select cast(max(metric_date) as timestamp) + interval '1 day' as data_until
    from {{ ref('metric_daily') }}
)

select
    definitions.*,
    coalesce(definitions.ends_at <= data_end.data_until, false) as has_ended
from definitions
cross join data_end
