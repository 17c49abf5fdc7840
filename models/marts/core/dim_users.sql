with users as (
    select * from {{ ref('stg_shop__users') }}
)

select * from users
