//! Makes typed expressions of typed parts.
//! In: operands whose types are known. Out: an expression, or what its types or constants forbid. Reading SQL is left to
//! [`super::parse`].

use regex::RegexBuilder;

use super::TargetingError;
use super::expression::{Comparison, Expression, Function, LikePattern, LikeToken, Operation};
use super::parse::Typed;
use super::version::version_key;
use crate::flags::bucketing::Algorithm;
use crate::flags::context::{Type, Value, parse_timestamp};

/// Lists of text constants longer than this are searched by halves.
const SHORT_LIST: usize = 8;

pub(super) fn compiled(pattern: &str) -> Result<regex::Regex, TargetingError> {
    RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| {
            TargetingError::new(format!("the regular expression cannot be used: {error}"))
        })
}

pub(super) fn instant(text: &str) -> Typed {
    parse_timestamp(text)
        .map(|micros| Expression::Constant {
            value: Value::Timestamp(micros),
            kind: Type::Timestamp,
        })
        .ok_or_else(|| {
            TargetingError::new(format!("`{text}` is no timestamp"))
                .hint("write it like `2026-11-01T08:00:00Z`")
        })
}

pub(super) fn compare(operator: Comparison, left: Expression, right: Expression) -> Typed {
    let (left, right) = comparable(left, right)?;
    if left.kind() == Type::Texts || right.kind() == Type::Texts {
        return Err(
            TargetingError::new("lists cannot be compared").hint("use `array_has(list, 'item')`")
        );
    }
    Ok(Expression::Compare {
        operator,
        left: Box::new(left),
        right: Box::new(right),
    })
}

/// Makes both sides one type: numbers mix, and a text constant beside a timestamp is read as one.
pub(super) fn comparable(
    left: Expression,
    right: Expression,
) -> Result<(Expression, Expression), TargetingError> {
    match (left.kind(), right.kind()) {
        (Type::Timestamp, Type::Text) => Ok((left, read_instant(right)?)),
        (Type::Text, Type::Timestamp) => Ok((read_instant(left)?, right)),
        (one, other) if fits(one, other) => Ok((left, right)),
        (Type::Version, Type::Text) | (Type::Text, Type::Version) => Err(TargetingError::new(
            format!("a semver cannot be compared with a string: `{left}` and `{right}`"),
        )
        .hint("write the version as `semver('3.2.0')`")),
        (one, other) => Err(TargetingError::new(format!(
            "a {one} cannot be compared with a {other}: `{left}` and `{right}`"
        ))),
    }
}

fn read_instant(side: Expression) -> Typed {
    match side {
        Expression::Constant {
            value: Value::Text(text),
            ..
        } => instant(&text),
        other => Err(TargetingError::new(format!(
            "a timestamp cannot be compared with the string `{other}`"
        ))),
    }
}

fn fits(one: Type, other: Type) -> bool {
    let is_number = |kind| matches!(kind, Type::Integer | Type::Float);
    one == other || one == Type::Null || other == Type::Null || (is_number(one) && is_number(other))
}

pub(super) fn same_kinds<'a>(
    items: impl Iterator<Item = &'a Expression>,
    what: &str,
) -> Result<(), TargetingError> {
    let kinds: Vec<Type> = items
        .map(Expression::kind)
        .filter(|kind| *kind != Type::Null)
        .collect();
    match kinds.windows(2).find(|pair| !fits(pair[0], pair[1])) {
        Some(pair) => Err(TargetingError::new(format!(
            "{what} have different types: {} and {}",
            pair[0], pair[1]
        ))),
        None => Ok(()),
    }
}

pub(super) fn arithmetic(operator: Operation, left: Expression, right: Expression) -> Typed {
    expect_number(&left, "arithmetic")?;
    expect_number(&right, "arithmetic")?;
    let is_division = matches!(operator, Operation::Divide | Operation::Remainder);
    let is_safe = match &right {
        Expression::Constant {
            value: Value::Integer(divisor),
            ..
        } => ![0, -1].contains(divisor),
        Expression::Constant {
            value: Value::Float(divisor),
            ..
        } => *divisor != 0.0,
        _ => false,
    };
    if is_division && !is_safe {
        return Err(
            TargetingError::new("a divisor must be a constant other than 0 and -1")
                .hint("a division that may fail would make the flag fail for some users"),
        );
    }
    Ok(Expression::Arithmetic {
        operator,
        left: Box::new(left),
        right: Box::new(right),
    })
}

pub(super) fn negative(operand: Expression) -> Expression {
    match operand {
        Expression::Constant {
            value: Value::Integer(integer),
            kind,
        } => Expression::Constant {
            value: Value::Integer(integer.wrapping_neg()),
            kind,
        },
        Expression::Constant {
            value: Value::Float(float),
            kind,
        } => Expression::Constant {
            value: Value::Float(-float),
            kind,
        },
        other => Expression::Negative(Box::new(other)),
    }
}

pub(super) fn membership(
    operand: Expression,
    items: Vec<Expression>,
    is_negated: bool,
) -> Expression {
    let text = |item: &Expression| match item {
        Expression::Constant {
            value: Value::Text(text),
            ..
        } => Some(Some(text.clone())),
        Expression::Constant {
            value: Value::Null, ..
        } => Some(None),
        _ => None,
    };
    let constants: Option<Vec<Option<Box<str>>>> = items.iter().map(text).collect();
    match constants {
        Some(constants) if constants.len() > SHORT_LIST => {
            let has_null = constants.contains(&None);
            let mut texts: Vec<Box<str>> = constants.into_iter().flatten().collect();
            texts.sort_unstable();
            texts.dedup();
            Expression::InTexts {
                operand: Box::new(operand),
                texts,
                has_null,
                is_negated,
            }
        }
        _ => Expression::In {
            operand: Box::new(operand),
            list: items,
            is_negated,
        },
    }
}

pub(super) fn like_pattern(
    text: Box<str>,
    is_without_case: bool,
) -> Result<LikePattern, TargetingError> {
    let mut tokens = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        tokens.push(match letter {
            '%' => LikeToken::Many,
            '_' => LikeToken::One,
            '\\' => LikeToken::Char(letters.next().unwrap_or('\\')),
            other => LikeToken::Char(other),
        });
    }
    let without_case = is_without_case
        .then(|| compiled(&like_regex(&tokens)))
        .transpose()?;
    Ok(LikePattern {
        text,
        tokens,
        without_case,
    })
}

fn like_regex(tokens: &[LikeToken]) -> String {
    let body: String = tokens
        .iter()
        .map(|token| match token {
            LikeToken::Many => ".*".to_owned(),
            LikeToken::One => ".".to_owned(),
            LikeToken::Char(letter) => regex::escape(&letter.to_string()),
        })
        .collect();
    format!("(?is)^{body}$")
}

pub(super) fn called(function: Function, arguments: Vec<Expression>) -> Typed {
    let (name, wanted) = (function.name(), function.arguments());
    if arguments.len() != wanted.len() {
        let message = format!(
            "`{name}` takes {} arguments, not {}",
            wanted.len(),
            arguments.len()
        );
        return Err(TargetingError::new(message));
    }
    for (argument, kind) in arguments.iter().zip(wanted) {
        expect(argument, *kind, &format!("`{name}`"))?;
    }
    match (function, arguments.as_slice()) {
        (
            Function::Semver,
            [
                Expression::Constant {
                    value: Value::Text(text),
                    ..
                },
            ],
        ) => version(text),
        (
            Function::Bucket,
            [
                Expression::Constant {
                    value: Value::Text(id),
                    ..
                },
                ..,
            ],
        ) => {
            algorithm(id)?;
            Ok(Expression::Call {
                function,
                arguments,
            })
        }
        (Function::Bucket, _) => Err(TargetingError::new(
            "the algorithm of `bucket` must be a text constant",
        )),
        (
            Function::SplitPart,
            [
                _,
                _,
                Expression::Constant {
                    value: Value::Integer(1..),
                    ..
                },
            ],
        ) => Ok(Expression::Call {
            function,
            arguments,
        }),
        (Function::SplitPart, _) => Err(TargetingError::new(
            "the position in `split_part` must be a constant of at least 1",
        )),
        _ => Ok(Expression::Call {
            function,
            arguments,
        }),
    }
}

fn algorithm(id: &str) -> Result<Algorithm, TargetingError> {
    Algorithm::parse(id).ok_or_else(|| {
        let known = Algorithm::all().map(Algorithm::id);
        TargetingError::new(format!("unknown algorithm `{id}`"))
            .hint(crate::diagnostics::did_you_mean(id, known))
    })
}

fn version(text: &str) -> Typed {
    version_key(text)
        .map(|key| Expression::Constant {
            value: Value::Text(key.into()),
            kind: Type::Version,
        })
        .ok_or_else(|| {
            TargetingError::new(format!("`{text}` is no semantic version"))
                .hint("write it like `3.2.0` or `3.2.0-rc.1`")
        })
}

pub(super) fn expect(
    expression: &Expression,
    kind: Type,
    place: &str,
) -> Result<(), TargetingError> {
    match expression.kind() {
        found if found == kind || found == Type::Null => Ok(()),
        found => Err(TargetingError::new(format!(
            "{place} needs a {kind}, but `{expression}` is a {found}"
        ))),
    }
}

pub(super) fn expect_number(expression: &Expression, place: &str) -> Result<(), TargetingError> {
    match expression.kind() {
        Type::Integer | Type::Float | Type::Null => Ok(()),
        found => Err(TargetingError::new(format!(
            "{place} needs a number, but `{expression}` is a {found}"
        ))),
    }
}
