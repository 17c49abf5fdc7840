//! Measures the server: processor time per request beside an empty axum handler, durable events a second, memory.
//!
//! `cargo run --release` runs everything and prints a table. The servers are child processes of this program, so that the
//! processor time read from `/proc` is theirs alone; load comes from this process over loopback connections.
#![allow(dead_code, unused_imports, reason = "the product's rooms are compiled in, and only a part of them is measured")]

#[path = "../../../src/diagnostics/mod.rs"]
mod diagnostics;
mod events;
#[path = "../../../src/flags/mod.rs"]
mod flags;
mod load;
#[path = "../../../src/project/mod.rs"]
mod project;
#[path = "../../../src/serve/mod.rs"]
mod serve;
mod server;

use std::path::Path;

use load::{Load, Usage};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("empty-server") => server::run_empty(),
        Some("server") => server::run(Path::new(&std::env::args().nth(2).expect("a folder follows"))),
        _ => measure(),
    }
}

/// Connections of the load; the issue's figure for single events names 64.
const CONNECTIONS: usize = 64;

fn measure() {
    // On the disk that holds the build, not in memory: fdatasync must be one.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("the package's folder can be written");
    println!("{:<44} {:>12} {:>12} {:>12}", "", "CPU us each", "each s", "each s core");
    let (mut ratios, mut empties) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let empty = against_empty("empty handler", &evaluation(|_| 0));
        let known = against(&folder, 1_000, "one flag of 1,000, known units", &evaluation(|index| index % 1_000));
        let new = against(&folder, 1_000, "one flag of 1,000, each unit logged", &evaluation(|index| index));
        ratios.push((known.cpu_micros() / empty.cpu_micros(), new.cpu_micros() / empty.cpu_micros()));
        empties.push(empty.cpu_micros());
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "times the empty handler, median of three: {:.2} known units, {:.2} each logged",
        median(ratios.iter().map(|ratio| ratio.0).collect()),
        median(ratios.iter().map(|ratio| ratio.1).collect())
    );
    against(&folder, 350, "all of 350 flags, same context", &bulk(|_| 0));
    against(&folder, 350, "all of 350 flags, 1,000 contexts", &bulk(|index| index % 1_000));
    against(&folder, 350, "all of 350 flags, new contexts", &bulk(|index| index));
    events(&folder);
    memory(&folder);
}

fn events(folder: &tempfile::TempDir) {
    let single = Load { requests: 200_000, connections: CONNECTIONS, per_request: 1, body: Box::new(|index| batch(index, 1)), path: "/v1/events" };
    against(folder, 10, "single acknowledged events", &single);
    for size in [100, 1_000] {
        let requests = 1_000_000 / size;
        let load = Load { requests, connections: 8, per_request: size, body: Box::new(move |index| batch(index, size)), path: "/v1/events" };
        against(folder, 10, &format!("durable events in batches of {size}"), &load);
    }
}

fn memory(folder: &tempfile::TempDir) {
    let server = server::start(folder.path(), 1_000);
    let at_start = server.resident_bytes();
    load::run(server.address, &evaluation(|index| index));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("resident memory at 1,000 flags: {:.1} MiB at the start, {:.1} MiB after 200,000 evaluations", mib(at_start), mib(server.resident_bytes()));
}

fn against_empty(name: &str, load: &Load) -> Usage {
    let server = server::start_empty();
    report(name, load, &server)
}

fn against(folder: &tempfile::TempDir, flags: usize, name: &str, load: &Load) -> Usage {
    let server = server::start(folder.path(), flags);
    report(name, load, &server)
}

fn report(name: &str, load: &Load, server: &server::Server) -> Usage {
    // Connections, allocator and branch predictors warm up.
    load::run(server.address, &Load { requests: load.requests / 10, body: Box::new(|index| (load.body)(index + (1 << 40))), ..*load });
    let before = server.cpu_seconds();
    let seconds = load::run(server.address, load);
    let usage = Usage { units: load.requests * load.per_request, seconds, cpu_seconds: server.cpu_seconds() - before };
    println!("{name:<44} {:>12.2} {:>12.0} {:>12.0}", usage.cpu_micros(), usage.per_second(), usage.per_core());
    usage
}

fn evaluation(unit: fn(usize) -> usize) -> Load<'static> {
    let body = move |index| format!(r#"{{"context":{{"targetingKey":"user-{}","country":"DE","plan":"free"}}}}"#, unit(index)).into_bytes();
    Load { requests: 200_000, connections: CONNECTIONS, per_request: 1, body: Box::new(body), path: "/ofrep/v1/evaluate/flags/flag-500" }
}

fn bulk(unit: fn(usize) -> usize) -> Load<'static> {
    Load { requests: 40_000, path: "/ofrep/v1/evaluate/flags", ..evaluation(unit) }
}

fn batch(index: usize, size: usize) -> Vec<u8> {
    let event = |number: usize| {
        format!(
            r#"{{"event_id":"01936f3e-7c1a-7000-8000-{number:012x}","event_type":"metric","event_name":"order_completed","user_id":"user-{number}","occurred_at":"2026-11-01T08:00:00.123Z","sent_at":"2026-11-01T08:00:01.000Z","value":49.9,"currency":"EUR","session_id":"s-{number}","properties":{{"sku":"A-{number}","items":3,"country":"DE","is_first":true}}}}"#
        )
    };
    let events: Vec<String> = (index * size..(index + 1) * size).map(event).collect();
    format!("[{}]", events.join(",")).into_bytes()
}
