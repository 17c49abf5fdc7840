//! What became of a project, in the files that dbt publishes: `target/manifest.json` (schema v12), `target/run_results.json` (v6),
//! `target/catalog.json` (v1) and `target/sources.json` (v3), for every program that reads dbt's.
//! In: a prepared project, and what came of a run. Out: a file in `target/`, the old one or the new one whatever happens. What ran, and
//! when each file is written, is decided elsewhere.

mod catalog;
mod manifest;
mod run_results;
mod source_status;
mod sources;

pub use catalog::{CATALOG, write_catalog};
pub use manifest::{MANIFEST, write_manifest};
pub use run_results::write_run_results;
pub use source_status::fresher;
pub use sources::{SOURCES, write_sources};

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::compile::CompiledNode;
use crate::manifest::{Materialization, Node, NodeKind};
use crate::run::{Began, Prepared};

/// The command, as dbt tells it: its options by name.
pub type Arguments = Map<String, Value>;

/// The version of dbt whose artifacts these are like; who wrote them stands in [`Metadata::env`].
const DBT_VERSION: &str = "1.12.0";

/// Variables of this prefix are handed on to whoever reads the artifacts, as dbt does.
const CUSTOM: &str = "DBT_ENV_CUSTOM_ENV_";

/// The file of what came of the last run.
pub const RUN_RESULTS: &str = "run_results.json";

/// All that this room writes, in the target folder.
pub const FILES: [&str; 4] = [MANIFEST, RUN_RESULTS, CATALOG, SOURCES];

/// The head of every artifact.
#[derive(Serialize)]
struct Metadata {
    dbt_schema_version: String,
    dbt_version: &'static str,
    generated_at: String,
    invocation_id: String,
    invocation_started_at: String,
    env: Map<String, Value>,
}

impl Metadata {
    /// `schema` is dbt's name of the artifact's shape: `run-results/v6`.
    fn new(prepared: &Prepared, schema: &str) -> Self {
        let surroundings = &prepared.manifest.surroundings;
        let custom = surroundings.environment_variables.iter();
        let custom = custom.filter_map(|(name, value)| {
            Some((name.strip_prefix(CUSTOM)?.to_string(), json!(value)))
        });
        let generator = ("EQUIPOISE_VERSION", env!("CARGO_PKG_VERSION"));
        Self {
            dbt_schema_version: format!("https://schemas.getdbt.com/dbt/{schema}.json"),
            dbt_version: DBT_VERSION,
            generated_at: prepared.time(prepared.opened.elapsed()),
            invocation_id: surroundings.invocation_id.clone(),
            invocation_started_at: prepared.now.clone(),
            env: custom
                .chain([(generator.0.to_string(), json!(generator.1))])
                .collect(),
        }
    }
}

/// A span of time that something took.
#[derive(Serialize)]
struct Timing {
    name: &'static str,
    started_at: String,
    completed_at: String,
}

/// Everything is compiled before anything runs, so the first span is that of the whole project.
fn timing(prepared: &Prepared, began: Began, elapsed: Duration) -> Vec<Timing> {
    let compile = Timing {
        name: "compile",
        started_at: prepared.now.clone(),
        completed_at: prepared.time(prepared.prepared_in),
    };
    let execute = Timing {
        name: "execute",
        started_at: prepared.time(began.after),
        completed_at: prepared.time(began.after + elapsed),
    };
    vec![compile, execute]
}

/// How the compiled SQL names a relation; nothing for what is no relation.
fn relation_name(node: &Node) -> Option<String> {
    let is_relation = !node.is_test() && node.settings.materialized != Materialization::Ephemeral;
    is_relation.then(|| node.relation())
}

/// The SQL of a node as a person reads it: of a test, the query for the wrong rows.
fn compiled_code(node: &Node, compiled: &CompiledNode) -> Option<String> {
    let has_query = matches!(node.kind, NodeKind::Model(_) | NodeKind::Test { .. });
    let sql = compiled.rows_sql.as_ref().unwrap_or(&compiled.sql);
    has_query.then(|| sql.trim().to_string())
}

/// Replaces a file of the target folder whole. Two programs that write at once wait for each other.
fn write(prepared: &Prepared, name: &str, artifact: &impl Serialize) -> io::Result<()> {
    let folder = prepared.target_folder();
    fs::create_dir_all(&folder)?;
    let lock = fs::File::open(&folder)?;
    lock.lock()?;
    let text = serde_json::to_string(artifact)?;
    crate::project::replace(&folder.join(name), &text)
}

/// Whether the files that a run writes are there, and what came of it is told of that invocation.
pub fn are_of_invocation(root: &Path, invocation_id: &str) -> bool {
    use io::Read;
    // The head stands first, and is not long.
    const HEAD: u64 = 4096;
    let folder = root.join("target");
    let mut head = Vec::new();
    let file = fs::File::open(folder.join(RUN_RESULTS));
    let read = file.and_then(|file| file.take(HEAD).read_to_end(&mut head));
    let is_told = String::from_utf8_lossy(&head).contains(invocation_id);
    read.is_ok() && is_told && folder.join(MANIFEST).is_file()
}
