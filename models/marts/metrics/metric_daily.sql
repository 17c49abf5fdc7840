with daily as (
    select * from {{ metric_daily() }} as metrics
)

select
    metric_date,
    metric_name,
    numerator,
    denominator,
    case when denominator <> 0 then numerator / denominator end as value
from daily
