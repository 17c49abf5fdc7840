//! dbt's filters: `{{ Dimension('order__status') }} = 'paid'` becomes `status = 'paid'`.

use super::Reader;
use super::model::SemanticModel;
use crate::project::yaml::{Node, Spot, Value};

impl Reader {
    /// The filter as SQL over the model's columns. `Err` when a part cannot be said so, which was reported.
    pub(super) fn filter(
        &mut self,
        node: Option<&Node>,
        model: &SemanticModel,
    ) -> Result<Option<Spot<String>>, ()> {
        let Some(node) = node else { return Ok(None) };
        let parts: Vec<&str> = match &node.value {
            Value::String(text) => vec![text.as_str()],
            Value::Sequence(items) => items
                .iter()
                .filter_map(|item| match &item.value {
                    Value::String(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut read = Vec::new();
        for part in &parts {
            match columns(part, model) {
                Ok(sql) => read.push(sql),
                Err(call) => {
                    self.lose(
                        &node.span,
                        format!("`{call}` in a filter is not read, so the metric is left out"),
                        "filter by a dimension or entity of the metric's own model",
                    );
                    return Err(());
                }
            }
        }
        let value = match read.as_slice() {
            [] => return Ok(None),
            [one] => one.clone(),
            many => many
                .iter()
                .map(|part| format!("({part})"))
                .collect::<Vec<_>>()
                .join(" and "),
        };
        Ok(Some(Spot {
            value,
            span: node.span.clone(),
        }))
    }
}

/// Replaces every `{{ Call('entity__name') }}`; the call that has no column is the error.
fn columns(text: &str, model: &SemanticModel) -> Result<String, String> {
    let mut sql = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        sql.push_str(&rest[..start]);
        let Some(length) = rest[start..].find("}}") else {
            return Err(rest[start..].to_string());
        };
        let call = rest[start + 2..start + length].trim();
        sql.push_str(&column(call, model).ok_or_else(|| call.to_string())?);
        rest = &rest[start + length + 2..];
    }
    sql.push_str(rest);
    Ok(sql.trim().to_string())
}

fn column(call: &str, model: &SemanticModel) -> Option<String> {
    let (function, arguments) = call.split_once('(')?;
    let arguments: Vec<&str> = arguments
        .strip_suffix(')')?
        .split(',')
        .map(|argument| argument.trim().trim_matches(['\'', '"']))
        .collect();
    // The entity before the name says over which join; a metric's own model needs none.
    let name = arguments.first()?.rsplit("__").next()?;
    match function.trim() {
        "Dimension" if arguments.len() == 1 => model.dimension(name),
        "TimeDimension" => {
            let time = model.dimension(name)?;
            match arguments.get(1) {
                None => Some(time),
                Some(grain) if grain.chars().all(char::is_alphanumeric) => {
                    Some(format!("date_trunc('{grain}', {time})"))
                }
                Some(_) => None,
            }
        }
        "Entity" if arguments.len() == 1 => model.entity(name),
        _ => None,
    }
}
