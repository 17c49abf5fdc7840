select * from {{ variant_definitions() }} as variants
