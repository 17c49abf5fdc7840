{{ config(materialized='snapshot') }}

select * from {{ flag_definitions('dim_flag_variants') }} as definitions
