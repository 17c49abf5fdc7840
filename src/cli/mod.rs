//! The command line: options in, library calls, text out. It decides nothing about data.
//! Exit codes: 0 good, 1 a step, test or contract failed, 2 the project or the command line is wrong.

/// Says a line on standard error. One that is closed, or a full disk behind it, is no reason to fail.
macro_rules! tell {
    ($($words:tt)*) => {
        $crate::cli::output::tell(format_args!($($words)*))
    };
}

mod build;
mod clean;
mod compile;
mod context;
mod debug;
mod docs;
mod facts;
mod failure;
mod flag;
mod generate;
mod init;
mod lineage;
mod list;
mod metric;
mod options;
mod output;
mod progress;
mod query;
mod report;
mod serve;
mod source;
mod versions;

use std::collections::BTreeMap;

use clap::{Parser, Subcommand};

use options::LogFormat;
pub use options::{Common, OutputFormat};

/// Exit codes, as documented in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Good = 0,
    Failed = 1,
    Wrong = 2,
}

#[derive(Parser)]
#[command(
    name = "equipoise",
    version,
    about = "From raw files to ship / no-ship decisions: an experimentation platform built as a SQL compiler",
    max_term_width = 100
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build seeds and models, run tests, publish, and show the decisions
    Build,
    /// Build models and publish them, without tests
    Run,
    /// Run data tests on what is published
    Test,
    /// Load seeds and publish them
    Seed,
    /// Check everything and write the SQL to target/compiled
    Compile,
    /// List what a selection means
    Ls,
    /// List, show, lock and compare metrics
    Metric(metric::Metric),
    /// Where a column comes from, and what it reaches
    Lineage(lineage::Lineage),
    /// Show the rows of a model as it would be built, or the wrong rows of a test
    Show(query::Show),
    /// Query what is published, and sources and ephemeral models
    Sql(query::Sql),
    /// Write pages of the decisions that are published, for a browser
    Report(report::Report),
    /// Facts clustered by unit: append the rows of a query, keep the files few
    #[command(subcommand)]
    Facts(facts::Facts),
    /// Write the raw logs and definitions of a made-up online shop with known true effects
    Generate(generate::Generate),
    /// Explain, compare, lock, import and export feature flags
    Flag(flag::Flag),
    /// Answer feature flags and take events over HTTP, until SIGTERM
    Serve(serve::Serve),
    /// List the published versions of the environment
    History,
    /// Publish an earlier version again
    Rollback(versions::Rollback),
    /// Forget old versions and remove the tables that only they had
    Vacuum(versions::Vacuum),
    /// Ask how new the rows of sources are
    Source(source::Source),
    /// Write target/catalog.json for the tools of dbt
    Docs(docs::Docs),
    /// Start a new project in a folder
    Init(init::Init),
    /// Say which project, target, warehouse and versions are in use
    Debug,
    /// Remove the target folder
    Clean(clean::Clean),
}

/// Runs the command line and gives the exit code.
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_help = !error.use_stderr();
            error.print().ok();
            return if is_help { Exit::Good } else { Exit::Wrong };
        }
    };
    let log_format = arguments.common.log_format;
    // DataFusion plans deep trees recursively; its own guard needs room to stand on in unoptimised builds.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(16 << 20).build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async { tokio::spawn(dispatch(arguments)).await }),
        Err(error) => {
            tell!("error: cannot start: {error}");
            return Exit::Failed;
        }
    };
    match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => {
            tell_failure(&error, log_format);
            Exit::Failed
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What stopped a command that had not told it.
fn tell_failure(error: &anyhow::Error, format: LogFormat) {
    match (failure::diagnostic(error), format) {
        (None, _) => tell!("error: {}", failure::chain(error)),
        (Some(told), LogFormat::Text) => output::diagnostics(&[told], &BTreeMap::new()),
        (Some(told), LogFormat::Json) => output::diagnostics_as_json(&[told]),
    }
}

async fn dispatch(arguments: Arguments) -> anyhow::Result<Exit> {
    let common = arguments.common;
    match arguments.command {
        Command::Build => build::run(&common, crate::run::Scope::Build).await,
        Command::Run => build::run(&common, crate::run::Scope::Run).await,
        Command::Test => build::run(&common, crate::run::Scope::Test).await,
        Command::Seed => build::run(&common, crate::run::Scope::Seed).await,
        Command::Compile => compile::run(&common).await,
        Command::Ls => list::run(&common).await,
        Command::Metric(metric) => metric::run(&common, &metric).await,
        Command::Lineage(lineage) => lineage::run(&common, &lineage).await,
        Command::Show(show) => query::show(&common, &show).await,
        Command::Sql(sql) => query::sql(&common, &sql).await,
        Command::Report(options) => report::run(&common, &options).await,
        Command::Facts(facts) => facts::run(&common, &facts).await,
        Command::Generate(generate) => generate::run(&common, &generate),
        Command::Flag(flag) => flag::run(&common, &flag),
        Command::Serve(serve) => serve::run(&common, &serve).await,
        Command::History => versions::history(&common).await,
        Command::Rollback(rollback) => versions::rollback(&common, &rollback).await,
        Command::Vacuum(vacuum) => versions::vacuum(&common, &vacuum).await,
        Command::Source(source) => source::run(&common, &source).await,
        Command::Docs(docs) => docs::run(&common, &docs).await,
        Command::Init(init) => init::run(&init),
        Command::Debug => debug::run(&common).await,
        Command::Clean(clean) => clean::run(&common, &clean),
    }
}
