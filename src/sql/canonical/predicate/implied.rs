//! What one literal says of another.
//! In: two literals. Out: whether the first demands the second, or rules it out, by NULLs and by the values of one expression.
//! A `false` says only that it is not known.

use crate::sql::canonical::context::rejects_null;
use crate::sql::canonical::domain;
use crate::sql::canonical::form::{Expr, Node};

/// Whenever `strong` is TRUE, `weak` is TRUE.
pub(in crate::sql::canonical) fn implies(strong: &Expr, weak: &Expr) -> bool {
    if strong == weak {
        return true;
    }
    if let Node::Not(inner) = &weak.node
        && let Node::IsNull(subject) = &inner.node
        && rejects_null(strong, subject)
    {
        return true;
    }
    match (domain::of(strong), domain::of(weak)) {
        (Some((left, strong)), Some((right, weak))) => left == right && strong.implies(&weak),
        _ => false,
    }
}

/// The two are never TRUE together.
pub(in crate::sql::canonical) fn excludes(left: &Expr, right: &Expr) -> bool {
    let is_negation = |literal: &Expr, other: &Expr| matches!(&literal.node, Node::Not(inner) if **inner == *other);
    let null_and_needed = |literal: &Expr, other: &Expr| matches!(&literal.node, Node::IsNull(subject) if rejects_null(other, subject));
    if is_negation(left, right)
        || is_negation(right, left)
        || null_and_needed(left, right)
        || null_and_needed(right, left)
    {
        return true;
    }
    match (domain::of(left), domain::of(right)) {
        (Some((left, one)), Some((right, other))) => left == right && one.excludes(&other),
        _ => false,
    }
}
