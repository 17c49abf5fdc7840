-- Every logged assignment that a split decided is derived again from the flag definitions: the allocation that was valid
-- at that time, its algorithm and salt, and the range that the bucket falls into. Each row is a mismatch.
with assignments as (
    select * from {{ ref('stg_shop__assignments') }}
    where not is_override
),

allocations as (
    select * from {{ ref('dim_allocations') }}
),

rederived as (
    select
        assignments.event_id,
        assignments.experiment_key,
        assignments.unit_id,
        assignments.variant as logged_variant,
        assignments.bucket as logged_bucket,
        bucket(assignments.algorithm, assignments.salt, assignments.unit_id) as derived_bucket,
        assignments.allocation_id,
        assignments.assigned_at
    from assignments
)

select
    rederived.*,
    allocations.variant as derived_variant
from rederived
left join allocations
    on allocations.experiment_key = rederived.experiment_key
    and allocations.allocation_id = rederived.allocation_id
    and rederived.derived_bucket >= allocations.range_start
    and rederived.derived_bucket < allocations.range_end
where (allocations.variant is distinct from rederived.logged_variant)
   or rederived.derived_bucket <> rederived.logged_bucket
   or rederived.assigned_at < allocations.valid_from
