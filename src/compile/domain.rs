//! The SQL that templates get for metrics and experiments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::experiments::{self, Experiment, Experiments, Pin};
use crate::flags::{self, FlagSet};
use crate::manifest::{Manifest, identifier};
use crate::metrics::plan::ExperimentPlan;
use crate::metrics::{self, Metric, Metrics};
use crate::project::Computation;
use crate::template::Relations;

/// The sound part of a project's definitions.
#[derive(Debug)]
pub(super) struct Domain {
    pub metrics: Metrics,
    pub experiments: Experiments,
    pub flags: FlagSet,
    /// Versions of metrics that running experiments started with.
    pub pins: Vec<Pin>,
    computation: Computation,
    /// Whether some definition is wrong, so that SQL made from them all would be wrong too.
    is_broken: AtomicBool,
}

impl Domain {
    pub fn new(
        metrics: Metrics,
        experiments: Experiments,
        flags: FlagSet,
        computation: Computation,
        is_sound: bool,
    ) -> Self {
        Self {
            metrics,
            experiments,
            flags,
            pins: vec![],
            computation,
            is_broken: AtomicBool::new(!is_sound),
        }
    }

    pub fn with_pins(self, pins: Vec<Pin>) -> Self {
        Self { pins, ..self }
    }

    pub fn mark_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    fn sql(
        &self,
        function: &str,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, Diagnostic> {
        let argument = |name: &str| arguments.get(name).or(arguments.get("0")).cloned();
        Ok(match function {
            "experiment_definitions" => experiments::sql::experiment_definitions(&self.experiments),
            "variant_definitions" => experiments::sql::variant_definitions(&self.experiments),
            "metric_definitions" => experiments::sql::metric_definitions(&self.metrics),
            "experiment_metrics" => {
                experiments::sql::experiment_metrics(&self.experiments, &self.metrics, &self.pins)
            }
            "experiment_units" => experiments::sql::units(&self.experiments),
            "metric_aggregates" => {
                let units = argument("units").ok_or_else(|| {
                    Diagnostic::error(
                        Code::E0402,
                        "`metric_aggregates` needs the relation of units",
                    )
                    .hint("write `{{ metric_aggregates(units=ref('fact_assignments')) }}`")
                })?;
                let complete_through = arguments
                    .get("complete_through")
                    .map(|instant| format!("timestamp '{}'", instant.replace('\'', "''")));
                self.aggregates(&units, complete_through.as_deref())
            }
            "flag_definitions" => {
                self.flag_dimension(&argument("table").unwrap_or_else(|| "dim_flags".to_string()))?
            }
            "assignment" => self.assignment(arguments)?,
            "targeting" => self.targeting(arguments)?,
            "metric_daily" => {
                let metrics: Vec<&Metric> = self.metrics.iter().collect();
                match argument("units") {
                    None => metrics::sql::daily(&metrics),
                    Some(units) => metrics::sql::daily_parts(&metrics, &units),
                }
            }
            _ => {
                return Err(Diagnostic::error(
                    Code::E0402,
                    format!("`{function}` writes no SQL yet"),
                ));
            }
        })
    }

    /// One of the tables that the flags room makes of its definitions.
    fn flag_dimension(&self, name: &str) -> Result<String, Diagnostic> {
        let dimensions = flags::dimensions::dimensions(&self.flags);
        let Some(dimension) = dimensions.iter().find(|dimension| dimension.name == name) else {
            let known = dimensions.iter().map(|dimension| dimension.name);
            return Err(
                Diagnostic::error(Code::E0402, format!("flags have no table `{name}`"))
                    .hint(did_you_mean(name, known)),
            );
        };
        let types: Vec<&str> = dimension
            .columns
            .iter()
            .map(|column| flags::dimensions::column_type(column))
            .collect();
        let rows = dimension
            .rows
            .iter()
            .map(|row| row.iter().map(json_literal).collect())
            .collect();
        Ok(experiments::sql::table(dimension.columns, &types, rows))
    }

    /// `assignment('experiment', 'unit', 'at')`, or `experiment_column=` where the rows say which experiment.
    fn assignment(&self, arguments: &BTreeMap<String, String>) -> Result<String, Diagnostic> {
        let usage = "write `{{ assignment('experiment', 'unit_id', 'assigned_at') }}`";
        let find = |name: &str, position: &str| arguments.get(name).or(arguments.get(position));
        let needed = |name: &str, position: &str| {
            find(name, position).ok_or_else(|| {
                let message = format!("`assignment` needs `{name}`");
                Diagnostic::error(Code::E0402, message).hint(usage)
            })
        };
        let terms = flags::sql::Terms {
            unit: needed("unit", "1")?,
            at: needed("at", "2")?,
            allocation: arguments.get("allocation").map(String::as_str),
        };
        if let Some(column) = arguments.get("experiment_column") {
            return Ok(flags::sql::assignments(&self.flags, column, terms));
        }
        let key = needed("experiment", "0")?;
        let known = &self.flags.experiments;
        let Some(experiment) = known.iter().find(|one| *one.key == **key) else {
            let message = format!("no experiment `{key}` has allocations");
            let hint = did_you_mean(key, known.iter().map(|one| &*one.key));
            return Err(Diagnostic::error(Code::E0402, message).hint(hint));
        };
        Ok(flags::sql::assignment(&self.flags, experiment, terms))
    }

    /// `targeting('flag', 'rule')`: the condition that the server evaluates, over columns named like the attributes.
    fn targeting(&self, arguments: &BTreeMap<String, String>) -> Result<String, Diagnostic> {
        let find = |name: &str, position: &str| arguments.get(name).or(arguments.get(position));
        let (Some(key), Some(id)) = (find("flag", "0"), find("rule", "1")) else {
            return Err(
                Diagnostic::error(Code::E0402, "`targeting` needs a flag and a rule")
                    .hint("write `{{ targeting('flag', 'rule') }}`"),
            );
        };
        let Some(flag) = self.flags.flag(key) else {
            let known = self.flags.flags.iter().map(|flag| &*flag.key);
            return Err(
                Diagnostic::error(Code::E0402, format!("unknown flag `{key}`"))
                    .hint(did_you_mean(key, known)),
            );
        };
        let Some(rule) = flag.rules.iter().find(|rule| *rule.id == **id) else {
            let known = flag.rules.iter().map(|rule| &*rule.id);
            return Err(
                Diagnostic::error(Code::E0402, format!("`{key}` has no rule `{id}`"))
                    .hint(did_you_mean(id, known)),
            );
        };
        let condition = rule.when.as_ref().map(|when| when.expression().to_string());
        Ok(format!("({})", condition.as_deref().unwrap_or("true")))
    }

    fn aggregates(&self, units: &str, complete_through: Option<&str>) -> String {
        let uses: Vec<metrics::sql::Use<'_>> = self
            .metrics
            .iter()
            .map(|metric| metrics::sql::Use {
                metric,
                experiments: self.experiments_with(&metric.name),
            })
            .filter(|used| !used.experiments.is_empty())
            .collect();
        let segments = self
            .experiments
            .iter()
            .map(|experiment| (experiment.key.clone(), experiment.segments.clone()))
            .collect();
        let current = match self.computation {
            Computation::Sql => metrics::sql::aggregates(&uses, units, &segments, complete_through),
            _ => {
                let experiments: Vec<ExperimentPlan> =
                    self.experiments.iter().map(experiment_plan).collect();
                metrics::planned::planned_aggregates(
                    &uses,
                    units,
                    &segments,
                    &experiments,
                    complete_through,
                )
            }
        };
        match self.pinned_aggregates(units, &segments, complete_through) {
            None => current,
            Some(pinned) => format!(
                "(\n    select * from {current} as computed\n    union all\n    -- versions that running experiments started with\n    \
                 select * from {pinned} as kept\n)"
            ),
        }
    }

    /// The same of the versions that running experiments started with, over the facts that were kept for them.
    fn pinned_aggregates(
        &self,
        units: &str,
        segments: &BTreeMap<String, Vec<String>>,
        complete_through: Option<&str>,
    ) -> Option<String> {
        let uses: Vec<metrics::sql::Use<'_>> = self
            .pins
            .iter()
            .map(|pin| metrics::sql::Use {
                metric: &pin.metric,
                experiments: pin.experiments.iter().cloned().collect(),
            })
            .collect();
        let facts: BTreeMap<&str, &str> = (self.pins.iter().flat_map(|pin| &pin.facts))
            .map(|(name, sql)| (name.as_str(), sql.trim()))
            .collect();
        let facts: Vec<String> = facts
            .into_iter()
            .map(|(name, sql)| format!("    {} as (\n{sql}\n    )", identifier(name)))
            .collect();
        let states = metrics::sql::aggregates(&uses, units, segments, complete_through);
        (!uses.is_empty()).then(|| {
            format!(
                "(\n    with\n{}\n\n    select * from {states} as computed\n)",
                facts.join(",\n\n")
            )
        })
    }

    fn experiments_with(&self, metric: &str) -> Vec<String> {
        let uses = self.experiments.iter().filter(|experiment| {
            experiment
                .metrics()
                .iter()
                .any(|(name, _, _)| *name == metric)
        });
        uses.map(|experiment| experiment.key.clone()).collect()
    }
}

/// The variants of an experiment, for the operator; its period is in the rows of its units.
fn experiment_plan(experiment: &Experiment) -> ExperimentPlan {
    let variants = experiment.variants.iter();
    ExperimentPlan {
        key: experiment.key.clone(),
        variants: variants.map(|variant| variant.name.clone()).collect(),
        from: i64::MIN,
        to: i64::MAX,
        measured_until: i64::MAX,
        excludes_crossed_over: false,
        metrics: None,
        segments: Vec::new(),
    }
}

fn json_literal(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "null".to_string(),
        serde_json::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

/// Answers templates with final names and SQL.
#[derive(Debug)]
pub(super) struct Resolved {
    manifest: Arc<Manifest>,
    domain: Arc<Domain>,
    met_broken: AtomicBool,
}

impl Resolved {
    pub fn new(manifest: Arc<Manifest>, domain: Arc<Domain>) -> Self {
        Self {
            manifest,
            domain,
            met_broken: AtomicBool::new(false),
        }
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the template asked for SQL of definitions that are wrong; their errors are reported elsewhere.
    pub fn met_broken_definition(&self) -> bool {
        self.met_broken.load(Ordering::Relaxed)
    }
}

impl Relations for Resolved {
    fn reference(&self, name: &str) -> Result<String, Diagnostic> {
        self.manifest
            .names()
            .model(name)
            .map(|id| self.manifest.node(id).relation())
    }

    fn source(&self, source: &str, table: &str) -> Result<String, Diagnostic> {
        self.manifest
            .names()
            .source(source, table)
            .map(|id| self.manifest.node(id).relation())
    }

    fn domain(
        &self,
        function: &str,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, Diagnostic> {
        if self.domain.is_broken.load(Ordering::Relaxed) {
            self.met_broken.store(true, Ordering::Relaxed);
            return Ok("(select 1)".to_string());
        }
        self.domain.sql(function, arguments)
    }
}
