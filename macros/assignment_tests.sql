{# Data tests of what the flag server logged. Each finds its wrong rows by day, SDK and segment, the most first. #}

{# Every logged variant is derived again from the definitions: holdout, layer, the allocation valid at that time, bucket.
   Rows with `override` were forced and are left alone. `allocation` is the column with the logged allocation, which
   decides for experiments that keep first assignments. #}
{% test assignment_mismatch(model, experiment='experiment_key', unit='unit_id', variant='variant', at='assigned_at', allocation=none, override=none, sdk=none, segment=none) %}
with logged as (
    select
        cast({{ at }} as date) as day,
        {{ sdk or "'any'" }} as sdk,
        {{ segment or "'any'" }} as segment,
        {{ experiment }} as experiment_key,
        {{ unit }} as unit_id,
        {{ variant }} as logged_variant,
        {{ assignment(experiment_column=experiment, unit=unit, at=at, allocation=allocation) }} as derived_variant
    from {{ model }}
    where {{ experiment }} is not null{{ ' and not coalesce(' ~ override ~ ', false)' if override }}
),

compared as (
    select *, logged_variant is distinct from derived_variant as is_wrong from logged
)

select
    day,
    sdk,
    segment,
    experiment_key,
    sum(case when is_wrong then 1 else 0 end) as n_wrong,
    count(*) as n_logged,
    min(case when is_wrong then unit_id end) as example_unit,
    min(case when is_wrong then coalesce(logged_variant, 'none') || ' logged, ' || coalesce(derived_variant, 'none') || ' derived' end) as example
from compared
group by 1, 2, 3, 4
having sum(case when is_wrong then 1 else 0 end) > 0
order by n_wrong desc, day, sdk, segment, experiment_key
{% endtest %}

{# Whatever was shown was assigned before: the same experiment, unit and variant. Clocks of clients run up to `tolerance`
   ahead. #}
{% test exposure_without_assignment(model, assignments, experiment='experiment_key', unit='unit_id', variant='variant', at='exposed_at', assigned_at='assigned_at', tolerance='0 seconds', judged_until=none, sdk=none, segment=none) %}
with exposures as (
    select
        cast({{ at }} as date) as day,
        {{ sdk or "'any'" }} as sdk,
        {{ segment or "'any'" }} as segment,
        {{ experiment }} as experiment_key,
        {{ unit }} as unit_id,
        {{ variant }} as variant,
        {{ at }} as exposed_at
    from {{ model }}
    where {{ experiment }} is not null
    {%- if judged_until %}
        -- Assignments of later ones may still be on the way.
        and {{ at }} < {{ judged_until }}
    {%- endif %}
),

assigned as (
    select
        {{ experiment }} as experiment_key,
        {{ unit }} as unit_id,
        {{ variant }} as variant,
        min({{ assigned_at }}) as first_assigned_at
    from {{ assignments }}
    where {{ experiment }} is not null
    group by 1, 2, 3
),

compared as (
    select
        exposures.*,
        case
            when assigned.unit_id is null then 'never assigned to it'
            when exposures.exposed_at < assigned.first_assigned_at - interval '{{ tolerance }}' then 'shown before it was assigned'
        end as problem
    from exposures
    left join assigned
        on assigned.experiment_key = exposures.experiment_key
        and assigned.unit_id = exposures.unit_id
        and assigned.variant = exposures.variant
)

select
    day,
    sdk,
    segment,
    experiment_key,
    variant,
    problem,
    count(*) as n_wrong,
    min(unit_id) as example_unit
from compared
where problem is not null
group by 1, 2, 3, 4, 5, 6
order by n_wrong desc, day, sdk, segment, experiment_key, variant
{% endtest %}
