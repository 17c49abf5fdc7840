{{ config(materialized='snapshot') }}

select * from {{ flag_definitions('dim_flags') }} as definitions
