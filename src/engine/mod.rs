//! What touches DataFusion: sessions, functions, operators, and files of columns.

pub mod columns;
mod decision;
pub mod operator;
mod session;
pub mod sources;
pub mod witness;

pub use session::{Engine, EngineOptions, Rows};
