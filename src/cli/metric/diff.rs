//! `metric diff`: what changed since the lock or a git revision, in words; against a revision also in numbers.

mod render;

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::Args;

use super::super::{Common, Exit, OutputFormat, context, output};
use crate::compile::{Detail, Meanings};
use crate::contracts::{Bump, Drift, Place};
use crate::engine::witness::CounterExample;
use crate::run::{Impact, Prepared, counter_example, impact, meanings};

#[derive(Args)]
pub struct Options {
    /// Compare with this git revision instead of metrics.lock, and show the numbers under both
    #[arg(long, value_name = "GIT_REF")]
    base: Option<String>,
    /// Only these metrics
    #[arg(long)]
    metric: Vec<String>,
    /// Leave out numbers and counter-examples, which need a build
    #[arg(long)]
    words: bool,
}

/// What is different, and what that does.
#[derive(Default)]
struct Report {
    /// Where the old definitions come from.
    base: String,
    changes: Vec<Change>,
    new: Vec<String>,
    gone: Vec<String>,
    impact: Option<Impact>,
}

/// One metric's drift.
struct Change {
    drift: Drift,
    /// Version before and now.
    versions: [String; 2],
    counter_example: Option<CounterExample>,
}

pub async fn run(
    common: &Common,
    prepared: Arc<Prepared>,
    options: &Options,
) -> anyhow::Result<Exit> {
    let report = match &options.base {
        None => since_lock(common, &prepared).await?,
        Some(revision) => since_revision(common, prepared, revision, options).await?,
    };
    let Some(mut report) = report else {
        return Ok(Exit::Wrong);
    };
    let is_wanted = |name: &String| options.metric.is_empty() || options.metric.contains(name);
    report
        .changes
        .retain(|change| is_wanted(&change.drift.metric));
    report.new.retain(is_wanted);
    report.gone.retain(is_wanted);
    output::print(&match common.output {
        OutputFormat::Json => render::json(&report),
        OutputFormat::Markdown => render::markdown(&report),
        OutputFormat::Table | OutputFormat::Csv => render::text(&report),
    })?;
    Ok(match report.changes.iter().any(lacks_version) {
        true => Exit::Failed,
        false => Exit::Good,
    })
}

/// The version did not step as far as the change needs.
fn lacks_version(change: &Change) -> bool {
    let [old, new] = &change.versions;
    let bump = change.drift.class.bump();
    bump > Bump::None && !bump.is_taken(old, new)
}

async fn since_lock(common: &Common, prepared: &Prepared) -> anyhow::Result<Option<Report>> {
    let Some(lock) = super::lock_or_empty(common, prepared) else {
        return Ok(None);
    };
    if lock.metrics.is_empty() {
        tell!("error[E0506]: no metric is locked yet");
        tell!("   = hint: agree to what they mean now: `equipoise metric lock --all --reason …`");
        return Ok(None);
    }
    let meanings = meanings(prepared, Detail::Lock).await?;
    let version = |name: &str| lock.metrics[name].meaning.version.clone();
    Ok(Some(Report {
        base: "metrics.lock".into(),
        changes: changes(meanings.drifts(&lock), &version, &meanings),
        new: missing(meanings.metrics.keys(), |name| {
            lock.metrics.contains_key(name)
        }),
        gone: missing(lock.metrics.keys(), |name| {
            prepared.compiled.metrics.get(name).is_some()
        }),
        impact: None,
    }))
}

async fn since_revision(
    common: &Common,
    prepared: Arc<Prepared>,
    revision: &str,
    options: &Options,
) -> anyhow::Result<Option<Report>> {
    let Some(old) = context::open_revision(common, revision).await? else {
        return Ok(None);
    };
    let (before, after) = (
        meanings(&old, Detail::Columns).await?,
        meanings(&prepared, Detail::Columns).await?,
    );
    let version = |name: &str| before.metrics[name].version.clone();
    let mut report = Report {
        base: revision.to_string(),
        changes: changes(after.drifts_from(&before), &version, &after),
        new: missing(after.metrics.keys(), |name| {
            before.metrics.contains_key(name)
        }),
        gone: missing(before.metrics.keys(), |name| {
            after.metrics.contains_key(name)
        }),
        impact: None,
    };
    let is_wanted = |name: &String| options.metric.is_empty() || options.metric.contains(name);
    report
        .changes
        .retain(|change| is_wanted(&change.drift.metric));
    if options.words {
        return Ok(Some(report));
    }
    for change in &mut report.changes {
        look_for_rows((&old, &before), (&prepared, &after), change).await?;
    }
    let moved = report
        .changes
        .iter()
        .filter(|change| change.drift.class.bump() > Bump::Patch);
    let moved: BTreeSet<String> = moved.map(|change| change.drift.metric.clone()).collect();
    if !moved.is_empty() {
        report.impact = Some(impact(&old, &prepared, &moved).await?);
    }
    Ok(Some(report))
}

/// Looks for a counter-example where the rows that a metric counts changed; without one the change is unproven.
async fn look_for_rows(
    old: (&Prepared, &Meanings),
    new: (&Prepared, &Meanings),
    change: &mut Change,
) -> anyhow::Result<()> {
    let is_of_rows = change
        .drift
        .changes
        .iter()
        .any(|part| part.place != Place::Definition && part.class.bump() == Bump::Major);
    if !is_of_rows {
        return Ok(());
    }
    change.counter_example = counter_example(old, new, &change.drift.metric).await?;
    if change.counter_example.is_none() {
        change.drift = change.drift.clone().without_witness();
    }
    Ok(())
}

fn changes(drifts: Vec<Drift>, old: &dyn Fn(&str) -> String, now: &Meanings) -> Vec<Change> {
    let change = |drift: Drift| Change {
        versions: [
            old(&drift.metric),
            now.metrics[&drift.metric].version.clone(),
        ],
        drift,
        counter_example: None,
    };
    drifts.into_iter().map(change).collect()
}

fn missing<'a>(
    names: impl Iterator<Item = &'a String>,
    is_known: impl Fn(&str) -> bool,
) -> Vec<String> {
    names.filter(|name| !is_known(name)).cloned().collect()
}
