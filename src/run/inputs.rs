//! Looks at the files behind sources and seeds before anything is compiled against them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::compile::{Input, Inputs};
use crate::diagnostics::{Checked, Code, Diagnostic, Span};
use crate::engine::sources::{
    CsvOptions, DeclaredColumn, Format, ProblemKind, SourceFiles, SourceProblem, SourceTable,
    inspect,
};
use crate::manifest::{Manifest, Node, NodeId, NodeKind};

/// Files that were looked at, ready to be read.
pub(super) type Inspected = BTreeMap<NodeId, (SourceFiles, SourceTable)>;

pub(super) async fn look(
    manifest: &Manifest,
    root: &Path,
    data_root: &Path,
    cache: &Path,
) -> Checked<Inspected> {
    let mut checked = Checked::new(Inspected::new());
    for node in &manifest.nodes {
        let Some(files) = files(node, &mut checked.diagnostics) else {
            continue;
        };
        // Seeds are files of the project, sources are data that it reads.
        let root = match node.kind {
            NodeKind::Source(_) => data_root,
            _ => root,
        };
        match inspect(root, &files, cache).await {
            Ok(table) => {
                let accepts_empty =
                    matches!(&node.kind, NodeKind::Source(source) if source.allow_empty);
                if !accepts_empty {
                    checked.diagnostics.extend(
                        table
                            .warnings
                            .iter()
                            .map(|problem| diagnostic(node, problem)),
                    );
                }
                checked.value.insert(node.id, (files, table));
            }
            Err(problems) => checked
                .diagnostics
                .extend(problems.iter().map(|problem| diagnostic(node, problem))),
        }
    }
    checked
}

pub(super) fn inputs(inspected: &Inspected) -> Inputs {
    let input = |table: &SourceTable| Input {
        schema: table.schema.clone(),
        guessed: table.guessed.clone(),
        content_hash: table.content_hash.clone(),
    };
    Inputs {
        by_node: inspected
            .iter()
            .map(|(id, (_, table))| (*id, input(table)))
            .collect(),
    }
}

fn files(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<SourceFiles> {
    match &node.kind {
        NodeKind::Source(source) => {
            // That the location is missing was said before.
            if source.location.is_empty() {
                return None;
            }
            let mut files = SourceFiles::new(&node.name, &source.location);
            files.format = match source.format.as_deref() {
                None => None,
                Some("csv") => Some(Format::Csv),
                Some("jsonl" | "json" | "ndjson") => Some(Format::JsonLines),
                Some("parquet") => Some(Format::Parquet),
                Some(other) => {
                    diagnostics.push(
                        Diagnostic::error(Code::E0106, format!("`{other}` is not a format"))
                            .at(source
                                .format_span
                                .clone()
                                .unwrap_or(source.location_span.clone()))
                            .hint("use `csv`, `jsonl` or `parquet`"),
                    );
                    return None;
                }
            };
            let delimiter = source
                .delimiter
                .and_then(|character| u8::try_from(character).ok());
            files.csv = CsvOptions {
                delimiter,
                has_header: source.header,
                null_values: source.null_values.clone(),
            };
            let declared = |column: &crate::manifest::Column| DeclaredColumn {
                name: column.name.clone(),
                data_type: column.data_type.as_ref().map(|(text, _)| text.clone()),
            };
            files.columns = node.columns.iter().map(declared).collect();
            Some(files)
        }
        NodeKind::Seed => {
            let mut files = SourceFiles::new(&node.name, &node.path);
            files.format = Some(Format::Csv);
            files.csv.delimiter = node
                .settings
                .delimiter
                .as_ref()
                .and_then(|text| text.bytes().next());
            let typed = |(name, kind): &(String, String)| DeclaredColumn {
                name: name.clone(),
                data_type: Some(kind.clone()),
            };
            files.columns = node.settings.column_types.iter().map(typed).collect();
            Some(files)
        }
        _ => None,
    }
}

/// A problem of a file as a diagnostic: in the data where a line is known, else where the source is declared.
fn diagnostic(node: &Node, problem: &SourceProblem) -> Diagnostic {
    let code = match problem.kind {
        ProblemKind::Missing => Code::E0410,
        ProblemKind::Empty | ProblemKind::NoRows => Code::E0412,
        ProblemKind::Value | ProblemKind::NonFinite => Code::E0413,
        ProblemKind::DeclaredColumn => Code::E0414,
        ProblemKind::DeclaredType => Code::E0106,
        _ => Code::E0411,
    };
    let declared = match &node.kind {
        NodeKind::Source(source) => source.location_span.clone(),
        _ => node.span.clone(),
    };
    let column_place = node
        .columns
        .iter()
        .find(|column| problem.message.contains(&format!("`{}`", column.name)));
    let place = match (problem.line, problem.kind) {
        (Some(line), _) => {
            let column = problem.column.unwrap_or(1);
            Span::new(
                problem.file.as_str(),
                line,
                column,
                problem.length.unwrap_or(0),
            )
        }
        (None, ProblemKind::DeclaredColumn) => {
            column_place.map_or(declared.clone(), |column| column.span.clone())
        }
        (None, ProblemKind::DeclaredType) => column_place
            .and_then(|column| column.data_type.as_ref())
            .map_or(declared.clone(), |(_, span)| span.clone()),
        _ => declared.clone(),
    };
    let (message, hint) = match (problem.kind, &node.kind) {
        (ProblemKind::NoRows, NodeKind::Seed) => (
            format!("the seed `{}` has no rows", node.name),
            "add rows, or remove the file".to_string(),
        ),
        (ProblemKind::NoRows, _) => {
            let hint = "check that the data was exported; if it may be empty, add `allow_empty: true` to the table";
            (
                format!("the source table `{}` has no rows", node.name),
                hint.to_string(),
            )
        }
        _ => (problem.message.clone(), problem.hint.clone()),
    };
    let diagnostic = Diagnostic::error(code, message).at(place).hint(hint);
    match problem.line {
        Some(_) if matches!(node.kind, NodeKind::Source(_)) => {
            diagnostic.also(declared, format!("read as `{}`", node.name))
        }
        _ => diagnostic,
    }
}
