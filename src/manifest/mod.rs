//! Gives every thing of a project its name, kind and settings, and checks that all names exist.
//! In: a [`Project`](crate::project::Project). Out: a [`Manifest`] of nodes that know what they depend on. Templates are rendered once to see
//! which names they use; their SQL is not read here.

mod consumers;
mod discover;
mod freshness;
mod growth;
mod kept;
mod node;
mod resolve;
mod sources;
mod tests;

pub use consumers::Consumer;
pub use discover::{Discovery, Names};
pub use freshness::{Age, Freshness, LoadedAt, Period};
pub use growth::{ClusterBy, Growth, Strategy};
pub use kept::{Kept, KeptFact, KeptMetric, Read};
pub use node::{
    About, Column, Contract, Generic, Materialization, Node, NodeId, NodeKind, Settings,
    SourceAbout, SourceTable, TestSettings, TestSeverity, identifier,
};
pub use resolve::{Manifest, resolve};
pub use tests::Places;
