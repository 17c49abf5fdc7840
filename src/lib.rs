//! Equipoise: an experimentation platform built as a SQL compiler.

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
pub mod run;
pub mod serve;
pub mod sql;
pub mod stats;
pub mod template;
pub mod warehouse;
