select * from {{ metric_aggregates(units=ref('fact_assignments'), complete_through=var('data_ends_at')) }} as aggregates
