//! The statistics room alone, from the sources of the crate.

#[path = "../../../src/stats/mod.rs"]
pub mod stats;
