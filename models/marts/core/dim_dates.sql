with days as (
    select unnest(generate_series(
        cast('{{ var("first_date") }}' as date), cast('{{ var("last_date") }}' as date), interval '1 day'
    )) as day
)

select
    cast(day as date) as date_day,
    cast(date_part('year', day) as integer) as year,
    cast(date_part('month', day) as integer) as month,
    cast(date_part('isodow', day) as integer) as iso_weekday,
    cast(date_trunc('week', day) as date) as week_starts_on
from days
