//! `compile`: everything is checked, and the SQL that would run is written where a person can read it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::failure::CannotWrite;
use super::{Common, Exit, context, output};
use crate::artifacts;
use crate::manifest::{Node, NodeKind};
use crate::run::Prepared;

pub async fn run(common: &Common) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let Some(selection) = context::selection(common, &prepared) else {
        return Ok(Exit::Wrong);
    };
    write(&prepared).context(CannotWrite::the("target/compiled"))?;
    artifacts::write_manifest(&prepared).context(CannotWrite::the("target/manifest.json"))?;
    let is_refused = super::metric::is_refused(common, &prepared).await?;
    let chosen: Vec<&Node> = prepared
        .manifest
        .nodes
        .iter()
        .filter(|node| selection.contains(node.id) && matches!(node.kind, NodeKind::Model(_)))
        .collect();
    if !common.select.is_empty() {
        for node in &chosen {
            output::print(&format!(
                "-- {}\n{}\n\n",
                prepared.compiled_path(&node.path).display(),
                prepared.compiled.nodes[&node.id].sql.trim()
            ))?;
        }
    }
    if !common.quiet {
        tell!(
            "{} models compiled into {}",
            chosen.len(),
            prepared.target_folder().join("compiled").display()
        );
    }
    Ok(if is_refused { Exit::Failed } else { Exit::Good })
}

/// Writes the SQL of models and tests to `target/compiled`; files that did not change are left alone.
pub fn write(prepared: &Prepared) -> std::io::Result<()> {
    for node in &prepared.manifest.nodes {
        let Some(compiled) = prepared.compiled.nodes.get(&node.id) else {
            continue;
        };
        let path = match &node.kind {
            NodeKind::Model(_) => prepared.compiled_path(&node.path),
            NodeKind::Test { .. } => prepared.compiled_path(&format!("tests/{}.sql", node.name)),
            _ => continue,
        };
        write_changed(&path, compiled.rows_sql.as_ref().unwrap_or(&compiled.sql))?;
        if let Some(increment) = &compiled.increment {
            write_changed(&prepared.increment_path(&node.path), &increment.sql)?;
        }
    }
    Ok(())
}

fn write_changed(path: &Path, sql: &str) -> std::io::Result<()> {
    let text = format!("{}\n", sql.trim());
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().expect("a compiled file lies in a folder"))?;
    fs::write(path, text)
}
