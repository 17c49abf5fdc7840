//! Statistics as SQL functions: aggregates that make mergeable states, scalars that test them.
//! In: Arrow arrays from DataFusion. Out: Arrow structs whose fields are named as in the library's records.
//! No formula lives here: each function reads its arguments, calls `stats` and writes the record.
//!
//! Every engine registers the same lists, [`scalars`] and [`aggregates`], so a query means the same wherever it runs.

mod arguments;
mod bucketing;
mod columns;
mod definition_rows;
mod exact;
mod methods;
mod scalar;
mod state_aggregate;
mod state_type;

pub use state_type::state_type;

use datafusion::arrow::datatypes::DataType;
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
    let rows = Arc::new(definition_rows::DefinitionRows);
    context.register_udtf(definition_rows::NAME, rows);
}

/// All scalar functions, in the order of the documentation.
pub fn scalars() -> Vec<Arc<ScalarUDF>> {
    let mut functions = methods::all();
    functions.extend(bucketing::all());
    functions
}

/// How each statistical function is called and what it returns, for documentation: a struct as its fields.
pub fn reference() -> Vec<(String, String)> {
    let scalars = methods::all().into_iter().map(|function| {
        let types =
            (0..16).find_map(|count| function.coerce_types(&vec![DataType::Null; count]).ok());
        let returns = function
            .return_type(&types.unwrap_or_default())
            .unwrap_or(DataType::Null);
        (scalar::usage(&function), described(&returns))
    });
    let aggregates = state_aggregate::USAGE
        .iter()
        .map(|call| (call.to_string(), "state".to_string()));
    aggregates.chain(scalars).collect()
}

fn described(kind: &DataType) -> String {
    match kind {
        _ if *kind == state_type() => "state".to_string(),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| match field.data_type() {
                    DataType::Float64 => format!("`{}`", field.name()),
                    DataType::List(_) => format!("`{}` (list)", field.name()),
                    other => format!("`{}` ({})", field.name(), super::type_name(other)),
                })
                .collect();
            fields.join(", ")
        }
        other => super::type_name(other),
    }
}

/// All aggregate functions that are not DataFusion's own.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let mut functions = state_aggregate::all();
    functions.extend(exact::all());
    functions
}
