//! Turns templates into checked SQL.
//! In: a [`Manifest`], its [`Graph`], the schemas and contents of its files. Out: [`Compiled`]: for each node its SQL, output
//! columns and fingerprint, all known before a row moves; and every error of every model at once.

mod contract;
mod declared;
mod domain;
mod fingerprint;
mod flags;
mod increment;
mod kept;
mod lints;
mod meanings;
mod node;
pub mod snapshot;

pub use flags::{ProjectFlags, flags, load_flags, lock_file, unlocked_flags};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostics::Checked;
use crate::experiments::{Experiments, Pin};
use crate::flags::FlagSet;
use crate::graph::Graph;
use crate::manifest::{Manifest, NodeId, NodeKind};
use crate::metrics::Metrics;
use crate::project::Computation;
use crate::sql::{Analyzed, Analyzer, Schema};
use crate::template::{Log, SourceMap};

pub use increment::published;
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
        .extend(domain::derived_expressions(&metrics, analyzer).await);
    let experiments = checked.absorb(crate::experiments::resolve(manifest, &metrics));
    let flags = flags::flags(&manifest.flag_files, &manifest.flag_lock);
    if !flags.has_errors() {
        checked
            .diagnostics
            .extend(flags::unknown_flags(manifest, &flags.value));
        checked
            .diagnostics
            .extend(flags::unknown_variants(manifest, &flags.value));
    }
    let flags = checked.absorb(flags);
    let pins = checked.absorb(kept::pins(manifest, &experiments, &metrics));
    let is_sound = !checked.has_errors();
    let domain = domain::Domain::new(metrics, experiments, flags, computation, is_sound);
    let domain = Arc::new(domain.with_pins(pins));
    for id in graph.order() {
        let node = manifest.node(*id);
        let outcome = match &node.kind {
            NodeKind::Source(_) | NodeKind::Seed => {
                node::compile_input(node, analyzer, inputs).await
            }
            NodeKind::Model(_) => {
                node::compile_model(manifest, node, analyzer, &domain, &checked.value, now).await
            }
            NodeKind::Test { .. } => {
                node::compile_test(manifest, node, analyzer, &domain, &checked.value, now).await
            }
        };
        if let Some(compiled) = checked.absorb(outcome) {
            checked.value.nodes.insert(*id, compiled);
        }
        let found = domain::check_at(manifest, node, analyzer, &checked.value).await;
        if found.iter().any(crate::diagnostics::Diagnostic::is_error) {
            domain.mark_broken();
        }
        checked.diagnostics.extend(found);
    }
    checked.value.metrics = domain.metrics.clone();
    checked.value.experiments = domain.experiments.clone();
    checked.value.flags = domain.flags.clone();
    checked.value.pins = domain.pins.clone();
    checked
}

/// What is known of the files behind sources and seeds.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    pub by_node: BTreeMap<NodeId, Input>,
}

#[derive(Debug, Clone)]
pub struct Input {
    pub schema: Schema,
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
    /// Of an incremental model: the query for the rows that are new.
    pub increment: Option<String>,
    /// Functions whose answer changes from call to call; with one, the node is built anew each time.
    pub volatile: Vec<String>,
    pub map: SourceMap,
    pub logs: Vec<Log>,
}
