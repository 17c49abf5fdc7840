//! What the YAML of a test, or the `config` of its file, says of how it is judged.

use super::super::node::{Settings, TestSettings, TestSeverity, wrong};
use super::super::resolve::Resolver;
use crate::diagnostics::{Code, Diagnostic};
use crate::project::TestSpec;
use crate::project::yaml::{Node as Yaml, Spot, Value};

/// `None` when the test is disabled.
pub(super) fn of_yaml(
    resolver: &mut Resolver<'_>,
    spec: &TestSpec,
) -> Option<(TestSettings, Settings)> {
    let mut settings = TestSettings::default();
    let mut others = Settings::default();
    for (key, node) in &spec.config {
        let value = node.as_dbt_reads_it().to_json();
        let outcome = set(&mut settings, key, &value).and_then(|known| {
            if known {
                Ok(())
            } else {
                others.set(key, &value)
            }
        });
        if let Err(diagnostic) = outcome {
            let place = match diagnostic.code {
                Code::E0103 => &key.span,
                _ => &node.span,
            };
            resolver.diagnostics.push(diagnostic.at(place.clone()));
        }
    }
    settings.expressions = pieces(spec, &["where", "fail_calc"]);
    others.enabled.then_some((settings, others))
}

/// Takes over a setting that only tests have; false when it is none of those.
pub(super) fn set(
    settings: &mut TestSettings,
    key: &str,
    value: &serde_json::Value,
) -> Result<bool, Diagnostic> {
    let text = || {
        let text = value.as_str().map(ToString::to_string);
        text.ok_or_else(|| wrong(key, "a text", value))
    };
    match key {
        "severity" => {
            settings.severity = match text()?.to_lowercase().as_str() {
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
        // Nothing, and an empty text, take back what was said before.
        "where" if value.is_null() || value == "" => settings.condition = None,
        "where" => settings.condition = Some(text()?),
        "limit" if value.is_null() => settings.limit = None,
        "limit" => {
            let written = value.as_str().and_then(|text| text.trim().parse().ok());
            let limit = value.as_i64().or(written).filter(|limit| *limit > 0);
            settings.limit = Some(limit.ok_or_else(|| {
                Diagnostic::error(Code::E0104, "`limit` must be a positive integer")
            })?);
        }
        "error_if" => settings.error_if = comparison(&text()?)?,
        "warn_if" => settings.warn_if = comparison(&text()?)?,
        "fail_calc" => settings.fail_calc = text()?,
        "store_failures" if value.is_boolean() || value.is_null() => {}
        "store_failures" => return Err(wrong(key, "`true` or `false`", value)),
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

/// The settings of these names that are texts without code: pieces of SQL, each with its place.
fn pieces(spec: &TestSpec, names: &[&str]) -> Vec<Spot<String>> {
    let settings = spec.config.iter();
    let settings = settings.filter(|(key, _)| names.contains(&key.as_str()));
    settings.filter_map(|(_, node)| piece(node, "")).collect()
}

/// SQL that stands in the YAML, behind what comes before it; what a template puts into it is not seen.
pub(super) fn piece(node: &Yaml, before: &str) -> Option<Spot<String>> {
    let Value::String(text) = &node.value else {
        return None;
    };
    let has_code = text.contains("{{") || text.contains("{%");
    (!has_code).then(|| Spot {
        value: format!("{before}{text}"),
        span: node.span.clone(),
    })
}
