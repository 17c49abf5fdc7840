//! SQL. Out: the functions that offer statistics to SQL.

pub mod functions;
