//! `ls`: what a selection means.

use super::{Common, Exit, OutputFormat, context, output};
use crate::manifest::{Node, NodeKind};

pub async fn run(common: &Common) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let Some(selection) = context::selection(common, &prepared) else {
        return Ok(Exit::Wrong);
    };
    let nodes = prepared
        .graph
        .order()
        .iter()
        .filter(|id| selection.contains(**id))
        .map(|id| prepared.manifest.node(*id));
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["resource_type", "name", "materialized", "path"])?;
    let mut text = String::new();
    for node in nodes {
        let (kind, materialized) = (node.kind.word(), materialized(node));
        match common.output {
            OutputFormat::Table | OutputFormat::Markdown => {
                text += &format!("{kind:<7} {}\n", node.name)
            }
            OutputFormat::Json => {
                let depends_on: Vec<String> = node
                    .depends_on
                    .iter()
                    .map(|id| {
                        prepared
                            .manifest
                            .node(*id)
                            .unique_id(&prepared.manifest.project_name)
                    })
                    .collect();
                let line = serde_json::json!({
                    "unique_id": node.unique_id(&prepared.manifest.project_name), "resource_type": kind, "name": node.name,
                    "materialized": materialized, "path": &*node.path, "tags": node.settings.tags, "depends_on": depends_on,
                });
                text += &format!("{line}\n");
            }
            OutputFormat::Csv => csv.write_record([kind, &node.name, materialized, &node.path])?,
        }
    }
    if common.output == OutputFormat::Csv {
        text = String::from_utf8(csv.into_inner()?)?;
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

fn materialized(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Model(_) => node.settings.materialized.word(),
        kind => kind.word(),
    }
}
