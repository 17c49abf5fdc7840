//! `metric_aggregates`: the events of each unit in its window, made one number, and the numbers of a variant made one state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::AGGREGATES_PER_QUERY;
use super::ends::DataEnds;
use super::unit::{self, number, number_before, own_ratio};
use crate::manifest::identifier;
use crate::metrics::Duration;
use crate::metrics::metric::{Cap, Fill, Kind, Level, Maturity, Measure, Metric, Window};

/// Columns renamed, so that an expression over a fact's columns cannot mean one of these. To a date no hours can be added.
const EXPOSED: &str = "    exposed as (
        select
            experiment_key as exposed_experiment_key,
            unit_id as exposed_unit_id,
            cast(assigned_at as timestamp) as exposed_at,
            cast(period_starts_at as timestamp) as exposed_period_starts_at,
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
    /// The aggregate over the unit's events.
    sql: String,
    /// What it counts as, given the aggregate.
    number: Box<dyn Fn(&str) -> String>,
    fact: String,
    unit_column: String,
}

/// States of every used metric, one row per experiment, variant, metric and segment.
///
/// `units` is a relation with one row per experiment and unit: `experiment_key`, `unit_id`, `variant`, `assigned_at`,
/// `period_starts_at`, `measured_until`, `is_analysed`, and the segment columns. `complete_through` is SQL for the instant up
/// to which the data are complete; without it, that is for each metric the time of the latest event of the facts that it reads.
pub fn aggregates(
    uses: &[Use<'_>],
    units: &str,
    segments: &BTreeMap<String, Vec<String>>,
    complete_through: Option<&str>,
) -> String {
    if uses.is_empty() {
        return empty_aggregates();
    }
    let columns: Vec<UnitColumn> = uses
        .iter()
        .flat_map(|used| unit_columns(used.metric))
        .collect();
    let ends = DataEnds::of(uses.iter().map(|used| used.metric), complete_through);
    let mut sql = String::from("(\n    with units as (\n");
    let complete = ends.columns();
    let _ = writeln!(
        sql,
        "        select *{complete} from {units} where is_analysed and unit_id is not null and assigned_at is not null\n    ),\n"
    );
    sql.push_str(EXPOSED);
    let per_fact = write_per_unit(&mut sql, &columns);
    write_values(&mut sql, &per_fact);
    for used in uses {
        write_caps(&mut sql, used.metric, &ends);
    }
    let sql = sql.trim_end_matches(",\n\n").to_string();
    format!(
        "{sql}\n\n{}\n)",
        selects(uses, segments, &ends).join("\n    union all\n")
    )
}

fn empty_aggregates() -> String {
    "(\n    select '' as experiment_key, '' as variant, '' as metric_name, '' as metric_version, '' as segment_dimension, '' as segment,\n        \
     state_agg(cast(0 as double)) as state, state_agg(cast(0 as double)) as before_state\n    where false\n    group by 1, 2, 3, 4, 5, 6\n)"
        .to_string()
}

/// The columns a metric needs: its measures in the window, and, with a covariate, the same before it.
fn unit_columns(metric: &Metric) -> Vec<UnitColumn> {
    let measures = metric.kind.measures();
    let now = unit::columns(metric, &|measure| Some(during(measure, &metric.window)));
    let before = metric.covariate.map(|covariate| {
        let end = if covariate.before_period {
            "exposed.exposed_period_starts_at"
        } else {
            "exposed.exposed_at"
        };
        unit::columns(metric, &|measure| {
            let time = format!("events.{}", identifier(&measure.time_column));
            Some(format!(
                "{time} >= {end} - {} and {time} < {end}",
                covariate.lookback.sql()
            ))
        })
    });
    let column = |at: usize, column: unit::Column, is_before: bool| {
        let (owner, part) = (metric.clone(), column.part);
        let measure = measures[at.min(measures.len() - 1)];
        UnitColumn {
            name: match is_before {
                true => format!("{}__{part}_before", metric.name),
                false => format!("{}__{part}", metric.name),
            },
            sql: column.sql,
            number: Box::new(move |aggregate| match is_before {
                true => number_before(&owner, part, aggregate),
                false => number(&owner, part, aggregate),
            }),
            fact: measure.fact.clone(),
            unit_column: measure.unit_column.clone(),
        }
    };
    let now = now
        .into_iter()
        .enumerate()
        .map(|(at, part)| column(at, part, false));
    let before = before
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, part)| column(at, part, true));
    now.chain(before).collect()
}

/// Half-open, from the unit's assignment, and never past the end of the period.
fn during(measure: &Measure, window: &Window) -> String {
    let time = format!("events.{}", identifier(&measure.time_column));
    let mut conditions = Vec::new();
    match &window.calendar {
        Some(zone) => {
            let (day, first) = (
                local_day(&time, zone),
                local_day("exposed.exposed_at", zone),
            );
            conditions.push(format!("{time} >= exposed.exposed_at"));
            if window.start.seconds > 0 {
                conditions.push(format!("{day} >= {first} + {}", window.start.sql()));
            }
            if let Some(end) = window.end() {
                conditions.push(format!("{day} < {first} + {}", end.sql()));
            }
        }
        None => {
            let after = |length: Duration| match length.seconds {
                0 => "exposed.exposed_at".to_string(),
                _ => format!("exposed.exposed_at + {}", length.sql()),
            };
            conditions.push(format!("{time} >= {}", after(window.start)));
            if let Some(end) = window.end() {
                conditions.push(format!("{time} < {}", after(end)));
            }
        }
    }
    conditions.push(format!("{time} < exposed.exposed_until"));
    conditions.join(" and ")
}

/// The calendar day of a UTC instant in a zone.
fn local_day(instant: &str, zone: &str) -> String {
    format!("cast(to_local_time(({instant} at time zone 'UTC') at time zone '{zone}') as date)")
}

/// Whether a unit counts yet: its window closed before the data ended.
fn has_matured(metric: &Metric, ends: &DataEnds<'_>) -> Option<String> {
    let end = metric.window.end()?;
    if metric.maturity == Maturity::Partial {
        return None;
    }
    let complete_until = ends.column(metric);
    Some(match &metric.window.calendar {
        Some(zone) => format!(
            "{} + {} <= {}",
            local_day("assigned_at", zone),
            end.sql(),
            local_day(&complete_until, zone)
        ),
        None => format!(
            "cast(assigned_at as timestamp) + {} <= {complete_until}",
            end.sql()
        ),
    })
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

/// All units with all values.
fn write_values(sql: &mut String, per_fact: &[(String, Vec<&UnitColumn>)]) {
    let mut lines = vec!["            units.*".to_string()];
    for (name, columns) in per_fact {
        for column in columns {
            let aggregate = format!("{}.{}", identifier(name), identifier(&column.name));
            lines.push(format!(
                "            {} as {}",
                (column.number)(&aggregate),
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
    sql.push_str("\n    ),\n\n");
}

/// A number of a unit and its cap: the value, or both sides of a ratio.
struct Part {
    /// Follows the names of its caps; empty for a metric with one number.
    suffix: &'static str,
    value: String,
    cap: Option<Cap>,
}

/// The numbers of a unit that make up its state, before any cap; `before` is `_before` for the time before.
fn parts(metric: &Metric, before: &str) -> Vec<Part> {
    let Kind::Ratio {
        numerator,
        denominator,
    } = &metric.kind
    else {
        return vec![Part {
            suffix: "",
            value: uncapped(metric, before),
            cap: metric.cap,
        }];
    };
    let side = |suffix: &'static str, part: &str, measure: &Measure| Part {
        suffix,
        value: identifier(&format!("{}__{part}{before}", metric.name)),
        cap: measure.cap,
    };
    vec![
        side("_numerator", "numerator", numerator),
        side("_denominator", "denominator", denominator),
    ]
}

/// Caps that are quantiles of the units themselves, a query for each number that has one.
fn write_caps(sql: &mut String, metric: &Metric, ends: &DataEnds<'_>) {
    let befores = parts(metric, "_before");
    for (part, before) in parts(metric, "").into_iter().zip(befores) {
        let Some(Cap::Quantile { share, is_pooled }) = part.cap else {
            continue;
        };
        let cap = |value: &str| {
            format!(
                "quantile_estimate(array_agg({value}) filter (where {value} is not null), {share:?})['quantile']"
            )
        };
        let mut caps = vec![format!("{} as cap", cap(&part.value))];
        if metric.covariate.is_some() {
            caps.push(format!("{} as cap_before", cap(&before.value)));
        }
        // Renamed, so that the join leaves no name in doubt.
        let [experiment, variant] = capped_keys(part.suffix);
        let keys = match is_pooled {
            true => format!("experiment_key as {experiment}"),
            false => format!("experiment_key as {experiment}, variant as {variant}"),
        };
        let groups = if is_pooled { "1" } else { "1, 2" };
        let condition = has_matured(metric, ends)
            .map_or(String::new(), |mature| format!("\n        where {mature}"));
        let _ = write!(
            sql,
            "    {} as (\n        select {keys}, {}\n        from unit_values{condition}\n        group by {groups}\n    ),\n\n",
            caps_name(metric, part.suffix),
            caps.join(", "),
        );
    }
}

fn capped_keys(suffix: &str) -> [String; 2] {
    ["experiment_key", "variant"].map(|key| format!("capped_{key}{suffix}"))
}

fn caps_name(metric: &Metric, suffix: &str) -> String {
    identifier(&format!("{}__caps{suffix}", metric.name))
}

/// A unit's one number before any cap; `suffix` is `_before` for the time before.
fn uncapped(metric: &Metric, suffix: &str) -> String {
    let column = |part: &str| identifier(&format!("{}__{part}{suffix}", metric.name));
    match metric.kind {
        Kind::MeanOfRatios { .. } => {
            // Who must have a value after the assignment need not have had one before it.
            let fill = match metric.fill {
                Fill::Fail if !suffix.is_empty() => Fill::Zero,
                fill => fill,
            };
            own_ratio(fill, &column("numerator"), &column("denominator"))
        }
        _ => column("value"),
    }
}

/// The numbers of a unit that make up its state.
fn state_values(metric: &Metric, before: &str) -> Vec<String> {
    let capped = |part: Part| {
        let value = part.value;
        let cap = match part.cap {
            None => return value,
            Some(Cap::At(cap)) => format!("{cap:?}"),
            Some(Cap::Quantile { .. }) => format!("{}.cap{before}", caps_name(metric, part.suffix)),
        };
        // `least` alone would make the cap of a unit that is left out, and of a number that is not finite, which is to be seen.
        format!("least({value}, {cap}) + 0.0 * {value}")
    };
    parts(metric, before).into_iter().map(capped).collect()
}

fn selects(
    uses: &[Use<'_>],
    segments: &BTreeMap<String, Vec<String>>,
    ends: &DataEnds<'_>,
) -> Vec<String> {
    let mut selects = Vec::new();
    for used in uses {
        selects.push(select(used.metric, ends, &used.experiments, None));
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
            selects.push(select(used.metric, ends, &experiments, Some(dimension)));
        }
    }
    selects
}

fn select(
    metric: &Metric,
    ends: &DataEnds<'_>,
    experiments: &[String],
    segment: Option<&str>,
) -> String {
    // NULL of a state's type.
    let no_state = "case when false then state_agg(cast(null as double)) end".to_string();
    let (state, before_state) = match (&metric.kind, metric.covariate) {
        (Kind::Quantile { q, level, .. }, _) => (quantile_state(metric, *q, *level), no_state),
        (_, Some(_)) => {
            let before = state_values(metric, "_before");
            let all = [state_values(metric, ""), before.clone()].concat();
            (
                state_of_units(metric, &all),
                format!("state_agg({})", before.join(", ")),
            )
        }
        (_, None) => (state_of_units(metric, &state_values(metric, "")), no_state),
    };
    let keys: Vec<String> = experiments
        .iter()
        .map(|key| format!("'{}'", key.replace('\'', "''")))
        .collect();
    // Constants are no groups: two that are alike stop DataFusion's optimizer when a field of a state is read through a view.
    let (dimension, column, groups) = match segment {
        Some(name) => (
            format!("'{}'", name.replace('\'', "''")),
            format!("coalesce(cast({} as varchar), '(none)')", identifier(name)),
            "1, 2, 6",
        ),
        None => ("'all'".to_string(), "'all'".to_string(), "1, 2"),
    };
    let caps: String = parts(metric, "")
        .iter()
        .filter_map(|part| {
            let Some(Cap::Quantile { is_pooled, .. }) = part.cap else {
                return None;
            };
            let [capped_experiment, capped_variant] = capped_keys(part.suffix);
            let by_variant = match is_pooled {
                true => String::new(),
                false => format!(" and {capped_variant} = variant"),
            };
            Some(format!(
                "\n    inner join {} on {capped_experiment} = experiment_key{by_variant}",
                caps_name(metric, part.suffix)
            ))
        })
        .collect();
    let mature = has_matured(metric, ends).map_or(String::new(), |mature| format!(" and {mature}"));
    format!(
        "    select\n        experiment_key,\n        cast(variant as varchar) as variant,\n        '{}' as metric_name,\n        '{}' as metric_version,\n        {dimension} as segment_dimension,\n        \
         {column} as segment,\n        {state} as state,\n        {before_state} as before_state\n    from unit_values{caps}\n    \
         where experiment_key in ({}){mature}\n    group by {groups}",
        metric.plain_name(),
        metric.version,
        keys.join(", "),
    )
}

/// The state over units; where the metric forbids units without a value, one that fails and names the metric.
fn state_of_units(metric: &Metric, values: &[String]) -> String {
    let values = values.join(", ");
    match metric.fill {
        Fill::Fail => format!("state_agg_fail('{}', {values})", metric.name),
        Fill::Zero | Fill::Exclude => format!("state_agg({values})"),
    }
}

/// A quantile as the state of a mean: its units vary as the quantile does.
fn quantile_state(metric: &Metric, q: f64, level: Level) -> String {
    let value = identifier(&format!("{}__value", metric.name));
    let of_unit = match level {
        Level::Event => value.clone(),
        Level::Unit => format!("make_array({value})"),
    };
    let state =
        format!("quantile_state(array_agg({of_unit}) filter (where {value} is not null), {q:?})");
    match metric.fill {
        Fill::Fail => format!(
            "case when {}['n'] > 0 then {state} end",
            state_of_units(metric, &[value])
        ),
        Fill::Zero | Fill::Exclude => state,
    }
}
