//! Parquet files as a source. In: files. Out: facts of each file from its footer, one schema for all, and the provider.
//! Only the content hash reads the whole file, once.

use super::cache::FileFacts;
use super::declared::ColumnType;
use super::files::unreadable;
use super::inspect::{Declared, missing_columns};
use super::problems::{ProblemKind, SourceProblem};
use super::provider::check_unchanged;
use super::{SourceFile, SourceFiles, SourceTable};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::fs::{self, File};
use std::sync::Arc;
use url::Url;

/// Rows and content hash of one file.
pub(super) fn facts(file: &SourceFile) -> Result<FileFacts, Vec<SourceProblem>> {
    let metadata = footer(file).map_err(|problem| vec![problem])?;
    let rows = metadata
        .metadata()
        .file_metadata()
        .num_rows()
        .unsigned_abs();
    let hash = hash(file).map_err(|error| vec![unreadable(&file.name, &error)])?;
    Ok(FileFacts {
        columns: Vec::new(),
        rows,
        hash,
    })
}

fn hash(file: &SourceFile) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(&file.path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn footer(file: &SourceFile) -> Result<ArrowReaderMetadata, SourceProblem> {
    let opened = File::open(&file.path).map_err(|error| unreadable(&file.name, &error))?;
    ArrowReaderMetadata::load(&opened, ArrowReaderOptions::new()).map_err(|error| {
        let (kind, hint) = match file.bytes {
            0 => (
                ProblemKind::Empty,
                "the file is empty; remove it, or write it again",
            ),
            _ => (
                ProblemKind::Format,
                "it may be cut off, or of another format; write it again",
            ),
        };
        SourceProblem::new(
            kind,
            &file.name,
            format!("this is not a complete Parquet file: {error}"),
            hint,
        )
    })
}

/// The common schema of the files, with declared types where they can be reached without loss.
pub(super) fn schema(
    source: &SourceFiles,
    declared: &Declared,
    files: &[SourceFile],
) -> Result<Schema, Vec<SourceProblem>> {
    let mut problems = Vec::new();
    let mut schemas = Vec::with_capacity(files.len());
    for file in files {
        match footer(file) {
            Ok(metadata) => schemas.push(readable(metadata.schema())),
            Err(problem) => problems.push(problem),
        }
    }
    let [first, others @ ..] = schemas.as_slice() else {
        return Err(problems);
    };
    for (file, other) in files[1..].iter().zip(others) {
        problems.extend(difference(first, other, file, &files[0]));
    }
    let names: Vec<&str> = first
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    problems.extend(missing_columns(declared, &names, &files[0].name));
    let fields = first.fields().iter().map(|field| {
        with_declared_type(field, declared, source).map_err(|found| problems.push(found))
    });
    let fields: Vec<Field> = fields.filter_map(Result::ok).collect();
    if problems.is_empty() {
        Ok(Schema::new(fields))
    } else {
        Err(problems)
    }
}

/// The file's schema as queries see it: nullable, strings and bytes as views, without the writer's notes. One of these is the zone in
/// which an instant was written: kept, a time without a zone beside it would be taken for one of that zone's.
fn readable(schema: &Schema) -> Schema {
    let field = |field: &Field| {
        let data_type = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    };
    Schema::new(
        schema
            .fields()
            .iter()
            .map(|found| field(found))
            .collect::<Vec<_>>(),
    )
}

fn difference(
    first: &Schema,
    other: &Schema,
    file: &SourceFile,
    first_file: &SourceFile,
) -> Option<SourceProblem> {
    let unlike = |field: &Field, schema: &Schema| {
        schema
            .field_with_name(field.name())
            .ok()
            .map(|found| found.data_type().clone())
    };
    let lost = first
        .fields()
        .iter()
        .find_map(|field| match unlike(field, other) {
            None => Some(format!(
                "the file has no column `{}`, unlike `{}`",
                field.name(),
                first_file.name
            )),
            Some(found) if found != *field.data_type() => {
                let (name, expected) = (field.name(), field.data_type());
                Some(format!(
                    "column `{name}` has the type {found}, but {expected} in `{}`",
                    first_file.name
                ))
            }
            Some(_) => None,
        });
    let added = || {
        let field = other
            .fields()
            .iter()
            .find(|field| unlike(field, first).is_none())?;
        Some(format!(
            "the file has a column `{}`, unlike `{}`",
            field.name(),
            first_file.name
        ))
    };
    let hint = "the files of one source need the same columns and types; declare a second source for the others";
    Some(SourceProblem::new(
        ProblemKind::Mismatch,
        &file.name,
        lost.or_else(added)?,
        hint,
    ))
}

fn with_declared_type(
    field: &Field,
    declared: &Declared,
    source: &SourceFiles,
) -> Result<Field, SourceProblem> {
    let wanted = declared
        .iter()
        .find(|(name, _)| name == field.name())
        .and_then(|(_, column_type)| *column_type);
    let Some(wanted) = wanted else {
        return Ok(field.clone());
    };
    if can_become(field.data_type(), wanted) {
        return Ok(Field::new(field.name(), wanted.arrow(), true));
    }
    let message = format!(
        "column `{}` has the type {} in the file, but is declared as {}",
        field.name(),
        field.data_type(),
        wanted.sql()
    );
    let hint = "declare the type of the file, and cast it in the staging model";
    Err(SourceProblem::new(
        ProblemKind::Value,
        &source.location,
        message,
        hint,
    ))
}

/// Whether every value of the file's type is one of the declared type.
fn can_become(found: &DataType, wanted: ColumnType) -> bool {
    use DataType::*;
    let wanted = wanted.arrow();
    match (found, &wanted) {
        (found, wanted) if found == wanted => true,
        (Int8 | UInt8, Int16 | Int32 | Int64) => true,
        (Int16 | UInt16, Int32 | Int64) => true,
        (Int32 | UInt32, Int64) => true,
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float16 | Float32, Float64) => true,
        // Digits below a microsecond are cut off, as in every other format.
        (Timestamp(_, None), Timestamp(_, None))
        | (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => true,
        (Date32, Timestamp(_, None)) => true,
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        _ => false,
    }
}

/// A listing of exactly these files, read with exactly this schema. That a file changes later goes unnoticed until the
/// next inspection, unless its footer no longer fits.
pub(super) fn provider(table: &SourceTable) -> Result<Arc<dyn TableProvider>> {
    table.files.iter().try_for_each(check_unchanged)?;
    let urls = table
        .files
        .iter()
        .map(file_url)
        .collect::<Result<Vec<_>>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    let schema: SchemaRef = table.schema.clone();
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// By URL, because a path with `*` or `[` in it would be taken for a glob.
fn file_url(file: &SourceFile) -> Result<ListingTableUrl> {
    let path = fs::canonicalize(&file.path)?;
    let url = Url::from_file_path(&path).map_err(|()| {
        DataFusionError::Plan(format!("`{}` cannot be written as a URL", path.display()))
    })?;
    ListingTableUrl::try_new(url, None)
}
