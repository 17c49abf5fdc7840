//! The SQL that templates get for metrics and experiments, and the checks of what they say about models.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
use crate::experiments::{self, Experiment, Experiments, Pin};
use crate::flags::{self, FlagSet};
use crate::manifest::{Manifest, Node, identifier};
use crate::metrics::plan::ExperimentPlan;
use crate::metrics::{self, Kind, Metric, Metrics};
use crate::project::yaml::Spot;
use crate::project::{Computation, MeasureSpec, MetricSpec};
use crate::sql::{Analyzer, Schema, SqlErrorKind, is_number, type_name};
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

/// Checks what metrics and experiments say about the node that was just compiled: its columns and expressions.
pub(super) async fn check_at(
    manifest: &Manifest,
    node: &Node,
    analyzer: &Analyzer,
    schema: &Schema,
) -> Vec<Diagnostic> {
    if node.is_test() {
        return Vec::new();
    }
    let mut diagnostics = fact_columns(node, schema);
    if diagnostics.is_empty() {
        for spec in &manifest.domain.metrics {
            for measure in spec.measures() {
                if measure
                    .fact
                    .as_ref()
                    .is_some_and(|fact| fact.value == node.name)
                {
                    let sums = is_added_up(spec, measure);
                    diagnostics.extend(measure_expressions(node, measure, sums, analyzer).await);
                }
            }
        }
    }
    diagnostics.extend(assignment_columns(manifest, node, schema));
    diagnostics
}

/// The columns that `fact:` names exist.
fn fact_columns(node: &Node, schema: &Schema) -> Vec<Diagnostic> {
    let Some(fact) = &node.fact else {
        return Vec::new();
    };
    let named = [Some(&fact.unit), Some(&fact.time), fact.event.as_ref()];
    named
        .into_iter()
        .flatten()
        .filter_map(|column| missing_column(node, schema, column))
        .collect()
}

fn missing_column(node: &Node, schema: &Schema, column: &Spot<String>) -> Option<Diagnostic> {
    let known: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    (!known.contains(&column.as_str())).then(|| {
        Diagnostic::error(
            Code::E0501,
            format!("`{}` has no column `{}`", node.name, column.value),
        )
        .at(column.span.clone())
        .hint(did_you_mean(column, known.iter().copied()))
    })
}

/// The expression of every derived metric is a number made of the numbers of other metrics of one day.
pub(super) async fn derived_expressions(metrics: &Metrics, analyzer: &Analyzer) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for metric in metrics.iter() {
        let Kind::Derived { expression, inputs } = &metric.kind else {
            continue;
        };
        let columns: Vec<String> = inputs
            .iter()
            .map(|input| format!("cast(1 as double) as {}", identifier(input)))
            .collect();
        // An aggregate would need a group, so the inputs stand beside the expression.
        let names: Vec<String> = inputs.iter().map(|input| identifier(input)).collect();
        let query = format!(
            "select ({expression}\n) as expression, {} from (select {}) as metrics",
            names.join(", "),
            columns.join(", ")
        );
        let found = match analyzer.analyze(&query).await {
            Err(error) => Diagnostic::error(Code::E0408, error.message),
            Ok(analyzed) => {
                let kind = analyzed.schema.field(0).data_type().clone();
                // A condition can be added up, but it is no value.
                if is_number(&kind) && kind.to_string() != "Boolean" {
                    continue;
                }
                Diagnostic::error(
                    Code::E0601,
                    format!(
                        "expected a number, but `{expression}` is {}",
                        type_name(&kind)
                    ),
                )
            }
        };
        diagnostics.push(
            found
                .at(metric.span.clone())
                .hint("`expr` of a derived metric is arithmetic over the daily values of metrics"),
        );
    }
    diagnostics
}

/// Whether the measure's expression must be a number.
fn is_added_up(metric: &MetricSpec, measure: &MeasureSpec) -> bool {
    let word = match (&measure.aggregation, &metric.kind) {
        (Some(word), _) => word.value.as_str(),
        // These kinds add up or sort where nothing else is said.
        (None, Some(kind)) if matches!(kind.value.as_str(), "total" | "quantile") => "sum",
        _ => "",
    };
    matches!(word, "sum" | "max" | "min")
}

/// A measure's SQL means something over its fact, and a sum is of numbers.
async fn measure_expressions(
    node: &Node,
    measure: &MeasureSpec,
    sums: bool,
    analyzer: &Analyzer,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (spot, needs) in [
        (&measure.expression, if sums { "a number" } else { "" }),
        (&measure.filter, "a condition"),
    ] {
        let Some(spot) = spot else { continue };
        // In brackets and on a line of its own, so that what is missing is missed here and a comment ends.
        let before = "select (";
        let query = format!(
            "{before}{}\n) as expression from {}",
            spot.value,
            identifier(&node.name)
        );
        match analyzer.analyze(&query).await {
            Err(error) => {
                let code = match error.kind {
                    SqlErrorKind::Syntax | SqlErrorKind::NotOneQuery => Code::E0405,
                    SqlErrorKind::UnknownColumn => Code::E0406,
                    SqlErrorKind::UnknownTable => Code::E0407,
                    SqlErrorKind::Meaning => Code::E0408,
                };
                let place = error.range.and_then(|(start, end)| {
                    inside(
                        spot,
                        start.checked_sub(before.len())?,
                        end.checked_sub(before.len())?,
                    )
                });
                // The closing bracket is ours: what comes too early is the end.
                let message = error.message.replace("found )", "found the end");
                let mut diagnostic =
                    Diagnostic::error(code, message).at(place.unwrap_or(spot.span.clone()));
                diagnostic.hint = error.hint;
                diagnostics.push(diagnostic);
            }
            Ok(analyzed) => {
                let kind = analyzed.schema.field(0).data_type().clone();
                let fits = match needs {
                    "a number" => is_number(&kind),
                    "a condition" => kind.to_string() == "Boolean",
                    _ => true,
                };
                if !fits {
                    diagnostics.push(
                        Diagnostic::error(
                            Code::E0601,
                            format!(
                                "expected {needs}, but `{}` is {}",
                                spot.value,
                                type_name(&kind)
                            ),
                        )
                        .at(spot.span.clone()),
                    );
                }
            }
        }
    }
    diagnostics
}

/// The place of some bytes of a YAML text that stands plainly or in quotes on one line.
fn inside(spot: &Spot<String>, start: usize, end: usize) -> Option<Span> {
    let characters = spot.value.chars().count() as u32;
    let quote = match spot.span.length.checked_sub(characters)? {
        0 => 0,
        2 => 1,
        _ => return None,
    };
    let end = end.min(spot.value.len());
    let before = spot.value.get(..start)?.chars().count() as u32;
    let length = spot.value.get(start..end)?.chars().count() as u32;
    Some(Span {
        column: spot.span.column + quote + before,
        length,
        ..spot.span.clone()
    })
}

/// An assignment model has the columns that units are made of.
fn assignment_columns(manifest: &Manifest, node: &Node, schema: &Schema) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let known: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    for spec in &manifest.domain.experiments {
        let Some(assignments) = spec.assignments.as_ref().filter(|assignments| {
            assignments
                .model
                .as_ref()
                .is_some_and(|model| model.value == node.name)
        }) else {
            continue;
        };
        let model = assignments.model.as_ref().expect("it was just compared");
        for column in ["experiment_key", "unit_id", "variant", "assigned_at"] {
            if !known.contains(&column) {
                diagnostics.push(
                    Diagnostic::error(Code::E0604, format!("the assignment model `{}` has no column `{column}`", node.name))
                        .at(model.span.clone())
                        .hint("assignment models have `experiment_key`, `unit_id`, `variant` and `assigned_at`"),
                );
            }
        }
        for exclusion in assignments
            .exclude
            .iter()
            .filter(|exclusion| exclusion.value != "crossed_over")
        {
            let column = format!("is_{}", exclusion.value);
            if !known.contains(&column.as_str()) {
                diagnostics.push(
                    Diagnostic::error(
                        Code::E0604,
                        format!(
                            "units cannot be excluded as `{}`: `{}` has no column `{column}`",
                            exclusion.value, node.name
                        ),
                    )
                    .at(exclusion.span.clone())
                    .hint(format!(
                        "add a boolean column `{column}` to the model, or use `crossed_over`"
                    )),
                );
            }
        }
        for segment in spec
            .segments
            .iter()
            .filter(|segment| !known.contains(&segment.as_str()))
        {
            diagnostics.push(
                Diagnostic::error(
                    Code::E0604,
                    format!(
                        "the assignment model `{}` has no column `{}` to segment by",
                        node.name, segment.value
                    ),
                )
                .at(segment.span.clone())
                .hint(did_you_mean(segment, known.iter().copied())),
            );
        }
    }
    diagnostics
}
