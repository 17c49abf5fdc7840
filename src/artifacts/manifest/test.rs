//! Data tests: files of their own, and those that YAML writes beside what they test.

use serde_json::{Value, json};

use super::node::{compiled_path, fields, head, query};
use super::{Context, config};
use crate::manifest::{Generic, Node, NodeId, NodeKind};

pub(super) fn entry(context: &Context<'_>, node: &Node) -> Value {
    let NodeKind::Test {
        template,
        attached_to,
        column,
        generic,
        settings,
    } = &node.kind
    else {
        unreachable!("only tests come here")
    };
    let mut entry = head(context, node, &node.path, &[&node.name]);
    let mut reads = node.depends_on.clone();
    // The pages of dbt take the last as the one that is tested; of other tests they take the first.
    let relates = |generic: &Generic| generic.name == "relationships";
    if let (Some(owner), true) = (attached_to, generic.as_ref().is_some_and(relates)) {
        reads.sort_by_key(|read| read == owner);
    }
    let call = generic.as_ref().map(call);
    let written = call.as_deref().unwrap_or(&template.text);
    entry.extend(query(context, node, written, &reads));
    // Where `compile` writes it.
    let path = compiled_path(context, &format!("tests/{}.sql", node.name));
    entry.extend(fields(json!({
        "config": config::of_test(node, settings),
        "compiled_path": path,
        "contract": {"enforced": false, "alias_types": true, "checksum": null},
    })));
    if let (Some(generic), Some(owner)) = (generic, attached_to) {
        entry.extend(fields(json!({
            "path": format!("{}.sql", node.name),
            "column_name": column,
            "file_key_name": file_key(context, owner),
            "attached_node": attached_node(context, owner),
            "test_metadata": metadata(context, generic, owner, column.as_deref()),
        })));
    }
    Value::Object(entry)
}

/// What dbt writes of a test in YAML: its arguments stand in `test_metadata`.
fn call(generic: &Generic) -> String {
    format!(
        "{{{{ test_{}(**_dbt_generic_test_kwargs) }}}}",
        generic.name
    )
}

/// `models.orders`: the list of the YAML file in which the tested thing stands, and its name.
fn file_key(context: &Context<'_>, owner: &NodeId) -> String {
    let owner = context.node(owner);
    match &owner.kind {
        NodeKind::Source(table) => format!("sources.{}", table.source),
        kind => format!("{}s.{}", kind.word(), owner.name),
    }
}

/// dbt says it of models and seeds; which source a test is about stands in its `sources`.
fn attached_node(context: &Context<'_>, owner: &NodeId) -> Option<String> {
    let is_source = matches!(context.node(owner).kind, NodeKind::Source(_));
    (!is_source).then(|| context.id(*owner))
}

fn metadata(
    context: &Context<'_>,
    generic: &Generic,
    owner: &NodeId,
    column: Option<&str>,
) -> Value {
    let owner = context.node(owner);
    let model = match &owner.kind {
        NodeKind::Source(table) => format!("source('{}', '{}')", table.source, table.table),
        _ => format!("ref('{}')", owner.name),
    };
    let mut kwargs = generic.arguments.clone();
    if let Some(column) = column {
        kwargs.insert("column_name".into(), json!(column));
    }
    kwargs.insert("model".into(), json!(format!("{{{{ {model} }}}}")));
    json!({"name": generic.name, "kwargs": kwargs, "namespace": generic.package})
}
