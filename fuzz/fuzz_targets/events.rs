//! The product's events room without its tables, which need DataFusion.

#[path = "../../src/events/accept.rs"]
pub mod accept;
#[path = "../../src/events/bots.rs"]
pub mod bots;
#[path = "../../src/events/convert.rs"]
mod convert;
#[path = "../../src/events/event.rs"]
pub mod event;
#[path = "../../src/events/log/mod.rs"]
pub mod log;
#[path = "../../src/events/plan.rs"]
pub mod plan;
#[path = "../../src/events/record.rs"]
pub mod record;
#[path = "../../src/events/schema.rs"]
pub mod schema;
#[path = "../../src/events/time.rs"]
pub mod time;
