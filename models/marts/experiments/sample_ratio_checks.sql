{{ sample_ratio_checks(assignments=ref('int_assignments_described'), units=ref('fact_assignments')) }}
