//! `target/catalog.json`: the relations as they are, with the columns that they have and how large they are.
//! In: what is published, and an engine that can read it. What was never built is not there, as in dbt.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::manifest::DATABASE;
use super::{Metadata, write};
use crate::engine::{Engine, why_unreadable};
use crate::manifest::{Node, NodeKind};
use crate::run::Prepared;
use crate::sql::{Schema, declared_type};
use crate::warehouse::{Environment, Relation};

/// Name of the file.
pub const CATALOG: &str = "catalog.json";

/// How many relations the catalog has, and which could not be read.
pub struct Written {
    pub relations: usize,
    pub errors: Vec<String>,
}

/// Reads the columns of everything that is published, and of the sources; no rows are read.
pub async fn write_catalog(
    prepared: &Prepared,
    engine: &Engine,
    environment: &Environment,
) -> io::Result<Written> {
    let mut artifact = Artifact {
        metadata: Metadata::new(prepared, "catalog/v1"),
        nodes: Map::new(),
        sources: Map::new(),
        errors: None,
    };
    let mut errors = Vec::new();
    for node in &prepared.manifest.nodes {
        let id = node.unique_id(&prepared.manifest.project_name);
        if let NodeKind::Source(_) = node.kind {
            let compiled = prepared.compiled.nodes.get(&node.id);
            let entry = compiled.map(|compiled| source(node, &compiled.schema, &id));
            artifact.sources.extend(entry.map(|entry| (id, entry)));
            continue;
        }
        let Some(relation) = environment.relations.get(&node.name) else {
            continue;
        };
        if node.is_test() {
            continue;
        }
        match engine.schema_of(&node.relation()).await {
            Ok(schema) => {
                let table = table(node, environment, relation, &schema, &id);
                artifact.nodes.insert(id, table);
            }
            Err(error) => errors.push(why_unreadable(&error)),
        }
    }
    artifact.errors = (!errors.is_empty()).then(|| errors.clone());
    write(prepared, CATALOG, &artifact)?;
    Ok(Written {
        relations: artifact.nodes.len() + artifact.sources.len(),
        errors,
    })
}

#[derive(Serialize)]
struct Artifact {
    metadata: Metadata,
    nodes: Map<String, Value>,
    sources: Map<String, Value>,
    errors: Option<Vec<String>>,
}

fn table(
    node: &Node,
    environment: &Environment,
    relation: &Relation,
    schema: &Schema,
    id: &str,
) -> Value {
    let (kind, sizes) = match relation {
        Relation::Table {
            rows, bytes, files, ..
        } => ("BASE TABLE", Some((*rows, *bytes, *files))),
        Relation::View { .. } => ("VIEW", None),
    };
    json!({
        "metadata": {
            "type": kind,
            "schema": environment.name,
            "name": node.name,
            "database": DATABASE,
            "comment": null,
            "owner": null,
        },
        "columns": columns(schema),
        "stats": stats(sizes),
        "unique_id": id,
    })
}

fn source(node: &Node, schema: &Schema, id: &str) -> Value {
    let NodeKind::Source(table) = &node.kind else {
        unreachable!("only sources come here")
    };
    json!({
        "metadata": {
            "type": "EXTERNAL",
            "schema": table.source,
            "name": table.table,
            "database": DATABASE,
            "comment": null,
            "owner": null,
        },
        "columns": columns(schema),
        "stats": stats(None),
        "unique_id": id,
    })
}

fn columns(schema: &Schema) -> Map<String, Value> {
    let fields = schema.fields().iter().enumerate();
    fields
        .map(|(at, field)| {
            let entry = json!({
                "type": declared_type(field.data_type()),
                "index": at + 1,
                "name": field.name(),
                "comment": null,
            });
            (field.name().clone(), entry)
        })
        .collect()
}

/// Rows, bytes and files, where a table has them.
fn stats(sizes: Option<(u64, u64, u64)>) -> Map<String, Value> {
    let item = |id: &str, label: &str, value: Value, is_shown: bool, description: &str| {
        let item = json!({
            "id": id,
            "label": label,
            "value": value,
            "include": is_shown,
            "description": description,
        });
        (id.to_string(), item)
    };
    let has = "Whether its size is known";
    let mut stats = vec![item(
        "has_stats",
        "Has stats?",
        json!(sizes.is_some()),
        false,
        has,
    )];
    if let Some((rows, bytes, files)) = sizes {
        stats.extend([
            item("num_rows", "Rows", json!(rows), true, "Rows of the table"),
            item(
                "num_bytes",
                "Bytes",
                json!(bytes),
                true,
                "Bytes of its files",
            ),
            item("num_files", "Files", json!(files), true, "Its files"),
        ]);
    }
    stats.into_iter().collect()
}
