with first_iteration as (
    select * from {{ source('shop', 'first_experiment_assignments') }}
),

second_iteration as (
    select * from {{ source('shop', 'experiment_assignments') }}
),

first_users as (
    select distinct user_id from first_iteration
)

select
    'payment_page' as experiment_key,
    second_iteration.user_id as unit_id,
    second_iteration.test_group as variant,
    first_users.user_id is not null as is_carried_over,
    second_iteration.bucketed_at as assigned_at
from second_iteration
left join first_users on first_users.user_id = second_iteration.user_id

union all

select
    'payment_page_first' as experiment_key,
    user_id as unit_id,
    test_group as variant,
    false as is_carried_over,
    bucketed_at as assigned_at
from first_iteration
