//! Models and seeds.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Context, DATABASE, config};
use crate::artifacts::{compiled_code, relation_name};
use crate::manifest::{Column, Node, NodeId, NodeKind};

pub(super) fn entry(context: &Context<'_>, node: &Node) -> Value {
    let mut entry = head(context, node, &node.path, &[&node.name]);
    entry.insert("config".into(), config::of_node(node));
    match &node.kind {
        NodeKind::Model(file) => {
            entry.extend(query(context, node, &file.text, &node.depends_on));
            let contract = node.settings.contract().unwrap_or_default();
            entry.extend(fields(json!({
                "compiled_path": compiled_path(context, &node.path),
                "contract": {"enforced": contract.is_enforced, "alias_types": true, "checksum": null},
                "access": config::access(node),
                "constraints": [],
                "version": null,
                "latest_version": null,
                "deprecation_date": null,
                "primary_key": contract.grain,
                "time_spine": null,
            })));
        }
        _ => entry.extend(fields(json!({
            "raw_code": "",
            "root_path": context.prepared.root.display().to_string(),
            "depends_on": {"macros": []},
        }))),
    }
    Value::Object(entry)
}

/// What models, seeds and tests have in common.
pub(super) fn head(
    context: &Context<'_>,
    node: &Node,
    path: &str,
    names: &[&str],
) -> Map<String, Value> {
    let patch = node.described_in.as_ref();
    let group = node.settings.raw.get("group");
    fields(json!({
        "database": DATABASE,
        "schema": context.prepared.environment,
        "name": node.name,
        "resource_type": node.kind.word(),
        "package_name": context.project,
        "path": context.below(path),
        "original_file_path": &*node.path,
        "unique_id": context.id(node.id),
        "fqn": context.fqn(path, names),
        "alias": node.name,
        "checksum": checksum(context, node),
        "tags": tags(&node.settings.tags),
        "description": node.description,
        "columns": columns(&node.columns),
        "meta": node.settings.meta,
        "group": group.filter(|group| group.is_string()),
        "docs": config::docs(node),
        "patch_path": patch.map(|path| format!("{}://{path}", context.project)),
        "build_path": null,
        "unrendered_config": {},
        "relation_name": relation_name(node),
    }))
}

/// What models and tests have in common: a query, before and after it was compiled, and what it reads.
pub(super) fn query(
    context: &Context<'_>,
    node: &Node,
    raw_code: &str,
    reads: &[NodeId],
) -> Map<String, Value> {
    let compiled = context.prepared.compiled.nodes.get(&node.id);
    let compiled = compiled.and_then(|compiled| compiled_code(node, compiled));
    let (refs, sources) = context.reads(reads);
    fields(json!({
        "raw_code": raw_code,
        "language": "sql",
        "refs": refs,
        "sources": sources,
        "metrics": [],
        "functions": [],
        "depends_on": context.depends_on(raw_code, reads),
        "compiled": compiled.is_some(),
        "compiled_code": compiled,
        "extra_ctes_injected": true,
        "extra_ctes": [],
    }))
}

/// Where the compiled SQL of a file stands, from the project's folder.
pub(super) fn compiled_path(context: &Context<'_>, path: &str) -> String {
    let path = context.prepared.compiled_path(path);
    let path = path.strip_prefix(&context.prepared.root).unwrap_or(&path);
    path.display().to_string()
}

pub(super) fn columns(columns: &[Column]) -> Map<String, Value> {
    let entry = |column: &Column| {
        let (meta, tags) = (&column.about.meta, tags(&column.about.tags));
        let data_type = column.data_type.as_ref().map(|(data_type, _)| data_type);
        let entry = json!({
            "name": column.name,
            "description": column.description,
            "meta": meta,
            "data_type": data_type,
            "constraints": [],
            "quote": column.is_quoted.then_some(true),
            "config": {"meta": meta, "tags": tags},
            "tags": tags,
        });
        (column.name.clone(), entry)
    };
    columns.iter().map(entry).collect()
}

/// In order, each once.
pub(super) fn tags(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Of a file of SQL, its text; of a seed, what its rows and columns were found to be.
fn checksum(context: &Context<'_>, node: &Node) -> Value {
    match &node.kind {
        NodeKind::Model(file) => sha256(&file.text),
        NodeKind::Test { template, .. } => sha256(&template.text),
        _ => {
            let compiled = context.prepared.compiled.nodes.get(&node.id);
            let content = compiled.map(|compiled| compiled.fingerprint.as_str());
            json!({"name": "blake3", "checksum": content.unwrap_or_default()})
        }
    }
}

fn sha256(text: &str) -> Value {
    let digest = Sha256::digest(text.trim().as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"name": "sha256", "checksum": digits})
}

pub(super) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("it was written as an object"),
    }
}
