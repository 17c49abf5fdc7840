//! `source freshness`: how old the newest rows of sources are.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::failure::CannotWrite;
use super::{Common, Exit, OutputFormat, compile, context, output};
use crate::artifacts;
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::engine::Engine;
use crate::graph::Selection;
use crate::manifest::Node;
use crate::run::{Prepared, SourceAge, SourceAges, source_ages, words};

#[derive(Args)]
pub struct Source {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say how old the newest rows of sources are, and write target/sources.json
    Freshness,
}

pub async fn run(common: &Common, source: &Source) -> anyhow::Result<Exit> {
    match source.command {
        Command::Freshness => freshness(common).await,
    }
}

async fn freshness(common: &Common) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let Some(selection) = context::selection(common, &prepared) else {
        return Ok(Exit::Wrong);
    };
    if let Some(nothing) = selects_nothing(common, &prepared, &selection) {
        context::report(common, &[nothing], &prepared);
        return Ok(Exit::Wrong);
    }
    compile::write(&prepared).context(CannotWrite::the("target/compiled"))?;
    artifacts::write_manifest(&prepared).context(CannotWrite::the("target/manifest.json"))?;
    let engine = Engine::new(prepared.engine)?;
    let ages = source_ages(&prepared, &selection, &engine).await?;
    context::report(common, &ages.diagnostics(), &prepared);
    artifacts::write_sources(&prepared, &ages).context(CannotWrite::the("target/sources.json"))?;
    if ages.sources.is_empty() && !common.quiet {
        tell!("no source says how new it should be: `freshness` in its YAML does");
    }
    output::print(&listing(&prepared, &ages, common.output)?)?;
    Ok(match ages.has_failed() {
        true => Exit::Failed,
        false => Exit::Good,
    })
}

/// Who names what to ask means a source that can be asked.
fn selects_nothing(
    common: &Common,
    prepared: &Prepared,
    selection: &Selection,
) -> Option<Diagnostic> {
    let judged = prepared.manifest.nodes.iter();
    let judged = judged.filter(|node| node.judged().is_some());
    let (chosen, others): (Vec<&Node>, Vec<&Node>) =
        judged.partition(|node| selection.contains(node.id));
    if !chosen.is_empty() || (common.select.is_empty() && common.exclude.is_empty()) {
        return None;
    }
    let nothing = Diagnostic::error(Code::E0302, "no selected source says how new it should be");
    let others = others.iter().map(|node| node.name.as_str());
    Some(nothing.hint(did_you_mean(&common.select.join(" "), others)))
}

fn listing(prepared: &Prepared, ages: &SourceAges, format: OutputFormat) -> anyhow::Result<String> {
    const COLUMNS: [&str; 4] = ["source", "max_loaded_at", "age", "status"];
    let lines = || ages.sources.iter().map(|age| Line::new(prepared, age));
    Ok(match format {
        OutputFormat::Table if ages.sources.is_empty() => String::new(),
        OutputFormat::Table => {
            let mut table = output::plain_table(&["source", "max loaded at", "age", "status"]);
            for line in lines() {
                table.add_row(line.cells());
            }
            format!("{table}\n")
        }
        OutputFormat::Markdown => {
            output::markdown_table(&COLUMNS, lines().map(|line| line.cells().to_vec()))
        }
        OutputFormat::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(COLUMNS)?;
            for line in lines() {
                writer.write_record(line.cells())?;
            }
            String::from_utf8(writer.into_inner()?)?
        }
        OutputFormat::Json => lines()
            .map(|line| {
                let line = serde_json::json!({
                    "source": line.source, "max_loaded_at": line.loaded_at, "age": line.age, "age_in_s": line.seconds,
                    "status": line.status,
                });
                format!("{line}\n")
            })
            .collect(),
    })
}

/// One source table, as it is printed.
struct Line<'a> {
    source: &'a str,
    loaded_at: Option<String>,
    age: Option<String>,
    seconds: Option<f64>,
    status: &'static str,
}

impl<'a> Line<'a> {
    fn new(prepared: &'a Prepared, source: &SourceAge) -> Self {
        let age = source.loaded_at.map(|time| prepared.clock() - time);
        let time = |time: chrono::DateTime<_>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self {
            source: &prepared.manifest.node(source.id).name,
            loaded_at: source.loaded_at.map(time),
            age: age.map(words),
            seconds: age.map(|age| age.as_seconds_f64()),
            status: source.status.word(),
        }
    }

    fn cells(&self) -> [String; 4] {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            self.source.to_string(),
            or_nothing(&self.loaded_at),
            or_nothing(&self.age),
            self.status.to_string(),
        ]
    }
}
