//! Keeps versions of metrics, and brings them back for the experiments that started with them.
//! In: a project's metrics, or what `metrics.kept/` says. Out: the text of a fact with every model below it inside; [`Pin`]s whose
//! SQL reads sources and seeds alone; and a diagnostic where a version cannot be had any more. What is written where is `run`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{NaiveDate, NaiveDateTime};

use super::domain::{Domain, Resolved};
use super::meanings::{Meanings, Sources, measure_query};
use super::{Compiled, node};
use crate::contracts::Plan;
use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::experiments::{Experiment, Experiments, Pin};
use crate::manifest::{Kept, KeptFact, KeptMetric, Manifest, Node, NodeKind, Read, identifier};
use crate::metrics::{Metric, Metrics};
use crate::project::Computation;
use crate::sql::Analyzer;
use crate::sql::canonical::VERSION;
use crate::template::Relations;

/// What the relations of kept models are called, so that no name of today means them.
const PREFIX: &str = "kept__";

/// The instant up to which experiments have run: that of the data where the project says it, else the clock's.
pub fn experiment_clock(manifest: &Manifest) -> NaiveDateTime {
    let surroundings = &manifest.surroundings;
    let said = surroundings.vars.get("data_ends_at");
    let said = said.and_then(serde_json::Value::as_str).and_then(instant);
    said.or_else(|| instant(&surroundings.run_started_at))
        .unwrap_or_default()
}

fn instant(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim_end_matches('Z').replace('T', " ");
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .or_else(|| day?.and_hms_opt(0, 0, 0))
}

/// The versions by which running experiments decide; one that is kept badly is a diagnostic.
pub(super) fn pins(
    manifest: &Manifest,
    experiments: &Experiments,
    metrics: &Metrics,
) -> Checked<Vec<Pin>> {
    let now = experiment_clock(manifest);
    let mut checked = Checked::new(vec![]);
    for kept in &manifest.kept.metrics {
        let is_new = metrics
            .get(&kept.metric)
            .is_none_or(|metric| metric.version == kept.version);
        let counts = |experiment: &&Experiment| {
            let names = experiment.metrics();
            kept.experiments.contains(&experiment.key)
                && experiment.is_running(now)
                && names.iter().any(|(name, _, _)| *name == kept.metric)
        };
        let running: Vec<&Experiment> = experiments.iter().filter(counts).collect();
        if is_new || running.is_empty() {
            continue;
        }
        match pin(manifest, kept, &running) {
            Ok(pin) => checked.value.push(pin),
            Err(diagnostic) => checked.push(diagnostic),
        }
    }
    checked
}

fn pin(manifest: &Manifest, kept: &KeptMetric, running: &[&Experiment]) -> Result<Pin, Diagnostic> {
    let lost = |what: String| {
        Diagnostic::error(Code::E0511, format!("{}, but {what}", needs(kept, running)))
            .at(Span::file(kept.path()))
            .hint(format!(
                "bring it back until then, or end the experiment and run `equipoise metric lock --metric {} --reason …`",
                kept.metric
            ))
    };
    let mut metric: Metric = serde_json::from_value(kept.definition.clone())
        .map_err(|error| lost(format!("its definition cannot be read: {error}")))?;
    metric.name = format!("{}@{}", kept.metric, kept.version);
    for measure in metric.kind.measures_mut() {
        measure.fact = kept
            .facts
            .get(&measure.fact)
            .cloned()
            .ok_or_else(|| lost(format!("its fact `{}` is not kept", measure.fact)))?;
    }
    let mut facts = vec![];
    for name in kept.facts.values() {
        let fact = manifest.kept.facts.get(name);
        let fact = fact.ok_or_else(|| lost(format!("there is no `{}`", KeptFact::path(name))))?;
        let is_gone = |read: &&Read| read.find(manifest.names()).is_none();
        if let Some(gone) = fact.reads.iter().find(is_gone) {
            return Err(lost(format!("`{gone}`, which it reads, is gone")));
        }
        facts.push((name.clone(), fact.sql.clone()));
    }
    Ok(Pin {
        metric,
        experiments: running.iter().map(|one| one.key.clone()).collect(),
        facts,
    })
}

/// "`checkout` decides by `net_revenue` 1.0.0 until 2026-02-01".
fn needs(kept: &KeptMetric, running: &[&Experiment]) -> String {
    let names: Vec<String> = running
        .iter()
        .map(|experiment| match experiment.until {
            Some(until) => format!("`{}` (until {})", experiment.key, until.date()),
            None => format!("`{}`", experiment.key),
        })
        .collect();
    format!(
        "`{}` {} is what {} started with",
        kept.metric,
        kept.version,
        names.join(", ")
    )
}

/// The first kept fact that no longer compiles over the sources of today.
pub(super) async fn broken_pin(pins: &[Pin], analyzer: &Analyzer) -> Option<Diagnostic> {
    for (name, sql) in pins.iter().flat_map(|pin| &pin.facts) {
        if let Err(error) = analyzer.analyze(sql).await {
            let owners: Vec<String> = pins
                .iter()
                .filter(|pin| pin.facts.iter().any(|(fact, _)| fact == name))
                .map(|pin| format!("`{}` {}", pin.metric.plain_name(), pin.metric.version))
                .collect();
            return Some(
                Diagnostic::error(
                    Code::E0511,
                    format!(
                        "{}, which running experiments started with, cannot be computed any more: {}",
                        owners.join(" and "),
                        error.message
                    ),
                )
                .at(Span::file(KeptFact::path(name)))
                .hint("what it reads from sources and seeds must stay until the experiments end"),
            );
        }
    }
    None
}

/// Pinned versions whose rows are no longer those that were agreed to: a seed or a declared constraint changed below them.
pub async fn check_pins(sources: &Sources<'_>, meanings: &Meanings) -> Vec<Diagnostic> {
    let mut found = vec![];
    for pin in &sources.compiled.pins {
        let kept = (sources.manifest.kept).version(pin.metric.plain_name(), &pin.metric.version);
        let Some(kept) = kept.filter(|kept| kept.rules == VERSION) else {
            continue;
        };
        let is_same = match plan_of(pin, sources, meanings).await {
            Some(plan) => plan == kept.plan,
            // A plan that our form has no words for cannot be compared.
            None => true,
        };
        if is_same {
            continue;
        }
        let keys: Vec<String> = (pin.experiments.iter())
            .map(|key| format!("`{key}`"))
            .collect();
        let message = format!(
            "`{}` {}, which {} started with, no longer means what was locked",
            kept.metric,
            kept.version,
            keys.join(", ")
        );
        found.push(
            Diagnostic::error(Code::E0511, message)
                .at(Span::file(kept.path()))
                .note("its models are kept; what changed is a seed that it reads, or a constraint that is declared of its sources")
                .hint("put that back until the experiments end, or end them"),
        );
    }
    found
}

async fn plan_of(pin: &Pin, sources: &Sources<'_>, meanings: &Meanings) -> Option<String> {
    offer_reads(pin, sources);
    let facts: BTreeMap<&str, &str> = (pin.facts.iter())
        .map(|(name, sql)| (name.as_str(), sql.as_str()))
        .collect();
    let mut plans = vec![];
    for measure in pin.metric.kind.measures() {
        let relation = format!("(\n{}\n) as kept", facts.get(measure.fact.as_str())?);
        let sql = measure_query(measure, &relation);
        let analyzed = sources.analyzer.analyze(&sql).await.ok()?;
        let query = meanings.queries.bind(&analyzed).ok()?;
        plans.push(query.inlined(&meanings.catalog));
    }
    Some(Plan::of(&plans, vec![]).hash)
}

/// Makes the sources and seeds of a pin known to the analyzer.
fn offer_reads(pin: &Pin, sources: &Sources<'_>) {
    let manifest = sources.manifest;
    let facts = pin.facts.iter();
    let reads = facts
        .filter_map(|(name, _)| manifest.kept.facts.get(name))
        .flat_map(|fact| &fact.reads);
    for id in reads.filter_map(|read| read.find(manifest.names())) {
        if let Some(known) = sources.compiled.nodes.get(&id) {
            let relation = manifest.node(id).relation();
            // What cannot be offered leaves the pin without a plan to compare.
            (sources
                .analyzer
                .add_relation(&relation, known.schema.clone()))
            .ok();
        }
    }
}

/// What is to be kept of metrics as they are now.
pub struct Keeper<'a> {
    manifest: &'a Arc<Manifest>,
    compiled: &'a Compiled,
    analyzer: &'a Analyzer,
    domain: Arc<Domain>,
    facts: BTreeMap<String, KeptFact>,
}

impl<'a> Keeper<'a> {
    pub fn new(
        manifest: &'a Arc<Manifest>,
        compiled: &'a Compiled,
        analyzer: &'a Analyzer,
    ) -> Keeper<'a> {
        let domain = Domain::new(
            compiled.metrics.clone(),
            compiled.experiments.clone(),
            compiled.flags.clone(),
            Computation::default(),
            true,
        );
        Keeper {
            manifest,
            compiled,
            analyzer,
            domain: Arc::new(domain),
            facts: BTreeMap::new(),
        }
    }

    /// The metric as it is now, its facts among [`Keeper::kept`]; none for what experiments cannot use.
    pub fn metric(&mut self, name: &str, plan: &Plan) -> Option<Result<KeptMetric, Diagnostic>> {
        let metric = self
            .compiled
            .metrics
            .get(name)
            .filter(|it| it.is_analysed())?;
        let mut facts = BTreeMap::new();
        for measure in metric.kind.measures() {
            match self.fact(&measure.fact) {
                Ok(kept) => facts.insert(measure.fact.clone(), kept),
                Err(diagnostic) => return Some(Err(diagnostic)),
            };
        }
        Some(Ok(KeptMetric {
            metric: metric.name.clone(),
            version: metric.version.clone(),
            plan: plan.hash.clone(),
            rules: plan.rules,
            experiments: BTreeSet::new(),
            facts,
            definition: without_nulls(
                serde_json::to_value(metric).expect("an analysed metric is JSON"),
            ),
        }))
    }

    /// The facts of the metrics asked for, by name.
    pub fn kept(self) -> BTreeMap<String, KeptFact> {
        self.facts
    }

    /// Keeps a fact and gives its name.
    fn fact(&mut self, fact: &str) -> Result<String, Diagnostic> {
        let kept = self.with_models(fact)?;
        let name = kept.name(fact);
        self.facts.insert(name.clone(), kept);
        Ok(name)
    }

    fn with_models(&self, fact: &str) -> Result<KeptFact, Diagnostic> {
        let node = self.manifest.model(fact).expect("a metric's fact exists");
        if !is_kept(node) {
            let query = format!("select * from {}\n", node.relation());
            return Ok(KeptFact::new(
                fact,
                vec![Read::Ref(fact.to_string())],
                &query,
            ));
        }
        let mut models: Vec<(String, String)> = vec![];
        let mut reads = BTreeSet::new();
        self.add(node, &mut models, &mut reads)?;
        let parts: Vec<String> = models
            .iter()
            .map(|(name, sql)| format!("{name} as (\n{sql}\n)"))
            .collect();
        let last = identifier(&format!("{PREFIX}{fact}"));
        let query = format!("with {}\n\nselect * from {last}\n", parts.join(",\n\n"));
        Ok(KeptFact::new(fact, reads.into_iter().collect(), &query))
    }

    /// Adds a model after all that it reads.
    fn add(
        &self,
        node: &Node,
        models: &mut Vec<(String, String)>,
        reads: &mut BTreeSet<Read>,
    ) -> Result<(), Diagnostic> {
        let name = identifier(&format!("{PREFIX}{}", node.name));
        if models.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        for parent in &node.depends_on {
            let parent = self.manifest.node(*parent);
            match &parent.kind {
                NodeKind::Source(table) => {
                    reads.insert(Read::Source(table.source.clone(), table.table.clone()));
                }
                _ if is_kept(parent) => self.add(parent, models, reads)?,
                _ => {
                    reads.insert(Read::Ref(parent.name.clone()));
                }
            }
        }
        models.push((name, self.rendered(node)?));
        Ok(())
    }

    /// A model's SQL over kept models.
    fn rendered(&self, node: &Node) -> Result<String, Diagnostic> {
        let NodeKind::Model(file) = &node.kind else {
            unreachable!("only models are kept")
        };
        let relations = Arc::new(KeptNames(Resolved::new(
            self.manifest.clone(),
            self.domain.clone(),
        )));
        let scope = Arc::new(self.manifest.scope(node, relations, true));
        let rendered = self.manifest.templates.render(file, &scope);
        if let Some(error) = rendered.diagnostics.into_iter().find(Diagnostic::is_error) {
            return Err(error);
        }
        let sql = rendered.value.sql;
        let sql = sql.trim().trim_end_matches(';').trim_end();
        self.analyzer
            .under_plain_names(sql, PREFIX)
            .map_err(|error| node::sql_error(&error).at(node.span.clone()))
    }
}

/// What a definition does not say need not be written.
fn without_nulls(definition: serde_json::Value) -> serde_json::Value {
    match definition {
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Models are kept. A seed is data, and a snapshot is what has been seen over time, which cannot be made again: both are read
/// as they are.
fn is_kept(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Model(_)) && !node.settings.keeps_versions
}

/// Names models as they are called where they are kept.
#[derive(Debug)]
struct KeptNames(Resolved);

impl Relations for KeptNames {
    fn reference(&self, name: &str) -> Result<String, Diagnostic> {
        let node = self.0.manifest().model(name);
        match node {
            Some(node) if is_kept(node) => Ok(identifier(&format!("{PREFIX}{name}"))),
            _ => self.0.reference(name),
        }
    }

    fn source(&self, source: &str, table: &str) -> Result<String, Diagnostic> {
        self.0.source(source, table)
    }

    fn domain(
        &self,
        function: &str,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, Diagnostic> {
        self.0.domain(function, arguments)
    }
}

/// The files of `metrics.kept/` that nobody needs: neither a locked version nor one that a running experiment started with.
pub fn superfluous(kept: &Kept, is_needed: &dyn Fn(&KeptMetric) -> bool) -> Vec<String> {
    let (needed, rest): (Vec<_>, Vec<_>) = kept.metrics.iter().partition(|kept| is_needed(kept));
    let facts: BTreeSet<&String> = needed.iter().flat_map(|kept| kept.facts.values()).collect();
    let idle = kept.facts.keys().filter(|name| !facts.contains(name));
    let paths = rest.iter().map(|kept| kept.path());
    paths.chain(idle.map(|name| KeptFact::path(name))).collect()
}
