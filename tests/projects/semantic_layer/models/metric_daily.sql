select * from {{ metric_daily() }} as daily
