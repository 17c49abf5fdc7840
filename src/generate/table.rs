//! The four logs and the table of users as columns, and as CSV.
//! In: rows of a [`DayLog`](super::behaviour::DayLog). Out: [`Column`]s under fixed names. Files are opened elsewhere.

use std::io::{self, Write};

use chrono::DateTime;

use super::behaviour::{AssignmentRow, ConversionRow, DAY, EVENT_NAMES, EventRow, Logged};
use super::population::{ALGORITHM, COUNTRIES, PLANS, PLATFORMS, Population, unit_integer};
use super::{GenerateOptions, UnitIds};
use crate::engine::columns::{Column, Text};

/// A raw table: its name and what each column is called.
pub struct Layout {
    pub name: &'static str,
    pub columns: &'static [&'static str],
}

pub const USERS: Layout = Layout {
    name: "users",
    columns: &[
        "user_id",
        "country",
        "platform",
        "plan",
        "signed_up_at",
        "is_internal",
        "is_bot",
    ],
};
pub const ASSIGNMENTS: Layout = Layout {
    name: "assignments",
    columns: &[
        "event_id",
        "flag_key",
        "experiment_key",
        "allocation_id",
        "algorithm",
        "salt",
        "layer_key",
        "layer_bucket",
        "bucket",
        "unit_id",
        "variant",
        "reason",
        "is_override",
        "occurred_at",
        "sent_at",
        "received_at",
    ],
};
pub const EXPOSURES: Layout = Layout {
    name: "exposures",
    columns: &[
        "event_id",
        "flag_key",
        "experiment_key",
        "allocation_id",
        "unit_id",
        "variant",
        "surface",
        "occurred_at",
        "sent_at",
        "received_at",
    ],
};
pub const EVENTS: Layout = Layout {
    name: "events",
    columns: &[
        "event_id",
        "event_name",
        "user_id",
        "session_id",
        "load_ms",
        "engaged_seconds",
        "is_success",
        "is_bot",
        "occurred_at",
        "sent_at",
        "received_at",
    ],
};
pub const CONVERSIONS: Layout = Layout {
    name: "conversions",
    columns: &[
        "event_id",
        "event_name",
        "order_id",
        "user_id",
        "session_id",
        "amount",
        "currency",
        "occurred_at",
        "sent_at",
        "received_at",
    ],
};

/// Turns rows into columns for one population.
pub struct Tables<'a> {
    pub population: &'a Population<'a>,
}

impl Tables<'_> {
    pub fn users(&self, users: std::ops::Range<u32>) -> Vec<Column> {
        let profiles: Vec<_> = users
            .clone()
            .map(|user| self.population.profile(user))
            .collect();
        let category = |codes: Vec<u16>, labels: &[&str]| categories(codes, labels);
        vec![
            self.units(users),
            category(
                profiles.iter().map(|p| u16::from(p.country)).collect(),
                &COUNTRIES,
            ),
            category(
                profiles.iter().map(|p| u16::from(p.platform)).collect(),
                &PLATFORMS,
            ),
            category(profiles.iter().map(|p| u16::from(p.plan)).collect(), &PLANS),
            self.times(profiles.iter().map(|p| p.signed_up_at * 1_000_000)),
            Column::Boolean(profiles.iter().map(|p| p.is_internal).collect()),
            Column::Boolean(profiles.iter().map(|p| p.is_bot).collect()),
        ]
    }

    pub fn assignments(&self, rows: &[AssignmentRow]) -> Vec<Column> {
        let scenario = self.population.scenario;
        let experiments: Vec<u16> = rows.iter().map(|row| row.experiment).collect();
        let per_experiment = |label: &dyn Fn(usize) -> String| {
            Column::Category(
                experiments.clone(),
                (0..scenario.experiments.len()).map(label).collect(),
            )
        };
        let layer_of = |index: usize| {
            scenario.layers[scenario.experiments[index].layer]
                .key
                .clone()
        };
        vec![
            event_ids('a', rows),
            per_experiment(&|index| scenario.experiments[index].key.clone()),
            per_experiment(&|index| scenario.experiments[index].key.clone()),
            self.allocation_ids(rows),
            constant(rows.len(), ALGORITHM.id()),
            per_experiment(&|index| scenario.experiments[index].allocations[0].salt.clone()),
            per_experiment(&layer_of),
            Column::Integer(rows.iter().map(|row| i64::from(row.layer_bucket)).collect()),
            Column::Integer(rows.iter().map(|row| i64::from(row.bucket)).collect()),
            self.units(rows.iter().map(|row| row.origin.user)),
            variants(rows),
            categories(
                rows.iter().map(|row| u16::from(row.is_override)).collect(),
                &["split", "override"],
            ),
            Column::Boolean(rows.iter().map(|row| row.is_override).collect()),
        ]
        .into_iter()
        .chain(self.log_times(rows))
        .collect()
    }

    pub fn exposures(&self, rows: &[AssignmentRow]) -> Vec<Column> {
        let experiments = &self.population.scenario.experiments;
        let codes: Vec<u16> = rows.iter().map(|row| row.experiment).collect();
        let keys: Vec<String> = experiments
            .iter()
            .map(|experiment| experiment.key.clone())
            .collect();
        let surfaces = experiments
            .iter()
            .map(|experiment| experiment.surface.to_owned())
            .collect();
        vec![
            event_ids('x', rows),
            Column::Category(codes.clone(), keys.clone()),
            Column::Category(codes.clone(), keys),
            self.allocation_ids(rows),
            self.units(rows.iter().map(|row| row.origin.user)),
            variants(rows),
            Column::Category(codes, surfaces),
        ]
        .into_iter()
        .chain(self.log_times(rows))
        .collect()
    }

    pub fn events(&self, rows: &[EventRow]) -> Vec<Column> {
        let measure = |name: &str| {
            let code = EVENT_NAMES
                .iter()
                .position(|&known| known == name)
                .expect("a name of the list");
            move |row: &EventRow| (usize::from(row.name) == code).then_some(row.measure)
        };
        vec![
            event_ids('e', rows),
            categories(
                rows.iter().map(|row| u16::from(row.name)).collect(),
                &EVENT_NAMES,
            ),
            self.units(rows.iter().map(|row| row.origin.user)),
            session_ids(rows.iter().map(|row| (row.origin, row.session))),
            Column::OptionalInteger(rows.iter().map(measure("page_load")).collect()),
            Column::OptionalInteger(rows.iter().map(measure("session_start")).collect()),
            Column::OptionalBoolean(
                rows.iter()
                    .map(measure("payment_visit"))
                    .map(|value| value.map(|v| v == 1))
                    .collect(),
            ),
            Column::Boolean(rows.iter().map(|row| row.is_bot).collect()),
        ]
        .into_iter()
        .chain(self.log_times(rows))
        .collect()
    }

    pub fn conversions(&self, rows: &[ConversionRow]) -> Vec<Column> {
        // A refund is logged right after its order and carries the order's number.
        let order = |row: &ConversionRow| {
            format!("o{}.{}.{}", row.origin.user, row.origin.day, row.session)
        };
        vec![
            event_ids('c', rows),
            categories(
                rows.iter().map(|row| u16::from(row.is_refund)).collect(),
                &["order", "refund"],
            ),
            Column::Text(rows.iter().map(order).collect()),
            self.units(rows.iter().map(|row| row.origin.user)),
            session_ids(rows.iter().map(|row| (row.origin, row.session))),
            Column::Number(rows.iter().map(|row| row.cents as f64 / 100.0).collect()),
            constant(rows.len(), "EUR"),
        ]
        .into_iter()
        .chain(self.log_times(rows))
        .collect()
    }

    fn units(&self, users: impl Iterator<Item = u32>) -> Column {
        let options: &GenerateOptions = self.population.options;
        match options.unit_ids {
            UnitIds::Integer => {
                Column::Integer(users.map(|user| unit_integer(options, user)).collect())
            }
            UnitIds::Short | UnitIds::Uuid => {
                Column::Text(users.map(|user| self.population.text_id(user)).collect())
            }
        }
    }

    fn allocation_ids(&self, rows: &[AssignmentRow]) -> Column {
        let allocation = |row: &AssignmentRow| {
            let experiment = &self.population.scenario.experiments[usize::from(row.experiment)];
            let in_force = experiment
                .allocations
                .iter()
                .rposition(|a| a.from_day <= row.origin.day);
            in_force.unwrap_or(0) as u16
        };
        categories(rows.iter().map(allocation).collect(), &["a1", "a2"])
    }

    fn log_times<R: Logged>(&self, rows: &[R]) -> [Column; 3] {
        [
            self.times(rows.iter().map(|row| row.times().occurred)),
            self.times(rows.iter().map(|row| row.times().sent)),
            self.times(rows.iter().map(|row| row.times().received)),
        ]
    }

    fn times(&self, since_first_day: impl Iterator<Item = i64>) -> Column {
        let origin = self.population.options.first_day_number() * DAY;
        Column::Time(since_first_day.map(|micros| origin + micros).collect())
    }
}

fn variants(rows: &[AssignmentRow]) -> Column {
    categories(
        rows.iter().map(|row| u16::from(row.variant)).collect(),
        &["control", "treatment"],
    )
}

fn categories(codes: Vec<u16>, labels: &[&str]) -> Column {
    Column::Category(
        codes,
        labels.iter().map(|&label| label.to_owned()).collect(),
    )
}

fn constant(length: usize, label: &str) -> Column {
    Column::Category(vec![0; length], vec![label.to_owned()])
}

fn event_ids<R: Logged>(prefix: char, rows: &[R]) -> Column {
    let id = |row: &R| {
        let origin = row.origin();
        format!("{prefix}{}.{}.{}", origin.user, origin.day, origin.number)
    };
    Column::Text(rows.iter().map(id).collect::<Text>())
}

fn session_ids(rows: impl Iterator<Item = (super::behaviour::Origin, u16)>) -> Column {
    Column::Text(
        rows.map(|(origin, session)| format!("s{}.{}.{session}", origin.user, origin.day))
            .collect(),
    )
}

/// Writes rows as CSV: no quotes are needed, since no value holds a comma, quote or line break.
pub fn write_csv(out: &mut dyn Write, columns: &[Column]) -> io::Result<()> {
    for row in 0..length(&columns[0]) {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.write_all(b",")?;
            }
            write_value(out, column, row)?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn length(column: &Column) -> usize {
    match column {
        Column::Text(text) => text.len(),
        Column::Category(codes, _) => codes.len(),
        Column::Integer(values) | Column::Time(values) => values.len(),
        Column::OptionalInteger(values) => values.len(),
        Column::OptionalBoolean(values) => values.len(),
        Column::Number(values) => values.len(),
        Column::Boolean(values) => values.len(),
    }
}

fn write_value(out: &mut dyn Write, column: &Column, row: usize) -> io::Result<()> {
    match column {
        Column::Text(text) => out.write_all(text.get(row).as_bytes()),
        Column::Category(codes, labels) => {
            out.write_all(labels[usize::from(codes[row])].as_bytes())
        }
        Column::Integer(values) => write!(out, "{}", values[row]),
        Column::OptionalInteger(values) => {
            values[row].map_or(Ok(()), |value| write!(out, "{value}"))
        }
        Column::OptionalBoolean(values) => {
            values[row].map_or(Ok(()), |value| write!(out, "{value}"))
        }
        Column::Number(values) => write!(out, "{:.2}", values[row]),
        Column::Boolean(values) => write!(out, "{}", values[row]),
        Column::Time(values) => write!(out, "{}", timestamp(values[row])),
    }
}

/// ISO 8601 in UTC with milliseconds.
fn timestamp(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros)
        .expect("a generated time lies within a few years of today");
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
