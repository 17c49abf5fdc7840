//! `init`: a small project that builds, as a start.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::Exit;
use super::failure::CannotWrite;

#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Folder of the new project
    pub folder: PathBuf,
}

const FILES: &[(&str, &str)] = &[
    ("project.yml", include_str!("init/project.yml")),
    (
        "seeds/raw_assignments.csv",
        include_str!("init/raw_assignments.csv"),
    ),
    ("seeds/raw_orders.csv", include_str!("init/raw_orders.csv")),
    (
        "models/staging/stg_assignments.sql",
        include_str!("init/stg_assignments.sql"),
    ),
    (
        "models/staging/stg_assignments.yml",
        include_str!("init/stg_assignments.yml"),
    ),
    (
        "models/marts/fact_orders.sql",
        include_str!("init/fact_orders.sql"),
    ),
    (
        "models/marts/fact_orders.yml",
        include_str!("init/fact_orders.yml"),
    ),
    (
        "models/marts/fact_assignments.sql",
        include_str!("init/fact_assignments.sql"),
    ),
    (
        "models/marts/metric_aggregates.sql",
        include_str!("init/metric_aggregates.sql"),
    ),
    (
        "models/marts/dim_experiments.sql",
        include_str!("init/dim_experiments.sql"),
    ),
    (
        "models/marts/metric_daily.sql",
        include_str!("init/metric_daily.sql"),
    ),
    (
        "models/marts/sample_ratio_checks.sql",
        include_str!("init/sample_ratio_checks.sql"),
    ),
    (
        "models/marts/experiment_results.sql",
        include_str!("init/experiment_results.sql"),
    ),
    (
        "models/marts/experiment_decisions.sql",
        include_str!("init/experiment_decisions.sql"),
    ),
    (
        "models/marts/experiment_decisions.yml",
        include_str!("init/experiment_decisions.yml"),
    ),
    ("metrics/orders.yml", include_str!("init/orders.yml")),
    (
        "experiments/button_color.yml",
        include_str!("init/button_color.yml"),
    ),
    (".gitignore", "target/\n"),
];

pub fn run(init: &Init) -> anyhow::Result<Exit> {
    if let Some((path, _)) = FILES
        .iter()
        .find(|(path, _)| init.folder.join(path).exists())
    {
        tell!(
            "error: `{}` exists already; nothing was written",
            init.folder.join(path).display()
        );
        return Ok(Exit::Wrong);
    }
    for (path, text) in FILES {
        let path = init.folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
        std::fs::write(&path, text)
            .with_context(|| CannotWrite(format!("`{}`", path.display())))?;
    }
    tell!(
        "a new project is in {0}; build it with `equipoise build --project-dir {0}`",
        init.folder.display()
    );
    Ok(Exit::Good)
}
