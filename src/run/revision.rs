//! A project as a git revision has it.
//! In: a folder under git and a revision. Out: the project's folder with that revision's files, under `target/revisions`.
//! The working tree, the index and the branches of the repository are left alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Writes the files of `revision` and gives the folder of the project among them; a second call finds them there.
pub fn check_out(root: &Path, revision: &str) -> anyhow::Result<PathBuf> {
    let commit = git(
        root,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{revision}^{{commit}}"),
        ],
        None,
    )
    .with_context(|| format!("git knows no revision `{revision}` here"))?;
    let prefix = git(root, &["rev-parse", "--show-prefix"], None)?;
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"], None)?);
    let folder = root.join("target/revisions").join(&commit);
    let done = folder.with_extension("done");
    if !done.exists() {
        std::fs::create_dir_all(&folder)?;
        let index = folder.with_extension("index");
        git(&top, &["read-tree", &commit], Some(&index))?;
        let target = format!("--prefix={}/", folder.display());
        git(
            &top,
            &["checkout-index", "--all", "--force", &target],
            Some(&index),
        )?;
        std::fs::remove_file(&index).ok();
        std::fs::write(&done, "")?;
    }
    Ok(folder.join(prefix))
}

/// Runs git in a folder, with an index of its own where it would change one.
fn git(folder: &Path, arguments: &[&str], index: Option<&Path>) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", index);
    }
    let said = command.output().context("cannot run git")?;
    if !said.status.success() {
        bail!(
            "git {}: {}",
            arguments[0],
            String::from_utf8_lossy(&said.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_string())
}
