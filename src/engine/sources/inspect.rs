//! Reads a source once to learn what it holds. In: a declared source. Out: its [`SourceTable`], or everything that is wrong
//! with its files, not just the first thing.

use super::cache::{ColumnFacts, FileFacts, remembered};
use super::declared::ColumnType;
use super::files::locate;
use super::infer::Candidates;
use super::problems::{Place, ProblemKind, Problems, SourceProblem};
use super::rows::{Cell, Row, Wanted, read};
use super::{Format, SourceFile, SourceFiles, SourceTable, parquet_files};
use crate::diagnostics::did_you_mean;
use datafusion::arrow::datatypes::{Field, Schema};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What the files of `source` hold; paths are relative to `root`. Facts about unchanged files come from `cache_dir`.
///
/// # Errors
/// All problems of all files, in path order; at most one of each kind and column of a file, with a count of the others.
pub async fn inspect(
    root: &Path,
    source: &SourceFiles,
    cache_dir: &Path,
) -> Result<SourceTable, Vec<SourceProblem>> {
    let (root, source, cache) = (root.to_path_buf(), source.clone(), cache_dir.to_path_buf());
    let task = tokio::task::spawn_blocking(move || inspect_files(&root, &source, &cache));
    task.await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn inspect_files(
    root: &Path,
    source: &SourceFiles,
    cache: &Path,
) -> Result<SourceTable, Vec<SourceProblem>> {
    let declared = declared_types(source)?;
    let (format, files) = locate(root, source)?;
    let (files, facts) = all_facts(source, format, &declared, files, cache)?;
    let schema = match format {
        Format::Parquet => parquet_files::schema(source, &declared, &files)?,
        Format::Csv | Format::JsonLines => text_schema(source, format, &declared, &files, &facts)?,
    };
    let rows = files.iter().map(|file| file.rows).sum();
    let warnings = if rows == 0 {
        vec![no_rows(source, &files)]
    } else {
        Vec::new()
    };
    Ok(SourceTable {
        schema: Arc::new(schema),
        guessed: guessed_columns(&declared, &facts),
        rows,
        content_hash: combined_hash(&facts),
        files,
        warnings,
        format,
    })
}

/// The declared columns with their types.
pub(super) type Declared = Vec<(String, Option<ColumnType>)>;

fn declared_types(source: &SourceFiles) -> Result<Declared, Vec<SourceProblem>> {
    let mut declared = Vec::with_capacity(source.columns.len());
    let mut problems = Vec::new();
    for column in &source.columns {
        match column
            .data_type
            .as_deref()
            .map(ColumnType::parse)
            .transpose()
        {
            Ok(column_type) => declared.push((column.name.clone(), column_type)),
            Err(hint) => {
                let data_type = column.data_type.as_deref().unwrap_or_default();
                let message = format!(
                    "column `{}` is declared as `{data_type}`, which is not a type",
                    column.name
                );
                problems.push(SourceProblem::new(
                    ProblemKind::DeclaredType,
                    &source.location,
                    message,
                    hint,
                ));
            }
        }
    }
    if problems.is_empty() {
        Ok(declared)
    } else {
        Err(problems)
    }
}

fn all_facts(
    source: &SourceFiles,
    format: Format,
    declared: &Declared,
    mut files: Vec<SourceFile>,
    cache: &Path,
) -> Result<(Vec<SourceFile>, Vec<FileFacts>), Vec<SourceProblem>> {
    let mut problems = Vec::new();
    let mut all = Vec::with_capacity(files.len());
    for file in &mut files {
        let inspect = || match format {
            Format::Parquet => parquet_files::facts(file),
            Format::Csv | Format::JsonLines => text_facts(source, format, declared, file),
        };
        let found = remembered(cache, source, format, declared, file, || match inspect() {
            Ok(facts) => Some(facts),
            Err(found) => {
                problems.extend(found);
                None
            }
        });
        if let Some(facts) = found {
            file.rows = facts.rows;
            file.hash.clone_from(&facts.hash);
            all.push(facts);
        }
    }
    if problems.is_empty() {
        Ok((files, all))
    } else {
        Err(problems)
    }
}

/// Reads a whole text file, checks declared columns and narrows the types of the others.
fn text_facts(
    source: &SourceFiles,
    format: Format,
    declared: &Declared,
    file: &SourceFile,
) -> Result<FileFacts, Vec<SourceProblem>> {
    let names: Vec<String> = declared.iter().map(|(name, _)| name.clone()).collect();
    let wanted = Wanted {
        columns: None,
        names: &names,
        csv: &source.csv,
    };
    let mut reading = Problems::default();
    let mut checking = Problems::default();
    let mut columns: Vec<Column> = Vec::new();
    let contents = read(format, file, wanted, &mut reading, &mut |names, row| {
        for name in &names[columns.len()..] {
            columns.push(Column::new(name, declared));
        }
        for (position, cell) in row.cells.iter().enumerate() {
            columns[position].check(*cell, position, &row, file, &mut checking);
        }
        true
    });
    let mut problems = reading.into_list();
    problems.extend(checking.into_list());
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if !problems.is_empty() {
        return Err(problems);
    }
    for name in &contents.columns[columns.len()..] {
        columns.push(Column::new(name, declared));
    }
    let columns = columns.into_iter().map(|column| column.facts).collect();
    Ok(FileFacts {
        columns,
        rows: contents.rows,
        hash: contents.hash,
    })
}

struct Column {
    facts: ColumnFacts,
    declared: Option<ColumnType>,
}

impl Column {
    fn new(name: &str, declared: &Declared) -> Self {
        let found = declared.iter().find(|(column, _)| column == name);
        let facts = ColumnFacts {
            name: name.to_string(),
            candidates: Candidates::default(),
        };
        Self {
            facts,
            declared: found.and_then(|(_, column_type)| *column_type),
        }
    }

    fn check(
        &mut self,
        cell: Cell<'_>,
        position: usize,
        row: &Row<'_>,
        file: &SourceFile,
        problems: &mut Problems,
    ) {
        let Some(declared) = self.declared else {
            return self.facts.candidates.add(cell, || (row.locate)(position));
        };
        let Some(text) = cell.text() else { return };
        if declared.accepts(text.trim()) {
            return;
        }
        let is_non_finite = declared.is_numeric() && super::values::is_non_finite(text.trim());
        let kind = if is_non_finite {
            ProblemKind::NonFinite
        } else {
            ProblemKind::Value
        };
        problems.add(kind, position, || {
            let problem = match is_non_finite {
                true => non_finite(&file.name, &self.facts.name, text),
                false => misfit(&file.name, &self.facts.name, text, declared),
            };
            problem.at((row.locate)(position))
        });
    }
}

fn misfit(file: &str, column: &str, text: &str, declared: ColumnType) -> SourceProblem {
    let message = format!(
        "`{}` in column `{column}` is not of its declared type {}",
        shortened(text),
        declared.sql()
    );
    let hint = format!(
        "write {}, list the text under `null_values`, or declare another type",
        declared.example()
    );
    SourceProblem::new(ProblemKind::Value, file, message, hint)
}

fn non_finite(file: &str, column: &str, text: &str) -> SourceProblem {
    let message = format!(
        "`{}` in column `{column}` is not a finite number",
        shortened(text)
    );
    let hint = "every sum over it would be lost; list it under `null_values` if it means that nothing is known";
    SourceProblem::new(ProblemKind::NonFinite, file, message, hint)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// One schema for all files: CSV files must agree on their columns, JSON objects may each leave out some.
fn text_schema(
    source: &SourceFiles,
    format: Format,
    declared: &Declared,
    files: &[SourceFile],
    facts: &[FileFacts],
) -> Result<Schema, Vec<SourceProblem>> {
    let mut problems = if format == Format::Csv {
        different_columns(files, facts)
    } else {
        Vec::new()
    };
    let columns = merged_columns(facts);
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    problems.extend(missing_columns(declared, &names, &files[0].name));
    problems.extend(non_finite_problems(declared, &columns, files, facts));
    if columns.is_empty() && problems.is_empty() {
        let hint = "write at least one key and value into each object";
        problems.push(SourceProblem::new(
            ProblemKind::Empty,
            &source.location,
            "the files have no columns",
            hint,
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let field = |(name, candidates): &(String, Candidates)| {
        let column_type = declared_type(declared, name).unwrap_or_else(|| candidates.column_type());
        Field::new(name, column_type.arrow(), true)
    };
    Ok(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn declared_type(declared: &Declared, name: &str) -> Option<ColumnType> {
    declared
        .iter()
        .find(|(column, _)| column == name)
        .and_then(|(_, column_type)| *column_type)
}

/// Columns that have no value in any file, and no declared type.
fn guessed_columns(declared: &Declared, facts: &[FileFacts]) -> Vec<String> {
    let columns = merged_columns(facts).into_iter();
    let is_guess = |(name, candidates): &(String, Candidates)| {
        !candidates.has_value() && declared_type(declared, name).is_none()
    };
    columns.filter(is_guess).map(|(name, _)| name).collect()
}

/// In order of first appearance.
fn merged_columns(facts: &[FileFacts]) -> Vec<(String, Candidates)> {
    let mut columns: Vec<(String, Candidates)> = Vec::new();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for column in facts.iter().flat_map(|file| &file.columns) {
        match positions.get(column.name.as_str()) {
            Some(position) => columns[*position].1.merge(&column.candidates),
            None => {
                positions.insert(&column.name, columns.len());
                columns.push((column.name.clone(), column.candidates.clone()));
            }
        }
    }
    columns
}

fn different_columns(files: &[SourceFile], facts: &[FileFacts]) -> Vec<SourceProblem> {
    let names = |facts: &FileFacts| -> Vec<String> {
        facts
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect()
    };
    let first = names(&facts[0]);
    let mut problems = Vec::new();
    for (file, facts) in files.iter().zip(facts).skip(1) {
        let other = names(facts);
        let lost = first.iter().find(|name| !other.contains(name));
        let added = other.iter().find(|name| !first.contains(name));
        let difference = match (lost, added) {
            (Some(name), _) => format!(
                "the file has no column `{name}`, unlike `{}`",
                files[0].name
            ),
            (None, Some(name)) => {
                format!("the file has a column `{name}`, unlike `{}`", files[0].name)
            }
            (None, None) => continue,
        };
        let hint =
            "the files of one source need the same columns; declare a second source for the others";
        let problem = SourceProblem::new(ProblemKind::Mismatch, &file.name, difference, hint);
        problems.push(problem.at(Place::line(1)));
    }
    problems
}

pub(super) fn missing_columns(
    declared: &Declared,
    names: &[&str],
    file: &str,
) -> Vec<SourceProblem> {
    let missing = declared
        .iter()
        .filter(|(name, _)| !names.contains(&name.as_str()));
    let problem = |(name, _): &(String, Option<ColumnType>)| {
        let message = format!("the declared column `{name}` is not in the file");
        SourceProblem::new(
            ProblemKind::DeclaredColumn,
            file,
            message,
            did_you_mean(name, names.iter().copied()),
        )
    };
    missing.map(problem).collect()
}

/// NaN and infinities in columns that are numbers otherwise.
fn non_finite_problems(
    declared: &Declared,
    columns: &[(String, Candidates)],
    files: &[SourceFile],
    facts: &[FileFacts],
) -> Vec<SourceProblem> {
    let is_number = |name: &str| {
        let column = columns.iter().find(|(column, _)| column == name);
        declared_type(declared, name).is_none()
            && column.is_some_and(|(_, found)| found.column_type() == ColumnType::Double)
    };
    let mut problems = Vec::new();
    for (file, facts) in files.iter().zip(facts) {
        for column in facts
            .columns
            .iter()
            .filter(|column| is_number(&column.name))
        {
            problems.extend(column.candidates.non_finite.as_ref().map(|found| {
                let problem = non_finite(&file.name, &column.name, &found.text).at(found.place);
                problem.and_more(found.more)
            }));
        }
    }
    problems
}

fn no_rows(source: &SourceFiles, files: &[SourceFile]) -> SourceProblem {
    let file = if files.len() == 1 {
        &files[0].name
    } else {
        &source.location
    };
    let hint =
        "check that the data was exported; columns without a declared type are taken as varchar";
    SourceProblem::new(
        ProblemKind::NoRows,
        file,
        format!("source `{}` has no rows", source.name),
        hint,
    )
}

/// Independent of file names, so that moving a folder changes nothing; dependent on the order, which is the rows' order.
fn combined_hash(facts: &[FileFacts]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in facts {
        hasher.update(file.hash.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
