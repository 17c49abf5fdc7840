//! Project -> Manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::consumers::{self, Consumer};
use super::discover::{Discovery, Names};
use super::freshness;
use super::kept::Kept;
use super::node::{About, Column, Materialization, Node, NodeId, NodeKind, Settings};
use super::tests;
use crate::diagnostics::{Checked, Code, Diagnostic, Span, did_you_mean};
use crate::project::yaml::{Node as Yaml, Spot};
use crate::project::{
    ColumnSpec, ConfigTree, DomainSpecs, GroupSpec, Project, ResourceSpec, SqlFile, TestSpec,
};
use crate::template::{Scope, Surroundings, Templates};

/// Every node of a project, its names checked, and the domain specs whose meaning higher rooms give.
#[derive(Debug)]
pub struct Manifest {
    pub project_name: String,
    pub nodes: Vec<Node>,
    pub domain: DomainSpecs,
    pub flag_files: Vec<SqlFile>,
    pub flag_lock: SqlFile,
    /// Versions of metrics as they were locked.
    pub kept: Kept,
    /// Who reads models: dbt's exposures.
    pub consumers: Vec<Consumer>,
    pub groups: Vec<GroupSpec>,
    pub templates: Templates,
    pub surroundings: Arc<Surroundings>,
    names: Arc<Names>,
    broken: BTreeSet<NodeId>,
}

impl Manifest {
    /// Whether the node's template was found wrong while names were resolved, so that it need not be said again.
    pub fn is_broken(&self, id: NodeId) -> bool {
        self.broken.contains(&id)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The model or seed of that name.
    pub fn model(&self, name: &str) -> Option<&Node> {
        self.names.models.get(name).map(|id| self.node(*id))
    }

    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.names.models.keys().map(String::as_str)
    }

    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// A scope to render a node's template in.
    pub fn scope(
        &self,
        node: &Node,
        relations: Arc<dyn crate::template::Relations>,
        execute: bool,
    ) -> Scope {
        let mut scope = Scope::new(self.surroundings.clone(), relations, node.relation());
        scope.config = node.settings.raw.clone();
        scope.execute = execute;
        scope.model = serde_json::json!({"name": node.name, "path": &*node.path, "unique_id": node.unique_id(&self.project_name)});
        scope
    }
}

/// Names everything and finds what depends on what.
pub fn resolve(project: &Project, surroundings: Surroundings) -> Checked<Manifest> {
    let mut diagnostics = Vec::new();
    let macros = Templates::new(&project.macros);
    diagnostics.extend(macros.diagnostics);
    let mut resolver = Resolver {
        project,
        templates: macros.value,
        surroundings: Arc::new(surroundings),
        nodes: Vec::new(),
        described: BTreeMap::new(),
        names: Names::default(),
        broken: BTreeSet::new(),
        diagnostics,
    };
    resolver.collect_descriptions();
    resolver.add_models();
    resolver.add_seeds();
    resolver.add_sources();
    resolver.report_unused_descriptions();
    resolver.names_for_domain();
    let kept = resolver.kept();
    let names = Arc::new(std::mem::take(&mut resolver.names));
    freshness::resolve(&mut resolver, &names);
    resolver.discover_models(&names);
    tests::add(&mut resolver, &names);
    let consumers = consumers::resolve(&mut resolver, &names);
    let Resolver {
        templates,
        surroundings,
        nodes,
        broken,
        diagnostics,
        ..
    } = resolver;
    let groups = project.properties.iter().flat_map(|file| &file.groups);
    let manifest = Manifest {
        project_name: project.spec.name.clone(),
        nodes,
        domain: project.domain.clone(),
        flag_files: project.flag_files.clone(),
        flag_lock: project.flag_lock.clone(),
        kept,
        consumers,
        groups: groups.cloned().collect(),
        templates,
        surroundings,
        names,
        broken,
    };
    Checked::with(manifest, diagnostics)
}

pub(super) struct Resolver<'a> {
    pub project: &'a Project,
    pub templates: Templates,
    pub surroundings: Arc<Surroundings>,
    pub nodes: Vec<Node>,
    /// YAML of models and seeds by name, with whether a file of that name was found.
    described: BTreeMap<String, (&'a ResourceSpec, bool)>,
    pub names: Names,
    pub broken: BTreeSet<NodeId>,
    pub diagnostics: Vec<Diagnostic>,
}

impl<'a> Resolver<'a> {
    fn collect_descriptions(&mut self) {
        for properties in &self.project.properties {
            for resource in properties.models.iter().chain(&properties.seeds) {
                let earlier = self
                    .described
                    .insert(resource.name.value.clone(), (resource, false));
                if let Some((earlier, _)) = earlier {
                    let message = format!("`{}` is described twice", resource.name.value);
                    self.duplicate(message, &resource.name.span, &earlier.name.span);
                }
            }
        }
    }

    fn add_models(&mut self) {
        for file in &self.project.models {
            self.add_file(
                NodeKind::Model(file.clone()),
                file,
                &self.project.spec.model_paths,
                &self.project.spec.models,
            );
        }
    }

    fn add_seeds(&mut self) {
        for path in &self.project.seeds {
            let file = SqlFile {
                path: path.clone(),
                text: "".into(),
            };
            self.add_file(
                NodeKind::Seed,
                &file,
                &self.project.spec.seed_paths,
                &self.project.spec.seeds,
            );
        }
    }

    fn add_file(&mut self, kind: NodeKind, file: &SqlFile, roots: &[String], tree: &ConfigTree) {
        let name = file.stem().to_string();
        let span = Span::file(file.path.clone());
        let described = self.described.get_mut(&name).map(|(resource, found)| {
            *found = true;
            *resource
        });
        let mut settings = Settings::default();
        self.apply_tree(&mut settings, file, roots, tree);
        for (key, value) in described
            .map(|resource| resource.config.as_slice())
            .unwrap_or_default()
        {
            self.apply(&mut settings, key, &key.span, value);
        }
        if let NodeKind::Model(file) = &kind {
            self.apply_enabled(&mut settings, file);
            self.check_file_name(file);
        }
        if !settings.enabled {
            self.names.disabled.push(name);
            return;
        }
        if let Some(earlier) = self.names.models.get(&name) {
            let earlier = self.nodes[earlier.0].span.clone();
            self.duplicate(
                format!("there are two models or seeds named `{name}`"),
                &span,
                &earlier,
            );
            return;
        }
        let id = NodeId(self.nodes.len());
        self.names.models.insert(name.clone(), id);
        self.nodes.push(Node {
            id,
            kind,
            name,
            path: file.path.clone(),
            span,
            described_in: described.map(|resource| resource.name.span.file.clone()),
            description: described
                .map(|resource| resource.description.clone())
                .unwrap_or_default(),
            settings,
            columns: described
                .map(|resource| columns(&resource.columns))
                .unwrap_or_default(),
            fact: described.and_then(|resource| resource.fact.clone()),
            depends_on: Vec::new(),
        });
    }

    /// `config(enabled=false)` decides which names exist, so it is read before names are resolved; what else the
    /// template does is looked at later.
    fn apply_enabled(&mut self, settings: &mut Settings, file: &SqlFile) {
        if !file.text.contains("enabled") {
            return;
        }
        let mut scope = Scope::new(
            self.surroundings.clone(),
            Arc::new(Discovery::new(Arc::default())),
            "",
        );
        scope.config = settings.raw.clone();
        let scope = Arc::new(scope);
        self.templates.render(file, &scope);
        if let Some(enabled) = scope
            .take_config()
            .get("enabled")
            .and_then(serde_json::Value::as_bool)
        {
            settings.enabled = enabled;
        }
    }

    /// A model becomes a folder of the warehouse, which takes no other characters.
    fn check_file_name(&mut self, file: &SqlFile) {
        let is_plain =
            |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
        if file.stem().is_empty() || !file.stem().chars().all(is_plain) {
            self.diagnostics.push(
                Diagnostic::error(
                    Code::E0109,
                    format!("`{}` cannot be the name of a model", file.stem()),
                )
                .at(Span::file(file.path.clone()))
                .hint("rename the file: use letters, digits and underscores"),
            );
        }
    }

    fn apply_tree(
        &mut self,
        settings: &mut Settings,
        file: &SqlFile,
        roots: &[String],
        tree: &ConfigTree,
    ) {
        let mut path = folders(&file.path, roots);
        path.push(file.stem());
        for (key, node) in self.of_tree(tree, &path) {
            self.apply(settings, &key, &node.span, &node);
        }
    }

    /// Settings of the project file apply by folder: `models: {<project>: {staging: {+materialized: view}}}`; naming the
    /// project may be left out.
    pub(super) fn of_tree(&self, tree: &ConfigTree, path: &[&str]) -> Vec<(Spot<String>, Yaml)> {
        let project = self.project.spec.name.as_str();
        let found = match tree.folders.contains_key(project) {
            true => tree.settings_for(&[&[project], path].concat()),
            false => tree.settings_for(path),
        };
        let spot = |key: &str, node: &Yaml| Spot {
            value: key.to_string(),
            span: node.span.clone(),
        };
        found
            .into_iter()
            .map(|(key, node)| (spot(key, node), node.clone()))
            .collect()
    }

    fn apply(&mut self, settings: &mut Settings, key: &str, span: &Span, value: &Yaml) {
        let json = self.setting(key, value);
        if let Err(diagnostic) = settings.set(key, &json) {
            let place = if diagnostic.code == Code::E0103 {
                span.clone()
            } else {
                value.span.clone()
            };
            self.diagnostics.push(diagnostic.at(place));
        }
    }

    /// The value of a setting. `enabled` is a template in many projects of dbt; others are rendered where they are used.
    pub(super) fn setting(&mut self, key: &str, value: &Yaml) -> serde_json::Value {
        let json = value.to_json();
        match json.as_str() {
            Some(text) if key == "enabled" && text.contains("{{") => match self.rendered(text) {
                Ok(word) => word.trim().into(),
                Err(message) => {
                    self.say_once(Diagnostic::error(Code::E0402, message).at(value.span.clone()));
                    true.into()
                }
            },
            _ => json,
        }
    }

    /// A template of YAML that may ask for variables, and for no relation.
    pub(super) fn rendered(&self, text: &str) -> Result<String, String> {
        let none = Arc::new(Discovery::new(Arc::default()));
        let scope = Scope::new(self.surroundings.clone(), none, "");
        self.templates.render_text(text, &Arc::new(scope))
    }

    /// What a source says wrong, it says once for all of its tables.
    pub(super) fn say_once(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    fn report_unused_descriptions(&mut self) {
        let known: Vec<&str> = self.names.models.keys().map(String::as_str).collect();
        for (name, (resource, found)) in &self.described {
            if !found {
                self.diagnostics.push(
                    Diagnostic::error(
                        Code::E0202,
                        format!("YAML describes `{name}`, but there is no such model or seed"),
                    )
                    .at(resource.name.span.clone())
                    .hint(did_you_mean(name, known.iter().copied())),
                );
            }
        }
    }

    fn names_for_domain(&mut self) {
        let domain = &self.project.domain;
        let measures = domain.metrics.iter().flat_map(|metric| metric.measures());
        let mut facts: Vec<String> = measures
            .filter_map(|measure| measure.fact.as_ref())
            .map(|fact| fact.value.clone())
            .collect();
        let assignments = domain
            .experiments
            .iter()
            .filter_map(|experiment| experiment.assignments.as_ref()?.model.as_ref());
        let mut models: Vec<String> = assignments.map(|model| model.value.clone()).collect();
        for names in [&mut facts, &mut models] {
            names.sort();
            names.dedup();
        }
        self.names.facts = facts;
        self.names.assignment_models = models;
    }

    /// What kept versions of metrics say, and what they read.
    fn kept(&mut self) -> Kept {
        let checked = Kept::parse(&self.project.kept);
        self.diagnostics.extend(checked.diagnostics);
        self.names.kept_reads = checked.value.read_nodes(&self.names);
        checked.value
    }

    /// Renders each model once to see what it uses and which settings it gives.
    fn discover_models(&mut self, names: &Arc<Names>) {
        for at in 0..self.nodes.len() {
            let NodeKind::Model(file) = self.nodes[at].kind.clone() else {
                continue;
            };
            let discovery = Arc::new(Discovery::new(names.clone()));
            let mut scope = Scope::new(
                self.surroundings.clone(),
                discovery.clone(),
                self.nodes[at].relation(),
            );
            scope.config = self.nodes[at].settings.raw.clone();
            scope.model =
                serde_json::json!({"name": self.nodes[at].name, "path": &*self.nodes[at].path});
            let scope = Arc::new(scope);
            let rendered = self.templates.render(&file, &scope);
            if rendered.has_errors() {
                self.broken.insert(NodeId(at));
            }
            self.diagnostics.extend(rendered.diagnostics);
            let mut settings = std::mem::take(&mut self.nodes[at].settings);
            for (key, value) in scope.take_config() {
                if let Err(diagnostic) = settings.set(&key, &value) {
                    let span = find_word(&file, &key);
                    self.diagnostics.push(diagnostic.at(span));
                }
            }
            self.nodes[at].settings = settings;
            if self.nodes[at].settings.materialized == Materialization::Incremental {
                self.discover_increment(at, &file, &discovery);
            }
            self.nodes[at].depends_on = discovery.used();
        }
    }

    /// What a model reads only when it grows. Its settings are those of the whole query.
    fn discover_increment(&mut self, at: usize, file: &SqlFile, discovery: &Arc<Discovery>) {
        let node = &self.nodes[at];
        let mut scope = Scope::new(
            self.surroundings.clone(),
            discovery.clone(),
            node.relation(),
        );
        scope.config = node.settings.raw.clone();
        scope.model = serde_json::json!({"name": node.name, "path": &*node.path});
        scope.is_incremental = true;
        let rendered = self.templates.render(file, &Arc::new(scope));
        if rendered.has_errors() && self.broken.insert(NodeId(at)) {
            self.diagnostics.extend(rendered.diagnostics);
        }
    }

    pub fn duplicate(&mut self, message: String, here: &Span, earlier: &Span) {
        self.diagnostics.push(
            Diagnostic::error(Code::E0201, message)
                .at(here.clone())
                .also(earlier.clone(), "first here")
                .hint("rename or remove one of them"),
        );
    }

    /// Tests written beside models, seeds and sources, with the node that they stand at.
    pub fn written_tests(
        &self,
        names: &Names,
    ) -> Vec<(NodeId, Option<&'a ColumnSpec>, &'a TestSpec)> {
        let mut found = Vec::new();
        let mut add = |id: NodeId, tests: &'a [TestSpec], columns: &'a [ColumnSpec]| {
            found.extend(tests.iter().map(|test| (id, None, test)));
            for column in columns {
                found.extend(column.tests.iter().map(|test| (id, Some(column), test)));
            }
        };
        for properties in &self.project.properties {
            for resource in properties.models.iter().chain(&properties.seeds) {
                if let Some(id) = names.models.get(&resource.name.value) {
                    add(*id, &resource.tests, &resource.columns);
                }
            }
            for source in &properties.sources {
                for table in &source.tables {
                    if let Some(id) = names
                        .sources
                        .get(&(source.name.value.clone(), table.name.value.clone()))
                    {
                        add(*id, &table.tests, &table.columns);
                    }
                }
            }
        }
        found
    }
}

pub(super) fn columns(specs: &[ColumnSpec]) -> Vec<Column> {
    let data_type = |kind: &Spot<String>| (kind.value.clone(), kind.span.clone());
    specs
        .iter()
        .map(|spec| Column {
            name: spec.name.value.clone(),
            span: spec.name.span.clone(),
            description: spec.description.clone(),
            about: About::of(&spec.config),
            is_quoted: spec.is_quoted,
            data_type: spec.data_type.as_ref().map(data_type),
        })
        .collect()
}

/// The folders that a file lies in, below the folder of its kind.
pub(super) fn folders<'a>(path: &'a str, roots: &[String]) -> Vec<&'a str> {
    let inner = roots
        .iter()
        .find_map(|root| path.strip_prefix(root.as_str())?.strip_prefix('/'));
    let mut path: Vec<&str> = inner.unwrap_or(path).split('/').collect();
    path.pop();
    path
}

pub(super) fn find_word(file: &SqlFile, word: &str) -> Span {
    match file.text.find(word) {
        Some(start) => Span::of_bytes(file.path.clone(), &file.text, start, start + word.len()),
        None => Span::file(file.path.clone()),
    }
}
