//! Joins: inner ones become one block, the optional side of an outer one keeps its own.

use std::sync::Arc;

use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr as df;
use datafusion::logical_expr::LogicalPlan;

use super::{Binder, Selected};
use crate::sql::canonical::form::{Expr, Node, Optional, Relation, Source};

impl Binder<'_> {
    pub(super) fn join(&mut self, join: &df::Join) -> Result<Selected> {
        let left = self.plan(&join.left)?;
        let right = self.plan(&join.right)?;
        match join.join_type {
            JoinType::Inner => {
                let on = self.join_condition(join, &left.outputs, &right.outputs)?;
                Ok(inner_join(left, right, on))
            }
            JoinType::Left => self.left_join(join, left, right, false),
            JoinType::Right => {
                let width = right.outputs.len();
                let mut mirrored = self.left_join(join, right, left, true)?;
                mirrored.outputs.rotate_left(width);
                Ok(mirrored)
            }
            JoinType::Full => self.full_join(join, left, right),
            JoinType::LeftSemi | JoinType::RightSemi | JoinType::LeftAnti | JoinType::RightAnti
                if !join.null_aware =>
            {
                let on = self.join_condition(join, &left.outputs, &right.outputs)?;
                Ok(semi_join(join.join_type, left, right, on))
            }
            _ => self.opaque(&LogicalPlan::Join(join.clone())),
        }
    }

    pub(super) fn join_condition(
        &mut self,
        join: &df::Join,
        left: &[Expr],
        right: &[Expr],
    ) -> Result<Vec<Expr>> {
        let mut on = vec![];
        for (left_key, right_key) in &join.on {
            let left_key = self.expr(left_key, join.left.schema(), left)?;
            let right_key = self.expr(right_key, join.right.schema(), right)?;
            on.push(match join.null_equality {
                NullEquality::NullEqualsNothing => left_key.equals(right_key),
                NullEquality::NullEqualsNull => {
                    Expr::boolean(Node::DistinctFrom(Box::new(left_key), Box::new(right_key))).not()
                }
            });
        }
        if let Some(filter) = &join.filter {
            let schema = Arc::new(join.left.schema().join(join.right.schema())?);
            on.push(self.expr(filter, &schema, &[left, right].concat())?);
        }
        Ok(on)
    }

    /// The optional side keeps its own block, so that its computed columns are NULL where nothing matched.
    pub(super) fn left_join(
        &mut self,
        join: &df::Join,
        mut kept: Selected,
        optional: Selected,
        is_mirrored: bool,
    ) -> Result<Selected> {
        let source = Source {
            instance: self.fresh(),
            relation: optional.into_relation(),
        };
        let columns = source.columns();
        let on = match is_mirrored {
            false => self.join_condition(join, &kept.outputs, &columns)?,
            true => self.join_condition(join, &columns, &kept.outputs)?,
        };
        kept.outputs.extend(columns);
        kept.block.optional.push(Optional { source, on });
        Ok(kept)
    }

    pub(super) fn full_join(
        &mut self,
        join: &df::Join,
        left: Selected,
        right: Selected,
    ) -> Result<Selected> {
        let left = Box::new(Source {
            instance: self.fresh(),
            relation: left.into_relation(),
        });
        let right = Box::new(Source {
            instance: self.fresh(),
            relation: right.into_relation(),
        });
        let on = self.join_condition(join, &left.columns(), &right.columns())?;
        Ok(self.over(Relation::Full { left, right, on }))
    }
}

fn inner_join(mut left: Selected, right: Selected, on: Vec<Expr>) -> Selected {
    left.block.sources.extend(right.block.sources);
    left.block.optional.extend(right.block.optional);
    left.block.predicates.extend(right.block.predicates);
    left.block.predicates.extend(on);
    left.outputs.extend(right.outputs);
    left
}

fn semi_join(kind: JoinType, left: Selected, right: Selected, on: Vec<Expr>) -> Selected {
    let (mut kept, tested) = match kind {
        JoinType::RightSemi | JoinType::RightAnti => (right, left),
        _ => (left, right),
    };
    let mut block = tested.block;
    block.predicates.extend(on);
    let exists = Expr::boolean(Node::Exists(Box::new(Relation::Select {
        block,
        outputs: vec![],
    })));
    let is_anti = matches!(kind, JoinType::LeftAnti | JoinType::RightAnti);
    kept.block
        .predicates
        .push(if is_anti { exists.not() } else { exists });
    kept
}
