//! `metrics.kept/`: the versions of metrics that are locked now, and those that running experiments started with.
//! In: a prepared project, its lock before and after somebody agreed to changes. Out: [`Keeping`], the files to write and to
//! remove; or diagnostics where a version that an experiment needs was never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::prepare::Prepared;
use crate::compile::{Keeper, experiment_clock, superfluous};
use crate::contracts::{Class, Drift, Lock, Meaning};
use crate::diagnostics::{Code, Diagnostic};
use crate::engine::{Engine, EngineOptions};
use crate::experiments::Experiment;
use crate::manifest::{Kept, KeptFact, KeptMetric};

/// What changes in the folder.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Text by path, relative to the project.
    pub writes: BTreeMap<String, String>,
    pub removals: Vec<String>,
    /// Metric, version, and the experiments that now decide by it although a newer one is locked.
    pub pinned: Vec<(String, String, Vec<String>)>,
}

/// A change of the lock.
pub struct Agreement<'a> {
    pub before: &'a Lock,
    pub after: &'a Lock,
    pub drifts: &'a [Drift],
    /// The metrics that were agreed to.
    pub locked: &'a [String],
    /// What every metric means now.
    pub meanings: &'a BTreeMap<String, Meaning>,
    /// Running experiments take the new versions too.
    pub moves_running: bool,
}

/// What is to be written and removed so that every locked version, and every one that a running experiment started with, is
/// there.
pub fn keeping(
    prepared: &Prepared,
    agreement: &Agreement<'_>,
) -> anyhow::Result<Result<Keeping, Vec<Diagnostic>>> {
    let mut kept = prepared.manifest.kept.clone();
    let mut keeping = Keeping::default();
    forget_ended(prepared, &mut kept);
    let missing = match agreement.moves_running {
        true => {
            let is_locked = |kept: &&mut KeptMetric| agreement.locked.contains(&kept.metric);
            let moved = kept.metrics.iter_mut().filter(is_locked);
            moved.for_each(|kept| kept.experiments.clear());
            vec![]
        }
        false => pin(prepared, agreement, &mut kept, &mut keeping.pinned),
    };
    if !missing.is_empty() {
        return Ok(Err(missing));
    }
    if let Err(wrong) = keep_locked(prepared, agreement, &mut kept)? {
        return Ok(Err(wrong));
    }
    let is_locked = |kept: &KeptMetric| {
        let locked = agreement.after.metrics.get(&kept.metric);
        locked.is_some_and(|locked| locked.meaning.version == kept.version)
    };
    keeping.removals = superfluous(&kept, &|kept| {
        is_locked(kept) || !kept.experiments.is_empty()
    });
    let texts = kept.metrics.iter().map(|kept| (kept.path(), kept.text()));
    let facts = kept.facts.iter();
    let facts = facts.map(|(name, fact)| (KeptFact::path(name), fact.sql.clone()));
    keeping.writes = texts
        .chain(facts)
        .filter(|(path, _)| !keeping.removals.contains(path))
        .collect();
    Ok(Ok(keeping))
}

impl Keeping {
    /// Writes what is not there as it should be, and removes what nobody needs.
    pub fn apply(&self, root: &Path) -> std::io::Result<()> {
        for (path, text) in &self.writes {
            let path = root.join(path);
            if std::fs::read_to_string(&path).is_ok_and(|known| known == *text) {
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap_or(root))?;
            crate::project::replace(&path, text)?;
        }
        for path in &self.removals {
            match std::fs::remove_file(root.join(path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Experiments that ended, or no longer look at the metric, need no version of their own.
fn forget_ended(prepared: &Prepared, kept: &mut Kept) {
    for kept in &mut kept.metrics {
        let running = running(prepared, &kept.metric);
        kept.experiments
            .retain(|key| running.contains(key.as_str()));
    }
}

/// Keys of the running experiments that look at a metric.
fn running<'a>(prepared: &'a Prepared, metric: &str) -> BTreeSet<&'a str> {
    let now = experiment_clock(&prepared.manifest);
    let uses = |experiment: &&Experiment| {
        let names = experiment.metrics();
        experiment.is_running(now) && names.iter().any(|(name, _, _)| *name == metric)
    };
    let experiments = prepared.compiled.experiments.iter().filter(uses);
    experiments
        .map(|experiment| experiment.key.as_str())
        .collect()
}

/// Whether numbers or decisions of experiments move.
fn moves(class: Class) -> bool {
    class >= Class::Method
}

/// Notes at the version before who runs with it; says what is missing.
fn pin(
    prepared: &Prepared,
    agreement: &Agreement<'_>,
    kept: &mut Kept,
    pinned: &mut Vec<(String, String, Vec<String>)>,
) -> Vec<Diagnostic> {
    let mut missing = vec![];
    let changed = agreement
        .drifts
        .iter()
        .filter(|drift| agreement.locked.contains(&drift.metric) && moves(drift.class));
    for Drift { metric, .. } in changed {
        let version = &agreement.before.metrics[metric].meaning.version;
        let has_one = |key: &str| {
            let older = kept.metrics.iter().filter(|kept| kept.metric == *metric);
            older.into_iter().any(|kept| kept.experiments.contains(key))
        };
        let experiments: Vec<String> = running(prepared, metric)
            .into_iter()
            .filter(|key| !has_one(key))
            .map(str::to_string)
            .collect();
        if experiments.is_empty() {
            continue;
        }
        let old = kept
            .metrics
            .iter_mut()
            .find(|kept| kept.metric == *metric && kept.version == *version);
        match old {
            Some(old) => {
                old.experiments.extend(experiments.iter().cloned());
                pinned.push((metric.clone(), version.clone(), experiments));
            }
            None => missing.push(not_kept(metric, version, &experiments)),
        }
    }
    missing
}

fn not_kept(metric: &str, version: &str, experiments: &[String]) -> Diagnostic {
    let keys: Vec<String> = experiments.iter().map(|key| format!("`{key}`")).collect();
    Diagnostic::error(
        Code::E0511,
        format!(
            "{} started with `{metric}` {version}, which was not kept",
            keys.join(", ")
        ),
    )
    .note("a version is kept when it is locked; this one was locked before that was so")
    .hint(format!(
        "take the change back, run `equipoise metric lock --all --reason …`, which keeps {version}, and lock the change then; or let running experiments take the new version with `--move-running`"
    ))
}

/// Keeps the locked version of every metric that experiments can use.
fn keep_locked(
    prepared: &Prepared,
    agreement: &Agreement<'_>,
    kept: &mut Kept,
) -> anyhow::Result<Result<(), Vec<Diagnostic>>> {
    let analyzer = Engine::new(EngineOptions::default()).and_then(|engine| engine.analyzer())?;
    let mut keeper = Keeper::new(&prepared.manifest, &prepared.compiled, &analyzer);
    let mut wrong = vec![];
    for (name, locked) in &agreement.after.metrics {
        let Some(now) = agreement.meanings.get(name) else {
            continue;
        };
        let is_there = kept.version(name, &locked.meaning.version).is_some();
        let is_new = agreement.locked.contains(name);
        // What was not agreed to again is kept only as it was agreed to.
        if !is_new && (is_there || !locked.meaning.is_same(now)) {
            continue;
        }
        match keeper.metric(name, &now.plan) {
            None => {}
            Some(Err(diagnostic)) => wrong.push(diagnostic),
            Some(Ok(metric)) => replace(kept, metric),
        }
    }
    kept.facts.extend(keeper.kept());
    Ok(match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    })
}

fn replace(kept: &mut Kept, metric: KeptMetric) {
    let is_it =
        |known: &&mut KeptMetric| known.metric == metric.metric && known.version == metric.version;
    match kept.metrics.iter_mut().find(is_it) {
        Some(known) => {
            let experiments = std::mem::take(&mut known.experiments);
            *known = KeptMetric {
                experiments,
                ..metric
            };
        }
        None => kept.metrics.push(metric),
    }
}
