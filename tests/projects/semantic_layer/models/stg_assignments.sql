select experiment_key, unit_id, variant, cast(assigned_at as timestamp) as assigned_at from {{ ref('raw_assignments') }}
