//! The `equipoise` command.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(equipoise::cli::main() as u8)
}
