//! What YAML promises about a relation's columns is kept by the query.

use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::manifest::Node;
use crate::sql::{Analyzer, Schema, same_type, type_name};

/// Declared columns exist and have the declared types.
pub(super) async fn check(node: &Node, schema: &Schema, analyzer: &Analyzer) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for column in &node.columns {
        let Some(field) = schema
            .fields()
            .iter()
            .find(|field| field.name().eq_ignore_ascii_case(&column.name))
        else {
            let known = schema.fields().iter().map(|field| field.name().as_str());
            diagnostics.push(
                Diagnostic::error(
                    Code::E0501,
                    format!("`{}` has no column `{}`", node.name, column.name),
                )
                .at(column.span.clone())
                .hint(did_you_mean(&column.name, known)),
            );
            continue;
        };
        let Some((declared, span)) = &column.data_type else {
            continue;
        };
        match analyzer.data_type(declared).await {
            None => diagnostics.push(
                Diagnostic::error(Code::E0502, format!("`{declared}` is no SQL type"))
                    .at(span.clone())
                    .hint("use `bigint`, `double`, `varchar`, `boolean`, `date`, `timestamp` or `decimal(p, s)`"),
            ),
            Some(wanted) if !same_type(&wanted, field.data_type()) => diagnostics.push(
                Diagnostic::error(Code::E0502, format!("the column `{}` is {}, but its YAML says {declared}", column.name, type_name(field.data_type())))
                    .at(span.clone())
                    .hint("cast it in the model, or mend the declaration"),
            ),
            Some(_) => {}
        }
    }
    diagnostics
}
