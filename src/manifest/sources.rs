//! Source tables become nodes, each with the place of its files.

use super::freshness::LoadedAt;
use super::node::{About, Node, NodeId, NodeKind, Settings, SourceAbout, SourceTable};
use super::resolve::{Resolver, columns, folders};
use crate::diagnostics::{Code, Diagnostic};
use crate::project::yaml::{Node as Yaml, Spot};
use crate::project::{SourceSpec, SourceTableSpec};

/// Keys below `config` that only sources have; `event_time` is for models that dbt fills batch by batch.
const OF_SOURCES: [&str; 4] = [
    "freshness",
    "loaded_at_field",
    "loaded_at_query",
    "event_time",
];

impl Resolver<'_> {
    pub fn add_sources(&mut self) {
        let sources: Vec<&SourceSpec> = self
            .project
            .properties
            .iter()
            .flat_map(|properties| &properties.sources)
            .collect();
        for source in sources {
            for table in &source.tables {
                self.add_source_table(source, table);
            }
        }
    }

    fn add_source_table(&mut self, source: &SourceSpec, table: &SourceTableSpec) {
        let key = (source.name.value.clone(), table.name.value.clone());
        let settings = self.source_settings(source, table);
        if !settings.enabled {
            self.names.disabled_sources.push(key);
            return;
        }
        if let Some(earlier) = self.names.sources.get(&key) {
            let earlier = self.nodes[earlier.0].span.clone();
            self.duplicate(
                format!("the source table `{}.{}` is declared twice", key.0, key.1),
                &table.name.span,
                &earlier,
            );
            return;
        }
        // Without a location nothing is read; the table stays known, so that its readers are not blamed.
        let location = self.location(table).unwrap_or_default();
        self.check_delimiter(table);
        let id = NodeId(self.nodes.len());
        let span = table.name.span.clone();
        let whole = About::of(&source.config);
        let kind = NodeKind::Source(SourceTable {
            source: key.0.clone(),
            table: key.1.clone(),
            location,
            location_span: table
                .location
                .as_ref()
                .map_or(span.clone(), |location| location.span.clone()),
            format: table.format.as_ref().map(|format| format.value.clone()),
            format_span: table.format.as_ref().map(|format| format.span.clone()),
            delimiter: table
                .delimiter
                .as_ref()
                .and_then(|text| text.chars().next()),
            header: table.header.unwrap_or(true),
            null_values: table.null_values.clone(),
            allow_empty: table.allow_empty,
            about: SourceAbout {
                description: source.description.clone(),
                loader: source.loader.clone(),
                meta: whole.meta.clone(),
            },
            // Said once all names are known.
            loaded_at: LoadedAt::default(),
            freshness: None,
        });
        self.names.sources.insert(key, id);
        self.nodes.push(Node {
            id,
            kind,
            name: format!("{}.{}", source.name.value, table.name.value),
            path: span.file.clone(),
            described_in: Some(span.file.clone()),
            span,
            description: table.description.clone(),
            settings,
            columns: columns(&table.columns),
            fact: None,
            depends_on: Vec::new(),
        });
    }

    /// Of the project file, of the source and of the table, the later winning.
    fn source_settings(&mut self, source: &SourceSpec, table: &SourceTableSpec) -> Settings {
        let mut settings = Settings::default();
        let of_project = self.of_sources_tree(source, table);
        // What else stands there is of whoever loads the source.
        let are_of_tables = ["enabled", "meta", "tags"];
        let of_source = source.config.iter();
        let of_source = of_source.filter(|(key, _)| are_of_tables.contains(&key.as_str()));
        let found = of_project.iter().chain(of_source).chain(&table.config);
        for (key, value) in found.filter(|(key, _)| !OF_SOURCES.contains(&key.as_str())) {
            let json = self.setting(key, value);
            if let Err(diagnostic) = settings.set(key, &json) {
                self.say_once(diagnostic.at(key.span.clone()));
            }
        }
        settings
    }

    /// What `sources:` of the project file says of a table: by the folders of its YAML, its source and its name.
    pub(super) fn of_sources_tree(
        &self,
        source: &SourceSpec,
        table: &SourceTableSpec,
    ) -> Vec<(Spot<String>, Yaml)> {
        let spec = &self.project.spec;
        let mut path = folders(&table.name.span.file, &spec.model_paths);
        path.extend([source.name.as_str(), table.name.as_str()]);
        self.of_tree(&spec.sources, &path)
    }

    fn check_delimiter(&mut self, table: &SourceTableSpec) {
        let Some(delimiter) = table.delimiter.as_ref().filter(|text| text.len() != 1) else {
            return;
        };
        self.diagnostics.push(
            Diagnostic::error(
                Code::E0106,
                format!("`{}` is not a delimiter", delimiter.value),
            )
            .at(delimiter.span.clone())
            .hint("use one character, such as `;` or `\"\\t\"`"),
        );
    }

    fn location(&mut self, table: &SourceTableSpec) -> Option<String> {
        let Some(location) = &table.location else {
            if table.misspelt.has("location") {
                return None;
            }
            self.diagnostics.push(
                Diagnostic::error(
                    Code::E0105,
                    format!("the source table `{}` needs `location`", table.name.value),
                )
                .at(table.name.span.clone())
                .hint("add `location: path/to/files/*.csv`, relative to the project folder"),
            );
            return None;
        };
        match self.rendered(&location.value) {
            Ok(text) => Some(text),
            Err(message) => {
                self.diagnostics
                    .push(Diagnostic::error(Code::E0402, message).at(location.span.clone()));
                None
            }
        }
    }
}
