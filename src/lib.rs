//! Equipoise: an experimentation platform built as a SQL compiler. A folder of templated SQL, YAML and raw events goes in; tables,
//! statistics and one decision per experiment come out.
//!
//! A build walks through these functions, each from one noun to the next; those up to `compile` find every mistake before a row moves
//! ([`diagnostics::Checked`]):
//!
//! | function | takes | gives |
//! |---|---|---|
//! | [`project::load`] | a folder | [`project::Project`]: what the YAML and the files say |
//! | [`manifest::resolve`] | that | [`manifest::Manifest`]: names, kinds, settings |
//! | [`graph::build`] | that | [`graph::Graph`]: the order, and what `--select` means |
//! | [`engine::sources::inspect`] | declared files | their columns and the hashes of their contents |
//! | [`compile::compile`] | all of them | [`compile::Compiled`]: SQL, columns, fingerprints |
//! | [`run::plan`] | that, and the warehouse | [`run::RunPlan`]: what is built, what is reused, and why |
//! | [`run::execute`] | that | [`run::RunResults`] |
//! | [`run::publish`] | that | a new version of the environment |
//! | [`artifacts`] | that | dbt's files in `target/`: manifest, run results, catalog, sources |
//!
//! The domain, without files, clock or network: [`stats`] (numbers), [`metrics`] (what a metric is), [`experiments`] (what decides),
//! [`flags`] (who gets which variant), [`contracts`] (what a definition means). The languages: [`template`] (Jinja) and [`sql`]. The
//! world outside: [`engine`] (DataFusion, and the operator that computes all metrics in one pass), [`warehouse`] (Delta tables),
//! [`events`] (a log that loses nothing), [`serve`] (HTTP), [`report`] (pages of decisions), [`generate`] (a made-up shop),
//! [`cli`].
//!
//! A module uses only what is below it in the table of ARCHITECTURE.md; `tests/integration/layers.rs` checks that.

pub mod artifacts;
pub mod cli;
pub mod compile;
pub mod contracts;
pub mod diagnostics;
pub mod engine;
pub mod events;
pub mod experiments;
pub mod flags;
pub mod generate;
pub mod graph;
pub mod manifest;
pub mod metrics;
pub mod project;
pub mod report;
pub mod run;
pub mod serve;
pub mod sql;
pub mod stats;
pub mod template;
pub mod warehouse;
