//! SQL. In: rendered queries and the schemas they read. Out: plans, schemas and errors with places ([`Analyzer`]); and the
//! functions that offer statistics and bucketing to SQL ([`functions`]).

mod analyze;
pub mod functions;

pub use analyze::{Analyzed, Analyzer, SqlError, SqlErrorKind, is_number, register, same_type};
/// Columns and their types.
pub use datafusion::arrow::datatypes::SchemaRef as Schema;
