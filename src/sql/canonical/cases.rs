//! CASE in one form.
//! In: arms and ELSE. Out: the same first-match function with fewer arms, in a fixed order where the order says nothing.

use super::context::Context;
use super::form::{Comparison, Expr, Node};
use super::literal::Literal;
use super::types::Type;
use super::{predicate, scalar};

type Arm = (Expr, Expr);

pub(super) fn simplify(
    arms: Vec<Arm>,
    otherwise: Option<Expr>,
    ty: Type,
    context: &Context,
) -> Expr {
    let mut arms: Vec<Arm> = arms
        .into_iter()
        .map(|(when, then)| {
            (
                scalar::condition(when, context),
                scalar::simplify(then, context),
            )
        })
        .collect();
    let mut otherwise = otherwise
        .map(|expr| scalar::simplify(expr, context))
        .filter(|expr| !expr.is_null_literal());
    settle(&mut arms, &mut otherwise);
    append_inner(&mut arms, &mut otherwise);
    close_complement(&mut arms, &mut otherwise, context);
    sort_disjoint(&mut arms);
    merge_equal(&mut arms, context);
    drop_like_else(&mut arms, &otherwise);
    orient(&mut arms, &mut otherwise, context);
    rebuild(arms, otherwise, ty, context)
}

/// An arm whose condition is never TRUE goes; one that is always TRUE is the ELSE.
fn settle(arms: &mut Vec<Arm>, otherwise: &mut Option<Expr>) {
    arms.retain(|(when, _)| !when.is_truth(false));
    if let Some(index) = arms.iter().position(|(when, _)| when.is_truth(true)) {
        let (_, then) = arms.swap_remove(index);
        arms.truncate(index);
        *otherwise = (!then.is_null_literal()).then_some(then);
    }
}

/// `ELSE CASE …` continues the list of arms.
fn append_inner(arms: &mut Vec<Arm>, otherwise: &mut Option<Expr>) {
    if let Some(Expr {
        node: Node::Case(inner, last),
        ..
    }) = otherwise
    {
        arms.append(inner);
        *otherwise = last.take().map(|expr| *expr);
    }
}

/// `WHEN p THEN x WHEN NOT p THEN y` leaves nothing for an ELSE where p is never NULL: y is the ELSE.
fn close_complement(arms: &mut Vec<Arm>, otherwise: &mut Option<Expr>, context: &Context) {
    let [(first, _), (second, then)] = arms.as_slice() else {
        return;
    };
    let is_complement = scalar::negated_condition(first.clone(), context) == *second;
    if is_complement && context.is_not_null(first) {
        *otherwise = Some(then.clone()).filter(|then| !then.is_null_literal());
        arms.pop();
    }
}

/// Two neighbours that are never TRUE together may change places.
fn sort_disjoint(arms: &mut [Arm]) {
    for end in (1..arms.len()).rev() {
        for index in 0..end {
            if arms[index + 1].0 < arms[index].0 && are_disjoint(&arms[index].0, &arms[index + 1].0)
            {
                arms.swap(index, index + 1);
            }
        }
    }
}

pub(super) fn are_disjoint(left: &Expr, right: &Expr) -> bool {
    let demands = |expr: &Expr| match &expr.node {
        Node::And(items) => items.clone(),
        _ => vec![expr.clone()],
    };
    let (left, right) = (demands(left), demands(right));
    left.iter()
        .any(|one| right.iter().any(|other| predicate::excludes(one, other)))
}

/// `WHEN p THEN x WHEN q THEN x` is `WHEN p OR q THEN x`.
fn merge_equal(arms: &mut Vec<Arm>, context: &Context) {
    let mut index = 0;
    while index + 1 < arms.len() {
        if arms[index].1 == arms[index + 1].1 {
            let (when, _) = arms.remove(index + 1);
            let both = Expr::boolean(Node::Or(vec![arms[index].0.clone(), when]));
            arms[index].0 = scalar::condition(both, context);
        } else {
            index += 1;
        }
    }
}

/// A last arm that gives what the ELSE gives decides nothing.
fn drop_like_else(arms: &mut Vec<Arm>, otherwise: &Option<Expr>) {
    let is_same = |then: &Expr| match otherwise {
        Some(otherwise) => then == otherwise,
        None => then.is_null_literal(),
    };
    while arms.last().is_some_and(|(_, then)| is_same(then)) {
        arms.pop();
    }
}

/// `WHEN p THEN a ELSE b` is `WHEN NOT p THEN b ELSE a` only where p is never NULL.
fn orient(arms: &mut [Arm], otherwise: &mut Option<Expr>, context: &Context) {
    let [(when, then)] = arms else { return };
    if !is_negative(when) || !context.is_not_null(when) {
        return;
    }
    *when = scalar::negated_condition(when.clone(), context);
    let old_else = otherwise
        .take()
        .unwrap_or_else(|| Expr::null(then.ty.clone()));
    let old_then = std::mem::replace(then, old_else);
    *otherwise = (!old_then.is_null_literal()).then_some(old_then);
}

/// Exactly one of p and NOT p is negative.
fn is_negative(condition: &Expr) -> bool {
    match &condition.node {
        Node::Not(_) | Node::InSet(_, _, true) | Node::Or(_) => true,
        Node::Compare(Comparison::NotEqual, ..) => true,
        Node::Compare(Comparison::LessOrEqual, left, right) => {
            match (left.as_literal(), right.as_literal()) {
                (Some(_), None) => true,
                (None, Some(_)) => false,
                _ => true,
            }
        }
        _ => false,
    }
}

fn rebuild(arms: Vec<Arm>, otherwise: Option<Expr>, ty: Type, context: &Context) -> Expr {
    if arms.is_empty() {
        return otherwise.unwrap_or_else(|| Expr::null(ty));
    }
    if let Some(truth) = boolean_case(&arms, &otherwise, context) {
        return truth;
    }
    Expr::new(Node::Case(arms, otherwise.map(Box::new)), ty)
}

/// `CASE WHEN p THEN TRUE ELSE FALSE END` is `p IS TRUE`.
fn boolean_case(arms: &[Arm], otherwise: &Option<Expr>, context: &Context) -> Option<Expr> {
    let [(when, then)] = arms else { return None };
    let (Some(Literal::Boolean(then)), Some(Literal::Boolean(otherwise))) =
        (then.as_literal(), otherwise.as_ref()?.as_literal())
    else {
        return None;
    };
    if then == otherwise {
        return None;
    }
    let is_true = match context.is_not_null(when) {
        true => when.clone(),
        false => Expr::boolean(Node::IsTrue(Box::new(when.clone()))),
    };
    Some(if *then { is_true } else { is_true.not() })
}
