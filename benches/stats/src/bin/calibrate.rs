//! `cargo run --release --bin calibrate [replicates]`: the full calibration, 100,000 replicates unless said otherwise.
//! Exit code 1 when a bar is missed.

#[path = "../simulation.rs"]
mod simulation;

fn main() -> std::process::ExitCode {
    let replicates = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(100_000);
    println!(
        "{replicates} replicates, 1,000 units per arm (10,000 for rare data), nominal 5 %, seed 20261122"
    );
    println!("| data | method | rate | bar | |\n|---|---|---|---|---|");
    let lines = simulation::run(replicates, 1000, 20_261_122);
    for line in &lines {
        let bar = line.bar.as_ref().map_or("reported".to_string(), |bar| {
            format!("{:.1} to {:.1} %", 100.0 * bar.start(), 100.0 * bar.end())
        });
        let verdict = if is_met(line) { "" } else { "MISSED" };
        println!(
            "| {} | {} | {:.2} % | {bar} | {verdict} |",
            line.data,
            line.method,
            100.0 * line.rate
        );
    }
    if lines.iter().all(is_met) {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}

fn is_met(line: &simulation::Line) -> bool {
    line.bar.as_ref().is_none_or(|bar| bar.contains(&line.rate))
}
