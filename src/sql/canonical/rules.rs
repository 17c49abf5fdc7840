//! The walk that applies the rules until nothing changes.
//! In: a bound [`Relation`]. Out: an equal one in normal form, always a select at the top, and the constraints leaned on.
//! Selects melt into the block above them; what remains nested is what cannot melt: groups, windows, limits, unions,
//! full joins and the right sides of left joins.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use super::aggregates::{self, Calls};
use super::catalog::Catalog;
use super::context::{Assumptions, Context, never_null};
use super::form::{Block, ColumnRef, Expr, Group, Instance, Limit, Relation, Source, WindowCall};
use super::{block, equality, keys, order, predicate, prune, push, scalar, windows};

/// More rounds than any sound plan needs; a plan that still changes is only less normal.
const ROUNDS: usize = 12;

/// Normalises a whole query.
pub(super) fn normalise(relation: Relation, catalog: &Catalog) -> (Relation, Assumptions) {
    let next = relation.bound_instances().into_iter().max().unwrap_or(0);
    let rules = Rules {
        catalog,
        used: RefCell::default(),
        next: Cell::new(next),
    };
    let mut relation = relation;
    order::drop_unobserved(&mut relation, false);
    prune::prune_root(&mut relation);
    for _ in 0..ROUNDS {
        let before = relation.clone();
        relation = rules.simplify(relation, &[], false);
        prune::prune_root(&mut relation);
        if relation == before {
            break;
        }
    }
    (relation, rules.used.into_inner())
}

/// Whether the values of `known` fix the row of a block. NULLs are one group to GROUP BY and are not compared by UNIQUE.
pub(super) fn identifies(block: &Block, known: &[Expr], catalog: &Catalog) -> bool {
    let rules = Rules {
        catalog,
        used: RefCell::default(),
        next: Cell::new(0),
    };
    let is_group = matches!(
        block.sources.as_slice(),
        [Source {
            relation: Relation::Group(_),
            ..
        }]
    ) && block.optional.is_empty();
    match is_group {
        true => keys::determined(catalog, block, known).is_some(),
        false => rules.is_key(block, known),
    }
}

pub(super) struct Rules<'a> {
    pub catalog: &'a Catalog,
    pub used: RefCell<Assumptions>,
    next: Cell<Instance>,
}

impl Rules<'_> {
    pub fn fresh(&self) -> Instance {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    pub fn note(&self, assumptions: Assumptions) {
        self.used.borrow_mut().extend(assumptions);
    }

    /// One pass from the leaves up. `around` are the blocks of the queries outside a subquery, the nearest last;
    /// `ignores_repeats` says that whoever reads the rows cannot see how often one comes.
    pub fn simplify(
        &self,
        relation: Relation,
        around: &[&Block],
        ignores_repeats: bool,
    ) -> Relation {
        match relation {
            Relation::Select { block, outputs } => {
                self.select(block, outputs, around, ignores_repeats)
            }
            Relation::Group(group) => self.group(group, around),
            Relation::Window {
                block,
                outputs,
                calls,
            } => self.window(block, outputs, calls, around),
            Relation::Limit(limit) => self.limit(limit, around),
            Relation::Union { branches } => self.union(branches, around, ignores_repeats),
            Relation::Full {
                mut left,
                mut right,
                on,
            } => {
                left.relation = self.simplify(left.relation, around, false);
                right.relation = self.simplify(right.relation, around, false);
                let on = predicate::filter(on, &Context::new(&|_| None, &self.used));
                self.all_of(Relation::Full { left, right, on })
            }
            Relation::Opaque {
                text,
                types,
                mut inputs,
                expressions,
            } => {
                for input in &mut inputs {
                    let owned = std::mem::replace(
                        &mut input.relation,
                        Relation::Union { branches: vec![] },
                    );
                    input.relation = self.simplify(owned, around, false);
                }
                self.all_of(Relation::Opaque {
                    text,
                    types,
                    inputs,
                    expressions,
                })
            }
            Relation::Values { rows, types } => {
                let context = Context::new(&|_| None, &self.used);
                let simplify = |row: Vec<Expr>| {
                    row.into_iter()
                        .map(|expr| scalar::simplify(expr, &context))
                        .collect()
                };
                self.all_of(Relation::Values {
                    rows: rows.into_iter().map(simplify).collect(),
                    types,
                })
            }
            scan @ Relation::Scan(_) => self.all_of(scan),
        }
    }

    /// Every column of a relation that does not melt.
    fn all_of(&self, relation: Relation) -> Relation {
        let source = Source {
            instance: self.fresh(),
            relation,
        };
        let outputs = source.columns();
        Relation::Select {
            block: Block::over(source),
            outputs,
        }
    }

    fn select(
        &self,
        mut block: Block,
        mut outputs: Vec<Expr>,
        around: &[&Block],
        ignores_repeats: bool,
    ) -> Relation {
        self.prepare(
            &mut block,
            outputs.iter_mut().collect(),
            around,
            ignores_repeats,
        );
        self.simplify_heads(&block, outputs.iter_mut().collect(), around);
        if let Some(branches) = push::into_union(&block, &outputs) {
            let branches = branches
                .into_iter()
                .map(|branch| self.simplify(branch, around, ignores_repeats))
                .collect();
            return self.union(branches, around, ignores_repeats);
        }
        Relation::Select { block, outputs }
    }

    fn union(&self, branches: Vec<Relation>, around: &[&Block], ignores_repeats: bool) -> Relation {
        let mut flat = vec![];
        for branch in branches {
            let branch = self.simplify(branch, around, ignores_repeats);
            flatten_union(branch, &mut flat);
        }
        // A branch without rows adds none; one such branch stays when there is no other, for its columns.
        match flat.iter().all(is_empty) {
            true => flat.truncate(1),
            false => flat.retain(|branch| !is_empty(branch)),
        }
        match flat.len() {
            1 => flat.remove(0),
            _ => self.union_of(flat),
        }
    }

    fn union_of(&self, branches: Vec<Relation>) -> Relation {
        self.all_of(Relation::Union { branches })
    }

    fn group(&self, mut group: Group, around: &[&Block]) -> Relation {
        let ignores_repeats = group.is_grouped
            && group.sets.is_none()
            && group.aggregates.iter().all(aggregates::ignores_repeats)
            || !group.is_grouped && group.aggregates.iter().all(aggregates::ignores_repeats);
        let Group {
            block,
            keys,
            aggregates,
            ..
        } = &mut group;
        let heads = keys
            .iter_mut()
            .chain(aggregates.iter_mut().flat_map(|call| call.exprs_mut()))
            .collect();
        self.prepare(block, heads, around, ignores_repeats);
        self.simplify_heads(block, keys.iter_mut().collect(), around);
        if group.sets.is_some() {
            return self.all_of(Relation::Group(group));
        }
        self.lowered(group, around)
    }

    /// Lowers the aggregates and keys; the select on top gives the group's columns in the order it had.
    fn lowered(&self, group: Group, around: &[&Block]) -> Relation {
        let facts = |column| self.fact(&group.block, around, column);
        let context = Context::new(&facts, &self.used);
        let instance = self.fresh();
        let mut kept: Vec<Expr> = vec![];
        for key in &group.keys {
            if key.as_literal().is_none() && !kept.contains(key) {
                kept.push(key.clone());
            }
        }
        let mut outputs: Vec<Expr> = group
            .keys
            .iter()
            .map(|key| key_column(key, &kept, instance))
            .collect();
        let mut calls = Calls {
            instance,
            offset: kept.len(),
            found: vec![],
        };
        let rows: Vec<Expr> = group
            .block
            .predicates
            .iter()
            .filter(|row| group.block.is_inner(row))
            .cloned()
            .collect();
        for call in &group.aggregates {
            let mut call = call.clone();
            if call.is_distinct
                && call.arguments.len() == 1
                && self.is_key(&group.block, &call.arguments)
            {
                call.is_distinct = false;
            }
            outputs.push(aggregates::lower(
                call,
                group.is_grouped,
                &rows,
                &context,
                &mut calls,
            ));
        }
        let lowered = Group {
            keys: kept,
            aggregates: calls.found,
            ..group
        };
        if let Some(select) = self.distinct_of_key(&lowered, instance, &outputs) {
            return select;
        }
        let facts = |column| self.fact(&lowered.block, around, column);
        let context = Context::new(&facts, &self.used);
        let counted = push::count_distinct(&lowered, &|column| context.is_not_null(column));
        let mut lowered = push::roll_up(counted.unwrap_or(lowered));
        if let Some(branches) = push::group_into_union(&mut lowered) {
            let branches = branches
                .into_iter()
                .map(|branch| self.simplify(branch, around, false))
                .collect();
            lowered.block.sources[0].relation = Relation::Union { branches };
        }
        Relation::Select {
            block: Block::over(Source {
                instance,
                relation: Relation::Group(lowered),
            }),
            outputs,
        }
    }

    /// The values fix the row, so that no two rows share them.
    fn is_key(&self, block: &Block, known: &[Expr]) -> bool {
        let never_null = known.iter().all(|expr| {
            never_null(expr, &|column| {
                keys::filtered_not_null(self.catalog, block, column)
            })
            .is_some_and(|found| {
                self.note(found);
                true
            })
        });
        if !never_null {
            return false;
        }
        keys::determined(self.catalog, block, known).is_some_and(|assumptions| {
            self.note(assumptions);
            true
        })
    }

    /// DISTINCT over columns that hold a key drops nothing.
    fn distinct_of_key(
        &self,
        group: &Group,
        instance: Instance,
        outputs: &[Expr],
    ) -> Option<Relation> {
        if !group.aggregates.is_empty() || !group.is_grouped {
            return None;
        }
        let assumptions = keys::determined(self.catalog, &group.block, &group.keys)?;
        self.note(assumptions);
        let mut outputs = outputs.to_vec();
        let replace = |column: ColumnRef| {
            (column.instance == instance).then(|| group.keys[column.index].clone())
        };
        outputs
            .iter_mut()
            .for_each(|output| output.replace_columns(&replace));
        Some(Relation::Select {
            block: group.block.clone(),
            outputs,
        })
    }

    fn window(
        &self,
        mut block: Block,
        mut outputs: Vec<Expr>,
        mut calls: Vec<WindowCall>,
        around: &[&Block],
    ) -> Relation {
        let heads = outputs
            .iter_mut()
            .chain(calls.iter_mut().flat_map(|call| call.exprs_mut()))
            .collect();
        self.prepare(&mut block, heads, around, false);
        let heads = outputs
            .iter_mut()
            .chain(calls.iter_mut().flat_map(|call| call.exprs_mut()))
            .collect();
        self.simplify_heads(&block, heads, around);
        calls.iter_mut().for_each(windows::tidy);
        if calls.is_empty() {
            return Relation::Select { block, outputs };
        }
        self.all_of(Relation::Window {
            block,
            outputs,
            calls,
        })
    }

    fn limit(&self, mut limit: Limit, around: &[&Block]) -> Relation {
        let Limit {
            block,
            outputs,
            order,
            ..
        } = &mut limit;
        let heads = outputs
            .iter_mut()
            .chain(order.iter_mut().map(|key| &mut key.expr))
            .collect();
        self.prepare(block, heads, around, false);
        let heads = outputs
            .iter_mut()
            .chain(order.iter_mut().map(|key| &mut key.expr))
            .collect();
        self.simplify_heads(block, heads, around);
        let mut seen = BTreeSet::new();
        order.retain(|key| key.expr.as_literal().is_none() && seen.insert(key.expr.clone()));
        if limit.fetch.is_none() && limit.skip == 0 && limit.order.is_empty() {
            return Relation::Select {
                block: limit.block,
                outputs: limit.outputs,
            };
        }
        self.all_of(Relation::Limit(limit))
    }

    /// Normalises a block and everything below; `heads` are the expressions of its relation and follow every move.
    fn prepare(
        &self,
        block: &mut Block,
        mut heads: Vec<&mut Expr>,
        around: &[&Block],
        ignores_repeats: bool,
    ) {
        self.melt(block, &mut heads, around, ignores_repeats);
        self.simplify_subqueries(block, &mut heads, around);
        self.simplify_predicates(block, around);
        windows::count_from_one(block);
        equality::substitute_equal(block, &mut heads);
        push::predicates_down(block);
        block::strengthen_left_joins(block);
        block::move_on_down(block);
        block::pull_strict_outputs(block, &mut heads);
        block::anti_join(self, block, &mut heads);
        block::drop_optional(self, block, &heads, ignores_repeats);
        block::merge_same_rows(self, block, &mut heads);
        block::drop_sources(self, block, &mut heads, ignores_repeats);
    }

    /// Simplifies the sources and melts selects into the block.
    fn melt(
        &self,
        block: &mut Block,
        heads: &mut [&mut Expr],
        around: &[&Block],
        ignores_repeats: bool,
    ) {
        let mut moved: HashMap<Instance, Vec<Expr>> = HashMap::new();
        let mut melted = Block::default();
        for source in std::mem::take(&mut block.sources) {
            let relation = self.simplify(source.relation, around, ignores_repeats);
            match relation {
                Relation::Select {
                    block: inner,
                    outputs,
                } if !outputs.iter().any(Expr::is_volatile) => {
                    melted.sources.extend(inner.sources);
                    melted.optional.extend(inner.optional);
                    melted.predicates.extend(inner.predicates);
                    moved.insert(source.instance, outputs);
                }
                relation => melted.sources.push(Source {
                    instance: source.instance,
                    relation,
                }),
            }
        }
        for mut optional in std::mem::take(&mut block.optional) {
            optional.source.relation = self.simplify(optional.source.relation, around, false);
            melted.optional.push(optional);
        }
        melted.predicates.append(&mut block.predicates);
        *block = melted;
        let replace = |column: ColumnRef| {
            moved
                .get(&column.instance)
                .map(|outputs| outputs[column.index].clone())
        };
        let own = block
            .exprs_mut()
            .into_iter()
            .chain(heads.iter_mut().map(|head| &mut **head));
        own.for_each(|expr| expr.replace_columns(&replace));
    }

    fn simplify_predicates(&self, block: &mut Block, around: &[&Block]) {
        let predicates = std::mem::take(&mut block.predicates);
        let facts = |column| self.declared(block, around, column);
        let predicates = predicate::filter(predicates, &Context::new(&facts, &self.used));
        block.predicates = predicates;
        for index in 0..block.optional.len() {
            let on = std::mem::take(&mut block.optional[index].on);
            let facts = |column: ColumnRef| {
                let own = &block.optional[index].source;
                match column.instance == own.instance {
                    true => keys::not_null(self.catalog, &own.relation, column.index),
                    false => self.fact(block, around, column),
                }
            };
            let on = predicate::filter(on, &Context::new(&facts, &self.used));
            block.optional[index].on = on;
        }
    }

    fn simplify_heads(&self, block: &Block, heads: Vec<&mut Expr>, around: &[&Block]) {
        let facts = |column| self.fact(block, around, column);
        let context = Context::new(&facts, &self.used);
        for head in heads {
            let owned = std::mem::replace(head, Expr::truth(true));
            *head = scalar::simplify(owned, &context);
        }
    }

    /// What is known of a column after the block's filters.
    fn fact(&self, block: &Block, around: &[&Block], column: ColumnRef) -> Option<Assumptions> {
        let own = block.instances().contains(&column.instance);
        if own {
            keys::filtered_not_null(self.catalog, block, column)
        } else {
            self.outer_fact(around, column)
        }
    }

    /// What is known of a column before the block's filters.
    fn declared(&self, block: &Block, around: &[&Block], column: ColumnRef) -> Option<Assumptions> {
        let own = block.instances().contains(&column.instance);
        if own {
            keys::declared_not_null(self.catalog, block, column)
        } else {
            self.outer_fact(around, column)
        }
    }

    /// A subquery sees rows of the outer product before all of its filters, so only declarations count.
    fn outer_fact(&self, around: &[&Block], column: ColumnRef) -> Option<Assumptions> {
        around
            .iter()
            .rev()
            .find_map(|block| keys::declared_not_null(self.catalog, block, column))
    }
}

fn key_column(key: &Expr, kept: &[Expr], instance: Instance) -> Expr {
    match kept.iter().position(|earlier| earlier == key) {
        Some(index) => Expr::column(instance, index, key.ty.clone()),
        None => key.clone(),
    }
}

/// `UNION ALL` of `UNION ALL` is one union.
fn flatten_union(branch: Relation, flat: &mut Vec<Relation>) {
    if let Relation::Select { block, outputs } = &branch
        && block.sources.len() == 1
        && block.optional.is_empty()
        && block.predicates.is_empty()
        && let Relation::Union { branches } = &block.sources[0].relation
        && outputs.len() == block.sources[0].relation.width()
        && *outputs == block.sources[0].columns()
    {
        flat.extend(branches.iter().cloned());
        return;
    }
    flat.push(branch);
}

fn is_empty(relation: &Relation) -> bool {
    matches!(relation, Relation::Select { block, .. } if block.predicates.iter().any(|predicate| predicate.is_truth(false)))
}
