//! Evaluates a typed expression with SQL's three-valued logic.
//! Nothing fails and nothing is written; a text is only copied where a function changes it.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::expression::{Comparison, Expression, Function, LikeToken, Operation};
use super::version::version_key;
use crate::flags::bucketing::Algorithm;
use crate::flags::context::{Context, Value};

/// The truth of a boolean expression; `None` is unknown.
pub fn truth(expression: &Expression, context: &Context) -> Option<bool> {
    match expression {
        Expression::And(operands) => all(operands, context),
        Expression::Or(operands) => any(operands, context),
        Expression::Not(operand) => truth(operand, context).map(|truth| !truth),
        Expression::Compare {
            operator,
            left,
            right,
        } => compare(&value(left, context), &value(right, context))
            .map(|ordering| operator.holds(ordering)),
        Expression::Distinct {
            left,
            right,
            is_negated,
        } => Some(is_distinct(&value(left, context), &value(right, context)) != *is_negated),
        Expression::IsNull {
            operand,
            is_negated,
        } => Some(matches!(value(operand, context), Operand::Null) != *is_negated),
        Expression::IsTruth {
            operand,
            truth: wanted,
            is_negated,
        } => Some((truth(operand, context) == *wanted) != *is_negated),
        Expression::In {
            operand,
            list,
            is_negated,
        } => is_in(&value(operand, context), list, context).map(|is_in| is_in != *is_negated),
        Expression::InTexts {
            operand,
            texts,
            has_null,
            is_negated,
        } => is_among(&value(operand, context), texts, *has_null).map(|is_in| is_in != *is_negated),
        Expression::Like {
            operand,
            pattern,
            is_negated,
        } => {
            let text = value(operand, context).into_text()?;
            let is_like = match &pattern.without_case {
                Some(regex) => regex.is_match(&text),
                None => is_like(&pattern.tokens, &text),
            };
            Some(is_like != *is_negated)
        }
        Expression::Regex { operand, regex, .. } => value(operand, context)
            .into_text()
            .map(|text| regex.is_match(&text)),
        other => match value(other, context) {
            Operand::Boolean(boolean) => Some(boolean),
            _ => None,
        },
    }
}

/// A value that may borrow from the context or from the expression.
#[derive(Clone, Debug)]
pub enum Operand<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Timestamp(i64),
    Texts(&'a [Box<str>]),
}

/// The value of any expression.
pub fn value<'a>(expression: &'a Expression, context: &'a Context) -> Operand<'a> {
    match expression {
        Expression::Attribute { slot, .. } => context.get(*slot).into(),
        Expression::Constant { value, .. } => value.into(),
        Expression::Arithmetic {
            operator,
            left,
            right,
        } => calculate(*operator, value(left, context), value(right, context)),
        Expression::Negative(operand) => match value(operand, context) {
            Operand::Integer(integer) => Operand::Integer(integer.wrapping_neg()),
            Operand::Float(float) => Operand::Float(-float),
            _ => Operand::Null,
        },
        Expression::Case {
            branches,
            otherwise,
        } => branches
            .iter()
            .find(|(condition, _)| truth(condition, context) == Some(true))
            .map(|(_, result)| result)
            .or(otherwise.as_deref())
            .map_or(Operand::Null, |result| value(result, context)),
        Expression::Call {
            function,
            arguments,
        } => call(*function, arguments, context),
        boolean => truth(boolean, context).map_or(Operand::Null, Operand::Boolean),
    }
}

impl<'a> From<&'a Value> for Operand<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(boolean) => Self::Boolean(*boolean),
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Float(float) => Self::Float(*float),
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
            Value::Timestamp(micros) => Self::Timestamp(*micros),
            Value::Texts(texts) => Self::Texts(texts),
        }
    }
}

impl<'a> Operand<'a> {
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The order of two values of one type, or nothing where one is null. Floats follow IEEE 754's total order, as Arrow's
/// comparisons do.
pub fn compare(left: &Operand<'_>, right: &Operand<'_>) -> Option<Ordering> {
    match (left, right) {
        (Operand::Boolean(left), Operand::Boolean(right)) => Some(left.cmp(right)),
        (Operand::Integer(left), Operand::Integer(right)) => Some(left.cmp(right)),
        (Operand::Float(left), Operand::Float(right)) => Some(left.total_cmp(right)),
        (Operand::Integer(left), Operand::Float(right)) => Some((*left as f64).total_cmp(right)),
        (Operand::Float(left), Operand::Integer(right)) => Some(left.total_cmp(&(*right as f64))),
        (Operand::Text(left), Operand::Text(right)) => Some(left.as_ref().cmp(right.as_ref())),
        (Operand::Timestamp(left), Operand::Timestamp(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn all(operands: &[Expression], context: &Context) -> Option<bool> {
    let mut result = Some(true);
    for operand in operands {
        match truth(operand, context) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

fn any(operands: &[Expression], context: &Context) -> Option<bool> {
    let mut result = Some(false);
    for operand in operands {
        match truth(operand, context) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

fn is_distinct(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    match (left, right) {
        (Operand::Null, Operand::Null) => false,
        (Operand::Texts(left), Operand::Texts(right)) => left != right,
        _ => compare(left, right) != Some(Ordering::Equal),
    }
}

fn is_in(operand: &Operand<'_>, list: &[Expression], context: &Context) -> Option<bool> {
    if matches!(operand, Operand::Null) {
        return None;
    }
    let mut result = Some(false);
    for item in list {
        match compare(operand, &value(item, context)) {
            Some(Ordering::Equal) => return Some(true),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

fn is_among(operand: &Operand<'_>, texts: &[Box<str>], has_null: bool) -> Option<bool> {
    let Operand::Text(text) = operand else {
        return None;
    };
    let is_found = texts
        .binary_search_by(|item| item.as_ref().cmp(text.as_ref()))
        .is_ok();
    if !is_found && has_null {
        None
    } else {
        Some(is_found)
    }
}

/// Wildcard matching with one place to return to: linear in the text for one `%`.
fn is_like(tokens: &[LikeToken], text: &str) -> bool {
    let (mut token, mut rest) = (0, text);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        match (tokens.get(token), rest.chars().next()) {
            (Some(LikeToken::Many), _) => {
                retry = Some((token, rest));
                token += 1;
            }
            (Some(LikeToken::One), Some(letter)) => {
                token += 1;
                rest = &rest[letter.len_utf8()..];
            }
            (Some(LikeToken::Char(wanted)), Some(letter)) if *wanted == letter => {
                token += 1;
                rest = &rest[letter.len_utf8()..];
            }
            (None, None) => return true,
            _ => {
                let Some((many, from)) = retry else {
                    return false;
                };
                let Some(skipped) = from.chars().next() else {
                    return false;
                };
                let from = &from[skipped.len_utf8()..];
                retry = Some((many, from));
                (token, rest) = (many + 1, from);
            }
        }
    }
}

/// Integers wrap, as they do in DataFusion; divisors are constants that were checked.
fn calculate<'a>(operator: Operation, left: Operand<'a>, right: Operand<'a>) -> Operand<'a> {
    match (left, right) {
        (Operand::Integer(left), Operand::Integer(right)) => Operand::Integer(match operator {
            Operation::Add => left.wrapping_add(right),
            Operation::Subtract => left.wrapping_sub(right),
            Operation::Multiply => left.wrapping_mul(right),
            Operation::Divide => left.wrapping_div(right),
            Operation::Remainder => left.wrapping_rem(right),
        }),
        (Operand::Integer(left), Operand::Float(right)) => {
            Operand::Float(float(operator, left as f64, right))
        }
        (Operand::Float(left), Operand::Integer(right)) => {
            Operand::Float(float(operator, left, right as f64))
        }
        (Operand::Float(left), Operand::Float(right)) => {
            Operand::Float(float(operator, left, right))
        }
        _ => Operand::Null,
    }
}

fn float(operator: Operation, left: f64, right: f64) -> f64 {
    match operator {
        Operation::Add => left + right,
        Operation::Subtract => left - right,
        Operation::Multiply => left * right,
        Operation::Divide => left / right,
        Operation::Remainder => left % right,
    }
}

fn call<'a>(function: Function, arguments: &'a [Expression], context: &'a Context) -> Operand<'a> {
    match arguments {
        [argument] => value(argument, context)
            .into_text()
            .map_or(Operand::Null, |text| one_text(function, text)),
        [left, right] => match (value(left, context), value(right, context)) {
            (Operand::Text(left), Operand::Text(right)) => two_texts(function, left, right),
            (Operand::Texts(items), Operand::Text(item)) => Operand::Boolean(
                items
                    .iter()
                    .any(|candidate| candidate.as_ref() == item.as_ref()),
            ),
            _ => Operand::Null,
        },
        [first, second, third] => three(
            function,
            value(first, context),
            value(second, context),
            value(third, context),
        ),
        _ => Operand::Null,
    }
}

fn one_text(function: Function, text: Cow<'_, str>) -> Operand<'_> {
    match function {
        Function::Lower
            if text
                .bytes()
                .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) =>
        {
            Operand::Text(text)
        }
        Function::Lower => Operand::Text(text.to_lowercase().into()),
        Function::Upper
            if text
                .bytes()
                .all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase()) =>
        {
            Operand::Text(text)
        }
        Function::Upper => Operand::Text(text.to_uppercase().into()),
        Function::Trim => trimmed(text, |text| text.trim_matches(' ')),
        Function::TrimLeft => trimmed(text, |text| text.trim_start_matches(' ')),
        Function::TrimRight => trimmed(text, |text| text.trim_end_matches(' ')),
        Function::Length => Operand::Integer(text.chars().count() as i64),
        Function::Semver => {
            version_key(&text).map_or(Operand::Null, |key| Operand::Text(key.into()))
        }
        _ => Operand::Null,
    }
}

fn trimmed<'a>(text: Cow<'a, str>, trim: impl Fn(&str) -> &str) -> Operand<'a> {
    Operand::Text(match text {
        Cow::Borrowed(text) => {
            let kept = trim(text);
            let start = kept.as_ptr() as usize - text.as_ptr() as usize;
            Cow::Borrowed(&text[start..start + kept.len()])
        }
        Cow::Owned(text) => Cow::Owned(trim(&text).to_owned()),
    })
}

fn two_texts<'a>(function: Function, left: Cow<'a, str>, right: Cow<'a, str>) -> Operand<'a> {
    match function {
        Function::StartsWith => Operand::Boolean(left.starts_with(right.as_ref())),
        Function::EndsWith => Operand::Boolean(left.ends_with(right.as_ref())),
        Function::Contains => Operand::Boolean(left.contains(right.as_ref())),
        Function::Position => Operand::Integer(position(&left, &right)),
        Function::Concat => Operand::Text((left.into_owned() + &right).into()),
        _ => Operand::Null,
    }
}

/// One-based in characters, 0 when it is not there.
fn position(text: &str, wanted: &str) -> i64 {
    text.find(wanted)
        .map_or(0, |at| text[..at].chars().count() as i64 + 1)
}

fn three<'a>(
    function: Function,
    first: Operand<'a>,
    second: Operand<'a>,
    third: Operand<'a>,
) -> Operand<'a> {
    match (function, first, second, third) {
        (Function::Bucket, Operand::Text(id), Operand::Text(salt), Operand::Text(unit)) => {
            Algorithm::parse(&id).map_or(Operand::Null, |algorithm| {
                Operand::Integer(algorithm.bucket(&salt, &unit).index.into())
            })
        }
        (
            Function::SplitPart,
            Operand::Text(text),
            Operand::Text(separator),
            Operand::Integer(position),
        ) => Operand::Text(split_part(&text, &separator, position).to_owned().into()),
        _ => Operand::Null,
    }
}

/// One-based; empty past the last part, and an empty separator leaves the text whole.
fn split_part<'a>(text: &'a str, separator: &str, position: i64) -> &'a str {
    let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
    if separator.is_empty() {
        return if index == 0 { text } else { "" };
    }
    text.split(separator).nth(index).unwrap_or("")
}

/// The comparison that two known values satisfy, for the proofs about predicates.
pub fn holds(operator: Comparison, left: &Value, right: &Value) -> Option<bool> {
    compare(&left.into(), &right.into()).map(|ordering| operator.holds(ordering))
}
