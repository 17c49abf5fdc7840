//! `config` of models, seeds and tests: dbt's keys with values of dbt's types, and beside them what the project says besides.

use serde_json::{Map, Value, json};

use super::node::{fields, tags};
use crate::manifest::{Node, NodeKind, Settings, TestSettings, TestSeverity};

pub(super) fn of_node(node: &Node) -> Value {
    let settings = &node.settings;
    let raw = &settings.raw;
    let contract = settings.contract().unwrap_or_default();
    let text = |key: &str| raw.get(key).filter(|value| value.is_string());
    let map = |key: &str| match raw.get(key) {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    let mut config = fields(json!({
        "enabled": settings.enabled,
        "alias": text("alias"),
        "schema": text("schema"),
        "database": null,
        "tags": tags(&settings.tags),
        "meta": settings.meta,
        "group": text("group"),
        "materialized": materialized(node),
        "incremental_strategy": text("incremental_strategy"),
        "persist_docs": map("persist_docs"),
        "post-hook": hooks(raw.get("post_hook")),
        "pre-hook": hooks(raw.get("pre_hook")),
        "quoting": {},
        "column_types": column_types(settings),
        "full_refresh": settings.growth.full_refresh,
        "unique_key": unique_key(&settings.growth.unique_key),
        "on_schema_change": text("on_schema_change").cloned().unwrap_or("ignore".into()),
        "on_configuration_change": "apply",
        "grants": map("grants"),
        "packages": [],
        "docs": docs(node),
        "contract": {"enforced": contract.is_enforced, "alias_types": true},
    }));
    match node.kind {
        NodeKind::Seed => config.extend(fields(json!({
            "delimiter": settings.delimiter.as_deref().unwrap_or(","),
            "quote_columns": raw.get("quote_columns").and_then(Value::as_bool),
        }))),
        _ => {
            config.insert("access".into(), access(node).into());
        }
    }
    if !contract.grain.is_empty() {
        config.insert("grain".into(), json!(contract.grain));
    }
    for (key, value) in raw.iter().filter(|(key, _)| !is_told(key)) {
        config.insert(key.clone(), value.clone());
    }
    Value::Object(config)
}

/// Settings that stand in `config` in dbt's form already.
fn is_told(key: &str) -> bool {
    const TOLD: [&str; 22] = [
        "access",
        "alias",
        "column_types",
        "contract",
        "delimiter",
        "description",
        "docs",
        "enabled",
        "full_refresh",
        "grants",
        "group",
        "incremental_strategy",
        "materialized",
        "meta",
        "on_schema_change",
        "persist_docs",
        "post_hook",
        "pre_hook",
        "quote_columns",
        "schema",
        "tags",
        "unique_key",
    ];
    TOLD.contains(&key)
}

fn materialized(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::Seed => "seed",
        _ if node.settings.keeps_versions => "snapshot",
        _ => node.settings.materialized.word(),
    }
}

fn column_types(settings: &Settings) -> Map<String, Value> {
    let types = settings.column_types.iter();
    types
        .map(|(name, data_type)| (name.clone(), json!(data_type)))
        .collect()
}

fn unique_key(columns: &[String]) -> Value {
    match columns {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

fn hooks(value: Option<&Value>) -> Vec<Value> {
    let hooks = match value {
        Some(Value::Array(hooks)) => hooks.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let sql = |hook: &Value| match hook {
        Value::Object(hook) => hook.get("sql")?.as_str().map(ToString::to_string),
        hook => hook.as_str().map(ToString::to_string),
    };
    let hooks = hooks.into_iter().filter_map(sql);
    hooks
        .map(|sql| json!({"sql": sql, "transaction": true, "index": null}))
        .collect()
}

/// dbt's word for who may read a model.
pub(super) fn access(node: &Node) -> &'static str {
    let access = node.settings.raw.get("access").and_then(Value::as_str);
    match access {
        Some("private") => "private",
        Some("public") => "public",
        _ => "protected",
    }
}

/// How the pages of dbt show it.
pub(super) fn docs(node: &Node) -> Value {
    let docs = node.settings.raw.get("docs");
    let get = |key: &str| docs.and_then(|docs| docs.get(key));
    json!({
        "show": get("show").and_then(Value::as_bool).unwrap_or(true),
        "node_color": get("node_color").filter(|color| color.is_string()),
    })
}

pub(super) fn of_test(node: &Node, settings: &TestSettings) -> Value {
    let severity = match settings.severity {
        TestSeverity::Error => "ERROR",
        TestSeverity::Warn => "WARN",
    };
    json!({
        "enabled": true,
        "alias": null,
        "schema": null,
        "database": null,
        "tags": tags(&node.settings.tags),
        "meta": node.settings.meta,
        "group": null,
        "materialized": "test",
        "severity": severity,
        "store_failures": null,
        "store_failures_as": null,
        "where": settings.condition,
        "limit": settings.limit,
        "fail_calc": settings.fail_calc,
        "warn_if": settings.warn_if,
        "error_if": settings.error_if,
    })
}
