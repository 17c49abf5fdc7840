//! Data tests become nodes: a singular test is its own file, a generic one is a call of the macro `test_<name>`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::discover::{Discovery, Names};
use super::node::{
    Generic, Node, NodeId, NodeKind, Settings, TestSettings, TestSeverity, identifier,
};
use super::resolve::Resolver;
use crate::diagnostics::{Code, Diagnostic, Span, did_you_mean};
use crate::project::yaml::{Node as Yaml, Spot, Value};
use crate::project::{ColumnSpec, SqlFile, TestSpec};
use crate::template::Scope;

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
    let mut settings = TestSettings::default();
    let mut node_settings = Settings::default();
    for (key, value) in discovered.config {
        match set(&mut settings, &key, &value) {
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
        settings,
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
    let Some((mut settings, others)) = test_settings(resolver, spec) else {
        return;
    };
    settings.expressions = expressions(&test, in_sql.as_deref(), spec);
    if !arguments_fit(resolver, &test, column.as_deref(), spec) {
        return;
    }
    let node = &resolver.nodes[owner.0];
    let relation = match &node.kind {
        NodeKind::Source(table) => format!("source('{}', '{}')", table.source, table.table),
        _ => format!("ref('{}')", node.name),
    };
    let mut arguments = vec![match &settings.condition {
        Some(condition) => format!(
            "model=\"(select * from \" ~ {relation} ~ \" where \" ~ {} ~ \"\\n) as tested\"",
            templated(condition)
        ),
        None => format!("model={relation}"),
    }];
    arguments.extend(
        in_sql
            .iter()
            .map(|column| format!("column_name={}", quote(column))),
    );
    for (key, value) in &spec.arguments {
        arguments.push(format!("{}={}", key.value, expression(value)));
    }
    let text = format!("{{{{ test_{test}({}) }}}}", arguments.join(", "));
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
        // The call was written by us; the user wrote the YAML.
        if diagnostic
            .span
            .as_ref()
            .is_none_or(|span| span.file == spec.name.span.file)
        {
            diagnostic.span = Some(spec.name.span.clone());
            diagnostic.code = if diagnostic.code == Code::E0402 {
                Code::E0205
            } else {
                diagnostic.code
            };
        }
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
        Some(generic(test, spec)),
        (spec.description.clone(), others),
    );
}

fn generic(name: String, spec: &TestSpec) -> Generic {
    let package = spec.name.value.rsplit_once('.');
    let arguments = spec.arguments.iter();
    Generic {
        name,
        package: package.map(|(package, _)| package.to_string()),
        arguments: arguments
            .map(|(key, value)| (key.value.clone(), value.to_json()))
            .collect(),
    }
}

/// The pieces of SQL in the YAML of a test that are known to be expressions; what a template puts into them is not seen.
fn expressions(test: &str, column: Option<&str>, spec: &TestSpec) -> Vec<Spot<String>> {
    let settings = spec
        .config
        .iter()
        .filter(|(key, _)| matches!(key.as_str(), "where" | "fail_calc"))
        .map(|(_, node)| (None, node));
    let arguments = spec
        .arguments
        .iter()
        .filter(|(key, _)| test == "expression_is_true" && key.value == "expression")
        .map(|(_, node)| (column, node));
    let piece = |(before, node): (Option<&str>, &Yaml)| {
        let Value::String(text) = &node.value else {
            return None;
        };
        let value = match before {
            // The column stands before what is said of it: `>= 0`.
            Some(column) => format!("{column} {text}"),
            None => text.clone(),
        };
        (!text.contains("{{")).then(|| Spot {
            value,
            span: node.span.clone(),
        })
    };
    settings.chain(arguments).filter_map(piece).collect()
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
        let known = parameters
            .iter()
            .map(|parameter| parameter.name.as_str())
            .filter(|name| *name != "model" && *name != "column_name");
        let hint = did_you_mean(key, known);
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

/// `None` when the test is disabled.
fn test_settings(resolver: &mut Resolver<'_>, spec: &TestSpec) -> Option<(TestSettings, Settings)> {
    let mut settings = TestSettings::default();
    let mut others = Settings::default();
    for (key, node) in &spec.config {
        let value = node.to_json();
        let outcome = set(&mut settings, key, &value).and_then(|known| {
            if known {
                Ok(())
            } else {
                others.set(key, &value)
            }
        });
        if let Err(diagnostic) = outcome {
            resolver.diagnostics.push(diagnostic.at(node.span.clone()));
        }
    }
    others.enabled.then_some((settings, others))
}

/// Takes over a setting that only tests have; false when it is none of those.
fn set(
    settings: &mut TestSettings,
    key: &str,
    value: &serde_json::Value,
) -> Result<bool, Diagnostic> {
    let text = || {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToString::to_string)
    };
    match key {
        "severity" => {
            settings.severity = match text().to_lowercase().as_str() {
                "error" => TestSeverity::Error,
                "warn" => TestSeverity::Warn,
                other => {
                    return Err(Diagnostic::error(
                        Code::E0106,
                        format!("`{other}` is not a severity"),
                    )
                    .hint("use `error` or `warn`"));
                }
            }
        }
        "where" => settings.condition = Some(text()),
        "limit" => {
            let limit = value.as_i64().filter(|limit| *limit > 0);
            settings.limit = Some(limit.ok_or_else(|| {
                Diagnostic::error(Code::E0104, "`limit` must be a positive integer")
            })?);
        }
        "error_if" => settings.error_if = comparison(&text())?,
        "warn_if" => settings.warn_if = comparison(&text())?,
        "fail_calc" => settings.fail_calc = text(),
        "store_failures" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// `> 10`, `!= 0`, `between 1 and 5` and the like.
fn comparison(text: &str) -> Result<String, Diagnostic> {
    let pattern = regex::Regex::new(
        r"(?i)^\s*((=|==|!=|<>|<|<=|>|>=)\s*-?\d+|between\s+-?\d+\s+and\s+-?\d+)\s*$",
    )
    .expect("the pattern is constant");
    if pattern.is_match(text) {
        return Ok(text.trim().replace("==", "="));
    }
    Err(Diagnostic::error(
        Code::E0106,
        format!("`{text}` is not a comparison with a number"),
    )
    .hint("write it like `> 10` or `!= 0`"))
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

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text as a Jinja expression, with what stands in double braces put into it.
fn templated(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, code, after)) = rest.split_once("{{").and_then(|(before, after)| {
        let (code, after) = after.split_once("}}")?;
        Some((before, code.trim(), after))
    }) {
        if !before.trim().is_empty() || !parts.is_empty() && !before.is_empty() {
            parts.push(quote(before));
        }
        parts.push(format!("({code})"));
        rest = after;
    }
    if parts.is_empty() || !rest.trim().is_empty() {
        parts.push(quote(rest));
    }
    parts.join(" ~ ")
}

/// A YAML value as a template expression. Text that calls `ref` or `source`, or stands in `{{ }}`, is code, as in dbt.
fn expression(value: &Yaml) -> String {
    match &value.value {
        Value::String(text) => {
            static CALL: LazyLock<Regex> = LazyLock::new(|| {
                Regex::new(r"^\s*(ref|source|var|env_var)\s*\(.*\)\s*$")
                    .expect("the pattern is constant")
            });
            match CALL.is_match(text) {
                true => text.clone(),
                false => templated(text),
            }
        }
        Value::Sequence(items) => format!(
            "[{}]",
            items.iter().map(expression).collect::<Vec<_>>().join(", ")
        ),
        Value::Null => "none".to_string(),
        _ => value.to_json().to_string(),
    }
}

#[cfg(test)]
mod unit_tests {
    use super::templated;

    #[test]
    fn code_in_double_braces_is_put_into_the_text_around_it() {
        assert_eq!(templated("a > 1"), "\"a > 1\"");
        assert_eq!(templated("{{ var('x') }}"), "(var('x'))");
        assert_eq!(
            templated("date '{{ var('x') }}' - {{ n }}"),
            "\"date '\" ~ (var('x')) ~ \"' - \" ~ (n)"
        );
        assert_eq!(templated("left {{ open"), "\"left {{ open\"");
    }
}
