//! Data tests become nodes: a singular test is its own file, a generic one is a call of the macro `test_<name>`.

mod call;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::discover::{Discovery, Names};
use super::node::{Generic, Node, NodeId, NodeKind, Settings, TestSettings, identifier};
use super::resolve::Resolver;
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean, nearest};
use crate::project::yaml::{Node as Yaml, Spot, Value, old_boolean, wrong_type};
use crate::project::{ColumnSpec, SqlFile, TEST_CONFIG, TestSpec};
use crate::template::Scope;

use call::Call;
pub use call::Places;

pub(super) fn add(resolver: &mut Resolver<'_>, names: &Arc<Names>) {
    // A file has its name; what YAML writes is numbered after it.
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for file in unlike(resolver) {
        taken.insert(file.stem().to_string(), 1);
        add_singular(resolver, names, &file);
    }
    for (owner, column, spec) in resolver.written_tests(names) {
        add_generic(resolver, names, owner, column, spec, &mut taken);
    }
}

/// The tests that are files; of two that have one name, the first.
fn unlike(resolver: &mut Resolver<'_>) -> Vec<SqlFile> {
    let mut first: BTreeMap<&str, &SqlFile> = BTreeMap::new();
    let mut files = Vec::new();
    for file in &resolver.project.tests {
        let Some(earlier) = first.insert(file.stem(), file) else {
            files.push(file.clone());
            continue;
        };
        let message = format!("there are two tests named `{}`", file.stem());
        let place = |file: &SqlFile| Span::file(file.path.clone());
        resolver.duplicate(message, &place(file), &place(earlier));
    }
    files
}

fn add_singular(resolver: &mut Resolver<'_>, names: &Arc<Names>, file: &SqlFile) {
    let name = file.stem().to_string();
    let discovered = discover(resolver, names, file, &name);
    let mut own = TestSettings::default();
    let mut node_settings = Settings::default();
    for (key, value) in discovered.config {
        match settings::set(&mut own, &key, &value) {
            Ok(true) => {}
            Ok(false) => {
                if let Err(diagnostic) = node_settings.set(&key, &value) {
                    resolver
                        .diagnostics
                        .push(diagnostic.at(super::resolve::find_word(file, &key)));
                }
            }
            Err(diagnostic) => resolver
                .diagnostics
                .push(diagnostic.at(super::resolve::find_word(file, &key))),
        }
    }
    if !node_settings.enabled {
        return;
    }
    let span = Span::file(file.path.clone());
    push(
        resolver,
        name,
        file.clone(),
        discovered.used,
        span,
        None,
        None,
        own,
        None,
        (String::new(), node_settings),
    );
}

fn add_generic(
    resolver: &mut Resolver<'_>,
    names: &Arc<Names>,
    owner: NodeId,
    declared: Option<&ColumnSpec>,
    spec: &TestSpec,
    taken: &mut BTreeMap<String, usize>,
) {
    let column = declared.map(|column| column.name.value.clone());
    let in_sql = declared.map(column_in_sql);
    // `package.test` is a test of a package; the packages' macros share one space of names.
    let test = spec
        .name
        .rsplit('.')
        .next()
        .unwrap_or(&spec.name)
        .to_string();
    if !resolver.templates.has_macro(&format!("test_{test}")) {
        let macros = resolver.templates.macro_names();
        let known = macros.iter().filter_map(|name| name.strip_prefix("test_"));
        resolver.diagnostics.push(
            Diagnostic::error(
                Code::E0205,
                format!("unknown data test `{}`", spec.name.value),
            )
            .at(spec.name.span.clone())
            .hint(did_you_mean(&test, known)),
        );
        return;
    }
    let Some((mut settings, others)) = settings::of_yaml(resolver, spec) else {
        return;
    };
    let arguments: Vec<(&Spot<String>, Yaml)> = spec
        .arguments
        .iter()
        .map(|(key, value)| (key, value.as_dbt_reads_it()))
        .collect();
    settings
        .expressions
        .extend(expression(&test, in_sql.as_deref(), &arguments));
    if !arguments_fit(resolver, &test, column.as_deref(), spec)
        || !values_fit(resolver, &test, &arguments)
    {
        return;
    }
    resolver.diagnostics.extend(words_for_booleans(&arguments));
    let node = &resolver.nodes[owner.0];
    let relation = match &node.kind {
        NodeKind::Source(table) => format!("source('{}', '{}')", table.source, table.table),
        _ => format!("ref('{}')", node.name),
    };
    let condition = spec.config.iter().rfind(|(key, _)| key.value == "where");
    let condition = settings.condition.clone().zip(condition);
    let condition = condition.map(|(value, (_, node))| Spot {
        value,
        span: node.span.clone(),
    });
    let mut call = Call::about(&relation, condition.as_ref());
    if let (Some(in_sql), Some(column)) = (in_sql, declared) {
        call.column(Spot {
            value: in_sql,
            span: column.name.span.clone(),
        });
    }
    for (key, value) in &arguments {
        call.argument(key, value);
    }
    let (text, places) = call.of(&format!("test_{test}"));
    let name = spec.custom_name.as_ref().map_or_else(
        || {
            default_name(
                &test,
                &resolver.nodes[owner.0].name,
                column.as_deref(),
                &spec.arguments,
            )
        },
        |name| name.value.clone(),
    );
    let count = taken.entry(name.clone()).or_default();
    *count += 1;
    let name = if *count == 1 {
        name
    } else {
        format!("{name}_{count}")
    };
    let file = SqlFile {
        path: spec.name.span.file.clone(),
        text: text.into(),
    };
    let before = resolver.diagnostics.len();
    let discovered = discover(resolver, names, &file, &name);
    for diagnostic in &mut resolver.diagnostics[before..] {
        places.bring_home(&file, &spec.name.span, diagnostic);
    }
    push(
        resolver,
        name,
        file,
        discovered.used,
        spec.name.span.clone(),
        Some(owner),
        column,
        settings,
        Some(generic(test, spec, &arguments, places)),
        (spec.description.clone(), others),
    );
}

fn generic(
    name: String,
    spec: &TestSpec,
    arguments: &[(&Spot<String>, Yaml)],
    places: Places,
) -> Generic {
    let package = spec.name.value.rsplit_once('.');
    let arguments = arguments.iter();
    Generic {
        name,
        package: package.map(|(package, _)| package.to_string()),
        arguments: arguments
            .map(|(key, value)| (key.value.clone(), value.to_json()))
            .collect(),
        places,
    }
}

/// The argument of a test that is known to be SQL.
fn expression(
    test: &str,
    column: Option<&str>,
    arguments: &[(&Spot<String>, Yaml)],
) -> Option<Spot<String>> {
    let is_it = |key: &str| test == "expression_is_true" && key == "expression";
    let (_, node) = arguments.iter().find(|(key, _)| is_it(key))?;
    // The column stands before what is said of it: `>= 0`.
    let before = column.map_or(String::new(), |column| format!("{column} "));
    settings::piece(node, &before)
}

/// The tests of the standard library take values of one kind, and would say of others what only their authors understand.
fn values_fit(
    resolver: &mut Resolver<'_>,
    test: &str,
    arguments: &[(&Spot<String>, Yaml)],
) -> bool {
    let before = resolver.diagnostics.len();
    for (key, value) in arguments {
        let expected = match (test, key.as_str()) {
            _ if !resolver
                .templates
                .is_of_standard_library(&format!("test_{test}")) =>
            {
                continue;
            }
            ("accepted_values", "values") | ("unique_combination", "columns") => "a list",
            ("relationships", "to" | "field") | ("expression_is_true", "expression") => "a text",
            _ => continue,
        };
        let fits = match &value.value {
            // It may be code that makes a list.
            Value::String(text) => {
                expected == "a text" || text.contains("{{") || text.contains('(')
            }
            Value::Sequence(_) => expected == "a list",
            _ => false,
        };
        if !fits {
            let mut wrong = wrong_type(value, expected);
            wrong.message = format!("`{}`: {}", key.value, wrong.message);
            resolver.diagnostics.push(wrong);
        }
    }
    resolver.diagnostics.len() == before
}

/// In a list of values `yes` is `true`, as dbt reads it; who compares texts with it waits in vain.
fn words_for_booleans(arguments: &[(&Spot<String>, Yaml)]) -> Vec<Diagnostic> {
    let items = arguments.iter().flat_map(|(_, value)| match &value.value {
        Value::Sequence(items) => items.as_slice(),
        _ => &[],
    });
    let is_word = |node: &&Yaml| {
        let written = node.written.as_deref().unwrap_or_default();
        matches!(node.value, Value::Bool(_))
            && old_boolean(written).is_some()
            && !["true", "false"].contains(&written.to_ascii_lowercase().as_str())
    };
    let warning = |node: &Yaml| {
        let written = node.written.as_deref().unwrap_or_default();
        let meant = matches!(node.value, Value::Bool(true));
        Diagnostic::warning(
            Code::E0106,
            format!("`{written}` is read as `{meant}` here, as in dbt"),
        )
        .at(node.span.clone())
        .hint(format!("write `'{written}'` if it is a text, or `{meant}`"))
    };
    items.filter(is_word).map(warning).collect()
}

/// Capital letters are left to SQL, which folds them as it does in the model, unless the YAML says `quote: true`.
fn column_in_sql(column: &ColumnSpec) -> String {
    let name = &column.name.value;
    match name.chars().any(char::is_uppercase) && !column.is_quoted {
        true => name.clone(),
        false => identifier(name),
    }
}

/// What the YAML gives is what the test takes.
fn arguments_fit(
    resolver: &mut Resolver<'_>,
    test: &str,
    column: Option<&str>,
    spec: &TestSpec,
) -> bool {
    let parameters = resolver
        .templates
        .macro_parameters(&format!("test_{test}"))
        .to_vec();
    let takes = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
    let before = resolver.diagnostics.len();
    for (key, _) in spec.arguments.iter().filter(|(key, _)| !takes(key)) {
        let settings = TEST_CONFIG.iter().copied();
        let known: Vec<&str> = parameters
            .iter()
            .map(|parameter| parameter.name.as_str())
            .filter(|name| *name != "model" && !(column.is_some() && *name == "column_name"))
            .chain(settings.filter(|setting| nearest(key, [*setting]).is_some()))
            .collect();
        let hint = match known.is_empty() {
            true => "it takes none; take this out".to_string(),
            false => did_you_mean(key, known),
        };
        resolver.diagnostics.push(
            Diagnostic::error(
                Code::E0205,
                format!("the data test `{test}` takes no argument `{}`", key.value),
            )
            .at(key.span.clone())
            .hint(hint),
        );
    }
    if column.is_some() && !takes("column_name") {
        let message =
            format!("the data test `{test}` is about a whole model, but stands at a column");
        let hint = "move it to the `data_tests` of the model";
        resolver.diagnostics.push(
            Diagnostic::error(Code::E0205, message)
                .at(spec.name.span.clone())
                .hint(hint),
        );
    }
    let is_given = |name: &str| match name {
        "model" => true,
        "column_name" if column.is_some() => true,
        name => spec.arguments.iter().any(|(key, _)| key.value == name),
    };
    let has_typing_error = resolver.diagnostics.len() > before;
    for parameter in parameters.iter().filter(|parameter| {
        !parameter.has_default && !is_given(&parameter.name) && !has_typing_error
    }) {
        let (message, hint) = match parameter.name.as_str() {
            "column_name" => (
                format!("the data test `{test}` is about a column, but stands at a model"),
                "move it to the `data_tests` of a column".to_string(),
            ),
            name => (
                format!("the data test `{test}` needs `{name}`"),
                format!("write `- {test}: {{{name}: ...}}`"),
            ),
        };
        resolver.diagnostics.push(
            Diagnostic::error(Code::E0205, message)
                .at(spec.name.span.clone())
                .hint(hint),
        );
    }
    resolver.diagnostics.len() == before
}

struct Discovered {
    used: Vec<NodeId>,
    config: serde_json::Map<String, serde_json::Value>,
}

fn discover(
    resolver: &mut Resolver<'_>,
    names: &Arc<Names>,
    file: &SqlFile,
    this: &str,
) -> Discovered {
    let discovery = Arc::new(Discovery::new(names.clone()));
    let scope = Arc::new(Scope::new(
        resolver.surroundings.clone(),
        discovery.clone(),
        this,
    ));
    let rendered = resolver.templates.render(file, &scope);
    if rendered.has_errors() {
        // The test becomes the next node.
        resolver.broken.insert(NodeId(resolver.nodes.len()));
    }
    resolver.diagnostics.extend(rendered.diagnostics);
    Discovered {
        used: discovery.used(),
        config: scope.take_config(),
    }
}

#[allow(clippy::too_many_arguments)] // one node's parts, put together in one place
fn push(
    resolver: &mut Resolver<'_>,
    name: String,
    template: SqlFile,
    depends_on: Vec<NodeId>,
    span: Span,
    attached_to: Option<NodeId>,
    column: Option<String>,
    settings: TestSettings,
    generic: Option<Generic>,
    (description, others): (String, Settings),
) {
    let id = NodeId(resolver.nodes.len());
    resolver.nodes.push(Node {
        id,
        path: span.file.clone(),
        kind: NodeKind::Test {
            template,
            attached_to,
            column,
            generic,
            settings,
        },
        name,
        described_in: None,
        span,
        description,
        settings: Settings {
            tags: others.tags,
            meta: others.meta,
            ..Settings::default()
        },
        columns: Vec::new(),
        fact: None,
        depends_on,
    });
}

fn default_name(
    test: &str,
    owner: &str,
    column: Option<&str>,
    arguments: &[(crate::project::yaml::Spot<String>, Yaml)],
) -> String {
    let mut parts = vec![test.to_string(), owner.replace('.', "_")];
    parts.extend(column.map(ToString::to_string));
    for (key, value) in arguments {
        if matches!(
            key.as_str(),
            "field" | "to" | "columns" | "combination_of_columns"
        ) {
            let text = value.to_json().to_string();
            parts.push(
                text.chars()
                    .filter(|character| character.is_ascii_alphanumeric() || *character == '_')
                    .collect(),
            );
        }
    }
    parts.join("_")
}
