//! Versions of metrics as they were locked, for experiments that started with them.
//! In: the files of `metrics.kept/`, and what is to be written there. Out: [`Kept`], and the same texts again. A metric is a
//! JSON file that names its facts; a fact is one SQL file with every model below it inside, so that it reads sources and seeds
//! alone. What a definition means is the metrics room's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::discover::Names;
use super::node::NodeId;
use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::project::{KEPT_FOLDER, SqlFile};

/// Everything that was kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    pub metrics: Vec<KeptMetric>,
    /// By the name of the file without its ending: `fact_orders@3fa9c1d2`.
    pub facts: BTreeMap<String, KeptFact>,
}

/// One version of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptMetric {
    pub metric: String,
    pub version: String,
    /// The hash of its plan, and the version of the rules that made it.
    pub plan: String,
    pub rules: u32,
    /// The experiments that started with it while a newer one was locked.
    pub experiments: BTreeSet<String>,
    /// Its facts, and the kept ones that stand for them.
    pub facts: BTreeMap<String, String>,
    pub definition: serde_json::Value,
}

/// One fact with all models below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFact {
    pub sql: String,
    pub reads: Vec<Read>,
}

/// A relation that a kept fact reads as it is today.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    Ref(String),
    Source(String, String),
}

impl Kept {
    /// What a project's files say; a file that cannot be read is a diagnostic.
    pub fn parse(files: &[SqlFile]) -> Checked<Kept> {
        let mut checked = Checked::new(Kept::default());
        for file in files {
            if file.path.ends_with(".sql") {
                let fact = KeptFact::parse(&file.text);
                checked.value.facts.insert(file.stem().to_string(), fact);
                continue;
            }
            match serde_json::from_str(&file.text) {
                Ok(metric) => checked.value.metrics.push(metric),
                Err(error) => checked.push(unreadable(file, &error)),
            }
        }
        checked
    }

    /// The version of a metric, if it is kept.
    pub fn version(&self, metric: &str, version: &str) -> Option<&KeptMetric> {
        let is_it = |kept: &&KeptMetric| kept.metric == metric && kept.version == version;
        self.metrics.iter().find(is_it)
    }

    /// The nodes that kept facts read on behalf of experiments.
    pub(super) fn read_nodes(&self, names: &Names) -> Vec<NodeId> {
        let needed = self
            .metrics
            .iter()
            .filter(|kept| !kept.experiments.is_empty());
        let facts: BTreeSet<&String> = needed.flat_map(|kept| kept.facts.values()).collect();
        let reads: BTreeSet<&Read> = facts
            .into_iter()
            .filter_map(|fact| self.facts.get(fact))
            .flat_map(|fact| &fact.reads)
            .collect();
        reads
            .into_iter()
            .filter_map(|read| read.find(names))
            .collect()
    }
}

fn unreadable(file: &SqlFile, error: &serde_json::Error) -> Diagnostic {
    let line = u32::try_from(error.line()).unwrap_or(1).max(1);
    Diagnostic::error(
        Code::E0505,
        "this is no version of a metric as `equipoise metric lock` keeps it",
    )
    .at(Span {
        line,
        ..Span::file(file.path.clone())
    })
    .hint("take the file back from git; only `equipoise metric lock` writes it")
}

impl KeptMetric {
    /// `metrics.kept/net_revenue@1.0.0.json`.
    pub fn path(&self) -> String {
        format!("{KEPT_FOLDER}/{}@{}.json", self.metric, self.version)
    }

    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a definition is JSON") + "\n"
    }
}

/// What begins a line of a kept fact that names what it reads.
const READS: &str = "-- reads ";

impl KeptFact {
    fn parse(text: &str) -> KeptFact {
        let lines = text.lines().filter_map(|line| line.strip_prefix(READS));
        KeptFact {
            reads: lines.filter_map(Read::parse).collect(),
            sql: text.to_string(),
        }
    }

    /// `query` with its relations named above it.
    pub fn new(fact: &str, reads: Vec<Read>, query: &str) -> KeptFact {
        let mut sql = format!(
            "-- `{fact}` and the models below it, as they were when a metric was locked. Written by `equipoise metric lock`; not by hand.\n"
        );
        for read in &reads {
            sql += &format!("{READS}{read}\n");
        }
        sql += query;
        KeptFact { sql, reads }
    }

    /// `fact_orders@3fa9c1d2`: other text, other name.
    pub fn name(&self, fact: &str) -> String {
        let hash = blake3::hash(self.sql.as_bytes()).to_hex();
        format!("{fact}@{}", &hash[..8])
    }

    /// `metrics.kept/fact_orders@3fa9c1d2.sql`.
    pub fn path(name: &str) -> String {
        format!("{KEPT_FOLDER}/{name}.sql")
    }
}

impl Read {
    fn parse(text: &str) -> Option<Read> {
        let (kind, name) = text.split_once(' ')?;
        match kind {
            "ref" => Some(Read::Ref(name.to_string())),
            "source" => {
                let (source, table) = name.split_once('.')?;
                Some(Read::Source(source.to_string(), table.to_string()))
            }
            _ => None,
        }
    }

    /// The node of today, if there still is one.
    pub fn find(&self, names: &Names) -> Option<NodeId> {
        match self {
            Read::Ref(name) => names.model(name).ok(),
            Read::Source(source, table) => names.source(source, table).ok(),
        }
    }
}

impl std::fmt::Display for Read {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Read::Ref(name) => write!(out, "ref {name}"),
            Read::Source(source, table) => write!(out, "source {source}.{table}"),
        }
    }
}
