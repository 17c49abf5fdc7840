//! `docs generate`: what dbt's pages, and tools that draw and count columns, want to know.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::failure::CannotWrite;
use super::{Common, Exit, compile, context, query};
use crate::artifacts;

#[derive(Args)]
pub struct Docs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write target/manifest.json and target/catalog.json: the columns and sizes of what is published
    Generate,
}

pub async fn run(common: &Common, docs: &Docs) -> anyhow::Result<Exit> {
    match docs.command {
        Command::Generate => generate(common).await,
    }
}

async fn generate(common: &Common) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    compile::write(&prepared).context(CannotWrite::the("target/compiled"))?;
    artifacts::write_manifest(&prepared).context(CannotWrite::the("target/manifest.json"))?;
    let warehouse = context::warehouse(&prepared)?;
    let engine = query::published(&prepared, &warehouse).await?;
    let written = artifacts::write_catalog(&prepared, &engine, &engine.environment)
        .await
        .context(CannotWrite::the("target/catalog.json"))?;
    for error in &written.errors {
        tell!("error[E0901]: {error}");
    }
    if !common.quiet {
        tell!(
            "columns of {} relation{} of version {} of `{}`: {}",
            written.relations,
            if written.relations == 1 { "" } else { "s" },
            engine.environment.version,
            engine.environment.name,
            prepared.target_folder().join(artifacts::CATALOG).display()
        );
    }
    Ok(match written.errors.is_empty() {
        true => Exit::Good,
        false => Exit::Failed,
    })
}
