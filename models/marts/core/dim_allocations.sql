with allocations as (
    select * from {{ flag_definitions('dim_allocations') }} as definitions
),

ranges as (
    select * from {{ flag_definitions('dim_allocation_ranges') }} as definitions
)

select
    allocations.experiment_key,
    allocations.allocation_id,
    ranges.variant,
    allocations.algorithm,
    allocations.salt,
    allocations.buckets,
    ranges.range_start,
    ranges.range_end,
    allocations.phase,
    cast(allocations.valid_from as timestamp) as valid_from,
    cast(allocations.valid_to as timestamp) as valid_to
from allocations
inner join ranges
    on ranges.experiment_key = allocations.experiment_key
    and ranges.allocation_id = allocations.allocation_id
