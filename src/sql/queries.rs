//! The meanings and lineages of queries that read each other.
//! In: analysed queries, parents first. Out: for each its canonical form over its parents and over base tables, and which
//! columns of which relation reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::error::DataFusionError;

use super::Analyzed;
use super::canonical::{self, Bound, Canonical, Catalog};
use super::lineage::{self, ColumnGraph, Lineage, Origin, Output};

/// Queries by the name of the relation they make.
#[derive(Debug, Default)]
pub struct Queries {
    by_relation: BTreeMap<String, Arc<Query>>,
}

/// One query, bound twice.
#[derive(Debug, Clone)]
pub struct Query {
    local: Bound,
    inlined: Bound,
    pub lineage: Lineage,
}

impl Queries {
    /// Binds a query over those added before.
    pub fn bind(&self, analyzed: &Analyzed) -> Result<Query, String> {
        self.bound(analyzed)
            .map_err(|error| error.strip_backtrace())
    }

    fn bound(&self, analyzed: &Analyzed) -> Result<Query, DataFusionError> {
        let known = |name: &str| {
            self.by_relation
                .get(name)
                .map(|query| query.inlined.relation.clone())
        };
        Ok(Query {
            lineage: lineage::trace(&analyzed.plan)?,
            local: canonical::bind_plan(&analyzed.settled, &|_| None)?,
            inlined: canonical::bind_plan(&analyzed.settled, &known)?,
        })
    }

    pub fn add(&mut self, relation: &str, query: Arc<Query>) {
        self.by_relation.insert(relation.to_string(), query);
    }

    pub fn get(&self, relation: &str) -> Option<&Arc<Query>> {
        self.by_relation.get(relation)
    }

    /// Column lineage across all queries.
    pub fn graph(&self) -> ColumnGraph {
        let mut graph = ColumnGraph::default();
        self.by_relation
            .iter()
            .for_each(|(relation, query)| graph.add(relation, &query.lineage));
        graph
    }

    /// The queries that one reads, directly or not, nearest first, with how many steps up they stand.
    pub fn distances(&self, query: &Query) -> Vec<(String, usize)> {
        let mut found: Vec<(String, usize)> = vec![];
        let mut level = query.parents();
        for distance in 1.. {
            level.retain(|name| {
                self.by_relation.contains_key(name) && !found.iter().any(|(known, _)| known == name)
            });
            if level.is_empty() {
                break;
            }
            found.extend(level.iter().map(|name| (name.clone(), distance)));
            level = level
                .iter()
                .flat_map(|name| self.by_relation[name].parents())
                .collect();
        }
        found
    }

    /// The columns of all relations that can move the query's outputs.
    pub fn reaching(&self, query: &Query) -> BTreeSet<Origin> {
        let mut found = BTreeSet::new();
        let of = |outputs: &[Output]| -> Vec<Origin> {
            let origins = outputs.iter().flat_map(|output| &output.origins);
            origins.map(|(origin, _)| origin.clone()).collect()
        };
        let mut open = of(&query.lineage.outputs);
        while let Some(origin) = open.pop() {
            if let Some(model) = self.by_relation.get(&origin.relation)
                && !found.contains(&origin)
            {
                let outputs = &model.lineage.outputs;
                let output = outputs.iter().find(|output| output.name == origin.column);
                open.extend(of(output.map_or(&[], std::slice::from_ref)));
            }
            found.insert(origin);
        }
        found
    }
}

impl Query {
    /// The relations it scans; a query without rows of its own columns still has them.
    fn parents(&self) -> BTreeSet<String> {
        canonical::tables(&self.local.relation)
    }

    /// The base tables that it comes down to.
    pub fn base_tables(&self) -> BTreeSet<String> {
        canonical::tables(&self.inlined.relation)
    }

    /// The query over its parents as tables.
    pub fn local(&self, catalog: &Catalog) -> Canonical {
        canonical::canonicalise(&self.local, catalog)
    }

    /// The query over base tables.
    pub fn inlined(&self, catalog: &Catalog) -> Canonical {
        canonical::canonicalise(&self.inlined, catalog)
    }
}
