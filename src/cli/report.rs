//! `report`: pages of what was decided, for people who do not use a terminal.

use std::path::PathBuf;

use clap::Args;

use super::failure::CannotWrite;
use super::{Common, Exit, context, query};
use crate::report::{self, Stamp};

#[derive(Debug, Clone, Args)]
pub struct Report {
    /// The folder that the pages are written to; without it, target/report
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub async fn run(common: &Common, options: &Report) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let warehouse = context::warehouse(&prepared)?;
    let engine = query::published(&prepared, &warehouse).await?;
    let environment = &engine.environment;
    let is_published = |name: &str| environment.relations.contains_key(name);
    let evidence = match report::read(&engine, &is_published).await {
        Ok(evidence) => evidence,
        Err(error) => {
            let mut nodes = prepared.manifest.nodes.iter();
            let model = nodes.find(|node| node.relation() == error.table());
            let place = model.map(|model| model.span.clone());
            context::report(common, &[error.diagnostic().at(place)], &prepared);
            return Ok(Exit::Failed);
        }
    };
    let stamp = Stamp {
        project: prepared.project.spec.name.clone(),
        environment: environment.name.clone(),
        version: environment.version,
        published_at: environment.published_at.clone(),
    };
    let pages = report::pages(&evidence, &stamp)?;
    let default = || prepared.target_folder().join("report");
    let folder = std::path::absolute(options.out.clone().unwrap_or_else(default))?;
    if let Err(error) = report::write(&folder, &pages) {
        return Err(anyhow::Error::new(error).context(CannotWrite::the("the report")));
    }
    if !common.quiet {
        tell!(
            "{} pages about version {} of `{}`: {}",
            pages.len(),
            stamp.version,
            stamp.environment,
            folder.join("index.html").display()
        );
    }
    Ok(Exit::Good)
}
