//! What a change of metrics does to numbers and decisions.
//! In: a project before and after, both over the same sources. Out: [`Impact`]: each metric by day, and each experiment's
//! estimate and decision under both. Relations that both share are built once, under their fingerprint; no environment moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::events::{Event, Observer};
use super::execute::execute;
use super::plan::{Scope, plan};
use super::prepare::Prepared;
use super::testing::PassedTests;
use crate::engine::Engine;
use crate::graph::Selection;
use crate::manifest::{NodeId, NodeKind};
use crate::warehouse::Warehouse;

/// Numbers under two definitions.
#[derive(Debug, Clone, Default)]
pub struct Impact {
    /// Names the data that both sides read.
    pub sample: String,
    pub days: Vec<Day>,
    pub experiments: Vec<Reading>,
}

/// A metric's company-wide value on one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    pub metric: String,
    pub day: String,
    pub old: Option<f64>,
    pub new: Option<f64>,
}

/// What an experiment says about a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub experiment: String,
    pub metric: String,
    pub variant: String,
    pub old: Option<Estimate>,
    pub new: Option<Estimate>,
    pub old_decision: Option<String>,
    pub new_decision: Option<String>,
}

/// Treatment minus control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub effect: f64,
    pub low: f64,
    pub high: f64,
}

impl Reading {
    /// The decision is another, or the interval tells another story about zero.
    pub fn is_flip(&self) -> bool {
        self.old_decision != self.new_decision
            || self.old.map(Estimate::sign) != self.new.map(Estimate::sign)
    }
}

impl Estimate {
    /// Below zero, above it, or undecided.
    fn sign(self) -> i8 {
        match (self.low > 0.0, self.high < 0.0) {
            (true, _) => 1,
            (_, true) => -1,
            _ => 0,
        }
    }
}

/// Builds what `metrics` need on both sides and compares.
pub async fn impact(
    old: &Arc<Prepared>,
    new: &Arc<Prepared>,
    metrics: &BTreeSet<String>,
) -> anyhow::Result<Impact> {
    let before = Side::build(old, metrics)
        .await
        .context("before the change")?;
    let after = Side::build(new, metrics)
        .await
        .context("after the change")?;
    let mut days = vec![];
    for metric in metrics {
        let (old, new) = (before.days(metric).await?, after.days(metric).await?);
        let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        days.extend(all.into_iter().map(|day| Day {
            metric: metric.clone(),
            day: day.clone(),
            old: old.get(day).copied(),
            new: new.get(day).copied(),
        }));
    }
    Ok(Impact {
        sample: sample(new),
        days,
        experiments: readings(&before, &after, metrics).await?,
    })
}

async fn readings(
    before: &Side,
    after: &Side,
    metrics: &BTreeSet<String>,
) -> anyhow::Result<Vec<Reading>> {
    let (old, new) = (before.estimates().await?, after.estimates().await?);
    let (old_decisions, new_decisions) = (before.decisions().await?, after.decisions().await?);
    let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|(_, metric, _)| metrics.contains(metric));
    let reading = |key: &Key| Reading {
        experiment: key.0.clone(),
        metric: key.1.clone(),
        variant: key.2.clone(),
        old: old.get(key).copied().flatten(),
        new: new.get(key).copied().flatten(),
        old_decision: old_decisions.get(&key.0).cloned(),
        new_decision: new_decisions.get(&key.0).cloned(),
    };
    Ok(changed.map(reading).collect())
}

/// A hash of what is in the files behind sources and seeds.
fn sample(prepared: &Prepared) -> String {
    let mut hasher = blake3::Hasher::new();
    for node in &prepared.manifest.nodes {
        let is_input = matches!(node.kind, NodeKind::Source(_) | NodeKind::Seed);
        if let Some(compiled) = prepared.compiled.nodes.get(&node.id).filter(|_| is_input) {
            hasher.update(compiled.fingerprint.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_string()
}

/// Experiment, metric, variant.
type Key = (String, String, String);

/// One state of the project, built, with an engine that knows its relations.
struct Side {
    prepared: Arc<Prepared>,
    engine: Engine,
}

/// The standard marts from which experiments are read.
const RESULTS: &str = "experiment_results";
const DECISIONS: &str = "experiment_decisions";

impl Side {
    async fn build(prepared: &Arc<Prepared>, metrics: &BTreeSet<String>) -> anyhow::Result<Side> {
        let warehouse = Warehouse::open(&prepared.warehouse)?;
        let engine = Engine::new(prepared.engine)?;
        let selection = Selection {
            nodes: needed(prepared, metrics),
            is_everything: false,
        };
        // Passed tests do not matter here: none is among the steps.
        let passed = PassedTests::load(prepared.target_folder().join("state/none"));
        let plan = plan(
            prepared,
            &selection,
            Scope::Build,
            false,
            &warehouse,
            &passed,
        )
        .await?;
        let results = execute(prepared, &plan, &engine, &warehouse, &Silent).await;
        if let Some(failure) = results.diagnostics().first() {
            bail!("{}", failure.message);
        }
        Ok(Side {
            prepared: prepared.clone(),
            engine,
        })
    }

    async fn days(&self, metric: &str) -> anyhow::Result<BTreeMap<String, f64>> {
        let Some(metric) = self.prepared.compiled.metrics.get(metric) else {
            return Ok(BTreeMap::new());
        };
        let metrics = self.prepared.compiled.metrics.with_inputs(metric);
        let rows = crate::metrics::sql::daily(&metrics);
        let sql = format!(
            "select cast(metric_date as varchar), cast(numerator as double) / nullif(cast(denominator as double), 0) from {rows} as days \
             where metric_name = '{}'",
            metric.name
        );
        let cells = self.engine.rows(&sql, None).await?.cells()?;
        let numbers = cells.into_iter().filter_map(|mut row| {
            let value = row.pop()??.parse().ok()?;
            Some((row.pop()??, value))
        });
        Ok(numbers.collect())
    }

    fn has(&self, model: &str) -> bool {
        self.prepared.manifest.model(model).is_some()
    }

    async fn estimates(&self) -> anyhow::Result<BTreeMap<Key, Option<Estimate>>> {
        if !self.has(RESULTS) {
            return Ok(BTreeMap::new());
        }
        let version = match self.says_versions() {
            true => "metric_version",
            false => "cast(null as varchar)",
        };
        let sql = format!(
            "select experiment_key, metric_name, variant, effect, effect_low, effect_high, {version} from {RESULTS} where segment_dimension = 'all'"
        );
        let cells = self.engine.rows(&sql, None).await?.cells()?;
        let rows = cells.into_iter().filter_map(|row| {
            let [experiment, metric, variant, effect, low, high, version] = row.try_into().ok()?;
            // A version that a running experiment started with is not what changed.
            if let (Some(version), Some(metric)) = (&version, &metric)
                && self
                    .prepared
                    .compiled
                    .metrics
                    .get(metric)
                    .is_some_and(|now| now.version != *version)
            {
                return None;
            }
            let number = |text: Option<String>| text.and_then(|text| text.parse::<f64>().ok());
            let estimate = match (number(effect), number(low), number(high)) {
                (Some(effect), Some(low), Some(high)) => Some(Estimate { effect, low, high }),
                _ => None,
            };
            Some(((experiment?, metric?, variant?), estimate))
        });
        Ok(rows.collect())
    }

    /// Whether results have a row per version of a metric; a project may have its own macro for them.
    fn says_versions(&self) -> bool {
        let model = self.prepared.manifest.model(RESULTS);
        let known = model.and_then(|node| self.prepared.compiled.nodes.get(&node.id));
        known.is_some_and(|known| known.schema.field_with_name("metric_version").is_ok())
    }

    async fn decisions(&self) -> anyhow::Result<BTreeMap<String, String>> {
        if !self.has(DECISIONS) {
            return Ok(BTreeMap::new());
        }
        let sql = format!("select experiment_key, decision from {DECISIONS}");
        let cells = self.engine.rows(&sql, None).await?.cells()?;
        let rows = cells.into_iter().filter_map(|mut row| {
            let decision = row.pop()??;
            Some((row.pop()??, decision))
        });
        Ok(rows.collect())
    }
}

/// The facts of the metrics, the standard marts, and all that they read; no tests.
fn needed(prepared: &Prepared, metrics: &BTreeSet<String>) -> BTreeSet<NodeId> {
    let known = metrics
        .iter()
        .filter_map(|name| prepared.compiled.metrics.get(name))
        .flat_map(|metric| prepared.compiled.metrics.with_inputs(metric));
    let facts = known.flat_map(|metric| metric.kind.measures());
    let names = facts.map(|measure| measure.fact.as_str());
    let mut open: Vec<NodeId> = names
        .chain([RESULTS, DECISIONS])
        .filter_map(|name| Some(prepared.manifest.model(name)?.id))
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if found.insert(id) {
            open.extend(prepared.graph.parents(id));
        }
    }
    found.retain(|id| !prepared.manifest.node(*id).is_test());
    found
}

struct Silent;

impl Observer for Silent {
    fn notice(&self, _: &Event<'_>) {}
}
