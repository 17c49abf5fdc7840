//! `flag diff`: what the edits since a version in git do to units.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::super::{Common, Exit, OutputFormat, output};
use super::{load_options, wrong};
use crate::compile;
use crate::diagnostics::Diagnostic;
use crate::flags::FlagSet;
use crate::flags::changes::{Change, changes};
use crate::project::{Files, Folder, MemoryFiles, load};

/// Both versions are checked as a whole. An edit of what is locked is counted too, and then refused.
pub fn run(common: &Common, root: &Path, base: &str) -> anyhow::Result<Exit> {
    let files = match files_at(root, base) {
        Ok(files) => files,
        Err(error) => return wrong(&format!("{error:#}")),
    };
    let Some(after) = read(common, &Folder::new(root)) else {
        return Ok(Exit::Wrong);
    };
    let Some(before) = read(common, &files) else {
        return wrong(&format!(
            "the flags of `{base}` are not sound, so nothing can be compared with them"
        ));
    };
    print(common, base, &changes(&before, &after))?;
    let checked = compile::load_flags(&Folder::new(root), &load_options(common));
    output::diagnostics(&checked.diagnostics, &checked.value.project.texts);
    Ok(if checked.has_errors() {
        Exit::Wrong
    } else {
        Exit::Good
    })
}

/// The flags of one version without its lock, or nothing after its errors were printed.
fn read(common: &Common, files: &dyn Files) -> Option<FlagSet> {
    let project = load(files, &load_options(common)).value;
    let checked = compile::unlocked_flags(&project.flag_files);
    if checked.has_errors() {
        let errors: Vec<Diagnostic> = checked.diagnostics;
        output::diagnostics(&errors, &project.texts);
        return None;
    }
    Some(checked.value)
}

fn print(common: &Common, base: &str, found: &[Change]) -> anyhow::Result<()> {
    if common.output == OutputFormat::Json {
        let changes: Vec<_> = found.iter().map(Change::to_json).collect();
        return output::print(&format!(
            "{:#}\n",
            json!({"base": base, "changes": changes})
        ));
    }
    let lines: String = found.iter().map(|change| format!("{change}\n")).collect();
    output::print(
        match found {
            [] => format!("no unit is affected since `{base}`\n"),
            _ => lines,
        }
        .as_str(),
    )
}

/// The definitions of a project as they are in git.
fn files_at(root: &Path, reference: &str) -> anyhow::Result<MemoryFiles> {
    let listed = git(
        root,
        &["ls-tree", "-r", "-z", "--name-only", reference, "--", "."],
    )?;
    let mut texts = BTreeMap::new();
    for path in listed.split('\0').filter(|path| is_yaml(path)) {
        texts.insert(
            path.to_owned(),
            git(root, &["show", &format!("{reference}:./{path}")])?,
        );
    }
    Ok(MemoryFiles {
        texts,
        root: root.to_owned(),
    })
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yml") || path.ends_with(".yaml")
}

fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output()
        .context("git cannot be run")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "git {}: {}",
            arguments[0],
            said.trim().trim_start_matches("fatal: ")
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("what git {} printed is not UTF-8", arguments[0]))
}
