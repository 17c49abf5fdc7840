//! The text of each kind of relation but blocks.

use std::collections::BTreeSet;

use super::blocks::orders;
use super::{Named, Namer, Scope, lone_scope, numbered, prefixed, sorted};
use crate::sql::canonical::form::{Block, Expr, Group, Limit, Relation, Scan, Source, WindowCall};

impl Namer<'_> {
    /// An input read by position: the names of its sorted columns tell where each went.
    pub(super) fn opaque_input(&self, source: &Source, outer: Option<&Scope>) -> String {
        let used = (0..source.relation.width()).collect();
        let named = self.relation(&source.relation, &used, outer);
        format!("{}({})", named.text, named.columns.join(","))
    }

    pub(super) fn scan(&self, scan: &Scan, used: &BTreeSet<usize>) -> Named {
        let columns: Vec<String> = scan
            .columns
            .iter()
            .map(|(name, ty)| format!("{name}:{ty}"))
            .collect();
        let facts = self.catalog.tables.get(&scan.table);
        let text = match facts.and_then(|facts| facts.seed.as_ref()) {
            Some(seed) => {
                let mut read: Vec<String> = used
                    .iter()
                    .map(|index| scan.columns[*index].0.clone())
                    .collect();
                read.sort();
                format!(
                    "seed{{{}}}",
                    blake3::hash(seed.bag_text(&read).as_bytes()).to_hex()
                )
            }
            None => match facts.and_then(|facts| facts.contract.as_ref()) {
                Some(version) => format!("table{{{:?}@{version:?}}}", scan.table),
                None => format!("table{{{:?}}}", scan.table),
            },
        };
        Named { text, columns }
    }

    pub(super) fn group(&self, group: &Group, relation: &Relation, outer: Option<&Scope>) -> Named {
        let reads = relation.head_exprs();
        let (text, columns) = self.block(&group.block, &reads, outer, &|scope| {
            if let Some(sets) = &group.sets {
                let calls: Vec<String> = group
                    .aggregates
                    .iter()
                    .map(|call| self.aggregate(call, scope))
                    .collect();
                let text = format!(
                    "{};{sets:?};{}",
                    self.list(&group.keys, scope),
                    calls.join(",")
                );
                return (
                    text,
                    numbered("g", group.keys.len() + group.aggregates.len()),
                );
            }
            let (keys, mut columns) = self.sorted_columns("k", &group.keys, scope);
            let calls: Vec<String> = group
                .aggregates
                .iter()
                .map(|call| self.aggregate(call, scope))
                .collect();
            let (calls, call_columns) = sorted("a", calls);
            columns.extend(call_columns);
            (format!("by[{keys}];[{calls}]"), columns)
        });
        Named {
            text: format!(
                "group{}{{{text}}}",
                if group.is_grouped { "" } else { "-all" }
            ),
            columns,
        }
    }

    pub(super) fn window(
        &self,
        relation: &Relation,
        block: &Block,
        outputs: &[Expr],
        calls: &[WindowCall],
        outer: Option<&Scope>,
    ) -> Named {
        let (text, columns) = self.block(block, &relation.head_exprs(), outer, &|scope| {
            let (text, mut columns) = self.sorted_columns("c", outputs, scope);
            let calls: Vec<String> = calls
                .iter()
                .map(|call| self.window_call(call, scope))
                .collect();
            let (calls, call_columns) = sorted("w", calls);
            columns.extend(call_columns);
            (format!("[{text}];[{calls}]"), columns)
        });
        Named {
            text: format!("window{{{text}}}"),
            columns,
        }
    }

    pub(super) fn limit(&self, relation: &Relation, limit: &Limit, outer: Option<&Scope>) -> Named {
        let (text, columns) = self.block(&limit.block, &relation.head_exprs(), outer, &|scope| {
            let (text, columns) = self.sorted_columns("c", &limit.outputs, scope);
            (
                format!("[{text}];[{}]", self.order(&limit.order, scope)),
                columns,
            )
        });
        Named {
            text: format!("limit{{{:?},{};{text}}}", limit.fetch, limit.skip),
            columns,
        }
    }

    /// Branches are a bag; columns are matched by position, so all branches share one order of columns.
    pub(super) fn union(&self, branches: &[Relation], outer: Option<&Scope>) -> Named {
        let width = branches.first().map_or(0, Relation::width);
        let named: Vec<(String, Vec<String>)> = branches
            .iter()
            .map(|branch| self.branch(branch, outer))
            .collect();
        let signature = |column: usize| {
            let mut texts: Vec<String> = named
                .iter()
                .map(|(body, columns)| format!("{body}#{}", columns[column]))
                .collect();
            texts.sort();
            texts.join("|")
        };
        let signatures: Vec<String> = (0..width).map(signature).collect();
        let written = |order: &[usize]| {
            let mut texts: Vec<String> = named
                .iter()
                .map(|(body, columns)| {
                    let columns: Vec<&str> = order
                        .iter()
                        .map(|column| columns[*column].as_str())
                        .collect();
                    format!("{body}[{}]", columns.join(","))
                })
                .collect();
            texts.sort();
            texts.join(";")
        };
        let best = orders(&signatures)
            .into_iter()
            .map(|order| (written(&order), order))
            .min();
        let (text, order) = best.unwrap_or_default();
        let mut columns = vec![String::new(); width];
        for (position, column) in order.iter().enumerate() {
            columns[*column] = format!("u{position}");
        }
        Named {
            text: format!("union{{{text}}}"),
            columns,
        }
    }

    /// A branch's block text and the text of each of its columns.
    pub(super) fn branch(&self, branch: &Relation, outer: Option<&Scope>) -> (String, Vec<String>) {
        let Relation::Select { block, outputs } = branch else {
            unreachable!("a union's branch is a select")
        };
        let reads: Vec<&Expr> = outputs.iter().collect();
        let (text, columns) = self.block(block, &reads, outer, &|scope| {
            let columns: Vec<String> = outputs
                .iter()
                .map(|output| self.expr(output, scope))
                .collect();
            let mut sorted = columns.clone();
            sorted.sort();
            (sorted.join(","), columns)
        });
        (format!("{{{text}}}"), columns)
    }

    /// A full join is the same seen from either side.
    pub(super) fn full(
        &self,
        left: &Source,
        right: &Source,
        on: &[Expr],
        outer: Option<&Scope>,
    ) -> Named {
        let side = |source: &Source| {
            let used = (0..source.relation.width()).collect();
            self.relation(&source.relation, &used, outer)
        };
        let (left_named, right_named) = (side(left), side(right));
        let written = |first: (&Source, &Named), second: (&Source, &Named)| {
            let mut scope = lone_scope(outer);
            for (name, (source, named)) in [("l", first), ("r", second)] {
                scope.columns.insert(
                    source.instance,
                    prefixed(&format!("{name}{}", scope.depth), &named.columns),
                );
            }
            let on = self.conjunction(on, &scope);
            (
                format!("full{{{};{};{on}}}", first.1.text, second.1.text),
                scope,
            )
        };
        let as_is = written((left, &left_named), (right, &right_named));
        let mirrored = written((right, &right_named), (left, &left_named));
        let (text, scope) = if as_is.0 <= mirrored.0 {
            as_is
        } else {
            mirrored
        };
        let columns = [left.instance, right.instance]
            .iter()
            .flat_map(|instance| scope.columns[instance].clone())
            .collect();
        Named { text, columns }
    }
}
