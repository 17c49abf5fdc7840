//! Which `ORDER BY` anybody can see.
//! In: a relation. Out: the same without the orders that no limit, no ordered aggregate and no unordered window observes.

use super::aggregates;
use super::form::{Limit, Relation};

/// Drops the orders that nobody sees; `is_observed` says whether the reader of this relation sees its order.
pub(super) fn drop_unobserved(relation: &mut Relation, is_observed: bool) {
    let below = match &*relation {
        Relation::Select { .. } | Relation::Union { .. } => is_observed,
        Relation::Window { calls, .. } => {
            is_observed
                || calls
                    .iter()
                    .any(|call| call.order.is_empty() && !aggregates::is_order_free(&call.function))
        }
        Relation::Group(group) => group.aggregates.iter().any(aggregates::reads_order),
        Relation::Limit(limit) => {
            limit.order.is_empty() && (limit.fetch.is_some() || limit.skip > 0 || is_observed)
        }
        _ => false,
    };
    relation
        .inputs_mut()
        .into_iter()
        .for_each(|input| drop_unobserved(input, below));
    relation
        .head_exprs_mut()
        .into_iter()
        .for_each(drop_in_subqueries);
    if let Some(block) = relation.block_mut() {
        block.exprs_mut().into_iter().for_each(drop_in_subqueries);
    }
    if let Relation::Limit(Limit {
        fetch: None,
        skip: 0,
        order,
        ..
    }) = relation
        && !is_observed
    {
        order.clear();
    }
}

fn drop_in_subqueries(expr: &mut super::form::Expr) {
    if let Some(relation) = expr.subquery_mut() {
        drop_unobserved(relation, false);
    }
    expr.children_mut().into_iter().for_each(drop_in_subqueries);
}
