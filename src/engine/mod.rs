//! What touches DataFusion: sessions, functions, operators, and files of columns.

pub mod columns;
pub mod operator;
pub mod sources;
