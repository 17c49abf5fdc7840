{{ sample_ratio_checks(assignments=ref('stg_assignments'), units=ref('fact_assignments')) }}
