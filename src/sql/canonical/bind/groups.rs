//! Groups: keys, grouping sets, aggregate calls and DISTINCT.

use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr as df;
use datafusion::logical_expr::LogicalPlan;

use super::{Binder, Selected, unaliased};
use crate::sql::canonical::form::{Aggregate, Expr, Group, Relation};
use crate::sql::canonical::types::Type;
use crate::sql::canonical::windows;

impl Binder<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &df::Aggregate) -> Result<Selected> {
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let (keys, sets) = self.group_keys(&aggregate.group_expr, schema, &input.outputs)?;
        let mut aggregates = vec![];
        let width = keys.len() + usize::from(sets.is_some()) + aggregate.aggr_expr.len();
        if aggregate.schema.fields().len() != width {
            return Err(DataFusionError::Internal(format!(
                "an aggregate of {width} columns has another schema"
            )));
        }
        if sets.is_some() {
            let ty = Type::from(aggregate.schema.field(keys.len()).data_type());
            aggregates.push(plain_aggregate("grouping_id", ty));
        }
        for expr in &aggregate.aggr_expr {
            let field = aggregate.schema.field(keys.len() + aggregates.len());
            let ty = Type::from(field.data_type());
            aggregates.push(self.aggregate_call(expr, ty, schema, &input.outputs)?);
        }
        let is_grouped = !aggregate.group_expr.is_empty();
        Ok(self.over(Relation::Group(Group {
            block: input.block,
            keys,
            aggregates,
            is_grouped,
            sets,
        })))
    }

    #[allow(clippy::type_complexity)]
    pub(super) fn group_keys(
        &mut self,
        group: &[df::Expr],
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<(Vec<Expr>, Option<Vec<Vec<usize>>>)> {
        let [df::Expr::GroupingSet(_)] = group else {
            if group
                .iter()
                .any(|expr| matches!(expr, df::Expr::GroupingSet(_)))
            {
                return Err(DataFusionError::NotImplemented(
                    "grouping sets beside plain keys".into(),
                ));
            }
            // A key written twice is one column of the engine's schema.
            let mut distinct: Vec<df::Expr> = vec![];
            for key in group {
                if !distinct.contains(key) {
                    distinct.push(key.clone());
                }
            }
            return Ok((self.exprs(&distinct, schema, columns)?, None));
        };
        let distinct = df::utils::grouping_set_to_exprlist(group)?;
        let sets = df::utils::enumerate_grouping_sets(group.to_vec())?;
        let sets = match sets.as_slice() {
            [df::Expr::GroupingSet(set)] => grouping_positions(set, &distinct)?,
            _ => {
                return Err(DataFusionError::NotImplemented(
                    "mixed grouping sets".into(),
                ));
            }
        };
        let distinct: Vec<df::Expr> = distinct.into_iter().cloned().collect();
        Ok((self.exprs(&distinct, schema, columns)?, Some(sets)))
    }

    pub(super) fn aggregate_call(
        &mut self,
        expr: &df::Expr,
        ty: Type,
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<Aggregate> {
        let df::Expr::AggregateFunction(call) = unaliased(expr) else {
            return Err(DataFusionError::Internal(format!(
                "not an aggregate: {expr}"
            )));
        };
        let params = &call.params;
        Ok(Aggregate {
            function: call.func.name().to_string(),
            arguments: self.exprs(&params.args, schema, columns)?,
            is_distinct: params.distinct,
            filter: match &params.filter {
                Some(filter) => vec![self.expr(filter, schema, columns)?],
                None => vec![],
            },
            order: self.sort_keys(&params.order_by, schema, columns)?,
            nulls: params.null_treatment.map(|treatment| treatment.to_string()),
            ty,
        })
    }

    pub(super) fn distinct(&mut self, input: &LogicalPlan) -> Result<Selected> {
        let Selected {
            block,
            outputs: keys,
        } = self.plan(input)?;
        let group = Group {
            block,
            keys,
            aggregates: vec![],
            is_grouped: true,
            sets: None,
        };
        Ok(self.over(Relation::Group(group)))
    }

    /// `DISTINCT ON (k) … ORDER BY k, o` keeps the first row of each k: `row_number() over (partition by k order by o) = 1`.
    pub(super) fn distinct_on(&mut self, distinct: &df::DistinctOn) -> Result<Selected> {
        let input = self.plan(&distinct.input)?;
        let schema = distinct.input.schema();
        let partition = self.exprs(&distinct.on_expr, schema, &input.outputs)?;
        let order = self.sort_keys(
            distinct.sort_expr.as_deref().unwrap_or(&[]),
            schema,
            &input.outputs,
        )?;
        let outputs = self.exprs(&distinct.select_expr, schema, &input.outputs)?;
        let width = outputs.len();
        let call = windows::row_number(partition, order);
        let mut selected = self.over(Relation::Window {
            block: input.block,
            outputs,
            calls: vec![call],
        });
        let number = selected
            .outputs
            .pop()
            .expect("a window relation ends with its calls");
        let first = Expr::integer(1, number.ty.clone());
        selected.block.predicates.push(number.equals(first));
        selected.outputs.truncate(width);
        Ok(selected)
    }
}

fn grouping_positions(set: &df::GroupingSet, distinct: &[&df::Expr]) -> Result<Vec<Vec<usize>>> {
    let df::GroupingSet::GroupingSets(sets) = set else {
        return Err(DataFusionError::NotImplemented(
            "a grouping set that is not enumerated".into(),
        ));
    };
    let position = |expr: &df::Expr| distinct.iter().position(|key| *key == expr);
    let missing = || DataFusionError::Internal("a grouping set names an unknown key".into());
    let positions = |set: &Vec<df::Expr>| {
        set.iter()
            .map(|expr| position(expr).ok_or_else(missing))
            .collect()
    };
    sets.iter().map(positions).collect()
}

fn plain_aggregate(function: &str, ty: Type) -> Aggregate {
    Aggregate {
        function: function.into(),
        arguments: vec![],
        is_distinct: false,
        filter: vec![],
        order: vec![],
        nulls: None,
        ty,
    }
}
