//! Events: what happened to units, made durable before it is acknowledged, typed, and moved into tables exactly once.
//! In: the JSON of clients and the server's own assignments. Out: Delta tables, one per kind of event, and a quarantine.
//! HTTP is left to `serve`, analysis to the models that read the tables.
//!
//! [`accept`] checks a request body and frames its events, [`log`] makes them durable and drops ids it knows, and [`rotate`] moves
//! closed segments into tables.

pub mod accept;
pub mod bots;
mod convert;
pub mod event;
mod leftovers;
pub mod log;
pub mod plan;
pub mod record;
pub mod rotate;
mod rows;
pub mod schema;
pub mod tables;
pub mod time;
