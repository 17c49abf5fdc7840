//! Scalar expressions in one form.
//! In: expressions as bound. Out: folded, flattened, one spelling; see each rule for its proof.

use super::context::{Context, Form, is_strict_function};
use super::form::{Comparison, Expr, Node};
use super::literal::Literal;
use super::predicate::{self, Mode};
use super::types::Type;
use super::{cases, polynomial};

/// Simplifies an expression whose value is read as it is.
pub(super) fn simplify(expr: Expr, context: &Context) -> Expr {
    match expr.node {
        Node::And(_) | Node::Or(_) | Node::Not(_) => predicate::value(expr, context),
        _ => {
            let simple = simplify_atom(expr, context);
            match simple.node {
                Node::And(_) | Node::Or(_) | Node::Not(_) => predicate::value(simple, context),
                _ => simple,
            }
        }
    }
}

/// Simplifies everything but AND, OR and NOT at the top; the result may have such a top.
pub(super) fn simplify_atom(expr: Expr, context: &Context) -> Expr {
    context.once(Form::Atom, expr, |expr| atom(expr, context))
}

fn atom(mut expr: Expr, context: &Context) -> Expr {
    if let Node::Case(arms, otherwise) = expr.node {
        return cases::simplify(arms, otherwise.map(|expr| *expr), expr.ty, context);
    }
    for child in expr.children_mut() {
        let owned = std::mem::replace(child, Expr::truth(true));
        *child = simplify(owned, context);
    }
    let ty = expr.ty;
    match expr.node {
        Node::Compare(comparison, left, right) => compare(comparison, *left, *right),
        Node::InSet(subject, set, is_negated) => in_set(*subject, set, is_negated),
        Node::IsNull(inner) => is_null(*inner, context),
        Node::IsTrue(inner) => is_true(*inner, context),
        Node::DistinctFrom(left, right) => distinct_from(*left, *right, context),
        Node::Sum(terms) => polynomial::normalise(terms, &ty, context),
        Node::Cast(inner) => cast(*inner, ty, context),
        Node::Call(name, arguments, false) => call(name, arguments, ty),
        node => Expr { node, ty },
    }
}

/// The same for an atom under a NOT.
pub(super) fn simplify_atom_or_not(expr: Expr, context: &Context) -> Expr {
    match expr.node {
        Node::Not(_) => expr,
        _ => simplify_atom(expr, context),
    }
}

fn compare(comparison: Comparison, left: Expr, right: Expr) -> Expr {
    if left.is_null_literal() || right.is_null_literal() {
        return Expr::null(Type::Boolean);
    }
    if let (Some(one), Some(other)) = (left.as_literal(), right.as_literal())
        && left.ty == right.ty
        && let Some(truth) = folded(comparison, one, other)
    {
        return Expr::truth(truth);
    }
    let (left, right) = match comparison {
        Comparison::Equal | Comparison::NotEqual if right < left => (right, left),
        _ => (left, right),
    };
    match comparison {
        Comparison::Equal | Comparison::NotEqual => {
            equality(comparison == Comparison::NotEqual, left, right)
        }
        Comparison::Less => less(left, right),
        Comparison::LessOrEqual => {
            Expr::boolean(Node::Compare(comparison, Box::new(left), Box::new(right)))
        }
    }
}

fn folded(comparison: Comparison, left: &Literal, right: &Literal) -> Option<bool> {
    let order = left.compare(right)?;
    Some(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
    })
}

/// `b = false` is NOT b; equality with a literal of an exact type is a set of one.
fn equality(is_negated: bool, left: Expr, right: Expr) -> Expr {
    let (subject, literal) = match (left.as_literal(), right.as_literal()) {
        (Some(literal), None) => (&right, literal.clone()),
        (None, Some(literal)) => (&left, literal.clone()),
        _ => return unordered(is_negated, left, right),
    };
    match literal {
        Literal::Boolean(value) if subject.ty == Type::Boolean => {
            if value == is_negated {
                subject.clone().not()
            } else {
                subject.clone()
            }
        }
        literal if subject.ty.is_exact() && left.ty == right.ty => Expr::boolean(Node::InSet(
            Box::new(subject.clone()),
            [literal].into(),
            is_negated,
        )),
        _ => unordered(is_negated, left, right),
    }
}

fn unordered(is_negated: bool, left: Expr, right: Expr) -> Expr {
    let comparison = if is_negated {
        Comparison::NotEqual
    } else {
        Comparison::Equal
    };
    Expr::boolean(Node::Compare(comparison, Box::new(left), Box::new(right)))
}

/// On whole numbers and days `x < 5` is `x <= 4` and `4 < x` is `5 <= x`, unless the literal is the type's limit.
fn less(left: Expr, right: Expr) -> Expr {
    let step = |expr: &Expr, by: i128| -> Option<Expr> {
        let value = expr.as_literal()?.as_integer()? + by;
        let range = match &expr.ty {
            Type::Date => (i128::from(i32::MIN), i128::from(i32::MAX)),
            ty => ty.integer_range()?,
        };
        (range.0 <= value && value <= range.1).then(|| Expr::integer(value, expr.ty.clone()))
    };
    let at_most = |left, right| {
        Expr::boolean(Node::Compare(
            Comparison::LessOrEqual,
            Box::new(left),
            Box::new(right),
        ))
    };
    match (step(&left, 1), step(&right, -1)) {
        (Some(low), None) => at_most(low, right),
        (None, Some(high)) => at_most(left, high),
        _ => Expr::boolean(Node::Compare(
            Comparison::Less,
            Box::new(left),
            Box::new(right),
        )),
    }
}

fn in_set(subject: Expr, set: std::collections::BTreeSet<Literal>, is_negated: bool) -> Expr {
    match subject.as_literal() {
        Some(Literal::Null) => Expr::null(Type::Boolean),
        Some(literal) => Expr::truth(set.contains(literal) != is_negated),
        None => Expr::boolean(Node::InSet(Box::new(subject), set, is_negated)),
    }
}

/// A strict operator is NULL exactly when one of its operands is.
fn is_null(inner: Expr, context: &Context) -> Expr {
    if let Some(literal) = inner.as_literal() {
        return Expr::truth(*literal == Literal::Null);
    }
    if context.is_not_null(&inner) {
        return Expr::truth(false);
    }
    let is_strict = match &inner.node {
        Node::Sum(_) | Node::Cast(_) | Node::Compare(..) | Node::InSet(..) | Node::Not(_) => true,
        Node::Call(name, _, false) => is_strict_function(name),
        _ => false,
    };
    if !is_strict {
        return inner.is_null();
    }
    let operands = inner
        .children()
        .into_iter()
        .cloned()
        .map(|operand| is_null(operand, context))
        .collect();
    predicate::value(Expr::boolean(Node::Or(operands)), context)
}

fn is_true(inner: Expr, context: &Context) -> Expr {
    match inner.as_literal() {
        Some(literal) => Expr::truth(*literal == Literal::Boolean(true)),
        None if context.is_not_null(&inner) => inner,
        None => Expr::boolean(Node::IsTrue(Box::new(inner))),
    }
}

fn distinct_from(left: Expr, right: Expr, context: &Context) -> Expr {
    let (left, right) = if right < left {
        (right, left)
    } else {
        (left, right)
    };
    match (left.is_null_literal(), right.is_null_literal()) {
        (true, true) => return Expr::truth(false),
        (true, false) => return right.is_not_null(),
        (false, true) => return left.is_not_null(),
        _ => {}
    }
    if context.is_not_null(&left) && context.is_not_null(&right) {
        return compare(Comparison::NotEqual, left, right);
    }
    Expr::boolean(Node::DistinctFrom(Box::new(left), Box::new(right)))
}

/// A cast to the own type is none; a boolean as a number is a CASE; whole numbers convert exactly where they fit.
fn cast(inner: Expr, ty: Type, context: &Context) -> Expr {
    if inner.ty == ty {
        return inner;
    }
    if inner.is_null_literal() {
        return Expr::null(ty);
    }
    if inner.ty == Type::Boolean && ty.is_integer() {
        let arms = vec![
            (inner.clone(), Expr::integer(1, ty.clone())),
            (inner.not(), Expr::integer(0, ty.clone())),
        ];
        return cases::simplify(arms, None, ty, context);
    }
    if let (Some(value), Some((low, high))) = (
        inner.as_literal().and_then(Literal::as_integer),
        ty.integer_range(),
    ) && inner.ty.is_integer()
        && (low..=high).contains(&value)
    {
        return Expr::integer(value, ty);
    }
    Expr::new(Node::Cast(Box::new(inner)), ty)
}

fn call(name: String, mut arguments: Vec<Expr>, ty: Type) -> Expr {
    if is_strict_function(&name) && arguments.iter().any(Expr::is_null_literal) {
        return Expr::null(ty);
    }
    if let Some(folded) = fold_arithmetic(&name, &arguments, &ty) {
        return folded;
    }
    match name.as_str() {
        // Both commute exactly on decimals: the result's precision does not depend on the side.
        "+" | "*"
            if arguments
                .iter()
                .all(|argument| matches!(argument.ty, Type::Decimal(..))) =>
        {
            arguments.sort()
        }
        "greatest" | "least" if arguments.iter().all(|argument| argument.ty.is_exact()) => {
            arguments.sort();
            arguments.dedup();
        }
        "||" => arguments = flatten_concat(arguments),
        "like" if arguments.len() == 2 && has_no_wildcard(&arguments[1]) => {
            let pattern = arguments.pop().expect("like has two arguments");
            return compare(Comparison::Equal, arguments.remove(0), pattern);
        }
        "upper" | "lower" if matches!(&arguments[0].node, Node::Call(inner, _, false) if *inner == name) =>
        {
            return arguments.remove(0);
        }
        "date_trunc" | "date_part" => lower_first(&mut arguments),
        _ => {}
    }
    Expr::new(Node::Call(name, arguments, false), ty)
}

/// `a || (b || c)` is `(a || b) || c`: text concatenation associates and is strict.
fn flatten_concat(arguments: Vec<Expr>) -> Vec<Expr> {
    let inner = |argument: Expr| match argument.node {
        Node::Call(name, inner, false) if name == "||" && argument.ty == Type::Text => inner,
        _ => vec![argument],
    };
    arguments.into_iter().flat_map(inner).collect()
}

fn has_no_wildcard(pattern: &Expr) -> bool {
    matches!(pattern.as_literal(), Some(Literal::Text(text)) if !text.contains(['%', '_', '\\']))
}

fn lower_first(arguments: &mut [Expr]) {
    if let Some(Literal::Text(unit)) = arguments.first().and_then(Expr::as_literal) {
        let unit = unit.to_lowercase();
        arguments[0].node = Node::Literal(Literal::Text(unit));
    }
}

/// IEEE 754 gives one result per operation, so constants fold exactly in the order they are written; whole numbers
/// divide as the engine does, unless by zero.
fn fold_arithmetic(name: &str, arguments: &[Expr], ty: &Type) -> Option<Expr> {
    let [left, right] = arguments else {
        return None;
    };
    let (one, other) = (left.as_literal()?, right.as_literal()?);
    if *ty == Type::Float(64) && left.ty == *ty && right.ty == *ty {
        let (one, other) = (one.as_float()?, other.as_float()?);
        let value = match name {
            "+" => one + other,
            "-" => one - other,
            "*" => one * other,
            "/" if other != 0.0 => one / other,
            _ => return None,
        };
        return Some(Expr::new(
            Node::Literal(Literal::Float(value.to_bits())),
            ty.clone(),
        ));
    }
    if ty.is_integer() && left.ty == *ty && right.ty == *ty {
        let (one, other) = (one.as_integer()?, other.as_integer()?);
        let value = match name {
            "/" if other != 0 => one / other,
            "%" if other != 0 => one % other,
            _ => return None,
        };
        let (low, high) = ty.integer_range()?;
        return (low..=high)
            .contains(&value)
            .then(|| Expr::integer(value, ty.clone()));
    }
    None
}

/// A filter inside an expression: a WHEN or an aggregate's FILTER.
pub(super) fn condition(expr: Expr, context: &Context) -> Expr {
    predicate::filter_expr(expr, context)
}

/// The negation of a condition that is never NULL.
pub(super) fn negated_condition(expr: Expr, context: &Context) -> Expr {
    predicate::value(
        predicate::negation_normal(expr, true, Mode::Value, context),
        context,
    )
}
