//! `metric lock`: somebody agrees to what metrics mean now.

use std::collections::BTreeSet;

use anyhow::Context as _;
use clap::Args;

use super::super::failure::CannotWrite;
use super::super::{Common, Exit, OutputFormat, context, output};
use crate::compile::Detail;
use crate::contracts::{Drift, Lock, Locked};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::project::KEPT_FOLDER;
use crate::run::{Agreement, Keeping, LOCK_FILE, Prepared, keeping, lock_path, meanings};

#[derive(Args)]
pub struct Options {
    /// A metric to lock; one that is gone is taken out
    #[arg(long, required_unless_present = "all")]
    metric: Vec<String>,
    /// All metrics, as for the first time
    #[arg(long, conflicts_with = "metric")]
    all: bool,
    /// Why the meaning is agreed to; the next reader of the lock asks
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Who agrees, for changes that need the metric's approvers; several times for several
    #[arg(long, value_name = "NAME")]
    approved_by: Vec<String>,
    /// Running experiments take the new version too, instead of the one they started with
    #[arg(long)]
    move_running: bool,
}

pub async fn run(common: &Common, prepared: &Prepared, options: &Options) -> anyhow::Result<Exit> {
    let Some(mut lock) = super::lock_or_empty(common, prepared) else {
        return Ok(Exit::Wrong);
    };
    let Some(wanted) = wanted(prepared, options, &lock) else {
        return Ok(Exit::Wrong);
    };
    let before = lock.clone();
    let meanings = meanings(prepared, Detail::Lock).await?;
    let drifts = meanings.drifts(&lock);
    if refuse_low_versions(&lock, &wanted, &drifts, &meanings.metrics) {
        return Ok(Exit::Failed);
    }
    let given: BTreeSet<String> = options.approved_by.iter().cloned().collect();
    let unapproved = unapproved(prepared, &lock, &wanted, &drifts, &given);
    if !unapproved.is_empty() {
        context::report(common, &unapproved, prepared);
        return Ok(Exit::Failed);
    }
    let (mut locked, mut removed) = (vec![], vec![]);
    for name in wanted {
        let Some(meaning) = meanings.metrics.get(&name) else {
            lock.metrics.remove(&name);
            removed.push(name);
            continue;
        };
        let is_known = lock.metrics.get(&name).is_some_and(|known| {
            known.meaning.is_same(meaning) && known.hashes == meaning.hashes()
        });
        if !is_known {
            let people = lock.metrics.get(&name).map(Locked::people);
            let approved_by = &given & &people.unwrap_or_default();
            lock.agree(meaning.clone(), &options.reason, approved_by);
            locked.push(name);
        }
    }
    let agreement = Agreement {
        before: &before,
        after: &lock,
        drifts: &drifts,
        locked: &locked,
        meanings: &meanings.metrics,
        moves_running: options.move_running,
    };
    let keeping = match keeping(prepared, &agreement)? {
        Ok(keeping) => keeping,
        Err(wrong) => {
            context::report(common, &wrong, prepared);
            return Ok(Exit::Failed);
        }
    };
    // What is kept comes first: a version must not be gone once another is locked.
    keeping
        .apply(&prepared.root)
        .with_context(|| CannotWrite::the(KEPT_FOLDER))?;
    crate::project::replace(&lock_path(prepared), &lock.to_string())
        .with_context(|| CannotWrite::the(LOCK_FILE))?;
    say(common, (&before, &lock), &drifts, &locked, &removed)?;
    say_pinned(common, &keeping)?;
    Ok(Exit::Good)
}

/// The names to lock: those asked for, or all that exist or are locked.
fn wanted(prepared: &Prepared, options: &Options, lock: &Lock) -> Option<BTreeSet<String>> {
    if options.all {
        let defined = prepared.compiled.metrics.iter();
        let defined = defined.map(|metric| metric.name.clone());
        return Some(defined.chain(lock.metrics.keys().cloned()).collect());
    }
    for name in &options.metric {
        if !lock.metrics.contains_key(name) {
            super::named(prepared, name)?;
        }
    }
    Some(options.metric.iter().cloned().collect())
}

/// A version that did not step as far as its change needs would promise the old meaning.
fn refuse_low_versions(
    lock: &Lock,
    wanted: &BTreeSet<String>,
    drifts: &[Drift],
    meanings: &std::collections::BTreeMap<String, crate::contracts::Meaning>,
) -> bool {
    let mut is_refused = false;
    for drift in drifts.iter().filter(|drift| wanted.contains(&drift.metric)) {
        let old = &lock.metrics[&drift.metric].meaning.version;
        let new = &meanings[&drift.metric].version;
        let bump = drift.class.bump();
        if !bump.is_taken(old, new) {
            is_refused = true;
            tell!(
                "error[E0503]: `{}` is still version {new}, and its change is {}",
                drift.metric,
                drift.class
            );
            for change in &drift.changes {
                tell!("   = note: {}", change.words());
            }
            let next = bump.next(old).unwrap_or_else(|| "the next one".into());
            tell!("   = hint: set its `version` to {next} at least, then lock it");
        }
    }
    is_refused
}

/// Changes that lack an approver, and names that approve nothing.
fn unapproved(
    prepared: &Prepared,
    lock: &Lock,
    wanted: &BTreeSet<String>,
    drifts: &[Drift],
    given: &BTreeSet<String>,
) -> Vec<Diagnostic> {
    let mut found = vec![];
    for drift in drifts.iter().filter(|drift| wanted.contains(&drift.metric)) {
        let missing = &lock.metrics[&drift.metric].needed_approvers(drift.class) - given;
        if missing.is_empty() {
            continue;
        }
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        let message = format!(
            "`{}` changes ({}), and {} did not agree",
            drift.metric,
            drift.class,
            names.join(", ")
        );
        let options: String = (names.iter().map(|name| format!(" --approved-by {name}"))).collect();
        let place = prepared.compiled.metrics.get(&drift.metric);
        found.push(
            Diagnostic::error(Code::E0702, message)
                .at(place.map(|metric| metric.span.clone()))
                .hint(format!(
                    "ask the approvers that `{LOCK_FILE}` names, then add{options}"
                )),
        );
    }
    let locked = wanted.iter().filter_map(|name| lock.metrics.get(name));
    let people: BTreeSet<String> = locked.flat_map(Locked::people).collect();
    for name in given - &people {
        let hint = did_you_mean(&name, people.iter().map(String::as_str));
        let message = format!("`{name}` neither owns nor approves what is locked");
        found.push(Diagnostic::error(Code::E0702, message).hint(hint));
    }
    found
}

fn say(
    common: &Common,
    (before, lock): (&Lock, &Lock),
    drifts: &[Drift],
    locked: &[String],
    removed: &[String],
) -> anyhow::Result<()> {
    let class = |name: &String| {
        let drift = drifts.iter().find(|drift| drift.metric == *name);
        match (drift, before.metrics.contains_key(name)) {
            (Some(drift), _) => drift.class.word(),
            (None, true) => "none",
            (None, false) => "new",
        }
    };
    let mut text = String::new();
    for name in locked {
        let version = &lock.metrics[name].meaning.version;
        text += &match common.output {
            OutputFormat::Json => {
                let line = serde_json::json!({"metric": name, "version": version, "class": class(name), "action": "locked"});
                format!("{line}\n")
            }
            _ => format!("locked {name} {version} ({})\n", class(name)),
        };
    }
    for name in removed {
        text += &match common.output {
            OutputFormat::Json => {
                format!(
                    "{}\n",
                    serde_json::json!({"metric": name, "action": "removed"})
                )
            }
            _ => format!("removed {name}\n"),
        };
    }
    output::print(&text)?;
    if !common.quiet {
        tell!(
            "{} locked anew, {} removed; {LOCK_FILE} has {} metrics",
            locked.len(),
            removed.len(),
            lock.metrics.len()
        );
    }
    Ok(())
}

/// Which experiments go on with an older version.
fn say_pinned(common: &Common, keeping: &Keeping) -> anyhow::Result<()> {
    let lines = keeping.pinned.iter().map(|(metric, version, experiments)| {
        match common.output {
            OutputFormat::Json => format!(
                "{}\n",
                serde_json::json!({"metric": metric, "version": version, "action": "kept", "experiments": experiments})
            ),
            _ => format!("kept {metric} {version} for {}\n", experiments.join(", ")),
        }
    });
    output::print(&lines.collect::<String>())
}
