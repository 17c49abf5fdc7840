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
    diagnostics.extend(enforced(node, schema));
    diagnostics
}

/// An enforced contract lists every column with its type, and its grain names columns that exist.
fn enforced(node: &Node, schema: &Schema) -> Vec<Diagnostic> {
    let contract = match node.settings.contract() {
        Ok(contract) => contract,
        Err(diagnostic) => return vec![diagnostic.at(node.span.clone())],
    };
    let fields = schema.fields().iter().map(|field| field.name().as_str());
    let mut diagnostics = Vec::new();
    for name in &contract.grain {
        if !fields.clone().any(|field| field.eq_ignore_ascii_case(name)) {
            let message = format!(
                "the grain of `{}` names `{name}`, which is no column of it",
                node.name
            );
            diagnostics.push(
                Diagnostic::error(Code::E0510, message)
                    .at(node.span.clone())
                    .hint(did_you_mean(name, fields.clone())),
            );
        }
    }
    if !contract.is_enforced {
        return diagnostics;
    }
    let is_declared = |name: &str| {
        let mut declared = node.columns.iter();
        declared.any(|column| column.name.eq_ignore_ascii_case(name))
    };
    let undeclared: Vec<&str> = fields.filter(|name| !is_declared(name)).collect();
    if !undeclared.is_empty() {
        let message = format!(
            "`{}` has columns that its contract does not declare: {}",
            node.name,
            undeclared.join(", ")
        );
        diagnostics.push(
            Diagnostic::error(Code::E0509, message)
                .at(node.span.clone())
                .hint("declare them under `columns` with a `data_type`, or leave them out of the last select"),
        );
    }
    for column in node
        .columns
        .iter()
        .filter(|column| column.data_type.is_none())
    {
        let message = format!(
            "the contract of `{}` gives `{}` no type",
            node.name, column.name
        );
        diagnostics.push(
            Diagnostic::error(Code::E0509, message)
                .at(column.span.clone())
                .hint("add `data_type`"),
        );
    }
    diagnostics
}
