//! Names for contents: equal fingerprints are equal relations, so that what exists need not be built again.

use super::{Compiled, CompiledNode, Input};
use crate::manifest::{Materialization, Node, TestSettings, TestSeverity};
use crate::sql::without_layout;

/// Part of every fingerprint: results may differ between versions of the engine and its functions.
const VERSION: &str = concat!("equipoise ", env!("CARGO_PKG_VERSION"), " datafusion 55.2");

/// Of a source or seed: its columns and what is in its files.
pub(super) fn of_input(input: &Input) -> String {
    let columns: Vec<String> = input
        .schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    digest(&[VERSION, &columns.join(","), &input.content_hash])
}

/// The columns of a source or seed, whatever is in its files.
pub(super) fn logic_of_input(input: &Input) -> String {
    let empty = Input {
        schema: input.schema.clone(),
        guessed: Vec::new(),
        content_hash: String::new(),
    };
    of_input(&empty)
}

/// Of a query: its text without layout, its settings and everything it reads. `now` enters where the query asks the clock or chance.
pub(super) fn of_query(
    node: &Node,
    sql: &str,
    compiled: &Compiled,
    volatile: &[String],
    now: &str,
) -> String {
    let parent = |parent: &CompiledNode| parent.fingerprint.clone();
    let mut parts = parts_of(node, sql, compiled, parent);
    if !volatile.is_empty() {
        parts.push(now.to_string());
    }
    digest(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Of a query, without the data it reads.
pub(super) fn logic_of_query(node: &Node, sql: &str, compiled: &Compiled) -> String {
    let parts = parts_of(node, sql, compiled, |parent| parent.logic.clone());
    digest(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn parts_of(
    node: &Node,
    sql: &str,
    compiled: &Compiled,
    of_parent: impl Fn(&CompiledNode) -> String,
) -> Vec<String> {
    let settings = &node.settings;
    let kind = match settings.materialized {
        _ if settings.keeps_versions => "snapshot",
        kind => kind.word(),
    };
    let mut parts = vec![
        VERSION.to_string(),
        kind.to_string(),
        without_layout(sql),
        settings.partition_by.join(","),
    ];
    if settings.materialized == Materialization::Incremental {
        let growth = &settings.growth;
        parts.push(format!("{:?} {:?}", growth.unique_key, growth.strategy()));
    }
    if let Some(cluster_by) = &settings.cluster_by {
        parts.push(format!("{cluster_by:?}"));
    }
    for parent in &node.depends_on {
        parts.push(
            compiled
                .nodes
                .get(parent)
                .map(&of_parent)
                .unwrap_or_default(),
        );
    }
    parts
}

/// Of a data test: its query, and all that decides whether what the query counts is a failure.
pub(super) fn of_test(query: &str, counted: &str, settings: &TestSettings) -> String {
    let severity = if settings.severity == TestSeverity::Error {
        "error"
    } else {
        "warn"
    };
    digest(&[
        query,
        counted,
        severity,
        &settings.error_if,
        &settings.warn_if,
    ])
}

/// 128 bits of BLAKE3 over length-prefixed parts, in hexadecimal.
fn digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}
