with visits as (
    select
        session_id,
        user_id,
        is_before_experiment,
        count(*) as n_logged,
        min(visited_at) as visited_at
    from {{ ref('stg_shop__visits') }}
    group by session_id, user_id, is_before_experiment
),

purchases as (
    select
        session_id,
        user_id,
        is_before_experiment,
        count(*) as n_purchases,
        bool_or(status = 'success') as is_success
    from {{ ref('stg_shop__purchases') }}
    group by session_id, user_id, is_before_experiment
)

-- Several users can share a session, so purchases belong to a visit only by session and user together.
select
    visits.session_id,
    visits.user_id,
    visits.is_before_experiment,
    visits.n_logged,
    coalesce(purchases.n_purchases, 0) as n_purchases,
    coalesce(purchases.is_success, false) as is_success,
    visits.visited_at
from visits
left join purchases
    on purchases.session_id = visits.session_id
    and purchases.user_id = visits.user_id
    and purchases.is_before_experiment = visits.is_before_experiment
