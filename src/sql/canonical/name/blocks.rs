//! The text of a block: its sources in the order that gives the smallest text, its predicates as a set.

use std::collections::{BTreeSet, HashMap};

use super::{Named, Namer, ORDERS, Scope, lone_scope, prefixed};
use crate::sql::canonical::equality::equal_columns;
use crate::sql::canonical::form::{Block, ColumnRef, Expr};

impl Namer<'_> {
    /// Names the sources of a block in the order that gives the smallest text.
    pub(super) fn block<T>(
        &self,
        block: &Block,
        reads: &[&Expr],
        outer: Option<&Scope>,
        head: &dyn Fn(&Scope) -> (String, T),
    ) -> (String, T) {
        let sources = block.all_sources();
        let named: Vec<Named> = sources
            .iter()
            .map(|source| {
                let mut used = BTreeSet::new();
                for expr in reads.iter().copied().chain(block.exprs()) {
                    expr.each_column(&mut |column| {
                        if column.instance == source.instance {
                            used.insert(column.index);
                        }
                    });
                }
                self.relation(&source.relation, &used, outer)
            })
            .collect();
        let kinds: Vec<String> = sources
            .iter()
            .zip(&named)
            .map(|(source, named)| {
                format!(
                    "{} {}",
                    u8::from(block.is_optional(source.instance)),
                    named.text
                )
            })
            .collect();
        let colors = self.refined(block, reads, outer, &named, kinds);
        let written = |order: &[usize]| {
            let scope = self.scope(block, &named, order, outer);
            let body = self.block_text(block, &named, order, &scope);
            let (head, columns) = head(&scope);
            (format!("{body}|{head}"), columns)
        };
        let mut best: Option<(String, T)> = None;
        for order in orders(&colors) {
            let candidate = written(&order);
            if best.as_ref().is_none_or(|best| candidate.0 < best.0) {
                best = Some(candidate);
            }
        }
        best.expect("there is at least one order")
    }

    /// Tells identical sources apart by how they are used, which saves trying their orders.
    pub(super) fn refined(
        &self,
        block: &Block,
        reads: &[&Expr],
        outer: Option<&Scope>,
        named: &[Named],
        kinds: Vec<String>,
    ) -> Vec<String> {
        let distinct: BTreeSet<&String> = kinds.iter().collect();
        if distinct.len() == kinds.len() {
            return kinds;
        }
        let sources = block.all_sources();
        let color = |kinds: &[String], index: usize| {
            blake3::hash(kinds[index].as_bytes()).to_hex()[..16].to_string()
        };
        let refine = |kinds: &[String]| -> Vec<String> {
            (0..kinds.len())
                .map(|own| {
                    let mut scope = lone_scope(outer);
                    for (index, source) in sources.iter().enumerate() {
                        let prefix = if index == own {
                            "@".to_string()
                        } else {
                            color(kinds, index)
                        };
                        scope
                            .columns
                            .insert(source.instance, prefixed(&prefix, &named[index].columns));
                    }
                    // A column of a class may be written as any of its members: all of them together are its name here.
                    for class in classes(block) {
                        let mut names: Vec<String> =
                            class.iter().map(|column| scope.column(*column)).collect();
                        names.sort();
                        let name = format!("same({})", names.join(","));
                        scope
                            .aliases
                            .extend(class.into_iter().map(|column| (column, name.clone())));
                    }
                    let instance = sources[own].instance;
                    let mut uses: Vec<String> = reads
                        .iter()
                        .copied()
                        .chain(block.exprs())
                        .map(|expr| (expr.reads(instance), self.expr(expr, &scope)))
                        .filter(|(is_read, text)| *is_read || text.contains('@'))
                        .map(|(_, text)| text)
                        .collect();
                    uses.sort();
                    format!("{}|{}", kinds[own], uses.join("&"))
                })
                .collect()
        };
        let once = refine(&kinds);
        refine(&once)
    }

    pub(super) fn scope<'a>(
        &self,
        block: &Block,
        named: &[Named],
        order: &[usize],
        outer: Option<&'a Scope<'a>>,
    ) -> Scope<'a> {
        let mut scope = lone_scope(outer);
        let sources = block.all_sources();
        for (position, index) in order.iter().enumerate() {
            let prefix = format!("s{}_{position}", scope.depth);
            scope.columns.insert(
                sources[*index].instance,
                prefixed(&prefix, &named[*index].columns),
            );
        }
        for class in classes(block) {
            let name = class
                .iter()
                .map(|column| scope.column(*column))
                .min()
                .expect("a class has members");
            scope
                .aliases
                .extend(class.into_iter().map(|column| (column, name.clone())));
        }
        scope
    }

    pub(super) fn block_text(
        &self,
        block: &Block,
        named: &[Named],
        order: &[usize],
        scope: &Scope,
    ) -> String {
        let sources = block.all_sources();
        let mut texts = vec![];
        for index in order {
            let instance = sources[*index].instance;
            let on = block
                .optional
                .iter()
                .find(|optional| optional.source.instance == instance);
            texts.push(match on {
                None => named[*index].text.clone(),
                Some(optional) => format!(
                    "left({} on {})",
                    named[*index].text,
                    self.conjunction(&optional.on, scope)
                ),
            });
        }
        let plain: Vec<Expr> = block
            .predicates
            .iter()
            .filter(|predicate| !is_class(block, predicate))
            .cloned()
            .collect();
        let mut same: Vec<String> = classes(block)
            .iter()
            .map(|class| self.class_text(class, scope))
            .collect();
        same.sort();
        format!(
            "{};{};{}",
            texts.join(","),
            same.join(","),
            self.conjunction(&plain, scope)
        )
    }

    pub(super) fn class_text(&self, class: &BTreeSet<ColumnRef>, scope: &Scope) -> String {
        let bare = Scope {
            outer: scope.outer,
            depth: scope.depth,
            columns: scope.columns.clone(),
            aliases: HashMap::new(),
        };
        let mut names: Vec<String> = class.iter().map(|column| bare.column(*column)).collect();
        names.sort();
        format!("same({})", names.join(","))
    }

    pub(super) fn conjunction(&self, predicates: &[Expr], scope: &Scope) -> String {
        let mut texts: Vec<String> = predicates
            .iter()
            .map(|predicate| self.expr(predicate, scope))
            .collect();
        texts.sort();
        texts.dedup();
        texts.join("&")
    }
}

/// The columns that predicates of the block make equal.
fn classes(block: &Block) -> Vec<BTreeSet<ColumnRef>> {
    let mut classes: Vec<BTreeSet<ColumnRef>> = vec![];
    for predicate in block
        .predicates
        .iter()
        .filter(|predicate| is_class(block, predicate))
    {
        let (left, right) = equal_columns(predicate).expect("is_class() has seen two columns");
        let mut joined: BTreeSet<ColumnRef> = [left, right]
            .into_iter()
            .filter_map(Expr::as_column)
            .collect();
        let members = joined.clone();
        classes.retain(|class| {
            let touches = !class.is_disjoint(&members);
            if touches {
                joined.extend(class.iter().copied());
            }
            !touches
        });
        classes.push(joined);
    }
    classes
}

fn is_class(block: &Block, predicate: &Expr) -> bool {
    equal_columns(predicate).is_some() && block.is_inner(predicate)
}

/// Every order that sorts by color; equal colors in every way, up to a bound.
pub(super) fn orders(colors: &[String]) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = (0..colors.len()).collect();
    sorted.sort_by(|left, right| colors[*left].cmp(&colors[*right]));
    let mut all = vec![vec![]];
    for group in sorted.chunk_by(|left, right| colors[*left] == colors[*right]) {
        let ways = permutations(group);
        if all.len() * ways.len() > ORDERS {
            return vec![sorted];
        }
        all = all
            .iter()
            .flat_map(|start: &Vec<usize>| {
                ways.iter().map(move |way| [start.as_slice(), way].concat())
            })
            .collect();
    }
    all
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.len() <= 1 {
        return vec![items.to_vec()];
    }
    if items.len() > 6 {
        return vec![items.to_vec()];
    }
    let mut all = vec![];
    for (index, first) in items.iter().enumerate() {
        let rest: Vec<usize> = items
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index)
            .map(|(_, item)| *item)
            .collect();
        all.extend(permutations(&rest).into_iter().map(|mut tail| {
            tail.insert(0, *first);
            tail
        }));
    }
    all
}
