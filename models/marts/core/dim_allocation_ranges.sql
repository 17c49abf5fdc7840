select * from {{ flag_definitions('dim_allocation_ranges') }} as ranges
