//! Boolean expressions in one form: the smallest conjunction of clauses.
//! In: AND, OR, NOT over atoms. Out: clauses, each a set of literals, with negation pushed to the atoms.
//!
//! Proof: SQL's three values with AND = min, OR = max, NOT = reversal are a Kleene algebra: De Morgan, distribution,
//! absorption and idempotence hold, so the clause form is equal for TRUE, FALSE and NULL alike. What only holds where
//! NULL and FALSE are the same (a WHERE, ON, HAVING, FILTER or WHEN) is marked [`Mode::Filter`]: implication between
//! clauses, dropping what is never TRUE, `x IN (query)` as EXISTS. What one atom becomes is left to [`atoms`], the algebra
//! of clauses to [`mod@clauses`], and what one literal says of another to [`implied`].

mod atoms;
mod clauses;
mod implied;

use super::context::{Context, Form};
use super::form::{Expr, Node};
use super::scalar;
use atoms::{filter_atom, negated};
use clauses::{absorb, clause_expr, clauses, merge_units, propagate};
pub(super) use implied::{excludes, implies};

/// Whether NULL is told apart from FALSE by whoever reads the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Value,
    Filter,
}

/// The conjunction of `predicates` as clauses, where only TRUE passes.
pub(super) fn filter(predicates: Vec<Expr>, context: &Context) -> Vec<Expr> {
    let whole = Expr::boolean(Node::And(predicates));
    let mut clauses = clauses(
        negation_normal(whole, false, Mode::Filter, context),
        Mode::Filter,
        context,
    );
    for _ in 0..8 {
        let before = clauses.clone();
        let possible = propagate(absorb(clauses, Mode::Filter, context), context);
        clauses = merge_units(possible, context);
        if clauses == before {
            break;
        }
    }
    clauses.into_iter().map(clause_expr).collect()
}

/// A filter as one expression: TRUE when nothing is left to ask.
pub(super) fn filter_expr(predicate: Expr, context: &Context) -> Expr {
    context.once(Form::Filter, predicate, |predicate| {
        conjunction(filter(vec![predicate], context))
    })
}

/// A boolean whose NULL matters.
pub(super) fn value(expr: Expr, context: &Context) -> Expr {
    context.once(Form::Value, expr, |expr| valued(expr, context))
}

fn valued(expr: Expr, context: &Context) -> Expr {
    let clauses = clauses(
        negation_normal(expr, false, Mode::Value, context),
        Mode::Value,
        context,
    );
    conjunction(
        absorb(clauses, Mode::Value, context)
            .into_iter()
            .map(clause_expr)
            .collect(),
    )
}

pub(super) fn conjunction(mut items: Vec<Expr>) -> Expr {
    match items.len() {
        0 => Expr::truth(true),
        1 => items.remove(0),
        _ => Expr::boolean(Node::And(items)),
    }
}

/// Pushes NOT down to the atoms and simplifies those.
pub(super) fn negation_normal(expr: Expr, negate: bool, mode: Mode, context: &Context) -> Expr {
    let each = |items: Vec<Expr>| {
        items
            .into_iter()
            .map(|item| negation_normal(item, negate, mode, context))
            .collect()
    };
    match expr.node {
        Node::And(items) if negate => Expr::boolean(Node::Or(each(items))),
        Node::And(items) => Expr::boolean(Node::And(each(items))),
        Node::Or(items) if negate => Expr::boolean(Node::And(each(items))),
        Node::Or(items) => Expr::boolean(Node::Or(each(items))),
        Node::Not(inner) => negation_normal(*inner, !negate, mode, context),
        _ => atom(expr, negate, mode, context),
    }
}

fn atom(expr: Expr, negate: bool, mode: Mode, context: &Context) -> Expr {
    let expr = scalar::simplify_atom(expr, context);
    if matches!(expr.node, Node::And(_) | Node::Or(_) | Node::Not(_)) {
        return negation_normal(expr, negate, mode, context);
    }
    let expr = if negate { negated(expr) } else { expr };
    let expr = if negate {
        scalar::simplify_atom_or_not(expr, context)
    } else {
        expr
    };
    match mode {
        Mode::Value => expr,
        Mode::Filter => filter_atom(expr, context),
    }
}
