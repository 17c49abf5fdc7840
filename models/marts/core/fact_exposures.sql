with exposures as (
    select * from {{ ref('stg_shop__exposures') }}
)

select
    event_id,
    experiment_key,
    unit_id,
    variant,
    surface,
    exposed_at
from exposures
