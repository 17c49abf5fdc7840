{{ config(materialized='snapshot') }}

select * from {{ flag_definitions('dim_rules') }} as definitions
