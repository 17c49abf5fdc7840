select * from {{ metric_daily() }}
