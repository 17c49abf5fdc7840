//!

pub mod accept;
pub mod bots;
mod convert;
pub mod event;
pub mod log;
pub mod plan;
pub mod record;
pub mod schema;
pub mod time;
