//! Definitions from a project folder.
//! In: a folder with a project file, flags in its flag paths, the tracking plan in `events/`. Out: what
//! [`Definitions`] asks for. Reading YAML is left to `project` and `flags::spec`, soundness to `flags::resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::Utc;
use serde_json::json;

use super::definitions::{Definitions, Exports, Loaded};
use super::lock;
use super::logs::{Severity, log};
use crate::compile::{ProjectFlags, load_flags};
use crate::diagnostics::{Code, Diagnostic, Render, Span, render};
use crate::events::plan::{PlanProblem, TrackingPlan};
use crate::flags::FlagSet;
use crate::flags::export::{Exported, to_growthbook, to_ufc};
use crate::project::{Files, Folder, Options};

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
        let folders = ["events", "flags"].map(str::to_string).into();
        ProjectFolder {
            files: Folder::new(root),
            options,
            folders: Mutex::new(folders),
        }
    }
}

type Texts = BTreeMap<Arc<str>, Arc<str>>;

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
        let ProjectFlags { project, flags } = checked.value;
        let spec = project.spec;
        lock(&self.folders).extend([spec.flag_paths, spec.experiment_paths].concat());
        let mut texts = project.texts;
        let mut diagnostics = checked.diagnostics;
        let mut plans = Texts::new();
        read_folder(&self.files, "events", &mut plans, &mut diagnostics);
        let read = TrackingPlan::read(plans.iter().map(|(path, text)| (&**path, &**text)));
        let plan = read.unwrap_or_else(|problems| {
            diagnostics.extend(problems.into_iter().map(plan_diagnostic));
            TrackingPlan::default()
        });
        let files = project
            .flag_files
            .iter()
            .map(|file| (&file.path, &file.text));
        let version = version_of(files.chain(&plans));
        texts.extend(plans);
        if diagnostics.iter().any(Diagnostic::is_error) {
            let errors = diagnostics
                .iter()
                .filter(|diagnostic| diagnostic.is_error());
            return Err(errors
                .map(|diagnostic| render(diagnostic, &texts, Render::Plain))
                .collect());
        }
        let exports = exports(&flags);
        Ok(Loaded {
            flags,
            plan,
            version,
            exports,
        })
    }
}

/// Flags that a format cannot express are missing in its document, and told in the log.
fn exports(flags: &FlagSet) -> Exports {
    let now = Utc::now();
    let ufc = to_ufc(flags, "production", &now.to_rfc3339());
    let growthbook = to_growthbook(flags, now);
    tell_left_out("UFC", &ufc);
    tell_left_out("GrowthBook", &growthbook);
    let bytes = |exported: Exported| Some(Bytes::from(exported.document.to_string()));
    Exports {
        ufc: bytes(ufc),
        growthbook: bytes(growthbook),
    }
}

/// One line, however many flags there are.
fn tell_left_out(format: &str, exported: &Exported) {
    let Some(first) = exported.report.first() else {
        return;
    };
    let attributes = [
        ("format", json!(format)),
        ("flags_left_out", json!(exported.report.len())),
        ("first_flag", json!(first.flag)),
        ("first_reason", json!(first.reason)),
    ];
    log(
        Severity::Info,
        "some flags cannot be expressed in another system's format",
        attributes,
    );
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
