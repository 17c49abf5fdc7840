//! `generate`: a made-up online shop with known true effects.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::counted;
use super::{Common, Exit};
use crate::generate::{FileFormat, FileSplit, GenerateOptions, UnitIds, check, generate};

#[derive(Debug, Clone, Args)]
pub struct Generate {
    /// The same seed gives the same bytes on every machine
    #[arg(long, default_value_t = GenerateOptions::default().seed)]
    pub seed: u64,
    #[arg(long, default_value_t = GenerateOptions::default().users)]
    pub users: u32,
    #[arg(long, default_value_t = GenerateOptions::default().days)]
    pub days: u16,
    /// The first eight each prove one decision; further ones are drawn
    #[arg(long, default_value_t = GenerateOptions::default().experiments)]
    pub experiments: u16,
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    pub format: Format,
    /// One file per table, or a folder per table with a file per day of receipt
    #[arg(long, value_enum, default_value_t = Split::Whole)]
    pub split: Split,
    /// Ids of users as short texts, sparse 62-bit integers, or UUIDs
    #[arg(long, value_enum, default_value_t = Ids::Short)]
    pub unit_ids: Ids,
    /// Scales the volume of the clickstream without changing any effect
    #[arg(long, value_name = "NUMBER", default_value_t = GenerateOptions::default().page_views_per_session)]
    pub page_views_per_session: f64,
    /// Folder to write to
    #[arg(long, default_value = "generated")]
    pub out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Csv,
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Whole,
    Daily,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    Short,
    Integer,
    Uuid,
}

pub fn run(common: &Common, options: &Generate) -> anyhow::Result<Exit> {
    let format = match options.format {
        Format::Csv => FileFormat::Csv,
        Format::Parquet => FileFormat::Parquet,
    };
    let split = match options.split {
        Split::Whole => FileSplit::Whole,
        Split::Daily => FileSplit::Daily,
    };
    let unit_ids = match options.unit_ids {
        Ids::Short => UnitIds::Short,
        Ids::Integer => UnitIds::Integer,
        Ids::Uuid => UnitIds::Uuid,
    };
    let defaults = GenerateOptions::default();
    let shop = GenerateOptions {
        seed: options.seed,
        users: options.users,
        days: options.days,
        experiments: options.experiments,
        format,
        split,
        unit_ids,
        page_views_per_session: options.page_views_per_session,
        threads: common.threads.unwrap_or(defaults.threads).max(1),
        out: options.out.clone(),
        ..defaults
    };
    if let Err(wrong) = check(&shop) {
        tell!("error: {wrong}");
        return Ok(Exit::Wrong);
    }
    let made = generate(&shop)?;
    if !common.quiet {
        tell!(
            "wrote {}, {}, {}, {} and {} to {}",
            counted(made.users, "user"),
            counted(made.assignments, "assignment"),
            counted(made.exposures, "exposure"),
            counted(made.events, "event"),
            counted(made.conversions, "conversion"),
            options.out.display()
        );
    }
    Ok(Exit::Good)
}
