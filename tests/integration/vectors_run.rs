//! Which function of the library a case of the vectors calls. In: a function's name and a case's inputs. Out: the fields of its result.

use super::vectors::{Answer, Answers, Inputs, answers, number};
use equipoise::stats::cuped::{self, ThetaRule};
use equipoise::stats::group_sequential::{self, Sides, Spending};
use equipoise::stats::non_inferiority::{self, Direction};
use equipoise::stats::quantiles::ClusteredQuantile;
use equipoise::stats::sample::Sample;
use equipoise::stats::state::State;
use equipoise::stats::{
    always_valid, bayes, clusters, corrections, cuped_multi, distributions, heterogeneity, lift,
    mean_tests, power, proportions, quantiles, ranks, ratio, resampling, sample_ratio, strata,
};

/// Calls the function a case names; `None` when there is no such function.
pub fn run(function: &str, inputs: &Inputs) -> Option<Answers> {
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
        "newcombe" => with_counts(inputs, |[x1, n1, x2, n2]| {
            answers(&proportions::newcombe(x1, n1, x2, n2, alpha))
        }),
        "fisher_exact" => {
            let rows = inputs.rows("table")?;
            let row = |place: usize| [rows[place][0], rows[place][1]];
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
        "cuped_single_pooled_theta" | "cuped_single_within_theta" => {
            let (control, treatment) = inputs.moments(["y", "x"]);
            answers(&cuped::cuped_single(
                &control,
                &treatment,
                theta_rule(function),
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
        "cuped_rel_exact_gradient" | "cuped_rel_exact_gradient_within_theta" => {
            let (control, treatment) = inputs.moments(["y", "x"]);
            answers(&cuped::cuped_rel_exact_gradient(
                &control,
                &treatment,
                theta_rule(function),
                alpha,
            ))
        }
        "cuped_ratio_pooled_theta" => cuped_ratio(inputs, ThetaRule::Concatenated),
        "cuped_ratio_within_theta" => cuped_ratio(inputs, ThetaRule::WithinArms),
        "srm_chi2" => answers(&sample_ratio::srm_chi2(
            &inputs.numbers("observed"),
            &inputs.numbers("weights"),
        )),
        "srm_exact" => answers(&sample_ratio::srm_exact(
            &inputs.numbers("observed"),
            &inputs.numbers("weights"),
        )),
        "srm_sequential_dirichlet" => answers(&sample_ratio::srm_sequential_dirichlet(
            &inputs.numbers("observed"),
            &inputs.numbers("weights"),
            inputs.number("k"),
        )),
        "srm_sequential_running" => answers(&sample_ratio::srm_sequential_running(
            &inputs.rows("looks")?,
            &inputs.numbers("weights"),
            inputs.number("k"),
        )),
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
        "sample_size_z_cuped" => {
            let [var1, var2, effect, power, ratio, rho] =
                ["var1", "var2", "effect", "power", "ratio", "rho"].map(|name| inputs.number(name));
            answers(&power::sample_size_z_cuped(
                var1, var2, effect, alpha, power, ratio, rho,
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
        "quantile_estimate" => answers(&quantiles::quantile_estimate(
            &inputs.numbers("values"),
            &inputs.numbers("clusters"),
            inputs.number("nu"),
        )),
        "quantile_test" => {
            let arm = |arm: u8| {
                quantiles::quantile_estimate(
                    &inputs.numbers(&format!("x{arm}")),
                    &inputs.numbers(&format!("clusters{arm}")),
                    inputs.number("nu"),
                )
            };
            answers(&quantiles::quantile_test(&arm(1), &arm(2), alpha))
        }
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
        "gst_bounds_joint" | "gst_bounds_split" | "gst_power" | "gst_inflation" => {
            sequential_design(function, inputs)?
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
        "non_inferiority_fixed_margin" | "non_inferiority_linear_margin" => {
            let direction = Direction::named(inputs.text("direction")?)?;
            let margin = inputs.number("nim_relative");
            let test = if function == "non_inferiority_fixed_margin" {
                non_inferiority::non_inferiority_fixed_margin
            } else {
                non_inferiority::non_inferiority_linear_margin
            };
            with_samples(inputs, |c, t| {
                answers(&test(c, t, margin, direction, alpha))
            })
        }
        "adjust_bonferroni" => answers(&corrections::adjust_bonferroni(&inputs.numbers("p"))),
        "adjust_holm" => answers(&corrections::adjust_holm(&inputs.numbers("p"))),
        "adjust_hochberg" => answers(&corrections::adjust_hochberg(&inputs.numbers("p"))),
        "adjust_bh" => answers(&corrections::adjust_bh(&inputs.numbers("p"))),
        "adjust_by" => answers(&corrections::adjust_by(&inputs.numbers("p"))),
        "gatekeeping" => answers(&corrections::gatekeeping(
            &inputs.numbers("p"),
            &inputs.numbers("gates"),
            alpha,
        )),
        "cluster_delta" => answers(&clusters::cluster_delta_rows(&inputs.cluster_rows()?, 0.05)),
        "segment_heterogeneity_q" => answers(&heterogeneity::segment_heterogeneity_q(
            &inputs.numbers("effects"),
            &inputs.numbers("ses"),
        )),
        "novelty_trend" => answers(&heterogeneity::novelty_trend(
            &inputs.numbers("days"),
            &inputs.numbers("effects"),
            &inputs.numbers("ses"),
            alpha,
        )),
        "assignment_dependence" => answers(&heterogeneity::assignment_dependence(
            &inputs.rows("table")?,
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
        "norm_sf" => answers(&distributions::norm_sf(inputs.number("z"))),
        "norm_isf" => answers(&distributions::norm_isf(inputs.number("p"))),
        "t_sf" => answers(&distributions::t_sf(
            inputs.number("t"),
            inputs.number("df"),
        )),
        "t_isf" => answers(&distributions::t_isf(
            inputs.number("p"),
            inputs.number("df"),
        )),
        _ => return None,
    })
}

fn plain<const N: usize>(fields: [(&str, f64); N]) -> Answers {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_string(), Answer::Number(Some(value))))
        .collect()
}

fn with_samples(inputs: &Inputs, test: impl Fn(&Sample, &Sample) -> Answers) -> Answers {
    let (control, treatment) = inputs.samples();
    test(&control, &treatment)
}

fn with_counts(inputs: &Inputs, test: impl Fn([f64; 4]) -> Answers) -> Answers {
    test(inputs.counts())
}

fn theta_rule(function: &str) -> ThetaRule {
    if function.contains("within") {
        ThetaRule::WithinArms
    } else {
        ThetaRule::Concatenated
    }
}

fn sequential_design(function: &str, inputs: &Inputs) -> Option<Answers> {
    let (t, alpha) = (inputs.numbers("t"), inputs.number("alpha"));
    let spending = Spending::named(inputs.text("spending")?, inputs.number("phi"))?;
    let sides = Sides::named(inputs.number("sides"), function == "gst_bounds_split")?;
    Some(match function {
        "gst_power" => answers(&group_sequential::gst_power(
            &t,
            alpha,
            spending,
            sides,
            inputs.number("drift"),
        )),
        "gst_inflation" => answers(&group_sequential::gst_inflation(
            &t,
            alpha,
            inputs.number("power"),
            spending,
            sides,
        )),
        _ => answers(&group_sequential::gst_bounds(&t, alpha, spending, sides)),
    })
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
