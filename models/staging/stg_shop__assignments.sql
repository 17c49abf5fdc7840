with delivered as (
    select * from {{ source('shop', 'assignments') }}
),

-- An event that was delivered twice has the same event_id; the first delivery counts.
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
    algorithm,
    salt,
    bucket,
    layer_key,
    layer_bucket,
    variant,
    reason,
    is_override,
    {{ corrected_time() }} as assigned_at,
    received_at
from deduplicated
