//! Rules that move work through groups, windows and unions.
//! In: blocks and groups. Out: filters below what they do not depend on, expressions inside union branches, a group of a
//! group as one.

use std::collections::BTreeSet;

use super::aggregates;
use super::form::{Aggregate, Block, ColumnRef, Expr, Group, Instance, Relation, Source};
use super::types::Type;

/// A filter on keys of a group selects whole groups, one on partition columns of every window selects whole partitions,
/// one on a union filters each branch: all three may as well filter the rows below.
pub(super) fn predicates_down(block: &mut Block) {
    let mut kept = vec![];
    for predicate in std::mem::take(&mut block.predicates) {
        let moved =
            !predicate.has_subquery() && !predicate.is_volatile() && push_one(block, &predicate);
        if !moved {
            kept.push(predicate);
        }
    }
    block.predicates = kept;
}

fn push_one(block: &mut Block, predicate: &Expr) -> bool {
    let instances = predicate.instances();
    let Some(source) = block
        .sources
        .iter_mut()
        .find(|source| instances == BTreeSet::from([source.instance]))
    else {
        return false;
    };
    let mut columns = BTreeSet::new();
    predicate.each_column(&mut |column| {
        columns.insert(column.index);
    });
    let instance = source.instance;
    let with = |exprs: &[Expr]| substituted(predicate, instance, exprs);
    match &mut source.relation {
        Relation::Group(group)
            if group.sets.is_none() && columns.iter().all(|index| *index < group.keys.len()) =>
        {
            let below = with(&group.keys);
            group.block.predicates.push(below);
            true
        }
        Relation::Window {
            block,
            outputs,
            calls,
        } => {
            let is_partition = |index: &usize| {
                outputs
                    .get(*index)
                    .is_some_and(|output| calls.iter().all(|call| call.partition.contains(output)))
            };
            let is_whole = columns.iter().all(is_partition);
            if is_whole {
                block.predicates.push(with(outputs));
            }
            is_whole
        }
        Relation::Union { branches } => {
            for branch in branches {
                let Relation::Select { block, outputs } = branch else {
                    return false;
                };
                block.predicates.push(with(outputs));
            }
            true
        }
        _ => false,
    }
}

fn substituted(expr: &Expr, instance: Instance, exprs: &[Expr]) -> Expr {
    let mut expr = expr.clone();
    expr.replace_columns(&|column: ColumnRef| {
        (column.instance == instance).then(|| exprs[column.index].clone())
    });
    expr
}

/// A projection of a union is the union of the projections. `None` when there is nothing to move.
pub(super) fn into_union(block: &Block, outputs: &[Expr]) -> Option<Vec<Relation>> {
    let (source, branches) = lone_union(block)?;
    let is_identity = outputs == source.columns().as_slice();
    if is_identity
        || outputs
            .iter()
            .any(|output| output.has_subquery() || output.is_volatile())
    {
        return None;
    }
    projected(branches, source.instance, outputs)
}

fn lone_union(block: &Block) -> Option<(&Source, &[Relation])> {
    let [source] = block.sources.as_slice() else {
        return None;
    };
    match &source.relation {
        Relation::Union { branches }
            if block.optional.is_empty() && block.predicates.is_empty() =>
        {
            Some((source, branches))
        }
        _ => None,
    }
}

fn projected(branches: &[Relation], instance: Instance, wanted: &[Expr]) -> Option<Vec<Relation>> {
    let mut moved = vec![];
    for branch in branches {
        let Relation::Select { block, outputs } = branch else {
            return None;
        };
        if outputs.iter().any(Expr::is_volatile) {
            return None;
        }
        let outputs = wanted
            .iter()
            .map(|expr| substituted(expr, instance, outputs))
            .collect();
        moved.push(Relation::Select {
            block: block.clone(),
            outputs,
        });
    }
    Some(moved)
}

/// What a group computes from a union's columns is computed in the branches instead. The new branches, if anything moved;
/// the group then reads their columns.
pub(super) fn group_into_union(group: &mut Group) -> Option<Vec<Relation>> {
    let (source, branches) = lone_union(&group.block)?;
    let instance = source.instance;
    let mut wanted: Vec<Expr> = vec![];
    for expr in group
        .keys
        .iter()
        .chain(group.aggregates.iter().flat_map(Aggregate::exprs))
    {
        if expr.has_subquery() || expr.is_volatile() {
            return None;
        }
        if expr.as_literal().is_none() && !wanted.contains(expr) {
            wanted.push(expr.clone());
        }
    }
    if wanted.iter().all(|expr| expr.as_column().is_some()) {
        return None;
    }
    let moved = projected(branches, instance, &wanted)?;
    let read = |expr: &mut Expr| {
        if let Some(index) = wanted.iter().position(|wanted| wanted == expr) {
            *expr = Expr::column(instance, index, expr.ty.clone());
        }
    };
    group.keys.iter_mut().for_each(read);
    group
        .aggregates
        .iter_mut()
        .flat_map(Aggregate::exprs_mut)
        .for_each(read);
    Some(moved)
}

/// Counting the rows of a DISTINCT bag per some of its columns, where one more column tells the rows apart, is
/// `COUNT(DISTINCT x)` over what the bag was made of. A NULL of that column is one row to `COUNT(*)` and none to
/// `COUNT(DISTINCT x)`, so the count must leave it out or the column must have none.
pub(super) fn count_distinct(group: &Group, is_not_null: &dyn Fn(&Expr) -> bool) -> Option<Group> {
    let [source] = group.block.sources.as_slice() else {
        return None;
    };
    let Relation::Group(inner) = &source.relation else {
        return None;
    };
    let is_bag = inner.is_grouped && inner.sets.is_none() && inner.aggregates.is_empty();
    if !is_bag || !group.block.optional.is_empty() || !group.block.predicates.is_empty() {
        return None;
    }
    let is_grouping = |index: usize| {
        let is_it = |key: &Expr| {
            let column = key.as_column();
            column.is_some_and(|column| column.instance == source.instance && column.index == index)
        };
        group.keys.iter().any(is_it)
    };
    let others: Vec<usize> = (0..inner.keys.len())
        .filter(|index| !is_grouping(*index))
        .collect();
    let [other] = others.as_slice() else {
        return None;
    };
    // Of floats, 0.0 and -0.0 may be one group and two distinct values.
    let is_exact = !matches!(inner.keys[*other].ty, Type::Float(_) | Type::Other(_));
    if group.keys.len() + 1 != inner.keys.len() || group.aggregates.is_empty() || !is_exact {
        return None;
    }
    let ty = inner.keys[*other].ty.clone();
    let column = Expr::column(source.instance, *other, ty);
    let present = column.clone().is_not_null();
    let mut calls = vec![];
    for call in &group.aggregates {
        let is_count =
            call.function == "count" && call.arguments.is_empty() && call.order.is_empty();
        let leaves_null_out = call.filter.as_slice() == std::slice::from_ref(&present)
            || call.filter.is_empty() && is_not_null(&column);
        if !is_count || !leaves_null_out {
            return None;
        }
        calls.push(Aggregate {
            is_distinct: true,
            arguments: vec![inner.keys[*other].clone()],
            filter: vec![],
            ..call.clone()
        });
    }
    let keys = group
        .keys
        .iter()
        .map(|key| substituted(key, source.instance, &inner.keys))
        .collect();
    Some(Group {
        block: inner.block.clone(),
        keys,
        aggregates: calls,
        is_grouped: group.is_grouped,
        sets: None,
    })
}

/// A group over a group: totals of totals. Whole numbers only, since float sums do not associate; a sum of counts is a
/// count only where a group cannot be empty.
pub(super) fn roll_up(group: Group) -> Group {
    rolled(&group).unwrap_or(group)
}

fn rolled(group: &Group) -> Option<Group> {
    let [source] = group.block.sources.as_slice() else {
        return None;
    };
    if !group.block.optional.is_empty()
        || !group.block.predicates.is_empty()
        || group.aggregates.is_empty()
    {
        return None;
    }
    let Relation::Group(inner) = &source.relation else {
        return None;
    };
    if inner.sets.is_some() || !inner.is_grouped {
        return None;
    }
    let reads_keys = |expr: &Expr| {
        let mut fits = !expr.has_subquery() && !expr.is_volatile();
        expr.each_column(&mut |column| {
            fits &= column.instance == source.instance && column.index < inner.keys.len()
        });
        fits
    };
    if !group.keys.iter().all(reads_keys) {
        return None;
    }
    let mut merged = vec![];
    for call in &group.aggregates {
        merged.push(total_of_totals(
            call,
            inner,
            source.instance,
            group.is_grouped,
        )?);
    }
    let keys = group
        .keys
        .iter()
        .map(|key| substituted(key, source.instance, &inner.keys))
        .collect();
    Some(Group {
        block: inner.block.clone(),
        keys,
        aggregates: merged,
        is_grouped: group.is_grouped,
        sets: None,
    })
}

fn total_of_totals(
    call: &Aggregate,
    inner: &Group,
    instance: Instance,
    is_grouped: bool,
) -> Option<Aggregate> {
    let is_plain = !call.is_distinct
        && call.filter.is_empty()
        && call.order.is_empty()
        && call.nulls.is_none();
    let [argument] = call.arguments.as_slice() else {
        return None;
    };
    let column = argument
        .as_column()
        .filter(|column| is_plain && column.instance == instance)?;
    let part = inner
        .aggregates
        .get(column.index.checked_sub(inner.keys.len())?)?;
    let fits = match (call.function.as_str(), part.function.as_str()) {
        ("sum", "sum") => !part.is_distinct && part.ty == Type::BIGINT && call.ty == Type::BIGINT,
        ("sum", "count") => !part.is_distinct && is_grouped && call.ty == Type::BIGINT,
        ("min", "min") | ("max", "max") | ("bool_and", "bool_and") | ("bool_or", "bool_or") => true,
        _ => false,
    };
    debug_assert!(!fits || aggregates::is_order_free(&part.function));
    fits.then(|| part.clone())
}
