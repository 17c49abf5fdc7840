//! What a metric is, and the SQL it becomes.
//! In: the metric specs of a manifest. Out: [`Metrics`], each sound; and the SQL of the metric marts. No query runs here.

mod duration;
mod hierarchy;
mod metric;
pub mod plan;
pub mod planned;
mod resolve;
pub mod sql;

pub use duration::Duration;
pub use metric::{
    Aggregation, Audience, Cap, Covariate, Direction, Fill, Kind, Level, Maturity, Measure, Metric,
    Metrics, Over, Sla, Tier, Window,
};
pub use resolve::resolve;
