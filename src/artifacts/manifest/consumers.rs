//! Who reads models, who owns them, and the page that dbt's documentation opens with.

use serde_json::{Map, Value, json};

use super::Context;
use super::node::tags;
use crate::manifest::{About, Consumer};

pub(super) fn unique_id(project: &str, consumer: &Consumer) -> String {
    format!("exposure.{project}.{}", consumer.spec.name.value)
}

pub(super) fn exposures(context: &Context<'_>) -> Map<String, Value> {
    let entry = |consumer: &Consumer| {
        let spec = &consumer.spec;
        let id = unique_id(context.project, consumer);
        let file = &*spec.name.span.file;
        let about = About::of(&spec.config);
        let tags = tags(&about.tags);
        let (refs, sources) = context.reads(&consumer.depends_on);
        let metrics = consumer.metrics.iter().map(|metric| json!([metric]));
        let entry = json!({
            "name": spec.name.value,
            "resource_type": "exposure",
            "package_name": context.project,
            "path": context.below(file),
            "original_file_path": file,
            "unique_id": id,
            "fqn": context.fqn(file, &[&spec.name.value]),
            "type": spec.kind,
            "owner": owner(&spec.owner),
            "description": spec.description,
            "label": spec.label,
            "maturity": spec.maturity,
            "meta": about.meta,
            "tags": tags,
            "config": {"enabled": true, "tags": tags, "meta": about.meta},
            "unrendered_config": {},
            "url": spec.url,
            "depends_on": context.depends_on("", &consumer.depends_on),
            "refs": refs,
            "sources": sources,
            "metrics": metrics.collect::<Vec<_>>(),
        });
        (id, entry)
    };
    let consumers = context.prepared.manifest.consumers.iter();
    consumers.map(entry).collect()
}

pub(super) fn groups(context: &Context<'_>) -> Map<String, Value> {
    let groups = context.prepared.manifest.groups.iter().map(|group| {
        let name = &group.name.value;
        let file = &*group.name.span.file;
        let id = format!("group.{}.{name}", context.project);
        let entry = json!({
            "name": name,
            "resource_type": "group",
            "package_name": context.project,
            "path": context.below(file),
            "original_file_path": file,
            "unique_id": id,
            "owner": owner(&group.owner),
            "description": group.description,
        });
        (id, entry)
    });
    groups.collect()
}

/// A name and an address, where they are texts.
fn owner(owner: &Value) -> Value {
    let text = |key: &str| owner.get(key).filter(|value| value.is_string());
    json!({"email": text("email"), "name": text("name")})
}

/// The pages of dbt open with this block, and do not open without it.
pub(super) fn docs() -> Map<String, Value> {
    const ID: &str = "doc.dbt.__overview__";
    const TEXT: &str = "# Models, sources and tests\n\nOf a project that Equipoise built.";
    let block = json!({
        "name": "__overview__",
        "resource_type": "doc",
        "package_name": "dbt",
        "path": "overview.md",
        "original_file_path": "docs/overview.md",
        "unique_id": ID,
        "block_contents": TEXT,
    });
    Map::from_iter([(ID.to_string(), block)])
}
