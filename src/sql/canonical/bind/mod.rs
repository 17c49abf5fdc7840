//! A bound and type-coerced plan becomes relations of the canonical form.
//! In: DataFusion's `LogicalPlan` after its analyzer, a look-up for the relations of models. Out: [`Relation`], not yet
//! normalised. Names, qualifiers and aliases are resolved to columns here and then gone.

mod groups;
mod inputs;
mod joins;
mod rows;

use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{self as df, Distinct, ExprSchemable, LogicalPlan};

use super::bind_expr;
use super::form::{Block, Expr, Instance, Node, Relation, SortKey};
use super::literal::Literal;
use super::types::Type;

/// Finds the canonical relation of a model by the name in the plan; `None` is a base table.
pub type Models<'a> = &'a dyn Fn(&str) -> Option<Arc<Relation>>;

/// Binds a whole plan.
pub fn bind(plan: &LogicalPlan, models: Models) -> Result<Relation> {
    let mut binder = Binder {
        models,
        next: 0,
        outer: vec![],
        recursive: vec![],
    };
    let selected = binder.plan(plan)?;
    Ok(selected.into_relation())
}

/// The name of a table as the catalog of constraints knows it: without the engine's default catalog and schema.
pub fn table_name(reference: &TableReference) -> String {
    match reference {
        TableReference::Full {
            catalog,
            schema,
            table,
        } if &**catalog == "datafusion" && &**schema == "public" => table.to_string(),
        TableReference::Partial { schema, table } if &**schema == "public" => table.to_string(),
        other => other.to_string(),
    }
}

pub(super) struct Binder<'a> {
    models: Models<'a>,
    next: Instance,
    /// The scopes around a subquery, the nearest last.
    outer: Vec<(DFSchemaRef, Vec<Expr>)>,
    /// Names of recursive queries being bound.
    recursive: Vec<String>,
}

/// A relation on its way: a block and one expression per column of the plan's schema.
#[derive(Default)]
pub(super) struct Selected {
    pub block: Block,
    pub outputs: Vec<Expr>,
}

impl Selected {
    pub fn into_relation(self) -> Relation {
        Relation::Select {
            block: self.block,
            outputs: self.outputs,
        }
    }
}

/// The names of a plan's columns and what they stand for.
pub(super) struct Scope<'a> {
    pub schema: &'a DFSchema,
    pub columns: &'a [Expr],
}

impl Binder<'_> {
    pub fn fresh(&mut self) -> Instance {
        self.next += 1;
        self.next
    }

    pub fn plan(&mut self, plan: &LogicalPlan) -> Result<Selected> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let mut input = self.plan(&projection.input)?;
                input.outputs =
                    self.exprs(&projection.expr, projection.input.schema(), &input.outputs)?;
                Ok(input)
            }
            LogicalPlan::Filter(filter) => {
                let mut input = self.plan(&filter.input)?;
                let predicate =
                    self.expr(&filter.predicate, filter.input.schema(), &input.outputs)?;
                input.block.predicates.push(predicate);
                Ok(input)
            }
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Subquery(subquery) => self.plan(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.plan(&repartition.input),
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.distinct_on(distinct),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::EmptyRelation(empty) => Ok(self.empty(empty)),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::RecursiveQuery(query) => self.recursive(query),
            other => self.opaque(other),
        }
    }

    pub fn exprs(
        &mut self,
        exprs: &[df::Expr],
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<Vec<Expr>> {
        exprs
            .iter()
            .map(|expr| self.expr(expr, schema, columns))
            .collect()
    }

    pub fn expr(
        &mut self,
        expr: &df::Expr,
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<Expr> {
        bind_expr::bind(self, expr, &Scope { schema, columns })
    }

    pub fn sort_keys(
        &mut self,
        keys: &[df::SortExpr],
        schema: &DFSchemaRef,
        columns: &[Expr],
    ) -> Result<Vec<SortKey>> {
        let mut bound = vec![];
        for key in keys {
            let expr = self.expr(&key.expr, schema, columns)?;
            bound.push(SortKey {
                expr,
                is_descending: !key.asc,
                nulls_first: key.nulls_first,
            });
        }
        Ok(bound)
    }

    /// Binds the plan of a subquery expression that stands in `scope`.
    pub fn subquery(&mut self, plan: &LogicalPlan, scope: &Scope) -> Result<Selected> {
        self.outer
            .push((Arc::new(scope.schema.clone()), scope.columns.to_vec()));
        let bound = self.plan(plan);
        self.outer.pop();
        bound
    }

    /// A column of a query around this one.
    pub fn outer_column(&self, column: &datafusion::common::Column) -> Result<Expr> {
        let found = self.outer.iter().rev().find_map(|(schema, columns)| {
            schema
                .maybe_index_of_column(column)
                .map(|index| columns[index].clone())
        });
        found.ok_or_else(|| DataFusionError::Internal(format!("no outer column {column}")))
    }
}

fn unaliased(expr: &df::Expr) -> &df::Expr {
    match expr {
        df::Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn fields(schema: &datafusion::arrow::datatypes::Schema) -> Vec<(String, Type)> {
    schema
        .fields()
        .iter()
        .map(|field| (field.name().clone(), Type::from(field.data_type())))
        .collect()
}

/// The type of an engine expression in a scope.
pub(super) fn type_of(expr: &df::Expr, scope: &Scope) -> Result<Type> {
    Ok(Type::from(&expr.get_type(scope.schema)?))
}

/// A literal of the engine.
pub(super) fn literal(value: &datafusion::common::ScalarValue) -> Expr {
    Expr::new(
        Node::Literal(Literal::from_scalar(value)),
        Type::from(&value.data_type()),
    )
}
