//! All cases of the statistics vectors: 60-digit truth against every function of the library.
//! `EQUIPOISE_VECTORS` names the file; without it `../shared/vectors/statistics.json`, then the copy in `tests/data`.

use equipoise::stats::clusters::ClusterRow;
use equipoise::stats::cuped::{self, ThetaRule};
use equipoise::stats::double_double::DoubleDouble;
use equipoise::stats::group_sequential::{Sides, Spending};
use equipoise::stats::non_inferiority::Direction;
use equipoise::stats::quantiles::ClusteredQuantile;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::state::State;
use equipoise::stats::{Kind, Record, Sink, Status};
use equipoise::stats::{
    always_valid, bayes, clusters, corrections, cuped_multi, group_sequential, heterogeneity, lift,
    mean_tests, non_inferiority, normal, power, proportions, quantiles, ranks, ratio, resampling,
    sample_ratio, strata, student,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;

#[test]
fn vectors_are_met_within_their_tolerance() {
    let text = read_vectors();
    let document: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let cases = document["cases"]
        .as_array()
        .expect("the vectors hold a list of cases");
    let mut worst: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases {
        let function = case["function"]
            .as_str()
            .expect("every case names its function");
        let entry = worst.entry(function).or_default();
        entry.0 += 1;
        match check(function, case) {
            Ok(error) => entry.1 = entry.1.max(error),
            Err(complaint) => failures.push(format!("{} {function}: {complaint}", case["id"])),
        }
    }
    report(cases.len(), &worst);
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Writes past the capture of the test harness: the table is wanted whether the test fails or not.
pub fn report(cases: usize, worst: &BTreeMap<&str, (usize, f64)>) {
    let mut lines = vec![format!("{cases} cases, {} functions", worst.len())];
    lines.extend(worst.iter().map(|(function, (count, error))| {
        format!("{function:32} {count:4} cases, worst relative error {error:.1e}")
    }));
    writeln!(std::io::stdout(), "{}", lines.join("\n")).expect("standard output is open");
}

pub fn read_vectors() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    if let Ok(path) = std::env::var("EQUIPOISE_VECTORS") {
        return std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read EQUIPOISE_VECTORS={path}: {error}"));
    }
    let shared = format!("{root}/../shared/vectors/statistics.json");
    std::fs::read_to_string(shared)
        .or_else(|_| std::fs::read_to_string(format!("{root}/tests/data/statistics.json")))
        .expect("tests/data/statistics.json is part of the repository")
}

/// The largest relative error over all expected fields, or what is wrong.
fn check(function: &str, case: &Value) -> Result<f64, String> {
    let answer = run(function, &Inputs(&case["inputs"])).ok_or("unknown function")?;
    compare(&answer, case)
}

/// The same for an answer that came another way.
pub fn compare(answer: &Answers, case: &Value) -> Result<f64, String> {
    let tolerance = case["tolerance"]
        .as_f64()
        .expect("every case has a tolerance");
    let expected = case["expected"]
        .as_object()
        .expect("expected values are named");
    let mut worst = 0.0f64;
    for (field, wanted) in expected {
        let found = answer
            .get(field)
            .ok_or_else(|| format!("has no field `{field}`"))?;
        let error = difference(found, wanted)
            .ok_or_else(|| format!("{field}: expected {wanted}, got {found:?}"))?;
        if error.is_nan() || error > tolerance {
            return Err(format!(
                "{field}: expected {wanted}, got {found:?}, relative error {error:.1e}"
            ));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// The relative error (absolute where zero is expected); `None` when the two are of different kinds.
fn difference(found: &Answer, wanted: &Value) -> Option<f64> {
    match (found, wanted) {
        (Answer::Number(None), Value::String(text)) if text == "NaN" => Some(0.0),
        (Answer::Number(Some(found)), Value::Number(wanted)) => {
            Some(relative_error(*found, wanted.as_f64()?))
        }
        (Answer::Flag(found), Value::Bool(wanted)) => (found == wanted).then_some(0.0),
        (Answer::Numbers(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            let errors = found.iter().zip(wanted).map(|(found, wanted)| {
                wanted.as_f64().map(|wanted| relative_error(*found, wanted))
            });
            errors
                .collect::<Option<Vec<f64>>>()
                .map(|errors| errors.into_iter().fold(0.0, f64::max))
        }
        // Text fields are names, never expected as numbers.
        (Answer::Text(found), Value::String(wanted)) => (found == wanted).then_some(0.0),
        _ => None,
    }
}

fn relative_error(found: f64, wanted: f64) -> f64 {
    let error = (found - wanted).abs();
    // Below the normal numbers one unit in the last place is more than any tolerance.
    if wanted == 0.0 || error <= 5e-324 {
        error
    } else {
        error / wanted.abs()
    }
}

/// One field of a result.
#[derive(Clone, Debug)]
pub enum Answer {
    Number(Option<f64>),
    Flag(bool),
    Text(String),
    Numbers(Vec<f64>),
}

pub type Answers = BTreeMap<String, Answer>;

/// The fields of a record by name.
pub fn answers<R: Record>(record: &R) -> Answers {
    let mut collector = Collector {
        fields: R::FIELDS,
        answers: Answers::new(),
    };
    record.write(&mut collector);
    collector.answers
}

struct Collector {
    fields: &'static [(&'static str, Kind)],
    answers: Answers,
}

impl Collector {
    fn put(&mut self, column: usize, answer: Answer) {
        self.answers
            .insert(self.fields[column].0.to_string(), answer);
    }
}

impl Sink for Collector {
    fn number(&mut self, column: usize, value: Option<f64>) {
        self.put(column, Answer::Number(value));
    }
    fn whole(&mut self, column: usize, value: Option<i64>) {
        self.put(column, Answer::Number(value.map(|value| value as f64)));
    }
    fn flag(&mut self, column: usize, value: Option<bool>) {
        self.put(column, value.map_or(Answer::Number(None), Answer::Flag));
    }
    fn text(&mut self, column: usize, value: &'static str) {
        self.put(column, Answer::Text(value.to_string()));
    }
    fn numbers(&mut self, column: usize, values: &[f64]) {
        self.put(column, Answer::Numbers(values.to_vec()));
    }
}

/// The inputs of a case: numbers may be quoted.
pub struct Inputs<'a>(pub &'a Value);

impl Inputs<'_> {
    pub fn number(&self, name: &str) -> f64 {
        number(&self.0[name])
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.0[name])
    }

    fn samples(&self) -> (Sample, Sample) {
        let arm = |arm: u8| {
            Sample::new(
                self.number(&format!("n{arm}")),
                self.number(&format!("mean{arm}")),
                self.number(&format!("var{arm}")),
            )
        };
        (arm(1), arm(2))
    }

    fn counts(&self) -> [f64; 4] {
        ["x1", "n1", "x2", "n2"].map(|name| self.number(name))
    }

    fn moments<const P: usize>(&self, columns: [&str; P]) -> (Moments<P>, Moments<P>) {
        let arm = |arm: &str| {
            Moments::of_state(&self.state(arm, columns))
                .expect("the state is as wide as its columns")
        };
        (arm("control"), arm("treatment"))
    }

    fn state<const P: usize>(&self, arm: &str, columns: [&str; P]) -> State {
        let values = columns.map(|column| numbers(&self.0[arm][column]));
        State::of_columns(&values.each_ref().map(Vec::as_slice))
    }

    fn strata(&self) -> Vec<(Sample, Sample)> {
        let strata = self.0["strata"].as_array().expect("strata are a list");
        strata
            .iter()
            .map(|stratum| Inputs(stratum).samples())
            .collect()
    }

    fn cluster_rows(&self) -> Option<Vec<ClusterRow>> {
        let columns = self.0["columns"].as_array()?;
        let place = |names: &[&str]| {
            columns
                .iter()
                .position(|column| names.contains(&column.as_str().unwrap_or_default()))
        };
        let (cluster, arm, value) = (
            place(&["cluster"])?,
            place(&["treated", "treatment", "arm", "t"])?,
            place(&["y", "value"])?,
        );
        let rows = self.0["rows"].as_array()?.iter().map(numbers);
        Some(
            rows.map(|row| ClusterRow {
                cluster: row[cluster],
                is_treatment: row[arm] != 0.0,
                value: row[value],
            })
            .collect(),
        )
    }

    fn raw_samples(&self) -> (Sample, Sample) {
        let arm = |name: &str| {
            Sample::of_state(&State::of(&self.numbers(name)), 0).expect("the values are finite")
        };
        (arm("x1"), arm("x2"))
    }
}

pub fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().expect("JSON numbers are binary64 here"),
        Value::String(text) => text.parse().expect("quoted inputs are decimals"),
        _ => f64::NAN,
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("this input is a list")
        .iter()
        .map(number)
        .collect()
}

fn plain<const N: usize>(fields: [(&str, f64); N]) -> Answers {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_string(), Answer::Number(Some(value))))
        .collect()
}

/// Calls the function a case names; `None` when there is no such function.
fn run(function: &str, inputs: &Inputs) -> Option<Answers> {
    let alpha = inputs.number("alpha");
    Some(match function {
        "welch_t" => with_samples(inputs, |c, t| answers(&mean_tests::welch_t(c, t, alpha))),
        "student_t" => with_samples(inputs, |c, t| answers(&mean_tests::student_t(c, t, alpha))),
        "z_test_unpooled" => with_samples(inputs, |c, t| {
            answers(&mean_tests::z_test_unpooled(c, t, alpha))
        }),
        "relative_lift_delta_t" => with_samples(inputs, |c, t| {
            answers(&lift::relative_lift_delta_t(c, t, alpha))
        }),
        "relative_lift_delta_z" => with_samples(inputs, |c, t| {
            answers(&lift::relative_lift_delta_z(c, t, alpha))
        }),
        "relative_lift_fieller_z" => with_samples(inputs, |c, t| {
            answers(&lift::relative_lift_fieller_z(c, t, alpha))
        }),
        "relative_lift_log_t" => with_samples(inputs, |c, t| {
            answers(&lift::relative_lift_log_t(c, t, alpha))
        }),
        "prop_z_pooled" => with_counts(inputs, |[x1, n1, x2, n2]| {
            answers(&proportions::prop_z_pooled(x1, n1, x2, n2, alpha))
        }),
        "prop_z_unpooled" => with_counts(inputs, |[x1, n1, x2, n2]| {
            answers(&proportions::prop_z_unpooled(x1, n1, x2, n2, alpha))
        }),
        "prop_welch_ml_var" => with_counts(inputs, |[x1, n1, x2, n2]| {
            answers(&proportions::prop_welch_ml_var(x1, n1, x2, n2, alpha))
        }),
        "prop_welch_unbiased_var" => with_counts(inputs, |[x1, n1, x2, n2]| {
            answers(&proportions::prop_welch_unbiased_var(x1, n1, x2, n2, alpha))
        }),
        "fisher_exact" => {
            let rows = inputs.0["table"].as_array()?;
            let row = |place: usize| {
                <[f64; 2]>::try_from(numbers(&rows[place])).expect("a row has two cells")
            };
            answers(&proportions::fisher_exact([row(0), row(1)]))
        }
        "moments_raw" => {
            let state = State::of(&inputs.numbers("x"));
            plain([
                ("n", state.n as f64),
                ("mean", state.mean[0].high),
                ("var", state.cross_products[0] / (state.n as f64 - 1.0)),
            ])
        }
        "welch_t_raw" => {
            let (control, treatment) = inputs.raw_samples();
            answers(&mean_tests::welch_t(&control, &treatment, alpha))
        }
        "ratio_delta_welch" => {
            let (control, treatment) = inputs.moments(["y", "d"]);
            answers(&ratio::ratio_delta_welch(&control, &treatment, alpha))
        }
        "ratio_delta_rel" => {
            let (control, treatment) = inputs.moments(["y", "d"]);
            answers(&lift::relative_lift_delta_t(
                &ratio::ratio_sample(&control).ok()?,
                &ratio::ratio_sample(&treatment).ok()?,
                alpha,
            ))
        }
        "ratio_sufficient_stats" => sufficient_statistics(inputs),
        "cuped_single_pooled_theta" => {
            let (control, treatment) = inputs.moments(["y", "x"]);
            answers(&cuped::cuped_single(
                &control,
                &treatment,
                ThetaRule::Concatenated,
                alpha,
            ))
        }
        "cuped_rel_growthbook" => {
            let (control, treatment) = inputs.moments(["y", "x"]);
            answers(&cuped::cuped_rel_growthbook(
                &control,
                &treatment,
                ThetaRule::Concatenated,
                alpha,
            ))
        }
        "cuped_rel_exact_gradient" => {
            let (control, treatment) = inputs.moments(["y", "x"]);
            answers(&cuped::cuped_rel_exact_gradient(
                &control,
                &treatment,
                ThetaRule::Concatenated,
                alpha,
            ))
        }
        "cuped_ratio_pooled_theta" => cuped_ratio(inputs, ThetaRule::Concatenated),
        "cuped_ratio_within_theta" => cuped_ratio(inputs, ThetaRule::WithinArms),
        "srm_chi2" => answers(&sample_ratio::srm_chi2(
            &inputs.numbers("observed"),
            &inputs.numbers("weights"),
        )),
        "srm_sequential_dirichlet" => answers(&sample_ratio::srm_sequential_dirichlet(
            &inputs.numbers("observed"),
            &inputs.numbers("weights"),
            inputs.number("k"),
        )),
        "srm_sequential_running" => {
            let looks: Vec<Vec<f64>> = inputs.0["looks"].as_array()?.iter().map(numbers).collect();
            answers(&sample_ratio::srm_sequential_running(
                &looks,
                &inputs.numbers("weights"),
                inputs.number("k"),
            ))
        }
        "power_z_two_sided" => {
            let [var1, var2, n1, n2, effect] =
                ["var1", "var2", "n1", "n2", "effect"].map(|name| inputs.number(name));
            answers(&power::power_z_two_sided(var1, var2, n1, n2, effect, alpha))
        }
        "power_t_two_sided" => answers(&power::power_t_two_sided(
            inputs.number("effect_size_d"),
            inputs.number("n1"),
            inputs.number("n2"),
            alpha,
        )),
        "sample_size_z" => {
            let [var1, var2, effect, power, ratio] =
                ["var1", "var2", "effect", "power", "ratio"].map(|name| inputs.number(name));
            answers(&power::sample_size_z(
                var1, var2, effect, alpha, power, ratio,
            ))
        }
        "sample_size_prop_unpooled" => answers(&power::sample_size_prop_unpooled(
            inputs.number("p1"),
            inputs.number("p2"),
            alpha,
            inputs.number("power"),
        )),
        "mde_z" => {
            let [var1, var2, n1, n2, power] =
                ["var1", "var2", "n1", "n2", "power"].map(|name| inputs.number(name));
            answers(&power::mde_z(var1, var2, n1, n2, alpha, power))
        }
        "mde_z_cuped" => {
            let [var1, var2, n1, n2, power, rho] =
                ["var1", "var2", "n1", "n2", "power", "rho"].map(|name| inputs.number(name));
            answers(&power::mde_z_cuped(var1, var2, n1, n2, alpha, power, rho))
        }
        "decision_design_corrections" => {
            let [success, guardrail, treatments, power] = [
                "success_metrics",
                "guardrail_metrics",
                "treatments",
                "power",
            ]
            .map(|name| inputs.number(name));
            answers(&power::decision_design_corrections(
                success, guardrail, treatments, alpha, power,
            ))
        }
        "cuped_multi_pooled_theta" => {
            let arm = |arm: &str| inputs.state(arm, ["y", "x", "xd"]);
            answers(&cuped_multi::cuped_multi(
                &arm("control"),
                &arm("treatment"),
                ThetaRule::Concatenated,
                alpha,
            ))
        }
        "post_strat_fixed_weights" => {
            answers(&strata::post_strat_fixed_weights(&inputs.strata(), 0.05))
        }
        "post_strat_random_weights" => {
            answers(&strata::post_strat_random_weights(&inputs.strata(), 0.05))
        }
        "mann_whitney_u" => {
            let continuity = inputs.0["continuity"].as_bool().unwrap_or(true);
            answers(&ranks::mann_whitney_u(
                &inputs.numbers("x1"),
                &inputs.numbers("x2"),
                continuity,
            ))
        }
        "winsorize_upper" => answers(&quantiles::winsorize_upper(
            &inputs.numbers("x"),
            inputs.number("q"),
        )),
        "quantile_var_clustered" => {
            answers(&quantiles::quantile_var_clustered(&ClusteredQuantile {
                n_events: inputs.number("n_events"),
                n_star: inputs.number("n_star"),
                nu: inputs.number("nu"),
                q_lower: inputs.number("q_lower"),
                q_upper: inputs.number("q_upper"),
                n_clusters: inputs.number("n_clusters"),
                s_sum: inputs.number("s_sum"),
                s_ss: inputs.number("s_ss"),
                n_sum: inputs.number("n_sum"),
                n_ss: inputs.number("n_ss"),
                sn_sp: inputs.number("sn_sp"),
            }))
        }
        "asymp_cs_two_sided" | "asymp_cs_one_sided" => {
            let [effect, se, n, n_star] =
                ["effect", "se", "n", "n_star"].map(|name| inputs.number(name));
            if function == "asymp_cs_two_sided" {
                answers(&always_valid::asymp_cs_two_sided(
                    effect, se, n, alpha, n_star,
                ))
            } else {
                answers(&always_valid::asymp_cs_one_sided(
                    effect, se, n, alpha, n_star,
                ))
            }
        }
        "msprt_normal" => answers(&always_valid::msprt_normal(
            inputs.number("effect"),
            inputs.number("se"),
            inputs.number("tau2"),
            alpha,
        )),
        "gst_bounds_joint" | "gst_bounds_split" => {
            let spending = Spending::named(inputs.0["spending"].as_str()?, inputs.number("phi"))?;
            let sides = Sides::named(inputs.number("sides"), function == "gst_bounds_split")?;
            answers(&group_sequential::gst_bounds(
                &inputs.numbers("t"),
                alpha,
                spending,
                sides,
            ))
        }
        "bayes_normal_effect" => {
            let [effect, se, prior_mean, prior_var] =
                ["effect", "se", "prior_mean", "prior_var"].map(|name| inputs.number(name));
            let is_proper = inputs.0["proper"].as_bool()?;
            answers(&bayes::bayes_normal_effect(
                effect, se, prior_mean, prior_var, is_proper, alpha,
            ))
        }
        "bayes_beta_binomial" => {
            let [x1, n1, x2, n2] = inputs.counts();
            answers(&bayes::bayes_beta_binomial(
                x1,
                n1,
                x2,
                n2,
                inputs.number("prior_a"),
                inputs.number("prior_b"),
            ))
        }
        "non_inferiority_fixed_margin" => {
            let direction = Direction::named(inputs.0["direction"].as_str()?)?;
            let margin = inputs.number("nim_relative");
            with_samples(inputs, |c, t| {
                answers(&non_inferiority::non_inferiority_fixed_margin(
                    c, t, margin, direction, alpha,
                ))
            })
        }
        "adjust_bonferroni" => answers(&corrections::adjust_bonferroni(&inputs.numbers("p"))),
        "adjust_holm" => answers(&corrections::adjust_holm(&inputs.numbers("p"))),
        "adjust_hochberg" => answers(&corrections::adjust_hochberg(&inputs.numbers("p"))),
        "adjust_bh" => answers(&corrections::adjust_bh(&inputs.numbers("p"))),
        "adjust_by" => answers(&corrections::adjust_by(&inputs.numbers("p"))),
        "cluster_delta" => answers(&clusters::cluster_delta_rows(&inputs.cluster_rows()?, 0.05)),
        "segment_heterogeneity_q" => answers(&heterogeneity::segment_heterogeneity_q(
            &inputs.numbers("effects"),
            &inputs.numbers("ses"),
        )),
        "interaction_2x2" => {
            let [cc, ct, tc, tt] = ["cc", "ct", "tc", "tt"].map(|cell| {
                let cell = &inputs.0["cells"][cell];
                Sample::new(
                    number(&cell["n"]),
                    number(&cell["mean"]),
                    number(&cell["var"]),
                )
            });
            answers(&heterogeneity::interaction_2x2(&cc, &ct, &tc, &tt, 0.05))
        }
        "permutation_exact_mean_diff" => answers(&resampling::permutation_exact_mean_diff(
            &inputs.numbers("x1"),
            &inputs.numbers("x2"),
        )),
        "norm_sf" => {
            let tail = normal::upper_tail(DoubleDouble::from(inputs.number("z")));
            plain([("sf", tail.p()), ("log10_sf", tail.log10_p())])
        }
        "t_sf" => {
            let tail = student::upper_tail(
                DoubleDouble::from(inputs.number("t")),
                DoubleDouble::from(inputs.number("df")),
            );
            plain([("sf", tail.p())])
        }
        "t_isf" => plain([(
            "x",
            student::upper_quantile(inputs.number("p"), inputs.number("df")),
        )]),
        _ => return None,
    })
}

fn with_samples(inputs: &Inputs, test: impl Fn(&Sample, &Sample) -> Answers) -> Answers {
    let (control, treatment) = inputs.samples();
    test(&control, &treatment)
}

fn with_counts(inputs: &Inputs, test: impl Fn([f64; 4]) -> Answers) -> Answers {
    test(inputs.counts())
}

fn cuped_ratio(inputs: &Inputs, rule: ThetaRule) -> Answers {
    let (control, treatment) = inputs.moments(["y", "d", "x", "xd"]);
    answers(&cuped::cuped_ratio(
        &control,
        &treatment,
        rule,
        inputs.number("alpha"),
    ))
}

/// Sums and products back from the states: `sum = n mean`, `sum of products = C + n m m'`.
fn sufficient_statistics(inputs: &Inputs) -> Answers {
    const NAMES: [&str; 4] = ["y", "d", "x", "xd"];
    let mut found = Answers::new();
    for arm in ["control", "treatment"] {
        let state = inputs.state(arm, NAMES);
        let n = state.n as f64;
        let mut put = |name: String, value: f64| {
            found.insert(format!("{arm}_{name}"), Answer::Number(Some(value)))
        };
        put("n".into(), n);
        for i in 0..4 {
            put(format!("sum_{}", NAMES[i]), (state.mean[i] * n).value());
            for j in i..4 {
                let product =
                    (state.mean[i] * state.mean[j] * n + state.cross_product(i, j)).value();
                put(
                    if i == j {
                        format!("ss_{}", NAMES[i])
                    } else {
                        format!("sp_{}_{}", NAMES[i], NAMES[j])
                    },
                    product,
                );
            }
        }
    }
    found
}

#[test]
fn a_case_without_enough_data_says_so() {
    let result = mean_tests::welch_t(
        &Sample::new(1.0, 3.0, f64::NAN),
        &Sample::new(60.0, 4.0, 1.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect, result.p_two_sided),
        (Status::InsufficientData, Some(1.0), None)
    );
    let result = mean_tests::welch_t(
        &Sample::new(0.0, 0.0, f64::NAN),
        &Sample::new(60.0, 4.0, 1.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect),
        (Status::OneArmMissing, None)
    );
    let result = mean_tests::welch_t(
        &Sample::new(50.0, 3.0, 0.0),
        &Sample::new(60.0, 4.0, 0.0),
        0.05,
    );
    assert_eq!(
        (result.status, result.effect, result.se, result.p_two_sided),
        (Status::ZeroVariance, Some(1.0), Some(0.0), None)
    );
}
