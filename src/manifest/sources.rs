//! Source tables become nodes, each with the place of its files.

use std::sync::Arc;

use super::discover::Discovery;
use super::freshness::LoadedAt;
use super::node::{About, Node, NodeId, NodeKind, Settings, SourceAbout, SourceTable};
use super::resolve::{Resolver, columns};
use crate::diagnostics::{Code, Diagnostic};
use crate::project::SourceSpec;
use crate::template::Scope;

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

    fn add_source_table(&mut self, source: &SourceSpec, table: &crate::project::SourceTableSpec) {
        let key = (source.name.value.clone(), table.name.value.clone());
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
        let mut settings = Settings {
            tags: whole.tags,
            meta: whole.meta,
            ..Settings::default()
        };
        let is_setting = |key: &str| !OF_SOURCES.contains(&key);
        for (key, value) in table.config.iter().filter(|(key, _)| is_setting(key)) {
            if let Err(diagnostic) = settings.set(key, &value.to_json()) {
                self.diagnostics.push(diagnostic.at(key.span.clone()));
            }
        }
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

    fn check_delimiter(&mut self, table: &crate::project::SourceTableSpec) {
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

    fn location(&mut self, table: &crate::project::SourceTableSpec) -> Option<String> {
        let Some(location) = &table.location else {
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
        let scope = Arc::new(Scope::new(
            self.surroundings.clone(),
            Arc::new(Discovery::new(Arc::default())),
            "",
        ));
        match self.templates.render_text(&location.value, &scope) {
            Ok(text) => Some(text),
            Err(message) => {
                self.diagnostics
                    .push(Diagnostic::error(Code::E0402, message).at(location.span.clone()));
                None
            }
        }
    }
}
