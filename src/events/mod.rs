//! Events: what happened to units, made durable before it is acknowledged, typed, and moved into tables exactly once.
//! In: the JSON of clients and the server's own assignments. Out: Delta tables, one per kind of event, and a quarantine.
//! HTTP is left to `serve`, analysis to the models that read the tables.

pub mod log;
