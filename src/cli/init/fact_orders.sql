select
    order_id,
    user_id,
    amount,
    ordered_at
from {{ ref('raw_orders') }}
