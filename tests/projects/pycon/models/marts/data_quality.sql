with assignments as (
    select * from {{ ref('stg_assignments') }} where experiment_key = 'payment_page'
),

users as (
    select
        unit_id,
        count(*) as n_rows,
        count(distinct variant) as n_variants,
        bool_or(is_carried_over) as is_carried_over
    from assignments
    group by unit_id
),

cohort as (
    select * from {{ ref('fact_assignments') }} where experiment_key = 'payment_page' and is_analysed
),

visits as (
    select * from {{ ref('stg_shop__visits') }} where not is_before_experiment
),

purchases as (
    select * from {{ ref('stg_shop__purchases') }} where not is_before_experiment
),

sessions as (
    select session_id, count(distinct user_id) as n_users
    from visits
    group by session_id
),

visit_keys as (
    select session_id, user_id, count(*) as n_rows
    from visits
    group by session_id, user_id
),

purchase_keys as (
    select session_id, user_id, count(*) as n_rows
    from purchases
    group by session_id, user_id
),

-- A visit that was logged twice meets its purchase twice, as it does in a join that nobody has thought about.
purchase_times as (
    select purchases.processed_at, visits.visited_at
    from purchases
    inner join visits
        on visits.session_id = purchases.session_id
        and visits.user_id = purchases.user_id
),

cohort_visits as (
    select visits.visited_at, cohort.assigned_at
    from {{ ref('fact_payment_visits') }} as visits
    inner join cohort on cohort.unit_id = visits.user_id
    where not visits.is_before_experiment
),

naive_join as (
    select visits.session_id
    from visits
    left join assignments on assignments.unit_id = visits.user_id
    left join purchases
        on purchases.session_id = visits.session_id
        and purchases.user_id = visits.user_id
),

traps as (
    select
        1 as trap_number,
        'users behind the assignment rows' as trap,
        count(*) as found,
        sum(n_rows) as total,
        'rows are no users: a unit counts once, at its first assignment' as handling
    from users

    union all

    select
        2,
        'users with several assignment rows',
        count(*) filter (where n_rows > 1),
        count(*),
        'the first assignment counts'
    from users

    union all

    select
        3,
        'users in both variants',
        count(*) filter (where n_variants > 1),
        count(*),
        'excluded as crossed_over, and a fault of the bucketing above the declared limit'
    from users

    union all

    select
        4,
        'users carried over from the first iteration',
        count(*) filter (where is_carried_over),
        count(*),
        'excluded as carried_over'
    from users

    union all

    select
        5,
        'sessions shared by several users',
        count(*) filter (where n_users > 1),
        count(*),
        'visits and purchases are joined by session and user, never by session alone'
    from sessions

    union all

    select
        6,
        'duplicate visits',
        sum(n_rows - 1),
        sum(n_rows),
        'a visit counts once, at its earliest time'
    from visit_keys

    union all

    select
        7,
        'duplicate purchases',
        sum(n_rows - 1),
        sum(n_rows),
        'a visit succeeds once, however many purchases it has'
    from purchase_keys

    union all

    select
        8,
        'purchases without a visit',
        count(*) filter (where visit_keys.session_id is null),
        count(*),
        'left out: success is measured on visits'
    from purchases
    left join visit_keys
        on visit_keys.session_id = purchases.session_id
        and visit_keys.user_id = purchases.user_id

    union all

    select
        9,
        'purchases stamped before their own visit',
        count(*) filter (where processed_at < visited_at),
        count(*),
        'the purchase clock orders nothing: the time of a success is that of its visit'
    from purchase_times

    union all

    select
        10,
        'visits before assignment in the final cohort',
        count(*) filter (where visited_at < assigned_at),
        count(*),
        'left out: metrics start at the assignment'
    from cohort_visits

    union all

    select
        11,
        'rows of a naive join of visits, assignments and purchases',
        (select count(*) from naive_join),
        count(*),
        'units are joined at one row each, so that no visit is counted twice'
    from visits
)

select
    trap_number,
    trap,
    cast(found as bigint) as found,
    cast(total as bigint) as total,
    found / nullif(cast(total as double), 0) as share,
    handling
from traps
