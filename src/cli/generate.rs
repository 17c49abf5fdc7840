//! `generate`: a made-up online shop with known true effects.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Exit;
use crate::generate::{FileFormat, GenerateOptions, generate};

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
    /// Folder to write to
    #[arg(long, default_value = "generated")]
    pub out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Csv,
    Parquet,
}

pub fn run(options: &Generate) -> anyhow::Result<Exit> {
    let format = match options.format {
        Format::Csv => FileFormat::Csv,
        Format::Parquet => FileFormat::Parquet,
    };
    let generated = generate(&GenerateOptions {
        seed: options.seed,
        users: options.users,
        days: options.days,
        experiments: options.experiments,
        format,
        out: options.out.clone(),
        ..GenerateOptions::default()
    })?;
    eprintln!("wrote {generated:?} to {}", options.out.display());
    Ok(Exit::Good)
}
