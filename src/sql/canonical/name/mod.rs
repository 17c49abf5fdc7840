//! Gives instances canonical names and writes the canonical text.
//! In: a normal relation. Out: one text for all relations that differ only in aliases, column order, join order or the
//! order of a set; the fingerprint is its hash.
//! Sources are sorted by what they are; only identical ones (self joins) are tried in every order, and the smallest text
//! wins. Two equal texts describe equal queries because every choice the text leaves open is one that SQL leaves open.

mod blocks;
mod exprs;
mod relations;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::catalog::Catalog;
use super::form::{ColumnRef, Expr, Instance, Relation};

/// Orders of identical sources that are tried; beyond it the order stays as it came: sound, only less is recognised.
const ORDERS: usize = 720;

/// The canonical text of a query with named outputs.
pub(super) fn text(relation: &Relation, names: &[String], catalog: &Catalog) -> String {
    let namer = Namer { catalog };
    let Relation::Select { block, outputs } = relation else {
        unreachable!("a normal query is a select")
    };
    let reads: Vec<&Expr> = outputs.iter().collect();
    let (text, ()) = namer.block(block, &reads, None, &|scope| {
        let mut columns: Vec<String> = names
            .iter()
            .zip(outputs)
            .map(|(name, output)| format!("{name:?}={}", namer.expr(output, scope)))
            .collect();
        columns.sort();
        (columns.join(","), ())
    });
    format!("query{{{text}}}")
}

/// Names of the instances around an expression.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    depth: usize,
    columns: HashMap<Instance, Vec<String>>,
    aliases: HashMap<ColumnRef, String>,
}

impl Scope<'_> {
    fn column(&self, column: ColumnRef) -> String {
        if let Some(alias) = self.aliases.get(&column) {
            return alias.clone();
        }
        match (self.columns.get(&column.instance), self.outer) {
            (Some(columns), _) => columns[column.index].clone(),
            (None, Some(outer)) => outer.column(column),
            (None, None) => "?".into(),
        }
    }
}

struct Namer<'a> {
    catalog: &'a Catalog,
}

/// A source's own text and the names of its columns.
struct Named {
    text: String,
    columns: Vec<String>,
}

impl Namer<'_> {
    fn relation(
        &self,
        relation: &Relation,
        used: &BTreeSet<usize>,
        outer: Option<&Scope>,
    ) -> Named {
        match relation {
            Relation::Scan(scan) => self.scan(scan, used),
            Relation::Select { block, outputs } => {
                let reads: Vec<&Expr> = outputs.iter().collect();
                let (text, columns) = self.block(block, &reads, outer, &|scope| {
                    self.sorted_columns("c", outputs, scope)
                });
                Named {
                    text: format!("select{{{text}}}"),
                    columns,
                }
            }
            Relation::Group(group) => self.group(group, relation, outer),
            Relation::Window {
                block,
                outputs,
                calls,
            } => self.window(relation, block, outputs, calls, outer),
            Relation::Limit(limit) => self.limit(relation, limit, outer),
            Relation::Union { branches } => self.union(branches, outer),
            Relation::Full { left, right, on } => self.full(left, right, on, outer),
            Relation::Values { rows, types } => {
                let scope = lone_scope(outer);
                let mut rows: Vec<String> = rows.iter().map(|row| self.list(row, &scope)).collect();
                rows.sort();
                Named {
                    text: format!("values{{{types:?};{}}}", rows.join(";")),
                    columns: numbered("v", types.len()),
                }
            }
            Relation::Opaque {
                text,
                types,
                inputs,
                expressions,
            } => {
                let inputs: Vec<String> = inputs
                    .iter()
                    .map(|source| self.opaque_input(source, outer))
                    .collect();
                let scope = lone_scope(outer);
                let text = format!(
                    "opaque{{{text:?};{};{}}}",
                    inputs.join(";"),
                    self.list(expressions, &scope)
                );
                Named {
                    text,
                    columns: numbered("o", types.len()),
                }
            }
        }
    }
}

fn pair(left: String, right: String) -> String {
    if left <= right {
        format!("{left},{right}")
    } else {
        format!("{right},{left}")
    }
}

fn lone_scope<'a>(outer: Option<&'a Scope<'a>>) -> Scope<'a> {
    let depth = outer.map_or(0, |outer| outer.depth + 1);
    Scope {
        outer,
        depth,
        columns: HashMap::new(),
        aliases: HashMap::new(),
    }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}{index}")).collect()
}

fn prefixed(prefix: &str, columns: &[String]) -> Vec<String> {
    columns
        .iter()
        .map(|column| format!("{prefix}.{column}"))
        .collect()
}

/// Sorts texts as a set; each item's name is its place in the set.
fn sorted(prefix: &str, texts: Vec<String>) -> (String, Vec<String>) {
    let set: BTreeSet<&String> = texts.iter().collect();
    let places: BTreeMap<&String, usize> = set
        .iter()
        .enumerate()
        .map(|(place, text)| (*text, place))
        .collect();
    let columns = texts
        .iter()
        .map(|text| format!("{prefix}{}", places[text]))
        .collect();
    (
        set.into_iter().cloned().collect::<Vec<_>>().join(","),
        columns,
    )
}
