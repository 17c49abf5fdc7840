//! Which models the consumers of a project read: dbt's exposures.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::discover::Names;
use super::node::NodeId;
use super::resolve::Resolver;
use crate::diagnostics::{Code, Diagnostic, Severity};
use crate::project::ConsumerSpec;

/// A dashboard, a notebook, an application, and what it reads.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub spec: ConsumerSpec,
    pub depends_on: Vec<NodeId>,
    pub metrics: Vec<String>,
}

pub(super) fn resolve(resolver: &mut Resolver<'_>, names: &Arc<Names>) -> Vec<Consumer> {
    let specs = resolver.project.properties.iter();
    let specs: Vec<&ConsumerSpec> = specs.flat_map(|file| &file.exposures).collect();
    let consumer = |spec: &ConsumerSpec| {
        let mut consumer = Consumer {
            spec: spec.clone(),
            depends_on: Vec::new(),
            metrics: Vec::new(),
        };
        for call in &spec.depends_on {
            // Nothing is built of it, so nothing fails of it.
            if let Err(unknown) = consumer.add(&call.value, names) {
                let warning = Diagnostic {
                    severity: Severity::Warning,
                    ..unknown
                };
                resolver.diagnostics.push(warning.at(call.span.clone()));
            }
        }
        consumer
    };
    specs.into_iter().map(consumer).collect()
}

impl Consumer {
    /// One entry of `depends_on`.
    fn add(&mut self, call: &str, names: &Names) -> Result<(), Diagnostic> {
        static TEXT: LazyLock<Regex> =
            LazyLock::new(|| Regex::new("['\"]([^'\"]+)['\"]").expect("the pattern is constant"));
        let texts: Vec<&str> = TEXT
            .captures_iter(call)
            .filter_map(|found| Some(found.get(1)?.as_str()))
            .collect();
        let function = call.split('(').next().unwrap_or_default().trim();
        let id = match (function, texts.as_slice()) {
            // A package may stand before the name.
            ("ref", [.., name]) => names.model(name)?,
            ("source", [source, table]) => names.source(source, table)?,
            ("metric", [metric]) => {
                self.metrics.push(metric.to_string());
                return Ok(());
            }
            _ => {
                let message = format!("`{call}` names nothing that an exposure can read");
                return Err(Diagnostic::error(Code::E0106, message)
                    .hint("write it like `ref('orders')` or `source('shop', 'events')`"));
            }
        };
        if !self.depends_on.contains(&id) {
            self.depends_on.push(id);
        }
        Ok(())
    }
}
