//! What is known where an expression stands: which columns cannot be NULL, and on which declared constraint that rests.
//! In: facts per column. Out: answers; every constraint an answer leaned on is noted in `used`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use super::form::{ColumnRef, Expr, Node};
use super::literal::Literal;

/// The declared constraints a proof leans on, as `table.column NOT NULL`.
pub type Assumptions = BTreeSet<String>;

pub(super) type Facts<'a> = &'a dyn Fn(ColumnRef) -> Option<Assumptions>;

pub(super) struct Context<'a> {
    facts: Facts<'a>,
    used: &'a RefCell<Assumptions>,
    known: RefCell<HashMap<Expr, Forms>>,
    /// What is left of [`STEPS`].
    steps: Cell<usize>,
}

/// So many steps may be taken to put the booleans of one block in form: nodes of an opened CASE, pairs of literals that are compared.
/// Counted rather than timed, so that a query has one form on every machine. Where they run out an expression stays as it
/// is, and two queries that mean the same may be told as different, never the reverse.
const STEPS: usize = 100_000;

/// What is made of an expression, for whom.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// All but AND, OR and NOT at the top.
    Atom = 0,
    /// A boolean whose NULL matters.
    Value = 1,
    /// A condition that only TRUE passes.
    Filter = 2,
}

type Forms = [Option<Expr>; 3];

impl<'a> Context<'a> {
    pub fn new(facts: Facts<'a>, used: &'a RefCell<Assumptions>) -> Context<'a> {
        Context {
            facts,
            used,
            known: RefCell::default(),
            steps: Cell::new(STEPS),
        }
    }

    /// Takes steps from the budget if it has as many; once it had not, it has none.
    pub fn takes(&self, steps: usize) -> bool {
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or(0));
        left.is_some()
    }

    /// `work(expr)`, done once: what a CASE asks is looked at again by each rule that opens the CASE, and conditions inside
    /// conditions would take three or four times as long with every step down.
    pub fn once(&self, form: Form, expr: Expr, work: impl FnOnce(Expr) -> Expr) -> Expr {
        if expr.children().is_empty() {
            return work(expr);
        }
        let known = self.known.borrow();
        if let Some(found) = known
            .get(&expr)
            .and_then(|forms| forms[form as usize].clone())
        {
            return found;
        }
        drop(known);
        let found = work(expr.clone());
        let mut known = self.known.borrow_mut();
        known.entry(expr).or_default()[form as usize] = Some(found.clone());
        found
    }

    /// True when the expression is never NULL here; the constraints that say so are noted as used.
    pub fn is_not_null(&self, expr: &Expr) -> bool {
        let Some(assumptions) = never_null(expr, self.facts) else {
            return false;
        };
        self.used.borrow_mut().extend(assumptions);
        true
    }
}

/// The constraints under which an expression is never NULL, if there are such.
pub(super) fn never_null(expr: &Expr, facts: Facts) -> Option<Assumptions> {
    let all = |exprs: Vec<&Expr>| {
        let mut assumptions = Assumptions::new();
        for expr in exprs {
            assumptions.extend(never_null(expr, facts)?);
        }
        Some(assumptions)
    };
    match &expr.node {
        Node::Column(column) => facts(*column),
        Node::Literal(literal) => (*literal != Literal::Null).then(Assumptions::new),
        Node::IsNull(_) | Node::IsTrue(_) | Node::DistinctFrom(..) | Node::Exists(_) => {
            Some(Assumptions::new())
        }
        Node::And(_)
        | Node::Or(_)
        | Node::Not(_)
        | Node::Compare(..)
        | Node::InSet(..)
        | Node::Sum(_)
        | Node::Cast(_) => all(expr.children()),
        Node::Case(arms, Some(otherwise)) => case_never_null(arms, otherwise, facts),
        Node::Case(_, None) | Node::TryCast(_) | Node::InQuery(..) | Node::Scalar(_) => None,
        Node::Call(name, arguments, _) => match is_strict_function(name) {
            true => all(arguments.iter().collect()),
            false => None,
        },
    }
}

/// An arm `x IS NOT NULL THEN x` is not NULL by its own condition.
fn case_never_null(arms: &[(Expr, Expr)], otherwise: &Expr, facts: Facts) -> Option<Assumptions> {
    let mut assumptions = match arms {
        [(when, _)] if *when == otherwise.clone().is_null() => Assumptions::new(),
        _ => never_null(otherwise, facts)?,
    };
    for (when, then) in arms {
        if *when != then.clone().is_not_null() {
            assumptions.extend(never_null(then, facts)?);
        }
    }
    Some(assumptions)
}

/// Functions that give NULL exactly when an argument is NULL.
pub(super) fn is_strict_function(name: &str) -> bool {
    matches!(
        name,
        "+" | "-"
            | "*"
            | "||"
            | "negative"
            | "like"
            | "ilike"
            | "lower"
            | "upper"
            | "abs"
            | "date_trunc"
            | "btrim"
            | "~"
            | "~*"
    )
}

/// True when the expression is NULL whenever `part` is: `part` stands in it under nothing but strict operators.
pub(super) fn is_null_with(expr: &Expr, part: &Expr) -> bool {
    if expr == part {
        return true;
    }
    let is_strict = match &expr.node {
        Node::Compare(..)
        | Node::InSet(..)
        | Node::Sum(_)
        | Node::Cast(_)
        | Node::TryCast(_)
        | Node::Not(_) => true,
        Node::Call(name, _, _) => is_strict_function(name) || matches!(name.as_str(), "/" | "%"),
        _ => false,
    };
    is_strict
        && expr
            .children()
            .into_iter()
            .any(|child| is_null_with(child, part))
}

/// True when a row with `part` NULL cannot pass the filter `predicate`.
pub(super) fn rejects_null(predicate: &Expr, part: &Expr) -> bool {
    match &predicate.node {
        Node::Not(inner) => match &inner.node {
            Node::IsNull(tested) => is_null_with(tested, part),
            _ => is_null_with(inner, part),
        },
        Node::IsTrue(inner) => rejects_null(inner, part),
        Node::And(items) => items.iter().any(|item| rejects_null(item, part)),
        Node::Or(items) => items.iter().all(|item| rejects_null(item, part)),
        Node::Literal(literal) => matches!(literal, Literal::Boolean(false) | Literal::Null),
        _ => is_null_with(predicate, part),
    }
}
