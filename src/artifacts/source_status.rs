//! Which sources have newer rows than at an earlier time: two `sources.json` held against each other, ours or dbt's.
//! In: a prepared project, the folder of the earlier one. Out: source tables of the project. What reads them is selected elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Deserialize;

use super::SOURCES;
use crate::diagnostics::{Code, Diagnostic};
use crate::graph::Fresher;
use crate::run::Prepared;

/// Source tables whose newest row is newer than then, and those that were not asked then. Those that could not be asked, at either
/// time, are left out, as in dbt.
pub fn fresher(prepared: &Prepared, state: &Path) -> Fresher {
    let target = prepared.target_folder();
    let of_project = |path: &Path| {
        let path = path.strip_prefix(&prepared.root).unwrap_or(path);
        path.join(SOURCES).display().to_string()
    };
    if is_same(state, &target) {
        let message = "`--state` names the folder that is compared with it";
        return Err(wrong(
            message.to_string(),
            "keep a copy of `sources.json` in another folder before `source freshness` writes it anew",
        ));
    }
    let then = read(
        state,
        &of_project(state),
        "name a folder with the `sources.json` of an earlier `source freshness`",
    )?;
    let now = read(
        &target,
        &of_project(&target),
        "run `equipoise source freshness` first: it writes how new the sources are",
    )?;
    let is_fresher = |id: &str| match (now.get(id), then.get(id)) {
        (Some(Some(now)), Some(Some(then))) => now > then,
        (Some(Some(_)), None) => true,
        _ => false,
    };
    let nodes = prepared.manifest.nodes.iter();
    let fresher = nodes.filter(|node| is_fresher(&node.unique_id(&prepared.manifest.project_name)));
    Ok(fresher.map(|node| node.id).collect::<BTreeSet<_>>())
}

/// When the newest row of each table was loaded; nothing where that could not be asked.
type Loaded = BTreeMap<String, Option<DateTime<Utc>>>;

#[derive(Deserialize)]
struct Artifact {
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    unique_id: String,
    max_loaded_at: Option<String>,
}

fn read(folder: &Path, name: &str, hint: &str) -> Result<Loaded, Box<Diagnostic>> {
    let text = std::fs::read_to_string(folder.join(SOURCES)).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                format!("`source_status:fresher` reads `{name}`, and there is none")
            }
            _ => format!("cannot read `{name}`: {error}"),
        };
        wrong(message, hint)
    })?;
    let unreadable = |detail: String| {
        let message = format!("`{name}` is not what `source freshness` writes: {detail}");
        wrong(message, hint)
    };
    let artifact: Artifact = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unreadable(format!("look at line {line}, column {column}"))
    })?;
    let entries = artifact.results.into_iter();
    let loaded = entries.map(|entry| match entry.max_loaded_at {
        None => Ok((entry.unique_id, None)),
        Some(text) => match instant(&text) {
            Some(time) => Ok((entry.unique_id, Some(time))),
            None => Err(unreadable(format!("`{text}` is no time"))),
        },
    });
    loaded.collect()
}

/// Without a zone it is UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let plain = || text.parse::<NaiveDateTime>().map(|time| time.and_utc());
    zoned.or_else(|_| plain()).ok()
}

fn is_same(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

fn wrong(message: String, hint: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(Code::E0303, message).hint(hint))
}
