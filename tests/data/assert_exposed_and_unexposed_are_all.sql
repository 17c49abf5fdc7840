-- Of every metric and day, the part of the users in experiments and the part of all others add up to what the dashboard shows,
-- to the cent. Quantiles, derived metrics and running totals have no parts.
with parts as (
    select
        metric_date,
        metric_name,
        sum(numerator) as numerator,
        sum(denominator) as denominator
    from {{ metric_daily(units=ref('fact_assignments')) }} as daily_parts
    group by metric_date, metric_name
),

whole as (
    select * from {{ ref('metric_daily') }}
),

both_sides as (
    select
        coalesce(whole.metric_date, parts.metric_date) as metric_date,
        coalesce(whole.metric_name, parts.metric_name) as metric_name,
        whole.numerator,
        parts.numerator as numerator_of_parts,
        whole.denominator,
        parts.denominator as denominator_of_parts,
        whole.metric_name is null or parts.metric_name is null as is_alone,
        count(parts.metric_name) over (partition by coalesce(whole.metric_name, parts.metric_name)) as days_with_parts
    from whole
    full join parts
        on parts.metric_date = whole.metric_date
        and parts.metric_name = whole.metric_name
)

select
    metric_date,
    metric_name,
    numerator,
    numerator_of_parts,
    denominator,
    denominator_of_parts
from both_sides
where
    days_with_parts > 0
    and (
        is_alone
        or abs(numerator - numerator_of_parts) >= 0.005
        or abs(denominator - denominator_of_parts) >= 0.005
    )
