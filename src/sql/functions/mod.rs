//! Statistics as SQL functions: aggregates that make mergeable states, scalars that test them.
//! In: Arrow arrays from DataFusion. Out: Arrow structs whose fields are named as in the library's records.
//! No formula lives here: each function reads its arguments, calls `stats` and writes the record.
//!
//! Every engine registers the same lists, [`scalars`] and [`aggregates`], so a query means the same wherever it runs.

mod arguments;
mod bucketing;
mod columns;
mod methods;
mod scalar;
mod state_aggregate;
mod state_type;

pub use state_type::state_type;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// Makes all statistical functions callable in a session.
pub fn register(context: &SessionContext) {
    for function in scalars() {
        context.register_udf(function.as_ref().clone());
    }
    for function in aggregates() {
        context.register_udaf(function.as_ref().clone());
    }
}

/// All scalar functions, in the order of the documentation.
pub fn scalars() -> Vec<Arc<ScalarUDF>> {
    let mut functions = methods::all();
    functions.extend(bucketing::all());
    functions
}

/// All aggregate functions.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    state_aggregate::all()
}
