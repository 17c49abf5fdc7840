select order_id, user_id, status, net_cents, refund_cents, cast(ordered_at as timestamp) as ordered_at from {{ ref('raw_orders') }}
