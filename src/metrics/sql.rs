//! The SQL that metrics become: `metric_aggregates` (states per experiment, variant and metric) and `metric_daily`.
//! A person reads this SQL in `target/compiled`, so it is written as a person would write it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::metric::{Aggregation, Kind, Measure, Metric, Window};
use crate::manifest::identifier;

/// DataFusion's planning time grows with the square of the aggregates in one select.
const AGGREGATES_PER_QUERY: usize = 120;

/// Columns renamed, so that an expression over a fact's columns cannot mean one of these.
const EXPOSED: &str = "    exposed as (
        select
            experiment_key as exposed_experiment_key,
            unit_id as exposed_unit_id,
            assigned_at as exposed_at,
            period_starts_at as exposed_period_starts_at,
            measured_until as exposed_until
        from units
    ),

";

/// A metric and the experiments that use it.
#[derive(Debug, Clone)]
pub struct Use<'a> {
    pub metric: &'a Metric,
    pub experiments: Vec<String>,
}

/// One column of the per-unit table.
struct UnitColumn {
    name: String,
    sql: String,
    fact: String,
    unit_column: String,
    /// Whether the value is 1 when anything was counted.
    is_any: bool,
}

/// States of every used metric, one row per experiment, variant, metric and segment.
///
/// `units` is a relation with one row per experiment and unit: `experiment_key`, `unit_id`, `variant`, `assigned_at`,
/// `period_starts_at`, `measured_until`, `is_analysed`, and the segment columns.
pub fn aggregates(
    uses: &[Use<'_>],
    units: &str,
    segments: &BTreeMap<String, Vec<String>>,
) -> String {
    if uses.is_empty() {
        return empty_aggregates();
    }
    let columns: Vec<UnitColumn> = uses
        .iter()
        .flat_map(|used| unit_columns(used.metric))
        .collect();
    let mut sql = String::from("(\n    with units as (\n");
    let _ = writeln!(
        sql,
        "        select * from {units} where is_analysed\n    ),\n"
    );
    sql.push_str(EXPOSED);
    let per_fact = write_per_unit(&mut sql, &columns);
    write_values(&mut sql, &per_fact);
    sql.push_str(&selects(uses, segments).join("\n    union all\n"));
    sql.push_str("\n)");
    sql
}

fn empty_aggregates() -> String {
    "(\n    select '' as experiment_key, '' as variant, '' as metric_name, '' as segment_dimension, '' as segment,\n        \
     state_agg(cast(0 as double)) as state, state_agg(cast(0 as double)) as before_state\n    where false\n    group by 1, 2, 3, 4, 5\n)"
        .to_string()
}

/// The columns a metric needs: its measures in the window, and, with a covariate, the same before it.
fn unit_columns(metric: &Metric) -> Vec<UnitColumn> {
    let mut columns = Vec::new();
    for (measure, part) in metric.kind.measures().into_iter().zip(parts(metric)) {
        columns.push(unit_column(
            metric,
            measure,
            part,
            &during(measure, metric.window),
        ));
        if let Some(covariate) = metric.covariate {
            let end = if covariate.before_period {
                "exposed.exposed_period_starts_at"
            } else {
                "exposed.exposed_at"
            };
            let time = format!("events.{}", identifier(&measure.time_column));
            let condition = format!(
                "{time} >= {end} - {} and {time} < {end}",
                covariate.lookback.sql()
            );
            columns.push(unit_column(
                metric,
                measure,
                &format!("{part}_before"),
                &condition,
            ));
        }
    }
    columns
}

fn parts(metric: &Metric) -> &'static [&'static str] {
    match metric.kind {
        Kind::Ratio { .. } => &["numerator", "denominator"],
        _ => &["value"],
    }
}

/// Half-open, from the unit's assignment, and never past the end of the period.
fn during(measure: &Measure, window: Window) -> String {
    let time = format!("events.{}", identifier(&measure.time_column));
    let start = if window.start.seconds == 0 {
        "exposed.exposed_at".to_string()
    } else {
        format!("exposed.exposed_at + {}", window.start.sql())
    };
    let mut condition = format!("{time} >= {start}");
    if let Some(length) = window.length {
        let end = super::Duration {
            seconds: window.start.seconds + length.seconds,
        };
        let _ = write!(
            condition,
            " and {time} < exposed.exposed_at + {}",
            end.sql()
        );
    }
    let _ = write!(condition, " and {time} < exposed.exposed_until");
    condition
}

fn unit_column(metric: &Metric, measure: &Measure, part: &str, when: &str) -> UnitColumn {
    let condition = match &measure.condition {
        Some(condition) => format!("{condition} and {when}"),
        None => when.to_string(),
    };
    let expression = measure.expression.clone();
    let sql = match (measure.aggregation, expression) {
        (Aggregation::Count, None) => format!("count(*) filter (where {condition})"),
        (Aggregation::Count, Some(expression)) => {
            format!("count({expression}) filter (where {condition})")
        }
        (Aggregation::CountDistinct, expression) => {
            format!(
                "count(distinct case when {condition} then {} end)",
                expression.unwrap_or_default()
            )
        }
        (Aggregation::Any, None) => format!("count(*) filter (where {condition})"),
        (Aggregation::Any, Some(expression)) => {
            format!("count(*) filter (where {condition} and ({expression}))")
        }
        (Aggregation::Sum, expression) => format!(
            "sum(cast({} as double)) filter (where {condition})",
            expression.unwrap_or_default()
        ),
        (Aggregation::Max, expression) => format!(
            "max(cast({} as double)) filter (where {condition})",
            expression.unwrap_or_default()
        ),
        (Aggregation::Min, expression) => format!(
            "min(cast({} as double)) filter (where {condition})",
            expression.unwrap_or_default()
        ),
    };
    UnitColumn {
        name: format!("{}__{part}", metric.name),
        sql,
        fact: measure.fact.clone(),
        unit_column: measure.unit_column.clone(),
        is_any: measure.aggregation == Aggregation::Any,
    }
}

/// One query per fact and block of aggregates: one row per experiment and unit that has events.
fn write_per_unit<'a>(
    sql: &mut String,
    columns: &'a [UnitColumn],
) -> Vec<(String, Vec<&'a UnitColumn>)> {
    let mut by_fact: BTreeMap<(&str, &str), Vec<&UnitColumn>> = BTreeMap::new();
    for column in columns {
        by_fact
            .entry((&column.fact, &column.unit_column))
            .or_default()
            .push(column);
    }
    let mut written = Vec::new();
    for ((fact, unit), columns) in by_fact {
        for (number, block) in columns.chunks(AGGREGATES_PER_QUERY).enumerate() {
            let name = if number == 0 {
                format!("{fact}_by_unit")
            } else {
                format!("{fact}_by_unit_{}", number + 1)
            };
            let list: Vec<String> = block
                .iter()
                .map(|column| format!("            {} as {}", column.sql, identifier(&column.name)))
                .collect();
            let _ = writeln!(
                sql,
                "    {name} as (\n        select\n            exposed.exposed_experiment_key as experiment_key,\n            exposed.exposed_unit_id as unit_id,\n{}\n        from exposed\n        \
                 inner join {} as events on events.{} = exposed.exposed_unit_id\n        group by 1, 2\n    ),\n",
                list.join(",\n"),
                identifier(fact),
                identifier(unit),
                name = identifier(&name),
            );
            written.push((name, block.to_vec()));
        }
    }
    written
}

/// All units with all values; a unit without events has zeros.
fn write_values(sql: &mut String, per_fact: &[(String, Vec<&UnitColumn>)]) {
    let mut lines = vec!["            units.*".to_string()];
    for (name, columns) in per_fact {
        for column in columns {
            let value = format!(
                "coalesce({}.{}, 0)",
                identifier(name),
                identifier(&column.name)
            );
            let value = if column.is_any {
                format!("case when {value} > 0 then 1.0 else 0.0 end")
            } else {
                format!("cast({value} as double)")
            };
            lines.push(format!(
                "            {value} as {}",
                identifier(&column.name)
            ));
        }
    }
    let _ = write!(
        sql,
        "    unit_values as (\n        select\n{}\n        from units",
        lines.join(",\n")
    );
    for (name, _) in per_fact {
        let name = identifier(name);
        let _ = write!(
            sql,
            "\n        left join {name} on {name}.experiment_key = units.experiment_key and {name}.unit_id = units.unit_id"
        );
    }
    sql.push_str("\n    )\n\n");
}

fn selects(uses: &[Use<'_>], segments: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut selects = Vec::new();
    for used in uses {
        selects.push(select(used.metric, &used.experiments, None));
        let dimensions: BTreeSet<&String> = used
            .experiments
            .iter()
            .filter_map(|key| segments.get(key))
            .flatten()
            .collect();
        for dimension in dimensions {
            let experiments: Vec<String> = used
                .experiments
                .iter()
                .filter(|key| {
                    segments
                        .get(*key)
                        .is_some_and(|names| names.contains(dimension))
                })
                .cloned()
                .collect();
            selects.push(select(used.metric, &experiments, Some(dimension)));
        }
    }
    selects
}

fn select(metric: &Metric, experiments: &[String], segment: Option<&str>) -> String {
    let value = |part: &str| {
        let column = identifier(&format!("{}__{part}", metric.name));
        match metric.cap {
            Some(cap) if part == "value" || part == "value_before" => {
                format!("least({column}, {cap:?})")
            }
            _ => column,
        }
    };
    let names: Vec<&str> = parts(metric).to_vec();
    let now: Vec<String> = names.iter().map(|part| value(part)).collect();
    let before: Vec<String> = names
        .iter()
        .map(|part| value(&format!("{part}_before")))
        .collect();
    let (state, before_state) = match metric.covariate {
        Some(_) => ([now, before.clone()].concat().join(", "), before.join(", ")),
        None => (now.join(", "), String::new()),
    };
    let before_state = match before_state.is_empty() {
        true => "state_agg(cast(null as double)) filter (where false)".to_string(),
        false => format!("state_agg({before_state})"),
    };
    let keys: Vec<String> = experiments
        .iter()
        .map(|key| format!("'{}'", key.replace('\'', "''")))
        .collect();
    let (dimension, column) = match segment {
        Some(name) => (
            format!("'{name}'"),
            format!("coalesce(cast({} as varchar), '(none)')", identifier(name)),
        ),
        None => ("'all'".to_string(), "'all'".to_string()),
    };
    format!(
        "    select\n        experiment_key,\n        variant,\n        '{}' as metric_name,\n        {dimension} as segment_dimension,\n        \
         {column} as segment,\n        state_agg({state}) as state,\n        {before_state} as before_state\n    from unit_values\n    \
         where experiment_key in ({})\n    group by 1, 2, 3, 4, 5",
        metric.name,
        keys.join(", "),
    )
}

/// Company-wide values, one row per day and metric, from the same definitions. `numerator` over `denominator` is the value:
/// for means and proportions the denominator is the number of units with any event of the fact on that day.
pub fn daily(metrics: &[&Metric]) -> String {
    if metrics.is_empty() {
        return "(select cast(null as date) as metric_date, '' as metric_name, cast(0 as double) as numerator, cast(0 as double) as denominator where false)".to_string();
    }
    let mut by_fact: BTreeMap<(&str, &str), Vec<(&Metric, Vec<(&'static str, String)>)>> =
        BTreeMap::new();
    let mut mixed = Vec::new();
    for metric in metrics {
        let measures = metric.kind.measures();
        let first = (measures[0].fact.as_str(), measures[0].time_column.as_str());
        if measures
            .iter()
            .any(|measure| (measure.fact.as_str(), measure.time_column.as_str()) != first)
        {
            mixed.push(*metric);
            continue;
        }
        let columns = daily_columns(metric);
        by_fact.entry(first).or_default().push((metric, columns));
    }
    let mut ctes = Vec::new();
    let mut selects = Vec::new();
    for ((fact, time), metrics) in &by_fact {
        for (number, block) in metrics.chunks(AGGREGATES_PER_QUERY / 2).enumerate() {
            let name = if number == 0 {
                format!("{fact}_by_day")
            } else {
                format!("{fact}_by_day_{}", number + 1)
            };
            let list: Vec<String> = block
                .iter()
                .flat_map(|(metric, columns)| {
                    columns.iter().map(|(part, sql)| {
                        format!(
                            "            {sql} as {}",
                            identifier(&format!("{}__{part}", metric.name))
                        )
                    })
                })
                .collect();
            ctes.push(format!(
                "    {} as (\n        select\n            cast({} as date) as metric_date,\n{}\n        from {}\n        group by 1\n    )",
                identifier(&name), identifier(time), list.join(",\n"), identifier(fact),
            ));
            for (metric, _) in block {
                selects.push(format!(
                    "    select metric_date, '{0}' as metric_name, {1} as numerator, {2} as denominator from {3}",
                    metric.name, identifier(&format!("{}__numerator", metric.name)), identifier(&format!("{}__denominator", metric.name)), identifier(&name),
                ));
            }
        }
    }
    selects.extend(mixed.into_iter().map(mixed_daily));
    let with = if ctes.is_empty() {
        String::new()
    } else {
        format!("    with {}\n\n", ctes.join(",\n\n").trim_start())
    };
    format!("(\n{with}{}\n)", selects.join("\n    union all\n"))
}

fn daily_columns(metric: &Metric) -> Vec<(&'static str, String)> {
    match &metric.kind {
        Kind::Ratio {
            numerator,
            denominator,
        } => vec![
            ("numerator", total(numerator)),
            ("denominator", total(denominator)),
        ],
        Kind::Mean(measure) => vec![
            ("numerator", total(measure)),
            ("denominator", units(measure, None)),
        ],
        Kind::Proportion(measure) => vec![
            ("numerator", units(measure, any_condition(measure))),
            ("denominator", units(measure, None)),
        ],
    }
}

/// A ratio of two facts: each total by its own day, joined by day.
fn mixed_daily(metric: &Metric) -> String {
    let measures = metric.kind.measures();
    let side = |measure: &Measure| {
        format!(
            "(select cast({} as date) as metric_date, {} as total from {} group by 1)",
            identifier(&measure.time_column),
            total(measure),
            identifier(&measure.fact)
        )
    };
    format!(
        "    select coalesce(upper_side.metric_date, lower_side.metric_date) as metric_date, '{}' as metric_name,\n        \
         coalesce(upper_side.total, 0) as numerator, coalesce(lower_side.total, 0) as denominator\n    from {} as upper_side\n    full join {} as lower_side on lower_side.metric_date = upper_side.metric_date",
        metric.name,
        side(measures[0]),
        side(measures[1]),
    )
}

fn any_condition(measure: &Measure) -> Option<String> {
    let parts: Vec<String> = measure
        .condition
        .iter()
        .cloned()
        .chain(
            measure
                .expression
                .iter()
                .map(|expression| format!("({expression})")),
        )
        .collect();
    Some(parts.join(" and ")).filter(|text| !text.is_empty())
}

fn total(measure: &Measure) -> String {
    let filter = measure
        .condition
        .as_ref()
        .map(|condition| format!(" filter (where {condition})"))
        .unwrap_or_default();
    let expression = measure.expression.clone().unwrap_or_default();
    let sql = match measure.aggregation {
        Aggregation::Count if expression.is_empty() => format!("count(*){filter}"),
        Aggregation::Count => format!("count({expression}){filter}"),
        Aggregation::CountDistinct => match &measure.condition {
            Some(condition) => {
                format!("count(distinct case when {condition} then {expression} end)")
            }
            None => format!("count(distinct {expression})"),
        },
        Aggregation::Sum => format!("coalesce(sum(cast({expression} as double)){filter}, 0)"),
        Aggregation::Max => format!("max(cast({expression} as double)){filter}"),
        Aggregation::Min => format!("min(cast({expression} as double)){filter}"),
        Aggregation::Any => units(measure, any_condition(measure)),
    };
    format!("cast({sql} as double)")
}

fn units(measure: &Measure, condition: Option<String>) -> String {
    let unit = identifier(&measure.unit_column);
    match condition {
        Some(condition) => {
            format!("cast(count(distinct case when {condition} then {unit} end) as double)")
        }
        None => format!("cast(count(distinct {unit}) as double)"),
    }
}
