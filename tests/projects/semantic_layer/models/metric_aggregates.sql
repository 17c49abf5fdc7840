select * from {{ metric_aggregates(units=ref('fact_assignments')) }} as aggregates
