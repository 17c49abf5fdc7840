-- What was shown was assigned before, to the same variant. Each row is an exposure without an assignment.
with exposures as (
    select * from {{ ref('fact_exposures') }}
),

assignments as (
    select distinct experiment_key, unit_id, variant from {{ ref('stg_shop__assignments') }}
)

select exposures.experiment_key, exposures.unit_id, exposures.variant
from exposures
left join assignments
    on assignments.experiment_key = exposures.experiment_key
    and assignments.unit_id = exposures.unit_id
    and assignments.variant = exposures.variant
where assignments.unit_id is null
