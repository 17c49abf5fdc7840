{{ config(materialized='snapshot') }}

select * from {{ flag_definitions('dim_holdouts') }} as definitions
