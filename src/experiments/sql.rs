//! The SQL that experiments become: their units, and their definitions as tables.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::experiment::{Exclusion, Experiment, Experiments};
use super::pin::{Pin, Used};
use crate::flags::HOLDOUT_VARIANT;
use crate::manifest::identifier;
use crate::metrics::Metrics;

/// One row per experiment and unit: its first assignment, and why it is left out if it is.
///
/// The assignment models have the columns `experiment_key`, `unit_id`, `variant`, `assigned_at`, an `is_<name>` for each
/// exclusion that the experiment names, and its segments.
pub fn units(experiments: &Experiments) -> String {
    let columns = extra_columns(experiments);
    let logs = logs(experiments, &columns);
    if logs.is_empty() {
        return "(select '' as experiment_key, '' as unit_id, '' as variant, cast(null as timestamp) as assigned_at, cast(0 as bigint) as n_assignments, \
                cast(0 as bigint) as n_variants, cast(null as timestamp) as period_starts_at, cast(null as timestamp) as measured_until, \
                '' as exclusion, true as is_analysed where false)"
            .to_string();
    }
    let extras =
        |format: &dyn Fn(&Extra) -> String| columns.iter().map(format).collect::<Vec<_>>().join("");
    let of_variant = extras(&|column| match column {
        Extra::Flag(name) => format!(",\n            bool_or({0}) as {0}", flag(name)),
        Extra::Segment(name) => format!(
            ",\n            first_value({0} order by assigned_at, {0}) as {0}",
            identifier(name)
        ),
    });
    let of_unit = extras(&|column| match column {
        Extra::Flag(name) => format!(",\n            bool_or({0}) as {0}", flag(name)),
        Extra::Segment(name) => format!(
            ",\n            first_value({0} order by assigned_at, variant) as {0}",
            identifier(name)
        ),
    });
    let segments = extras(&|column| match column {
        Extra::Segment(name) => format!(",\n        {}", identifier(name)),
        Extra::Flag(_) => String::new(),
    });
    format!(
        "(
    with assignment_log as (
{}
    ),

    periods as (
        select * from {periods} as periods
    ),

    known_variants as (
        select * from {variants} as known_variants
    ),

    -- Variants first, so that counting them is a plain count: distinct counts of a million units would take gigabytes.
    assigned_variants as (
        select
            experiment_key,
            unit_id,
            variant,
            min(assigned_at) as assigned_at,
            count(*) as n_assignments{of_variant}
        from assignment_log
        group by experiment_key, unit_id, variant
    ),

    first_assignments as (
        select
            experiment_key,
            unit_id,
            first_value(variant order by assigned_at, variant) as variant,
            min(assigned_at) as assigned_at,
            cast(sum(n_assignments) as bigint) as n_assignments,
            count(variant) filter (where variant <> '{HOLDOUT_VARIANT}') as n_variants{of_unit}
        from assigned_variants
        group by experiment_key, unit_id
    ),

    judged as (
        select
            first_assignments.*,
            periods.period_starts_at,
            periods.measured_until,
            case
{}
            end as exclusion
        from first_assignments
        inner join periods on periods.experiment_key = first_assignments.experiment_key
        left join known_variants
            on known_variants.experiment_key = first_assignments.experiment_key
            and known_variants.variant = first_assignments.variant
    )

    select
        experiment_key,
        unit_id,
        variant,
        assigned_at,
        n_assignments,
        n_variants,
        period_starts_at,
        measured_until,
        exclusion,
        exclusion is null as is_analysed{segments}
    from judged
)",
        logs.join("\n        union all\n"),
        exclusions(experiments),
        periods = periods(experiments),
        variants = variants(experiments),
    )
}

/// A column beside those that every assignment has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Extra {
    /// By the name of the exclusion.
    Flag(String),
    Segment(String),
}

/// What an exclusion's column is called on the way: `is_bot` may be a segment too, with a value of each variant's own.
fn flag(exclusion: &str) -> String {
    identifier(&format!("excluded as {exclusion}"))
}

fn extra_columns(experiments: &Experiments) -> Vec<Extra> {
    let flags = experiments
        .iter()
        .flat_map(|experiment| experiment.exclusions.iter())
        .filter_map(|exclusion| match exclusion {
            Exclusion::Column(name) => Some(Extra::Flag(name.clone())),
            Exclusion::CrossedOver => None,
        });
    let segments = experiments
        .iter()
        .flat_map(|experiment| experiment.segments.iter().cloned().map(Extra::Segment));
    flags
        .chain(segments)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// One query per model of assignments, and per choice of its columns: hundreds of experiments share one.
fn logs(experiments: &Experiments, columns: &[Extra]) -> Vec<String> {
    let mut alike: BTreeMap<(&str, Vec<bool>), Vec<&Experiment>> = BTreeMap::new();
    for experiment in experiments.iter() {
        let has = columns.iter().map(|column| has(experiment, column));
        let key = (experiment.assignment_model.as_str(), has.collect());
        alike.entry(key).or_default().push(experiment);
    }
    alike
        .into_iter()
        .map(|((model, has), experiments)| log(model, columns.iter().zip(has), &experiments))
        .collect()
}

/// Whether an experiment asks for a column of its assignments.
fn has(experiment: &Experiment, column: &Extra) -> bool {
    match column {
        Extra::Flag(name) => experiment
            .exclusions
            .iter()
            .any(|exclusion| matches!(exclusion, Exclusion::Column(own) if name == own)),
        Extra::Segment(name) => experiment.segments.contains(name),
    }
}

fn log<'a>(
    model: &str,
    columns: impl Iterator<Item = (&'a Extra, bool)>,
    experiments: &[&Experiment],
) -> String {
    let extras: String = columns
        .map(|(column, has)| {
            let (own, cast, name) = match column {
                Extra::Flag(name) => (identifier(&format!("is_{name}")), "boolean", flag(name)),
                Extra::Segment(name) => (identifier(name), "varchar", identifier(name)),
            };
            let value = if has { &own } else { "null" };
            format!(", cast({value} as {cast}) as {name}")
        })
        .collect();
    let keys: Vec<String> = experiments
        .iter()
        .map(|experiment| quoted(&experiment.key))
        .collect();
    format!(
        "        select experiment_key, unit_id, cast(variant as varchar) as variant, assigned_at{extras}\n        from {}\n        where experiment_key in ({}) and unit_id is not null",
        identifier(model),
        keys.join(", "),
    )
}

/// One row per experiment: when it runs, and until when its events are measured.
fn periods(experiments: &Experiments) -> String {
    let rows = experiments.iter().map(|experiment| {
        let (ends_at, measured_until) = match experiment.until {
            Some(until) => {
                let grace = chrono::Duration::seconds(experiment.grace.seconds);
                (timestamp(until), timestamp((until + grace).min(LAST)))
            }
            None => (timestamp(LAST), timestamp(LAST)),
        };
        vec![
            quoted(&experiment.key),
            timestamp(experiment.from),
            ends_at,
            measured_until,
        ]
    });
    table(
        &[
            "experiment_key",
            "period_starts_at",
            "period_ends_at",
            "measured_until",
        ],
        &["varchar", "timestamp", "timestamp", "timestamp"],
        rows.collect(),
    )
}

/// One row per experiment and variant.
fn variants(experiments: &Experiments) -> String {
    let rows = experiments.iter().flat_map(|experiment| {
        let key = quoted(&experiment.key);
        let variants = experiment.variants.iter();
        variants.map(move |variant| vec![key.clone(), quoted(&variant.name)])
    });
    table(
        &["experiment_key", "variant"],
        &["varchar", "varchar"],
        rows.collect(),
    )
}

/// The first reason that holds, in the order of the experiment's own policy.
fn exclusions(experiments: &Experiments) -> String {
    // Who was held out first is in no arm, whatever came later; who was held out later keeps the arm.
    let mut lines = vec![
        format!(
            "                when first_assignments.variant = '{HOLDOUT_VARIANT}' then 'holdout'"
        ),
        "                when known_variants.variant is null then 'unknown_variant'".to_string(),
    ];
    let mut policies: Vec<&[Exclusion]> = Vec::new();
    for experiment in experiments.iter() {
        if !policies.contains(&&*experiment.exclusions) {
            policies.push(&experiment.exclusions);
        }
    }
    for policy in &policies {
        // No condition where all have the same.
        let concerned = match policies.len() {
            1 => String::new(),
            _ => those_with(experiments, policy),
        };
        for exclusion in *policy {
            let (condition, name) = match exclusion {
                Exclusion::CrossedOver => ("n_variants > 1".to_string(), "crossed_over"),
                Exclusion::Column(name) => (flag(name), &**name),
            };
            lines.push(format!(
                "                when {concerned}{condition} then '{}'",
                text(name)
            ));
        }
    }
    lines.push("                when assigned_at is null or assigned_at < periods.period_starts_at or assigned_at >= periods.period_ends_at then 'outside_period'".to_string());
    lines.join("\n")
}

/// The condition for the experiments that have a policy.
fn those_with(experiments: &Experiments, policy: &[Exclusion]) -> String {
    let keys: Vec<String> = experiments
        .iter()
        .filter(|experiment| experiment.exclusions == policy)
        .map(|experiment| quoted(&experiment.key))
        .collect();
    format!(
        "first_assignments.experiment_key in ({}) and ",
        keys.join(", ")
    )
}

/// One row per experiment.
pub fn experiment_definitions(experiments: &Experiments) -> String {
    let rows = experiments.iter().map(|experiment| {
        vec![
            quoted(&experiment.key),
            quoted(&experiment.hypothesis),
            quoted(&experiment.owner),
            quoted(&experiment.unit),
            quoted(&experiment.control),
            experiment
                .flag
                .as_ref()
                .map_or("cast(null as varchar)".to_string(), |flag| quoted(flag)),
            timestamp(experiment.from),
            experiment
                .until
                .map_or("cast(null as timestamp)".to_string(), timestamp),
            quoted(&experiment.primary),
            format!("{:?}", experiment.alpha),
            format!("{:?}", experiment.crossover_limit),
        ]
    });
    table(
        &[
            "experiment_key",
            "hypothesis",
            "owner",
            "unit",
            "control_variant",
            "flag_key",
            "starts_at",
            "ends_at",
            "primary_metric",
            "alpha",
            "crossover_limit",
        ],
        &[
            "varchar",
            "varchar",
            "varchar",
            "varchar",
            "varchar",
            "varchar",
            "timestamp",
            "timestamp",
            "varchar",
            "double",
            "double",
        ],
        rows.collect(),
    )
}

/// One row per experiment and variant.
pub fn variant_definitions(experiments: &Experiments) -> String {
    let rows = experiments.iter().flat_map(|experiment| {
        experiment.variants.iter().map(|variant| {
            let is_control = (variant.name == experiment.control).to_string();
            vec![
                quoted(&experiment.key),
                quoted(&variant.name),
                format!("{:?}", variant.share),
                is_control,
            ]
        })
    });
    table(
        &["experiment_key", "variant", "share", "is_control"],
        &["varchar", "varchar", "double", "boolean"],
        rows.collect(),
    )
}

/// One row per metric.
pub fn metric_definitions(metrics: &Metrics) -> String {
    let null = |kind: &str| format!("cast(null as {kind})");
    let optional = |text: Option<String>| text.map_or(null("varchar"), |text| quoted(&text));
    let rows = metrics.iter().map(|metric| {
        let facts: BTreeSet<&str> = metric
            .kind
            .measures()
            .iter()
            .map(|measure| measure.fact.as_str())
            .collect();
        vec![
            quoted(&metric.name),
            quoted(&metric.label),
            quoted(&metric.description),
            quoted(metric.kind.word()),
            quoted(metric.direction.word()),
            quoted(metric.tier.word()),
            optional(metric.area.clone()),
            quoted(&metric.owner),
            optional(metric.team.clone()),
            quoted(&metric.approvers.join(", ")),
            quoted(&metric.version),
            quoted(&metric.drives.join(", ")),
            quoted(&facts.into_iter().collect::<Vec<_>>().join(", ")),
            quoted(metric.fill.word()),
            quoted(&metric.window.start.to_string()),
            optional(metric.window.length.map(|length| length.to_string())),
            quoted(metric.maturity.word()),
            metric.covariate.is_some().to_string(),
            metric.is_analysed().to_string(),
            optional(metric.sla.freshness.map(|age| age.to_string())),
            metric
                .sla
                .completeness
                .map_or(null("double"), |share| format!("{share:?}")),
        ]
    });
    let columns = [
        ("metric_name", "varchar"),
        ("label", "varchar"),
        ("description", "varchar"),
        ("kind", "varchar"),
        ("direction", "varchar"),
        ("tier", "varchar"),
        ("area", "varchar"),
        ("owner", "varchar"),
        ("team", "varchar"),
        ("approvers", "varchar"),
        ("version", "varchar"),
        ("drives", "varchar"),
        ("facts", "varchar"),
        ("fill", "varchar"),
        ("window_start", "varchar"),
        ("window_length", "varchar"),
        ("maturity", "varchar"),
        ("has_covariate", "boolean"),
        ("is_analysed", "boolean"),
        ("sla_freshness", "varchar"),
        ("sla_completeness", "double"),
    ];
    let (names, types): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
    table(&names, &types, rows.collect())
}

/// One row per experiment and version of a metric that it looks at.
pub fn experiment_metrics(experiments: &Experiments, metrics: &Metrics, pins: &[Pin]) -> String {
    let rows = experiments.iter().flat_map(|experiment| {
        let row = |used: Used<'_>| {
            let margin = used
                .margin
                .map_or("cast(null as double)".to_string(), |margin| {
                    format!("{margin:?}")
                });
            vec![
                quoted(&experiment.key),
                quoted(used.metric.plain_name()),
                quoted(&used.metric.version),
                quoted(used.role.word()),
                margin,
                used.is_decisive.to_string(),
                quoted(used.metric.kind.word()),
                quoted(used.metric.direction.word()),
                used.metric.covariate.is_some().to_string(),
            ]
        };
        let used = experiment.used(metrics, pins).into_iter();
        used.map(row).collect::<Vec<_>>()
    });
    let columns = [
        ("experiment_key", "varchar"),
        ("metric_name", "varchar"),
        ("metric_version", "varchar"),
        ("role", "varchar"),
        ("margin", "double"),
        ("is_decisive", "boolean"),
        ("kind", "varchar"),
        ("direction", "varchar"),
        ("has_covariate", "boolean"),
    ];
    let (names, types): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
    table(&names, &types, rows.collect())
}

/// `(select ... union all ...)` with typed columns, also when there are no rows.
pub(crate) fn table(names: &[&str], types: &[&str], rows: Vec<Vec<String>>) -> String {
    let empty: Vec<String> = names
        .iter()
        .zip(types)
        .map(|(name, kind)| format!("cast(null as {kind}) as {name}"))
        .collect();
    if rows.is_empty() {
        return format!("(select {} where false)", empty.join(", "));
    }
    let casts: Vec<String> = names
        .iter()
        .zip(types)
        .enumerate()
        .map(|(at, (name, kind))| format!("cast(column{} as {kind}) as {name}", at + 1))
        .collect();
    let casts = casts.join(", ");
    let is_long = rows.len() > MOST_VALUES;
    if let (true, Some(rows)) = (is_long, rows.iter().map(|row| plain(row)).collect()) {
        let rows: Vec<Vec<Option<String>>> = rows;
        let json = serde_json::to_string(&rows).expect("texts are JSON");
        let json = json.replace('\'', "''");
        return format!(
            "(\n    select {casts}\n    from definition_rows('{json}') as definitions\n)"
        );
    }
    let rows: Vec<String> = rows
        .into_iter()
        .map(|row| format!("        ({})", row.join(", ")))
        .collect();
    format!(
        "(\n    select {}\n    from (values\n{}\n    ) as definitions\n)",
        casts,
        rows.join(",\n")
    )
}

/// Rows up to which `values` are written, which people read more easily and the planner more slowly.
const MOST_VALUES: usize = 500;

/// The texts of a row's literals, which its casts give their types again; none where a cell is more than a literal.
fn plain(row: &[String]) -> Option<Vec<Option<String>>> {
    let text = |cell: &String| {
        let cell = cell.strip_prefix("timestamp ").unwrap_or(cell);
        let inside = cell
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''));
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        match inside {
            Some(text) => Some(Some(text.replace("''", "'"))),
            None if cell == "null" || cell.starts_with("cast(null as ") => Some(None),
            None if cell.chars().all(is_word) => Some(Some(cell.to_owned())),
            None => None,
        }
    };
    row.iter().map(text).collect()
}

/// A timestamp of SQL counts nanoseconds in 64 bits, which end in April.
const LAST: NaiveDateTime = NaiveDate::from_ymd_opt(2262, 1, 1)
    .expect("a day")
    .and_time(NaiveTime::MIN);

fn timestamp(instant: NaiveDateTime) -> String {
    format!("timestamp '{}'", instant.format("%Y-%m-%d %H:%M:%S%.f"))
}

fn quoted(value: &str) -> String {
    format!("'{}'", text(value))
}

fn text(value: &str) -> String {
    value.replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::{MOST_VALUES, table};

    #[test]
    fn many_rows_are_one_text_unless_a_cell_is_an_expression() {
        let row = |name: &str| {
            vec![
                format!("'{name}'"),
                "cast(null as double)".to_owned(),
                "-1.5e-7".to_owned(),
            ]
        };
        let names = ["name", "margin", "alpha"];
        let types = ["varchar", "double", "double"];
        let few = table(&names, &types, vec![row("it''s"); MOST_VALUES]);
        assert!(
            few.contains("(values") && few.contains("('it''s', cast(null as double), -1.5e-7)")
        );
        let many = table(&names, &types, vec![row("it''s"); MOST_VALUES + 1]);
        assert!(
            many.contains(r#"from definition_rows('[["it''s",null,"-1.5e-7"],"#),
            "{many}"
        );
        let mut computed = vec![row("one"); MOST_VALUES + 1];
        computed[3][2] = "1 + 1".to_owned();
        assert!(table(&names, &types, computed).contains("(values"));
    }
}
