//! Measures one evaluation: nanoseconds and heap allocations, for flags of growing complexity.
//! Each figure is the best of nine rounds over 512 units; allocations are counted by the allocator over all rounds.

#![allow(dead_code)]

#[path = "../../../src/diagnostics/mod.rs"]
pub mod diagnostics;
#[path = "../../../src/flags/mod.rs"]
pub mod flags;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use flags::{Context, FlagSet, FlagSource, evaluate};
use serde_json::json;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const UNITS: usize = 512;
const ROUNDS: usize = 9;
const REPEATS: usize = 40;

/// The bar: targeting and a split in 300 ns without an allocation.
const BAR: (&str, f64) = ("targeting and split", 300.0);

fn main() {
    let set = flag_set();
    let contexts = contexts(&set);
    println!("flags: {}, units: {UNITS}, rounds: {ROUNDS}", set.flags.len());
    println!("{:<40} {:>10} {:>12}", "evaluation", "ns", "allocations");
    let cases = [
        ("static", "static"),
        ("targeting only", "targeting"),
        ("targeting and split", "split"),
        ("targeting, split, 1,000 segment members", "segment"),
        ("targeting, holdout, layer and split", "full"),
    ];
    let mut is_missed = false;
    for (name, key) in cases {
        let (nanoseconds, allocations) = measure(&set, key, &contexts);
        println!("{name:<40} {nanoseconds:>10.1} {allocations:>12}");
        is_missed |= allocations > 0 || (name == BAR.0 && nanoseconds > BAR.1);
    }
    if is_missed {
        println!("missed: {} within {} ns, no allocation anywhere", BAR.0, BAR.1);
        std::process::exit(1);
    }
}

fn measure(set: &FlagSet, key: &str, contexts: &[Context]) -> (f64, u64) {
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant");
    let round = || {
        let start = Instant::now();
        for _ in 0..REPEATS {
            for context in contexts {
                let _ = black_box(evaluate(set, black_box(key), black_box(context), now));
            }
        }
        start.elapsed().as_nanos() as f64 / (REPEATS * contexts.len()) as f64
    };
    round();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let best = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    (best, ALLOCATIONS.load(Ordering::Relaxed) - before)
}

/// The measured flags among a thousand others.
fn flag_set() -> FlagSet {
    let members: Vec<String> = (0..1_000).map(|member| format!("'account-{member}'")).collect();
    let when =
        "country IN ('DE', 'FR', 'US') AND plan <> 'enterprise' AND app_version >= semver('3.2.0')";
    let yaml = format!(
        "
contexts:
  user: {{unit: user_id, attributes: {{country: string, plan: string, app_version: semver, account: string}}}}
holdouts:
  - {{key: h, unit: user, salt: h, buckets: {{holdout: [[0, 200]]}}}}
layers:
  - {{key: l, unit: user, salt: l, slots: [{{experiment: layered, ranges: [[0, 9000]]}}]}}
experiments:
  - key: plain
    allocations: [{{id: a, valid_from: 2026-01-01, salt: plain.1, weights: {{off: 1, on: 1}}}}]
  - key: layered
    layer: l
    holdout: h
    allocations: [{{id: a, valid_from: 2026-01-01, salt: layered.1, weights: {{off: 1, on: 1}}}}]
flags:
  - {{key: static, type: boolean, variants: {{on: true, off: false}}, default_variant: off}}
  - key: targeting
    type: boolean
    variants: {{on: true, off: false}}
    default_variant: off
    rules: [{{id: r, when: \"{when}\", serve: on}}]
  - key: split
    type: boolean
    variants: {{on: true, off: false}}
    default_variant: off
    rules: [{{id: r, when: \"{when}\", experiment: plain}}]
  - key: segment
    type: boolean
    variants: {{on: true, off: false}}
    default_variant: off
    rules: [{{id: r, when: \"account IN ({})\", experiment: plain}}]
  - key: full
    type: boolean
    variants: {{on: true, off: false}}
    default_variant: off
    rules: [{{id: r, when: \"{when}\", experiment: layered}}]
{}",
        members.join(", "),
        (0..995)
            .map(|index| format!(
                "  - {{key: flag_{index}, type: boolean, variants: {{on: true, off: false}}, default_variant: off}}\n"
            ))
            .collect::<String>(),
    );
    let spec = serde_saphyr::from_str(&yaml).expect("the flags are YAML of the right shape");
    let checked = flags::resolve(&[FlagSource { file: "flags.yml".into(), spec }]);
    assert!(checked.diagnostics.is_empty(), "{:?}", checked.diagnostics);
    checked.value
}

fn contexts(set: &FlagSet) -> Vec<Context> {
    (0..UNITS)
        .map(|unit| {
            let (country, plan) = (["DE", "FR", "US"][unit % 3], ["free", "pro"][unit % 2]);
            let request = json!({
                "targetingKey": format!("6f1c8a52-0d3b-4a57-9a0e-{unit:012}"),
                "country": country,
                "plan": plan,
                "app_version": format!("3.{}.1", 2 + unit % 9),
                "account": format!("account-{}", unit % 1_000),
            });
            set.schema
                .context(request.as_object().expect("an object"))
                .expect("the types are right")
        })
        .collect()
}
