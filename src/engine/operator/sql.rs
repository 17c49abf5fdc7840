//! The oracle: the same plan as plain SQL, metric by metric.
//! In: a [`MetricPlan`]. Out: one query with the operator's columns, the state's fields apart. Slow and simple on purpose; it has
//! rows for every experiment, metric and segment of the plan, asked for or not. A condition or period columns of the assignments
//! are not known here: plans that have them come from metrics, whose oracle is [`crate::metrics::sql`].

use super::lanes::SECOND;
use crate::metrics::plan::{Aggregate, Maturity, Measure, MetricPlan, MetricStates, dimension};

pub fn sql(plan: &MetricPlan) -> String {
    let mut parts = Vec::new();
    for (index, metric) in plan.metrics.iter().enumerate() {
        for segment in &plan.segment_sets() {
            parts.push(states(plan, metric, index, segment));
        }
    }
    let units: Vec<String> = plan
        .metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| units(plan, metric, index))
        .collect();
    format!(
        "with {},\n{}\n{}",
        sources(plan),
        units.join(",\n"),
        parts.join("\nunion all\n")
    )
}

/// Events, first assignments, and who was seen in two variants.
fn sources(plan: &MetricPlan) -> String {
    let (events, assignments) = (&plan.events, &plan.assignments);
    let values = each(&events.values, |index, value| {
        format!(", cast({value} as double) as value_{index}")
    });
    let segments = each(&assignments.segments, |index, segment| {
        format!(", cast({segment} as varchar) as segment_{index}")
    });
    let firsts = each(&assignments.segments, |index, _| {
        format!(", first_value(a.segment_{index} order by a.at, e.position) as segment_{index}")
    });
    format!(
        "events as (
    select {unit} as unit, {at} as at, cast({name} as varchar) as name{values} from {table}
    where {unit} is not null and {time} is not null
),
assigned as (
    select {a_unit} as unit, {a_at} as at, cast({experiment} as varchar) as experiment_key, cast({variant} as varchar) as variant{segments}
    from {a_table} where {a_unit} is not null and {a_time} is not null
),
planned (experiment_key, variant, position, starts, ends, measured_until, excludes) as (values {planned}),
firsts as (
    select
        a.experiment_key, a.unit, min(a.at) as first_at, first_value(a.variant order by a.at, e.position) as variant,
        count(distinct a.variant) > 1 as is_crossed_over, bool_or(e.excludes) as excludes,
        min(e.starts) as starts, min(e.measured_until) as measured_until{firsts}
    from assigned as a
    inner join planned as e on e.experiment_key = a.experiment_key and e.variant = a.variant
    where a.at >= e.starts and a.at < e.ends
    group by a.experiment_key, a.unit
)",
        unit = events.unit,
        at = micros(&events.time),
        name = events.name,
        table = events.table,
        time = events.time,
        a_unit = assignments.unit,
        a_at = micros(&assignments.time),
        experiment = assignments.experiment,
        variant = assignments.variant,
        a_table = assignments.table,
        a_time = assignments.time,
        planned = planned(plan),
    )
}

fn planned(plan: &MetricPlan) -> String {
    let mut rows = Vec::new();
    let instant = |micros: i64| format!("cast('{micros}' as bigint)");
    for experiment in &plan.experiments {
        for (position, variant) in experiment.variants.iter().enumerate() {
            rows.push(format!(
                "({}, {}, {position}, {}, {}, {}, {})",
                text(&experiment.key),
                text(variant),
                instant(experiment.from),
                instant(experiment.to),
                instant(experiment.measured_until),
                experiment.excludes_crossed_over
            ));
        }
    }
    rows.join(", ")
}

/// One row per experiment and unit with the metric's numbers v0, v1, ...
fn units(plan: &MetricPlan, metric: &MetricStates, index: usize) -> String {
    let start = metric.window_start * SECOND;
    let end = metric.window_length.map(|length| start + length * SECOND);
    let mut during = format!("e.at >= f.first_at + {start} and e.at < f.measured_until");
    if let Some(end) = end {
        during += &format!(" and e.at < f.first_at + {end}");
    }
    let mut numbers: Vec<String> = metric
        .measures()
        .map(|measure| number(measure, &during))
        .collect();
    if let Some(lookback) = metric.lookback {
        let anchor = if metric.lookback_before_period {
            "f.starts"
        } else {
            "f.first_at"
        };
        let before = format!(
            "e.at >= {anchor} - {} and e.at < {anchor}",
            lookback * SECOND
        );
        numbers.extend(metric.measures().map(|measure| number(measure, &before)));
    }
    let numbers = each(&numbers, |position, number| {
        format!(", {number} as v{position}")
    });
    let segments = each(&plan.assignments.segments, |position, _| {
        format!(", f.segment_{position}")
    });
    let is_mature = match (metric.maturity, end) {
        (Maturity::FullWindow, Some(end)) => {
            format!("f.first_at + {end} <= {}", plan.complete_through)
        }
        _ => "true".to_owned(),
    };
    format!(
        "units_{index} as (
    select f.experiment_key, f.unit, f.variant, f.is_crossed_over, {is_mature} and not (f.is_crossed_over and f.excludes) as counts{segments}{numbers}
    from firsts as f
    left join events as e on e.unit = f.unit
    group by f.experiment_key, f.unit, f.variant, f.is_crossed_over, f.excludes, f.first_at, f.starts, f.measured_until{segments}
)"
    )
}

fn number(measure: &Measure, when: &str) -> String {
    let inside = match &measure.event {
        Some(event) => format!("e.name = {} and {when}", text(event)),
        None => when.to_owned(),
    };
    let value = measure
        .value
        .map_or("1.0".to_owned(), |value| format!("e.value_{value}"));
    let taken = format!("case when {inside} then {value} end");
    let number = match measure.aggregate {
        Aggregate::Count => format!("cast(count({taken}) as double)"),
        Aggregate::Sum => format!("coalesce(sum({taken}), 0.0)"),
        Aggregate::Any => format!(
            "case when count({taken}) >= {} then 1.0 else 0.0 end",
            measure.at_least.max(1)
        ),
        Aggregate::Max => format!("coalesce(max({taken}), 0.0)"),
        Aggregate::Min => format!("coalesce(min({taken}), 0.0)"),
    };
    match measure.cap {
        None => number,
        Some(cap) => format!("least({number}, cast({cap:e} as double))"),
    }
}

/// One row per cell: means corrected once, then centred cross products.
fn states(plan: &MetricPlan, metric: &MetricStates, index: usize, segment: &[String]) -> String {
    let width = metric.width();
    let place = |name: &String| {
        plan.assignments
            .segments
            .iter()
            .position(|known| known == name)
            .unwrap_or_default()
    };
    let values: Vec<String> = segment
        .iter()
        .map(|name| format!("coalesce(segment_{}, '(none)')", place(name)))
        .collect();
    let value = if values.is_empty() {
        "'all'".to_owned()
    } else {
        values.join(" || ' x ' || ")
    };
    let list =
        |format: &dyn Fn(usize) -> String| (0..width).map(format).collect::<Vec<_>>().join(", ");
    let rough = list(&|v| format!("avg(v{v}) filter (where counts) over cell as r{v}"));
    let fine =
        list(&|v| format!("r{v} + avg(v{v} - r{v}) filter (where counts) over cell as m{v}"));
    let mut products = Vec::new();
    for i in 0..width {
        products.extend((i..width).map(|j| {
            format!("coalesce(sum((v{i} - m{i}) * (v{j} - m{j})) filter (where counts), 0.0)")
        }));
    }
    format!(
        "select
    experiment_key, variant, {name} as metric_name, {segment} as segment_dimension, segment_value as segment,
    count(*) filter (where counts) as n, cast(0 as bigint) as nulls, cast(0 as bigint) as non_finite,
    count(*) filter (where is_crossed_over) as crossed_over,
    make_array({min}) as min, make_array({max}) as max, make_array({mean}) as mean, make_array({low}) as mean_low,
    make_array({products}) as cross_products
from (
    select *, {fine} from (
        select *, {rough} from (select *, {value} as segment_value from units_{index})
        window cell as (partition by experiment_key, variant, segment_value)
    ) window cell as (partition by experiment_key, variant, segment_value)
)
group by experiment_key, variant, segment_value",
        name = text(&metric.name),
        segment = text(&dimension(segment)),
        min = list(&|v| format!("min(v{v}) filter (where counts)")),
        max = list(&|v| format!("max(v{v}) filter (where counts)")),
        mean = list(&|v| format!("coalesce(max(m{v}), 0.0)")),
        low = list(&|_| "0.0".to_owned()),
        products = products.join(", "),
    )
}

fn micros(time: &str) -> String {
    format!("cast(arrow_cast({time}, 'Timestamp(Microsecond, None)') as bigint)")
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn each(items: &[String], format: impl Fn(usize, &String) -> String) -> String {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| format(index, item))
        .collect()
}
