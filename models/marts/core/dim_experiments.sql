with definitions as (
    select * from {{ experiment_definitions() }} as experiments
)

select
    *,
    coalesce(ends_at <= timestamp '{{ var("data_ends_at") }}', false) as has_ended
from definitions
