select * from {{ flag_definitions('dim_allocations') }} as allocations
