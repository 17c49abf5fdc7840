//! What a relation guarantees: columns without NULL, columns that identify a row.
//! In: relations and the catalog. Out: the assumptions of each guarantee, `None` where there is none.

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::context::{Assumptions, never_null, rejects_null};
use super::form::{
    Block, ColumnRef, Comparison, Expr, Instance, Limit, Node, Relation, WindowCall,
};
use super::literal::Literal;

/// The assumptions under which a column of a relation is never NULL.
pub(super) fn not_null(
    catalog: &Catalog,
    relation: &Relation,
    index: usize,
) -> Option<Assumptions> {
    let in_block = |block: &Block, expr: &Expr| {
        never_null(expr, &|column| filtered_not_null(catalog, block, column))
    };
    match relation {
        Relation::Scan(scan) => catalog.not_null(&scan.table, &scan.columns[index].0),
        Relation::Select { block, outputs } | Relation::Limit(Limit { block, outputs, .. }) => {
            in_block(block, &outputs[index])
        }
        Relation::Group(group) if group.sets.is_some() => None,
        Relation::Group(group) => match group.keys.get(index) {
            Some(key) => in_block(&group.block, key),
            None => {
                let function = &group.aggregates[index - group.keys.len()].function;
                (function == "count").then(Assumptions::new)
            }
        },
        Relation::Window {
            block,
            outputs,
            calls,
        } => match outputs.get(index) {
            Some(output) => in_block(block, output),
            None => numbers_rows(&calls[index - outputs.len()]).then(Assumptions::new),
        },
        Relation::Union { branches } => {
            let mut all = Assumptions::new();
            for branch in branches {
                all.extend(not_null(catalog, branch, index)?);
            }
            Some(all)
        }
        Relation::Full { .. } | Relation::Values { .. } | Relation::Opaque { .. } => None,
    }
}

fn numbers_rows(call: &WindowCall) -> bool {
    matches!(
        call.function.as_str(),
        "row_number" | "rank" | "dense_rank" | "count"
    )
}

/// Declared facts of the columns that a block's inner sources give.
pub(super) fn declared_not_null(
    catalog: &Catalog,
    block: &Block,
    column: ColumnRef,
) -> Option<Assumptions> {
    let source = block
        .sources
        .iter()
        .find(|source| source.instance == column.instance)?;
    not_null(catalog, &source.relation, column.index)
}

/// The same after the block's filters: a filter that no NULL passes needs no declaration.
pub(super) fn filtered_not_null(
    catalog: &Catalog,
    block: &Block,
    column: ColumnRef,
) -> Option<Assumptions> {
    let is_rejected = block.predicates.iter().any(|predicate| {
        let part = predicate_column(predicate, column);
        part.is_some_and(|part| rejects_null(predicate, &part))
    });
    if is_rejected {
        Some(Assumptions::new())
    } else {
        declared_not_null(catalog, block, column)
    }
}

/// The column as it stands in a predicate, with its type.
fn predicate_column(predicate: &Expr, column: ColumnRef) -> Option<Expr> {
    if predicate.as_column() == Some(column) {
        return Some(predicate.clone());
    }
    predicate
        .children()
        .into_iter()
        .find_map(|child| predicate_column(child, column))
}

/// The assumptions under which no two rows agree on `columns`, with NULL equal to NULL unless `ignores_null`.
pub(super) fn unique(
    catalog: &Catalog,
    relation: &Relation,
    columns: &BTreeSet<usize>,
    is_present: &dyn Fn(usize) -> bool,
) -> Option<Assumptions> {
    match relation {
        Relation::Scan(scan) => {
            let position =
                |name: &String| scan.columns.iter().position(|(column, _)| column == name);
            catalog
                .unique(&scan.table)
                .into_iter()
                .find_map(|(key, mut assumptions)| {
                    for name in &key {
                        let index = position(name)?;
                        if !columns.contains(&index) {
                            return None;
                        }
                        if !is_present(index) {
                            assumptions.extend(catalog.not_null(&scan.table, name)?);
                        }
                    }
                    Some(assumptions)
                })
        }
        Relation::Group(group) if group.sets.is_none() => (0..group.keys.len())
            .all(|key| columns.contains(&key))
            .then(Assumptions::new),
        Relation::Select { block, outputs } => {
            determined(catalog, block, &chosen(outputs, columns))
        }
        Relation::Window { block, outputs, .. } => {
            determined(catalog, block, &chosen(outputs, columns))
        }
        Relation::Limit(limit) if limit.fetch == Some(1) => Some(Assumptions::new()),
        Relation::Limit(limit) => {
            determined(catalog, &limit.block, &chosen(&limit.outputs, columns))
        }
        _ => None,
    }
}

fn chosen(outputs: &[Expr], columns: &BTreeSet<usize>) -> Vec<Expr> {
    columns
        .iter()
        .filter_map(|index| outputs.get(*index))
        .cloned()
        .collect()
}

/// The assumptions under which the values of `known` fix the row of a block: the closure of the columns under the
/// block's equalities holds a key of every source.
pub(super) fn determined(catalog: &Catalog, block: &Block, known: &[Expr]) -> Option<Assumptions> {
    let mut closure = Closure {
        catalog,
        block,
        known: known.to_vec(),
        done: BTreeSet::new(),
        assumptions: Assumptions::new(),
    };
    while closure.step() {}
    let is_complete = block
        .instances()
        .iter()
        .all(|instance| closure.done.contains(instance));
    is_complete.then_some(closure.assumptions)
}

struct Closure<'a> {
    catalog: &'a Catalog,
    block: &'a Block,
    known: Vec<Expr>,
    done: BTreeSet<Instance>,
    assumptions: Assumptions,
}

impl Closure<'_> {
    fn step(&mut self) -> bool {
        let grew = self.follow_equalities();
        self.settle_sources() || self.settle_optional() || grew
    }

    fn knows(&self, expr: &Expr) -> bool {
        let is_done = expr
            .as_column()
            .is_some_and(|column| self.done.contains(&column.instance));
        let by_parts = || {
            !expr.children().is_empty()
                && expr.children().into_iter().all(|child| self.knows(child))
        };
        self.known.contains(expr)
            || expr.as_literal().is_some()
            || is_done
            || (!expr.has_subquery() && !expr.is_volatile() && by_parts())
    }

    fn follow_equalities(&mut self) -> bool {
        let before = self.known.len();
        for predicate in &self.block.predicates {
            if !self.block.is_inner(predicate) {
                continue;
            }
            match &predicate.node {
                Node::Compare(Comparison::Equal, left, right) if left.ty.is_exact() => {
                    if self.knows(left) && !self.knows(right) && right.as_column().is_some() {
                        self.known.push((**right).clone());
                    } else if self.knows(right) && !self.knows(left) && left.as_column().is_some() {
                        self.known.push((**left).clone());
                    }
                }
                Node::InSet(subject, points, false)
                    if points.len() == 1 && !self.knows(subject) =>
                {
                    self.known.push((**subject).clone());
                }
                _ => {}
            }
        }
        self.known.len() > before
    }

    fn settle_sources(&mut self) -> bool {
        let before = self.done.len();
        for source in &self.block.sources {
            if self.done.contains(&source.instance) {
                continue;
            }
            let types = source.columns();
            let columns = (0..types.len())
                .filter(|index| self.knows(&types[*index]))
                .collect();
            let is_present = |index: usize| {
                let part = &types[index];
                self.block.predicates.iter().any(|predicate| {
                    self.block.is_inner(predicate) && rejects_null(predicate, part)
                })
            };
            let by_key = unique(self.catalog, &source.relation, &columns, &is_present);
            let found = by_key
                .or_else(|| self.first_of_partition(source.instance, &source.relation, &columns));
            if let Some(assumptions) = found {
                self.assumptions.extend(assumptions);
                self.done.insert(source.instance);
            }
        }
        self.done.len() > before
    }

    /// `row_number() over (partition by k) = 1` leaves one row per k.
    fn first_of_partition(
        &self,
        instance: Instance,
        relation: &Relation,
        columns: &BTreeSet<usize>,
    ) -> Option<Assumptions> {
        let Relation::Window { outputs, calls, .. } = relation else {
            return None;
        };
        let is_first = |index: usize| {
            self.block.predicates.iter().any(|predicate| {
                matches!(&predicate.node, Node::InSet(subject, points, false)
                    if points.len() == 1 && reads_exactly(subject, ColumnRef { instance, index }) && points.first().is_some_and(is_one))
            })
        };
        let partition_known = |call: &WindowCall| {
            call.partition.iter().all(|part| {
                columns
                    .iter()
                    .any(|index| outputs.get(*index) == Some(part))
            })
        };
        let found = calls.iter().enumerate().any(|(position, call)| {
            call.function == "row_number"
                && is_first(outputs.len() + position)
                && partition_known(call)
        });
        found.then(Assumptions::new)
    }

    /// A left join by equality with a key of its right side adds at most one row.
    fn settle_optional(&mut self) -> bool {
        let before = self.done.len();
        for optional in &self.block.optional {
            let source = &optional.source;
            if self.done.contains(&source.instance) {
                continue;
            }
            let knows = |expr: &Expr| self.knows(expr);
            let columns = joined_columns(&optional.on, source.instance, &knows);
            if let Some(assumptions) = unique(self.catalog, &source.relation, &columns, &|_| true) {
                self.assumptions.extend(assumptions);
                self.done.insert(source.instance);
            }
        }
        self.done.len() > before
    }
}

/// The columns of `instance` that a condition equates with something that `is_known`.
pub(super) fn joined_columns(
    on: &[Expr],
    instance: Instance,
    is_known: &dyn Fn(&Expr) -> bool,
) -> BTreeSet<usize> {
    let own = |expr: &Expr| {
        expr.as_column()
            .filter(|column| column.instance == instance)
            .map(|column| column.index)
    };
    let mut columns = BTreeSet::new();
    for predicate in on {
        match &predicate.node {
            Node::Compare(Comparison::Equal, left, right) => match (own(left), own(right)) {
                (Some(index), None) if is_known(right) => columns.insert(index),
                (None, Some(index)) if is_known(left) => columns.insert(index),
                _ => false,
            },
            Node::InSet(subject, points, false) if points.len() == 1 => {
                own(subject).is_some_and(|index| columns.insert(index))
            }
            _ => false,
        };
    }
    columns
}

fn reads_exactly(subject: &Expr, wanted: ColumnRef) -> bool {
    match &subject.node {
        Node::Cast(inner) => reads_exactly(inner, wanted),
        _ => subject.as_column() == Some(wanted),
    }
}

fn is_one(literal: &Literal) -> bool {
    *literal == Literal::Integer(1)
}
