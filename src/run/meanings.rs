//! What the metrics of a prepared project mean, and what was agreed to.
//! In: a prepared project and its `metrics.lock`. Out: [`Meanings`], the [`Lock`], and diagnostics where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::prepare::Prepared;
use crate::compile::{Detail, Meanings, Sources, check_pins, lints, meanings as of_sources};
use crate::contracts::{Bump, Change, Class, Drift, Lock, Place};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::engine::{Engine, EngineOptions};
use crate::manifest::{Node, NodeKind};
use crate::sql::Analyzer;
use crate::sql::lineage::ColumnGraph;

/// The file that says what every metric means; beside the project file.
pub const LOCK_FILE: &str = "metrics.lock";

/// What every metric means now.
pub async fn meanings(prepared: &Prepared, detail: Detail) -> anyhow::Result<Meanings> {
    let analyzer = analyzer()?;
    let seed_text = |node: &Node| seed_text(prepared, node);
    Ok(of_sources(
        &sources(prepared, &analyzer, &seed_text),
        detail,
        &Meanings::default(),
    )
    .await)
}

fn analyzer() -> anyhow::Result<Analyzer> {
    Ok(Engine::new(EngineOptions::default()).and_then(|engine| engine.analyzer())?)
}

fn seed_text(prepared: &Prepared, node: &Node) -> Option<String> {
    std::fs::read_to_string(prepared.root.join(&*node.path)).ok()
}

fn sources<'a>(
    prepared: &'a Prepared,
    analyzer: &'a Analyzer,
    seed_text: &'a (dyn Fn(&Node) -> Option<String> + Sync),
) -> Sources<'a> {
    Sources {
        manifest: &prepared.manifest,
        graph: &prepared.graph,
        compiled: &prepared.compiled,
        analyzer,
        seed_text,
    }
}

pub fn lock_path(prepared: &Prepared) -> PathBuf {
    prepared.root.join(LOCK_FILE)
}

/// The lock, or none where nobody has agreed to anything yet.
pub fn read_lock(prepared: &Prepared) -> Result<Option<Lock>, Diagnostic> {
    let unreadable = |message: String, line: u32| {
        Diagnostic::error(Code::E0505, message)
            .at(Span { line, ..Span::file(LOCK_FILE) })
            .hint("take it back from git, or write it anew with `equipoise metric lock --all --reason …`")
    };
    match std::fs::read_to_string(lock_path(prepared)) {
        Ok(text) => match Lock::parse(&text) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) => Err(unreadable(
                error.message,
                u32::try_from(error.line).unwrap_or(1),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(
            format!("`{LOCK_FILE}` cannot be read: {error}"),
            1,
        )),
    }
}

/// What is known of a project's columns and metrics before anything is built.
#[derive(Debug, Default)]
pub struct Review {
    /// What drifted from the lock, second names, models that compute a metric by hand.
    pub diagnostics: Vec<Diagnostic>,
    /// Which column comes from which.
    pub columns: ColumnGraph,
}

/// Reads a project as its lock and its lints do.
pub async fn review(prepared: &Prepared) -> anyhow::Result<Review> {
    let lock = match read_lock(prepared) {
        Ok(lock) => lock,
        Err(diagnostic) => {
            return Ok(Review {
                diagnostics: vec![diagnostic],
                ..Review::default()
            });
        }
    };
    let analyzer = analyzer()?;
    let seed_text = |node: &Node| seed_text(prepared, node);
    let sources = sources(prepared, &analyzer, &seed_text);
    let meanings = of_sources(&sources, Detail::Lock, &Meanings::default()).await;
    let mut review = Review {
        columns: meanings.columns(),
        diagnostics: vec![],
    };
    if lock.is_none() && prepared.compiled.metrics.iter().next().is_none() {
        return Ok(review);
    }
    // Without a lock nobody has agreed to anything yet.
    if let Some(lock) = &lock {
        review.diagnostics = check_lock(prepared, lock, &meanings);
    }
    review
        .diagnostics
        .extend(check_pins(&sources, &meanings).await);
    review.diagnostics.extend(lints(&sources, &meanings).await);
    Ok(review)
}

/// Where the metrics differ from the lock; nothing for a project without one.
fn check_lock(prepared: &Prepared, lock: &Lock, meanings: &Meanings) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = by_cause(&meanings.drifts(lock))
        .iter()
        .map(|cause| drifted(prepared, lock, cause))
        .collect();
    found.extend(unlocked(prepared, lock, meanings));
    found
}

/// One change and the metrics that it reaches: ten metrics behind one filter are one finding. A metric in which it happened
/// itself comes first.
struct Cause {
    change: Change,
    metrics: Vec<String>,
}

fn by_cause(drifts: &[Drift]) -> Vec<Cause> {
    let mut causes: BTreeMap<(Option<String>, String, String, Class), Cause> = BTreeMap::new();
    for drift in drifts
        .iter()
        .filter(|drift| drift.class.bump() > Bump::None)
    {
        for change in drift
            .changes
            .iter()
            .filter(|change| change.class.bump() > Bump::None)
        {
            // What happened in the metric itself is its own affair.
            let own = match &change.place {
                Place::Query {
                    model: Some(model), ..
                } => Some(model.clone()),
                Place::Lineage => None,
                // So a metric that is made of this one names it.
                Place::Query { model: None, .. } => Some(format!("metric.{}", drift.metric)),
                Place::Definition => Some(format!(" {}", drift.metric)),
            };
            let key = (
                own,
                change.what.clone(),
                change.detail.clone(),
                change.class,
            );
            let cause = causes.entry(key).or_insert_with(|| Cause {
                change: change.clone(),
                metrics: vec![],
            });
            match &change.place {
                Place::Query { model: None, .. } => {
                    cause.change = change.clone();
                    cause.metrics.insert(0, drift.metric.clone());
                }
                _ => cause.metrics.push(drift.metric.clone()),
            }
        }
    }
    causes.into_values().collect()
}

fn drifted(prepared: &Prepared, lock: &Lock, cause: &Cause) -> Diagnostic {
    let Cause { change, metrics } = cause;
    let first = &metrics[0];
    let message = match change.model() {
        None => format!(
            "`{first}` no longer means what was agreed to: {}{}",
            change.words(),
            match &metrics[1..] {
                [] => String::new(),
                others => format!("; reaches {}", others.join(", ")),
            }
        ),
        Some(_) => format!("{}; reaches {}", change.words(), metrics.join(", ")),
    };
    let place = match change.model() {
        Some(_) if change.input().is_some() => {
            metric_span(prepared, change.input().unwrap_or(first))
        }
        Some(model) => model_span(prepared, model),
        None => metric_span(prepared, first),
    };
    Diagnostic::error(Code::E0503, message)
        .at(place)
        .note(needs(prepared, lock, change.class, metrics))
        .hint(format!(
            "undo it, or agree to it: step `version`, then `equipoise metric lock {} --reason …{}`",
            metrics
                .iter()
                .map(|metric| format!("--metric {metric}"))
                .collect::<Vec<_>>()
                .join(" "),
            approvers_of(lock, change.class, metrics)
                .iter()
                .map(|name| format!(" --approved-by {name}"))
                .collect::<String>()
        ))
}

/// The approvers that the locked metrics name, if the class needs them.
fn approvers_of(lock: &Lock, class: Class, metrics: &[String]) -> BTreeSet<String> {
    let locked = metrics.iter().filter_map(|metric| lock.metrics.get(metric));
    locked
        .flat_map(|locked| locked.needed_approvers(class))
        .collect()
}

/// `breaking: needs net_revenue 2.0.0 and the agreement of the owner (team-shop) and the approvers`.
fn needs(prepared: &Prepared, lock: &Lock, class: Class, metrics: &[String]) -> String {
    let versions: Vec<String> = metrics
        .iter()
        .filter_map(|metric| {
            let locked = &lock.metrics.get(metric)?.meaning.version;
            Some(format!("{metric} {}", class.bump().next(locked)?))
        })
        .collect();
    let owners: BTreeSet<&str> = metrics
        .iter()
        .filter_map(|metric| Some(prepared.compiled.metrics.get(metric)?.owner.as_str()))
        .collect();
    let people: Vec<&str> = class.approvals().iter().map(|who| who.words()).collect();
    let owners: Vec<&str> = owners.into_iter().collect();
    format!(
        "{class}: needs {}, and {} to agree (owned by {})",
        versions.join(", "),
        people.join(" and "),
        owners.join(", ")
    )
}

fn model_span(prepared: &Prepared, model: &str) -> Option<Span> {
    let node = prepared.manifest.model(model)?;
    match &node.kind {
        NodeKind::Model(file) => Some(Span::file(file.path.clone())),
        _ => Some(node.span.clone()),
    }
}

fn metric_span(prepared: &Prepared, metric: &str) -> Option<Span> {
    let metric = prepared.compiled.metrics.get(metric)?;
    Some(metric.span.clone())
}

/// Metrics that nobody has agreed to yet, and agreements about metrics that are gone.
fn unlocked(prepared: &Prepared, lock: &Lock, meanings: &Meanings) -> Vec<Diagnostic> {
    let new = meanings
        .metrics
        .keys()
        .filter(|name| !lock.metrics.contains_key(*name));
    let new = new.map(|name| {
        Diagnostic::warning(
            Code::E0506,
            format!("`{name}` is not in `{LOCK_FILE}`: nobody has agreed to what it means"),
        )
        .at(metric_span(prepared, name))
        .hint(format!(
            "`equipoise metric lock --metric {name} --reason …`"
        ))
    });
    let gone = lock
        .metrics
        .keys()
        .filter(|name| prepared.compiled.metrics.get(name).is_none());
    let gone = gone.map(|name| {
        Diagnostic::warning(Code::E0506, format!("`{name}` is in `{LOCK_FILE}`, but there is no such metric"))
            .at(Span::file(LOCK_FILE))
            .hint(format!("if it was removed on purpose, `equipoise metric lock --metric {name} --reason …` takes it out"))
    });
    new.chain(gone).collect()
}
