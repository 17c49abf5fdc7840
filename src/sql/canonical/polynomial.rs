//! Integer arithmetic in one form.
//! In: sums of products. Out: the polynomial over the ring of the type's width, expanded, merged and sorted.
//! Proof: the engine's `+`, `-`, `*` and unary `-` on integers of one width wrap, so they are a commutative ring modulo
//! 2^width, and all four are NULL when an operand is. Ring identities therefore hold as long as no variable vanishes;
//! a monomial whose coefficient becomes 0 stays unless its variables stand elsewhere or cannot be NULL.
//! Floats are left alone (addition does not associate), so are `/` and `%` (no ring) and decimals (their type changes).

use std::collections::BTreeMap;

use super::context::Context;
use super::form::{Expr, Monomial, Node};
use super::types::Type;

/// Products are expanded up to this many monomials, then left factored: sound, only less is recognised.
const LIMIT: usize = 48;

/// Normalises a sum whose factors are already normal.
pub(super) fn normalise(terms: Vec<Monomial>, ty: &Type, context: &Context) -> Expr {
    let has_null = terms
        .iter()
        .flat_map(|term| &term.factors)
        .any(Expr::is_null_literal);
    if has_null {
        return Expr::null(ty.clone());
    }
    let mut merged: BTreeMap<Vec<Expr>, i128> = BTreeMap::new();
    for term in terms {
        for (factors, coefficient) in expand(term, ty) {
            let sum = merged.entry(factors).or_insert(0);
            *sum = ty.wrap(*sum + coefficient);
        }
    }
    drop_vanished(&mut merged, context);
    rebuild(merged, ty)
}

/// Multiplies out one monomial.
fn expand(term: Monomial, ty: &Type) -> Vec<(Vec<Expr>, i128)> {
    let mut products = vec![(vec![], ty.wrap(term.coefficient))];
    for factor in term.factors {
        let parts = parts(&factor, ty);
        let parts = if products.len() * parts.len() > LIMIT {
            vec![(vec![factor], 1)]
        } else {
            parts
        };
        let mut next = vec![];
        for (factors, coefficient) in &products {
            for (more, times) in &parts {
                let mut factors = [factors.as_slice(), more.as_slice()].concat();
                factors.sort();
                next.push((factors, multiply(*coefficient, *times, ty)));
            }
        }
        products = next;
    }
    products
}

fn parts(factor: &Expr, ty: &Type) -> Vec<(Vec<Expr>, i128)> {
    match &factor.node {
        Node::Literal(literal) if let Some(value) = literal.as_integer() => {
            vec![(vec![], ty.wrap(value))]
        }
        Node::Sum(terms) if factor.ty == *ty => terms
            .iter()
            .map(|term| (term.factors.clone(), term.coefficient))
            .collect(),
        _ => vec![(vec![factor.clone()], 1)],
    }
}

/// Multiplies without leaving 128 bits: both sides are reduced to at most 64 bits.
fn multiply(left: i128, right: i128, ty: &Type) -> i128 {
    ty.wrap(ty.wrap(left).wrapping_mul(ty.wrap(right)))
}

fn drop_vanished(merged: &mut BTreeMap<Vec<Expr>, i128>, context: &Context) {
    let live: Vec<Expr> = merged
        .iter()
        .filter(|(_, times)| **times != 0)
        .flat_map(|(factors, _)| factors.clone())
        .collect();
    merged.retain(|factors, coefficient| {
        *coefficient != 0
            || factors
                .iter()
                .any(|factor| !live.contains(factor) && !context.is_not_null(factor))
    });
}

fn rebuild(merged: BTreeMap<Vec<Expr>, i128>, ty: &Type) -> Expr {
    let mut terms: Vec<Monomial> = merged
        .into_iter()
        .map(|(factors, coefficient)| Monomial {
            coefficient,
            factors,
        })
        .collect();
    match terms.as_slice() {
        [] => Expr::integer(0, ty.clone()),
        [only] if only.factors.is_empty() => Expr::integer(only.coefficient, ty.clone()),
        [only] if only.coefficient == 1 && only.factors.len() == 1 => {
            terms.remove(0).factors.remove(0)
        }
        _ => Expr::new(Node::Sum(terms), ty.clone()),
    }
}
