//! The metric computation engine: one streaming merge over units fills the states of all experiments x variants x metrics x segments.
//! In: a [`MetricPlan`](crate::metrics::plan::MetricPlan) over a table of events and one of assignments. Out: one row of states per experiment, variant, metric and segment,
//! by the table function `metric_states`. What a metric is, and what follows from its states, is decided elsewhere.
//!
//! [`lanes`] and [`layout`] (the plan compiled) -> [`ahead`] (the sorted runs of a bucket) -> [`merge`] (rows into a [`mod@unit`]) ->
//! [`kernel`] (its windows, one row of numbers per assignment that sees other events) -> [`queue`] and [`blocks`] (rows into
//! [`cells`]) -> [`states`] (rows);
//! [`passes`] makes several passes where memory asks for it; [`exec`], [`sources`] and [`function`] hang all of it into DataFusion.

mod ahead;
mod apart;
mod batches;
mod blocks;
mod cells;
mod codes;
mod days;
mod ends;
mod exec;
pub mod facts;
mod firsts;
mod function;
mod gathered;
mod kernel;
mod keys;
mod lanes;
mod layout;
mod merge;
mod numbers;
mod passes;
mod queue;
mod running;
mod segments;
mod sources;
mod special;
mod special_cells;
mod sql;
mod states;
mod texts;
mod union;
mod unit;
mod vectors;

pub use exec::{Layout, MetricStatesExec};
pub use function::{MetricStatesTable, register};
pub use sql::sql;
