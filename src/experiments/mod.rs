//! What an experiment is: soundness, the units it analyses, the rules of its decision.
//! In: experiment specs and metrics. Out: [`Experiments`], each sound; the SQL of its units and definitions; and [`decide()`],
//! a pure function from evidence to a [`Decision`].

mod decide;
mod experiment;
mod pin;
mod resolve;
pub mod sql;
pub mod words;

pub use decide::{Decision, Evidence, MetricEvidence, Reason, Verdict, decide};
pub use experiment::{Exclusion, Experiment, Experiments, Guardrail, Role, Variant};
pub use pin::{Pin, Used};
pub use resolve::resolve;
