//! `facts`: tables clustered by unit and day, which the metric operator merges as they lie.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use super::output::counted;
use super::{Common, Exit, context, output, query};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::engine::{
    Appended, Clustering, Engine, EngineOptions, FactsError, FactsTable, facts_shape, facts_tables,
};
use crate::run::{Prepared, exhausted};
use crate::sql::{self, SqlError};
use crate::warehouse::{LockError, WarehouseError};

#[derive(Debug, Clone, Subcommand)]
pub enum Facts {
    /// Store the rows of a query that are not stored yet; the table is then `clustered.NAME` in `equipoise sql`
    Append(Append),
    /// Merge runs, so that files stay few, and remove files that were replaced
    Optimize(Optimize),
    /// List the tables, published relations with `cluster_by` among them, and how they lie
    Ls,
}

#[derive(Debug, Clone, Args)]
pub struct Append {
    /// Letters, digits and underscores
    pub name: String,
    /// The query over what is published; `-` reads it from standard input
    pub query: String,
    /// Column of the unit that rows are clustered by
    #[arg(long, value_name = "COLUMN")]
    pub unit: String,
    /// Column of the time; a row belongs to the day of its time, however late it comes
    #[arg(long, value_name = "COLUMN")]
    pub time: String,
    /// Column that tells rows apart; a row stored already is dropped
    #[arg(long, value_name = "COLUMN")]
    pub id: String,
    /// Buckets of units; tables that are read together need the same number
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub buckets: u16,
}

#[derive(Debug, Clone, Args)]
pub struct Optimize {
    /// Tables of `facts append` and published relations with `cluster_by`; all of them if none is named
    pub names: Vec<String>,
    /// Runs that a bucket may have
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub most_runs: u32,
    /// Keep replaced files for so many days, for those who still read them
    #[arg(long, default_value_t = 7)]
    pub keep_days: u32,
}

pub async fn run(common: &Common, facts: &Facts) -> anyhow::Result<Exit> {
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    match facts {
        Facts::Append(append) => self::append(common, &prepared, append).await,
        Facts::Optimize(optimize) => self::optimize(common, &prepared, optimize).await,
        Facts::Ls => list(common, &prepared).await,
    }
}

async fn append(common: &Common, prepared: &Prepared, append: &Append) -> anyhow::Result<Exit> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if append.name.is_empty() || !append.name.chars().all(is_plain) {
        let name = &append.name;
        tell!(
            "error: a table has a name of letters, digits and underscores, which `{name}` is not"
        );
        return Ok(Exit::Wrong);
    }
    let warehouse = context::warehouse(prepared)?;
    let engine = query::published_in(prepared, &warehouse, one_sort(prepared)).await?;
    let clustering = Clustering {
        unit: append.unit.clone(),
        time: append.time.clone(),
        id: append.id.clone(),
        buckets: append.buckets,
    };
    let rows = query::text(&append.query)?;
    if let Some(refused) = engine.unanswerable(&rows) {
        query::say(common, prepared, &rows, refused);
        return Ok(Exit::Wrong);
    }
    let folder = folder(prepared, &append.name);
    let appended = engine.append_clustered(&folder, &rows, clustering).await;
    Ok(match appended {
        Ok(appended) => {
            say(common, append, &appended);
            Exit::Good
        }
        Err(error @ FactsError::NoColumn { .. }) => {
            context::report(common, &[diagnostic(prepared, &error)], prepared);
            Exit::Wrong
        }
        Err(error) => match refused(&rows, &error) {
            Some(refused) => {
                query::say(common, prepared, &rows, refused);
                Exit::Wrong
            }
            None => {
                context::report(common, &[diagnostic(prepared, &error)], prepared);
                Exit::Failed
            }
        },
    })
}

/// What is wrong with the query itself, and where.
fn refused(query: &str, error: &FactsError) -> Option<SqlError> {
    match error {
        FactsError::Failed(WarehouseError::Query(cause)) => sql::refused(query, cause),
        _ => None,
    }
}

/// What became of the rows. That some were left out is said even to who wants to hear of errors only.
fn say(common: &Common, append: &Append, appended: &Appended) {
    let name = &append.name;
    if !common.quiet {
        tell!(
            "clustered.{name}: {} in {}, {} were there already",
            counted(appended.rows, "row"),
            counted(appended.files as u64, "file"),
            appended.repeated
        );
        if appended.differing > 0 {
            tell!(
                "clustered.{name}: {} rows came with other values than a row with the same {}, {} and {}; of each, the row whose values come first stays",
                appended.differing,
                append.unit,
                append.time,
                append.id
            );
        }
    }
    if appended.incomplete > 0 {
        tell!(
            "warning: {} rows have no `{}`, `{}` or `{}` and were left out of clustered.{name}",
            appended.incomplete,
            append.unit,
            append.time,
            append.id
        );
    }
}

/// All rows are sorted. Two sorts that share a small memory limit can take the memory that the other needs to spill.
fn one_sort(prepared: &Prepared) -> EngineOptions {
    match prepared.engine.memory_limit {
        Some(_) => EngineOptions {
            threads: Some(1),
            ..prepared.engine
        },
        None => prepared.engine,
    }
}

async fn list(common: &Common, prepared: &Prepared) -> anyhow::Result<Exit> {
    let warehouse = context::warehouse(prepared)?;
    let (published, _pin) = warehouse.pin(&prepared.environment)?;
    let mut lines = Vec::new();
    for table in facts_tables(&warehouse, &published)? {
        let shape = facts_shape(&table.folder).await?;
        let day = |day: Option<i32>| match day.and_then(NaiveDate::from_epoch_days) {
            Some(day) => format!("date '{day}'"),
            None => "null".to_string(),
        };
        lines.push(format!(
            ", ('{}', {}, {}, {}, {}, {}, {})",
            table.name.replace('\'', "''"),
            shape.rows,
            shape.files,
            shape.most_runs,
            day(shape.days.map(|days| days.0)),
            day(shape.days.map(|days| days.1)),
            shape.bytes
        ));
    }
    let query = format!(
        "select * from (values ('', 0, 0, 0, cast(null as date), cast(null as date), 0){}) \
            as facts(name, rows, files, most_runs, first_day, last_day, bytes) where name <> ''",
        lines.concat()
    );
    let rows = Engine::new(prepared.engine)?.rows(&query, None).await?;
    output::rows(&rows, common.output)?;
    Ok(Exit::Good)
}

async fn optimize(
    common: &Common,
    prepared: &Prepared,
    optimize: &Optimize,
) -> anyhow::Result<Exit> {
    let warehouse = context::warehouse(prepared)?;
    let published = warehouse.environment(&prepared.environment)?;
    let known = facts_tables(&warehouse, &published)?;
    let is_named = |table: &FactsTable, name: &String| {
        table.name == *name || table.name.strip_prefix("clustered.") == Some(name)
    };
    let is_known = |name: &&String| !known.iter().any(|table| is_named(table, name));
    if let Some(unknown) = optimize.names.iter().find(is_known) {
        tell!("error: there are no clustered facts `{unknown}`");
        tell!("   = hint: `equipoise facts ls` lists them");
        return Ok(Exit::Wrong);
    }
    let engine = Engine::new(prepared.engine)?;
    let keep = chrono::Duration::days(optimize.keep_days.into());
    for table in &known {
        let is_wanted = |name: &String| is_named(table, name);
        if !optimize.names.is_empty() && !optimize.names.iter().any(is_wanted) {
            continue;
        }
        let done = engine.optimize(
            &warehouse,
            &prepared.environment,
            table,
            optimize.most_runs as usize,
            keep,
        );
        match done.await {
            Ok(done) if !common.quiet => tell!(
                "{}: {} became {}, {} rewritten, {} removed",
                table.name,
                counted(done.compacted.files_before as u64, "file"),
                done.compacted.files_after,
                counted(done.compacted.rows_rewritten, "row"),
                counted(done.files_removed as u64, "old file")
            ),
            Ok(_) => {}
            Err(error) => {
                context::report(common, &[diagnostic(prepared, &error)], prepared);
                return Ok(Exit::Failed);
            }
        }
    }
    Ok(Exit::Good)
}

fn diagnostic(prepared: &Prepared, error: &FactsError) -> Diagnostic {
    match error {
        FactsError::Busy(_) => Diagnostic::error(Code::E0902, error.to_string())
            .hint("rows that are delivered again are stored once: try again when it is done"),
        FactsError::Building(LockError::Held { .. }) => {
            Diagnostic::error(Code::E0902, error.to_string())
                .hint("no file was changed: try again when it is done")
        }
        FactsError::NoColumn { column, known } => {
            let known = known.iter().map(String::as_str);
            Diagnostic::error(Code::E0406, error.to_string()).hint(did_you_mean(column, known))
        }
        FactsError::Failed(WarehouseError::DiskFull { .. })
        | FactsError::Building(LockError::Warehouse(WarehouseError::DiskFull { .. })) => {
            Diagnostic::error(Code::E0903, error.to_string())
                .hint("nothing was stored; free some space and try again")
        }
        FactsError::Failed(WarehouseError::Query(cause)) => {
            let message = cause.strip_backtrace();
            exhausted(prepared, "the query", &message)
                .unwrap_or_else(|| Diagnostic::error(Code::E0801, plain(&message)))
        }
        FactsError::Failed(_) | FactsError::Building(_) => {
            Diagnostic::error(Code::E0901, error.to_string())
        }
    }
}

/// Without the engine's word for errors that are ours.
fn plain(message: &str) -> &str {
    message.strip_prefix("Execution error: ").unwrap_or(message)
}

fn folder(prepared: &Prepared, name: &str) -> PathBuf {
    prepared.warehouse.join("clustered").join(name)
}
