//! The smallest rows on which a metric means two things.
//! In: a project before and after, with what its metrics mean. Out: invented rows of sources and seeds, and what each side
//! counts of them; or none, which proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::prepare::Prepared;
use crate::compile::{Meanings, measure_sql};
use crate::engine::witness::{
    CounterExample, Definition, Invented, Literals, Reference, counter_example as search,
};
use crate::engine::{Engine, EngineOptions};
use crate::manifest::{Node, NodeId, NodeKind};
use crate::metrics::{Aggregation, Measure};

/// Databases that are tried; most changes show within a few dozen.
const TRIES: usize = 300;

/// Searches for rows on which `metric` counts something else after than before.
pub async fn counter_example(
    old: (&Prepared, &Meanings),
    new: (&Prepared, &Meanings),
    metric: &str,
) -> anyhow::Result<Option<CounterExample>> {
    // Rows that move the metric's number say more than rows that are merely others.
    for rows in [Rows::Moving, Rows::All] {
        let found = counter_example_of(old, new, metric, rows).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Which rows of a metric are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Those with a value, which of a sum is not zero.
    Moving,
    All,
}

async fn counter_example_of(
    old: (&Prepared, &Meanings),
    new: (&Prepared, &Meanings),
    metric: &str,
    rows: Rows,
) -> anyhow::Result<Option<CounterExample>> {
    let before = Lineage::of(old.0, metric, rows);
    let after = Lineage::of(new.0, metric, rows);
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(None);
    };
    let Some(tables) = invented(&before, &after, new.1) else {
        return Ok(None);
    };
    let literals = literals(before.sql().chain(after.sql()));
    let (before, after) = (
        before.definition(&tables).await?,
        after.definition(&tables).await?,
    );
    Ok(search(&tables, &before, &after, &literals, TRIES).await?)
}

/// The rows of a measure that are compared.
fn counted(measure: &Measure, prepared: &Prepared, rows: Rows) -> Option<String> {
    let all = measure_sql(measure, &prepared.manifest)?;
    let condition = match (rows, measure.aggregation) {
        (Rows::All, _) => return Some(all),
        (Rows::Moving, Aggregation::Sum) => "value <> 0",
        (Rows::Moving, _) => "value is not null",
    };
    Some(format!(
        "select * from (\n{all}\n) as counted where {condition}"
    ))
}

/// A metric's queries and all that they read.
struct Lineage<'a> {
    prepared: &'a Prepared,
    inputs: BTreeMap<String, &'a Node>,
    views: Vec<(String, String)>,
    queries: Vec<String>,
}

impl<'a> Lineage<'a> {
    fn of(prepared: &'a Prepared, metric: &str, rows: Rows) -> Option<Lineage<'a>> {
        let metrics = &prepared.compiled.metrics;
        let metrics = metrics.with_inputs(metrics.get(metric)?).into_iter();
        let measures: Vec<&Measure> = metrics.flat_map(|metric| metric.kind.measures()).collect();
        let facts = measures
            .iter()
            .map(|measure| prepared.manifest.model(&measure.fact));
        let mut open: Vec<NodeId> = facts.flatten().map(|node| node.id).collect();
        let mut read = BTreeSet::new();
        while let Some(id) = open.pop() {
            if read.insert(id) {
                open.extend(prepared.graph.parents(id));
            }
        }
        let (mut inputs, mut views) = (BTreeMap::new(), vec![]);
        for id in prepared.graph.order().iter().filter(|id| read.contains(id)) {
            let node = prepared.manifest.node(*id);
            match node.kind {
                NodeKind::Model(_) => {
                    views.push((
                        node.relation(),
                        prepared.compiled.nodes.get(id)?.sql.clone(),
                    ));
                }
                _ => drop(inputs.insert(node.relation(), node)),
            }
        }
        let queries = measures
            .iter()
            .map(|measure| counted(measure, prepared, rows))
            .collect::<Option<_>>()?;
        Some(Lineage {
            prepared,
            inputs,
            views,
            queries,
        })
    }

    fn sql(&self) -> impl Iterator<Item = &str> {
        let views = self.views.iter().map(|(_, sql)| sql.as_str());
        views.chain(self.queries.iter().map(String::as_str))
    }

    /// The side to run; what is not invented is read from its files.
    async fn definition(&self, tables: &[Invented]) -> anyhow::Result<Definition> {
        let engine = Engine::new(EngineOptions {
            threads: Some(1),
            memory_limit: None,
        })?;
        for (relation, node) in &self.inputs {
            if !tables.iter().any(|table| table.relation == *relation) {
                self.prepared.offer_source(&engine, node).await?;
            }
        }
        Ok(Definition {
            engine: Some(engine),
            views: self.views.clone(),
            queries: self.queries.clone(),
        })
    }

    fn fingerprint(&self, node: &Node) -> Option<&str> {
        let compiled = self.prepared.compiled.nodes.get(&node.id)?;
        Some(compiled.fingerprint.as_str())
    }
}

/// The tables of both sides, without seeds that differ: those are read as they are. `None` where a table has other
/// columns on the other side.
fn invented(before: &Lineage, after: &Lineage, meanings: &Meanings) -> Option<Vec<Invented>> {
    let mut found = vec![];
    let names: BTreeSet<&String> = before.inputs.keys().chain(after.inputs.keys()).collect();
    for name in names {
        let sides = [
            (before, before.inputs.get(name)),
            (after, after.inputs.get(name)),
        ];
        let known: Vec<(&Lineage, &Node)> = sides
            .into_iter()
            .filter_map(|(side, node)| Some((side, *node?)))
            .collect();
        let schemas: Vec<_> = known
            .iter()
            .filter_map(|(side, node)| {
                Some(side.prepared.compiled.nodes.get(&node.id)?.schema.clone())
            })
            .collect();
        let is_seed = known
            .iter()
            .any(|(_, node)| matches!(node.kind, NodeKind::Seed));
        let prints: BTreeSet<_> = known
            .iter()
            .map(|(side, node)| side.fingerprint(node))
            .collect();
        if is_seed && prints.len() > 1 {
            continue;
        }
        let schema = schemas.first()?.clone();
        if schemas.iter().any(|other| *other != schema) {
            return None;
        }
        found.push(declared(name, schema, meanings));
    }
    Some(found)
}

fn declared(relation: &str, schema: crate::sql::Schema, meanings: &Meanings) -> Invented {
    let plain = relation.replace('"', "");
    let facts = meanings
        .catalog
        .tables
        .get(&plain)
        .cloned()
        .unwrap_or_default();
    Invented {
        relation: relation.to_string(),
        schema,
        not_null: facts.not_null.into_iter().collect(),
        unique: facts.unique,
        references: facts
            .foreign_keys
            .into_iter()
            .map(|key| Reference {
                column: key.column,
                target: key.target,
                target_column: key.target_column,
            })
            .collect(),
    }
}

/// The values that SQL compares with: texts, whole numbers, and instants written as texts.
fn literals<'a>(queries: impl Iterator<Item = &'a str>) -> Literals {
    let (mut integers, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for sql in queries {
        for (index, part) in sql.split('\'').enumerate() {
            // Between an odd and an even quote stands a text.
            if index % 2 == 1 {
                integers.extend(instant(part));
                texts.insert(part.to_string());
                continue;
            }
            let words = part.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            integers.extend(words.filter_map(|word| word.parse::<i64>().ok()));
        }
    }
    Literals {
        integers: integers.into_iter().collect(),
        texts: texts.into_iter().collect(),
    }
}

/// Nanoseconds since 1970 of a date or a time.
fn instant(text: &str) -> Option<i64> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let time = day
        .and_then(|day| day.and_hms_opt(0, 0, 0))
        .or_else(|| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok());
    time?.and_utc().timestamp_nanos_opt()
}
