//! Which names a template uses: it is rendered once with a [`Discovery`] that answers and remembers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::node::{NodeId, identifier};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::template::Relations;

/// The names of a project, fixed before any template is rendered.
#[derive(Debug, Default)]
pub struct Names {
    pub models: BTreeMap<String, NodeId>,
    pub sources: BTreeMap<(String, String), NodeId>,
    /// Models that experiments take assignments from.
    pub assignment_models: Vec<String>,
    /// Models that metrics are measured on.
    pub facts: Vec<String>,
    /// What versions of metrics read that running experiments started with.
    pub kept_reads: Vec<NodeId>,
    /// Disabled models, so that their use can be told from a typing error.
    pub disabled: Vec<String>,
    /// Disabled tables of sources.
    pub disabled_sources: Vec<(String, String)>,
}

/// Answers `ref` and `source`, and remembers what was asked.
#[derive(Debug)]
pub struct Discovery {
    names: Arc<Names>,
    used: Mutex<Vec<NodeId>>,
}

impl Discovery {
    pub fn new(names: Arc<Names>) -> Self {
        Self {
            names,
            used: Mutex::default(),
        }
    }

    /// Nodes used so far, in order of first use.
    pub fn used(&self) -> Vec<NodeId> {
        self.used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn remember(&self, id: NodeId) {
        let mut used = self
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !used.contains(&id) {
            used.push(id);
        }
    }
}

impl Names {
    pub fn model(&self, name: &str) -> Result<NodeId, Diagnostic> {
        self.models.get(name).copied().ok_or_else(|| {
            if self.disabled.iter().any(|disabled| disabled == name) {
                return Diagnostic::error(Code::E0208, format!("the model `{name}` is disabled"))
                    .hint("enable it, or take this reference out");
            }
            Diagnostic::error(Code::E0203, format!("unknown model `{name}`"))
                .hint(did_you_mean(name, self.models.keys().map(String::as_str)))
        })
    }

    pub fn source(&self, source: &str, table: &str) -> Result<NodeId, Diagnostic> {
        let key = (source.to_string(), table.to_string());
        self.sources.get(&key).copied().ok_or_else(|| {
            if self.disabled_sources.contains(&key) {
                let message = format!("the source table `{source}.{table}` is disabled");
                return Diagnostic::error(Code::E0208, message)
                    .hint("enable it, or take this reference out");
            }
            let known: Vec<String> = self
                .sources
                .keys()
                .map(|(source, table)| format!("{source}.{table}"))
                .collect();
            let wanted = format!("{source}.{table}");
            Diagnostic::error(Code::E0204, format!("unknown source table `{wanted}`"))
                .hint(did_you_mean(&wanted, known.iter().map(String::as_str)))
        })
    }
}

impl Relations for Discovery {
    fn reference(&self, name: &str) -> Result<String, Diagnostic> {
        self.remember(self.names.model(name)?);
        Ok(identifier(name))
    }

    fn source(&self, source: &str, table: &str) -> Result<String, Diagnostic> {
        self.remember(self.names.source(source, table)?);
        Ok(format!("{}.{}", identifier(source), identifier(table)))
    }

    /// What the generated SQL reads: units come from the assignment models, measures from the facts. Names that do not
    /// exist are reported where the metric or experiment is defined.
    fn domain(&self, function: &str, _: &BTreeMap<String, String>) -> Result<String, Diagnostic> {
        let models = match function {
            "experiment_units" => &self.names.assignment_models,
            "metric_aggregates" | "metric_daily" => &self.names.facts,
            _ => return Ok("(select 1)".to_string()),
        };
        for id in models.iter().filter_map(|name| self.names.models.get(name)) {
            self.remember(*id);
        }
        if function == "metric_aggregates" {
            self.names
                .kept_reads
                .iter()
                .for_each(|id| self.remember(*id));
        }
        Ok("(select 1)".to_string())
    }
}
