//! SQL. In: rendered queries and the schemas they read. Out: plans, schemas and errors with places ([`Analyzer`]); the
//! meaning of a plan as one text ([`canonical`]); and the functions that offer statistics and bucketing to SQL
//! ([`functions`]).

mod analyze;
mod beyond;
pub mod canonical;
mod constants;
mod expression;
pub mod functions;
mod ignored;
mod layout;
pub mod lineage;
mod queries;
mod rename;
mod row_by_row;
mod words;

pub use analyze::{
    Analyzed, Analyzer, SqlError, SqlErrorKind, foreign_zone, is_day_or_timestamp, is_number,
    is_time, is_timestamp, refused, register, same_type,
};
pub use beyond::unanswerable;
/// Columns and their types.
pub use datafusion::arrow::datatypes::SchemaRef as Schema;
pub use expression::{expression_columns, is_time_zone, surplus, without_comments};
pub use layout::without_layout;
pub use queries::{Queries, Query};
pub use row_by_row::{Rows, rows_of};
pub use words::{declared_type, type_name};
