//! What keeps or orders whole rows: windows, unions, sorts and limits.

use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr as df;
use datafusion::logical_expr::{FetchType, LogicalPlan, SkipType};

use super::{Binder, Selected, unaliased};
use crate::sql::canonical::bind_expr;
use crate::sql::canonical::form::{ColumnRef, Expr, Limit, Relation, WindowCall};
use crate::sql::canonical::types::Type;
use crate::sql::canonical::windows;

impl Binder<'_> {
    pub(super) fn window(&mut self, window: &df::Window) -> Result<Selected> {
        let input = self.plan(&window.input)?;
        let schema = window.input.schema();
        let mut calls = vec![];
        for expr in &window.window_expr {
            let ty = Type::from(
                window
                    .schema
                    .field(input.outputs.len() + calls.len())
                    .data_type(),
            );
            calls.push(self.window_call(expr, ty, schema, &input.outputs)?);
        }
        Ok(self.over(Relation::Window {
            block: input.block,
            outputs: input.outputs,
            calls,
        }))
    }

    pub(super) fn window_call(
        &mut self,
        expr: &df::Expr,
        ty: Type,
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<WindowCall> {
        let df::Expr::WindowFunction(call) = unaliased(expr) else {
            return Err(DataFusionError::Internal(format!(
                "not a window function: {expr}"
            )));
        };
        let params = &call.params;
        Ok(WindowCall {
            function: call.fun.name().to_string(),
            arguments: self.exprs(&params.args, schema, columns)?,
            is_distinct: params.distinct,
            filter: match &params.filter {
                Some(filter) => vec![self.expr(filter, schema, columns)?],
                None => vec![],
            },
            partition: self.exprs(&params.partition_by, schema, columns)?,
            order: self.sort_keys(&params.order_by, schema, columns)?,
            frame: windows::frame_text(&params.window_frame),
            nulls: params.null_treatment.map(|treatment| treatment.to_string()),
            ty,
        })
    }

    pub(super) fn union(&mut self, union: &df::Union) -> Result<Selected> {
        let types: Vec<Type> = union
            .schema
            .fields()
            .iter()
            .map(|field| Type::from(field.data_type()))
            .collect();
        let mut branches = vec![];
        for input in &union.inputs {
            let mut branch = self.plan(input)?;
            branch.outputs = branch
                .outputs
                .into_iter()
                .zip(&types)
                .map(|(expr, ty)| bind_expr::cast(expr, ty))
                .collect();
            branches.push(branch.into_relation());
        }
        Ok(self.over(Relation::Union { branches }))
    }

    pub(super) fn sort(&mut self, sort: &df::Sort) -> Result<Selected> {
        let input = self.plan(&sort.input)?;
        let order = self.sort_keys(&sort.expr, sort.input.schema(), &input.outputs)?;
        let Selected { block, outputs } = input;
        Ok(self.over(Relation::Limit(Limit {
            block,
            outputs,
            order,
            skip: 0,
            fetch: sort.fetch,
        })))
    }

    pub(super) fn limit(&mut self, limit: &df::Limit) -> Result<Selected> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return self.opaque(&LogicalPlan::Limit(limit.clone()));
        };
        let input = self.plan(&limit.input)?;
        Ok(self.over(Relation::Limit(limit_of(input, skip, fetch))))
    }
}

/// `LIMIT` above an order takes the order into itself; the two may be separated by a projection.
fn limit_of(input: Selected, skip: usize, fetch: Option<usize>) -> Limit {
    let Selected {
        mut block,
        mut outputs,
    } = input;
    let is_plain =
        block.sources.len() == 1 && block.optional.is_empty() && block.predicates.is_empty();
    if is_plain
        && matches!(&block.sources[0].relation, Relation::Limit(inner) if inner.fetch.is_none() && inner.skip == 0)
    {
        let source = block.sources.remove(0);
        let Relation::Limit(inner) = source.relation else {
            unreachable!("matched above")
        };
        let replace = |column: ColumnRef| {
            (column.instance == source.instance).then(|| inner.outputs[column.index].clone())
        };
        outputs
            .iter_mut()
            .for_each(|expr| expr.replace_columns(&replace));
        return Limit {
            block: inner.block,
            outputs,
            order: inner.order,
            skip,
            fetch,
        };
    }
    Limit {
        block,
        outputs,
        order: vec![],
        skip,
        fetch,
    }
}
