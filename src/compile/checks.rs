//! What metrics and experiments say about models, held against the models.
//! In: specs, and the columns and types that a node has. Out: a diagnostic for each column that is missing and each expression that is none.

use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::manifest::{Manifest, Node, identifier};
use crate::metrics::{Kind, Metrics};
use crate::project::yaml::Spot;
use crate::project::{MeasureSpec, MetricSpec};
use crate::sql::{
    Analyzer, Schema, SqlError, SqlErrorKind, foreign_zone, is_number, is_time, surplus, type_name,
};

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
    let missing = named
        .into_iter()
        .flatten()
        .filter_map(|column| missing_column(node, schema, column));
    let no_time = no_time(node, schema, &fact.time).map(|[message, hint]| {
        Diagnostic::error(Code::E0502, message)
            .at(fact.time.span.clone())
            .hint(hint)
    });
    missing.chain(no_time).collect()
}

/// Why a column does not say when its rows were, and what to write instead.
fn no_time(node: &Node, schema: &Schema, column: &str) -> Option<[String; 2]> {
    let field = schema.field_with_name(column).ok()?;
    let place = format!("the time `{column}` of `{}`", node.name);
    if let Some(zone) = foreign_zone(field.data_type()) {
        let message = format!("{place} has the zone {zone}, and what it is compared with is UTC");
        let hint =
            format!("write `cast({column} as timestamp)` in the model: the same instants in UTC");
        return Some([message, hint]);
    }
    (!is_time(field.data_type())).then(|| {
        let message = format!("{place} is {}, not a timestamp", type_name(field.data_type()));
        let hint = format!(
            "make it one in the model: `to_timestamp_millis({column})`, if it counts milliseconds since 1970"
        );
        [message, hint]
    })
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
        if let Some(error) = surplus(spot) {
            diagnostics.push(of_snippet(spot, error, 0));
            continue;
        }
        // In brackets and on a line of its own, so that what is missing is missed here and a comment ends.
        let before = "select (";
        let query = format!(
            "{before}{}\n) as expression from {}",
            spot.value,
            identifier(&node.name)
        );
        match analyzer.analyze(&query).await {
            Err(mut error) => {
                // The closing bracket is ours: what comes too early is the end.
                error.message = error.message.replace("found )", "found the end");
                diagnostics.push(of_snippet(spot, error, before.len()));
            }
            Ok(analyzed) if analyzed.takes_rows_together() => diagnostics.push(
                Diagnostic::error(
                    Code::E0601,
                    format!("`{}` takes several rows together", spot.value.trim()),
                )
                .at(spot.span.clone())
                .hint(
                    "write what one row of the fact says: `agg` makes one number of a unit's rows",
                ),
            ),
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

/// An error in a query that begins, after so many bytes, with a text of the YAML.
pub(super) fn of_snippet(spot: &Spot<String>, error: SqlError, before: usize) -> Diagnostic {
    let code = match error.kind {
        SqlErrorKind::NotOneQuery => Code::E0405,
        kind => kind.code(),
    };
    let place = error
        .range
        .and_then(|(start, end)| spot.part(start.checked_sub(before)?..end.checked_sub(before)?));
    let mut diagnostic =
        Diagnostic::error(code, error.message).at(place.unwrap_or(spot.span.clone()));
    diagnostic.hint = error.hint;
    diagnostic
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
        if let Some([message, hint]) = no_time(node, schema, "assigned_at") {
            diagnostics.push(
                Diagnostic::error(Code::E0604, message)
                    .at(model.span.clone())
                    .hint(hint),
            );
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
