with delivered as (
    select * from {{ source('shop', 'exposures') }}
),

deduplicated as (
    select *
    from delivered
    qualify row_number() over (partition by event_id order by received_at) = 1
)

select
    event_id,
    flag_key,
    experiment_key,
    allocation_id,
    unit_id,
    variant,
    surface,
    {{ corrected_time() }} as exposed_at,
    received_at
from deduplicated
