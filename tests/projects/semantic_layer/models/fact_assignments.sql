select * from {{ experiment_units() }}
