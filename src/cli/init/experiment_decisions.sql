{{ experiment_decisions(
    experiments=ref('dim_experiments'),
    units=ref('fact_assignments'),
    sample_ratios=ref('sample_ratio_checks'),
    results=ref('experiment_results')
) }}
