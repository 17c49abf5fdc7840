//! The typed form of a targeting expression. It prints itself as SQL that means the same.

use std::fmt;

use regex::Regex;

use super::names::identifier;
use super::version::version_text;
use crate::flags::context::{Type, Value};

/// A typed expression; the types of operands were checked when it was made.
#[derive(Clone, Debug)]
pub enum Expression {
    Attribute {
        slot: usize,
        name: Box<str>,
        kind: Type,
    },
    Constant {
        value: Value,
        kind: Type,
    },
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Compare {
        operator: Comparison,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Distinct {
        left: Box<Expression>,
        right: Box<Expression>,
        is_negated: bool,
    },
    IsNull {
        operand: Box<Expression>,
        is_negated: bool,
    },
    /// `IS TRUE`, `IS FALSE` and, with no truth, `IS UNKNOWN`.
    IsTruth {
        operand: Box<Expression>,
        truth: Option<bool>,
        is_negated: bool,
    },
    In {
        operand: Box<Expression>,
        list: Vec<Expression>,
        is_negated: bool,
    },
    /// `IN` over text constants only, sorted.
    InTexts {
        operand: Box<Expression>,
        texts: Vec<Box<str>>,
        has_null: bool,
        is_negated: bool,
    },
    Like {
        operand: Box<Expression>,
        pattern: LikePattern,
        is_negated: bool,
    },
    Regex {
        operand: Box<Expression>,
        pattern: Box<str>,
        regex: Regex,
    },
    Arithmetic {
        operator: Operation,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    Negative(Box<Expression>),
    Case {
        branches: Vec<(Expression, Expression)>,
        otherwise: Option<Box<Expression>>,
    },
    Call {
        function: Function,
        arguments: Vec<Expression>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A `LIKE` pattern; matching without case uses the same regular expression as Arrow does.
#[derive(Clone, Debug)]
pub struct LikePattern {
    pub text: Box<str>,
    pub tokens: Vec<LikeToken>,
    pub without_case: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeToken {
    Many,
    One,
    Char(char),
}

macro_rules! functions {
    ($($variant:ident $name:literal $arguments:expr => $result:expr;)+) => {
        /// The functions that targeting may call; all are deterministic and defined for every argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function { $($variant,)+ }

        impl Function {
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The types of the arguments.
            pub fn arguments(self) -> &'static [Type] {
                match self { $(Self::$variant => $arguments,)+ }
            }

            pub fn result(self) -> Type {
                match self { $(Self::$variant => $result,)+ }
            }
        }
    };
}

functions! {
    Lower "lower" &[Type::Text] => Type::Text;
    Upper "upper" &[Type::Text] => Type::Text;
    Trim "btrim" &[Type::Text] => Type::Text;
    TrimLeft "ltrim" &[Type::Text] => Type::Text;
    TrimRight "rtrim" &[Type::Text] => Type::Text;
    Length "character_length" &[Type::Text] => Type::Integer;
    Position "strpos" &[Type::Text, Type::Text] => Type::Integer;
    StartsWith "starts_with" &[Type::Text, Type::Text] => Type::Boolean;
    EndsWith "ends_with" &[Type::Text, Type::Text] => Type::Boolean;
    Contains "contains" &[Type::Text, Type::Text] => Type::Boolean;
    Concat "||" &[Type::Text, Type::Text] => Type::Text;
    SplitPart "split_part" &[Type::Text, Type::Text, Type::Integer] => Type::Text;
    Semver "semver" &[Type::Text] => Type::Version;
    ArrayHas "array_has" &[Type::Texts, Type::Text] => Type::Boolean;
    Bucket "bucket" &[Type::Text, Type::Text, Type::Text] => Type::Integer;
}

impl Expression {
    pub fn kind(&self) -> Type {
        match self {
            Self::Attribute { kind, .. } | Self::Constant { kind, .. } => *kind,
            Self::Arithmetic { left, right, .. } => arithmetic_kind(left.kind(), right.kind()),
            Self::Negative(operand) => operand.kind(),
            Self::Case {
                branches,
                otherwise,
            } => case_kind(branches, otherwise.as_deref()),
            Self::Call { function, .. } => function.result(),
            _ => Type::Boolean,
        }
    }
}

impl Comparison {
    /// The comparison with its sides exchanged.
    pub fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// The comparison that holds for two known values where this one does not.
    pub fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Operation {
    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// The type of both sides of an operator, null taking the other's.
pub fn arithmetic_kind(left: Type, right: Type) -> Type {
    match (left, right) {
        (Type::Float, _) | (_, Type::Float) => Type::Float,
        (Type::Null, other) | (other, Type::Null) => other,
        _ => Type::Integer,
    }
}

fn case_kind(branches: &[(Expression, Expression)], otherwise: Option<&Expression>) -> Type {
    let results = branches.iter().map(|(_, result)| result).chain(otherwise);
    results
        .map(Expression::kind)
        .reduce(|left, right| match (left, right) {
            (Type::Integer, Type::Float) | (Type::Float, Type::Integer) => Type::Float,
            (Type::Null, other) | (other, _) => other,
        })
        .unwrap_or(Type::Null)
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute { name, .. } => write!(formatter, "{}", identifier(name)),
            Self::Constant { value, kind } => write_constant(formatter, value, *kind),
            Self::Not(operand) => write!(formatter, "NOT {}", Grouped(operand)),
            Self::And(operands) => write_joined(formatter, operands, " AND "),
            Self::Or(operands) => write_joined(formatter, operands, " OR "),
            Self::Compare {
                operator,
                left,
                right,
            } => {
                write!(
                    formatter,
                    "{} {} {}",
                    Grouped(left),
                    operator.sign(),
                    Grouped(right)
                )
            }
            Self::Distinct {
                left,
                right,
                is_negated,
            } => {
                let words = if *is_negated {
                    "IS NOT DISTINCT FROM"
                } else {
                    "IS DISTINCT FROM"
                };
                write!(formatter, "{} {words} {}", Grouped(left), Grouped(right))
            }
            Self::IsNull {
                operand,
                is_negated,
            } => {
                write!(
                    formatter,
                    "{} IS {}NULL",
                    Grouped(operand),
                    not(*is_negated)
                )
            }
            Self::IsTruth {
                operand,
                truth,
                is_negated,
            } => {
                let truth = truth.map_or("UNKNOWN", |truth| if truth { "TRUE" } else { "FALSE" });
                write!(
                    formatter,
                    "{} IS {}{truth}",
                    Grouped(operand),
                    not(*is_negated)
                )
            }
            Self::In {
                operand,
                list,
                is_negated,
            } => {
                write!(formatter, "{} {}IN (", Grouped(operand), not(*is_negated))?;
                write_list(formatter, list)?;
                formatter.write_str(")")
            }
            Self::InTexts {
                operand,
                texts,
                has_null,
                is_negated,
            } => {
                let mut items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                items.extend(has_null.then(|| "NULL".to_owned()));
                write!(
                    formatter,
                    "{} {}IN ({})",
                    Grouped(operand),
                    not(*is_negated),
                    items.join(", ")
                )
            }
            Self::Like {
                operand,
                pattern,
                is_negated,
            } => {
                let word = if pattern.without_case.is_some() {
                    "ILIKE"
                } else {
                    "LIKE"
                };
                write!(
                    formatter,
                    "{} {}{word} {}",
                    Grouped(operand),
                    not(*is_negated),
                    quoted(&pattern.text)
                )
            }
            Self::Regex {
                operand, pattern, ..
            } => {
                write!(formatter, "regexp_like({operand}, {})", quoted(pattern))
            }
            Self::Arithmetic {
                operator,
                left,
                right,
            } => {
                write!(
                    formatter,
                    "{} {} {}",
                    Grouped(left),
                    operator.sign(),
                    Grouped(right)
                )
            }
            Self::Negative(operand) => write!(formatter, "-{}", Grouped(operand)),
            Self::Case {
                branches,
                otherwise,
            } => write_case(formatter, branches, otherwise.as_deref()),
            Self::Call {
                function: Function::Concat,
                arguments,
            } => write_joined(formatter, arguments, " || "),
            Self::Call {
                function,
                arguments,
            } => {
                write!(formatter, "{}(", function.name())?;
                write_list(formatter, arguments)?;
                formatter.write_str(")")
            }
        }
    }
}

/// A text as an SQL literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

struct Grouped<'a>(&'a Expression);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            simple @ (Expression::Attribute { .. }
            | Expression::Constant { .. }
            | Expression::Regex { .. }) => {
                write!(formatter, "{simple}")
            }
            call @ Expression::Call { function, .. } if *function != Function::Concat => {
                write!(formatter, "{call}")
            }
            compound => write!(formatter, "({compound})"),
        }
    }
}

fn not(is_negated: bool) -> &'static str {
    if is_negated { "NOT " } else { "" }
}

fn write_list(formatter: &mut fmt::Formatter<'_>, items: &[Expression]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(formatter, "{}{item}", if index > 0 { ", " } else { "" })?;
    }
    Ok(())
}

fn write_joined(
    formatter: &mut fmt::Formatter<'_>,
    items: &[Expression],
    separator: &str,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(
            formatter,
            "{}{}",
            if index > 0 { separator } else { "" },
            Grouped(item)
        )?;
    }
    Ok(())
}

fn write_case(
    formatter: &mut fmt::Formatter<'_>,
    branches: &[(Expression, Expression)],
    otherwise: Option<&Expression>,
) -> fmt::Result {
    formatter.write_str("CASE")?;
    for (condition, result) in branches {
        write!(formatter, " WHEN {condition} THEN {result}")?;
    }
    if let Some(result) = otherwise {
        write!(formatter, " ELSE {result}")?;
    }
    formatter.write_str(" END")
}

fn write_constant(formatter: &mut fmt::Formatter<'_>, value: &Value, kind: Type) -> fmt::Result {
    match value {
        Value::Null => formatter.write_str("NULL"),
        Value::Boolean(boolean) => write!(formatter, "{boolean}"),
        Value::Integer(integer) => write!(formatter, "{integer}"),
        Value::Float(float) => write!(formatter, "{float:?}"),
        Value::Text(key) if kind == Type::Version => {
            write!(formatter, "semver({})", quoted(&version_text(key)))
        }
        Value::Text(text) => write!(formatter, "{}", quoted(text)),
        Value::Timestamp(micros) => {
            let instant = chrono::DateTime::from_timestamp_micros(*micros).unwrap_or_default();
            write!(
                formatter,
                "TIMESTAMP '{}'",
                instant.format("%Y-%m-%dT%H:%M:%S%.f")
            )
        }
        Value::Texts(texts) => {
            let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            write!(formatter, "[{}]", items.join(", "))
        }
    }
}
