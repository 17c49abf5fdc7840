//! The aggregates that a query gives out, apart from grain and filters.
//! In: a canonical query. Out: one [`Measure`] per aggregate or expression over aggregates, with a signature that is equal
//! for the same computation at any grain and under any filter, and the filters beside it. For lints only: casts are
//! looked through, so an equal signature is a reason to ask, not a proof.

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::form::{Block, Expr, Group, Instance, Node, Relation, Source};
use super::{Canonical, fingerprint, name, rules, words};

/// A computation over groups of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    pub output: String,
    pub signature: String,
    /// The conditions of all rows it counts, as words.
    pub filters: BTreeSet<String>,
    /// As words.
    pub text: String,
    /// A bare `count(*)` says little about what is counted.
    pub is_plain_count: bool,
}

/// The measures among a query's outputs.
pub fn measures(canonical: &Canonical, catalog: &Catalog) -> Vec<Measure> {
    let Relation::Select { block, outputs } = &canonical.relation else {
        return vec![];
    };
    let [
        Source {
            instance,
            relation: Relation::Group(group),
        },
    ] = block.sources.as_slice()
    else {
        return vec![];
    };
    if group.aggregates.is_empty() || group.sets.is_some() {
        return vec![];
    }
    let mut found = vec![];
    for (output, expr) in canonical.names.iter().zip(outputs) {
        for part in parts(expr, *instance, group) {
            let measure = measure(output, &part, *instance, group, catalog);
            if !found.contains(&measure) {
                found.push(measure);
            }
        }
    }
    found
}

/// The whole expression, if it reads an aggregate, and each aggregate alone.
fn parts(expr: &Expr, instance: Instance, group: &Group) -> Vec<Expr> {
    let mut columns = vec![];
    expr.each_column(&mut |column| {
        if column.instance == instance && column.index >= group.keys.len() {
            columns.push(column);
        }
    });
    if columns.is_empty() {
        return vec![];
    }
    let alone = columns.into_iter().map(|column| {
        let ty = group.aggregates[column.index - group.keys.len()].ty.clone();
        Expr::column(column.instance, column.index, ty)
    });
    let mut parts = vec![expr.clone()];
    parts.extend(alone.filter(|alone| alone != expr));
    parts
}

fn measure(
    output: &str,
    expr: &Expr,
    instance: Instance,
    group: &Group,
    catalog: &Catalog,
) -> Measure {
    let mut filters = BTreeSet::new();
    let width = group.keys.len();
    let mut read = BTreeSet::new();
    expr.each_column(&mut |column| {
        if column.instance == instance && column.index >= width {
            read.insert(column.index - width);
        }
    });
    let bare = Group {
        keys: vec![],
        is_grouped: false,
        ..group.clone()
    };
    let is_plain_count = read.iter().all(|index| {
        let call = &bare.aggregates[*index];
        call.function == "count" && call.arguments.is_empty()
    });
    let mut moved = expr.clone();
    moved.replace_columns(&|column| {
        let is_call = column.instance == instance && column.index >= width;
        is_call.then(|| {
            let index = column.index - width;
            Expr::column(instance, index, group.aggregates[index].ty.clone())
        })
    });
    let text = words::expr_of(&Relation::Select {
        block: Block::over(Source {
            instance,
            relation: Relation::Group(group.clone()),
        }),
        outputs: vec![expr.clone()],
    });
    let select = Relation::Select {
        block: Block::over(Source {
            instance,
            relation: Relation::Group(bare),
        }),
        outputs: vec![moved],
    };
    // A join that only keys or filters read is another one without them, so the rules run before and after.
    let (mut select, _) = rules::normalise(select, catalog);
    take_all_filters(&mut select, &mut filters);
    let (mut select, _) = rules::normalise(select, catalog);
    select.each_expr_mut(&mut strip_casts);
    let signature = fingerprint(&name::text(&select, &["value".into()], catalog));
    Measure {
        output: output.into(),
        signature,
        filters,
        text,
        is_plain_count,
    }
}

/// Takes the filters out of a select over one group.
fn take_all_filters(select: &mut Relation, filters: &mut BTreeSet<String>) {
    let Some(block) = select.block_mut() else {
        return;
    };
    for relation in block.relations_mut() {
        if let Relation::Group(group) = relation {
            for call in &mut group.aggregates {
                let words = call
                    .filter
                    .iter()
                    .map(|filter| words::expr_in(&group.block, filter));
                filters.extend(words);
                call.filter.clear();
            }
        }
        if let Some(block) = relation.block_mut() {
            take_filters(block, filters);
        }
    }
}

/// Takes the filters of single tables out of a block and what is below, also of tables that rows must have a match in;
/// joins stay.
fn take_filters(block: &mut Block, filters: &mut BTreeSet<String>) {
    let whole = block.clone();
    block.predicates.retain_mut(|predicate| {
        if let Node::Exists(relation) | Node::InQuery(_, relation) = &mut predicate.node {
            if let Some(block) = relation.block_mut() {
                take_filters(block, filters);
            }
            return true;
        }
        let is_filter = predicate.instances().len() <= 1 && !predicate.has_subquery();
        if is_filter {
            filters.insert(words::expr_in(&whole, predicate));
        }
        !is_filter
    });
    for relation in block.relations_mut() {
        if let Some(block) = relation.block_mut() {
            take_filters(block, filters);
        }
    }
}

fn strip_casts(expr: &mut Expr) {
    while let Node::Cast(inner) | Node::TryCast(inner) = &mut expr.node {
        let inner = std::mem::replace(inner.as_mut(), Expr::truth(true));
        *expr = inner;
    }
    expr.children_mut().into_iter().for_each(strip_casts);
}
