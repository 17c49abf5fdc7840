//! Everything before a row moves: load, resolve, order, look at the files, compile.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::inputs::{self, Inspected};
use super::memory::bytes;
use crate::compile::{Compiled, compile, drop_removals};
use crate::diagnostics::{Checked, Code, Diagnostic};
use crate::engine::{Engine, EngineOptions};
use crate::graph::{self, Graph};
use crate::manifest::{self, Manifest};
use crate::project::{self, Computation, Files, Project, TargetSpec};
use crate::template::Surroundings;

/// What the command line decides.
#[derive(Debug, Clone, Default)]
pub struct PrepareOptions {
    pub load: project::Options,
    pub threads: Option<usize>,
    pub memory_limit: Option<String>,
    pub computation: Option<Computation>,
    pub environment_variables: BTreeMap<String, String>,
    /// The one clock reading of the command: UTC, RFC 3339.
    pub now: String,
    pub invocation_id: String,
    /// Where the data of sources lie, if not in the project's own folder: an older state of a project reads today's data.
    pub data_root: Option<PathBuf>,
}

/// A compiled project and where it goes.
pub struct Prepared {
    pub project: Project,
    pub manifest: Arc<Manifest>,
    pub graph: Graph,
    pub compiled: Compiled,
    pub root: PathBuf,
    pub warehouse: PathBuf,
    pub environment: String,
    pub threads: usize,
    pub engine: EngineOptions,
    pub now: String,
    /// The instant of `now`.
    pub opened: Instant,
    /// How long everything before a row moves took.
    pub prepared_in: Duration,
    /// Whether there was anything to report, be it a warning.
    pub has_said_something: bool,
    pub(super) inspected: Inspected,
}

/// Where a project publishes to.
pub struct Place {
    pub warehouse: PathBuf,
    pub environment: String,
    /// The text of the project file, for diagnostics.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
}

/// Reads the project file alone, so that what was published can be reached while something else in the project is wrong.
pub fn locate(files: &dyn Files, options: &PrepareOptions) -> Checked<Place> {
    project::load_project_file(files, &options.load).map(|project| place(files.root(), &project))
}

fn place(root: &Path, project: &Project) -> Place {
    let target = project.spec.targets.get(&project.target);
    let warehouse = target.and_then(|target| target.warehouse.as_deref());
    let environment = target.and_then(|target| target.environment.clone());
    Place {
        warehouse: root.join(warehouse.unwrap_or("target/warehouse")),
        environment: environment.unwrap_or(project.target.clone()),
        texts: project.texts.clone(),
    }
}

/// Returns the value even with errors, so that commands can show what is known; nothing may run then.
pub async fn prepare(files: &dyn Files, options: &PrepareOptions) -> Checked<Prepared> {
    let opened = Instant::now();
    let mut diagnostics = Vec::new();
    let loaded = project::load(files, &options.load);
    diagnostics.extend(loaded.diagnostics);
    let mut project = loaded.value;
    let target = project
        .spec
        .targets
        .get(&project.target)
        .cloned()
        .unwrap_or_default();
    let threads = threads(options, &target);
    let surroundings = surroundings(&project, options, &target, threads);
    let resolved = manifest::resolve(&project, surroundings);
    diagnostics.extend(resolved.diagnostics);
    let manifest = Arc::new(resolved.value);
    let graph = graph::build(&manifest);
    diagnostics.extend(graph.diagnostics);
    let data_root = options.data_root.as_deref().unwrap_or(files.root());
    let cache = data_root.join("target").join("sources");
    let looked = inputs::look(&manifest, files.root(), data_root, &cache).await;
    diagnostics.extend(looked.diagnostics);
    let engine = engine_options(options, &project, &target, threads, &mut diagnostics);
    let computation = options
        .computation
        .or_else(|| target.engine.or(project.spec.engine))
        .unwrap_or_default();
    let compiled = compiled(
        &manifest,
        &graph.value,
        &looked.value,
        (computation, &options.now),
        &mut diagnostics,
    )
    .await;
    drop_consequences(&project, &mut diagnostics);
    drop_repetitions(&mut diagnostics);
    show_data_lines(files, &diagnostics, &mut project);
    let place = place(files.root(), &project);
    let prepared = Prepared {
        root: files.root().to_path_buf(),
        warehouse: place.warehouse,
        environment: place.environment,
        project,
        manifest,
        graph: graph.value,
        compiled,
        threads,
        engine,
        now: options.now.clone(),
        opened,
        prepared_in: opened.elapsed(),
        has_said_something: !diagnostics.is_empty(),
        inspected: looked.value,
    };
    Checked::with(prepared, diagnostics)
}

async fn compiled(
    manifest: &Arc<Manifest>,
    graph: &Graph,
    inspected: &Inspected,
    (computation, now): (Computation, &str),
    diagnostics: &mut Vec<Diagnostic>,
) -> Compiled {
    let analyzer = match Engine::new(EngineOptions::default()).and_then(|engine| engine.analyzer())
    {
        Ok(analyzer) => analyzer,
        Err(error) => {
            diagnostics.push(Diagnostic::error(
                Code::E0801,
                format!("the engine does not start: {error}"),
            ));
            return Compiled::default();
        }
    };
    let compiled = compile(
        manifest,
        graph,
        &analyzer,
        &inputs::inputs(inspected),
        computation,
        now,
    )
    .await;
    diagnostics.extend(compiled.diagnostics);
    compiled.value
}

/// A name that is unknown because the file that may declare it is no YAML is no finding of its own: that file is one.
fn drop_consequences(project: &Project, diagnostics: &mut Vec<Diagnostic>) {
    drop_removals(project, diagnostics);
    let unread = project.unread.iter();
    let texts: Vec<&Arc<str>> = unread.filter_map(|path| project.texts.get(path)).collect();
    let may_be_declared = |name: &str| {
        let says = |text: &&Arc<str>| name.split('.').all(|part| text.contains(part));
        texts.iter().any(says)
    };
    diagnostics.retain(|diagnostic| {
        let unknown = diagnostic.message.strip_prefix("unknown ");
        let name = unknown.and_then(|rest| rest.split('`').nth(1));
        !name.is_some_and(may_be_declared)
    });
}

/// What two rooms find in one file, which both read, is said once.
fn drop_repetitions(diagnostics: &mut Vec<Diagnostic>) {
    let mut said = HashSet::new();
    diagnostics.retain(|found| {
        said.insert((
            found.code.as_str(),
            found.span.clone(),
            found.message.clone(),
        ))
    });
}

/// Data files up to this many bytes are shown with the line that is wrong.
const SHOWN_DATA_FILE: u64 = 1 << 20;

/// Lines of data files that diagnostics point at can be printed, like those of the files of the project.
fn show_data_lines(files: &dyn Files, diagnostics: &[Diagnostic], project: &mut Project) {
    for span in diagnostics
        .iter()
        .filter_map(|diagnostic| diagnostic.span.as_ref())
        .filter(|span| span.line > 1 || span.column > 1)
    {
        let path = files.root().join(&*span.file);
        let is_small = std::fs::metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= SHOWN_DATA_FILE);
        if is_small && !project.texts.contains_key(&span.file) {
            // A file that is not text cannot be shown; its diagnostic still has a place.
            if let Ok(bytes) = std::fs::read(&path) {
                project.texts.insert(
                    span.file.clone(),
                    String::from_utf8_lossy(&bytes).replace("\r\n", "\n").into(),
                );
            }
        }
    }
}

fn threads(options: &PrepareOptions, target: &TargetSpec) -> usize {
    let from_target = target
        .threads
        .and_then(|threads| usize::try_from(threads).ok());
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let wanted = options.threads.or(from_target).unwrap_or(cores);
    // Each takes memory, whether it has work or not.
    const MOST: usize = 256;
    wanted.clamp(1, MOST)
}

fn engine_options(
    options: &PrepareOptions,
    project: &Project,
    target: &TargetSpec,
    threads: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> EngineOptions {
    let text = options
        .memory_limit
        .as_ref()
        .or(target.memory_limit.as_ref());
    let memory_limit = text.and_then(|text| {
        let limit = bytes(text);
        if limit.is_none() {
            diagnostics.push(
                Diagnostic::error(Code::E0108, format!("`{text}` is not a size"))
                    .at(crate::project::place_of(project, text))
                    .hint("write it like `1GB` or `512MiB`"),
            );
        }
        limit
    });
    EngineOptions {
        threads: Some(threads),
        memory_limit,
    }
}

fn surroundings(
    project: &Project,
    options: &PrepareOptions,
    target: &TargetSpec,
    threads: usize,
) -> Surroundings {
    let environment = target.environment.clone().unwrap_or(project.target.clone());
    let entries = [
        ("name", project.target.clone().into()),
        ("schema", environment.clone().into()),
        ("environment", environment.into()),
        ("database", "equipoise".into()),
        ("type", "datafusion".into()),
        ("threads", threads.into()),
        ("profile_name", project.spec.name.clone().into()),
    ];
    Surroundings {
        project_name: project.spec.name.clone(),
        target: entries
            .into_iter()
            .map(|(key, value): (&str, serde_json::Value)| (key.to_string(), value))
            .collect(),
        vars: project.vars.clone(),
        environment_variables: options.environment_variables.clone(),
        run_started_at: options.now.clone(),
        invocation_id: options.invocation_id.clone(),
    }
}

impl Prepared {
    pub fn target_folder(&self) -> PathBuf {
        self.root.join("target")
    }

    /// What the clock said when the command read it.
    pub fn clock(&self) -> DateTime<Utc> {
        let now = DateTime::parse_from_rfc3339(&self.now);
        now.map(|now| now.to_utc()).unwrap_or_default()
    }

    /// What the clock said some time after the command read it: UTC, RFC 3339.
    pub fn time(&self, after: Duration) -> String {
        let time = self.clock() + after;
        time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// Makes a source readable under its name.
    pub async fn offer_source(&self, engine: &Engine, node: &manifest::Node) -> anyhow::Result<()> {
        if let Some((files, table)) = self.inspected.get(&node.id) {
            engine.add_source(&node.relation(), files, table).await?;
        }
        Ok(())
    }

    /// Where the compiled SQL of a file stands.
    pub fn compiled_path(&self, path: &str) -> PathBuf {
        self.target_folder().join("compiled").join(Path::new(path))
    }

    /// Where the query for the new rows of an incremental model stands.
    pub fn increment_path(&self, path: &str) -> PathBuf {
        self.compiled_path(path).with_extension("increment.sql")
    }
}
