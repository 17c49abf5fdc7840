//! Definitions from a project folder.
//! In: a folder with a project file, flags in the experiment paths and in `flags/`, the tracking plan in `events/`. Out: what
//! [`Definitions`] asks for. Reading YAML is left to `project` and `flags::spec`, soundness to `flags::resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::definitions::{Definitions, Exports, Loaded};
use super::lock;
use crate::diagnostics::{Checked, Code, Diagnostic, Render, Span, render};
use crate::events::plan::{PlanProblem, TrackingPlan};
use crate::flags::spec::FlagsFile;
use crate::flags::{FlagSet, FlagSource, resolve};
use crate::project::{Files, Folder, Options, load, yaml};

/// The folder of a project.
pub struct ProjectFolder {
    files: Folder,
    options: Options,
    /// Folders whose YAML files are definitions, as the project file last said.
    folders: Mutex<BTreeSet<String>>,
}

impl ProjectFolder {
    /// Nothing is read yet.
    pub fn new(root: impl Into<PathBuf>, options: Options) -> ProjectFolder {
        let folders = ["events", "experiments", "flags", "metrics"]
            .map(str::to_string)
            .into();
        ProjectFolder {
            files: Folder::new(root),
            options,
            folders: Mutex::new(folders),
        }
    }
}

/// The flags of a project and the texts they were read from.
pub struct FolderFlags {
    pub flags: FlagSet,
    /// By path, for diagnostics.
    pub texts: Texts,
    /// Where the project file says that metrics and experiments are.
    folders: Vec<String>,
}

type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// Reads and checks the flags of a project.
pub fn load_flags(files: &dyn Files, options: &Options) -> Checked<FolderFlags> {
    let project = load(files, options);
    let mut diagnostics = Vec::new();
    let mut flag_files: Texts = project
        .value
        .flag_files
        .into_iter()
        .map(|file| (file.path, file.text))
        .collect();
    read_folder(files, "flags", &mut flag_files, &mut diagnostics);
    let mut sources = Vec::new();
    for (file, text) in &flag_files {
        sources.extend(read_source(file, text, &mut diagnostics));
    }
    let resolved = resolve(&sources);
    // A broken model is the build's affair: flags are served on.
    let of_flags = |one: &Diagnostic| {
        one.span
            .as_ref()
            .is_none_or(|span| !span.file.ends_with(".sql"))
    };
    diagnostics.extend(project.diagnostics.into_iter().filter(of_flags));
    diagnostics.extend(resolved.diagnostics);
    let mut texts = project.value.texts;
    texts.extend(flag_files);
    let spec = project.value.spec;
    let folders = spec
        .metric_paths
        .into_iter()
        .chain(spec.experiment_paths)
        .collect();
    Checked::with(
        FolderFlags {
            flags: resolved.value,
            texts,
            folders,
        },
        diagnostics,
    )
}

impl Definitions for ProjectFolder {
    fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in self.watched() {
            path.hash(&mut hasher);
            if let Ok(metadata) = fs::metadata(self.files.root().join(&path)) {
                (metadata.len(), metadata.modified().ok()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    fn load(&self) -> Result<Loaded, Vec<String>> {
        let checked = load_flags(&self.files, &self.options);
        let FolderFlags {
            flags,
            mut texts,
            folders,
        } = checked.value;
        lock(&self.folders).extend(folders);
        let mut diagnostics = checked.diagnostics;
        let mut plans = Texts::new();
        read_folder(&self.files, "events", &mut plans, &mut diagnostics);
        let plan = TrackingPlan::read(plans.iter().map(|(path, text)| (&**path, &**text)))
            .unwrap_or_else(|problems| {
                diagnostics.extend(problems.into_iter().map(plan_diagnostic));
                TrackingPlan::default()
            });
        let version = version_of(texts.iter().filter(|(path, _)| is_yaml(path)).chain(&plans));
        texts.extend(plans);
        if diagnostics.iter().any(Diagnostic::is_error) {
            let errors = diagnostics
                .iter()
                .filter(|diagnostic| diagnostic.is_error());
            return Err(errors
                .map(|diagnostic| render(diagnostic, &texts, Render::Plain))
                .collect());
        }
        Ok(Loaded {
            flags,
            plan,
            version,
            exports: Exports::default(),
        })
    }
}

impl ProjectFolder {
    /// Every YAML file that is not beside a model.
    fn watched(&self) -> Vec<String> {
        let project = ["project.yml", "project.yaml", "dbt_project.yml"].map(str::to_string);
        let folders = lock(&self.folders).clone();
        // A folder that cannot be listed is a diagnostic of the next load.
        let listed = folders
            .iter()
            .flat_map(|folder| self.files.list(folder).unwrap_or_default());
        project.into_iter().chain(listed).collect()
    }
}

fn read_folder(
    files: &dyn Files,
    folder: &str,
    texts: &mut Texts,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let listed = files.list(folder).unwrap_or_else(|error| {
        diagnostics.push(Diagnostic::error(
            Code::E0101,
            format!("cannot list `{folder}`: {error}"),
        ));
        Vec::new()
    });
    for path in listed.into_iter().filter(|path| is_yaml(path)) {
        match files.read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => _ = texts.insert(path.into(), text.into()),
            Ok(Err(_)) => {
                let message = format!("`{path}` is not UTF-8");
                diagnostics.push(Diagnostic::error(Code::E0107, message).at(Span::file(path)));
            }
            Err(error) => {
                let message = format!("cannot read `{path}`: {error}");
                diagnostics.push(Diagnostic::error(Code::E0101, message).at(Span::file(path)));
            }
        }
    }
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yml") || path.ends_with(".yaml")
}

/// Sections that make a file one of flags; others hold only metrics.
const SECTIONS: [&str; 5] = ["contexts", "holdouts", "layers", "flags", "experiments"];

fn read_source(
    file: &Arc<str>,
    text: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<FlagSource> {
    let parsed = yaml::parse(file, text);
    if parsed.has_errors() {
        diagnostics.extend(parsed.diagnostics);
        return None;
    }
    if SECTIONS
        .iter()
        .all(|section| parsed.value.get(section).is_none())
    {
        return None;
    }
    match serde_saphyr::from_str::<FlagsFile>(text) {
        Ok(spec) => Some(FlagSource {
            file: file.clone(),
            spec,
        }),
        Err(error) => {
            let place = error
                .location()
                .map(|at| Span::new(file.clone(), at.line() as u32, at.column() as u32, 1));
            let message = error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_string();
            let span = place.unwrap_or_else(|| Span::file(file.clone()));
            diagnostics.push(Diagnostic::error(Code::E0104, message).at(span));
            None
        }
    }
}

fn plan_diagnostic(problem: PlanProblem) -> Diagnostic {
    let span = Span::new(
        problem.path.as_str(),
        problem.line.max(1) as u32,
        problem.column.max(1) as u32,
        1,
    );
    let message = problem
        .message
        .lines()
        .next()
        .unwrap_or_default()
        .to_string();
    Diagnostic::error(Code::E0104, message).at(span)
}

/// Equal on every replica that has the same files.
fn version_of<'a>(texts: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (path, text) in texts {
        for part in [path, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_string()
}
