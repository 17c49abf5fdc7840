//! A predicate as a tree of tests of single attributes, which other formats can express.
//! In: an expression and the truth that is wanted of it. Out: a tree that is true exactly where the expression has that
//! truth; three-valued logic is gone, because every test but those for null is false where the attribute is null.

use super::Refusal;
use crate::flags::context::{Type, Value};
use crate::flags::targeting::{Comparison, Expression, Function, LikeToken, Predicate};

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Test(Test),
}

/// A test of one attribute; only [`Check::IsNull`] holds where the attribute is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub slot: usize,
    pub name: Box<str>,
    pub kind: Type,
    pub check: Check,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    IsNull,
    IsNotNull,
    Compare(Comparison, Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    Affix {
        place: Affix,
        text: Box<str>,
        is_negated: bool,
    },
    Matches {
        regex: String,
        is_negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affix {
    Start,
    End,
    Anywhere,
}

/// Where a rule's predicate is true; no predicate is true everywhere.
pub fn of_rule(when: Option<&Predicate>) -> Result<Condition, Refusal> {
    when.map_or(Ok(Condition::always()), |when| {
        condition(when.expression(), true)
    })
}

impl Condition {
    pub fn always() -> Self {
        Self::All(Vec::new())
    }

    pub fn never() -> Self {
        Self::Any(Vec::new())
    }

    /// The ways in which the condition holds, each a list of tests that must all hold.
    pub fn ways(&self) -> Result<Vec<Vec<&Test>>, Refusal> {
        let ways = match self {
            Self::Test(test) => vec![vec![test]],
            Self::Any(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    all.extend(part.ways()?);
                }
                all
            }
            Self::All(parts) => {
                let mut all = vec![Vec::new()];
                for part in parts {
                    let next = part.ways()?;
                    all = all
                        .iter()
                        .flat_map(|way: &Vec<&Test>| {
                            next.iter().map(|more| [way.as_slice(), more].concat())
                        })
                        .collect();
                    within_limit(all.len())?;
                }
                all
            }
        };
        within_limit(ways.len()).map(|()| ways)
    }

    /// True exactly where this is not.
    fn complement(&self) -> Result<Self, Refusal> {
        Ok(match self {
            Self::All(parts) => Self::Any(
                parts
                    .iter()
                    .map(Self::complement)
                    .collect::<Result<_, _>>()?,
            ),
            Self::Any(parts) => Self::All(
                parts
                    .iter()
                    .map(Self::complement)
                    .collect::<Result<_, _>>()?,
            ),
            Self::Test(test) => match &test.check {
                Check::IsNull => Self::Test(test.with(Check::IsNotNull)),
                Check::IsNotNull => Self::Test(test.with(Check::IsNull)),
                check => {
                    let opposite = Self::Test(test.with(check.opposite()));
                    Self::Any(vec![opposite, Self::Test(test.with(Check::IsNull))])
                }
            },
        })
    }
}

const MOST_WAYS: usize = 200;

fn within_limit(ways: usize) -> Result<(), Refusal> {
    if ways <= MOST_WAYS {
        Ok(())
    } else {
        Err("its condition has too many combinations".to_owned())
    }
}

impl Test {
    fn with(&self, check: Check) -> Self {
        Self {
            check,
            ..self.clone()
        }
    }
}

impl Check {
    /// The check that holds for the other values that are not null.
    fn opposite(&self) -> Self {
        match self.clone() {
            Self::IsNull => Self::IsNotNull,
            Self::IsNotNull => Self::IsNull,
            Self::Compare(operator, value) => Self::Compare(operator.opposite(), value),
            Self::In(values) => Self::NotIn(values),
            Self::NotIn(values) => Self::In(values),
            Self::Affix {
                place,
                text,
                is_negated,
            } => Self::Affix {
                place,
                text,
                is_negated: !is_negated,
            },
            Self::Matches { regex, is_negated } => Self::Matches {
                regex,
                is_negated: !is_negated,
            },
        }
    }
}

fn condition(expression: &Expression, wanted: bool) -> Result<Condition, Refusal> {
    match expression {
        Expression::And(parts) | Expression::Or(parts) => {
            let parts = parts
                .iter()
                .map(|part| condition(part, wanted))
                .collect::<Result<_, _>>()?;
            let needs_all = matches!(expression, Expression::And(_)) == wanted;
            Ok(if needs_all {
                Condition::All(parts)
            } else {
                Condition::Any(parts)
            })
        }
        Expression::Not(part) => condition(part, !wanted),
        Expression::Constant { value, .. } => Ok(if *value == Value::Boolean(wanted) {
            Condition::always()
        } else {
            Condition::never()
        }),
        Expression::IsTruth {
            operand,
            truth: Some(truth),
            is_negated,
        } => {
            let holds = condition(operand, *truth)?;
            if *is_negated == wanted {
                holds.complement()
            } else {
                Ok(holds)
            }
        }
        other => test(other, wanted),
    }
}

/// A test of one attribute, or a refusal that names the part.
fn test(expression: &Expression, wanted: bool) -> Result<Condition, Refusal> {
    let refusal = || format!("`{expression}` has no counterpart there");
    let found = match expression {
        Expression::Attribute { .. } => {
            let check = Check::Compare(Comparison::Equal, Value::Boolean(true));
            attribute(
                expression,
                if wanted {
                    check
                } else {
                    Check::Compare(Comparison::Equal, Value::Boolean(false))
                },
            )
        }
        Expression::Compare {
            operator,
            left,
            right,
        } => comparison(*operator, left, right, wanted),
        Expression::In {
            operand,
            list,
            is_negated,
        } => {
            let values: Option<Vec<Value>> = list.iter().map(constant).collect();
            values.and_then(|values| membership(operand, values, *is_negated != wanted))
        }
        Expression::InTexts {
            operand,
            texts,
            has_null,
            is_negated,
        } => {
            let mut values: Vec<Value> = texts.iter().cloned().map(Value::Text).collect();
            values.extend(has_null.then_some(Value::Null));
            membership(operand, values, *is_negated != wanted)
        }
        Expression::IsNull {
            operand,
            is_negated,
        } => attribute(
            operand,
            if *is_negated == wanted {
                Check::IsNotNull
            } else {
                Check::IsNull
            },
        ),
        Expression::Like {
            operand,
            pattern,
            is_negated,
        } if pattern.without_case.is_none() => attribute(
            operand,
            Check::Matches {
                regex: like_regex(&pattern.tokens),
                is_negated: *is_negated == wanted,
            },
        ),
        Expression::Regex {
            operand, pattern, ..
        } => attribute(
            operand,
            Check::Matches {
                regex: pattern.to_string(),
                is_negated: !wanted,
            },
        ),
        Expression::Call {
            function,
            arguments,
        } => affix(*function, arguments, wanted),
        _ => None,
    };
    found.ok_or_else(refusal)
}

fn attribute(expression: &Expression, check: Check) -> Option<Condition> {
    match expression {
        Expression::Attribute { slot, name, kind } => Some(Condition::Test(Test {
            slot: *slot,
            name: name.clone(),
            kind: *kind,
            check,
        })),
        _ => None,
    }
}

fn constant(expression: &Expression) -> Option<Value> {
    match expression {
        Expression::Constant { value, .. } => Some(value.clone()),
        _ => None,
    }
}

/// A comparison with null holds nowhere.
fn comparison(
    operator: Comparison,
    left: &Expression,
    right: &Expression,
    wanted: bool,
) -> Option<Condition> {
    let (subject, operator, value) = match (constant(left), constant(right)) {
        (None, Some(value)) => (left, operator, value),
        (Some(value), None) => (right, operator.flipped(), value),
        _ => return None,
    };
    if value.is_null() {
        return Some(Condition::never());
    }
    attribute(
        subject,
        Check::Compare(
            if wanted {
                operator
            } else {
                operator.opposite()
            },
            value,
        ),
    )
}

/// `NOT IN` with a null in the list holds nowhere.
fn membership(operand: &Expression, values: Vec<Value>, is_in: bool) -> Option<Condition> {
    let has_null = values.iter().any(Value::is_null);
    let values: Vec<Value> = values
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    if has_null && !is_in {
        return Some(Condition::never());
    }
    attribute(
        operand,
        if is_in {
            Check::In(values)
        } else {
            Check::NotIn(values)
        },
    )
}

fn affix(function: Function, arguments: &[Expression], wanted: bool) -> Option<Condition> {
    let place = match function {
        Function::StartsWith => Affix::Start,
        Function::EndsWith => Affix::End,
        Function::Contains => Affix::Anywhere,
        _ => return None,
    };
    match (arguments.first()?, constant(arguments.get(1)?)?) {
        (subject, Value::Text(text)) => attribute(
            subject,
            Check::Affix {
                place,
                text,
                is_negated: !wanted,
            },
        ),
        _ => None,
    }
}

/// The pattern as a regular expression that JavaScript, Python and Rust read alike.
fn like_regex(tokens: &[LikeToken]) -> String {
    let body: String = tokens
        .iter()
        .map(|token| match token {
            LikeToken::Many => r"[\s\S]*".to_owned(),
            LikeToken::One => r"[\s\S]".to_owned(),
            LikeToken::Char(letter) => regex::escape(&letter.to_string()),
        })
        .collect();
    format!("^{body}$")
}

/// The same for a text at the start, at the end or anywhere.
pub fn affix_regex(place: Affix, text: &str) -> String {
    let text = regex::escape(text);
    match place {
        Affix::Start => format!("^{text}"),
        Affix::End => format!("{text}$"),
        Affix::Anywhere => text,
    }
}
