{{ config(materialized='snapshot') }}

select * from {{ flag_definitions('dim_layers') }} as definitions
