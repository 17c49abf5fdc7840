//! Scalar expressions of the engine become expressions of the canonical form.
//! In: an analysed `Expr` and its scope. Out: [`Expr`], with operators spelled one way: `>` flipped, `BETWEEN` and `IN`
//! taken apart, `COALESCE`, `NULLIF` and the simple `CASE` as a searched `CASE`, integer arithmetic as sums of products.

use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, Like, ScalarFunction};
use datafusion::logical_expr::{self as df, Operator, Volatility};

use super::bind::{Binder, Scope, Selected, literal, type_of};
use super::form::{Comparison, Expr, Monomial, Node, Relation};
use super::literal::Literal;
use super::types::Type;

pub(super) fn bind(binder: &mut Binder, expr: &df::Expr, scope: &Scope) -> Result<Expr> {
    let boxed = |binder: &mut Binder, inner: &df::Expr| bind(binder, inner, scope).map(Box::new);
    Ok(match expr {
        df::Expr::Alias(alias) => bind(binder, &alias.expr, scope)?,
        df::Expr::Column(column) => scope.columns[scope.schema.index_of_column(column)?].clone(),
        df::Expr::OuterReferenceColumn(_, column) => binder.outer_column(column)?,
        df::Expr::Literal(value, _) => literal(value),
        df::Expr::BinaryExpr(binary) => bind_binary(binder, binary, expr, scope)?,
        df::Expr::Not(inner) => bind(binder, inner, scope)?.not(),
        df::Expr::IsNull(inner) | df::Expr::IsUnknown(inner) => {
            bind(binder, inner, scope)?.is_null()
        }
        df::Expr::IsNotNull(inner) | df::Expr::IsNotUnknown(inner) => {
            bind(binder, inner, scope)?.is_not_null()
        }
        df::Expr::IsTrue(inner) => Expr::boolean(Node::IsTrue(boxed(binder, inner)?)),
        df::Expr::IsNotTrue(inner) => Expr::boolean(Node::IsTrue(boxed(binder, inner)?)).not(),
        df::Expr::IsFalse(inner) => {
            Expr::boolean(Node::IsTrue(Box::new(bind(binder, inner, scope)?.not())))
        }
        df::Expr::IsNotFalse(inner) => {
            Expr::boolean(Node::IsTrue(Box::new(bind(binder, inner, scope)?.not()))).not()
        }
        df::Expr::Negative(inner) => negative(bind(binder, inner, scope)?),
        df::Expr::Between(between) => bind_between(binder, between, scope)?,
        df::Expr::InList(list) => bind_in_list(binder, list, scope)?,
        df::Expr::Like(like) => bind_like(
            binder,
            like,
            if like.case_insensitive {
                "ilike"
            } else {
                "like"
            },
            scope,
        )?,
        df::Expr::SimilarTo(like) => bind_like(binder, like, "similar", scope)?,
        df::Expr::Case(case) => bind_case(binder, case, scope)?,
        df::Expr::Cast(inner) => bind_cast(binder, &inner.expr, inner.field.data_type(), scope)?,
        df::Expr::TryCast(inner) => {
            let ty = Type::from(inner.field.data_type());
            let inner = bind(binder, &inner.expr, scope)?;
            if inner.ty == ty {
                inner
            } else {
                Expr::new(Node::TryCast(Box::new(inner)), ty)
            }
        }
        df::Expr::ScalarFunction(function) => bind_function(binder, function, expr, scope)?,
        df::Expr::Exists(exists) => {
            let selected = binder.subquery(&exists.subquery.subquery, scope)?;
            negated_if(exists.negated, exists_in(selected))
        }
        df::Expr::InSubquery(query) => {
            let needle = bind(binder, &query.expr, scope)?;
            let selected = binder.subquery(&query.subquery.subquery, scope)?;
            let query_node = Node::InQuery(Box::new(needle), Box::new(selected.into_relation()));
            negated_if(query.negated, Expr::boolean(query_node))
        }
        df::Expr::ScalarSubquery(subquery) => {
            let selected = binder.subquery(&subquery.subquery, scope)?;
            let ty = selected.outputs[0].ty.clone();
            Expr::new(Node::Scalar(Box::new(selected.into_relation())), ty)
        }
        other => unknown(other, scope)?,
    })
}

/// A cast to another type; none when the value already has it.
pub(super) fn cast(expr: Expr, ty: &Type) -> Expr {
    match () {
        () if &expr.ty == ty => expr,
        () if expr.is_null_literal() => Expr::null(ty.clone()),
        () => Expr::new(Node::Cast(Box::new(expr)), ty.clone()),
    }
}

/// Integer arithmetic as one monomial.
pub(super) fn monomial(coefficient: i128, factors: Vec<Expr>, ty: Type) -> Expr {
    Expr::new(
        Node::Sum(vec![Monomial {
            coefficient,
            factors,
        }]),
        ty,
    )
}

fn bind_binary(
    binder: &mut Binder,
    binary: &BinaryExpr,
    whole: &df::Expr,
    scope: &Scope,
) -> Result<Expr> {
    let left = bind(binder, &binary.left, scope)?;
    let right = bind(binder, &binary.right, scope)?;
    let compare = |comparison, left, right| {
        Expr::boolean(Node::Compare(comparison, Box::new(left), Box::new(right)))
    };
    let call = |name: &str, ty| {
        Expr::new(
            Node::Call(name.into(), vec![left.clone(), right.clone()], false),
            ty,
        )
    };
    Ok(match binary.op {
        Operator::And => Expr::boolean(Node::And(vec![left, right])),
        Operator::Or => Expr::boolean(Node::Or(vec![left, right])),
        Operator::Eq => compare(Comparison::Equal, left, right),
        Operator::NotEq => compare(Comparison::NotEqual, left, right),
        Operator::Lt => compare(Comparison::Less, left, right),
        Operator::LtEq => compare(Comparison::LessOrEqual, left, right),
        Operator::Gt => compare(Comparison::Less, right, left),
        Operator::GtEq => compare(Comparison::LessOrEqual, right, left),
        Operator::IsDistinctFrom => {
            Expr::boolean(Node::DistinctFrom(Box::new(left), Box::new(right)))
        }
        Operator::IsNotDistinctFrom => {
            Expr::boolean(Node::DistinctFrom(Box::new(left), Box::new(right))).not()
        }
        Operator::Plus | Operator::Minus | Operator::Multiply => {
            let ty = type_of(whole, scope)?;
            if ty.is_integer() && left.ty == ty && right.ty == ty {
                integer_arithmetic(binary.op, left, right, ty)
            } else {
                call(&binary.op.to_string(), ty)
            }
        }
        Operator::RegexNotMatch => call("~", Type::Boolean).not(),
        Operator::RegexNotIMatch => call("~*", Type::Boolean).not(),
        Operator::NotLikeMatch => call("~~", Type::Boolean).not(),
        Operator::NotILikeMatch => call("~~*", Type::Boolean).not(),
        other => call(&other.to_string(), type_of(whole, scope)?),
    })
}

fn integer_arithmetic(op: Operator, left: Expr, right: Expr, ty: Type) -> Expr {
    let term = |coefficient, factors| Monomial {
        coefficient,
        factors,
    };
    let terms = match op {
        Operator::Plus => vec![term(1, vec![left]), term(1, vec![right])],
        Operator::Minus => vec![term(1, vec![left]), term(-1, vec![right])],
        _ => vec![term(1, vec![left, right])],
    };
    Expr::new(Node::Sum(terms), ty)
}

fn negative(inner: Expr) -> Expr {
    let ty = inner.ty.clone();
    match ty.is_integer() {
        true => monomial(-1, vec![inner], ty),
        false => Expr::new(Node::Call("negative".into(), vec![inner], false), ty),
    }
}

/// `x BETWEEN a AND b` is `a <= x AND x <= b`, in three-valued logic too.
fn bind_between(binder: &mut Binder, between: &Between, scope: &Scope) -> Result<Expr> {
    let subject = bind(binder, &between.expr, scope)?;
    let low = bind(binder, &between.low, scope)?;
    let high = bind(binder, &between.high, scope)?;
    let at_most = |left, right| {
        Expr::boolean(Node::Compare(
            Comparison::LessOrEqual,
            Box::new(left),
            Box::new(right),
        ))
    };
    let both = Expr::boolean(Node::And(vec![
        at_most(low, subject.clone()),
        at_most(subject, high),
    ]));
    Ok(negated_if(between.negated, both))
}

/// `x IN (a, b)` is `x = a OR x = b`, in three-valued logic too.
fn bind_in_list(binder: &mut Binder, list: &InList, scope: &Scope) -> Result<Expr> {
    let subject = bind(binder, &list.expr, scope)?;
    let mut equalities = vec![];
    for item in &list.list {
        equalities.push(subject.clone().equals(bind(binder, item, scope)?));
    }
    Ok(negated_if(
        list.negated,
        Expr::boolean(Node::Or(equalities)),
    ))
}

fn bind_like(binder: &mut Binder, like: &Like, name: &str, scope: &Scope) -> Result<Expr> {
    let mut arguments = vec![
        bind(binder, &like.expr, scope)?,
        bind(binder, &like.pattern, scope)?,
    ];
    if let Some(escape) = like.escape_char {
        arguments.push(Expr::new(
            Node::Literal(Literal::Text(escape.to_string())),
            Type::Text,
        ));
    }
    Ok(negated_if(
        like.negated,
        Expr::boolean(Node::Call(name.into(), arguments, false)),
    ))
}

/// `CASE x WHEN v` is `CASE WHEN x = v`.
fn bind_case(binder: &mut Binder, case: &Case, scope: &Scope) -> Result<Expr> {
    let subject = case
        .expr
        .as_ref()
        .map(|expr| bind(binder, expr, scope))
        .transpose()?;
    let mut arms = vec![];
    for (when, then) in &case.when_then_expr {
        let when = bind(binder, when, scope)?;
        let when = match &subject {
            Some(subject) => subject.clone().equals(when),
            None => when,
        };
        arms.push((when, bind(binder, then, scope)?));
    }
    let otherwise = case
        .else_expr
        .as_ref()
        .map(|expr| bind(binder, expr, scope))
        .transpose()?;
    let typed = arms
        .iter()
        .map(|(_, then)| then)
        .chain(&otherwise)
        .find(|expr| !expr.is_null_literal());
    let ty = typed.map_or(Type::Null, |expr| expr.ty.clone());
    Ok(Expr::new(Node::Case(arms, otherwise.map(Box::new)), ty))
}

/// The cast of a literal is evaluated by the engine's own cast, so `TIMESTAMP '2026-01-06'` is one value however it is
/// spelled; a cast that fails stays as written.
fn bind_cast(
    binder: &mut Binder,
    inner: &df::Expr,
    target: &datafusion::arrow::datatypes::DataType,
    scope: &Scope,
) -> Result<Expr> {
    if let df::Expr::Literal(value, _) = inner
        && let Ok(value) = value.cast_to(target)
    {
        return Ok(literal(&value));
    }
    Ok(cast(bind(binder, inner, scope)?, &Type::from(target)))
}

fn bind_function(
    binder: &mut Binder,
    function: &ScalarFunction,
    whole: &df::Expr,
    scope: &Scope,
) -> Result<Expr> {
    let mut arguments = vec![];
    for argument in &function.args {
        arguments.push(bind(binder, argument, scope)?);
    }
    let ty = type_of(whole, scope)?;
    let is_volatile = function.func.signature().volatility == Volatility::Volatile;
    Ok(match (function.func.name(), arguments.len()) {
        ("coalesce" | "nvl", 1..) => coalesce(arguments, ty),
        ("nullif", 2) => nullif(arguments, ty),
        ("nvl2", 3) => nvl2(arguments, ty),
        (name, _) => Expr::new(Node::Call(name.into(), arguments, is_volatile), ty),
    })
}

/// `COALESCE(a, b, c)` is `CASE WHEN a IS NOT NULL THEN a WHEN b IS NOT NULL THEN b ELSE c END`.
fn coalesce(mut arguments: Vec<Expr>, ty: Type) -> Expr {
    let last = arguments.pop().expect("coalesce has an argument");
    let arms = arguments
        .into_iter()
        .map(|argument| (argument.clone().is_not_null(), argument))
        .collect();
    Expr::new(Node::Case(arms, Some(Box::new(last))), ty)
}

/// `NULLIF(a, b)` is `CASE WHEN a = b THEN NULL ELSE a END`.
fn nullif(mut arguments: Vec<Expr>, ty: Type) -> Expr {
    let second = arguments.pop().expect("nullif has two arguments");
    let first = arguments.pop().expect("nullif has two arguments");
    let arm = (first.clone().equals(second), Expr::null(ty.clone()));
    Expr::new(Node::Case(vec![arm], Some(Box::new(first))), ty)
}

fn nvl2(arguments: Vec<Expr>, ty: Type) -> Expr {
    let [test, then, otherwise] =
        <[Expr; 3]>::try_from(arguments).expect("matched on three arguments");
    Expr::new(
        Node::Case(vec![(test.is_not_null(), then)], Some(Box::new(otherwise))),
        ty,
    )
}

/// `EXISTS` asks for a row, not for its columns.
fn exists_in(selected: Selected) -> Expr {
    let relation = Relation::Select {
        block: selected.block,
        outputs: vec![],
    };
    Expr::boolean(Node::Exists(Box::new(relation)))
}

fn negated_if(is_negated: bool, expr: Expr) -> Expr {
    if is_negated { expr.not() } else { expr }
}

/// An expression without rules is compared by its text; it may not hide a column, so its text carries the names.
fn unknown(expr: &df::Expr, scope: &Scope) -> Result<Expr> {
    let ty = type_of(expr, scope)?;
    let mut columns: Vec<_> = expr.column_refs().into_iter().collect();
    columns.sort();
    let mut arguments = vec![];
    for column in columns {
        arguments.push(scope.columns[scope.schema.index_of_column(column)?].clone());
    }
    let text = literal(&ScalarValue::Utf8(Some(expr.to_string())));
    arguments.insert(0, text);
    Ok(Expr::new(
        Node::Call("engine".into(), arguments, expr.is_volatile()),
        ty,
    ))
}
