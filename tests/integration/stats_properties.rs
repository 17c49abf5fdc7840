//! What must hold for any data: merging, shifting, scaling, swapping arms; and a slow oracle on random states. The oracle's million states and the
//! calibration's 100,000 replicates are commands of benches/stats; small versions of both run here.

use equipoise::stats::lift::relative_lift_fieller_z;
use equipoise::stats::mean_tests::{MeanTest, student_t, welch_t, z_test_unpooled};
use equipoise::stats::random::Stream;
use equipoise::stats::sample::Sample;
use equipoise::stats::state::{Accumulator, NullPolicy, State};
use equipoise::stats::{Status, resampling};

#[path = "../../benches/stats/src/oracle.rs"]
mod oracle;
#[path = "../../benches/stats/src/simulation.rs"]
mod simulation;

#[test]
fn merging_is_free_of_order_and_equal_to_one_pass() {
    let mut stream = Stream::new(1);
    for _ in 0..30 {
        let rows: Vec<[f64; 2]> = (0..200)
            .map(|_| [wild(&mut stream), wild(&mut stream)])
            .collect();
        let whole = accumulate(&rows);
        let mut parts: Vec<Accumulator> = rows.chunks(17).map(accumulate).collect();
        let merged = |parts: &[Accumulator]| {
            let mut all = Accumulator::new(2);
            parts.iter().for_each(|part| all.merge(part));
            all.finish()
        };
        assert_eq!(merged(&parts), whole.finish());
        parts.reverse();
        parts.swap(2, 7);
        assert_eq!(merged(&parts), whole.finish());
    }
}

#[test]
fn finished_states_merge_to_the_same_bytes_in_any_order_and_associatively_to_a_rounding() {
    let mut stream = Stream::new(2);
    for _ in 0..30 {
        let states: Vec<State> = (0..5)
            .map(|_| State::of(&(0..20).map(|_| wild(&mut stream)).collect::<Vec<_>>()))
            .collect();
        let backwards: Vec<&State> = states.iter().rev().collect();
        assert_eq!(State::merge_all(&states), State::merge_all(backwards));
        let left = states[0].merge(&states[1]).merge(&states[2]);
        let right = states[0].merge(&states[1].merge(&states[2]));
        assert_eq!((left.n, left.mean[0].high), (right.n, right.mean[0].high));
        assert!(is_close(
            left.cross_products[0],
            right.cross_products[0],
            4e-16
        ));
    }
}

#[test]
fn shifting_and_scaling_the_data_shifts_and_scales_the_answer() {
    let mut stream = Stream::new(3);
    for _ in 0..50 {
        let (control, treatment) = (values(&mut stream, 30), values(&mut stream, 40));
        let plain = welch(&control, &treatment);
        let shifted = welch(
            &changed(&control, |x| x + 1024.0),
            &changed(&treatment, |x| x + 1024.0),
        );
        assert!(
            is_near(&plain, &shifted, 1.0, 1e-10),
            "{plain:?} {shifted:?}"
        );
        // A power of two changes no digit.
        let doubled = welch(
            &changed(&control, |x| x * 4.0),
            &changed(&treatment, |x| x * 4.0),
        );
        assert!(is_near(&plain, &doubled, 4.0, 0.0), "{plain:?} {doubled:?}");
        let tiny = welch(
            &changed(&control, |x| x * 2f64.powi(-500)),
            &changed(&treatment, |x| x * 2f64.powi(-500)),
        );
        assert!(
            is_near(&plain, &tiny, 2f64.powi(-500), 1e-14),
            "{plain:?} {tiny:?}"
        );
    }
}

#[test]
fn swapping_the_arms_mirrors_every_test() {
    let mut stream = Stream::new(4);
    for _ in 0..200 {
        let (control, treatment) = (
            sample(&values(&mut stream, 25)),
            sample(&values(&mut stream, 60)),
        );
        for test in [welch_t, student_t] {
            let (forth, back) = (
                test(&control, &treatment, 0.05),
                test(&treatment, &control, 0.05),
            );
            assert_eq!(
                (forth.effect, forth.p_two_sided, forth.p_greater),
                (
                    back.effect.map(|effect| -effect),
                    back.p_two_sided,
                    back.p_less
                )
            );
            assert_eq!(
                (forth.ci_low, forth.ci_high),
                (back.ci_high.map(|end| -end), back.ci_low.map(|end| -end))
            );
        }
        let (forth, back) = (
            z_test_unpooled(&control, &treatment, 0.05),
            z_test_unpooled(&treatment, &control, 0.05),
        );
        assert_eq!((forth.z, forth.log10_p), (back.z.map(|z| -z), back.log10_p));
    }
}

#[test]
fn negating_the_metric_mirrors_a_relative_interval() {
    let mut stream = Stream::new(5);
    for _ in 0..100 {
        let (control, treatment) = (
            changed(&values(&mut stream, 50), |x| x + 20.0),
            changed(&values(&mut stream, 50), |x| x + 21.0),
        );
        let forth = relative_lift_fieller_z(&sample(&control), &sample(&treatment), 0.05);
        let back = relative_lift_fieller_z(
            &sample(&changed(&control, |x| -x)),
            &sample(&changed(&treatment, |x| -x)),
            0.05,
        );
        assert_eq!(
            (forth.lift, forth.ci_low),
            (back.lift.map(|lift| -lift), back.ci_high.map(|end| -end))
        );
    }
}

#[test]
fn random_states_agree_with_a_slow_oracle_or_say_why_not() {
    let findings = oracle::check(2_000, 7);
    assert!(
        findings.failures.is_empty(),
        "{}",
        findings.failures.join("\n")
    );
    assert!(findings.statuses["ok"] > 1_500, "{:?}", findings.statuses);
    assert!(
        findings.statuses.contains_key("insufficient_data")
            && findings.statuses.contains_key("zero_variance")
    );
}

#[test]
fn calibration_holds_in_a_small_simulation() {
    // 400 replicates: the rate of a 5 % test lies within 0 and 10 % but for a chance below 1e-4.
    let lines = simulation::run(400, 90, 11);
    for line in lines.iter().filter(|line| line.bar.is_some()) {
        let is_coverage = line.method.starts_with("coverage");
        let range = if is_coverage { 0.90..=1.0 } else { 0.0..=0.10 };
        assert!(
            range.contains(&line.rate),
            "{} {}: {}",
            line.data,
            line.method,
            line.rate
        );
    }
    let daily = lines
        .iter()
        .find(|line| line.method == "fixed z at each of 28 looks")
        .expect("it is simulated");
    assert!(
        daily.rate > 0.18,
        "looking daily must raise false alarms: {}",
        daily.rate
    );
}

#[test]
fn a_bootstrap_does_not_depend_on_the_order_of_its_rows() {
    let mut stream = Stream::new(6);
    let units: Vec<resampling::Unit> = (0..80)
        .map(|key| resampling::Unit {
            key,
            value: stream.uniform() * 10.0,
        })
        .collect();
    let (control, treatment) = units.split_at(40);
    let reversed: Vec<_> = control.iter().rev().copied().collect();
    let forth = resampling::poisson_bootstrap(control, treatment, 200, 9, 0.05);
    assert_eq!(
        forth,
        resampling::poisson_bootstrap(&reversed, treatment, 200, 9, 0.05)
    );
    // The standard error of the mean difference of uniform numbers on (0, 10): 10 sqrt(1/12 (1/40 + 1/40)) = 0.645.
    assert!((forth.se.unwrap_or(0.0) - 0.645).abs() < 0.15, "{forth:?}");
}

#[test]
fn null_policies_count_leave_out_or_refuse() {
    let rows = [Some(1.0), None, Some(4.0)];
    let state = |policy: NullPolicy| {
        let mut accumulator = Accumulator::new(1);
        rows.iter()
            .for_each(|row| accumulator.push_optional(&[*row], policy));
        accumulator.finish()
    };
    assert_eq!(
        (state(NullPolicy::Zero).n, state(NullPolicy::Zero).nulls),
        (3, 0)
    );
    assert_eq!(
        (
            state(NullPolicy::Exclude).n,
            state(NullPolicy::Exclude).nulls
        ),
        (2, 1)
    );
    assert_eq!(
        NullPolicy::Fail.check(&state(NullPolicy::Fail)),
        Status::NullsPresent
    );
    assert_eq!(
        NullPolicy::Exclude.check(&state(NullPolicy::Exclude)),
        Status::Ok
    );
}

/// A number of any sign and of sizes from 1e-12 to 1e12.
fn wild(stream: &mut Stream) -> f64 {
    (stream.uniform() - 0.5) * 10f64.powf(24.0 * stream.uniform() - 12.0)
}

fn values(stream: &mut Stream, count: usize) -> Vec<f64> {
    // Multiples of 2^-20 below 16: shifted and scaled exactly.
    (0..count)
        .map(|_| (stream.uniform() * 16.0 * 1_048_576.0).floor() / 1_048_576.0)
        .collect()
}

fn changed(values: &[f64], change: impl Fn(f64) -> f64) -> Vec<f64> {
    values.iter().map(|value| change(*value)).collect()
}

fn accumulate(rows: &[[f64; 2]]) -> Accumulator {
    let mut accumulator = Accumulator::new(2);
    rows.iter().for_each(|row| accumulator.push(row));
    accumulator
}

fn sample(values: &[f64]) -> Sample {
    Sample::of_state(&State::of(values), 0).expect("the values are finite")
}

fn welch(control: &[f64], treatment: &[f64]) -> MeanTest {
    welch_t(&sample(control), &sample(treatment), 0.05)
}

/// Whether one result is the other in units that are `scale` times smaller.
fn is_near(plain: &MeanTest, changed: &MeanTest, scale: f64, tolerance: f64) -> bool {
    let pairs = [
        (plain.effect, changed.effect, scale),
        (plain.se, changed.se, scale),
        (plain.ci_low, changed.ci_low, scale),
        (plain.ci_high, changed.ci_high, scale),
        (plain.t, changed.t, 1.0),
        (plain.df, changed.df, 1.0),
        (plain.p_two_sided, changed.p_two_sided, 1.0),
    ];
    pairs
        .iter()
        .all(|(plain, changed, scale)| match (plain, changed) {
            (Some(plain), Some(changed)) => is_close(plain * scale, *changed, tolerance),
            (plain, changed) => plain == changed,
        })
}

fn is_close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * a.abs().max(b.abs())
}
