//! The meaning of a query as one text, and its fingerprint.
//! In: a bound plan, the relations of the models it names, the constraints declared on base tables. Out: a [`Canonical`]:
//! equal hashes mean equal results on every database that meets the noted assumptions; different hashes mean nothing yet.
//!
//! The rules are our own and versioned by [`VERSION`]: no optimiser's output is hashed, so a lock file does not churn with
//! an engine release. Soundness was preferred to completeness everywhere: a rule that might be wrong once is not here.
//! Not kept: whether a query fails (overflow, division by zero), and the last bits of float sums, which depend on the
//! order of rows in every engine.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

pub use bind::table_name;
pub use catalog::{Catalog, ForeignKey, Seed, Table};
pub use form::Relation;
pub use measures::{Measure, measures};

mod aggregates;
mod bind;
mod bind_expr;
mod block;
mod cases;
mod catalog;
mod context;
mod domain;
mod equality;
pub mod form;
mod keys;
pub mod literal;
mod measures;
mod name;
mod order;
mod polynomial;
mod predicate;
mod prune;
mod push;
mod rules;
mod scalar;
mod subqueries;
pub mod types;
mod windows;
pub mod words;

/// The version of the rule list; part of every fingerprint.
pub const VERSION: u32 = 1;

/// A query with named outputs, bound but not yet normalised: what one model is to the models that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub relation: Arc<Relation>,
    pub names: Vec<String>,
}

/// A query in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    pub relation: Relation,
    pub names: Vec<String>,
    pub text: String,
    /// 32 hexadecimal digits.
    pub hash: String,
    /// The declared constraints that some rule leaned on.
    pub assumptions: BTreeSet<String>,
}

/// Binds a plan to the relations of the models it reads; a table that `models` does not know is a base table.
pub fn bind(state: &SessionState, plan: LogicalPlan, models: bind::Models) -> Result<Bound> {
    let plan = state
        .analyzer()
        .execute_and_check(plan, state.config_options(), |_, _| {})?;
    bind_plan(&plan, models)
}

/// Binds a plan whose types are already coerced.
pub fn bind_plan(plan: &LogicalPlan, models: bind::Models) -> Result<Bound> {
    let names = plan
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    Ok(Bound {
        relation: Arc::new(bind::bind(plan, models)?),
        names,
    })
}

/// The tables a relation scans, with those of its subqueries.
pub fn tables(relation: &Relation) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_tables(relation, &mut found);
    found
}

fn collect_tables(relation: &Relation, found: &mut BTreeSet<String>) {
    if let Relation::Scan(scan) = relation {
        found.insert(scan.table.clone());
    }
    relation
        .inputs()
        .into_iter()
        .for_each(|input| collect_tables(input, found));
    let own = relation
        .head_exprs()
        .into_iter()
        .chain(relation.block().map(form::Block::exprs).unwrap_or_default());
    own.for_each(|expr| collect_subquery_tables(expr, found));
}

fn collect_subquery_tables(expr: &form::Expr, found: &mut BTreeSet<String>) {
    if let Some(relation) = expr.subquery() {
        collect_tables(relation, found);
    }
    expr.children()
        .into_iter()
        .for_each(|child| collect_subquery_tables(child, found));
}

/// Normalises a bound query down to its base tables.
pub fn canonicalise(bound: &Bound, catalog: &Catalog) -> Canonical {
    let (relation, assumptions) = rules::normalise((*bound.relation).clone(), catalog);
    let text = name::text(&relation, &bound.names, catalog);
    let hash = fingerprint(&text);
    Canonical {
        relation,
        names: bound.names.clone(),
        text,
        hash,
        assumptions,
    }
}

/// Whether no two rows of a query agree on these columns, for a reason that the query or a declared constraint gives.
pub fn identifies(canonical: &Canonical, columns: &[String], catalog: &Catalog) -> bool {
    let Relation::Select { block, outputs } = &canonical.relation else {
        return false;
    };
    let place = |column: &String| canonical.names.iter().position(|name| name == column);
    let known: Option<Vec<form::Expr>> = columns
        .iter()
        .map(|column| Some(outputs.get(place(column)?)?.clone()))
        .collect();
    known.is_some_and(|known| rules::identifies(block, &known, catalog))
}

/// The fingerprint of a canonical text: BLAKE3 with the version of the rules, 128 bits.
pub fn fingerprint(text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("equipoise canonical {VERSION}\n").as_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize().to_hex()[..32].to_string()
}
