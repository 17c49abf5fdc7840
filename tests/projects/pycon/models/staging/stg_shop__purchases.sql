select
    session_id,
    user_id,
    payment_method_selected as payment_method,
    status,
    true as is_before_experiment,
    purchase_processed_at as processed_at
from {{ source('shop', 'pre_purchases') }}

union all

select
    session_id,
    user_id,
    payment_method_selected as payment_method,
    status,
    false as is_before_experiment,
    purchase_processed_at as processed_at
from {{ source('shop', 'post_purchases') }}
