//! The SQL that metrics become: `metric_aggregates` (states per experiment, variant and metric) and `metric_daily`.
//! A person reads this SQL in `target/compiled`, so it is written as a person would write it.

mod aggregates;
mod daily;
mod ends;
mod side;
mod unit;

pub use aggregates::{Use, aggregates};
pub use daily::{daily, daily_parts};
pub use ends::DataEnds;
pub(in crate::metrics) use unit::step_bits;

/// DataFusion's planning time grows with the square of the aggregates in one select.
const AGGREGATES_PER_QUERY: usize = 120;
