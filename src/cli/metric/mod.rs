//! `metric`: what metrics are, what they mean, and whether they still mean what was agreed to.

mod diff;
mod lock;
mod show;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::failure::CannotWrite;
use super::{Common, Exit, context};
use crate::contracts::Lock;
use crate::metrics::Metric as Definition;
use crate::run::{Prepared, read_lock, review};

#[derive(Args)]
pub struct Metric {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every metric with its kind, tier, owner and version
    List,
    /// One metric: its definition, its five hashes and what each model of its lineage does
    Show { metric: String },
    /// The rows that a metric counts, as SQL
    Sql { metric: String },
    /// The hierarchy: what drives what, and who owns it
    Tree,
    /// Agree to what metrics mean now: write metrics.lock, which nothing else writes
    Lock(lock::Options),
    /// What changed since metrics.lock or a git revision; fails where a version did not step
    Diff(diff::Options),
}

pub async fn run(common: &Common, metric: &Metric) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    match &metric.command {
        Command::List => show::list(common, &prepared),
        Command::Tree => show::tree(&prepared),
        Command::Sql { metric } => show::sql(&prepared, metric),
        Command::Show { metric } => show::show(&prepared, metric).await,
        Command::Lock(options) => lock::run(common, &prepared, options).await,
        Command::Diff(options) => diff::run(common, prepared, options).await,
    }
}

/// Whether the metrics do not mean what was agreed to, or one has two names; said on standard error. Which column comes from
/// which is written to `target/lineage.json`.
pub async fn is_refused(common: &Common, prepared: &Prepared) -> anyhow::Result<bool> {
    Ok(reviewed(common, prepared).await? == Reviewed::Refused)
}

/// What the review of the metrics came to, after it was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reviewed {
    Silent,
    Warned,
    Refused,
}

pub async fn reviewed(common: &Common, prepared: &Prepared) -> anyhow::Result<Reviewed> {
    let review = review(prepared).await?;
    let found = &review.diagnostics;
    context::report(common, found, prepared);
    super::lineage::write(prepared, &review.columns)
        .context(CannotWrite::the("target/lineage.json"))?;
    Ok(
        match found.iter().any(crate::diagnostics::Diagnostic::is_error) {
            true => Reviewed::Refused,
            false if found.is_empty() => Reviewed::Silent,
            false => Reviewed::Warned,
        },
    )
}

/// The lock, empty where there is none, or nothing after its error was printed.
fn lock_or_empty(common: &Common, prepared: &Prepared) -> Option<Lock> {
    match read_lock(prepared) {
        Ok(lock) => Some(lock.unwrap_or_default()),
        Err(diagnostic) => {
            context::report(common, &[diagnostic], prepared);
            None
        }
    }
}

/// The metric of this name, or nothing after it was said which there are.
fn named<'a>(prepared: &'a Prepared, name: &str) -> Option<&'a Definition> {
    let found = prepared.compiled.metrics.get(name);
    if found.is_none() {
        let known = prepared.compiled.metrics.iter();
        let known = known.map(|metric| metric.name.as_str());
        tell!("error[E0206]: unknown metric `{name}`");
        tell!(
            "   = hint: {}",
            crate::diagnostics::did_you_mean(name, known)
        );
    }
    found
}
