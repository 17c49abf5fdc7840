//! `flag`: explains an evaluation, counts what an edit does to units, locks allocations, and exchanges flags with other
//! systems.

mod carry;
mod diff;
mod eval;
mod lock;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::{Common, Exit, output};
use crate::compile::{ProjectFlags, load_flags};
use crate::diagnostics::Diagnostic;
use crate::project::{Folder, Options};

#[derive(Debug, Clone, Args)]
pub struct Flag {
    #[command(subcommand)]
    command: FlagCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum FlagCommand {
    /// Evaluate one flag and explain every step
    Eval {
        /// Key of the flag
        key: String,
        /// Evaluation context as JSON: '{"targetingKey": "u1", "country": "DE"}'
        #[arg(long, value_name = "JSON", default_value = "{}")]
        context: String,
        /// Instant to evaluate at, such as 2026-11-20T00:00:00Z [default: now]
        #[arg(long, value_name = "INSTANT")]
        at: Option<DateTime<Utc>>,
    },
    /// Count the units that an edit moves, lets in and takes out
    Diff {
        /// Version in git to compare with
        #[arg(long, value_name = "GIT_REF", default_value = "HEAD")]
        base: String,
    },
    /// Record what all allocations, slots and holdouts say, so that none can be edited unnoticed
    Lock,
    /// Carry flags of another system over and print them as YAML; the report goes to standard error
    Import {
        #[arg(long, value_enum)]
        from: carry::ImportFormat,
        /// The other system's JSON
        file: PathBuf,
    },
    /// Print the flags for another system as JSON; the report goes to standard error
    Export {
        #[arg(long, value_enum)]
        to: carry::ExportFormat,
        /// Instant for formats that know no history [default: now]
        #[arg(long, value_name = "INSTANT")]
        at: Option<DateTime<Utc>>,
    },
}

pub fn run(common: &Common, options: &Flag) -> anyhow::Result<Exit> {
    let root = std::path::absolute(&common.project_dir)?;
    match &options.command {
        FlagCommand::Import { from, file } => carry::import(common, *from, file),
        FlagCommand::Diff { base } => diff::run(common, &root, base),
        command => {
            let Some(read) = read(common, &root) else {
                return Ok(Exit::Wrong);
            };
            match command {
                FlagCommand::Eval { key, context, at } => {
                    let now = at.unwrap_or_else(Utc::now);
                    eval::run(common, &read.flags, key, context, now)
                }
                FlagCommand::Export { to, at } => {
                    carry::export(common, &read.flags, *to, at.unwrap_or_else(Utc::now))
                }
                _ => lock::run(&root, &read),
            }
        }
    }
}

/// The sound flags of the project, or nothing after its errors were printed.
fn read(common: &Common, root: &Path) -> Option<ProjectFlags> {
    let checked = load_flags(&Folder::new(root), &load_options(common));
    // What is not locked yet is the affair of `lock` and of a build.
    let is_error = |one: &&Diagnostic| one.is_error();
    let errors: Vec<_> = checked
        .diagnostics
        .iter()
        .filter(is_error)
        .cloned()
        .collect();
    output::diagnostics(&errors, &checked.value.project.texts);
    errors.is_empty().then_some(checked.value)
}

fn load_options(common: &Common) -> Options {
    Options {
        target: common.target.clone(),
        vars: common.variables().value,
    }
}

/// What the command line asks for cannot be: said, and nothing else happens.
fn wrong(message: &str) -> anyhow::Result<Exit> {
    tell!("error: {message}");
    Ok(Exit::Wrong)
}
