with events as (
    select * from {{ ref('stg_shop__events') }}
),

conversions as (
    select * from {{ ref('stg_shop__conversions') }}
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
