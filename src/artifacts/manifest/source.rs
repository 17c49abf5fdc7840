//! Tables of sources, which are files here: `external` says where.

use serde_json::{Value, json};

use super::node::{columns, tags};
use super::{Context, DATABASE};
use crate::artifacts::sources::criteria;
use crate::manifest::{LoadedAt, Node, NodeKind};

pub(super) fn entry(context: &Context<'_>, node: &Node) -> Value {
    let NodeKind::Source(table) = &node.kind else {
        unreachable!("only sources come here")
    };
    let tags = tags(&node.settings.tags);
    let meta = &node.settings.meta;
    let patch = node.described_in.as_ref();
    let (field, query) = match &table.loaded_at {
        LoadedAt::Field(field) => (Some(&field.value), None),
        LoadedAt::Query(query) => (None, Some(&query.value)),
        LoadedAt::Files => (None, None),
    };
    let freshness = criteria(table.freshness.as_ref());
    json!({
        "database": DATABASE,
        "schema": table.source,
        "name": table.table,
        "resource_type": "source",
        "package_name": context.project,
        "path": &*node.path,
        "original_file_path": &*node.path,
        "unique_id": context.id(node.id),
        "fqn": context.fqn(&node.path, &[&table.source, &table.table]),
        "source_name": table.source,
        "source_description": table.about.description,
        "loader": table.about.loader,
        "identifier": table.table,
        "quoting": {"database": null, "schema": null, "identifier": null, "column": null},
        "loaded_at_field": field,
        "loaded_at_query": query,
        "freshness": freshness,
        "external": {"location": table.location, "file_format": table.format},
        "description": node.description,
        "columns": columns(&node.columns),
        "meta": meta,
        "source_meta": table.about.meta,
        "tags": tags,
        "config": {
            "enabled": node.settings.enabled,
            "freshness": freshness,
            "loaded_at_field": field,
            "loaded_at_query": query,
            "meta": meta,
            "tags": tags,
        },
        "patch_path": patch.map(|path| format!("{}://{path}", context.project)),
        "unrendered_config": {},
        "relation_name": node.relation(),
    })
}
