//! The published tables as records.
//! In: an engine that knows them by the names of the bundled project. Out: [`Evidence`]. Only `experiment_decisions` must be there; a
//! column that a page cannot do without is missed by name.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::diagnostics::{Code, Diagnostic};
use crate::engine::Engine;

/// Everything that the pages show.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub decisions: Vec<Decision>,
    pub results: Vec<Outcome>,
    pub sample_ratios: Vec<SampleRatio>,
    pub steps: Vec<Step>,
    /// By key.
    pub experiments: BTreeMap<String, Definition>,
    /// By name.
    pub metrics: BTreeMap<String, Metric>,
    /// In the order of days, by the name of the metric.
    pub days: BTreeMap<String, Vec<Day>>,
}

/// A row of `experiment_decisions`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    pub experiment_key: String,
    pub decision: String,
    pub reasons: Vec<String>,
    pub primary_metric: Option<String>,
    pub p_value: Option<f64>,
    pub lift: Option<f64>,
    pub lift_low: Option<f64>,
    pub lift_high: Option<f64>,
    pub units: Option<i64>,
    pub analysed_units: Option<i64>,
    pub owner: Option<String>,
}

/// A row of `experiment_results`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    pub experiment_key: String,
    pub metric_name: String,
    pub metric_version: Option<String>,
    pub variant: String,
    pub segment_dimension: String,
    pub segment: String,
    pub role: String,
    pub kind: Option<String>,
    pub direction: Option<String>,
    pub margin: Option<f64>,
    pub control_units: Option<i64>,
    pub treatment_units: Option<i64>,
    pub control_value: Option<f64>,
    pub treatment_value: Option<f64>,
    pub is_adjusted: Option<bool>,
    pub effect: Option<f64>,
    pub effect_low: Option<f64>,
    pub effect_high: Option<f64>,
    pub p_value: Option<f64>,
    pub lift: Option<f64>,
    pub lift_low: Option<f64>,
    pub lift_high: Option<f64>,
    pub status: Option<String>,
    pub detectable_lift: Option<f64>,
}

/// A row of `sample_ratio_checks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleRatio {
    pub experiment_key: String,
    pub population: String,
    pub variants: Vec<String>,
    pub shares: Vec<f64>,
    pub units: Vec<f64>,
    pub p_value: Option<f64>,
    pub verdict: String,
    pub is_decisive: bool,
}

/// A row of `experiment_health`: units that a step left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    pub experiment_key: String,
    pub step: String,
    pub units: i64,
    pub units_left: i64,
}

/// A row of `dim_experiments`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    pub experiment_key: String,
    pub hypothesis: Option<String>,
    pub owner: Option<String>,
    pub unit: Option<String>,
    pub control_variant: Option<String>,
    pub flag_key: Option<String>,
    pub starts_at: Option<String>,
    pub ends_at: Option<String>,
    pub alpha: Option<f64>,
}

/// A row of `dim_metrics`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metric {
    pub metric_name: String,
    pub label: Option<String>,
    pub description: Option<String>,
    pub kind: Option<String>,
    pub direction: Option<String>,
    pub tier: Option<String>,
    pub owner: Option<String>,
    pub version: Option<String>,
    pub window_start: Option<String>,
    pub window_length: Option<String>,
}

/// A row of `metric_daily`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Day {
    pub metric_name: String,
    pub metric_date: String,
    pub value: Option<f64>,
    pub numerator: Option<f64>,
    pub denominator: Option<f64>,
}

impl Day {
    /// As the table has it, or as its parts give it.
    pub fn value(&self) -> Option<f64> {
        let quotient = || match (self.numerator, self.denominator) {
            (Some(numerator), Some(denominator)) if denominator != 0.0 => {
                Some(numerator / denominator)
            }
            _ => None,
        };
        self.value.or_else(quotient)
    }
}

/// Why there are no pages.
#[derive(Debug)]
pub enum ReportError {
    /// `experiment_decisions` is not published.
    NoDecisions,
    NoColumn {
        table: &'static str,
        column: &'static str,
    },
    Unreadable {
        table: &'static str,
        cause: anyhow::Error,
    },
}

impl ReportError {
    /// The relation that it is about.
    pub fn table(&self) -> &'static str {
        match self {
            ReportError::NoDecisions => DECISIONS.name,
            ReportError::NoColumn { table, .. } | ReportError::Unreadable { table, .. } => table,
        }
    }

    /// For people; the place is the caller's to add.
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            ReportError::NoDecisions => Diagnostic::error(
                Code::E0803,
                "`experiment_decisions`, which a report is made of, is not published",
            )
            .hint("`equipoise build` publishes it where a model of that name calls the macro `experiment_decisions`"),
            ReportError::NoColumn { table, column } => Diagnostic::error(
                Code::E0406,
                format!("`{table}` has no column `{column}`, which the report shows"),
            )
            .hint("the macros of the standard library make all columns that are shown"),
            ReportError::Unreadable { table, cause } => {
                Diagnostic::error(Code::E0801, format!("`{table}` cannot be read: {cause:#}"))
            }
        }
    }
}

/// A table, the columns that a page cannot do without, and those that it shows where they are there: names, and SQL's types.
struct Table {
    name: &'static str,
    required: &'static [(&'static str, &'static str)],
    optional: &'static [(&'static str, &'static str)],
    rest: &'static str,
}

/// A list, which is taken as it is.
const LIST: &str = "";

const DECISIONS: Table = Table {
    name: "experiment_decisions",
    required: &[
        ("experiment_key", "varchar"),
        ("decision", "varchar"),
        ("reasons", LIST),
    ],
    optional: &[
        ("primary_metric", "varchar"),
        ("p_value", "double"),
        ("lift", "double"),
        ("lift_low", "double"),
        ("lift_high", "double"),
        ("units", "bigint"),
        ("analysed_units", "bigint"),
        ("owner", "varchar"),
    ],
    rest: "order by experiment_key",
};

/// Segments are shown of the metrics that decide.
const RESULTS: Table = Table {
    name: "experiment_results",
    required: &[
        ("experiment_key", "varchar"),
        ("metric_name", "varchar"),
        ("variant", "varchar"),
        ("segment_dimension", "varchar"),
        ("segment", "varchar"),
        ("role", "varchar"),
        ("lift", "double"),
        ("lift_low", "double"),
        ("lift_high", "double"),
        ("p_value", "double"),
    ],
    optional: &[
        ("metric_version", "varchar"),
        ("kind", "varchar"),
        ("direction", "varchar"),
        ("margin", "double"),
        ("control_units", "bigint"),
        ("treatment_units", "bigint"),
        ("control_value", "double"),
        ("treatment_value", "double"),
        ("is_adjusted", "boolean"),
        ("effect", "double"),
        ("effect_low", "double"),
        ("effect_high", "double"),
        ("status", "varchar"),
        ("detectable_lift", "double"),
    ],
    rest: "where segment_dimension = 'all' or role in ('primary', 'guardrail')
        order by
            experiment_key,
            case role when 'primary' then 1 when 'guardrail' then 2 when 'secondary' then 3 else 4 end,
            metric_name, variant, segment_dimension, segment",
};

const SAMPLE_RATIOS: Table = Table {
    name: "sample_ratio_checks",
    required: &[
        ("experiment_key", "varchar"),
        ("population", "varchar"),
        ("variants", LIST),
        ("shares", LIST),
        ("units", LIST),
        ("p_value", "double"),
        ("verdict", "varchar"),
    ],
    optional: &[("is_decisive", "boolean")],
    rest: "order by experiment_key, is_decisive desc, population",
};

const STEPS: Table = Table {
    name: "experiment_health",
    required: &[
        ("experiment_key", "varchar"),
        ("step_number", "bigint"),
        ("step", "varchar"),
        ("units", "bigint"),
        ("units_left", "bigint"),
    ],
    optional: &[],
    rest: "order by experiment_key, step_number",
};

const EXPERIMENTS: Table = Table {
    name: "dim_experiments",
    required: &[("experiment_key", "varchar")],
    optional: &[
        ("hypothesis", "varchar"),
        ("owner", "varchar"),
        ("unit", "varchar"),
        ("control_variant", "varchar"),
        ("flag_key", "varchar"),
        ("starts_at", "varchar"),
        ("ends_at", "varchar"),
        ("alpha", "double"),
    ],
    rest: "order by experiment_key",
};

const METRICS: Table = Table {
    name: "dim_metrics",
    required: &[("metric_name", "varchar")],
    optional: &[
        ("label", "varchar"),
        ("description", "varchar"),
        ("kind", "varchar"),
        ("direction", "varchar"),
        ("tier", "varchar"),
        ("owner", "varchar"),
        ("version", "varchar"),
        ("window_start", "varchar"),
        ("window_length", "varchar"),
    ],
    rest: "order by metric_name",
};

const DAYS: Table = Table {
    name: "metric_daily",
    required: &[("metric_name", "varchar"), ("metric_date", "varchar")],
    optional: &[
        ("value", "double"),
        ("numerator", "double"),
        ("denominator", "double"),
    ],
    rest: "order by metric_name, metric_date",
};

/// Reads what is published; `is_published` says which relations are.
pub async fn read(
    engine: &Engine,
    is_published: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Evidence, ReportError> {
    if !is_published(DECISIONS.name) {
        return Err(ReportError::NoDecisions);
    }
    let reader = Reader {
        engine,
        is_published,
    };
    let experiments: Vec<Definition> = reader.rows(&EXPERIMENTS).await?;
    let metrics: Vec<Metric> = reader.rows(&METRICS).await?;
    let mut days: BTreeMap<String, Vec<Day>> = BTreeMap::new();
    for day in reader.rows::<Day>(&DAYS).await? {
        days.entry(day.metric_name.clone()).or_default().push(day);
    }
    let by_key = |row: Definition| (row.experiment_key.clone(), row);
    let by_name = |row: Metric| (row.metric_name.clone(), row);
    Ok(Evidence {
        decisions: reader.rows(&DECISIONS).await?,
        results: reader.rows(&RESULTS).await?,
        sample_ratios: reader.rows(&SAMPLE_RATIOS).await?,
        steps: reader.rows(&STEPS).await?,
        experiments: experiments.into_iter().map(by_key).collect(),
        metrics: metrics.into_iter().map(by_name).collect(),
        days,
    })
}

struct Reader<'a> {
    engine: &'a Engine,
    is_published: &'a (dyn Fn(&str) -> bool + Sync),
}

impl Reader<'_> {
    /// All rows; none of a table that is not there.
    async fn rows<T: DeserializeOwned>(&self, table: &Table) -> Result<Vec<T>, ReportError> {
        if !(self.is_published)(table.name) {
            return Ok(Vec::new());
        }
        let unreadable = |cause: anyhow::Error| ReportError::Unreadable {
            table: table.name,
            cause,
        };
        let empty = format!("select * from {} limit 0", table.name);
        let there = self.engine.rows(&empty, None).await;
        let there = there.map_err(|error| unreadable(error.into()))?;
        let query = query(table, &there.columns())?;
        let rows = self.engine.rows(&query, None).await;
        let lines = rows
            .and_then(|rows| rows.json_lines())
            .map_err(|error| unreadable(error.into()))?;
        let parsed = lines.lines().map(serde_json::from_str);
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(error.into()))
    }
}

/// The columns of a table as the types that records have.
fn query(table: &Table, there: &[&str]) -> Result<String, ReportError> {
    let missed = table
        .required
        .iter()
        .find(|(name, _)| !there.contains(name));
    if let Some((column, _)) = missed {
        return Err(ReportError::NoColumn {
            table: table.name,
            column,
        });
    }
    let columns = table.required.iter().chain(table.optional);
    let columns = columns.map(|(name, kind)| match (there.contains(name), *kind) {
        (true, LIST) => name.to_string(),
        (true, kind) => format!("cast({name} as {kind}) as {name}"),
        (false, kind) => format!("cast(null as {kind}) as {name}"),
    });
    Ok(format!(
        "with shown as (select {} from {}) select * from shown {}",
        columns.collect::<Vec<_>>().join(", "),
        table.name,
        table.rest
    ))
}

impl Evidence {
    /// What people call a metric.
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        let metric = self.metrics.get(name);
        metric
            .and_then(|metric| metric.label.as_deref())
            .unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_record_is_asked_for() {
        fn assert_is_asked_for(table: &Table, record: impl Serialize) {
            let record = serde_json::to_value(record).expect("a record is JSON");
            for field in record.as_object().expect("a record has fields").keys() {
                let mut columns = table.required.iter().chain(table.optional);
                assert!(
                    columns.any(|(name, _)| name == field),
                    "{}.{field}",
                    table.name
                );
            }
        }
        assert_is_asked_for(&DECISIONS, Decision::default());
        assert_is_asked_for(&RESULTS, Outcome::default());
        assert_is_asked_for(&SAMPLE_RATIOS, SampleRatio::default());
        assert_is_asked_for(&STEPS, Step::default());
        assert_is_asked_for(&EXPERIMENTS, Definition::default());
        assert_is_asked_for(&METRICS, Metric::default());
        assert_is_asked_for(&DAYS, Day::default());
    }
}
