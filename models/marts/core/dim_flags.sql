select * from {{ flag_definitions('dim_flags') }} as flags
