//! Turns templates into checked SQL.
//! In: a [`Manifest`], its [`Graph`], the schemas and contents of its files. Out: [`Compiled`]: for each node its SQL, output
//! columns and fingerprint, all known before a row moves; and every error of every model at once.

mod checks;
mod contract;
mod declared;
mod domain;
mod fingerprint;
mod flags;
mod freshness;
mod increment;
mod kept;
mod lints;
mod meanings;
mod node;
mod parallel;
pub mod snapshot;

pub use flags::{ProjectFlags, drop_removals, flags, load_flags, lock_file, unlocked_flags};

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::diagnostics::{Checked, Diagnostic};
use crate::experiments::{Experiments, Pin};
use crate::flags::FlagSet;
use crate::graph::Graph;
use crate::manifest::{Manifest, NodeId, NodeKind};
use crate::metrics::Metrics;
use crate::project::Computation;
use crate::sql::{Analyzed, Analyzer, Rows, Schema};
use crate::template::{Log, SourceMap};

pub use increment::{Increment, published};
pub use kept::{Keeper, check_pins, experiment_clock, superfluous};
pub use lints::lints;
pub use meanings::{Detail, Meanings, Sources, meanings, measure_sql};

/// Compiles every node after all that it reads. One bad node hides no other, but those that read it stay silent.
pub async fn compile(
    manifest: &Arc<Manifest>,
    graph: &Graph,
    analyzer: &Analyzer,
    inputs: &Inputs,
    computation: Computation,
    now: &str,
) -> Checked<Compiled> {
    let mut checked = Checked::new(Compiled::default());
    let metrics = checked.absorb(crate::metrics::resolve(manifest));
    checked
        .diagnostics
        .extend(checks::derived_expressions(&metrics, analyzer).await);
    let experiments = checked.absorb(crate::experiments::resolve(manifest, &metrics));
    let flags = flags::flags(&manifest.flag_files, &manifest.flag_lock);
    if !flags.has_errors() {
        checked
            .diagnostics
            .extend(flags::unknown_flags(manifest, &flags.value));
        checked
            .diagnostics
            .extend(flags::unknown_variants(manifest, &flags.value));
        checked
            .diagnostics
            .extend(flags::never_assigned(&experiments, &flags.value));
    }
    let flags = checked.absorb(flags);
    let pins = checked.absorb(kept::pins(manifest, &experiments, &metrics));
    let is_sound = !checked.has_errors();
    let domain = domain::Domain::new(metrics, experiments, flags, computation, is_sound);
    let domain = Arc::new(domain.with_pins(pins));
    let work = Arc::new(Work {
        manifest: Arc::clone(manifest),
        analyzer: analyzer.clone(),
        inputs: inputs.clone(),
        domain: Arc::clone(&domain),
        now: now.to_owned(),
    });
    let mut found = BTreeMap::new();
    for wave in waves(graph) {
        // In the order of the graph, whichever was ready first.
        for (position, outcome) in work.compile(&wave, &mut checked.value).await {
            if outcome.breaks_domain {
                domain.mark_broken();
            }
            found.insert(position, outcome.diagnostics);
        }
    }
    checked.diagnostics.extend(found.into_values().flatten());
    let freshness = freshness::queries(manifest, analyzer, inputs).await;
    checked.value.freshness = checked.absorb(freshness);
    checked.value.metrics = domain.metrics.clone();
    checked.value.experiments = domain.experiments.clone();
    checked.value.flags = domain.flags.clone();
    checked.value.pins = domain.pins.clone();
    checked
}

/// Nodes with their positions in the graph's order: each after all that it reads, and as early as that allows.
fn waves(graph: &Graph) -> Vec<Vec<(usize, NodeId)>> {
    let mut depths: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut waves: Vec<Vec<(usize, NodeId)>> = Vec::new();
    for (position, id) in graph.order().iter().enumerate() {
        let parents = graph.parents(*id);
        let above = parents.iter().filter_map(|parent| depths.get(parent));
        let depth = above.max().map_or(0, |depth| depth + 1);
        depths.insert(*id, depth);
        waves.resize_with(waves.len().max(depth + 1), Vec::new);
        waves[depth].push((position, *id));
    }
    waves
}

/// What every node is compiled with.
struct Work {
    manifest: Arc<Manifest>,
    analyzer: Analyzer,
    inputs: Inputs,
    domain: Arc<domain::Domain>,
    now: String,
}

/// What compiling one node found.
struct Outcome {
    diagnostics: Vec<Diagnostic>,
    /// Whether a metric or an experiment says something wrong about it.
    breaks_domain: bool,
}

impl Work {
    /// Compiles nodes that do not read each other, all at once, and adds them to `compiled`.
    async fn compile(
        self: &Arc<Work>,
        wave: &[(usize, NodeId)],
        compiled: &mut Compiled,
    ) -> Vec<(usize, Outcome)> {
        let so_far = Arc::new(std::mem::take(compiled));
        let mut tasks = JoinSet::new();
        for (position, id) in wave.iter().copied() {
            let (work, so_far) = (Arc::clone(self), Arc::clone(&so_far));
            tasks.spawn(async move { (position, id, work.compile_node(id, &so_far).await) });
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = tasks.join_next().await {
            match outcome {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        *compiled = Arc::try_unwrap(so_far).unwrap_or_else(|shared| (*shared).clone());
        outcomes.sort_by_key(|(position, ..)| *position);
        let added = outcomes.into_iter().map(|(position, id, (node, outcome))| {
            compiled.nodes.extend(node.map(|node| (id, node)));
            (position, outcome)
        });
        added.collect()
    }

    async fn compile_node(&self, id: NodeId, so_far: &Compiled) -> (Option<CompiledNode>, Outcome) {
        let (manifest, analyzer, now) = (&self.manifest, &self.analyzer, &self.now);
        let node = manifest.node(id);
        let checked = match &node.kind {
            NodeKind::Source(_) | NodeKind::Seed => {
                node::compile_input(node, analyzer, &self.inputs).await
            }
            NodeKind::Model(_) => {
                node::compile_model(manifest, node, analyzer, &self.domain, so_far, now).await
            }
            NodeKind::Test { .. } => {
                node::compile_test(manifest, node, analyzer, &self.domain, so_far, now).await
            }
        };
        let schema = checked.value.as_ref().map(|compiled| &compiled.schema);
        let found = match schema {
            Some(schema) => checks::check_at(manifest, node, analyzer, schema).await,
            None => Vec::new(),
        };
        let outcome = Outcome {
            breaks_domain: found.iter().any(Diagnostic::is_error),
            diagnostics: checked.diagnostics.into_iter().chain(found).collect(),
        };
        (checked.value, outcome)
    }
}

/// What is known of the files behind sources and seeds.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    pub by_node: BTreeMap<NodeId, Input>,
}

#[derive(Debug, Clone)]
pub struct Input {
    pub schema: Schema,
    /// Columns that are text for want of any value.
    pub guessed: Vec<String>,
    /// Changes when a value in the files changes.
    pub content_hash: String,
}

/// A project whose every query means something.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub nodes: BTreeMap<NodeId, CompiledNode>,
    pub metrics: Metrics,
    pub experiments: Experiments,
    pub flags: FlagSet,
    /// Versions of metrics that running experiments started with.
    pub pins: Vec<Pin>,
    /// Of source tables whose age is judged: the query for the time of the newest row.
    pub freshness: BTreeMap<NodeId, String>,
}

/// One node, ready to run.
#[derive(Debug, Clone)]
pub struct CompiledNode {
    /// Empty for sources and seeds.
    pub sql: String,
    /// What the query means; nothing for sources and seeds.
    pub analyzed: Option<Arc<Analyzed>>,
    /// Of a test: the query for the wrong rows themselves.
    pub rows_sql: Option<String>,
    /// Columns of the relation as it is stored.
    pub schema: Schema,
    /// Names this exact content: SQL, settings, and the fingerprints of all that it reads.
    pub fingerprint: String,
    /// The same of queries, settings and columns alone, whatever the data.
    pub logic: String,
    /// How its rows come to be when files arrive.
    pub rows: Rows,
    /// Of an incremental model: the query for the rows that are new.
    pub increment: Option<Increment>,
    /// Functions whose answer changes from call to call; with one, the node is built anew each time.
    pub volatile: Vec<String>,
    pub map: SourceMap,
    pub logs: Vec<Log>,
}
