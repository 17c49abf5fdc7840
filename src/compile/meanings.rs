//! What every metric of a compiled project means, for the lock and for people.
//! In: the compiled project. Out: [`Meanings`]: a [`Meaning`] per metric, the constraints that tests declare, the lineage
//! of every column. Nothing is compiled here again; a query that has errors has no meaning, and its errors were reported.

mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fields::{daily_fields, fields};

use super::Compiled;
use super::declared::catalog;
use super::parallel::in_parallel;
use crate::contracts::{Drift, Lock, Meaning, ModelFacts, ModelWords, Plan, compare};
use crate::graph::Graph;
use crate::manifest::{Manifest, Node, NodeId, NodeKind, identifier};
use crate::metrics::{Kind, Measure, Metric, Metrics};
use crate::sql::canonical::{Canonical, Catalog};
use crate::sql::lineage::{ColumnGraph, Lineage, Origin, Output};
use crate::sql::{Analyzer, Queries, Query};

/// The relation under which the column lineage has metrics: `metric.net_revenue`.
pub const METRICS: &str = "metric";

/// The meanings of a project.
#[derive(Debug, Default)]
pub struct Meanings {
    pub metrics: BTreeMap<String, Meaning>,
    /// What is declared about base tables.
    pub catalog: Catalog,
    /// Every model's query.
    pub queries: Queries,
    /// What each metric's own queries read.
    lineages: BTreeMap<String, Lineage>,
    /// Names what each model says with all that it reads, to find again what did not change.
    definitions: BTreeMap<String, String>,
    words: BTreeMap<String, Arc<ModelWords>>,
    keys: BTreeMap<String, String>,
}

/// How much is worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What a lock says.
    Lock,
    /// Also the columns that no metric reads, for a comparison of two states of a project.
    Columns,
}

/// What the meanings are made from.
pub struct Sources<'a> {
    pub manifest: &'a Manifest,
    pub graph: &'a Graph,
    pub compiled: &'a Compiled,
    pub analyzer: &'a Analyzer,
    /// Reads a seed's CSV.
    pub seed_text: &'a (dyn Fn(&Node) -> Option<String> + Sync),
}

/// Works out what every metric means. What is as it was in `before` is taken from there.
pub async fn meanings(sources: &Sources<'_>, detail: Detail, before: &Meanings) -> Meanings {
    let Sources {
        manifest,
        graph,
        compiled,
        analyzer,
        seed_text,
    } = sources;
    let mut found = Meanings {
        catalog: catalog(manifest, seed_text),
        ..Meanings::default()
    };
    let mut definitions: BTreeMap<NodeId, String> = BTreeMap::new();
    for id in graph.order() {
        let node = manifest.node(*id);
        let definition = definition(node, compiled, &definitions);
        add_model(node, compiled, &definition, before, &mut found);
        definitions.insert(*id, definition);
    }
    for fact in facts(manifest, compiled) {
        if let Some(known) = compiled.nodes.get(&fact.id) {
            // A fact that cannot be offered leaves its metrics without a meaning, as one with errors does.
            analyzer
                .add_relation(&fact.relation(), known.schema.clone())
                .ok();
        }
    }
    let facts_of_tables = format!("{detail:?} {:?}", found.catalog);
    let is_same_catalog = before.catalog == found.catalog;
    let mut open = vec![];
    let of_rows = |metric: &&Metric| !matches!(metric.kind, Kind::Derived { .. });
    for metric in compiled.metrics.iter().filter(of_rows) {
        let key = key(metric, manifest, &found, &facts_of_tables);
        match (
            before.metrics.get(&metric.name),
            before.lineages.get(&metric.name),
        ) {
            (Some(meaning), Some(lineage)) if before.keys.get(&metric.name) == Some(&key) => {
                found.metrics.insert(metric.name.clone(), meaning.clone());
                found.lineages.insert(metric.name.clone(), lineage.clone());
            }
            _ => open.extend(queries_of(metric, manifest, analyzer, &found).await),
        }
        found.keys.insert(metric.name.clone(), key);
    }
    let known = if is_same_catalog {
        before
    } else {
        &Meanings::default()
    };
    add_words(&mut found, known, &open, detail);
    for (name, (meaning, lineage)) in in_parallel(&open, |open| meaning(open, &found)) {
        found.metrics.insert(name.clone(), meaning);
        found.lineages.insert(name, lineage);
    }
    for metric in compiled.metrics.iter().filter(|metric| !of_rows(metric)) {
        if let Some((meaning, lineage)) = derived(metric, &compiled.metrics, &found) {
            found.metrics.insert(metric.name.clone(), meaning);
            found.lineages.insert(metric.name.clone(), lineage);
        }
    }
    found
}

/// A metric to work out.
struct Open<'a> {
    metric: &'a Metric,
    queries: Vec<Query>,
}

/// The queries of a metric's measures; none where one does not bind.
async fn queries_of<'a>(
    metric: &'a Metric,
    manifest: &Manifest,
    analyzer: &Analyzer,
    known: &Meanings,
) -> Option<Open<'a>> {
    let mut queries = vec![];
    for measure in metric.kind.measures() {
        let analyzed = analyzer
            .analyze(&measure_sql(measure, manifest)?)
            .await
            .ok()?;
        queries.push(known.queries.bind(&analyzed).ok()?);
    }
    Some(Open { metric, queries })
}

/// Names all that a metric's meaning is made of.
fn key(metric: &Metric, manifest: &Manifest, known: &Meanings, facts_of_tables: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(facts_of_tables.as_bytes());
    hasher.update(format!("{:?} {}", fields(metric), metric.version).as_bytes());
    for measure in metric.kind.measures() {
        hasher.update(
            measure_sql(measure, manifest)
                .unwrap_or_default()
                .as_bytes(),
        );
        let fact = manifest
            .model(&measure.fact)
            .map(|node| plain(&node.relation()));
        let definition = fact.and_then(|fact| known.definitions.get(&fact));
        hasher.update(definition.map_or("", String::as_str).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// What the models of the open metrics do, each once.
fn add_words(found: &mut Meanings, before: &Meanings, open: &[Open], detail: Detail) {
    let queries = open.iter().flat_map(|open| &open.queries);
    let names: BTreeSet<String> = queries
        .flat_map(|query| found.queries.distances(query))
        .map(|(name, _)| name)
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let words = in_parallel(&names, |name| {
        let is_same = before.definitions.get(name) == found.definitions.get(name);
        if let Some(words) = before.words.get(name).filter(|_| is_same) {
            return Some((name.clone(), words.clone()));
        }
        let model = found.queries.get(name)?;
        let inlined = (detail == Detail::Columns).then(|| model.inlined(&found.catalog));
        let words = ModelWords::of(&model.local(&found.catalog), inlined.as_ref());
        Some((name.clone(), Arc::new(words)))
    });
    found.words = words.into_iter().collect();
}

impl Meanings {
    /// The constraints that the inputs of a derived metric lean on.
    fn assumptions(&self, metric: &Metric, metrics: &Metrics) -> BTreeSet<String> {
        let inputs = inputs(metric, metrics).into_keys();
        let meanings = inputs.filter_map(|name| self.metrics.get(name));
        meanings
            .flat_map(|meaning| meaning.plan.assumptions.clone())
            .collect()
    }

    /// Which column comes from which, across all models and metrics.
    pub fn columns(&self) -> ColumnGraph {
        let mut graph = self.queries.graph();
        for lineage in self.lineages.values() {
            graph.add(METRICS, lineage);
        }
        graph
    }

    /// The metrics whose meaning is not the locked one; a metric that was never locked has no drift.
    pub fn drifts(&self, lock: &Lock) -> Vec<Drift> {
        let locked = self
            .metrics
            .iter()
            .filter_map(|(name, meaning)| Some((&lock.metrics.get(name)?.meaning, meaning)));
        self.compared(locked)
    }

    /// The metrics whose meaning differs between two states of a project.
    pub fn drifts_from(&self, old: &Meanings) -> Vec<Drift> {
        let both = self
            .metrics
            .iter()
            .filter_map(|(name, meaning)| Some((old.metrics.get(name)?, meaning)));
        self.compared(both)
    }

    fn compared<'a>(&self, pairs: impl Iterator<Item = (&'a Meaning, &'a Meaning)>) -> Vec<Drift> {
        let declares = |constraint: &str| self.catalog.declares(constraint);
        pairs
            .map(|(old, new)| compare(old, new, &declares))
            .filter(|drift| !drift.changes.is_empty())
            .collect()
    }
}

/// The models that hold the rows of metrics.
pub(super) fn facts<'a>(manifest: &'a Manifest, compiled: &Compiled) -> Vec<&'a Node> {
    let measures = compiled
        .metrics
        .iter()
        .flat_map(|metric| metric.kind.measures());
    let names: BTreeSet<&str> = measures.map(|measure| measure.fact.as_str()).collect();
    names
        .into_iter()
        .filter_map(|name| manifest.model(name))
        .collect()
}

/// Names what a model says, without the data below it: the fingerprint of a build names the data too.
fn definition(node: &Node, compiled: &Compiled, known: &BTreeMap<NodeId, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    let sql = compiled
        .nodes
        .get(&node.id)
        .map_or("", |node| node.sql.trim());
    for part in [node.relation().as_str(), sql] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    for parent in &node.depends_on {
        hasher.update(known.get(parent).map_or("", String::as_str).as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}

fn add_model(
    node: &Node,
    compiled: &Compiled,
    definition: &str,
    before: &Meanings,
    found: &mut Meanings,
) {
    let NodeKind::Model(_) = node.kind else {
        return;
    };
    let relation = plain(&node.relation());
    found
        .definitions
        .insert(relation.clone(), definition.into());
    let is_same = before
        .definitions
        .get(&relation)
        .is_some_and(|known| known == definition);
    if let Some(query) = before.queries.get(&relation).filter(|_| is_same) {
        return found.queries.add(&relation, query.clone());
    }
    let compiled = compiled.nodes.get(&node.id);
    let analyzed = compiled.and_then(|known| known.analyzed.as_ref());
    match analyzed.map(|analyzed| found.queries.bind(analyzed)) {
        Some(Ok(query)) => found.queries.add(&relation, Arc::new(query)),
        // A plan that our form has no words for is one text: every edit of it or above it is a change.
        _ => {
            found.catalog.tables.entry(relation).or_default().contract = Some(definition.into());
        }
    }
}

/// A relation as plans name it.
pub(super) fn plain(relation: &str) -> String {
    relation.replace('"', "")
}

fn meaning(open: &Open, known: &Meanings) -> Option<(String, (Meaning, Lineage))> {
    let metric = open.metric;
    let mut plans: Vec<Canonical> = vec![];
    let mut models: Vec<ModelFacts> = vec![];
    let mut origins = BTreeSet::new();
    for query in &open.queries {
        plans.push(query.inlined(&known.catalog));
        merge(&mut models, lineage_facts(query, known));
        let outputs = query.lineage.outputs.iter();
        origins.extend(outputs.flat_map(|output| output.origins.clone()));
    }
    let meaning = Meaning {
        name: metric.name.clone(),
        version: metric.version.clone(),
        fields: fields(metric),
        plan: Plan::of(&plans, models),
    };
    let output = Output {
        name: metric.name.clone(),
        origins,
    };
    let lineage = Lineage {
        outputs: vec![output],
    };
    Some((metric.name.clone(), (meaning, lineage)))
}

/// What a derived metric means: all that the metrics mean which it is made of, one step further up. None if one of them has
/// no meaning.
fn derived(metric: &Metric, metrics: &Metrics, known: &Meanings) -> Option<(Meaning, Lineage)> {
    let mut fields = fields(metric);
    let mut models: Vec<ModelFacts> = vec![];
    let (mut origins, mut plans) = (BTreeSet::new(), String::new());
    for (name, input) in inputs(metric, metrics) {
        let of_days = daily_fields(input);
        fields.extend(
            of_days
                .into_iter()
                .map(|(field, value)| (format!("inputs.{name}.{field}"), value)),
        );
        if matches!(input.kind, Kind::Derived { .. }) {
            continue;
        }
        let (meaning, lineage) = (known.metrics.get(name)?, known.lineages.get(name)?);
        plans += &format!("{}\n", meaning.plan.hash);
        merge(
            &mut models,
            meaning
                .plan
                .models
                .iter()
                .map(|model| one_up(model, name))
                .collect(),
        );
        origins.extend(
            lineage
                .outputs
                .iter()
                .flat_map(|output| output.origins.clone()),
        );
    }
    let meaning = Meaning {
        name: metric.name.clone(),
        version: metric.version.clone(),
        fields,
        plan: Plan::of_inputs(&plans, known.assumptions(metric, metrics), models),
    };
    let output = Output {
        name: metric.name.clone(),
        origins,
    };
    Some((
        meaning,
        Lineage {
            outputs: vec![output],
        },
    ))
}

/// What a derived metric is made of, directly or not, by name.
fn inputs<'a>(metric: &'a Metric, metrics: &'a Metrics) -> BTreeMap<&'a str, &'a Metric> {
    let inputs = metrics.with_inputs(metric).into_iter().skip(1);
    inputs.map(|input| (input.name.as_str(), input)).collect()
}

/// The part of a model's words that a metric made of others sees: the input's own query stands under the input's name.
fn one_up(model: &ModelFacts, input: &str) -> ModelFacts {
    ModelFacts {
        model: match model.model.as_str() {
            "" => format!("{METRICS}.{input}"),
            name => name.to_string(),
        },
        distance: model.distance + 1,
        facts: model.facts.clone(),
        unused: None,
    }
}

/// The rows that a measure counts; windows and units are fields of the definition.
pub fn measure_sql(measure: &Measure, manifest: &Manifest) -> Option<String> {
    let relation = manifest.model(&measure.fact)?.relation();
    Some(measure_query(measure, &relation))
}

/// The same over a relation of any name.
pub(super) fn measure_query(measure: &Measure, relation: &str) -> String {
    let (unit, time) = (
        identifier(&measure.unit_column),
        identifier(&measure.time_column),
    );
    let value = measure.expression.clone().unwrap_or_else(|| "1".into());
    let condition = measure
        .condition
        .as_ref()
        .map(|condition| format!("\nwhere {condition}"))
        .unwrap_or_default();
    format!(
        "select\n    {unit} as unit_id,\n    {time} as happened_at,\n    {value} as value\nfrom {relation}{condition}"
    )
}

fn lineage_facts(query: &Query, known: &Meanings) -> Vec<ModelFacts> {
    let reaching = known.queries.reaching(query);
    let own = ModelWords::of(&query.local(&known.catalog), None);
    let mut models = vec![own.for_metric("", 0, &|_| true)];
    for (name, distance) in known.queries.distances(query) {
        let Some(words) = known.words.get(&name) else {
            continue;
        };
        let reads = |column: &str| {
            reaching.contains(&Origin {
                relation: name.clone(),
                column: column.into(),
            })
        };
        models.push(words.for_metric(&name, distance, &reads));
    }
    models
}

/// A ratio reads two queries; a model that both read does for the metric what it does for either.
fn merge(models: &mut Vec<ModelFacts>, more: Vec<ModelFacts>) {
    for model in more {
        match models.iter_mut().find(|known| known.model == model.model) {
            None => models.push(model),
            Some(known) => {
                known.facts.extend(model.facts);
                known.distance = known.distance.min(model.distance);
                known.unused = None;
            }
        }
    }
}
