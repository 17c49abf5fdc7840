//! Macros: the project's, and those of the standard library, which are a package of their own.

use serde_json::{Map, Value, json};

use super::Context;
use crate::template::Macro;

/// The package of the standard library.
const LIBRARY: &str = "equipoise";

pub(super) fn unique_id(one: &Macro<'_>, project: &str) -> String {
    format!("macro.{}.{}", package(one, project), one.name)
}

fn package<'a>(one: &Macro<'_>, project: &'a str) -> &'a str {
    match one.is_of_standard_library() {
        true => LIBRARY,
        false => project,
    }
}

pub(super) fn entries(context: &Context<'_>) -> Map<String, Value> {
    let templates = &context.prepared.manifest.templates;
    let entry = |one: Macro<'_>| {
        let id = context.macros[one.name].clone();
        let takes = templates.macro_parameters(one.name).iter();
        let arguments = takes.map(|one| json!({"name": one.name, "type": null, "description": ""}));
        let mut calls = context.macros_called(one.text);
        calls.retain(|called| *called != id);
        let path = &*one.file.path;
        let path = path.strip_prefix("equipoise/").unwrap_or(path);
        let entry = json!({
            "name": one.name,
            "resource_type": "macro",
            "package_name": package(&one, context.project),
            "path": path,
            "original_file_path": path,
            "unique_id": id,
            "macro_sql": one.text,
            "depends_on": {"macros": calls},
            "description": "",
            "meta": {},
            "docs": {"show": true, "node_color": null},
            "patch_path": null,
            "arguments": arguments.collect::<Vec<_>>(),
            "supported_languages": null,
        });
        (id, entry)
    };
    templates.macros().into_iter().map(entry).collect()
}
