with delivered as (
    select * from {{ source('shop', 'conversions') }}
),

deduplicated as (
    select *
    from delivered
    qualify row_number() over (partition by event_id order by received_at) = 1
)

select
    event_id,
    order_id,
    user_id,
    session_id,
    event_name,
    amount,
    currency,
    {{ corrected_time() }} as occurred_at,
    received_at
from deduplicated
