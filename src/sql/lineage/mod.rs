//! Which input columns can move which output columns, and how.
//! In: a bound plan. Out: [`Lineage`]: for each output the columns it copies or computes from, and the columns that decide
//! which rows, groups and matches it is computed over. Nothing runs; a column that is not listed cannot change the output.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;

pub use graph::{ColumnGraph, Edge};

mod graph;
mod trace;

/// A column of a relation that the plan reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub relation: String,
    pub column: String,
}

/// How an input column reaches an output. The first two carry its values, the others decide about rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Copy,
    Transform,
    Filter,
    Group,
    Join,
}

/// The lineage of a query's outputs, in the order of its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    pub outputs: Vec<Output>,
}

/// One output column and what it depends on; one origin may act in several ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    pub origins: BTreeSet<(Origin, Kind)>,
}

/// Traces every output column of a plan to the columns of the tables it scans.
pub fn trace(plan: &LogicalPlan) -> Result<Lineage> {
    let traced = trace::Tracer::default().plan(plan)?;
    let outputs = plan
        .schema()
        .fields()
        .iter()
        .zip(traced.columns)
        .map(|(field, mut origins)| {
            origins.extend(traced.rows.iter().cloned());
            Output {
                name: field.name().clone(),
                origins,
            }
        });
    Ok(Lineage {
        outputs: outputs.collect(),
    })
}

impl Lineage {
    /// The kinds in which `origin` reaches `output`.
    pub fn kinds(&self, output: &str, origin: &Origin) -> Vec<Kind> {
        let found = self.outputs.iter().filter(|column| column.name == output);
        found
            .flat_map(|column| &column.origins)
            .filter(|(from, _)| from == origin)
            .map(|(_, kind)| *kind)
            .collect()
    }

    /// The columns read per relation.
    pub fn reads(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut reads: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (origin, _) in self.outputs.iter().flat_map(|output| &output.origins) {
            reads
                .entry(origin.relation.clone())
                .or_default()
                .insert(origin.column.clone());
        }
        reads
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Copy => "copy",
            Kind::Transform => "transform",
            Kind::Filter => "filter",
            Kind::Group => "group",
            Kind::Join => "join",
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.relation, self.column)
    }
}
