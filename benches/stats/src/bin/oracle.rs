//! `cargo run --release --bin oracle [states]`: random states against the slow oracle, a million unless said otherwise.

#[path = "../oracle.rs"]
mod oracle;

fn main() -> std::process::ExitCode {
    let states = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(1_000_000);
    let findings = oracle::check(states, 20_261_122);
    println!(
        "{states} pairs of states, worst relative error {:.1e}",
        findings.worst
    );
    for (status, count) in &findings.statuses {
        println!("{status:20} {count}");
    }
    findings
        .failures
        .iter()
        .for_each(|failure| println!("{failure}"));
    if findings.failures.is_empty() {
        std::process::ExitCode::SUCCESS
    } else {
        std::process::ExitCode::FAILURE
    }
}
