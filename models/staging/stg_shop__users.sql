with users as (
    select * from {{ source('shop', 'users') }}
)

select
    user_id,
    country,
    platform,
    plan,
    is_internal,
    is_bot,
    signed_up_at
from users
