//! What can be asked of a relation and done to it: its width and types, what stands in it and below it, new instances.

use super::{Aggregate, Block, Expr, Instance, Limit, Relation, WindowCall};
use crate::sql::canonical::types::Type;

impl Relation {
    pub fn width(&self) -> usize {
        self.types().len()
    }

    pub fn types(&self) -> Vec<Type> {
        let types_of =
            |exprs: &[Expr]| exprs.iter().map(|expr| expr.ty.clone()).collect::<Vec<_>>();
        match self {
            Relation::Scan(scan) => scan.columns.iter().map(|(_, ty)| ty.clone()).collect(),
            Relation::Select { outputs, .. } | Relation::Limit(Limit { outputs, .. }) => {
                types_of(outputs)
            }
            Relation::Group(group) => {
                let mut types = types_of(&group.keys);
                types.extend(
                    group
                        .aggregates
                        .iter()
                        .map(|aggregate| aggregate.ty.clone()),
                );
                types
            }
            Relation::Window { outputs, calls, .. } => {
                let mut types = types_of(outputs);
                types.extend(calls.iter().map(|call| call.ty.clone()));
                types
            }
            Relation::Union { branches } => {
                branches.first().map(Relation::types).unwrap_or_default()
            }
            Relation::Full { left, right, .. } => {
                let mut types = left.relation.types();
                types.extend(right.relation.types());
                types
            }
            Relation::Values { types, .. } | Relation::Opaque { types, .. } => types.clone(),
        }
    }

    pub fn block(&self) -> Option<&Block> {
        match self {
            Relation::Select { block, .. } | Relation::Window { block, .. } => Some(block),
            Relation::Group(group) => Some(&group.block),
            Relation::Limit(limit) => Some(&limit.block),
            _ => None,
        }
    }

    pub fn block_mut(&mut self) -> Option<&mut Block> {
        match self {
            Relation::Select { block, .. } | Relation::Window { block, .. } => Some(block),
            Relation::Group(group) => Some(&mut group.block),
            Relation::Limit(limit) => Some(&mut limit.block),
            _ => None,
        }
    }

    /// The expressions of this relation itself, without its block's and its inputs'.
    pub fn head_exprs(&self) -> Vec<&Expr> {
        match self {
            Relation::Scan(_) | Relation::Union { .. } => vec![],
            Relation::Select { outputs, .. } => outputs.iter().collect(),
            Relation::Group(group) => group
                .keys
                .iter()
                .chain(group.aggregates.iter().flat_map(Aggregate::exprs))
                .collect(),
            Relation::Window { outputs, calls, .. } => outputs
                .iter()
                .chain(calls.iter().flat_map(WindowCall::exprs))
                .collect(),
            Relation::Limit(limit) => limit
                .outputs
                .iter()
                .chain(limit.order.iter().map(|key| &key.expr))
                .collect(),
            Relation::Full { on, .. } => on.iter().collect(),
            Relation::Values { rows, .. } => rows.iter().flatten().collect(),
            Relation::Opaque { expressions, .. } => expressions.iter().collect(),
        }
    }

    pub fn head_exprs_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Relation::Scan(_) | Relation::Union { .. } => vec![],
            Relation::Select { outputs, .. } => outputs.iter_mut().collect(),
            Relation::Group(group) => group
                .keys
                .iter_mut()
                .chain(group.aggregates.iter_mut().flat_map(Aggregate::exprs_mut))
                .collect(),
            Relation::Window { outputs, calls, .. } => outputs
                .iter_mut()
                .chain(calls.iter_mut().flat_map(WindowCall::exprs_mut))
                .collect(),
            Relation::Limit(limit) => limit
                .outputs
                .iter_mut()
                .chain(limit.order.iter_mut().map(|key| &mut key.expr))
                .collect(),
            Relation::Full { on, .. } => on.iter_mut().collect(),
            Relation::Values { rows, .. } => rows.iter_mut().flatten().collect(),
            Relation::Opaque { expressions, .. } => expressions.iter_mut().collect(),
        }
    }

    /// The relations directly below.
    pub fn inputs(&self) -> Vec<&Relation> {
        match self {
            Relation::Union { branches } => branches.iter().collect(),
            Relation::Full { left, right, .. } => vec![&left.relation, &right.relation],
            Relation::Opaque { inputs, .. } => {
                inputs.iter().map(|source| &source.relation).collect()
            }
            _ => self.block().map(Block::relations).unwrap_or_default(),
        }
    }

    pub fn inputs_mut(&mut self) -> Vec<&mut Relation> {
        match self {
            Relation::Union { branches } => branches.iter_mut().collect(),
            Relation::Full { left, right, .. } => vec![&mut left.relation, &mut right.relation],
            Relation::Opaque { inputs, .. } => inputs
                .iter_mut()
                .map(|source| &mut source.relation)
                .collect(),
            _ => self
                .block_mut()
                .map(Block::relations_mut)
                .unwrap_or_default(),
        }
    }

    /// Visits the expressions of this relation and of everything below.
    pub fn each_expr(&self, visit: &mut dyn FnMut(&Expr)) {
        self.head_exprs().into_iter().for_each(&mut *visit);
        if let Some(block) = self.block() {
            block.exprs().into_iter().for_each(&mut *visit);
        }
        for input in self.inputs() {
            input.each_expr(visit);
        }
    }

    pub fn each_expr_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        self.head_exprs_mut().into_iter().for_each(&mut *visit);
        if let Some(block) = self.block_mut() {
            block.exprs_mut().into_iter().for_each(&mut *visit);
        }
        for input in self.inputs_mut() {
            input.each_expr_mut(visit);
        }
    }

    pub fn is_volatile(&self) -> bool {
        let mut found = false;
        self.each_expr(&mut |expr| found |= expr.is_volatile());
        found
    }

    /// Every instance bound anywhere inside, with those of subqueries.
    pub fn bound_instances(&self) -> Vec<Instance> {
        let mut found = vec![];
        self.collect_instances(&mut found);
        found
    }

    pub(super) fn collect_instances(&self, found: &mut Vec<Instance>) {
        match self {
            Relation::Full { left, right, .. } => found.extend([left.instance, right.instance]),
            Relation::Opaque { inputs, .. } => {
                found.extend(inputs.iter().map(|source| source.instance))
            }
            _ => found.extend(self.block().map(Block::instances).unwrap_or_default()),
        }
        for input in self.inputs() {
            input.collect_instances(found);
        }
        let own = self
            .head_exprs()
            .into_iter()
            .chain(self.block().map(Block::exprs).unwrap_or_default());
        own.for_each(|expr| expr.collect_subquery_instances(found));
    }

    /// Gives every bound instance a new number, so that a shared relation can stand twice in one plan.
    pub fn renumber(&mut self, fresh: &mut dyn FnMut() -> Instance) {
        let map: std::collections::HashMap<_, _> = self
            .bound_instances()
            .into_iter()
            .map(|old| (old, fresh()))
            .collect();
        self.rename_instances(&map);
    }

    pub(super) fn rename_instances(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
        self.rename_bound(map);
        self.each_expr_mut(&mut |expr| expr.rename_instances(map));
    }

    pub(super) fn rename_bound(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
        let rename =
            |instance: &mut Instance| *instance = map.get(instance).copied().unwrap_or(*instance);
        match self {
            Relation::Full { left, right, .. } => {
                rename(&mut left.instance);
                rename(&mut right.instance);
            }
            Relation::Opaque { inputs, .. } => inputs
                .iter_mut()
                .for_each(|source| rename(&mut source.instance)),
            _ => {
                if let Some(block) = self.block_mut() {
                    block
                        .sources_mut()
                        .into_iter()
                        .for_each(|source| rename(&mut source.instance));
                }
            }
        }
        for input in self.inputs_mut() {
            input.rename_bound(map);
        }
    }
}
