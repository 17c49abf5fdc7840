{{ config(materialized='view') }}

with assignments as (
    select * from {{ ref('stg_shop__assignments') }}
),

users as (
    select * from {{ ref('stg_shop__users') }}
)

select
    assignments.experiment_key,
    assignments.unit_id,
    assignments.variant,
    users.is_internal,
    users.is_bot,
    users.country,
    users.platform,
    assignments.assigned_at
from assignments
left join users on users.user_id = assignments.unit_id
-- A forced variant is no assignment of the experiment.
where not assignments.is_override
