//! The project file: `project.yml`, or dbt's `dbt_project.yml`.

use std::collections::BTreeMap;

use super::domain::choice;
use super::yaml::{Fields, Node, Spot, Value, wrong_type};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};

/// What the project file says.
#[derive(Debug, Clone, Default)]
pub struct ProjectSpec {
    pub name: String,
    pub model_paths: Vec<String>,
    pub macro_paths: Vec<String>,
    pub seed_paths: Vec<String>,
    pub test_paths: Vec<String>,
    pub metric_paths: Vec<String>,
    pub experiment_paths: Vec<String>,
    pub flag_paths: Vec<String>,
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// The target that is used without `--target`.
    pub default_target: Option<String>,
    pub targets: BTreeMap<String, TargetSpec>,
    /// How the states of metrics are computed.
    pub engine: Option<Computation>,
    pub models: ConfigTree,
    pub seeds: ConfigTree,
    /// By the folders of the YAML, then by source and table.
    pub sources: ConfigTree,
    pub tests: ConfigTree,
}

/// How the states of metrics are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Computation {
    /// By the metric operator, where it can.
    #[default]
    Operator,
    /// In plain SQL, all of them.
    Sql,
}

const COMPUTATIONS: &[(&str, Computation)] = &[
    ("operator", Computation::Operator),
    ("sql", Computation::Sql),
];

/// Where a build goes.
#[derive(Debug, Clone, Default)]
pub struct TargetSpec {
    /// Folder of the warehouse, relative to the project.
    pub warehouse: Option<String>,
    /// Name of the environment in the warehouse; the target's own name if absent.
    pub environment: Option<String>,
    pub threads: Option<i64>,
    /// Bytes, or text such as `1GB`.
    pub memory_limit: Option<String>,
    /// Instead of the project's.
    pub engine: Option<Computation>,
    pub vars: serde_json::Map<String, serde_json::Value>,
}

/// Settings by folder, as in dbt: `+materialized` applies to everything below, a plain key is a folder.
#[derive(Debug, Clone, Default)]
pub struct ConfigTree {
    pub settings: Vec<(Spot<String>, Node)>,
    pub folders: BTreeMap<String, ConfigTree>,
}

const SETTINGS: &[&str] = &[
    "materialized",
    "enabled",
    "tags",
    "meta",
    "schema",
    "column_types",
    "delimiter",
    "severity",
    "docs",
    "quote_columns",
    "alias",
    "unique_key",
    "incremental_strategy",
    "on_schema_change",
    "full_refresh",
];

const SOURCE_SETTINGS: &[&str] = &[
    "enabled",
    "tags",
    "meta",
    "event_time",
    "freshness",
    "loaded_at_field",
    "loaded_at_query",
];

impl ProjectSpec {
    /// The lock of what flags have given to whom, beside the flags.
    pub fn flag_lock_path(&self) -> String {
        let folder = self.flag_paths.first().map_or("flags", String::as_str);
        format!("{}/allocations.lock", folder.trim_end_matches('/'))
    }

    pub fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let Some(mut fields) = Fields::of(node, "the project file", diagnostics) else {
            return Self::default();
        };
        let paths = |fields: &mut Fields<'_>, key, fallback: &str| -> Vec<String> {
            fields
                .optional(key)
                .unwrap_or_else(|| vec![fallback.to_string()])
        };
        let name = fields.required::<Spot<String>>("name");
        let spec = Self {
            model_paths: paths(&mut fields, "model-paths", "models"),
            macro_paths: paths(&mut fields, "macro-paths", "macros"),
            seed_paths: paths(&mut fields, "seed-paths", "seeds"),
            test_paths: paths(&mut fields, "test-paths", "tests"),
            metric_paths: paths(&mut fields, "metric-paths", "metrics"),
            experiment_paths: paths(&mut fields, "experiment-paths", "experiments"),
            flag_paths: paths(&mut fields, "flag-paths", "flags"),
            vars: object(&mut fields, "vars"),
            default_target: fields.optional("target"),
            targets: targets(&mut fields),
            engine: engine(&mut fields),
            models: tree(&mut fields, "models", SETTINGS),
            seeds: tree(&mut fields, "seeds", SETTINGS),
            sources: tree(&mut fields, "sources", SOURCE_SETTINGS),
            tests: tree(&mut fields, "data_tests", SETTINGS),
            name: String::new(),
        };
        // dbt's keys that change nothing here; they are read so that its projects need no edit.
        for key in [
            "version",
            "config-version",
            "profile",
            "clean-targets",
            "require-dbt-version",
            "analysis-paths",
            "snapshot-paths",
            "docs-paths",
            "asset-paths",
            "target-path",
            "log-path",
            "packages-install-path",
            "flags",
            "tests",
            "quoting",
            "dispatch",
            "snapshots",
            "query-comment",
            "on-run-start",
            "on-run-end",
        ] {
            fields.node(key);
        }
        fields.finish();
        if let Some(name) = &name {
            check_name(name, "project", diagnostics);
        }
        Self {
            name: name.map(|name| name.value).unwrap_or_default(),
            ..spec
        }
    }
}

/// Names become SQL identifiers and folder names, so they are kept plain.
pub fn check_name(name: &Spot<String>, what: &str, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let plain = name
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || character == '_');
    let good = plain
        && name
            .chars()
            .next()
            .is_some_and(|first| !first.is_ascii_digit());
    if !good {
        diagnostics.push(
            Diagnostic::error(
                Code::E0109,
                format!(
                    "`{}` cannot be the name of {} {what}",
                    name.value,
                    if what.starts_with(['a', 'e', 'i', 'o']) {
                        "an"
                    } else {
                        "a"
                    }
                ),
            )
            .at(name.span.clone())
            .hint("use letters, digits and underscores, and do not start with a digit"),
        );
    }
    good
}

fn object(
    fields: &mut Fields<'_>,
    key: &'static str,
) -> serde_json::Map<String, serde_json::Value> {
    match fields.optional::<Node>(key) {
        None => serde_json::Map::new(),
        Some(node) => match node.to_json() {
            serde_json::Value::Object(map) => map,
            _ => {
                fields
                    .diagnostics()
                    .push(wrong_type(&node, "a mapping of names to values"));
                serde_json::Map::new()
            }
        },
    }
}

fn engine(fields: &mut Fields<'_>) -> Option<Computation> {
    let word = fields.optional::<Spot<String>>("engine")?;
    choice(
        &word,
        "way to compute metrics",
        COMPUTATIONS,
        fields.diagnostics(),
    )
}

fn targets(fields: &mut Fields<'_>) -> BTreeMap<String, TargetSpec> {
    let Some(node) = fields.optional::<Node>("targets") else {
        return BTreeMap::new();
    };
    let Value::Mapping(entries) = &node.value else {
        fields.diagnostics().push(wrong_type(
            &node,
            "a mapping of targets, such as `{dev: {}, prod: {threads: 8}}`",
        ));
        return BTreeMap::new();
    };
    let diagnostics = fields.diagnostics();
    entries
        .iter()
        .filter_map(|(name, node)| Some((name.value.clone(), target(node, diagnostics)?)))
        .collect()
}

fn target(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<TargetSpec> {
    let mut fields = Fields::of(node, "a target", diagnostics)?;
    let target = TargetSpec {
        warehouse: fields.optional("warehouse"),
        environment: fields.optional("environment"),
        threads: fields.optional("threads"),
        memory_limit: fields.optional("memory_limit"),
        engine: engine(&mut fields),
        vars: object(&mut fields, "vars"),
    };
    fields.finish();
    Some(target)
}

fn tree(fields: &mut Fields<'_>, key: &'static str, known: &[&str]) -> ConfigTree {
    let Some(node) = fields.optional::<Node>(key) else {
        return ConfigTree::default();
    };
    ConfigTree::read(&node, known, fields.diagnostics())
}

impl ConfigTree {
    fn read(node: &Node, known: &[&str], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut tree = Self::default();
        let Value::Mapping(entries) = &node.value else {
            if node.value != Value::Null {
                diagnostics.push(wrong_type(node, "settings by folder"));
            }
            return tree;
        };
        for (key, value) in entries {
            match key.strip_prefix('+') {
                Some(setting) => tree.add((setting, key), value, known, diagnostics),
                // dbt allows settings without the plus sign where the value is no folder.
                None if known.contains(&key.as_str())
                    && !matches!(value.value, Value::Mapping(_)) =>
                {
                    tree.add((key, key), value, known, diagnostics);
                }
                None => {
                    tree.folders
                        .insert(key.value.clone(), Self::read(value, known, diagnostics));
                }
            }
        }
        tree
    }

    fn add(
        &mut self,
        (setting, key): (&str, &Spot<String>),
        value: &Node,
        known: &[&str],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if !known.contains(&setting) {
            diagnostics.push(
                Diagnostic::error(Code::E0103, format!("unknown setting `{setting}`"))
                    .at(key.span.clone())
                    .hint(did_you_mean(setting, known.iter().copied())),
            );
            return;
        }
        self.settings.push((
            Spot {
                value: setting.to_string(),
                span: key.span.clone(),
            },
            value.clone(),
        ));
    }

    /// The settings that apply to a file, from the general to the special: `[project, folder, ..., file stem]`.
    pub fn settings_for(&self, path: &[&str]) -> Vec<(&str, &Node)> {
        let mut found: Vec<(&str, &Node)> = self
            .settings
            .iter()
            .map(|(key, node)| (key.value.as_str(), node))
            .collect();
        if let Some((first, rest)) = path.split_first()
            && let Some(tree) = self.folders.get(*first)
        {
            found.extend(tree.settings_for(rest));
        }
        found
    }
}
