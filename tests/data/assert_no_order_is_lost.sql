-- Revenue and refunds of every day are those of the delivered log, each event once: nothing is lost or doubled on the way from
-- there to the dashboard.
with logged as (
    select
        cast(occurred_at as date) as metric_date,
        sum(case when event_name = 'order' then amount else 0 end) as revenue,
        sum(case when event_name = 'refund' then amount else 0 end) as refunds
    from {{ ref('stg_shop__conversions') }}
    group by 1
),

shown as (
    select
        metric_date,
        sum(case when metric_name = 'revenue' then numerator else 0 end) as revenue,
        sum(case when metric_name = 'refunds' then numerator else 0 end) as refunds
    from {{ ref('metric_daily') }}
    group by metric_date
)

select
    shown.metric_date,
    logged.revenue as logged_revenue,
    shown.revenue as shown_revenue,
    logged.refunds as logged_refunds,
    shown.refunds as shown_refunds
from logged
full join shown on shown.metric_date = logged.metric_date
where
    abs(coalesce(logged.revenue, 0) - coalesce(shown.revenue, 0)) >= 0.005
    or abs(coalesce(logged.refunds, 0) - coalesce(shown.refunds, 0)) >= 0.005
