//! What every command does first: open the folder, read the clock once, prepare the project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::options::{Common, LogFormat};
use super::output;
use crate::artifacts::{self, Arguments};
use crate::diagnostics::{Code, Diagnostic};
use crate::graph::{Fresher, Selection, asks_for_fresher};
use crate::project::{Folder, Options};
use crate::run::{Place, PrepareOptions, Prepared, check_out, locate, prepare};
use crate::warehouse::Warehouse;

/// A prepared project, or nothing after its errors were printed.
pub async fn open(common: &Common) -> anyhow::Result<Option<Arc<Prepared>>> {
    let root = root(common)?;
    let variables = common.variables();
    let options = options(common, variables.value);
    let mut checked = prepare(&Folder::new(&root), &options).await;
    checked.diagnostics.extend(variables.diagnostics);
    report(common, &checked.diagnostics, &checked.value);
    if checked.has_errors() {
        return Ok(None);
    }
    Ok(Some(Arc::new(checked.value)))
}

/// Where the project publishes to, whatever else in it is wrong; nothing after the errors of the project file were printed.
pub fn place(common: &Common) -> anyhow::Result<Option<Place>> {
    let root = root(common)?;
    let variables = common.variables();
    let mut checked = locate(&Folder::new(&root), &options(common, variables.value));
    checked.diagnostics.extend(variables.diagnostics);
    report_of(common, &checked.diagnostics, &checked.value.texts);
    Ok((!checked.has_errors()).then_some(checked.value))
}

/// The project as a git revision has it, over the data of today; nothing after its errors were printed.
pub async fn open_revision(
    common: &Common,
    revision: &str,
) -> anyhow::Result<Option<Arc<Prepared>>> {
    let root = root(common)?;
    let folder = check_out(&root, revision)?;
    let options = PrepareOptions {
        data_root: Some(root.clone()),
        ..options(common, common.variables().value)
    };
    let mut checked = prepare(&Folder::new(&folder), &options).await;
    if checked.has_errors() {
        tell!("error: the project at `{revision}` is wrong");
        report(common, &checked.diagnostics, &checked.value);
        return Ok(None);
    }
    // What both states share is built once, in today's warehouse.
    let warehouse = checked.value.warehouse.strip_prefix(&folder);
    checked.value.warehouse =
        warehouse.map_or(checked.value.warehouse.clone(), |path| root.join(path));
    Ok(Some(Arc::new(checked.value)))
}

pub fn root(common: &Common) -> anyhow::Result<PathBuf> {
    std::path::absolute(&common.project_dir)
        .with_context(|| format!("cannot use `{}`", common.project_dir.display()))
}

fn options(common: &Common, vars: serde_json::Map<String, serde_json::Value>) -> PrepareOptions {
    PrepareOptions {
        load: Options {
            target: common.target.clone(),
            vars,
        },
        threads: common.threads,
        memory_limit: common.memory_limit.clone(),
        computation: common.engine.map(Into::into),
        environment_variables: environment_variables(),
        now: now(),
        invocation_id: uuid::Uuid::now_v7().to_string(),
        data_root: None,
    }
}

/// The clock: UTC, RFC 3339.
pub fn now() -> String {
    let now = chrono::Utc::now();
    now.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The command line as artifacts tell it, under dbt's names.
pub fn arguments(common: &Common, prepared: &Prepared, which: &str) -> Arguments {
    let words = std::env::args_os().skip(1);
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let arguments = serde_json::json!({
        "which": which,
        "invocation_command": format!("equipoise {}", words.join(" ")),
        "project_dir": prepared.root.display().to_string(),
        "target": prepared.project.target,
        "select": common.select,
        "exclude": common.exclude,
        "state": common.state.as_ref().map(|state| state.display().to_string()),
        "vars": common.variables().value,
        "threads": prepared.threads,
        "full_refresh": common.full_refresh,
        "quiet": common.quiet,
        "log_format": match common.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        },
    });
    match arguments {
        serde_json::Value::Object(arguments) => arguments,
        _ => unreachable!("it was written as an object"),
    }
}

/// Those that are text.
pub fn environment_variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Prints diagnostics to standard error.
pub fn report(common: &Common, diagnostics: &[Diagnostic], prepared: &Prepared) {
    report_of(common, diagnostics, &prepared.project.texts);
}

/// The same of files with some texts.
fn report_of(common: &Common, diagnostics: &[Diagnostic], texts: &BTreeMap<Arc<str>, Arc<str>>) {
    let shown: Vec<Diagnostic> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error() || !common.quiet)
        .cloned()
        .collect();
    match common.log_format {
        LogFormat::Text => output::diagnostics(&shown, texts),
        LogFormat::Json => output::diagnostics_as_json(&shown),
    }
}

/// What `--select` and `--exclude` mean, or nothing after the error was printed.
pub fn selection(common: &Common, prepared: &Prepared) -> Option<Selection> {
    let fresher = match [&common.select, &common.exclude].map(|terms| asks_for_fresher(terms)) {
        [false, false] => Ok(BTreeSet::new()),
        _ => fresher(common, prepared),
    };
    let checked = prepared.graph.select(
        &prepared.manifest,
        &common.select,
        &common.exclude,
        &fresher,
    );
    report(common, &checked.diagnostics, prepared);
    (!checked.has_errors()).then_some(checked.value)
}

/// The sources with newer rows than in the state that `--state` names; as in dbt, its folder is told from the project's.
fn fresher(common: &Common, prepared: &Prepared) -> Fresher {
    match &common.state {
        Some(state) => artifacts::fresher(prepared, &prepared.root.join(state)),
        None => Err(Box::new(
            Diagnostic::error(
                Code::E0303,
                "`source_status:fresher` compares with an earlier state, and none is named",
            )
            .hint("name a folder with the `sources.json` of an earlier `source freshness`: `--state DIR`"),
        )),
    }
}

pub fn warehouse(prepared: &Prepared) -> anyhow::Result<Warehouse> {
    Ok(Warehouse::open(&prepared.warehouse)?)
}

/// Where `build` remembers which tests passed.
pub fn passed_tests_path(prepared: &Prepared) -> PathBuf {
    prepared
        .target_folder()
        .join("state")
        .join(format!("{}.passed_tests", prepared.environment))
}
