//! Measures the server: processor time per request beside an empty axum handler, durable events a second, memory.
//!
//! `cargo run --release` runs everything, `cargo run --release -- single bulk` some of it. The servers are child processes of this
//! program, so that the processor time read from `/proc` is theirs alone; load comes from this process over loopback connections.
//! What is compared takes turns, round by round, and the figure is the median of the rounds: other work on the machine then
//! disturbs all of it alike.
#![allow(
    dead_code,
    unused_imports,
    reason = "the product's rooms are compiled in, and only a part of them is measured"
)]

mod compile;
#[path = "../../../src/diagnostics/mod.rs"]
mod diagnostics;
mod disk;
mod events;
#[path = "../../../src/flags/mod.rs"]
mod flags;
mod load;
mod manifest;
#[path = "../../../src/project/mod.rs"]
mod project;
#[path = "../../../src/serve/mod.rs"]
mod serve;
mod server;

use std::path::Path;

use load::{Load, Usage};
use server::Server;
use tempfile::TempDir;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["empty-server"] => server::run_empty(),
        ["server", folder] => server::run(Path::new(folder)),
        ref wanted => measure(wanted),
    }
}

/// Connections of the load; the issue's figure for single events names 64.
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 9;

fn measure(wanted: &[&str]) {
    let sections: [(&str, fn()); 5] = [
        ("single", single),
        ("bulk", bulk),
        ("disk", disk::measure),
        ("events", events_section),
        ("memory", memory),
    ];
    for (name, section) in sections {
        if wanted.is_empty() || wanted.contains(&name) {
            section();
        }
    }
}

/// One flag of 1,000, its assignments logged, beside a handler that does nothing.
fn single() {
    let folder = on_disk();
    let empty = server::start_empty();
    let product = server::start(folder.path(), 1_000);
    let cases = [
        Case::new(
            "empty axum handler",
            &empty,
            evaluation(40_000, |index| index),
        ),
        Case::new(
            "one flag of 1,000, unit known today",
            &product,
            evaluation(40_000, |index| index % 1_000),
        ),
        Case::new(
            "one flag of 1,000, each unit logged",
            &product,
            evaluation(40_000, |index| index),
        ),
    ];
    compare(&cases);
}

/// All of 350 flags, 88 of them splits.
fn bulk() {
    // A server for each: what one case leaves in the caches must not be in another's way.
    let folders = [on_disk(), on_disk(), on_disk(), on_disk()];
    let products = folders
        .each_ref()
        .map(|folder| server::start(folder.path(), 350));
    let cases = [
        Case::new(
            "350 flags, one context",
            &products[0],
            all_flags(10_000, |_| 0),
        ),
        Case::new(
            "350 flags, 1,000 contexts",
            &products[1],
            all_flags(10_000, |index| index % 1_000),
        ),
        Case::new(
            "350 flags, 20,000 contexts",
            &products[2],
            all_flags(20_000, |index| index % 20_000),
        ),
        Case::new(
            "350 flags, new contexts, 88 logged each",
            &products[3],
            all_flags(2_000, |index| index),
        ),
    ];
    compare(&cases);
}

/// Events, each answered when it is on disk; the same in memory, where fdatasync costs nothing.
fn events_section() {
    let (disk, memory) = (on_disk(), in_memory());
    let on_disk = server::start(disk.path(), 10);
    let in_memory = server::start(memory.path(), 10);
    let cases = [
        Case::new(
            "single events, 64 connections, disk",
            &on_disk,
            batches(40_000, CONNECTIONS, 1),
        ),
        Case::new(
            "single events, 64 connections, tmpfs",
            &in_memory,
            batches(40_000, CONNECTIONS, 1),
        ),
        Case::new(
            "batches of 100, 8 connections, disk",
            &on_disk,
            batches(2_000, 8, 100),
        ),
        Case::new(
            "batches of 1,000, 8 connections, disk",
            &on_disk,
            batches(200, 8, 1_000),
        ),
    ];
    compare(&cases);
}

fn memory() {
    let folder = on_disk();
    let server = server::start(folder.path(), 1_000);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let at_start = mib(server.resident_bytes());
    run(&server, &evaluation(200_000, |index| index), 0);
    let after_single = mib(server.resident_bytes());
    run(&server, &all_flags(20_000, |index| index), 0);
    let after_bulk = mib(server.resident_bytes());
    println!(
        "\nresident memory at 1,000 flags: {at_start:.1} MiB at the start, {after_single:.1} MiB after 200,000 evaluations of one \
         flag, {after_bulk:.1} MiB after 20,000 of all"
    );
}

/// Something measured.
struct Case<'a> {
    name: &'static str,
    server: &'a Server,
    load: Load<'a>,
}

impl<'a> Case<'a> {
    fn new(name: &'static str, server: &'a Server, load: Load<'a>) -> Case<'a> {
        Case { name, server, load }
    }
}

/// Lets the cases take turns and prints medians, and the median ratio to the first case.
fn compare(cases: &[Case<'_>]) {
    let mut usages: Vec<Vec<Usage>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (case, usages) in cases.iter().zip(&mut usages) {
            let usage = run(case.server, &case.load, round);
            // The first round warms connections, allocators and predictors.
            usages.extend((round > 0).then_some(usage));
        }
    }
    println!(
        "\n{:<42} {:>12} {:>12} {:>12} {:>12}",
        "median of 9 rounds", "CPU us each", "each s", "each s core", "CPU ratio"
    );
    for (case, of_case) in cases.iter().zip(&usages) {
        let over = |figure: fn(&Usage) -> f64| median(of_case.iter().map(figure));
        let ratio = median(
            of_case
                .iter()
                .zip(&usages[0])
                .map(|(one, first)| one.cpu_micros() / first.cpu_micros()),
        );
        println!(
            "{:<42} {:>12.2} {:>12.0} {:>12.0} {ratio:>12.2}",
            case.name,
            over(Usage::cpu_micros),
            over(Usage::per_second),
            over(Usage::per_core)
        );
    }
}

fn run(server: &Server, load: &Load<'_>, round: usize) -> Usage {
    let before = server.cpu_seconds();
    let seconds = load::run(server.address, load, round * load.requests);
    Usage {
        units: load.requests * load.per_request,
        seconds,
        cpu_seconds: server.cpu_seconds() - before,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn evaluation(requests: usize, unit: fn(usize) -> usize) -> Load<'static> {
    let body = move |index| {
        format!(
            r#"{{"context":{{"targetingKey":"user-{}","country":"DE","plan":"free"}}}}"#,
            unit(index)
        )
        .into_bytes()
    };
    Load {
        requests,
        connections: CONNECTIONS,
        per_request: 1,
        body: Box::new(body),
        path: "/ofrep/v1/evaluate/flags/flag-500",
    }
}

fn all_flags(requests: usize, unit: fn(usize) -> usize) -> Load<'static> {
    Load {
        path: "/ofrep/v1/evaluate/flags",
        ..evaluation(requests, unit)
    }
}

fn batches(requests: usize, connections: usize, size: usize) -> Load<'static> {
    Load {
        requests,
        connections,
        per_request: size,
        body: Box::new(move |index| batch(index, size)),
        path: "/v1/events",
    }
}

fn batch(index: usize, size: usize) -> Vec<u8> {
    // Requests of another size have ids of their own.
    let event = |number: usize| {
        format!(
            r#"{{"event_id":"01936f3e-7c1a-7000-{size:04x}-{number:012x}","event_type":"metric","event_name":"order_completed","user_id":"user-{number}","occurred_at":"2026-11-01T08:00:00.123Z","sent_at":"2026-11-01T08:00:01.000Z","value":49.9,"currency":"EUR","session_id":"s-{number}","properties":{{"sku":"A-{number}","items":3,"country":"DE","is_first":true}}}}"#
        )
    };
    let events: Vec<String> = (index * size..(index + 1) * size).map(event).collect();
    format!("[{}]", events.join(",")).into_bytes()
}

/// A folder beside this program, which is on a disk: fdatasync must be one.
fn on_disk() -> TempDir {
    let program = std::env::current_exe().expect("this program has a path");
    let folder = program.parent().expect("a program is in a folder");
    tempfile::tempdir_in(folder).expect("the build's folder can be written")
}

/// A folder in memory.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("Linux has a tmpfs at /dev/shm")
}
