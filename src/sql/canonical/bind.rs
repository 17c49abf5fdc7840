//! A bound and type-coerced plan becomes relations of the canonical form.
//! In: DataFusion's `LogicalPlan` after its analyzer, a look-up for the relations of models. Out: [`Relation`], not yet
//! normalised. Names, qualifiers and aliases are resolved to columns here and then gone.

use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, JoinType, NullEquality, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    self as df, Distinct, ExprSchemable, FetchType, LogicalPlan, SkipType,
};

use super::form::{
    Aggregate, Block, Expr, Group, Instance, Limit, Node, Optional, Relation, Scan, SortKey,
    Source, WindowCall,
};
use super::literal::Literal;
use super::types::Type;
use super::{bind_expr, windows};

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

    fn scan(&mut self, scan: &df::TableScan) -> Result<Selected> {
        let name = table_name(&scan.table_name);
        let is_recursive = self.recursive.contains(&name);
        let relation = match (self.models)(&name) {
            Some(shared) if !is_recursive => {
                let mut relation = (*shared).clone();
                relation.renumber(&mut || self.fresh());
                relation
            }
            _ => Relation::Scan(Scan {
                table: if is_recursive {
                    "@recursive".into()
                } else {
                    name
                },
                columns: fields(&scan.source.schema()),
            }),
        };
        let mut selected = self.over(relation);
        if let Some(projection) = &scan.projection {
            selected.outputs = projection
                .iter()
                .map(|index| selected.outputs[*index].clone())
                .collect();
        }
        for filter in &scan.filters {
            let predicate = self.expr(filter, &scan.projected_schema, &selected.outputs)?;
            selected.block.predicates.push(predicate);
        }
        Ok(selected)
    }

    /// Selects every column of a relation; a select is taken apart instead of nested.
    fn over(&mut self, relation: Relation) -> Selected {
        match relation {
            Relation::Select { block, outputs } if !outputs.iter().any(Expr::is_volatile) => {
                Selected { block, outputs }
            }
            relation => {
                let source = Source {
                    instance: self.fresh(),
                    relation,
                };
                let outputs = source.columns();
                Selected {
                    block: Block::over(source),
                    outputs,
                }
            }
        }
    }

    fn join(&mut self, join: &df::Join) -> Result<Selected> {
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

    fn join_condition(
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
    fn left_join(
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

    fn full_join(&mut self, join: &df::Join, left: Selected, right: Selected) -> Result<Selected> {
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

    fn aggregate(&mut self, aggregate: &df::Aggregate) -> Result<Selected> {
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
    fn group_keys(
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

    fn aggregate_call(
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

    fn window(&mut self, window: &df::Window) -> Result<Selected> {
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

    fn window_call(
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

    fn distinct(&mut self, input: &LogicalPlan) -> Result<Selected> {
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
    fn distinct_on(&mut self, distinct: &df::DistinctOn) -> Result<Selected> {
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

    fn union(&mut self, union: &df::Union) -> Result<Selected> {
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

    fn sort(&mut self, sort: &df::Sort) -> Result<Selected> {
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

    fn limit(&mut self, limit: &df::Limit) -> Result<Selected> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return self.opaque(&LogicalPlan::Limit(limit.clone()));
        };
        let input = self.plan(&limit.input)?;
        Ok(self.over(Relation::Limit(limit_of(input, skip, fetch))))
    }

    fn empty(&mut self, empty: &df::EmptyRelation) -> Selected {
        let outputs = fields(empty.schema.as_arrow())
            .into_iter()
            .map(|(_, ty)| Expr::null(ty))
            .collect();
        let mut selected = Selected {
            outputs,
            ..Selected::default()
        };
        if !empty.produce_one_row {
            selected.block.predicates.push(Expr::truth(false));
        }
        selected
    }

    fn values(&mut self, values: &df::Values) -> Result<Selected> {
        let types: Vec<Type> = fields(values.schema.as_arrow())
            .into_iter()
            .map(|(_, ty)| ty)
            .collect();
        let mut rows = vec![];
        for row in &values.values {
            let row = self.exprs(row, &values.schema, &[])?;
            rows.push(
                row.into_iter()
                    .zip(&types)
                    .map(|(expr, ty)| bind_expr::cast(expr, ty))
                    .collect(),
            );
        }
        Ok(self.over(Relation::Values { rows, types }))
    }

    fn recursive(&mut self, query: &df::RecursiveQuery) -> Result<Selected> {
        let start = self.plan(&query.static_term)?.into_relation();
        self.recursive.push(query.name.clone());
        let step = self
            .plan(&query.recursive_term)
            .map(Selected::into_relation);
        self.recursive.pop();
        let types = start.types();
        let inputs = [start, step?]
            .map(|relation| Source {
                instance: self.fresh(),
                relation,
            })
            .into();
        let text = format!("recursive distinct={}", query.is_distinct);
        Ok(self.over(Relation::Opaque {
            text,
            types,
            inputs,
            expressions: vec![],
        }))
    }

    /// A node without rules. Its inputs are still normalised; its own text is the engine's, which is sound but may
    /// change with a release.
    fn opaque(&mut self, plan: &LogicalPlan) -> Result<Selected> {
        let mut inputs = vec![];
        for input in plan.inputs() {
            let relation = self.plan(input)?.into_relation();
            inputs.push(Source {
                instance: self.fresh(),
                relation,
            });
        }
        let types = plan
            .schema()
            .fields()
            .iter()
            .map(|field| Type::from(field.data_type()))
            .collect();
        Ok(self.over(Relation::Opaque {
            text: plan.display().to_string(),
            types,
            inputs,
            expressions: vec![],
        }))
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
        let replace = |column: super::form::ColumnRef| {
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
