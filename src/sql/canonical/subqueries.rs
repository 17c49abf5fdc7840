//! Rules on queries inside expressions.
//! In: a block and the expressions that read it. Out: their subqueries in normal form, and EXISTS over as little as tells whether there
//! is a row.

use std::collections::BTreeSet;

use super::form::{Block, Expr, Instance, Node, Relation, Source};
use super::rules::Rules;

impl Rules<'_> {
    pub fn simplify_subqueries(
        &self,
        block: &mut Block,
        heads: &mut [&mut Expr],
        around: &[&Block],
    ) {
        let outside = block.clone();
        let around = [around, &[&outside]].concat();
        let own = block
            .exprs_mut()
            .into_iter()
            .chain(heads.iter_mut().map(|head| &mut **head));
        own.for_each(|expr| self.simplify_subqueries_of(expr, &around));
    }

    fn simplify_subqueries_of(&self, expr: &mut Expr, around: &[&Block]) {
        for child in expr.children_mut() {
            self.simplify_subqueries_of(child, around);
        }
        let is_exists = matches!(expr.node, Node::Exists(_));
        let Some(relation) = expr.subquery_mut() else {
            return;
        };
        let owned = std::mem::replace(relation, Relation::Union { branches: vec![] });
        *relation = self.simplify(owned, around, is_exists);
        if is_exists {
            self.exists(expr);
        }
    }

    /// EXISTS over a group is EXISTS over its rows; a global aggregate always has a row; no row is FALSE.
    fn exists(&self, expr: &mut Expr) {
        let Node::Exists(relation) = &mut expr.node else {
            return;
        };
        let Relation::Select { block, outputs } = relation.as_mut() else {
            return;
        };
        outputs.clear();
        if block
            .predicates
            .iter()
            .any(|predicate| predicate.is_truth(false))
        {
            *expr = Expr::truth(false);
            return;
        }
        // Left joins add no row and remove none; only a predicate can still ask for them.
        let read: BTreeSet<Instance> = block.predicates.iter().flat_map(Expr::instances).collect();
        let needed = |block: &Block, instance: Instance| {
            read.contains(&instance)
                || block.optional.iter().any(|other| {
                    other.source.instance != instance
                        && other.on.iter().any(|on| on.reads(instance))
                })
        };
        let droppable: Vec<Instance> = block
            .optional
            .iter()
            .map(|optional| optional.source.instance)
            .filter(|instance| !needed(block, *instance))
            .collect();
        block
            .optional
            .retain(|optional| !droppable.contains(&optional.source.instance));
        let is_lone =
            block.predicates.is_empty() && block.optional.is_empty() && block.sources.len() == 1;
        if is_lone
            && matches!(&block.sources[0].relation, Relation::Group(group) if !group.is_grouped)
        {
            *expr = Expr::truth(true);
            return;
        }
        self.open_exists_groups(block);
    }

    /// A group whose columns nobody reads has a row exactly when its input has.
    fn open_exists_groups(&self, block: &mut Block) {
        let read: BTreeSet<Instance> = block
            .exprs()
            .into_iter()
            .flat_map(Expr::instances)
            .collect();
        let mut opened = vec![];
        for source in std::mem::take(&mut block.sources) {
            match source.relation {
                Relation::Group(group)
                    if group.is_grouped
                        && group.sets.is_none()
                        && !read.contains(&source.instance) =>
                {
                    opened.push(group.block);
                }
                relation => block.sources.push(Source {
                    instance: source.instance,
                    relation,
                }),
            }
        }
        for inner in opened {
            block.sources.extend(inner.sources);
            block.optional.extend(inner.optional);
            block.predicates.extend(inner.predicates);
        }
    }
}
