//! Folder -> [`Project`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::ProjectSpec;
use super::domain::{DomainSpecs, delivers_flags};
use super::files::Files;
use super::properties::{PropertiesSpec, ResourceSpec};
use super::semantic;
use super::yaml;
use crate::diagnostics::{Checked, Code, Diagnostic, Span};

/// What the command line adds to the project file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--target`; the project's default if absent.
    pub target: Option<String>,
    /// `--vars`, above all others.
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// Everything that was written, with places, names not yet checked.
#[derive(Debug, Clone, Default)]
pub struct Project {
    pub spec: ProjectSpec,
    /// Name of the target in use.
    pub target: String,
    pub vars: serde_json::Map<String, serde_json::Value>,
    pub models: Vec<SqlFile>,
    pub macros: Vec<SqlFile>,
    pub tests: Vec<SqlFile>,
    /// Paths of seed files.
    pub seeds: Vec<Arc<str>>,
    pub properties: Vec<PropertiesSpec>,
    pub domain: DomainSpecs,
    /// Definitions of flags; the flags room reads them.
    pub flag_files: Vec<SqlFile>,
    /// What `equipoise flag lock` wrote; empty before it first ran.
    pub flag_lock: SqlFile,
    /// Versions of metrics as they were locked, which `equipoise metric lock` wrote.
    pub kept: Vec<SqlFile>,
    /// The text of every file that was read, for diagnostics.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
    /// Files whose text is no YAML, so that nobody knows what they declare.
    pub unread: Vec<Arc<str>>,
}

/// A text file with a template in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqlFile {
    pub path: Arc<str>,
    pub text: Arc<str>,
}

impl SqlFile {
    /// File name without folder and ending.
    pub fn stem(&self) -> &str {
        stem(&self.path)
    }
}

/// File name without folder and ending.
pub fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

pub const PROJECT_FILES: [&str; 3] = ["project.yml", "project.yaml", "dbt_project.yml"];

/// Where versions of metrics lie that running experiments may still need; beside `metrics.lock`.
pub const KEPT_FOLDER: &str = "metrics.kept";

/// Reads all of a project; a file that cannot be read is a diagnostic and hides no other.
pub fn load(files: &dyn Files, options: &Options) -> Checked<Project> {
    let mut loader = Loader::of(files);
    if loader.read_project_file(options) {
        loader.read_folders();
    }
    Checked::with(loader.project, loader.diagnostics)
}

/// Reads the project file alone: who asks where a project publishes to needs none of its models.
pub fn load_project_file(files: &dyn Files, options: &Options) -> Checked<Project> {
    let mut loader = Loader::of(files);
    loader.read_project_file(options);
    Checked::with(loader.project, loader.diagnostics)
}

struct Loader<'a> {
    files: &'a dyn Files,
    project: Project,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Loader<'a> {
    fn of(files: &'a dyn Files) -> Loader<'a> {
        Loader {
            files,
            project: Project::default(),
            diagnostics: Vec::new(),
        }
    }

    /// Whether there is a project file.
    fn read_project_file(&mut self, options: &Options) -> bool {
        let files = self.files;
        let Some(file) = PROJECT_FILES.iter().find(|file| files.exists(file)) else {
            let diagnostic = Diagnostic::error(Code::E0101, format!("there is no project file in `{}`", files.root().display()))
                .hint("go to a folder with `project.yml`, name one with `--project-dir`, or make one with `equipoise init`");
            self.diagnostics.push(diagnostic);
            return false;
        };
        if let Some(node) = self.yaml(file) {
            self.project.spec = ProjectSpec::read(&node, &mut self.diagnostics);
        }
        self.choose_target(options);
        true
    }

    fn choose_target(&mut self, options: &Options) {
        let spec = &self.project.spec;
        let first = spec.targets.keys().next().cloned();
        let name = options
            .target
            .clone()
            .or(spec.default_target.clone())
            .or(first)
            .unwrap_or_else(|| "dev".to_string());
        if !spec.targets.is_empty() && !spec.targets.contains_key(&name) {
            let known = spec.targets.keys().map(String::as_str);
            self.diagnostics.push(
                Diagnostic::error(Code::E0108, format!("there is no target `{name}`"))
                    .at(place_of(
                        &self.project,
                        if self.project.spec.default_target.as_deref() == Some(&*name) {
                            &name
                        } else {
                            "targets"
                        },
                    ))
                    .hint(crate::diagnostics::did_you_mean(&name, known)),
            );
        }
        let mut vars = spec.vars.clone();
        vars.extend(
            spec.targets
                .get(&name)
                .map(|target| target.vars.clone())
                .unwrap_or_default(),
        );
        vars.extend(options.vars.clone());
        self.project.target = name;
        self.project.vars = vars;
    }

    fn read_folders(&mut self) {
        let spec = self.project.spec.clone();
        for path in self.list(&spec.model_paths) {
            match ending(&path) {
                "sql" => push(self.sql(&path), &mut self.project.models),
                "yml" | "yaml" => self.properties(&path),
                _ => {}
            }
        }
        for path in self.list(&spec.macro_paths) {
            match ending(&path) {
                "sql" | "jinja" => push(self.sql(&path), &mut self.project.macros),
                "yml" | "yaml" => self.properties(&path),
                _ => {}
            }
        }
        for path in self.list(&spec.seed_paths) {
            match ending(&path) {
                "csv" => self.project.seeds.push(path.as_str().into()),
                "yml" | "yaml" => self.properties(&path),
                _ => {}
            }
        }
        self.read_tests(&spec);
        self.read_domain(&spec);
        self.read_kept();
        self.read_semantic_layer();
    }

    /// Metrics that dbt knows become metrics of the project, and their models facts.
    fn read_semantic_layer(&mut self) {
        let mut nodes = std::mem::take(&mut self.project.domain.semantic);
        for properties in &mut self.project.properties {
            let found = std::mem::take(&mut properties.semantic);
            nodes.models.extend(found.models);
            nodes.semantic_models.extend(found.semantic_models);
            nodes.metrics.extend(found.metrics);
        }
        let semantic = semantic::read(&nodes);
        self.diagnostics.extend(semantic.losses);
        self.project.domain.metrics.extend(semantic.metrics);
        for (model, fact) in semantic.facts {
            let described = self
                .project
                .properties
                .iter_mut()
                .flat_map(|properties| &mut properties.models)
                .find(|resource| resource.name.value == model);
            match described {
                Some(resource) => {
                    resource.fact.get_or_insert(fact);
                }
                None => self.project.properties.push(PropertiesSpec {
                    models: vec![ResourceSpec::of_fact(model, fact)],
                    ..PropertiesSpec::default()
                }),
            }
        }
    }

    /// Singular tests are the SQL files of the test folders; `generic/` holds macros. Folders that are projects of their
    /// own (the suites of this repository) and the Rust tests are left alone.
    fn read_tests(&mut self, spec: &ProjectSpec) {
        let paths = self.list(&spec.test_paths);
        let inner: Vec<String> = paths
            .iter()
            .filter_map(|path| {
                path.rsplit_once('/')
                    .filter(|(_, file)| PROJECT_FILES.contains(file))
            })
            .map(|(folder, _)| format!("{folder}/"))
            .collect();
        for path in paths.iter().filter(|path| {
            ending(path) == "sql" && !inner.iter().any(|folder| path.starts_with(folder))
        }) {
            let is_generic = path.split('/').any(|folder| folder == "generic");
            let file = self.sql(path);
            push(
                file,
                if is_generic {
                    &mut self.project.macros
                } else {
                    &mut self.project.tests
                },
            );
        }
    }

    fn read_domain(&mut self, spec: &ProjectSpec) {
        let folders: Vec<String> = spec
            .metric_paths
            .iter()
            .chain(&spec.experiment_paths)
            .cloned()
            .collect();
        for path in self.list(&folders) {
            if !matches!(ending(&path), "yml" | "yaml") {
                continue;
            }
            let Some(node) = self.yaml(&path) else {
                continue;
            };
            self.project.domain.read(&node, &mut self.diagnostics);
            // What delivers an experiment may stand beside what measures it.
            if delivers_flags(&node) {
                self.project.flag_files.push(SqlFile {
                    text: self.project.texts[path.as_str()].clone(),
                    path: path.into(),
                });
            }
        }
        for path in self.list(&spec.flag_paths) {
            let is_read = self
                .project
                .flag_files
                .iter()
                .any(|file| *file.path == *path);
            if matches!(ending(&path), "yml" | "yaml") && !is_read {
                push(self.sql(&path), &mut self.project.flag_files);
            }
        }
        let path = spec.flag_lock_path();
        let lock = self.files.exists(&path).then(|| self.sql(&path));
        self.project.flag_lock = lock.flatten().unwrap_or_else(|| SqlFile {
            path: path.into(),
            ..SqlFile::default()
        });
    }

    fn read_kept(&mut self) {
        for path in self.list(&[KEPT_FOLDER.to_string()]) {
            if matches!(ending(&path), "json" | "sql") {
                push(self.sql(&path), &mut self.project.kept);
            }
        }
    }

    fn list(&mut self, folders: &[String]) -> Vec<String> {
        let mut paths = Vec::new();
        for folder in folders {
            match self.files.list(folder) {
                Ok(found) => paths.extend(found),
                Err(error) => self.diagnostics.push(Diagnostic::error(
                    Code::E0101,
                    format!("cannot list `{folder}`: {error}"),
                )),
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }

    fn properties(&mut self, path: &str) {
        if let Some(node) = self.yaml(path) {
            let properties = PropertiesSpec::read(&node, &mut self.diagnostics);
            self.project.properties.push(properties);
        }
    }

    fn yaml(&mut self, path: &str) -> Option<yaml::Node> {
        let file = self.sql(path)?;
        let checked = yaml::parse(&file.path, &file.text);
        // A key that stands twice leaves the rest of a file as it is.
        let is_no_yaml = |found: &Diagnostic| found.code == Code::E0102;
        let is_read = !checked.diagnostics.iter().any(is_no_yaml);
        self.diagnostics.extend(checked.diagnostics);
        if !is_read {
            self.project.unread.push(file.path);
        }
        is_read.then_some(checked.value)
    }

    fn sql(&mut self, path: &str) -> Option<SqlFile> {
        let path: Arc<str> = path.into();
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.diagnostics.push(
                    Diagnostic::error(Code::E0101, format!("cannot read `{path}`: {error}"))
                        .at(Span::file(path)),
                );
                return None;
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let good = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
                let span = Span::of_bytes(path.clone(), &good, good.len(), good.len());
                self.diagnostics.push(
                    Diagnostic::error(
                        Code::E0107,
                        format!("`{path}` is not valid UTF-8 from byte {at} on"),
                    )
                    .at(span)
                    .hint("save the file as UTF-8"),
                );
                return None;
            }
        };
        let text: Arc<str> = text
            .strip_prefix('\u{feff}')
            .unwrap_or(&text)
            .replace("\r\n", "\n")
            .into();
        self.project.texts.insert(path.clone(), text.clone());
        Some(SqlFile { path, text })
    }
}

/// Where a word stands in the project file, for settings that are checked after it was read.
pub fn place_of(project: &Project, word: &str) -> Option<Span> {
    let (file, text) = PROJECT_FILES
        .iter()
        .find_map(|file| project.texts.get_key_value(*file))?;
    let start = text.find(word)?;
    Some(Span::of_bytes(
        file.clone(),
        text,
        start,
        start + word.len(),
    ))
}

fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn push(file: Option<SqlFile>, files: &mut Vec<SqlFile>) {
    files.extend(file);
}
