//! Calibration by simulation: false positives of every test and coverage of relative intervals, with fixed seeds.
//! In: a number of replicates and of units. Out: one [`Line`] per test and kind of data. The tests called are those users call; only the
//! moments of the simulated rows are formed here by a plain two-pass sum, because exact sums of 10^9 rows would take hours.

use equipoise::stats::always_valid::asymp_cs_two_sided;
use equipoise::stats::clusters::cluster_delta;
use equipoise::stats::cuped::{ThetaRule, cuped_ratio, cuped_rel_exact_gradient, cuped_single};
use equipoise::stats::double_double::DoubleDouble;
use equipoise::stats::group_sequential::{Sides, Spending, gst_bounds};
use equipoise::stats::lift::{relative_lift_delta_t, relative_lift_fieller_z, relative_lift_log_t};
use equipoise::stats::mean_tests::{student_t, welch_t, z_test_unpooled};
use equipoise::stats::non_inferiority::{
    Direction, non_inferiority_fixed_margin, non_inferiority_linear_margin,
};
use equipoise::stats::normal;
use equipoise::stats::proportions::{
    fisher_exact, prop_welch_ml_var, prop_welch_unbiased_var, prop_z_pooled, prop_z_unpooled,
};
use equipoise::stats::random::Stream;
use equipoise::stats::ranks::mann_whitney_u;
use equipoise::stats::ratio::ratio_delta_welch;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::sample_ratio::{srm_chi2, srm_sequential_dirichlet};
use equipoise::stats::strata::post_strat_random_weights;
use std::ops::RangeInclusive;

/// The share of replicates in which something happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// The data.
    pub data: &'static str,
    /// The test or interval.
    pub method: &'static str,
    pub rate: f64,
    /// Where the rate must lie; `None` where it is only reported.
    pub bar: Option<RangeInclusive<f64>>,
}

/// Runs everything: `replicates` of `units` units per arm for normal and gamma data, ten times as many for rare data.
pub fn run(replicates: u64, units: usize, seed: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, scenario) in scenarios(units).into_iter().enumerate() {
        // Scenarios do not share numbers, or one unlucky seed would show in all of them.
        let counts = replicate(replicates, seed + 1_000 * place as u64, &scenario);
        for (place, (method, bar)) in scenario.methods.iter().enumerate() {
            let rate = counts[place] as f64 / replicates as f64;
            lines.push(Line {
                data: scenario.data,
                method,
                rate,
                bar: bar.clone(),
            });
        }
    }
    lines
}

type Bar = Option<RangeInclusive<f64>>;
type Trial = Box<dyn Fn(&mut Stream) -> Vec<bool> + Sync>;

/// One kind of data and what is asked of it in each replicate.
struct Scenario {
    data: &'static str,
    methods: Vec<(&'static str, Bar)>,
    trial: Trial,
}

const ALPHA: f64 = 0.05;

fn exact() -> Bar {
    Some(0.048..=0.052)
}

fn rare() -> Bar {
    Some(0.045..=0.053)
}

fn scenarios(units: usize) -> Vec<Scenario> {
    vec![
        normal_means(units),
        gamma_ratios(units),
        bernoulli(10 * units),
        zero_inflated(10 * units),
        ranked(units),
        stratified(units),
        clustered(),
        margins(units),
        sample_ratios(),
        looks(),
        relative("gamma, lift +50 %", units, 1.5),
        relative("gamma, lift +100 %", units, 2.0),
        relative("gamma, lift -30 %", units, 0.7),
    ]
}

/// Every replicate has a stream of its own, so the number of threads cannot change the counts.
fn replicate(replicates: u64, seed: u64, scenario: &Scenario) -> Vec<u64> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let count = |first: u64| {
        let mut counts = vec![0; scenario.methods.len()];
        for replicate in (first..replicates).step_by(threads as usize) {
            let mut stream = Stream::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(replicate));
            for (count, happened) in counts.iter_mut().zip((scenario.trial)(&mut stream)) {
                *count += u64::from(happened);
            }
        }
        counts
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || count(first)))
            .collect();
        let mut totals = vec![0; scenario.methods.len()];
        for worker in workers {
            let counts = worker.join().expect("a simulation does not panic");
            totals
                .iter_mut()
                .zip(counts)
                .for_each(|(total, count)| *total += count);
        }
        totals
    })
}

fn is_significant(p: Option<f64>) -> bool {
    p.is_some_and(|p| p <= ALPHA)
}

/// Means and CUPED of a normal metric whose covariate has correlation 0.7.
fn normal_means(units: usize) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let arm = |stream: &mut Stream| {
            moments(units, || {
                let x = gaussian(stream);
                [10.0 + 0.7 * x + 0.714 * gaussian(stream), 5.0 + x]
            })
        };
        let (control, treatment) = (arm(stream), arm(stream));
        let (c, t) = (sample(&control), sample(&treatment));
        vec![
            is_significant(welch_t(&c, &t, ALPHA).p_two_sided),
            is_significant(student_t(&c, &t, ALPHA).p_two_sided),
            is_significant(z_test_unpooled(&c, &t, ALPHA).p_two_sided),
            is_significant(relative_lift_delta_t(&c, &t, ALPHA).p_two_sided),
            is_significant(relative_lift_log_t(&c, &t, ALPHA).p_two_sided),
            is_significant(
                cuped_single(&control, &treatment, ThetaRule::Concatenated, ALPHA).p_two_sided,
            ),
            is_significant(
                cuped_single(&control, &treatment, ThetaRule::WithinArms, ALPHA).p_two_sided,
            ),
            is_significant(
                cuped_rel_exact_gradient(&control, &treatment, ThetaRule::WithinArms, ALPHA)
                    .p_two_sided,
            ),
        ]
    };
    let names = [
        "welch_t",
        "student_t",
        "z_test_unpooled",
        "relative_lift_delta_t",
        "relative_lift_log_t",
        "cuped_single_pooled_theta",
        "cuped_single_within_theta",
        "cuped_rel_exact_gradient",
    ];
    Scenario {
        data: "normal",
        methods: names.map(|name| (name, exact())).to_vec(),
        trial: Box::new(trial),
    }
}

/// Means and ratios of gamma(2) data: clicks per visit, with the pre-period's.
fn gamma_ratios(units: usize) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let arm = |stream: &mut Stream| {
            moments(units, || {
                let (habit, d, xd) = (
                    gamma_two(stream),
                    1.0 + gamma_two(stream),
                    1.0 + gamma_two(stream),
                );
                [
                    d * (habit + gamma_two(stream)),
                    d,
                    xd * (habit + gamma_two(stream)),
                    xd,
                ]
            })
        };
        let (control, treatment) = (arm(stream), arm(stream));
        let (c, t) = (sample(&control), sample(&treatment));
        let (control_ratio, treatment_ratio) = (first_two(&control), first_two(&treatment));
        vec![
            is_significant(welch_t(&c, &t, ALPHA).p_two_sided),
            is_significant(student_t(&c, &t, ALPHA).p_two_sided),
            is_significant(z_test_unpooled(&c, &t, ALPHA).p_two_sided),
            is_significant(ratio_delta_welch(&control_ratio, &treatment_ratio, ALPHA).p_two_sided),
            is_significant(
                cuped_ratio(&control, &treatment, ThetaRule::Concatenated, ALPHA).p_two_sided,
            ),
            is_significant(
                cuped_ratio(&control, &treatment, ThetaRule::WithinArms, ALPHA).p_two_sided,
            ),
        ]
    };
    let names = [
        "welch_t",
        "student_t",
        "z_test_unpooled",
        "ratio_delta_welch",
        "cuped_ratio_pooled_theta",
        "cuped_ratio_within_theta",
    ];
    Scenario {
        data: "gamma",
        methods: names.map(|name| (name, exact())).to_vec(),
        trial: Box::new(trial),
    }
}

/// Shares of one per cent.
fn bernoulli(units: usize) -> Scenario {
    let n = units as f64;
    let table = binomial_table(n, 0.01);
    let trial = move |stream: &mut Stream| {
        let (x1, x2) = (draw(&table, stream), draw(&table, stream));
        vec![
            is_significant(prop_z_pooled(x1, n, x2, n, ALPHA).p_two_sided),
            is_significant(prop_z_unpooled(x1, n, x2, n, ALPHA).p_two_sided),
            is_significant(prop_welch_unbiased_var(x1, n, x2, n, ALPHA).p_two_sided),
            is_significant(prop_welch_ml_var(x1, n, x2, n, ALPHA).p_two_sided),
            is_significant(fisher_exact([[x1, n - x1], [x2, n - x2]]).p_two_sided),
        ]
    };
    let methods = vec![
        ("prop_z_pooled", rare()),
        ("prop_z_unpooled", rare()),
        ("prop_welch_unbiased_var", rare()),
        ("prop_welch_ml_var", rare()),
        // Exact tests keep below alpha by as much as discreteness asks.
        ("fisher_exact", Some(0.0..=0.05)),
    ];
    Scenario {
        data: "Bernoulli(0.01)",
        methods,
        trial: Box::new(trial),
    }
}

/// Revenue: nine units of ten have none, the others a lognormal amount.
fn zero_inflated(units: usize) -> Scenario {
    let n = units as f64;
    let table = binomial_table(n, 0.1);
    let trial = move |stream: &mut Stream| {
        let arm = |stream: &mut Stream| {
            let buyers = draw(&table, stream) as usize;
            let spent = moments(buyers, || [gaussian(stream).exp()]);
            // The zeros join by the merge of moments.
            let zeros = Moments {
                n: n - buyers as f64,
                mean: [DoubleDouble::ZERO],
                cross_products: [[DoubleDouble::ZERO]],
            };
            sample(&spent.concatenated(&zeros))
        };
        let (c, t) = (arm(stream), arm(stream));
        vec![
            is_significant(welch_t(&c, &t, ALPHA).p_two_sided),
            is_significant(student_t(&c, &t, ALPHA).p_two_sided),
            is_significant(z_test_unpooled(&c, &t, ALPHA).p_two_sided),
        ]
    };
    let names = ["welch_t", "student_t", "z_test_unpooled"];
    Scenario {
        data: "zero-inflated lognormal",
        methods: names.map(|name| (name, rare())).to_vec(),
        trial: Box::new(trial),
    }
}

fn ranked(units: usize) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let arm = |stream: &mut Stream| (0..units).map(|_| gamma_two(stream)).collect::<Vec<f64>>();
        let (control, treatment) = (arm(stream), arm(stream));
        vec![is_significant(
            mann_whitney_u(&control, &treatment, true).p_two_sided,
        )]
    };
    Scenario {
        data: "gamma",
        methods: vec![("mann_whitney_u", exact())],
        trial: Box::new(trial),
    }
}

fn stratified(units: usize) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let mut strata = Vec::new();
        for level in [0.0, 3.0, 10.0] {
            let arm =
                |stream: &mut Stream| sample(&moments(units / 3, || [level + gaussian(stream)]));
            strata.push((arm(stream), arm(stream)));
        }
        vec![is_significant(
            post_strat_random_weights(&strata, ALPHA).p_two_sided,
        )]
    };
    Scenario {
        data: "normal, three strata",
        methods: vec![("post_strat_random_weights", Some(0.0..=0.052))],
        trial: Box::new(trial),
    }
}

/// Fifteen clusters per arm, where the normal distribution would be too short.
fn clustered() -> Scenario {
    let trial = move |stream: &mut Stream| {
        let arm = |stream: &mut Stream| {
            moments(15, || {
                let (size, shift) = ((20.0 + 10.0 * stream.uniform()).floor(), gaussian(stream));
                [size * (5.0 + shift) + size.sqrt() * gaussian(stream), size]
            })
        };
        vec![is_significant(
            cluster_delta(&arm(stream), &arm(stream), ALPHA).p_two_sided,
        )]
    };
    Scenario {
        data: "30 clusters",
        methods: vec![("cluster_delta", None)],
        trial: Box::new(trial),
    }
}

/// The treatment is worse by exactly the margin.
fn margins(units: usize) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let control = sample(&moments(units, || [gamma_two(stream)]));
        let treatment = sample(&moments(units, || [0.95 * gamma_two(stream)]));
        vec![
            non_inferiority_linear_margin(
                &control,
                &treatment,
                0.05,
                Direction::IncreaseGood,
                ALPHA,
            )
            .non_inferior
                == Some(true),
            non_inferiority_fixed_margin(
                &control,
                &treatment,
                0.05,
                Direction::IncreaseGood,
                ALPHA,
            )
            .non_inferior
                == Some(true),
        ]
    };
    let methods = vec![
        ("non_inferiority_linear_margin", exact()),
        ("non_inferiority_fixed_margin", None),
    ];
    Scenario {
        data: "gamma, worse by the margin",
        methods,
        trial: Box::new(trial),
    }
}

/// 28 days of 2,000 units: looked at once at the end, daily, and daily with the sequential test.
fn sample_ratios() -> Scenario {
    let daily = binomial_table(2000.0, 0.5);
    let trial = move |stream: &mut Stream| {
        let (mut first, mut total) = (0.0, 0.0);
        let (mut daily_strict, mut sequential, mut p) = (false, false, 1.0);
        for _ in 0..28 {
            first += draw(&daily, stream);
            total += 2000.0;
            let observed = [first, total - first];
            p = srm_chi2(&observed, &[0.5, 0.5]).p.unwrap_or(1.0);
            daily_strict |= p < 0.001;
            sequential |= is_significant(srm_sequential_dirichlet(&observed, &[0.5, 0.5], 100.0).p);
        }
        vec![p <= ALPHA, daily_strict, sequential]
    };
    let methods = vec![
        ("srm_chi2, once", exact()),
        ("srm_chi2 < 0.001, 28 looks", None),
        ("srm_sequential, 28 looks", Some(0.0..=0.05)),
    ];
    Scenario {
        data: "fair assignment",
        methods,
        trial: Box::new(trial),
    }
}

/// 28 equal looks at an effect that is not there.
fn looks() -> Scenario {
    const LOOKS: usize = 28;
    let times: Vec<f64> = (1..=LOOKS).map(|look| look as f64 / LOOKS as f64).collect();
    let bounds = |spending| gst_bounds(&times, ALPHA, spending, Sides::Two).zb;
    let designs = [
        bounds(Spending::OBrienFleming),
        bounds(Spending::Power(2.0)),
        bounds(Spending::Pocock),
        bounds(Spending::HwangShihDeCani(-4.0)),
    ];
    let trial = move |stream: &mut Stream| {
        let mut crossed = vec![false; 6];
        let mut walk = 0.0;
        for look in 1..=LOOKS {
            walk += gaussian(stream);
            let n = 1000.0 * look as f64;
            // The effect's standard error at n units of variance one in two equal arms.
            let (effect, se) = (walk / look as f64 * 2.0 / 1000f64.sqrt(), 2.0 / n.sqrt());
            let z = (effect / se).abs();
            for (place, design) in designs.iter().enumerate() {
                crossed[place] |= z >= design[look - 1];
            }
            crossed[4] |= is_significant(asymp_cs_two_sided(effect, se, n, ALPHA, 28_000.0).p);
            crossed[5] |= z >= normal::upper_quantile(ALPHA / 2.0);
        }
        crossed
    };
    let group = || Some(0.0..=0.052);
    let methods = vec![
        ("gst obf, 28 looks", group()),
        ("gst power(2), 28 looks", group()),
        ("gst pocock, 28 looks", group()),
        ("gst hsd(-4), 28 looks", group()),
        ("asymp_cs_two_sided, 28 looks", Some(0.0..=0.05)),
        ("fixed z at each of 28 looks", None),
    ];
    Scenario {
        data: "normal",
        methods,
        trial: Box::new(trial),
    }
}

/// Whether relative intervals hold the true lift, at a baseline well away from zero.
fn relative(data: &'static str, units: usize, factor: f64) -> Scenario {
    let trial = move |stream: &mut Stream| {
        let control = sample(&moments(units, || [gamma_two(stream)]));
        let treatment = sample(&moments(units, || [factor * gamma_two(stream)]));
        let truth = factor - 1.0;
        let holds = |low: Option<f64>, high: Option<f64>| {
            low.is_some_and(|low| low <= truth) && high.is_some_and(|high| high >= truth)
        };
        let delta = relative_lift_delta_t(&control, &treatment, ALPHA);
        let fieller = relative_lift_fieller_z(&control, &treatment, ALPHA);
        let log = relative_lift_log_t(&control, &treatment, ALPHA);
        vec![
            holds(delta.ci_low, delta.ci_high),
            holds(fieller.ci_low, fieller.ci_high),
            holds(log.ci_low, log.ci_high),
        ]
    };
    let covered = || Some(0.945..=1.0);
    let methods = vec![
        ("coverage, delta", covered()),
        ("coverage, Fieller", covered()),
        ("coverage, log", covered()),
    ];
    Scenario {
        data,
        methods,
        trial: Box::new(trial),
    }
}

fn gaussian(stream: &mut Stream) -> f64 {
    normal::lower_quantile(stream.uniform())
}

/// Gamma of shape two: the sum of two exponentials.
fn gamma_two(stream: &mut Stream) -> f64 {
    -(stream.uniform() * stream.uniform()).ln()
}

/// Moments of simulated rows, around the first row.
fn moments<const P: usize>(rows: usize, mut row: impl FnMut() -> [f64; P]) -> Moments<P> {
    let mut result = Moments {
        n: rows as f64,
        mean: [DoubleDouble::ZERO; P],
        cross_products: [[DoubleDouble::ZERO; P]; P],
    };
    if rows == 0 {
        return result;
    }
    let centre = row();
    let (mut sums, mut products) = ([0.0; P], [[0.0; P]; P]);
    for _ in 1..rows {
        let values = row();
        for i in 0..P {
            let shifted = values[i] - centre[i];
            sums[i] += shifted;
            for j in 0..=i {
                products[i][j] += shifted * (values[j] - centre[j]);
            }
        }
    }
    for i in 0..P {
        result.mean[i] = DoubleDouble::new(centre[i], sums[i] / result.n);
        for j in 0..=i {
            let product = DoubleDouble::from(products[i][j] - sums[i] * sums[j] / result.n);
            result.cross_products[i][j] = product;
            result.cross_products[j][i] = product;
        }
    }
    result
}

fn sample<const P: usize>(moments: &Moments<P>) -> Sample {
    Sample {
        n: moments.n,
        mean: moments.mean[0],
        variance: moments.cross_products[0][0] / (moments.n - 1.0),
    }
}

fn first_two(moments: &Moments<4>) -> Moments<2> {
    let c = &moments.cross_products;
    Moments {
        n: moments.n,
        mean: [moments.mean[0], moments.mean[1]],
        cross_products: [[c[0][0], c[0][1]], [c[1][0], c[1][1]]],
    }
}

/// Cumulative binomial probabilities, for inversion.
fn binomial_table(n: f64, p: f64) -> Vec<f64> {
    // From the mode outwards by ratios: the first term alone may underflow.
    let mode = (n * p).floor();
    let mut weights = vec![0.0; n as usize + 1];
    weights[mode as usize] = 1.0;
    let ratio = |k: f64| (n - k) / (k + 1.0) * p / (1.0 - p);
    for k in (mode as usize)..n as usize {
        weights[k + 1] = weights[k] * ratio(k as f64);
    }
    for k in (0..mode as usize).rev() {
        weights[k] = weights[k + 1] / ratio(k as f64);
    }
    let total: f64 = weights.iter().sum();
    let mut cumulative = 0.0;
    weights
        .iter()
        .map(|weight| {
            cumulative += weight / total;
            cumulative
        })
        .collect()
}

fn draw(table: &[f64], stream: &mut Stream) -> f64 {
    let level = stream.uniform();
    table
        .partition_point(|cumulative| *cumulative < level)
        .min(table.len() - 1) as f64
}
