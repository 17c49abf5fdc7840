//! Clauses: sets of literals of which one must be TRUE, and the conjunction of them.
//! In: an expression whose negations stand at its atoms. Out: its clauses, without those that others demand. What one literal
//! says of another is left to [`implied`](super::implied).

use std::collections::BTreeSet;

use super::implied::{excludes, implies};
use super::{Mode, conjunction};
use crate::sql::canonical::context::Context;
use crate::sql::canonical::domain;
use crate::sql::canonical::form::{Expr, Node};

pub(super) type Clause = BTreeSet<Expr>;

/// Above this many clauses a disjunction stays as one clause: sound, only less is recognised.
const LIMIT: usize = 64;

pub(super) fn clauses(expr: Expr, mode: Mode, context: &Context) -> Vec<Clause> {
    match expr.node {
        Node::And(items) => {
            let all = items
                .into_iter()
                .flat_map(|item| clauses(item, mode, context))
                .collect();
            tidy(all, mode, context)
        }
        Node::Or(items) => disjunction(items, mode, context),
        _ if expr.is_truth(true) => vec![],
        _ if expr.is_truth(false) => vec![Clause::new()],
        _ => vec![Clause::from([expr])],
    }
}

/// OR over AND: every choice of one clause per item, `(a AND b) OR (a AND c)` becomes `a AND (b OR c)`.
fn disjunction(items: Vec<Expr>, mode: Mode, context: &Context) -> Vec<Clause> {
    let mut product = vec![Clause::new()];
    let mut opaque = Clause::new();
    for item in flatten_or(items) {
        let item_clauses = clauses(item, mode, context);
        let choices = product.len() * item_clauses.len();
        let literals = |clauses: &[Clause]| clauses.iter().map(Clause::len).sum::<usize>();
        let steps =
            product.len() * literals(&item_clauses) + item_clauses.len() * literals(&product);
        if choices > LIMIT || choices > 1 && !context.takes(steps) {
            opaque.insert(conjunction(
                item_clauses.into_iter().map(clause_expr).collect(),
            ));
            continue;
        }
        let joined = product
            .iter()
            .flat_map(|left| item_clauses.iter().map(move |right| left | right))
            .collect();
        product = tidy(joined, mode, context);
    }
    product
        .into_iter()
        .map(|clause| &clause | &opaque)
        .collect()
}

fn flatten_or(items: Vec<Expr>) -> Vec<Expr> {
    items
        .into_iter()
        .flat_map(|item| match item.node {
            Node::Or(inner) => flatten_or(inner),
            _ => vec![item],
        })
        .collect()
}

fn tidy(clauses: Vec<Clause>, mode: Mode, context: &Context) -> Vec<Clause> {
    let merged = clauses
        .into_iter()
        .map(|clause| merge_sets(clause, mode, context))
        .collect();
    absorb(merged, mode, context)
}

/// `x = a OR x = b` is `x IN (a, b)`, exactly; a clause with TRUE is TRUE; FALSE adds nothing to a clause.
fn merge_sets(clause: Clause, mode: Mode, context: &Context) -> Clause {
    if clause.iter().any(|literal| literal.is_truth(true)) {
        return Clause::from([Expr::truth(true)]);
    }
    let mut merged: Vec<Expr> = vec![];
    for literal in clause {
        if literal.is_truth(false) {
            continue;
        }
        let found = merged
            .iter_mut()
            .find_map(|earlier| union_points(earlier, &literal).map(|both| *earlier = both));
        if found.is_none() {
            merged.push(literal);
        }
    }
    if mode == Mode::Filter && context.takes(merged.len() * merged.len()) {
        drop_implied_literals(&mut merged);
    }
    merged.into_iter().collect()
}

fn union_points(left: &Expr, right: &Expr) -> Option<Expr> {
    match (&left.node, &right.node) {
        (Node::InSet(subject, points, false), Node::InSet(other, more, false))
            if subject == other =>
        {
            Some(Expr::boolean(Node::InSet(
                subject.clone(),
                points | more,
                false,
            )))
        }
        _ => None,
    }
}

/// In a filter, `p OR q` is q when p implies q. `x IS NULL OR x IS NOT NULL` is TRUE.
fn drop_implied_literals(literals: &mut Vec<Expr>) {
    let mut index = 0;
    while index < literals.len() {
        let is_implied = (0..literals.len())
            .any(|other| other != index && implies(&literals[index], &literals[other]));
        if is_implied {
            literals.remove(index);
        } else {
            index += 1;
        }
    }
    let covers = |subject: &Expr| literals.contains(&subject.clone().is_not_null());
    if literals
        .iter()
        .any(|literal| matches!(&literal.node, Node::IsNull(subject) if covers(subject)))
    {
        *literals = vec![Expr::truth(true)];
    }
}

/// Drops clauses that another clause already demands.
pub(super) fn absorb(clauses: Vec<Clause>, mode: Mode, context: &Context) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = clauses
        .into_iter()
        .filter(|clause| !clause.iter().any(|literal| literal.is_truth(true)))
        .collect();
    clauses.sort();
    clauses.dedup();
    if clauses.iter().any(Clause::is_empty) {
        return vec![Clause::new()];
    }
    let mut index = 0;
    while index < clauses.len() {
        let is_demanded = (0..clauses.len()).any(|other| {
            let (strong, weak) = (&clauses[other], &clauses[index]);
            other != index
                && context.takes(strong.len() * weak.len())
                && clause_implies(strong, weak, mode)
        });
        if is_demanded {
            clauses.remove(index);
        } else {
            index += 1;
        }
    }
    clauses
}

fn clause_implies(strong: &Clause, weak: &Clause, mode: Mode) -> bool {
    strong.iter().all(|literal| {
        weak.contains(literal)
            || (mode == Mode::Filter && weak.iter().any(|other| implies(literal, other)))
    })
}

/// A literal that a clause of one literal rules out can never make its own clause TRUE.
pub(super) fn propagate(clauses: Vec<Clause>, context: &Context) -> Vec<Clause> {
    let units: Vec<Expr> = clauses
        .iter()
        .filter(|clause| clause.len() == 1)
        .flatten()
        .cloned()
        .collect();
    let literals: usize = clauses.iter().map(Clause::len).sum();
    if !context.takes(units.len() * literals) {
        return clauses;
    }
    let is_possible = |literal: &Expr| {
        !units
            .iter()
            .any(|unit| unit != literal && excludes(unit, literal))
    };
    clauses
        .into_iter()
        .map(|clause| clause.into_iter().filter(&is_possible).collect())
        .collect()
}

/// Clauses of one literal about one expression become their intersection.
pub(super) fn merge_units(clauses: Vec<Clause>, context: &Context) -> Vec<Clause> {
    let mut subjects: Vec<(Expr, domain::Domain)> = vec![];
    let mut rest = vec![];
    for clause in clauses {
        let known = match clause.len() {
            1 => clause.first().and_then(domain::of),
            _ => None,
        };
        match known {
            None => rest.push(clause),
            Some((subject, domain)) => {
                match subjects.iter_mut().find(|(earlier, _)| *earlier == subject) {
                    Some((_, earlier)) => *earlier = earlier.intersect(&domain),
                    None => subjects.push((subject, domain)),
                }
            }
        }
    }
    for (subject, domain) in subjects {
        rest.extend(
            domain::predicates(&subject, &domain)
                .into_iter()
                .map(|literal| match literal.is_truth(false) {
                    true => Clause::new(),
                    false => Clause::from([literal]),
                }),
        );
    }
    absorb(rest, Mode::Filter, context)
}

pub(super) fn clause_expr(clause: Clause) -> Expr {
    let mut literals: Vec<Expr> = clause.into_iter().collect();
    match literals.len() {
        0 => Expr::truth(false),
        1 => literals.remove(0),
        _ => Expr::boolean(Node::Or(literals)),
    }
}
