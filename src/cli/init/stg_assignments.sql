select
    'button_color' as experiment_key,
    user_id as unit_id,
    variant,
    assigned_at
from {{ ref('raw_assignments') }}
