//! `cargo bench --bench speed`: analyses a second on one core, from states to finished results.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use equipoise::stats::bayes::bayes_normal_effect;
use equipoise::stats::cuped::{ThetaRule, cuped_ratio};
use equipoise::stats::group_sequential::{Sides, Spending, gst_bounds};
use equipoise::stats::lift::relative_lift_fieller_z;
use equipoise::stats::mean_tests::welch_t;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::state::{Accumulator, State};

const BATCH: usize = 1000;

fn main() {
    divan::main();
}

#[divan::bench]
fn welch(bencher: Bencher) {
    let arms = samples();
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        arms.iter()
            .map(|(control, treatment)| {
                welch_t(control, treatment, 0.05).p_two_sided.unwrap_or(0.0)
            })
            .sum::<f64>()
    });
}

#[divan::bench]
fn fieller(bencher: Bencher) {
    let arms = samples();
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        arms.iter()
            .map(|(control, treatment)| {
                relative_lift_fieller_z(control, treatment, 0.05)
                    .ci_low
                    .unwrap_or(0.0)
            })
            .sum::<f64>()
    });
}

#[divan::bench]
fn cuped_ratios(bencher: Bencher) {
    let arms: Vec<(Moments<4>, Moments<4>)> = (0..BATCH)
        .map(|place| (moments(place as f64), moments(place as f64 + 0.5)))
        .collect();
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        arms.iter()
            .map(|(control, treatment)| {
                cuped_ratio(control, treatment, ThetaRule::WithinArms, 0.05)
                    .p_two_sided
                    .unwrap_or(0.0)
            })
            .sum::<f64>()
    });
}

#[divan::bench]
fn bayes(bencher: Bencher) {
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        (0..BATCH)
            .map(|place| {
                let effect = black_box(place as f64 * 1e-3 - 0.3);
                bayes_normal_effect(effect, 0.1 + effect.abs() * 0.01, 0.0, 0.09, true, 0.05)
                    .risk_choose_treatment
                    .unwrap_or(0.0)
            })
            .sum::<f64>()
    });
}

#[divan::bench]
fn five_look_designs(bencher: Bencher) {
    bencher.counter(ItemsCount::new(10usize)).bench(|| {
        (0..10)
            .map(|place| {
                let shift = f64::from(black_box(place)) * 0.002;
                gst_bounds(
                    &[0.2 + shift, 0.4, 0.6 + shift, 0.8, 1.0],
                    0.05,
                    Spending::OBrienFleming,
                    Sides::Two,
                )
                .zb[4]
            })
            .sum::<f64>()
    });
}

#[divan::bench]
fn rows_into_a_state(bencher: Bencher) {
    let rows: Vec<[f64; 2]> = (0..BATCH)
        .map(|place| {
            [
                (place as f64 * 0.7).sin() * 30.0,
                f64::from(place as u32 % 7),
            ]
        })
        .collect();
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut accumulator = Accumulator::new(2);
        rows.iter().for_each(|row| accumulator.push(row));
        accumulator.finish().cross_products[0]
    });
}

fn samples() -> Vec<(Sample, Sample)> {
    (0..BATCH)
        .map(|place| {
            let f = place as f64;
            (
                Sample::new(1000.0 + 7.0 * f, 10.0 + 0.001 * f, 4.0 + 0.01 * f),
                Sample::new(1100.0 + 5.0 * f, 10.05 + 0.0012 * f, 4.2 + 0.012 * f),
            )
        })
        .collect()
}

fn moments(phase: f64) -> Moments<4> {
    let column = |shift: f64| {
        (0..200)
            .map(|unit| 5.0 + shift + (f64::from(unit) * 0.37 + phase * shift).sin() * 2.0)
            .collect::<Vec<f64>>()
    };
    let columns = [column(0.1), column(0.4), column(0.2), column(0.7)];
    let state = State::of_columns(&columns.each_ref().map(Vec::as_slice));
    Moments::of_state(&state).expect("the state has four values")
}
