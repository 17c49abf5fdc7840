//! Walks a plan and carries, per column, where its values come from, and beside them what decides about the rows.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::{self as df, Distinct, Expr, LogicalPlan};

use super::{Kind, Origin};
use crate::sql::canonical::table_name;

type Origins = BTreeSet<(Origin, Kind)>;

/// What is known of a plan's rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Traced {
    /// Per column of the schema.
    pub columns: Vec<Origins>,
    /// What decides which rows there are.
    pub rows: Origins,
    /// The columns of an order that a limit above would observe.
    order: Origins,
}

#[derive(Default)]
pub(super) struct Tracer {
    /// The columns of the queries around a subquery, the nearest last.
    outer: Vec<(DFSchema, Vec<Origins>)>,
    /// What a recursive query's own rows depend on, by its name.
    recursive: BTreeMap<String, Traced>,
}

impl Tracer {
    pub fn plan(&mut self, plan: &LogicalPlan) -> Result<Traced> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                self.filtered(
                    input,
                    filter.input.schema(),
                    std::slice::from_ref(&filter.predicate),
                    Kind::Filter,
                )
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut input = self.plan(input)?;
                input.rows.extend(
                    input
                        .columns
                        .iter()
                        .flat_map(|column| with_kind(column, Kind::Group)),
                );
                Ok(input)
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.distinct_on(distinct),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Limit(limit) => {
                let mut input = self.plan(&limit.input)?;
                let order = with_kind(&input.order, Kind::Filter);
                input.rows.extend(order);
                Ok(input)
            }
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::RecursiveQuery(query) => self.recursive(query),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Subquery(subquery) => self.plan(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.plan(&repartition.input),
            other => self.everything(other),
        }
    }

    fn scan(&mut self, scan: &df::TableScan) -> Result<Traced> {
        let relation = table_name(&scan.table_name);
        if let Some(known) = self.recursive.get(&relation) {
            return Ok(known.clone());
        }
        let origin = |column: &str| Origin {
            relation: relation.clone(),
            column: column.into(),
        };
        let fields = scan.projected_schema.fields();
        let columns = fields
            .iter()
            .map(|field| Origins::from([(origin(field.name()), Kind::Copy)]))
            .collect();
        let traced = Traced {
            columns,
            ..Traced::default()
        };
        self.filtered(traced, &scan.projected_schema, &scan.filters, Kind::Filter)
    }

    fn projection(&mut self, projection: &df::Projection) -> Result<Traced> {
        let input = self.plan(&projection.input)?;
        let schema = projection.input.schema();
        let mut columns = vec![];
        for expr in &projection.expr {
            columns.push(self.value(expr, schema, &input.columns)?);
        }
        Ok(Traced { columns, ..input })
    }

    /// The input with rows that also depend on some conditions.
    fn filtered(
        &mut self,
        mut input: Traced,
        schema: &DFSchema,
        conditions: &[Expr],
        kind: Kind,
    ) -> Result<Traced> {
        for condition in conditions {
            let origins = self.used(condition, schema, &input.columns)?;
            input.rows.extend(with_kind(&origins, kind));
        }
        Ok(input)
    }

    fn join(&mut self, join: &df::Join) -> Result<Traced> {
        let (left, right) = (self.plan(&join.left)?, self.plan(&join.right)?);
        let schema = join.left.schema().join(join.right.schema())?;
        let columns = [left.columns.as_slice(), right.columns.as_slice()].concat();
        let mut rows: Origins = left.rows.union(&right.rows).cloned().collect();
        let keys = join.on.iter().flat_map(|(left, right)| [left, right]);
        for condition in keys.chain(&join.filter) {
            let origins = self.used(condition, &schema, &columns)?;
            rows.extend(with_kind(&origins, Kind::Join));
        }
        let columns = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => left.columns,
            JoinType::RightSemi | JoinType::RightAnti => right.columns,
            JoinType::LeftMark => [left.columns, vec![rows.clone()]].concat(),
            JoinType::RightMark => [right.columns, vec![rows.clone()]].concat(),
            _ => columns,
        };
        Ok(Traced {
            columns,
            rows,
            order: Origins::new(),
        })
    }

    fn aggregate(&mut self, aggregate: &df::Aggregate) -> Result<Traced> {
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let mut rows = input.rows.clone();
        let mut keys = vec![];
        for key in df::utils::grouping_set_to_exprlist(&aggregate.group_expr)? {
            let origins = self.value(key, schema, &input.columns)?;
            rows.extend(with_kind(&origins, Kind::Group));
            if !keys.iter().any(|(earlier, _)| earlier == key) {
                keys.push((key.clone(), origins));
            }
        }
        let mut columns: Vec<Origins> = keys.into_iter().map(|(_, origins)| origins).collect();
        let width = aggregate.schema.fields().len();
        // The grouping id of GROUPING SETS stands between keys and aggregates and depends on the keys alone.
        columns.resize(width - aggregate.aggr_expr.len(), Origins::new());
        for call in &aggregate.aggr_expr {
            columns.push(self.call(call, schema, &input.columns)?);
        }
        Ok(Traced {
            columns,
            rows,
            order: Origins::new(),
        })
    }

    /// An aggregate or window call: its arguments are transformed, its FILTER filters, its PARTITION groups.
    fn call(&mut self, expr: &Expr, schema: &DFSchema, columns: &[Origins]) -> Result<Origins> {
        let mut origins = Origins::new();
        let mut add = |tracer: &mut Tracer, exprs: Vec<&Expr>, kind: Kind| -> Result<()> {
            for expr in exprs {
                let used = tracer.used(expr, schema, columns)?;
                origins.extend(with_kind(&used, kind));
            }
            Ok(())
        };
        match expr {
            Expr::Alias(alias) => return self.call(&alias.expr, schema, columns),
            Expr::AggregateFunction(call) => {
                let params = &call.params;
                add(
                    self,
                    params
                        .args
                        .iter()
                        .chain(params.order_by.iter().map(|key| &key.expr))
                        .collect(),
                    Kind::Transform,
                )?;
                add(
                    self,
                    params.filter.iter().map(AsRef::as_ref).collect(),
                    Kind::Filter,
                )?;
            }
            Expr::WindowFunction(call) => {
                let params = &call.params;
                add(
                    self,
                    params
                        .args
                        .iter()
                        .chain(params.order_by.iter().map(|key| &key.expr))
                        .collect(),
                    Kind::Transform,
                )?;
                add(
                    self,
                    params.filter.iter().map(AsRef::as_ref).collect(),
                    Kind::Filter,
                )?;
                add(self, params.partition_by.iter().collect(), Kind::Group)?;
            }
            other => add(self, vec![other], Kind::Transform)?,
        }
        Ok(origins)
    }

    fn window(&mut self, window: &df::Window) -> Result<Traced> {
        let mut input = self.plan(&window.input)?;
        let mut calls = vec![];
        for call in &window.window_expr {
            calls.push(self.call(call, window.input.schema(), &input.columns)?);
        }
        input.columns.extend(calls);
        Ok(input)
    }

    fn distinct_on(&mut self, distinct: &df::DistinctOn) -> Result<Traced> {
        let input = self.plan(&distinct.input)?;
        let schema = distinct.input.schema();
        let mut columns = vec![];
        for expr in &distinct.select_expr {
            columns.push(self.value(expr, schema, &input.columns)?);
        }
        let input = self.filtered(input, schema, &distinct.on_expr, Kind::Group)?;
        let order: Vec<Expr> = distinct
            .sort_expr
            .iter()
            .flatten()
            .map(|key| key.expr.clone())
            .collect();
        let input = self.filtered(input, schema, &order, Kind::Filter)?;
        Ok(Traced { columns, ..input })
    }

    fn sort(&mut self, sort: &df::Sort) -> Result<Traced> {
        let mut input = self.plan(&sort.input)?;
        let mut order = Origins::new();
        for key in &sort.expr {
            order.extend(self.used(&key.expr, sort.input.schema(), &input.columns)?);
        }
        if sort.fetch.is_some() {
            input.rows.extend(with_kind(&order, Kind::Filter));
        }
        input.order = order;
        Ok(input)
    }

    fn union(&mut self, union: &df::Union) -> Result<Traced> {
        let mut all = Traced {
            columns: vec![Origins::new(); union.schema.fields().len()],
            ..Traced::default()
        };
        for input in &union.inputs {
            all.absorb(self.plan(input)?);
        }
        Ok(all)
    }

    /// The rows of one step come from the rows of the step before: two rounds reach everything that any number would.
    fn recursive(&mut self, query: &df::RecursiveQuery) -> Result<Traced> {
        let mut known = self.plan(&query.static_term)?;
        let shadowed = self.recursive.remove(&query.name);
        loop {
            self.recursive.insert(query.name.clone(), known.clone());
            let step = self.plan(&query.recursive_term)?;
            let before = (known.columns.clone(), known.rows.clone());
            known.absorb(step);
            if before == (known.columns.clone(), known.rows.clone()) {
                break;
            }
        }
        self.recursive.remove(&query.name);
        self.recursive
            .extend(shadowed.map(|shadowed| (query.name.clone(), shadowed)));
        Ok(known)
    }

    /// A node without rules: every column may come from every column of its inputs.
    fn everything(&mut self, plan: &LogicalPlan) -> Result<Traced> {
        let mut origins = Origins::new();
        let mut rows = Origins::new();
        for input in plan.inputs() {
            let input = self.plan(input)?;
            origins.extend(
                input
                    .columns
                    .iter()
                    .flat_map(|column| with_kind(column, Kind::Transform)),
            );
            rows.extend(input.rows);
        }
        rows.extend(with_kind(&origins, Kind::Filter));
        Ok(Traced {
            columns: vec![origins; plan.schema().fields().len()],
            rows,
            order: Origins::new(),
        })
    }

    /// Where the value of an expression comes from: a bare column is a copy.
    fn value(&mut self, expr: &Expr, schema: &DFSchema, columns: &[Origins]) -> Result<Origins> {
        match expr {
            Expr::Alias(alias) => self.value(&alias.expr, schema, columns),
            Expr::Column(column) => Ok(columns[schema.index_of_column(column)?].clone()),
            other => Ok(with_kind(&self.used(other, schema, columns)?, Kind::Transform).collect()),
        }
    }

    /// Everything an expression reads, with what the rows of its subqueries depend on.
    fn used(&mut self, expr: &Expr, schema: &DFSchema, columns: &[Origins]) -> Result<Origins> {
        let mut origins = Origins::new();
        let mut subqueries = vec![];
        expr.apply(|part| {
            match part {
                Expr::Column(column) => {
                    origins.extend(columns[schema.index_of_column(column)?].iter().cloned())
                }
                Expr::OuterReferenceColumn(_, column) => origins.extend(self.outer_column(column)),
                Expr::Exists(exists) => subqueries.push(exists.subquery.subquery.clone()),
                Expr::InSubquery(query) => subqueries.push(query.subquery.subquery.clone()),
                Expr::SetComparison(query) => subqueries.push(query.subquery.subquery.clone()),
                Expr::ScalarSubquery(query) => subqueries.push(query.subquery.clone()),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for subquery in subqueries {
            self.outer.push((schema.clone(), columns.to_vec()));
            let traced = self.plan(&subquery);
            self.outer.pop();
            let traced = traced?;
            origins.extend(traced.columns.into_iter().flatten().chain(traced.rows));
        }
        Ok(origins)
    }

    fn outer_column(&self, column: &Column) -> Origins {
        let found = self.outer.iter().rev().find_map(|(schema, columns)| {
            schema
                .maybe_index_of_column(column)
                .map(|index| columns[index].clone())
        });
        found.unwrap_or_default()
    }
}

impl Traced {
    fn absorb(&mut self, other: Traced) {
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            column.extend(more);
        }
        self.rows.extend(other.rows);
    }
}

/// The same origins, acting in another way.
fn with_kind(origins: &Origins, kind: Kind) -> impl Iterator<Item = (Origin, Kind)> + '_ {
    origins
        .iter()
        .map(move |(origin, _)| (origin.clone(), kind))
}
