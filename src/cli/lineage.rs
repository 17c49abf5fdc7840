//! `lineage`: which columns a column comes from, and which it reaches.

use clap::Args;

use super::{Common, Exit, OutputFormat, context, output};
use crate::compile::Detail;
use crate::run::{Prepared, meanings};
use crate::sql::lineage::{ColumnGraph, Edge, Origin};

#[derive(Args)]
pub struct Lineage {
    /// A column as MODEL.COLUMN, or SOURCE.TABLE.COLUMN
    column: String,
    /// What the column comes from; this is shown without an option
    #[arg(long)]
    up: bool,
    /// What the column reaches
    #[arg(long)]
    down: bool,
}

pub async fn run(common: &Common, lineage: &Lineage) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let Some((relation, column)) = lineage.column.rsplit_once('.') else {
        tell!("error: `{}` is not a column", lineage.column);
        tell!("   = hint: write it as MODEL.COLUMN");
        return Ok(Exit::Wrong);
    };
    let start = Origin {
        relation: relation.into(),
        column: column.into(),
    };
    let columns = meanings(&prepared, Detail::Lock).await?.columns();
    if !is_known(&prepared, &start) {
        return Ok(Exit::Wrong);
    }
    let mut text = String::new();
    if lineage.up || !lineage.down {
        text += &said(
            common,
            &start,
            "comes from",
            &columns,
            &columns.upstream(&start),
        );
    }
    if lineage.down {
        text += &said(
            common,
            &start,
            "reaches",
            &columns,
            &columns.downstream(&start),
        );
    }
    output::print(&text)?;
    Ok(Exit::Good)
}

/// Writes every edge to `target/lineage.json`, one per line, sorted; a file that says so already is left alone.
pub fn write(prepared: &Prepared, columns: &ColumnGraph) -> std::io::Result<()> {
    let edges: Vec<String> = columns
        .edges()
        .map(|(from, to, kind)| {
            let edge = serde_json::json!({"from": from.to_string(), "to": to.to_string(), "kind": kind.to_string()});
            format!("    {edge}")
        })
        .collect();
    let text = format!("{{\n  \"edges\": [\n{}\n  ]\n}}\n", edges.join(",\n"));
    let folder = prepared.target_folder();
    let path = folder.join("lineage.json");
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(path, text)
}

/// Whether the relation has the column; if not, it was said what there is.
fn is_known(prepared: &Prepared, start: &Origin) -> bool {
    let nodes = prepared
        .manifest
        .nodes
        .iter()
        .filter(|node| !node.is_test());
    let named = |node: &&crate::manifest::Node| node.relation().replace('"', "") == start.relation;
    let Some(node) = nodes.clone().find(named) else {
        let names: Vec<String> = nodes.map(|node| node.relation().replace('"', "")).collect();
        tell!(
            "error[E0203]: there is no model, seed or source `{}`",
            start.relation
        );
        let hint =
            crate::diagnostics::did_you_mean(&start.relation, names.iter().map(String::as_str));
        tell!("   = hint: {hint}");
        return false;
    };
    let schema = prepared
        .compiled
        .nodes
        .get(&node.id)
        .map(|node| node.schema.clone());
    let names: Vec<String> = schema
        .iter()
        .flat_map(|schema| schema.fields().iter().map(|field| field.name().clone()))
        .collect();
    if names.contains(&start.column) {
        return true;
    }
    tell!(
        "error[E0406]: `{}` has no column `{}`",
        start.relation,
        start.column
    );
    let hint = crate::diagnostics::did_you_mean(&start.column, names.iter().map(String::as_str));
    tell!("   = hint: {hint}");
    false
}

fn said(
    common: &Common,
    start: &Origin,
    word: &str,
    columns: &ColumnGraph,
    edges: &[Edge],
) -> String {
    if common.output == OutputFormat::Json {
        let lines = edges.iter().map(|edge| {
            let line = serde_json::json!({"column": start.to_string(), "direction": word, "other": edge.column.to_string(),
                "kind": edge.kind.to_string(), "distance": edge.distance});
            format!("{line}\n")
        });
        return lines.collect();
    }
    if edges.is_empty() {
        let why = match columns.knows(start) {
            true => "",
            false => ": no model reads it",
        };
        return format!("{start} {word} nothing{why}\n");
    }
    let lines = edges.iter().map(|edge| {
        format!(
            "{}{} ({})\n",
            "  ".repeat(edge.distance),
            edge.column,
            edge.kind
        )
    });
    format!("{start} {word}\n{}", lines.collect::<String>())
}
