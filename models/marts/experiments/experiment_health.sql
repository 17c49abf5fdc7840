{{ experiment_health(units=ref('fact_assignments')) }}
