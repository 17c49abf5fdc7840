with delivered as (
    select * from {{ source('shop', 'events') }}
),

deduplicated as (
    select *
    from delivered
    qualify row_number() over (partition by event_id order by received_at) = 1
)

select
    event_id,
    user_id,
    session_id,
    event_name,
    load_ms,
    engaged_seconds,
    is_success,
    is_bot,
    {{ corrected_time() }} as occurred_at,
    received_at
from deduplicated
