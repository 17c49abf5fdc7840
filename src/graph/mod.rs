//! Orders the nodes of a [`Manifest`] and answers `--select`.
//! In: resolved nodes. Out: a [`Graph`] without cycles, [`Selection`]s. Names were checked before; nothing is compiled here.

mod select;

use std::collections::BTreeSet;

use petgraph::Direction;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::diagnostics::{Checked, Code, Diagnostic};
use crate::manifest::{Manifest, NodeId};

pub use select::{Fresher, Selection, asks_for_fresher};

/// Builds the graph. Cycles are reported with their whole path, and their nodes are left without order.
pub fn build(manifest: &Manifest) -> Checked<Graph> {
    let mut inner = DiGraph::with_capacity(manifest.nodes.len(), manifest.nodes.len() * 2);
    for node in &manifest.nodes {
        inner.add_node(node.id);
    }
    for node in &manifest.nodes {
        for parent in &node.depends_on {
            inner.update_edge(NodeIndex::new(parent.0), NodeIndex::new(node.id.0), ());
        }
    }
    let diagnostics: Vec<Diagnostic> = cycles(&inner)
        .into_iter()
        .map(|cycle| cycle_error(manifest, &cycle))
        .collect();
    let order = toposort(&inner, None)
        .map(|order| order.into_iter().map(|at| inner[at]).collect())
        .unwrap_or_default();
    Checked::with(Graph { inner, order }, diagnostics)
}

/// Which node reads which.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    inner: DiGraph<NodeId, ()>,
    order: Vec<NodeId>,
}

impl Graph {
    /// Every node after all that it reads; empty if there is a cycle.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    pub fn parents(&self, id: NodeId) -> Vec<NodeId> {
        self.neighbors(id, Direction::Incoming)
    }

    pub fn children(&self, id: NodeId) -> Vec<NodeId> {
        self.neighbors(id, Direction::Outgoing)
    }

    fn neighbors(&self, id: NodeId, direction: Direction) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = self
            .inner
            .neighbors_directed(NodeIndex::new(id.0), direction)
            .map(|at| self.inner[at])
            .collect();
        found.sort_unstable();
        found
    }

    /// All nodes within `depth` steps upstream (`Incoming`) or downstream, without the start.
    pub(crate) fn reach(
        &self,
        start: NodeId,
        direction: Direction,
        depth: Option<usize>,
    ) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        let mut edge = vec![start];
        let mut steps = 0;
        while !edge.is_empty() && depth.is_none_or(|depth| steps < depth) {
            let next = edge
                .iter()
                .flat_map(|id| self.neighbors(*id, direction))
                .collect::<BTreeSet<_>>();
            edge = next
                .into_iter()
                .filter(|id| *id != start && found.insert(*id))
                .collect();
            steps += 1;
        }
        found
    }
}

/// One path around each group of nodes that depend on each other.
fn cycles(graph: &DiGraph<NodeId, ()>) -> Vec<Vec<NodeId>> {
    let circular =
        |group: &Vec<NodeIndex>| group.len() > 1 || graph.contains_edge(group[0], group[0]);
    tarjan_scc(graph)
        .into_iter()
        .filter(circular)
        .map(|group| path_around(graph, &group))
        .collect()
}

/// The shortest way from the first node of the group back to itself.
fn path_around(graph: &DiGraph<NodeId, ()>, group: &[NodeIndex]) -> Vec<NodeId> {
    let start = *group.iter().min().expect("a group is not empty");
    let mut paths = vec![vec![start]];
    let mut seen = BTreeSet::new();
    loop {
        let mut longer = Vec::new();
        for path in &paths {
            let last = *path.last().expect("a path is not empty");
            let mut parents: Vec<NodeIndex> = graph
                .neighbors_directed(last, Direction::Incoming)
                .collect();
            parents.sort_unstable();
            for parent in parents {
                if parent == start {
                    return path.iter().map(|at| graph[*at]).collect();
                }
                if group.contains(&parent) && seen.insert(parent) {
                    longer.push(path.iter().copied().chain([parent]).collect::<Vec<_>>());
                }
            }
        }
        paths = longer;
    }
}

fn cycle_error(manifest: &Manifest, cycle: &[NodeId]) -> Diagnostic {
    let names: Vec<&str> = cycle
        .iter()
        .chain(cycle.first())
        .map(|id| manifest.node(*id).name.as_str())
        .collect();
    let first = manifest.node(cycle[0]);
    let mut diagnostic = Diagnostic::error(
        Code::E0301,
        format!(
            "models depend on each other in a circle: {}",
            names.join(" reads ")
        ),
    )
    .at(first.span.clone())
    .hint("move what both need into a model of its own");
    for id in &cycle[1..] {
        diagnostic = diagnostic.also(manifest.node(*id).span.clone(), "part of the circle");
    }
    diagnostic
}
