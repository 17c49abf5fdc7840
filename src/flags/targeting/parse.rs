//! From the text of a rule to a typed expression, through the one SQL parser of the project.
//! What has no fixed meaning (`now()`, `random()`, subqueries), what may fail at run time (division by an attribute)
//! and what the declared types forbid is an error here, so that nothing can fail when a flag is evaluated.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
    TrimWhereField, UnaryOperator, Value as SqlValue,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::TargetingError;
use super::expression::{Comparison, Expression, Function, Operation};
use super::typing::{
    arithmetic, called, comparable, compare, compiled, expect, expect_number, instant,
    like_pattern, membership, negative, same_kinds,
};
use crate::flags::context::{Schema, Type, Value};

/// A typed expression, or why there is none.
pub(super) type Typed = Result<Expression, TargetingError>;

/// Deeper nesting than this is refused: typing and evaluation recurse.
const DEEPEST: usize = 100;

/// Reads a boolean expression and types it against the schema.
pub fn parse(text: &str, schema: &Schema) -> Typed {
    let unread = |error: sqlparser::parser::ParserError| {
        TargetingError::new(format!("the expression cannot be read: {error}")).hint(
            "write one SQL boolean expression, for example `country IN ('DE', 'FR') AND is_member`",
        )
    };
    let mut parser = Parser::new(&GenericDialect {})
        .try_with_sql(text)
        .map_err(unread)?;
    let parsed = parser.parse_expr().map_err(unread)?;
    if parser.peek_token().token != Token::EOF {
        let rest = parser.peek_token().token.to_string();
        return Err(TargetingError::new(format!(
            "nothing may follow the expression, but `{rest}` does"
        )));
    }
    let expression = Typer {
        schema,
        depth: DEEPEST,
    }
    .expression(&parsed)?;
    expect(&expression, Type::Boolean, "a rule").map(|()| expression)
}

#[derive(Clone, Copy)]
struct Typer<'a> {
    schema: &'a Schema,
    depth: usize,
}

impl Typer<'_> {
    fn expression(self, expr: &Expr) -> Typed {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(TargetingError::new("the expression is nested too deeply"));
        };
        Typer { depth, ..self }.node(expr)
    }

    fn node(self, expr: &Expr) -> Typed {
        match expr {
            Expr::Nested(inner) => self.expression(inner),
            Expr::Identifier(name) => self.attribute(&name.value, name.quote_style.is_some()),
            Expr::Value(value) => constant(&value.value),
            Expr::TypedString(typed) => typed_constant(&typed.data_type, &typed.value.value),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::IsNull(operand) => self.is_null(operand, false),
            Expr::IsNotNull(operand) => self.is_null(operand, true),
            Expr::IsTrue(operand) => self.is_truth(operand, Some(true), false),
            Expr::IsNotTrue(operand) => self.is_truth(operand, Some(true), true),
            Expr::IsFalse(operand) => self.is_truth(operand, Some(false), false),
            Expr::IsNotFalse(operand) => self.is_truth(operand, Some(false), true),
            Expr::IsUnknown(operand) => self.is_truth(operand, None, false),
            Expr::IsNotUnknown(operand) => self.is_truth(operand, None, true),
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, false),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, true),
            Expr::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, low, high, *negated),
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char: None,
            } => self.like(expr, pattern, *negated, false),
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char: None,
            } => self.like(expr, pattern, *negated, true),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            Expr::Position { expr, r#in } => self.call(Function::Position, &[r#in, expr]),
            Expr::Trim {
                trim_where,
                trim_what: None,
                expr,
                trim_characters: None,
            } => self.call(trim_function(*trim_where), &[expr]),
            Expr::Function(function) => self.function(function),
            other => Err(unsupported(&other.to_string())),
        }
    }

    fn attribute(self, name: &str, is_quoted: bool) -> Typed {
        // Unquoted names fold to lower case in DataFusion; an attribute spelled otherwise is found as it is written.
        let folded = name.to_lowercase();
        let found = self
            .schema
            .slot(name)
            .or_else(|| self.schema.slot(&folded).filter(|_| !is_quoted));
        let Some(slot) = found else {
            let known = self
                .schema
                .attributes()
                .iter()
                .map(|attribute| &*attribute.name);
            return Err(
                TargetingError::new(format!("unknown attribute `{name}`")).hint(format!(
                    "declare it under `contexts`, or {}",
                    crate::diagnostics::did_you_mean(name, known)
                )),
            );
        };
        let attribute = &self.schema.attributes()[slot];
        Ok(Expression::Attribute {
            slot,
            name: attribute.name.clone(),
            kind: attribute.kind,
        })
    }

    fn unary(self, operator: UnaryOperator, operand: &Expr) -> Typed {
        let operand = self.expression(operand)?;
        match operator {
            UnaryOperator::Not => {
                expect(&operand, Type::Boolean, "`NOT`")?;
                Ok(Expression::Not(Box::new(operand)))
            }
            UnaryOperator::Plus => expect_number(&operand, "`+`").map(|()| operand),
            UnaryOperator::Minus => {
                expect_number(&operand, "`-`")?;
                Ok(negative(operand))
            }
            other => Err(unsupported(&other.to_string())),
        }
    }

    fn binary(self, left: &Expr, operator: &BinaryOperator, right: &Expr) -> Typed {
        if let BinaryOperator::And | BinaryOperator::Or = operator {
            return self.connective(left, operator, right);
        }
        let (left, right) = (self.expression(left)?, self.expression(right)?);
        if let Some(comparison) = comparison(operator) {
            return compare(comparison, left, right);
        }
        if let Some(operation) = operation(operator) {
            return arithmetic(operation, left, right);
        }
        match operator {
            BinaryOperator::StringConcat => called(Function::Concat, vec![left, right]),
            other => Err(unsupported(&other.to_string())),
        }
    }

    /// A chain of the same connective becomes one list; it leans to the left and may be long.
    fn connective(self, left: &Expr, operator: &BinaryOperator, right: &Expr) -> Typed {
        let mut operands = vec![right];
        let mut rest = left;
        while let Expr::BinaryOp { left, op, right } = rest {
            if op != operator {
                break;
            }
            operands.push(right);
            rest = left;
        }
        operands.push(rest);
        let typed: Result<Vec<_>, _> = operands
            .iter()
            .rev()
            .map(|operand| self.boolean(operand, operator))
            .collect();
        Ok(if *operator == BinaryOperator::And {
            Expression::And(typed?)
        } else {
            Expression::Or(typed?)
        })
    }

    fn boolean(self, operand: &Expr, operator: &BinaryOperator) -> Typed {
        let operand = self.expression(operand)?;
        expect(&operand, Type::Boolean, &format!("`{operator}`")).map(|()| operand)
    }

    fn is_null(self, operand: &Expr, is_negated: bool) -> Typed {
        Ok(Expression::IsNull {
            operand: Box::new(self.expression(operand)?),
            is_negated,
        })
    }

    fn is_truth(self, operand: &Expr, truth: Option<bool>, is_negated: bool) -> Typed {
        let operand = self.expression(operand)?;
        expect(
            &operand,
            Type::Boolean,
            "`IS TRUE`, `IS FALSE` and `IS UNKNOWN`",
        )?;
        Ok(Expression::IsTruth {
            operand: Box::new(operand),
            truth,
            is_negated,
        })
    }

    fn distinct(self, left: &Expr, right: &Expr, is_negated: bool) -> Typed {
        let (left, right) = comparable(self.expression(left)?, self.expression(right)?)?;
        Ok(Expression::Distinct {
            left: Box::new(left),
            right: Box::new(right),
            is_negated,
        })
    }

    fn in_list(self, operand: &Expr, list: &[Expr], is_negated: bool) -> Typed {
        let operand = self.expression(operand)?;
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            let (_, item) = comparable(operand.clone(), self.expression(item)?)?;
            items.push(item);
        }
        Ok(membership(operand, items, is_negated))
    }

    fn between(self, operand: &Expr, low: &Expr, high: &Expr, is_negated: bool) -> Typed {
        let operand = self.expression(operand)?;
        let at_least = compare(
            Comparison::GreaterOrEqual,
            operand.clone(),
            self.expression(low)?,
        )?;
        let at_most = compare(Comparison::LessOrEqual, operand, self.expression(high)?)?;
        let inside = Expression::And(vec![at_least, at_most]);
        Ok(if is_negated {
            Expression::Not(Box::new(inside))
        } else {
            inside
        })
    }

    fn like(
        self,
        operand: &Expr,
        pattern: &Expr,
        is_negated: bool,
        is_without_case: bool,
    ) -> Typed {
        let operand = self.expression(operand)?;
        expect(&operand, Type::Text, "`LIKE`")?;
        let Expression::Constant {
            value: Value::Text(text),
            ..
        } = self.expression(pattern)?
        else {
            return Err(TargetingError::new(
                "the pattern of `LIKE` must be a text constant",
            ));
        };
        let pattern = like_pattern(text, is_without_case)?;
        Ok(Expression::Like {
            operand: Box::new(operand),
            pattern,
            is_negated,
        })
    }

    fn case(
        self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Typed {
        let operand = operand
            .map(|operand| self.expression(operand))
            .transpose()?;
        let mut branches = Vec::with_capacity(conditions.len());
        for branch in conditions {
            let condition = self.expression(&branch.condition)?;
            let condition = match &operand {
                Some(operand) => compare(Comparison::Equal, operand.clone(), condition)?,
                None => expect(&condition, Type::Boolean, "`WHEN`").map(|()| condition)?,
            };
            branches.push((condition, self.expression(&branch.result)?));
        }
        let otherwise = otherwise
            .map(|result| self.expression(result))
            .transpose()?;
        same_kinds(
            branches.iter().map(|(_, result)| result).chain(&otherwise),
            "the results of `CASE`",
        )?;
        Ok(Expression::Case {
            branches,
            otherwise: otherwise.map(Box::new),
        })
    }

    fn function(self, function: &sqlparser::ast::Function) -> Typed {
        let name = function.name.to_string().to_lowercase();
        let arguments = arguments(&function.args)?;
        if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty()
        {
            return Err(unsupported(&function.to_string()));
        }
        match name.as_str() {
            "coalesce" => self.coalesce(&arguments),
            "nullif" => self.null_if(&arguments),
            "regexp_like" => self.regex(&arguments),
            "concat" => Err(
                TargetingError::new("`concat` treats NULL otherwise than `||` does")
                    .hint("use `||`"),
            ),
            alias => self.call(known_function(alias)?, &arguments),
        }
    }

    fn call(self, function: Function, arguments: &[&Expr]) -> Typed {
        let arguments: Result<Vec<_>, _> = arguments
            .iter()
            .map(|argument| self.expression(argument))
            .collect();
        called(function, arguments?)
    }

    /// `coalesce(a, b)` is `CASE WHEN a IS NOT NULL THEN a ELSE b END`.
    fn coalesce(self, arguments: &[&Expr]) -> Typed {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.expression(argument)?);
        }
        same_kinds(values.iter(), "the arguments of `coalesce`")?;
        let Some(last) = values.pop() else {
            return Err(TargetingError::new("`coalesce` needs an argument"));
        };
        let known = |value: &Expression| Expression::IsNull {
            operand: Box::new(value.clone()),
            is_negated: true,
        };
        let branches: Vec<_> = values
            .into_iter()
            .map(|value| (known(&value), value))
            .collect();
        Ok(if branches.is_empty() {
            last
        } else {
            Expression::Case {
                branches,
                otherwise: Some(Box::new(last)),
            }
        })
    }

    fn null_if(self, arguments: &[&Expr]) -> Typed {
        let [value, unwanted] = arguments else {
            return Err(TargetingError::new("`nullif` takes two arguments"));
        };
        let value = self.expression(value)?;
        let is_unwanted = compare(Comparison::Equal, value.clone(), self.expression(unwanted)?)?;
        let nothing = Expression::Constant {
            value: Value::Null,
            kind: Type::Null,
        };
        Ok(Expression::Case {
            branches: vec![(is_unwanted, nothing)],
            otherwise: Some(Box::new(value)),
        })
    }

    fn regex(self, arguments: &[&Expr]) -> Typed {
        let [operand, pattern] = arguments else {
            return Err(TargetingError::new(
                "`regexp_like` takes a text and a pattern",
            ));
        };
        let operand = self.expression(operand)?;
        expect(&operand, Type::Text, "`regexp_like`")?;
        let Expression::Constant {
            value: Value::Text(pattern),
            ..
        } = self.expression(pattern)?
        else {
            return Err(TargetingError::new(
                "the pattern of `regexp_like` must be a text constant",
            ));
        };
        let regex = compiled(&pattern)?;
        Ok(Expression::Regex {
            operand: Box::new(operand),
            pattern,
            regex,
        })
    }
}

fn constant(value: &SqlValue) -> Typed {
    let (value, kind) = match value {
        SqlValue::Boolean(boolean) => (Value::Boolean(*boolean), Type::Boolean),
        SqlValue::Null => (Value::Null, Type::Null),
        SqlValue::SingleQuotedString(text) => (Value::Text(text.as_str().into()), Type::Text),
        SqlValue::Number(digits, _) => number(digits)?,
        other => return Err(unsupported(&other.to_string())),
    };
    Ok(Expression::Constant { value, kind })
}

/// Integers that fit 64 bits are integers, everything else is a float, as DataFusion reads literals.
fn number(digits: &str) -> Result<(Value, Type), TargetingError> {
    if let Ok(integer) = digits.parse() {
        return Ok((Value::Integer(integer), Type::Integer));
    }
    match digits.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok((Value::Float(float), Type::Float)),
        _ => Err(TargetingError::new(format!(
            "the number `{digits}` is out of range"
        ))),
    }
}

fn typed_constant(data_type: &DataType, value: &SqlValue) -> Typed {
    match (data_type, value) {
        (DataType::Timestamp(..) | DataType::Date, SqlValue::SingleQuotedString(text)) => {
            instant(text)
        }
        _ => Err(unsupported(&format!("{data_type} {value}"))),
    }
}

fn comparison(operator: &BinaryOperator) -> Option<Comparison> {
    Some(match operator {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn operation(operator: &BinaryOperator) -> Option<Operation> {
    Some(match operator {
        BinaryOperator::Plus => Operation::Add,
        BinaryOperator::Minus => Operation::Subtract,
        BinaryOperator::Multiply => Operation::Multiply,
        BinaryOperator::Divide => Operation::Divide,
        BinaryOperator::Modulo => Operation::Remainder,
        _ => return None,
    })
}

fn arguments(arguments: &FunctionArguments) -> Result<Vec<&Expr>, TargetingError> {
    let FunctionArguments::List(list) = arguments else {
        return Err(unsupported(&arguments.to_string()));
    };
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(unsupported(&other.to_string())),
        })
        .collect()
}

fn known_function(name: &str) -> Result<Function, TargetingError> {
    let canonical = match name {
        "length" | "char_length" => "character_length",
        "trim" => "btrim",
        "position" | "instr" => "strpos",
        "list_contains" | "array_contains" | "list_has" => "array_has",
        other => other,
    };
    Function::parse(canonical).ok_or_else(|| match name {
        "now" | "current_timestamp" | "current_date" | "random" | "uuid" | "today" => {
            TargetingError::new(format!("`{name}` does not give the same answer twice"))
                .hint("give the rule an `active` period, or split units with a `rollout`")
        }
        _ => {
            let known =
                Function::NAMES
                    .iter()
                    .copied()
                    .chain(["coalesce", "nullif", "regexp_like"]);
            TargetingError::new(format!("unknown function `{name}`"))
                .hint(crate::diagnostics::did_you_mean(name, known))
        }
    })
}

fn trim_function(side: Option<TrimWhereField>) -> Function {
    match side {
        Some(TrimWhereField::Leading) => Function::TrimLeft,
        Some(TrimWhereField::Trailing) => Function::TrimRight,
        Some(TrimWhereField::Both) | None => Function::Trim,
    }
}

fn unsupported(text: &str) -> TargetingError {
    TargetingError::new(format!("`{text}` cannot be used for targeting")).hint(
        "comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL, CASE and the listed functions can",
    )
}
