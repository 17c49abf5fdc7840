//! `clean`: removes what can be made again.

use anyhow::Context as _;
use clap::Args;

use super::{Common, Exit};
use crate::artifacts;
use crate::project::PROJECT_FILES;

#[derive(Debug, Clone, Args)]
pub struct Clean {
    /// Remove the warehouse inside the target folder as well: everything that was published
    #[arg(long)]
    pub warehouse: bool,
}

pub fn run(common: &Common, clean: &Clean) -> anyhow::Result<Exit> {
    if !PROJECT_FILES
        .iter()
        .any(|file| common.project_dir.join(file).exists())
    {
        tell!(
            "error[E0101]: there is no project file in `{}`",
            common.project_dir.display()
        );
        return Ok(Exit::Wrong);
    }
    let target = common.project_dir.join("target");
    let mut folders = vec![
        target.join("compiled"),
        target.join("sources"),
        target.join("state"),
    ];
    if clean.warehouse {
        folders.push(target.join("warehouse"));
    }
    for file in artifacts::FILES.map(|file| target.join(file)) {
        if file.exists() {
            std::fs::remove_file(&file)
                .with_context(|| format!("cannot remove `{}`", file.display()))?;
        }
    }
    for folder in folders.iter().filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove `{}`", folder.display()))?;
        if !common.quiet {
            tell!("removed {}", folder.display());
        }
    }
    Ok(Exit::Good)
}
