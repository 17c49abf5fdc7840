-- `fact_metric_events` and the models below it, as they were when a metric was locked. Written by `equipoise metric lock`; not by hand.
-- reads source shop.conversions
-- reads source shop.events
with kept__stg_shop__events as (
with delivered as (
    select * from shop.events
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
    received_at - (sent_at - occurred_at) as occurred_at,
    received_at
from deduplicated
),

kept__stg_shop__conversions as (
with delivered as (
    select * from shop.conversions
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
    received_at - (sent_at - occurred_at) as occurred_at,
    received_at
from deduplicated
),

kept__fact_metric_events as (
with events as (
    select * from kept__stg_shop__events as stg_shop__events
),

conversions as (
    select * from kept__stg_shop__conversions as stg_shop__conversions
),

clickstream as (
    select
        event_id,
        user_id,
        event_name,
        cast(null as double) as amount,
        load_ms,
        engaged_seconds,
        is_success,
        occurred_at
    from events
    -- Machines are left out of both arms alike.
    where not is_bot
),

orders_and_refunds as (
    select
        event_id,
        user_id,
        event_name,
        cast(amount as double) as amount,
        null as load_ms,
        null as engaged_seconds,
        null as is_success,
        occurred_at
    from conversions
),

unioned as (
    select * from clickstream
    union all
    select * from orders_and_refunds
)

select * from unioned
)

select * from kept__fact_metric_events
