//! All cases of the statistics vectors once more, through SQL: literals in, struct fields out.

use super::vectors::{
    Answer, Answers, Inputs, compare, number, numbers, read_edges, read_vectors, report,
};
use datafusion::arrow::array::{Array, AsArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use equipoise::sql::functions;
use serde_json::Value;
use std::collections::BTreeMap;

#[tokio::test]
async fn vectors_hold_through_sql() {
    // Sums of products are how a state is stored elsewhere, not what a function returns.
    check_all(&read_vectors(), |function| {
        function != "ratio_sufficient_stats"
    })
    .await;
}

#[tokio::test]
async fn vectors_at_the_edges_hold_through_sql() {
    // The other functions were called above; each call is a query to plan.
    const ONLY_AT_THE_EDGES: &[&str] = &[
        "norm_isf",
        "newcombe",
        "srm_exact",
        "gst_power",
        "gst_inflation",
        "sample_size_z_cuped",
        "gatekeeping",
        "novelty_trend",
        "assignment_dependence",
        "quantile_estimate",
        "quantile_test",
        "non_inferiority_linear_margin",
        "cuped_single_within_theta",
        "cuped_rel_exact_gradient_within_theta",
    ];
    check_all(&read_edges(), |function| {
        ONLY_AT_THE_EDGES.contains(&function)
    })
    .await;
}

async fn check_all(text: &str, is_wanted: impl Fn(&str) -> bool) {
    let document: Value = serde_json::from_str(text).expect("the vectors are JSON");
    let cases = document["cases"]
        .as_array()
        .expect("the vectors hold a list of cases");
    let context = SessionContext::new();
    functions::register(&context);
    let mut worst: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases {
        let function = case["function"]
            .as_str()
            .expect("every case names its function");
        if !is_wanted(function) {
            continue;
        }
        let entry = worst.entry(function).or_default();
        entry.0 += 1;
        let outcome = match call(function, &Inputs(&case["inputs"])) {
            Some(sql) => compare(&evaluate(&context, &sql).await, case),
            None => Err("no SQL function".to_string()),
        };
        match outcome {
            Ok(error) => entry.1 = entry.1.max(error),
            Err(complaint) => failures.push(format!("{} {function}: {complaint}", case["id"])),
        }
    }
    let checked = worst.values().map(|(count, _)| count).sum();
    report(checked, &worst);
    assert!(checked > 0, "nothing was checked");
    assert!(
        failures.is_empty(),
        "{} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

async fn evaluate(context: &SessionContext, call: &str) -> Answers {
    let frame = context
        .sql(&format!("select {call} as result"))
        .await
        .unwrap_or_else(|error| panic!("{call}: {error}"));
    let batches = frame
        .collect()
        .await
        .unwrap_or_else(|error| panic!("{call}: {error}"));
    fields(batches[0].column(0).as_struct())
}

fn fields(result: &StructArray) -> Answers {
    let answer = |column: &dyn Array| match column.data_type() {
        _ if column.is_null(0) => Answer::Number(None),
        DataType::Float64 => Answer::Number(Some(column.as_primitive::<Float64Type>().value(0))),
        DataType::Int64 => Answer::Number(Some(column.as_primitive::<Int64Type>().value(0) as f64)),
        DataType::Boolean => Answer::Flag(column.as_boolean().value(0)),
        DataType::Utf8 => Answer::Text(column.as_string::<i32>().value(0).to_string()),
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(0);
            Answer::Numbers(
                list.as_primitive::<Float64Type>()
                    .iter()
                    .map(|value| value.unwrap_or(f64::NAN))
                    .collect(),
            )
        }
        other => panic!("no record has a field of type {other}"),
    };
    result
        .column_names()
        .into_iter()
        .zip(result.columns())
        .map(|(name, column)| (name.to_string(), answer(column)))
        .collect()
}

/// The SQL call of a case; `None` when no SQL function bears its name.
fn call(function: &str, inputs: &Inputs) -> Option<String> {
    let arguments = match function {
        "welch_t"
        | "student_t"
        | "z_test_unpooled"
        | "relative_lift_delta_t"
        | "relative_lift_delta_z"
        | "relative_lift_fieller_z"
        | "relative_lift_log_t" => {
            format!("{}, {}", known_states(inputs.0), list(inputs, &["alpha"]))
        }
        "non_inferiority_fixed_margin" | "non_inferiority_linear_margin" => {
            let margin = list(inputs, &["nim_relative", "direction", "alpha"]);
            format!("{}, {margin}", known_states(inputs.0))
        }
        "prop_z_pooled"
        | "prop_z_unpooled"
        | "prop_welch_ml_var"
        | "prop_welch_unbiased_var"
        | "newcombe" => list(inputs, &["x1", "n1", "x2", "n2", "alpha"]),
        "fisher_exact" | "assignment_dependence" => list(inputs, &["table"]),
        "moments_raw" => return Some(format!("moments({})", state(&[numbers(&inputs.0["x"])]))),
        "welch_t_raw" => {
            let (control, treatment) = (
                state(&[inputs.numbers("x1")]),
                state(&[inputs.numbers("x2")]),
            );
            return Some(format!(
                "welch_t({control}, {treatment}, {})",
                inputs.number("alpha")
            ));
        }
        "ratio_delta_welch" | "ratio_delta_rel" => raw_arms(inputs, &["y", "d"]),
        "cuped_single_pooled_theta"
        | "cuped_single_within_theta"
        | "cuped_rel_growthbook"
        | "cuped_rel_exact_gradient"
        | "cuped_rel_exact_gradient_within_theta" => raw_arms(inputs, &["y", "x"]),
        "cuped_ratio_pooled_theta" | "cuped_ratio_within_theta" => {
            raw_arms(inputs, &["y", "d", "x", "xd"])
        }
        "cuped_multi_pooled_theta" => raw_arms(inputs, &["y", "x", "xd"]),
        "post_strat_fixed_weights" | "post_strat_random_weights" => {
            let strata = inputs.0["strata"].as_array()?;
            let arm = |arm: u8| {
                strata
                    .iter()
                    .map(|stratum| known_state(stratum, arm))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            format!("[{}], [{}]", arm(1), arm(2))
        }
        "mann_whitney_u" => list(inputs, &["x1", "x2", "continuity"]),
        "permutation_exact_mean_diff" => list(inputs, &["x1", "x2"]),
        "winsorize_upper" => list(inputs, &["x", "q"]),
        "quantile_estimate" => list(inputs, &["values", "nu", "clusters"]),
        "quantile_test" => list(
            inputs,
            &["x1", "x2", "nu", "alpha", "clusters1", "clusters2"],
        ),
        "quantile_var_clustered" => list(
            inputs,
            &[
                "n_events",
                "n_star",
                "nu",
                "q_lower",
                "q_upper",
                "n_clusters",
                "s_sum",
                "s_ss",
                "n_sum",
                "n_ss",
                "sn_sp",
            ],
        ),
        "srm_chi2" | "srm_exact" => list(inputs, &["observed", "weights"]),
        "srm_sequential_dirichlet" => list(inputs, &["observed", "weights", "k"]),
        "srm_sequential_running" => list(inputs, &["looks", "weights", "k"]),
        "asymp_cs_two_sided" | "asymp_cs_one_sided" => {
            list(inputs, &["effect", "se", "n", "alpha", "n_star"])
        }
        "msprt_normal" => list(inputs, &["effect", "se", "tau2", "alpha"]),
        "gst_bounds_joint" | "gst_bounds_split" => {
            list(inputs, &["t", "alpha", "spending", "phi", "sides"])
        }
        "gst_power" => list(inputs, &["drift", "t", "alpha", "spending", "phi", "sides"]),
        "gst_inflation" => list(inputs, &["power", "t", "alpha", "spending", "phi", "sides"]),
        "bayes_normal_effect" => list(
            inputs,
            &["effect", "se", "prior_mean", "prior_var", "proper", "alpha"],
        ),
        "bayes_beta_binomial" => list(inputs, &["x1", "n1", "x2", "n2", "prior_a", "prior_b"]),
        "power_z_two_sided" => list(inputs, &["var1", "var2", "n1", "n2", "effect", "alpha"]),
        "power_t_two_sided" => list(inputs, &["effect_size_d", "n1", "n2", "alpha"]),
        "sample_size_z" => list(
            inputs,
            &["var1", "var2", "effect", "alpha", "power", "ratio"],
        ),
        "sample_size_z_cuped" => list(
            inputs,
            &["var1", "var2", "effect", "alpha", "power", "ratio", "rho"],
        ),
        "sample_size_prop_unpooled" => list(inputs, &["p1", "p2", "alpha", "power"]),
        "mde_z" => list(inputs, &["var1", "var2", "n1", "n2", "alpha", "power"]),
        "mde_z_cuped" => list(
            inputs,
            &["var1", "var2", "n1", "n2", "alpha", "power", "rho"],
        ),
        "decision_design_corrections" => list(
            inputs,
            &[
                "success_metrics",
                "guardrail_metrics",
                "treatments",
                "alpha",
                "power",
            ],
        ),
        "adjust_bonferroni" | "adjust_holm" | "adjust_hochberg" | "adjust_bh" | "adjust_by" => {
            list(inputs, &["p"])
        }
        "gatekeeping" => list(inputs, &["p", "gates", "alpha"]),
        "novelty_trend" => list(inputs, &["days", "effects", "ses", "alpha"]),
        "segment_heterogeneity_q" => list(inputs, &["effects", "ses"]),
        "interaction_2x2" => {
            let cell = |name: &str| {
                let cell = &inputs.0["cells"][name];
                format!(
                    "state_of({}, {}, {})",
                    literal(&cell["n"]),
                    literal(&cell["mean"]),
                    literal(&cell["var"])
                )
            };
            ["cc", "ct", "tc", "tt"].map(cell).join(", ")
        }
        "cluster_delta" => cluster_arms(inputs)?,
        "norm_sf" => list(inputs, &["z"]),
        "norm_isf" => list(inputs, &["p"]),
        "t_sf" => list(inputs, &["t", "df"]),
        "t_isf" => list(inputs, &["p", "df"]),
        _ => return None,
    };
    Some(format!("{function}({arguments})"))
}

fn list(inputs: &Inputs, names: &[&str]) -> String {
    names
        .iter()
        .map(|name| literal(&inputs.0[*name]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn literal(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(literal).collect::<Vec<_>>().join(", ")
        ),
        Value::String(text) if text.parse::<f64>().is_err() => format!("'{text}'"),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_string(),
        other => float(number(other)),
    }
}

/// A double that SQL reads back to the same bits.
fn float(value: f64) -> String {
    if value.is_nan() {
        "null".to_string()
    } else {
        format!("{value:e}")
    }
}

fn known_states(inputs: &Value) -> String {
    format!("{}, {}", known_state(inputs, 1), known_state(inputs, 2))
}

fn known_state(inputs: &Value, arm: u8) -> String {
    let part = |name: &str| literal(&inputs[format!("{name}{arm}")]);
    format!("state_of({}, {}, {})", part("n"), part("mean"), part("var"))
}

fn raw_arms(inputs: &Inputs, columns: &[&str]) -> String {
    let arm = |arm: &str| {
        state(
            &columns
                .iter()
                .map(|column| numbers(&inputs.0[arm][*column]))
                .collect::<Vec<_>>(),
        )
    };
    format!(
        "{}, {}, {}",
        arm("control"),
        arm("treatment"),
        inputs.number("alpha")
    )
}

/// A subquery that aggregates rows given as columns.
fn state(columns: &[Vec<f64>]) -> String {
    let row = |unit: usize| {
        columns
            .iter()
            .map(|column| float(column[unit]))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let rows: Vec<String> = (0..columns[0].len())
        .map(|unit| format!("({})", row(unit)))
        .collect();
    let names = (0..columns.len())
        .map(|place| format!("v{place}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "(select state_agg({names}) from (values {}) as units({names}))",
        rows.join(", ")
    )
}

/// Cluster sums and sizes by SQL, then their states.
fn cluster_arms(inputs: &Inputs) -> Option<String> {
    let rows: Vec<String> = inputs.0["rows"]
        .as_array()?
        .iter()
        .map(|row| format!("({})", list_of(row)))
        .collect();
    let arm = |arm: u8| {
        format!(
            "(select state_agg(s, k) from (select cluster, sum(y) as s, count(*) as k from (values {}) as units(cluster, arm, y) \
             where arm = {arm} group by cluster))",
            rows.join(", ")
        )
    };
    Some(format!("{}, {}", arm(0), arm(1)))
}

fn list_of(row: &Value) -> String {
    numbers(row)
        .into_iter()
        .map(float)
        .collect::<Vec<_>>()
        .join(", ")
}
