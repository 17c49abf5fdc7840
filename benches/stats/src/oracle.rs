//! A slow oracle for Welch's test and the ratio's variance, sharing no formula with the library: exact integers for moments, numerical
//! integration of the density for p values. In: seeds. Out: how many random states gave a value, which status, and what was wrong.

use equipoise::stats::double_double::DoubleDouble;
use equipoise::stats::exact_sum::{ExactSum, Wide};
use equipoise::stats::mean_tests::{MeanTest, welch_t};
use equipoise::stats::quadrature::integrate;
use equipoise::stats::random::Stream;
use equipoise::stats::ratio::ratio_sample;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::state::State;
use equipoise::stats::status::Status;
use std::collections::BTreeMap;

/// What was found over many states.
#[derive(Debug, Default)]
pub struct Findings {
    /// How often each status was given.
    pub statuses: BTreeMap<&'static str, u64>,
    /// The largest relative error of any checked number.
    pub worst: f64,
    /// The first few contradictions.
    pub failures: Vec<String>,
}

/// Checks so many random pairs of states; the error allowed is 1e-10.
pub fn check(states: u64, seed: u64) -> Findings {
    let mut findings = Findings::default();
    for place in 0..states {
        let mut stream = Stream::new(seed.wrapping_add(place));
        let (control, treatment) = (random_sample(&mut stream), random_sample(&mut stream));
        let test = welch_t(&control, &treatment, 0.05);
        *findings.statuses.entry(test.status.name()).or_insert(0) += 1;
        let outcome = welch_error(&control, &treatment, &test);
        note(&mut findings, outcome, || {
            format!("{control:?} {treatment:?} {test:?}")
        });
        if place % 10 == 0 {
            let state = random_ratio_state(&mut stream);
            note(&mut findings, ratio_error(&state), || format!("{state:?}"));
        }
    }
    findings
}

fn note(findings: &mut Findings, error: f64, describe: impl Fn() -> String) {
    findings.worst = findings.worst.max(error);
    if !(error < 1e-10) && findings.failures.len() < 5 {
        findings
            .failures
            .push(format!("error {error:e}: {}", describe()));
    }
}

/// Counts, means and variances over many orders of magnitude, with every kind of degeneracy among them.
fn random_sample(stream: &mut Stream) -> Sample {
    let n = match stream.below(20) {
        0 => stream.below(3) as f64,
        1..=9 => (2.0 + 10f64.powf(3.0 * stream.uniform())).floor(),
        _ => 10f64.powf(1.0 + 6.0 * stream.uniform()).floor(),
    };
    let scale = 10f64.powf(if stream.below(10) == 0 {
        400.0 * stream.uniform() - 200.0
    } else {
        6.0 * stream.uniform() - 3.0
    });
    let mean = if stream.below(5) == 0 {
        1e9
    } else {
        (stream.uniform() - 0.3) * 10.0
    } * scale;
    let variance = if stream.below(20) == 0 {
        0.0
    } else {
        scale * scale * 10f64.powf(6.0 * stream.uniform() - 3.0)
    };
    Sample {
        n,
        mean: DoubleDouble::new(mean, mean * 1e-17 * stream.uniform()),
        variance: DoubleDouble::from(variance),
    }
}

/// The largest relative error of a Welch result, infinite when status and fields contradict each other.
fn welch_error(control: &Sample, treatment: &Sample, test: &MeanTest) -> f64 {
    let fields = [
        test.se,
        test.df,
        test.t,
        test.p_two_sided,
        test.log10_p,
        test.ci_low,
        test.ci_high,
    ];
    if test.status != Status::Ok {
        // A reason must be a reason: nothing that looks like a p value may stand beside it, unless only a logarithm overflowed.
        let is_consistent = test.status == Status::Overflow
            || (test.p_two_sided.is_none() && test.log10_p.is_none());
        return if is_consistent { 0.0 } else { f64::INFINITY };
    }
    let [
        Some(se),
        Some(df),
        Some(t),
        Some(p),
        Some(log10_p),
        Some(ci_low),
        Some(ci_high),
    ] = fields
    else {
        return f64::INFINITY;
    };
    let exact_effect = exact(&[
        treatment.mean.high,
        treatment.mean.low,
        -control.mean.high,
        -control.mean.low,
    ])
    .rounded();
    // Over the larger variance, which may be subnormal.
    let largest = control.variance.high.max(treatment.variance.high);
    let (r1, r2) = (
        control.variance.high / largest / control.n,
        treatment.variance.high / largest / treatment.n,
    );
    let plain_se = largest.sqrt() * (r1 + r2).sqrt();
    let plain_df =
        (r1 + r2).powi(2) / (r1 * r1 / (control.n - 1.0) + r2 * r2 / (treatment.n - 1.0));
    let ln_p = ln_two_sided(exact_effect / plain_se, plain_df);
    let half = 0.5 * (ci_high - ci_low);
    let quantile = half / plain_se;
    let mut worst = relative(test.effect.unwrap_or(f64::NAN), exact_effect)
        .max(relative(se, plain_se))
        .max(relative(df, plain_df));
    worst = worst.max(relative(t, exact_effect / plain_se));
    // ln p is known to the plain statistic's rounding times its own size.
    let tolerance_unit = 1e-10 / (1e-10 + 8e-16 * ln_p.abs() / ln_p.abs().max(1.0));
    worst = worst.max(
        (log10_p * std::f64::consts::LN_10 - ln_p).abs() / ln_p.abs().max(1.0) * tolerance_unit,
    );
    if p > 1e-290 {
        worst = worst.max(
            relative(p.ln().min(0.0), log10_p * std::f64::consts::LN_10)
                .min((p.ln() - log10_p * std::f64::consts::LN_10).abs()),
        );
    }
    // The ends may be lost beside a huge effect; then there is no half-width to check.
    if half > 1e-3 * exact_effect.abs() {
        worst = worst.max((ln_two_sided(quantile, plain_df) - 0.05f64.ln()).abs());
    }
    worst
}

/// `ln P(|T| > |t|)` by integration of cosh^-nu over theta, t = sqrt(nu) sinh(theta), normalised by its own integral.
pub fn ln_two_sided(t: f64, degrees: f64) -> f64 {
    let start = (t.abs() / degrees.sqrt()).asinh();
    let ln_cosh = |theta: f64| theta + (0.5 * (-2.0 * theta).exp_m1()).ln_1p();
    let outer = tail_integral(start, degrees, ln_cosh);
    let whole = tail_integral(0.0, degrees, ln_cosh);
    outer.ln() - whole.ln() - degrees * ln_cosh(start)
}

/// The integral of `(cosh theta / cosh start)^-nu` from `start`, until it has fallen by e^-45.
fn tail_integral(start: f64, degrees: f64, ln_cosh: impl Fn(f64) -> f64) -> f64 {
    let base = ln_cosh(start);
    let fall = |distance: f64| degrees * (ln_cosh(start + distance) - base);
    let mut reach = 1e-9;
    while fall(reach) < 45.0 {
        reach *= 1.5;
    }
    integrate(0.0, reach, 20, |distance| (-fall(distance)).exp())
}

fn random_ratio_state(stream: &mut Stream) -> State {
    let units = 3 + stream.below(20) as usize;
    let scale = 10f64.powf(8.0 * stream.uniform() - 4.0);
    let denominators: Vec<f64> = (0..units)
        .map(|_| 1.0 + (stream.uniform() * 9.0).floor())
        .collect();
    // Near-proportional data in every other state: there the quadratic form cancels.
    let noise = if stream.below(2) == 0 { 1.0 } else { 1e-5 };
    let numerators: Vec<f64> = denominators
        .iter()
        .map(|d| scale * (d * 0.37 + noise * stream.uniform()))
        .collect();
    State::of_columns(&[&numerators, &denominators])
}

/// The unit variance of a ratio against exact integers: `(C_yy mx^2 - 2 C_xy my mx + C_xx my^2) / mx^4 / (n - 1)`.
fn ratio_error(state: &State) -> f64 {
    let Ok(moments) = Moments::<2>::of_state(state) else {
        return f64::INFINITY;
    };
    let Ok(sample) = ratio_sample(&moments) else {
        return f64::INFINITY;
    };
    let mean = |value: usize| exact(&[state.mean[value].high, state.mean[value].low]);
    let product = |value: usize| exact(&[state.cross_products[value]]);
    let (my, mx) = (mean(0), mean(1));
    let first = product(0).times(&mx).times(&mx);
    let second = product(1).times(&mx).times(&my).times_count(2);
    let third = product(2).times(&my).times(&my);
    let numerator = first
        .minus(&second)
        .minus(&exact(&[0.0]).minus(&third))
        .rounded();
    let mx = state.mean[1].high;
    let wanted = numerator / (mx * mx * mx * mx) / (state.n as f64 - 1.0);
    if wanted <= 0.0 {
        0.0
    } else {
        relative(sample.variance.value(), wanted)
    }
}

fn exact(terms: &[f64]) -> Wide {
    let mut sum = ExactSum::default();
    terms.iter().for_each(|term| sum.add(*term));
    sum.to_wide()
}

fn relative(found: f64, wanted: f64) -> f64 {
    if found == wanted {
        0.0
    } else {
        (found - wanted).abs() / wanted.abs()
    }
}
