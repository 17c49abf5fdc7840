//! Leaves of a plan, and nodes that no rule knows: tables, literal rows, recursive queries.

use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr as df;
use datafusion::logical_expr::LogicalPlan;

use super::{Binder, Selected, fields, table_name};
use crate::sql::canonical::bind_expr;
use crate::sql::canonical::form::{Block, Expr, Relation, Scan, Source};
use crate::sql::canonical::types::Type;

impl Binder<'_> {
    pub(super) fn scan(&mut self, scan: &df::TableScan) -> Result<Selected> {
        let name = named_by_arguments(scan);
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
    pub(super) fn over(&mut self, relation: Relation) -> Selected {
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

    pub(super) fn empty(&mut self, empty: &df::EmptyRelation) -> Selected {
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

    pub(super) fn values(&mut self, values: &df::Values) -> Result<Selected> {
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

    pub(super) fn recursive(&mut self, query: &df::RecursiveQuery) -> Result<Selected> {
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
    pub(super) fn opaque(&mut self, plan: &LogicalPlan) -> Result<Selected> {
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
}

/// A table's name; that of a table function says what it was called with, for its scan does not.
fn named_by_arguments(scan: &df::TableScan) -> String {
    let name = table_name(&scan.table_name);
    match source_as_provider(&scan.source) {
        Ok(provider) if name.ends_with("()") => {
            let arguments = blake3::hash(format!("{provider:?}").as_bytes());
            format!("{name} {}", arguments.to_hex())
        }
        _ => name,
    }
}
