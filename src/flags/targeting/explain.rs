//! How an expression came out, part by part, for a person who asks why.

use super::evaluate::{Operand, truth, value};
use super::expression::Expression;
use super::version::version_text;
use crate::flags::context::{Context, Type};

/// One part of an expression, what it gave, and the parts below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub sql: String,
    /// `true`, `false`, `unknown`, or the value of an operand.
    pub result: String,
    pub parts: Vec<Explanation>,
}

/// Evaluates every part of a boolean expression, also those that the server would not reach.
pub fn explain(expression: &Expression, context: &Context) -> Explanation {
    let result = match (expression.kind(), truth_if_boolean(expression, context)) {
        (Type::Boolean | Type::Null, Some(truth)) => truth.to_owned(),
        (kind, _) => shown(&value(expression, context), kind),
    };
    let parts = parts(expression)
        .into_iter()
        .map(|part| explain(part, context))
        .collect();
    Explanation {
        sql: expression.to_string(),
        result,
        parts,
    }
}

fn truth_if_boolean(expression: &Expression, context: &Context) -> Option<&'static str> {
    (expression.kind() == Type::Boolean).then(|| match truth(expression, context) {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    })
}

/// The parts worth a line of their own; constants speak for themselves.
fn parts(expression: &Expression) -> Vec<&Expression> {
    let parts: Vec<&Expression> = match expression {
        Expression::And(operands) | Expression::Or(operands) => operands.iter().collect(),
        Expression::Not(operand)
        | Expression::Negative(operand)
        | Expression::IsNull { operand, .. }
        | Expression::IsTruth { operand, .. }
        | Expression::InTexts { operand, .. }
        | Expression::Like { operand, .. }
        | Expression::Regex { operand, .. } => vec![operand],
        Expression::Compare { left, right, .. }
        | Expression::Distinct { left, right, .. }
        | Expression::Arithmetic { left, right, .. } => vec![left, right],
        Expression::In { operand, list, .. } => {
            std::iter::once(operand.as_ref()).chain(list).collect()
        }
        Expression::Case {
            branches,
            otherwise,
        } => branches
            .iter()
            .flat_map(|(condition, result)| [condition, result])
            .chain(otherwise.as_deref())
            .collect(),
        Expression::Call { arguments, .. } => arguments.iter().collect(),
        Expression::Attribute { .. } | Expression::Constant { .. } => Vec::new(),
    };
    parts
        .into_iter()
        .filter(|part| !matches!(part, Expression::Constant { .. }))
        .collect()
}

fn shown(operand: &Operand<'_>, kind: Type) -> String {
    match operand {
        Operand::Null => "NULL".to_owned(),
        Operand::Boolean(boolean) => boolean.to_string(),
        Operand::Integer(integer) => integer.to_string(),
        Operand::Float(float) => format!("{float:?}"),
        // A version is held as a key that sorts.
        Operand::Text(key) if kind == Type::Version => format!("'{}'", version_text(key)),
        Operand::Text(text) => format!("'{text}'"),
        Operand::Timestamp(micros) => chrono::DateTime::from_timestamp_micros(*micros)
            .map_or_else(String::new, |instant| instant.to_rfc3339()),
        Operand::Texts(texts) => format!("{texts:?}"),
    }
}
