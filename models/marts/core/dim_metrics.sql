select * from {{ metric_definitions() }} as metrics
