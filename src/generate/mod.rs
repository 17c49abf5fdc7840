//! A deterministic online shop: raw logs, definitions and the truth about them.
//! In: [`GenerateOptions`]. Out: files below `out` — users, assignments, exposures, events, conversions (CSV or Parquet), experiment,
//! metric and flag YAML, the lock of the flags, and `truth.json` with every true effect and the right decision. The same options
//! give the same bytes on any machine and any number of threads. Memory holds two bytes per unit and layer and as many days as
//! there are threads.

mod behaviour;
mod definitions;
mod files;
mod population;
mod random;
mod scenario;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chrono::{Datelike, NaiveDate};

/// Writes everything and says how much it was.
pub fn generate(options: &GenerateOptions) -> Result<Generated> {
    check(options)?;
    let scenario = scenario::scenario(options);
    fs::create_dir_all(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    for (path, text) in definitions::definitions(options, &scenario) {
        let path = options.out.join(path);
        fs::create_dir_all(
            path.parent()
                .expect("a definition lies below the output folder"),
        )?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let population = population::populate(options, &scenario);
    files::write_logs(&population)
}

#[derive(Clone, Debug)]
pub struct GenerateOptions {
    pub seed: u64,
    pub users: u32,
    pub days: u16,
    /// The first eight are named and each prove one decision; further ones are drawn.
    pub experiments: u16,
    pub first_day: NaiveDate,
    pub format: FileFormat,
    pub split: FileSplit,
    pub unit_ids: UnitIds,
    /// Scales the volume of the clickstream without changing any effect.
    pub page_views_per_session: f64,
    pub threads: usize,
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Parquet,
}

/// One file per table, or a folder per table with a file per day of receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSplit {
    Whole,
    Daily,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitIds {
    /// `u000123`
    Short,
    /// Sparse 62-bit integers.
    Integer,
    Uuid,
}

/// Rows written per table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    pub users: u64,
    pub assignments: u64,
    pub exposures: u64,
    pub events: u64,
    pub conversions: u64,
}

impl Default for GenerateOptions {
    fn default() -> GenerateOptions {
        GenerateOptions {
            seed: 8,
            users: 6_000,
            days: 42,
            experiments: 8,
            first_day: NaiveDate::from_ymd_opt(2026, 3, 2).expect("a day of the calendar"),
            format: FileFormat::Csv,
            split: FileSplit::Whole,
            unit_ids: UnitIds::Short,
            page_views_per_session: 0.3,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            out: PathBuf::from("generated"),
        }
    }
}

impl GenerateOptions {
    /// The days before it are the pre-period: a third of all days.
    fn first_experiment_day(&self) -> u16 {
        self.days / 3
    }

    /// Days since 1970.
    fn first_day_number(&self) -> i64 {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day of the calendar");
        self.first_day.signed_duration_since(epoch).num_days()
    }
}

/// Whether there is such a shop.
pub fn check(options: &GenerateOptions) -> Result<()> {
    ensure!(options.users > 0, "--users must be at least 1");
    ensure!(
        (12..=1_000).contains(&options.days),
        "--days must lie between 12 and 1000, not {}",
        options.days
    );
    ensure!(
        (1..=2_000).contains(&options.experiments),
        "--experiments must lie between 1 and 2000, not {}",
        options.experiments
    );
    let views = options.page_views_per_session;
    ensure!(
        (0.0..=1_000.0).contains(&views),
        "page views per session must lie between 0 and 1000, not {views}"
    );
    let year = options.first_day.year();
    ensure!(
        (1971..=9_000).contains(&year),
        "the first day must lie between the years 1971 and 9000, not in {year}"
    );
    Ok(())
}
