//! `history`, `rollback`, `vacuum`: the published versions of an environment, the way back to one, and the end of old ones.
//! They read the project file alone: who goes back from a bad version may have a project that does not compile.

use std::time::Duration;

use clap::Args;

use super::{Common, Exit, OutputFormat, context, output};
use crate::warehouse::{
    Environment, Keep, LockError, Relation, VacuumReport, Warehouse, WarehouseError,
};

#[derive(Debug, Clone, Args)]
pub struct Rollback {
    /// The version to go back to; without it, the one before the current
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct Vacuum {
    /// Keep the versions that were published in the last so many days
    #[arg(long, default_value_t = 30)]
    pub keep_days: u32,
    /// Keep the newest so many versions instead
    #[arg(long, value_name = "COUNT", conflicts_with = "keep_days")]
    pub keep_versions: Option<usize>,
}

/// Every version that vacuum has left, newest first.
pub async fn history(common: &Common) -> anyhow::Result<Exit> {
    let Some(place) = context::place(common)? else {
        return Ok(Exit::Wrong);
    };
    let warehouse = Warehouse::open(&place.warehouse)?;
    let versions = warehouse.history(&place.environment)?;
    if versions.is_empty() && common.output == OutputFormat::Table {
        let name = &place.environment;
        output::print(&format!("nothing was published to `{name}` yet\n"))?;
        return Ok(Exit::Good);
    }
    let before = |at: usize| at.checked_sub(1).map(|at| &versions[at]);
    let lines: Vec<Line> = (0..versions.len())
        .rev()
        .map(|at| Line::new(&versions[at], before(at), at + 1 == versions.len()))
        .collect();
    output::print(&listing(&lines, common.output)?)?;
    Ok(Exit::Good)
}

/// One version, as a person compares it with the one before.
struct Line {
    version: u64,
    published_at: String,
    relations: usize,
    rows: u64,
    changed: String,
    is_current: bool,
}

impl Line {
    fn new(version: &Environment, before: Option<&Environment>, is_current: bool) -> Self {
        let rows = version.relations.values().map(|relation| match relation {
            Relation::Table { rows, .. } => *rows,
            Relation::View { .. } => 0,
        });
        Self {
            version: version.version,
            published_at: version.published_at.clone(),
            relations: version.relations.len(),
            rows: rows.sum(),
            changed: before.map_or_else(String::new, |before| changes(before, version)),
            is_current,
        }
    }
}

/// Names of the relations that are new, other or gone; at most three, and how many more.
fn changes(before: &Environment, after: &Environment) -> String {
    let known = |environment: &Environment, name: &str| {
        let relation = environment.relations.get(name);
        relation.map(|relation| relation.fingerprint().to_string())
    };
    let gone = before.relations.keys();
    let gone = gone.filter(|name| !after.relations.contains_key(*name));
    let other = after.relations.keys();
    let other = other.filter(|name| known(before, name) != known(after, name));
    let names: Vec<&str> = other.chain(gone).map(String::as_str).collect();
    match names.len() {
        0..=3 => names.join(", "),
        count => format!("{} and {} more", names[..3].join(", "), count - 3),
    }
}

fn listing(lines: &[Line], format: OutputFormat) -> anyhow::Result<String> {
    const COLUMNS: [&str; 6] = [
        "version",
        "published_at",
        "relations",
        "rows",
        "changed",
        "is_current",
    ];
    let cells = |line: &Line| {
        vec![
            line.version.to_string(),
            line.published_at.clone(),
            line.relations.to_string(),
            line.rows.to_string(),
            line.changed.clone(),
            line.is_current.to_string(),
        ]
    };
    Ok(match format {
        OutputFormat::Table => {
            let mut table =
                output::plain_table(&["version", "published at", "relations", "rows", "changed"]);
            for line in lines {
                let current = if line.is_current { " (current)" } else { "" };
                table.add_row([
                    format!("{}{current}", line.version),
                    line.published_at.clone(),
                    line.relations.to_string(),
                    line.rows.to_string(),
                    line.changed.clone(),
                ]);
            }
            format!("{table}\n")
        }
        OutputFormat::Markdown => output::markdown_table(&COLUMNS, lines.iter().map(cells)),
        OutputFormat::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(COLUMNS)?;
            for line in lines {
                writer.write_record(cells(line))?;
            }
            String::from_utf8(writer.into_inner()?)?
        }
        OutputFormat::Json => lines
            .iter()
            .map(|line| {
                let line = serde_json::json!({
                    "version": line.version, "published_at": line.published_at, "relations": line.relations, "rows": line.rows,
                    "changed": line.changed, "is_current": line.is_current,
                });
                format!("{line}\n")
            })
            .collect(),
    })
}

/// Publishes an earlier version again, as a new one; nothing is built.
pub async fn rollback(common: &Common, rollback: &Rollback) -> anyhow::Result<Exit> {
    let Some(place) = context::place(common)? else {
        return Ok(Exit::Wrong);
    };
    let warehouse = Warehouse::open(&place.warehouse)?;
    let name = &place.environment;
    let current = warehouse.environment(name)?.version;
    let Some(to) = rollback.to.or(current.checked_sub(1)).filter(|to| *to > 0) else {
        tell!("error: `{name}` has no version before the current one");
        return Ok(Exit::Wrong);
    };
    if common.dry_run {
        output::print(&format!(
            "`{name}` would go from version {current} back to what version {to} was\n"
        ))?;
        return Ok(Exit::Good);
    }
    let lock = match warehouse.lock(name) {
        Ok(lock) => lock,
        Err(error @ LockError::Held { .. }) => {
            tell!("error[E0902]: {error}");
            tell!("   = hint: wait until it ends");
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    };
    match warehouse.rollback(&lock, to, &context::now()) {
        Ok(published) => {
            output::print(&format!(
                "`{name}` is what version {to} was, as version {}; the next build goes on from the project's files\n",
                published.version
            ))?;
            Ok(Exit::Good)
        }
        Err(error @ (WarehouseError::NoVersion { .. } | WarehouseError::Vacuumed { .. })) => {
            tell!("error: {error}");
            tell!("   = hint: `equipoise history` lists the versions that are left");
            Ok(Exit::Wrong)
        }
        Err(error) => Err(error.into()),
    }
}

/// Forgets old versions of all environments, and removes the tables that only they had.
pub async fn vacuum(common: &Common, vacuum: &Vacuum) -> anyhow::Result<Exit> {
    let Some(place) = context::place(common)? else {
        return Ok(Exit::Wrong);
    };
    let now = chrono::Utc::now().timestamp();
    let age = Duration::from_secs(u64::from(vacuum.keep_days) * 86_400);
    let keep = match vacuum.keep_versions {
        Some(count) => Keep::Versions(count.max(1)),
        None => Keep::age(age, now),
    };
    let report = Warehouse::open(&place.warehouse)?.vacuum(keep).await?;
    output::print(&removed(&report, common.output))?;
    Ok(Exit::Good)
}

fn removed(report: &VacuumReport, format: OutputFormat) -> String {
    if format == OutputFormat::Json {
        let line = serde_json::json!({
            "versions": report.versions, "tables": report.tables, "unfinished": report.unfinished, "bytes": report.bytes,
        });
        return format!("{line}\n");
    }
    format!(
        "{} versions, {} tables and {} unfinished tables removed, {:.1} MB\n",
        report.versions,
        report.tables,
        report.unfinished,
        report.bytes as f64 / 1e6
    )
}
