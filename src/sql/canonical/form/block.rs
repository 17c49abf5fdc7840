//! Blocks, their sources, and the calls of groups and windows: the expressions and relations in them.

use super::{Aggregate, Block, Expr, Instance, Relation, Source, WindowCall};

impl Block {
    pub fn over(source: Source) -> Block {
        Block {
            sources: vec![source],
            ..Block::default()
        }
    }

    /// The expressions of the block itself: predicates and join conditions.
    pub fn exprs(&self) -> Vec<&Expr> {
        self.predicates
            .iter()
            .chain(self.optional.iter().flat_map(|optional| &optional.on))
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        self.predicates
            .iter_mut()
            .chain(
                self.optional
                    .iter_mut()
                    .flat_map(|optional| &mut optional.on),
            )
            .collect()
    }

    pub fn all_sources(&self) -> Vec<&Source> {
        self.sources
            .iter()
            .chain(self.optional.iter().map(|optional| &optional.source))
            .collect()
    }

    pub fn sources_mut(&mut self) -> Vec<&mut Source> {
        self.sources
            .iter_mut()
            .chain(
                self.optional
                    .iter_mut()
                    .map(|optional| &mut optional.source),
            )
            .collect()
    }

    pub fn relations(&self) -> Vec<&Relation> {
        self.all_sources()
            .into_iter()
            .map(|source| &source.relation)
            .collect()
    }

    pub fn relations_mut(&mut self) -> Vec<&mut Relation> {
        self.sources_mut()
            .into_iter()
            .map(|source| &mut source.relation)
            .collect()
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.all_sources()
            .into_iter()
            .map(|source| source.instance)
            .collect()
    }

    pub fn is_optional(&self, instance: Instance) -> bool {
        self.optional
            .iter()
            .any(|optional| optional.source.instance == instance)
    }

    /// True for a predicate that reads no optional source of this block: it filters before any left join.
    pub fn is_inner(&self, predicate: &Expr) -> bool {
        predicate
            .instances()
            .into_iter()
            .all(|instance| !self.is_optional(instance))
    }
}

impl Source {
    /// The source's columns as expressions.
    pub fn columns(&self) -> Vec<Expr> {
        let types = self.relation.types();
        types
            .into_iter()
            .enumerate()
            .map(|(index, ty)| Expr::column(self.instance, index, ty))
            .collect()
    }
}

impl Aggregate {
    pub fn exprs(&self) -> Vec<&Expr> {
        self.arguments
            .iter()
            .chain(&self.filter)
            .chain(self.order.iter().map(|key| &key.expr))
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        self.arguments
            .iter_mut()
            .chain(&mut self.filter)
            .chain(self.order.iter_mut().map(|key| &mut key.expr))
            .collect()
    }
}

impl WindowCall {
    pub fn exprs(&self) -> Vec<&Expr> {
        let order = self.order.iter().map(|key| &key.expr);
        self.arguments
            .iter()
            .chain(&self.filter)
            .chain(&self.partition)
            .chain(order)
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        let order = self.order.iter_mut().map(|key| &mut key.expr);
        self.arguments
            .iter_mut()
            .chain(&mut self.filter)
            .chain(&mut self.partition)
            .chain(order)
            .collect()
    }
}
