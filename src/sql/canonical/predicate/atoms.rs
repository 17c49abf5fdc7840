//! One atom at a time: its negation, and what it asks for where only TRUE passes.
//! In: an atom that is simplified as a scalar. Out: an expression of AND, OR and NOT that is TRUE for the same rows. How those
//! are joined to clauses is left to the parent.

use super::{Mode, negation_normal};
use crate::sql::canonical::context::Context;
use crate::sql::canonical::form::{Comparison, Expr, Node, Relation};
use crate::sql::canonical::literal::Literal;

/// CASE conditions inside filters are opened up to this many arms.
const ARMS: usize = 4;

/// NOT of an atom: comparisons turn round, which is exact for NULL operands and for the total order of floats.
pub(super) fn negated(expr: Expr) -> Expr {
    match expr.node {
        Node::Literal(Literal::Boolean(value)) => Expr::truth(!value),
        Node::Literal(Literal::Null) => expr,
        Node::Compare(Comparison::Equal, left, right) => {
            Expr::boolean(Node::Compare(Comparison::NotEqual, left, right))
        }
        Node::Compare(Comparison::NotEqual, left, right) => {
            Expr::boolean(Node::Compare(Comparison::Equal, left, right))
        }
        Node::Compare(Comparison::Less, left, right) => {
            Expr::boolean(Node::Compare(Comparison::LessOrEqual, right, left))
        }
        Node::Compare(Comparison::LessOrEqual, left, right) => {
            Expr::boolean(Node::Compare(Comparison::Less, right, left))
        }
        Node::InSet(subject, set, is_negated) => {
            Expr::boolean(Node::InSet(subject, set, !is_negated))
        }
        _ => expr.not(),
    }
}

/// What an atom asks for where only TRUE passes.
pub(super) fn filter_atom(expr: Expr, context: &Context) -> Expr {
    let again = |expr: Expr| negation_normal(expr, false, Mode::Filter, context);
    match &expr.node {
        Node::Literal(Literal::Null) => Expr::truth(false),
        Node::IsTrue(inner) => again((**inner).clone()),
        Node::DistinctFrom(left, right) => {
            distinct_filter(left, right, context).map_or(expr, again)
        }
        Node::Case(arms, otherwise) => {
            case_filter(arms, otherwise.as_deref(), &|value| value.clone(), context)
                .map_or(expr, again)
        }
        // `x = x` and `x <= x` ask only that x is there, `x < x` and `x <> x` are never TRUE; in the engine's total order
        // of floats NaN = NaN, so this holds for them too.
        Node::Compare(Comparison::Equal | Comparison::LessOrEqual, left, right)
            if left == right && !left.is_volatile() =>
        {
            again(left.as_ref().clone().is_not_null())
        }
        Node::Compare(_, left, right) if left == right && !left.is_volatile() => Expr::truth(false),
        Node::Compare(comparison, left, right) => {
            compared_case(*comparison, left, right, context).map_or(expr, again)
        }
        Node::InSet(subject, set, is_negated) => match &subject.node {
            Node::Case(arms, otherwise) if settles(arms, otherwise.as_deref()) => {
                let test = |value: &Expr| {
                    Expr::boolean(Node::InSet(
                        Box::new(value.clone()),
                        set.clone(),
                        *is_negated,
                    ))
                };
                case_filter(arms, otherwise.as_deref(), &test, context).map_or(expr, again)
            }
            _ => expr,
        },
        Node::IsNull(subject) => null_case(subject, true, context).map_or(expr, again),
        Node::InQuery(needle, relation) => exists_equal(needle, relation).map_or(expr, again),
        Node::Not(inner) => match &inner.node {
            Node::IsTrue(tested) => again(Expr::boolean(Node::Or(vec![
                (**tested).clone().not(),
                (**tested).clone().is_null(),
            ]))),
            Node::DistinctFrom(left, right)
                if context.is_not_null(left) || context.is_not_null(right) =>
            {
                again((**left).clone().equals((**right).clone()))
            }
            Node::IsNull(subject) => null_case(subject, false, context).map_or(expr, again),
            Node::Case(arms, otherwise) => {
                let test = |value: &Expr| value.clone().not();
                case_filter(arms, otherwise.as_deref(), &test, context).map_or(expr, again)
            }
            Node::InQuery(needle, relation) => {
                not_in_not_null(needle, relation, context).map_or(expr, again)
            }
            _ => expr,
        },
        _ => expr,
    }
}

/// `a IS DISTINCT FROM b` with b never NULL: `a <> b OR a IS NULL`.
fn distinct_filter(left: &Expr, right: &Expr, context: &Context) -> Option<Expr> {
    let (nullable, _) = match (context.is_not_null(left), context.is_not_null(right)) {
        (_, true) => (left, right),
        (true, _) => (right, left),
        _ => return None,
    };
    let differs = Expr::boolean(Node::Compare(
        Comparison::NotEqual,
        Box::new(left.clone()),
        Box::new(right.clone()),
    ));
    Some(Expr::boolean(Node::Or(vec![
        differs,
        nullable.clone().is_null(),
    ])))
}

/// The rows for which `test` of a CASE is TRUE: some arm is the first whose condition is TRUE, and its value passes.
/// Opened only when at most one value is not a literal, so that values are not repeated; conditions are, which is what the
/// budget is for.
fn case_filter(
    arms: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    test: &dyn Fn(&Expr) -> Expr,
    context: &Context,
) -> Option<Expr> {
    if !settles(arms, otherwise) {
        return None;
    }
    let mut earlier: Vec<Expr> = vec![];
    let mut ways = vec![];
    for (when, then) in arms {
        let first = [earlier.clone(), vec![when.clone(), test(then)]].concat();
        ways.push(Expr::boolean(Node::And(first)));
        earlier.push(not_true(when));
    }
    if let Some(otherwise) = otherwise {
        earlier.push(test(otherwise));
        ways.push(Expr::boolean(Node::And(earlier)));
    }
    affordable(Expr::boolean(Node::Or(ways)), context)
}

/// An opened CASE, if the budget has steps for each of its nodes.
fn affordable(opened: Expr, context: &Context) -> Option<Expr> {
    context.takes(size(&opened)).then_some(opened)
}

fn size(expr: &Expr) -> usize {
    1 + expr.children().into_iter().map(size).sum::<usize>()
}

fn settles(arms: &[(Expr, Expr)], otherwise: Option<&Expr>) -> bool {
    let values = arms.iter().map(|(_, then)| then).chain(otherwise);
    arms.len() <= ARMS && values.filter(|value| value.as_literal().is_none()).count() <= 1
}

/// The condition is FALSE or NULL.
fn not_true(condition: &Expr) -> Expr {
    Expr::boolean(Node::Or(vec![
        condition.clone().not(),
        condition.clone().is_null(),
    ]))
}

/// A comparison of a CASE with a literal moves into the CASE.
fn compared_case(
    comparison: Comparison,
    left: &Expr,
    right: &Expr,
    context: &Context,
) -> Option<Expr> {
    let compare = |left: &Expr, right: &Expr| {
        Expr::boolean(Node::Compare(
            comparison,
            Box::new(left.clone()),
            Box::new(right.clone()),
        ))
    };
    match (&left.node, &right.node) {
        (Node::Case(arms, otherwise), Node::Literal(_)) => {
            let test = |value: &Expr| compare(value, right);
            case_filter(arms, otherwise.as_deref(), &test, context)
        }
        (Node::Literal(_), Node::Case(arms, otherwise)) => {
            let test = |value: &Expr| compare(left, value);
            case_filter(arms, otherwise.as_deref(), &test, context)
        }
        _ => None,
    }
}

/// `CASE … IS NULL` and `IS NOT NULL`: the first arm that is TRUE decides; IS NULL itself is never NULL.
fn null_case(subject: &Expr, wants_null: bool, context: &Context) -> Option<Expr> {
    let Node::Case(arms, otherwise) = &subject.node else {
        return None;
    };
    if arms.len() > ARMS {
        return None;
    }
    let test = |value: &Expr| match wants_null {
        true => value.clone().is_null(),
        false => value.clone().is_not_null(),
    };
    let mut earlier: Vec<Expr> = vec![];
    let mut ways = vec![];
    for (when, then) in arms {
        ways.push(Expr::boolean(Node::And(
            [earlier.clone(), vec![when.clone(), test(then)]].concat(),
        )));
        earlier.push(not_true(when));
    }
    let last = otherwise.as_deref().map_or(Expr::truth(wants_null), test);
    earlier.push(last);
    ways.push(Expr::boolean(Node::And(earlier)));
    affordable(Expr::boolean(Node::Or(ways)), context)
}

/// `x IN (query)` is TRUE exactly when some row of the query equals x; FALSE and NULL are one here.
fn exists_equal(needle: &Expr, relation: &Relation) -> Option<Expr> {
    let Relation::Select { block, outputs } = relation else {
        return None;
    };
    let [output] = outputs.as_slice() else {
        return None;
    };
    if output.is_volatile() || needle.is_volatile() {
        return None;
    }
    let mut block = block.clone();
    block.predicates.push(needle.clone().equals(output.clone()));
    Some(Expr::boolean(Node::Exists(Box::new(Relation::Select {
        block,
        outputs: vec![],
    }))))
}

/// `x NOT IN (query)` is `NOT EXISTS (… = x)` only when neither side can be NULL: one NULL row empties the result.
fn not_in_not_null(needle: &Expr, relation: &Relation, context: &Context) -> Option<Expr> {
    let Relation::Select { outputs, .. } = relation else {
        return None;
    };
    let are_never_null =
        outputs.iter().all(|output| context.is_not_null(output)) && context.is_not_null(needle);
    are_never_null
        .then(|| exists_equal(needle, relation).map(Expr::not))
        .flatten()
}
