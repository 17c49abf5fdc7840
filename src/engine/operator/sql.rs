//! The oracle: the same plan as plain SQL, metric by metric.
//! In: a [`MetricPlan`]. Out: one query with the operator's columns. Slow and simple on purpose; cells without a unit have no row.

use super::lanes::SECOND;
use super::plan::{Aggregate, Maturity, Measure, MetricPlan, MetricStates};

pub fn sql(plan: &MetricPlan) -> String {
    let mut parts = Vec::new();
    for (index, metric) in plan.metrics.iter().enumerate() {
        for segment in &plan.segments {
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
planned (experiment_key, variant, position, starts, ends, excludes) as (values {planned}),
firsts as (
    select
        a.experiment_key, a.unit, min(a.at) as first_at, first_value(a.variant order by a.at, e.position) as variant,
        count(distinct a.variant) > 1 as is_crossed_over, bool_or(e.excludes) as excludes{firsts}
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
    for experiment in &plan.experiments {
        for (position, variant) in experiment.variants.iter().enumerate() {
            rows.push(format!(
                "({}, {}, {position}, cast('{}' as bigint), cast('{}' as bigint), {})",
                text(&experiment.key),
                text(variant),
                experiment.from,
                experiment.to,
                experiment.excludes_crossed_over
            ));
        }
    }
    rows.join(", ")
}

/// One row per experiment and unit with the metric's numbers v0, v1, ...
fn units(plan: &MetricPlan, metric: &MetricStates, index: usize) -> String {
    let (start, end) = window(metric);
    let mut numbers = Vec::new();
    for measure in metric.measures() {
        numbers.push(number(measure, start, end));
    }
    if let Some(lookback) = metric.lookback {
        metric
            .measures()
            .for_each(|measure| numbers.push(number(measure, -lookback * SECOND, 0)));
    }
    let numbers = each(&numbers, |position, number| {
        format!(", {number} as v{position}")
    });
    let segments = each(&plan.assignments.segments, |position, _| {
        format!(", f.segment_{position}")
    });
    let earliest = metric
        .lookback
        .map_or(start, |lookback| start.min(-lookback * SECOND));
    let is_mature = match metric.maturity {
        Maturity::FullWindow => format!("f.first_at + {end} <= {}", plan.complete_through),
        Maturity::Partial => "true".to_owned(),
    };
    format!(
        "units_{index} as (
    select f.experiment_key, f.unit, f.variant, f.is_crossed_over, {is_mature} and not (f.is_crossed_over and f.excludes) as counts{segments}{numbers}
    from firsts as f
    left join events as e on e.unit = f.unit and e.at >= f.first_at + {earliest} and e.at < f.first_at + {latest}
    group by f.experiment_key, f.unit, f.variant, f.is_crossed_over, f.excludes, f.first_at{segments}
)",
        latest = end.max(0),
    )
}

fn window(metric: &MetricStates) -> (i64, i64) {
    (
        metric.window_start * SECOND,
        (metric.window_start + metric.window_length) * SECOND,
    )
}

fn number(measure: &Measure, start: i64, end: i64) -> String {
    let inside = format!(
        "e.name = {} and e.at >= f.first_at + {start} and e.at < f.first_at + {end}",
        text(&measure.event)
    );
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
        Aggregate::Max => format!("greatest(coalesce(max({taken}), 0.0), 0.0)"),
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
        .map(|name| format!("coalesce(segment_{}, '(null)')", place(name)))
        .collect();
    let value = if values.is_empty() {
        "''".to_owned()
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
    experiment_key, variant, {name} as metric, {segment} as segment, segment_value,
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
        segment = text(&segment.join(" x ")),
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
