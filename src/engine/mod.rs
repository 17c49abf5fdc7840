//! What touches DataFusion: sessions, functions, operators, and files of columns.

mod clustered;
pub mod columns;
mod decision;
mod first_rows;
mod growing;
mod memory;
pub mod operator;
mod session;
pub mod sources;
mod unreadable;
pub mod witness;

pub use clustered::{
    FactsError, FactsShape, FactsTable, Optimized, clustered_facts, facts_shape, facts_tables,
};
pub use growing::Place;
pub use operator::facts::{Appended, Clustering};
pub use session::{Engine, EngineOptions, Rows, spilling_safely};
pub use unreadable::{Failure, why_unreadable};
