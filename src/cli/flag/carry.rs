//! `flag import` and `flag export`: the document goes to standard output, the report to standard error.
//! A flag that was left out makes the exit code 1, so that a script notices.

use std::path::Path;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde_json::{Value as Json, json};

use super::super::{Common, Exit, OutputFormat, output};
use super::wrong;
use crate::flags::FlagSet;
use crate::flags::export::{Exported, to_flagd, to_growthbook, to_openfeature_manifest, to_ufc};
use crate::flags::import::carry::{
    Imported, from_flagd, from_growthbook, from_openfeature_manifest, from_ufc, from_unleash,
};
use crate::flags::import::flagd::FractionalVersion;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ImportFormat {
    /// Features of the API: `{"features": {...}}`
    Growthbook,
    /// Universal Flag Configuration
    #[value(alias = "ufc")]
    Eppo,
    /// As evaluated with version 2 of `fractional` (flagd and its Go, Java and JavaScript providers)
    Flagd,
    /// As evaluated with version 3 of `fractional` (the Python package)
    #[value(name = "flagd-v3")]
    FlagdV3,
    /// State, as the client API gives it
    Unleash,
    /// Manifest of the OpenFeature CLI
    Openfeature,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExportFormat {
    Growthbook,
    /// Universal Flag Configuration
    #[value(alias = "ufc")]
    Eppo,
    Flagd,
    /// Manifest of the OpenFeature CLI
    Openfeature,
}

pub fn import(common: &Common, from: ImportFormat, file: &Path) -> anyhow::Result<Exit> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return wrong(&format!("cannot read `{}`: {error}", file.display())),
    };
    let body: Json = match serde_json::from_str(&text) {
        Ok(body) => body,
        Err(error) => return wrong(&format!("`{}` is no JSON: {error}", file.display())),
    };
    let imported: Imported = match from {
        ImportFormat::Eppo => from_ufc(&body),
        ImportFormat::Growthbook => from_growthbook(&body),
        ImportFormat::Flagd => from_flagd(&body, FractionalVersion::Two),
        ImportFormat::FlagdV3 => from_flagd(&body, FractionalVersion::Three),
        ImportFormat::Unleash => from_unleash(&body),
        ImportFormat::Openfeature => from_openfeature_manifest(&body),
    };
    let carried = imported.document["flags"].as_array().map_or(0, Vec::len);
    if carried == 0 && imported.report.is_empty() {
        let name = from.to_possible_value().expect("no format is hidden");
        let message = format!(
            "`{}` has no flags in the format `{}`",
            file.display(),
            name.get_name()
        );
        return wrong(&format!("{message}: does another `--from` fit?"));
    }
    let report: Vec<(bool, &str, &str)> = imported
        .report
        .iter()
        .map(|remark| (remark.is_left_out, &*remark.flag, &*remark.text))
        .collect();
    let yaml = || imported.to_yaml();
    finish(common, &imported.document, yaml, carried, &report)
}

pub fn export(
    common: &Common,
    set: &FlagSet,
    to: ExportFormat,
    now: DateTime<Utc>,
) -> anyhow::Result<Exit> {
    let exported: Exported = match to {
        ExportFormat::Eppo => to_ufc(set, "production", &now.to_rfc3339()),
        ExportFormat::Growthbook => to_growthbook(set, now),
        ExportFormat::Flagd => to_flagd(set),
        ExportFormat::Openfeature => to_openfeature_manifest(set),
    };
    let report: Vec<(bool, &str, &str)> = exported
        .report
        .iter()
        .map(|left_out| (true, &*left_out.flag, &*left_out.reason))
        .collect();
    let carried = set.flags.len() - report.len();
    let json = || format!("{:#}\n", exported.document);
    finish(common, &exported.document, json, carried, &report)
}

/// `--output json` puts document and report into one object.
fn finish(
    common: &Common,
    document: &Json,
    text: impl Fn() -> String,
    carried: usize,
    report: &[(bool, &str, &str)],
) -> anyhow::Result<Exit> {
    let left_out = report
        .iter()
        .filter(|(is_left_out, _, _)| *is_left_out)
        .count();
    if common.output == OutputFormat::Json {
        let line = |(is_left_out, flag, text): &(bool, &str, &str)| json!({"flag": flag, "is_left_out": is_left_out, "text": text});
        let report: Vec<Json> = report.iter().map(line).collect();
        output::print(&format!(
            "{:#}\n",
            json!({"document": document, "report": report})
        ))?;
    } else {
        for (is_left_out, flag, text) in report {
            let kind = if *is_left_out { "left out" } else { "note" };
            tell!("{kind}: `{flag}`: {text}");
        }
        output::print(&text())?;
        if !common.quiet {
            let flags = if carried == 1 { "flag" } else { "flags" };
            tell!("{carried} {flags} carried over, {left_out} left out");
        }
    }
    Ok(if left_out == 0 {
        Exit::Good
    } else {
        Exit::Failed
    })
}
