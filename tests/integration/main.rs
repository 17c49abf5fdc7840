mod broken_projects;
mod cli;
mod conformance;
mod docs;
mod drift_fuzz;
mod drift_lints;
mod drift_pairs;
mod drift_project;
mod drift_rules;
mod drift_witness;
mod events_accept;
mod events_kill;
mod events_log;
mod events_rotate;
mod flags_cli;
mod flags_definitions;
mod flags_export;
mod flags_import;
mod flags_sql;
mod flags_warehouse;
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
mod operator_facts;
mod operator_planned;
mod operator_states;
mod pycon;
mod receipt;
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
