use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::process::{Pid, test_kill_process};

mod artifacts;
mod broken_projects;
mod cli;
mod conformance;
mod docs;
mod drift_fuzz;
mod drift_lints;
mod drift_nests;
mod drift_pairs;
mod drift_project;
mod drift_rules;
mod drift_witness;
mod events_accept;
mod events_kill;
mod events_log;
mod events_rotate;
mod exact_aggregates;
mod experiments;
mod flags_cli;
mod flags_definitions;
mod flags_export;
mod flags_import;
mod flags_sql;
mod flags_warehouse;
mod freshness;
mod full_disk;
mod generate_shop;
mod incremental;
mod layers;
mod lineage_execution;
mod memory_limit;
mod metric_dbt;
mod metric_diff;
mod metric_kept;
mod metric_kinds;
mod metric_lock;
mod operator_corner_metrics;
mod operator_corners;
mod operator_facts;
mod operator_facts_runs;
mod operator_passes;
mod operator_planned;
mod operator_states;
mod operator_types;
mod pycon;
mod receipt;
mod report;
mod serve_bulk;
mod serve_clients;
mod serve_events;
mod serve_hostile;
mod serve_ofrep;
mod serve_support;
mod shop;
mod sources;
mod stats_peers;
mod stats_properties;
mod stats_sql;
mod stats_sql_hostile;
mod stats_sql_vectors;
mod templates;
mod vectors;
mod vectors_run;
mod versions;
mod warehouse;

/// A runtime for tests that plan or run queries.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime"))
}

/// A folder that is removed when it is dropped, or at the latest by the next run: nobody drops what a static holds.
fn folder() -> tempfile::TempDir {
    static OF_PROCESS: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("of_processes");
        std::fs::create_dir_all(&all).expect("a folder is made");
        for entry in all.read_dir().expect("it was made").flatten() {
            let process = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let is_gone = process
                .and_then(Pid::from_raw)
                .is_none_or(|process| test_kill_process(process).is_err());
            if is_gone {
                // Another process may be doing the same.
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
        let own = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&own).expect("a folder is made");
        own
    });
    tempfile::tempdir_in(&*OF_PROCESS).expect("a temporary folder")
}
