{{ experiment_results(aggregates=ref('metric_aggregates')) }}
