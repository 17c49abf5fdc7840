//! Columns that nobody reads.
//! In: a relation and the columns its reader uses. Out: the relation without the others.
//! DISTINCT and other groups use all their keys, a union prunes by position; whether a column is there changes no row.

use std::collections::{BTreeMap, BTreeSet};

use super::form::{Block, ColumnRef, Expr, Instance, Relation, Source};

/// Where a column went: old position to new position.
type Moves = BTreeMap<usize, usize>;

/// Prunes below a query whose own columns are all wanted.
pub(super) fn prune_root(relation: &mut Relation) {
    prune_below(relation);
}

/// Keeps the `used` columns of a relation and says where they are now.
fn prune(relation: &mut Relation, used: &BTreeSet<usize>) -> Moves {
    let moves = match relation {
        Relation::Select { outputs, .. } => keep(outputs, used),
        Relation::Limit(limit) => keep(&mut limit.outputs, used),
        Relation::Group(group) if group.sets.is_none() => {
            let keys = group.keys.len();
            let calls: BTreeSet<usize> = used
                .iter()
                .filter(|index| **index >= keys)
                .map(|index| index - keys)
                .collect();
            let mut moves: Moves = (0..keys).map(|index| (index, index)).collect();
            moves.extend(
                keep(&mut group.aggregates, &calls)
                    .into_iter()
                    .map(|(old, new)| (old + keys, new + keys)),
            );
            moves
        }
        Relation::Window { outputs, calls, .. } => {
            let width = outputs.len();
            let used_calls = used
                .iter()
                .filter(|index| **index >= width)
                .map(|index| index - width)
                .collect();
            let own: BTreeSet<usize> = used
                .iter()
                .filter(|index| **index < width)
                .copied()
                .collect();
            let mut moves = keep(outputs, &own);
            let kept = outputs.len();
            moves.extend(
                keep(calls, &used_calls)
                    .into_iter()
                    .map(|(old, new)| (old + width, new + kept)),
            );
            moves
        }
        Relation::Union { branches } => prune_union(branches, used),
        Relation::Full { .. } => prune_full(relation, used),
        _ => (0..relation.width()).map(|index| (index, index)).collect(),
    };
    prune_below(relation);
    moves
}

/// Keeps some items, equal ones once.
fn keep<T: PartialEq + Clone>(items: &mut Vec<T>, used: &BTreeSet<usize>) -> Moves {
    let mut kept: Vec<T> = vec![];
    let mut moves = Moves::new();
    for (index, item) in items
        .iter()
        .enumerate()
        .filter(|(index, _)| used.contains(index))
    {
        let position = kept
            .iter()
            .position(|earlier| earlier == item)
            .unwrap_or_else(|| {
                kept.push(item.clone());
                kept.len() - 1
            });
        moves.insert(index, position);
    }
    *items = kept;
    moves
}

fn prune_union(branches: &mut [Relation], used: &BTreeSet<usize>) -> Moves {
    for branch in branches {
        let Relation::Select { outputs, .. } = branch else {
            continue;
        };
        *outputs = used.iter().map(|index| outputs[*index].clone()).collect();
        prune_below(branch);
    }
    used.iter()
        .enumerate()
        .map(|(new, old)| (*old, new))
        .collect()
}

fn prune_full(relation: &mut Relation, used: &BTreeSet<usize>) -> Moves {
    let Relation::Full { left, right, on } = relation else {
        unreachable!("matched by the caller")
    };
    let width = left.relation.width();
    let side = |source: &Source, offset: usize| -> BTreeSet<usize> {
        let mut columns: BTreeSet<usize> = (0..source.relation.width())
            .filter(|index| used.contains(&(index + offset)))
            .collect();
        on.iter()
            .for_each(|expr| collect(expr, source.instance, &mut columns));
        columns
    };
    let (left_used, right_used) = (side(left, 0), side(right, width));
    let left_moves = prune(&mut left.relation, &left_used);
    let right_moves = prune(&mut right.relation, &right_used);
    for expr in on.iter_mut() {
        apply(expr, left.instance, &left_moves);
        apply(expr, right.instance, &right_moves);
    }
    let kept = left.relation.width();
    let mut moves = left_moves;
    moves.extend(
        right_moves
            .into_iter()
            .map(|(old, new)| (old + width, new + kept)),
    );
    moves
}

/// Prunes what stands below a relation, after its own columns were chosen.
fn prune_below(relation: &mut Relation) {
    let mut exprs: Vec<Expr> = relation.head_exprs().into_iter().cloned().collect();
    if let Some(block) = relation.block() {
        exprs.extend(block.exprs().into_iter().cloned());
    }
    let moves = match relation.block_mut() {
        Some(block) => prune_block(block, &exprs),
        None => {
            if let Relation::Opaque { inputs, .. } = relation {
                inputs
                    .iter_mut()
                    .for_each(|source| prune_below(&mut source.relation));
            }
            if let Relation::Union { branches } = relation {
                branches.iter_mut().for_each(prune_below);
            }
            return;
        }
    };
    let fix = |expr: &mut Expr| {
        moves
            .iter()
            .for_each(|(instance, moves)| apply(expr, *instance, moves))
    };
    relation.head_exprs_mut().into_iter().for_each(fix);
    if let Some(block) = relation.block_mut() {
        block.exprs_mut().into_iter().for_each(fix);
    }
    let own = relation.head_exprs_mut();
    own.into_iter().for_each(prune_subqueries);
    if let Some(block) = relation.block_mut() {
        block.exprs_mut().into_iter().for_each(prune_subqueries);
    }
}

fn prune_block(block: &mut Block, exprs: &[Expr]) -> Vec<(Instance, Moves)> {
    let mut moves = vec![];
    for source in block.sources_mut() {
        let mut used = BTreeSet::new();
        exprs
            .iter()
            .for_each(|expr| collect(expr, source.instance, &mut used));
        moves.push((source.instance, prune(&mut source.relation, &used)));
    }
    moves
}

fn prune_subqueries(expr: &mut Expr) {
    if let Some(relation) = expr.subquery_mut() {
        prune_below(relation);
    }
    expr.children_mut().into_iter().for_each(prune_subqueries);
}

fn collect(expr: &Expr, instance: Instance, used: &mut BTreeSet<usize>) {
    expr.each_column(&mut |column| {
        if column.instance == instance {
            used.insert(column.index);
        }
    });
}

fn apply(expr: &mut Expr, instance: Instance, moves: &Moves) {
    if moves.iter().all(|(old, new)| old == new) {
        return;
    }
    move_columns(expr, instance, moves);
}

fn move_columns(expr: &mut Expr, instance: Instance, moves: &Moves) {
    let ty = expr.ty.clone();
    if let Some(column) = expr.as_column() {
        if column.instance == instance
            && let Some(index) = moves.get(&column.index)
        {
            *expr = Expr {
                node: super::form::Node::Column(ColumnRef {
                    instance,
                    index: *index,
                }),
                ty,
            };
        }
        return;
    }
    expr.children_mut()
        .into_iter()
        .for_each(|child| move_columns(child, instance, moves));
    if let Some(relation) = expr.subquery_mut() {
        relation.each_expr_mut(&mut |inner| move_columns(inner, instance, moves));
    }
}
