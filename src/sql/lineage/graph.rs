//! Column lineage across models.
//! In: the lineage of each model. Out: a graph that answers what a column comes from and what it reaches.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Lineage, Origin};

/// Edges between columns of models and base tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnGraph {
    up: BTreeMap<Origin, BTreeSet<(Origin, Kind)>>,
    down: BTreeMap<Origin, BTreeSet<(Origin, Kind)>>,
}

/// A step of a walk: how many steps away, which column, how it acts on the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub distance: usize,
    pub column: Origin,
    pub kind: Kind,
}

impl ColumnGraph {
    /// Adds a model's columns.
    pub fn add(&mut self, model: &str, lineage: &Lineage) {
        for output in &lineage.outputs {
            let own = Origin {
                relation: model.into(),
                column: output.name.clone(),
            };
            for (origin, kind) in &output.origins {
                self.down
                    .entry(origin.clone())
                    .or_default()
                    .insert((own.clone(), *kind));
            }
            self.up
                .entry(own)
                .or_default()
                .extend(output.origins.iter().cloned());
        }
    }

    pub fn knows(&self, column: &Origin) -> bool {
        self.up.contains_key(column) || self.down.contains_key(column)
    }

    /// Every column that can move `column`, nearest first.
    pub fn upstream(&self, column: &Origin) -> Vec<Edge> {
        walk(&self.up, column)
    }

    /// Every column that `column` can move, nearest first.
    pub fn downstream(&self, column: &Origin) -> Vec<Edge> {
        walk(&self.down, column)
    }

    /// Every direct edge: from which column to which, and how it acts.
    pub fn edges(&self) -> impl Iterator<Item = (&Origin, &Origin, Kind)> {
        self.down
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |(to, kind)| (from, to, *kind)))
    }

    /// The direct edges of one column.
    pub fn parents(&self, column: &Origin) -> impl Iterator<Item = &(Origin, Kind)> {
        self.up.get(column).into_iter().flatten()
    }
}

fn walk(edges: &BTreeMap<Origin, BTreeSet<(Origin, Kind)>>, start: &Origin) -> Vec<Edge> {
    let mut found = vec![];
    let mut seen = BTreeSet::from([start.clone()]);
    let mut level = vec![start.clone()];
    for distance in 1.. {
        let edges_of = |column: &Origin| edges.get(column).into_iter().flatten();
        let next: BTreeSet<&(Origin, Kind)> = level
            .iter()
            .flat_map(edges_of)
            .filter(|(other, _)| !seen.contains(other))
            .collect();
        if next.is_empty() {
            break;
        }
        found.extend(next.iter().map(|(column, kind)| Edge {
            distance,
            column: column.clone(),
            kind: *kind,
        }));
        let columns: BTreeSet<Origin> =
            next.into_iter().map(|(column, _)| column.clone()).collect();
        seen.extend(columns.iter().cloned());
        level = columns.into_iter().collect();
    }
    found
}
