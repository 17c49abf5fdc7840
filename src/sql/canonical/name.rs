//! Gives instances canonical names and writes the canonical text.
//! In: a normal relation. Out: one text for all relations that differ only in aliases, column order, join order or the
//! order of a set; the fingerprint is its hash.
//! Sources are sorted by what they are; only identical ones (self joins) are tried in every order, and the smallest text
//! wins. Two equal texts describe equal queries because every choice the text leaves open is one that SQL leaves open.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::block::equal_columns;
use super::catalog::Catalog;
use super::form::{
    Aggregate, Block, ColumnRef, Comparison, Expr, Group, Instance, Limit, Node, Relation, SortKey,
    Source, WindowCall,
};
use super::types::Type;

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

    /// An input read by position: the names of its sorted columns tell where each went.
    fn opaque_input(&self, source: &Source, outer: Option<&Scope>) -> String {
        let used = (0..source.relation.width()).collect();
        let named = self.relation(&source.relation, &used, outer);
        format!("{}({})", named.text, named.columns.join(","))
    }

    fn scan(&self, scan: &super::form::Scan, used: &BTreeSet<usize>) -> Named {
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

    fn group(&self, group: &Group, relation: &Relation, outer: Option<&Scope>) -> Named {
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

    fn window(
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

    fn limit(&self, relation: &Relation, limit: &Limit, outer: Option<&Scope>) -> Named {
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
    fn union(&self, branches: &[Relation], outer: Option<&Scope>) -> Named {
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
    fn branch(&self, branch: &Relation, outer: Option<&Scope>) -> (String, Vec<String>) {
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
    fn full(&self, left: &Source, right: &Source, on: &[Expr], outer: Option<&Scope>) -> Named {
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

    /// Names the sources of a block in the order that gives the smallest text.
    fn block<T>(
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
    fn refined(
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

    fn scope<'a>(
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

    fn block_text(&self, block: &Block, named: &[Named], order: &[usize], scope: &Scope) -> String {
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

    fn class_text(&self, class: &BTreeSet<ColumnRef>, scope: &Scope) -> String {
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

    fn conjunction(&self, predicates: &[Expr], scope: &Scope) -> String {
        let mut texts: Vec<String> = predicates
            .iter()
            .map(|predicate| self.expr(predicate, scope))
            .collect();
        texts.sort();
        texts.dedup();
        texts.join("&")
    }

    fn sorted_columns(&self, prefix: &str, exprs: &[Expr], scope: &Scope) -> (String, Vec<String>) {
        sorted(
            prefix,
            exprs.iter().map(|expr| self.expr(expr, scope)).collect(),
        )
    }

    fn aggregate(&self, call: &Aggregate, scope: &Scope) -> String {
        format!(
            "{}{}:{}({}){}{}{}",
            call.function,
            if call.is_distinct { "-distinct" } else { "" },
            call.ty,
            self.list(&call.arguments, scope),
            if call.filter.is_empty() {
                String::new()
            } else {
                format!("where({})", self.conjunction(&call.filter, scope))
            },
            if call.order.is_empty() {
                String::new()
            } else {
                format!("order({})", self.order(&call.order, scope))
            },
            call.nulls.as_deref().unwrap_or_default(),
        )
    }

    fn window_call(&self, call: &WindowCall, scope: &Scope) -> String {
        let mut partition: Vec<String> = call
            .partition
            .iter()
            .map(|expr| self.expr(expr, scope))
            .collect();
        partition.sort();
        format!(
            "{}{}:{}({})where({})partition({})order({})frame({}){}",
            call.function,
            if call.is_distinct { "-distinct" } else { "" },
            call.ty,
            self.list(&call.arguments, scope),
            self.conjunction(&call.filter, scope),
            partition.join(","),
            self.order(&call.order, scope),
            call.frame,
            call.nulls.as_deref().unwrap_or_default(),
        )
    }

    fn order(&self, keys: &[SortKey], scope: &Scope) -> String {
        let key = |key: &SortKey| {
            let direction = if key.is_descending { "desc" } else { "asc" };
            let nulls = if key.nulls_first { "first" } else { "last" };
            format!("{} {direction} nulls {nulls}", self.expr(&key.expr, scope))
        };
        keys.iter().map(key).collect::<Vec<_>>().join(",")
    }

    fn list(&self, exprs: &[Expr], scope: &Scope) -> String {
        exprs
            .iter()
            .map(|expr| self.expr(expr, scope))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn set(&self, exprs: &[Expr], scope: &Scope) -> String {
        let mut texts: Vec<String> = exprs.iter().map(|expr| self.expr(expr, scope)).collect();
        texts.sort();
        texts.join(",")
    }

    fn expr(&self, expr: &Expr, scope: &Scope) -> String {
        let ty = &expr.ty;
        let one = |inner: &Expr| self.expr(inner, scope);
        match &expr.node {
            Node::Column(column) => scope.column(*column),
            Node::Literal(literal) => format!("{literal}:{ty}"),
            Node::And(items) => format!("and({})", self.set(items, scope)),
            Node::Or(items) => format!("or({})", self.set(items, scope)),
            Node::Not(inner) => format!("not({})", one(inner)),
            Node::Compare(Comparison::Equal, left, right) => {
                format!("eq({})", pair(one(left), one(right)))
            }
            Node::Compare(Comparison::NotEqual, left, right) => {
                format!("ne({})", pair(one(left), one(right)))
            }
            Node::Compare(Comparison::Less, left, right) => {
                format!("lt({},{})", one(left), one(right))
            }
            Node::Compare(Comparison::LessOrEqual, left, right) => {
                format!("le({},{})", one(left), one(right))
            }
            Node::InSet(subject, set, is_negated) => {
                let items: Vec<String> = set.iter().map(ToString::to_string).collect();
                let name = if *is_negated { "out" } else { "in" };
                format!(
                    "{name}({};{}:{})",
                    one(subject),
                    items.join(","),
                    subject.ty
                )
            }
            Node::IsNull(inner) => format!("null({})", one(inner)),
            Node::IsTrue(inner) => format!("true({})", one(inner)),
            Node::DistinctFrom(left, right) => format!("distinct({})", pair(one(left), one(right))),
            Node::Sum(terms) => {
                let mut texts: Vec<String> = terms
                    .iter()
                    .map(|term| {
                        format!("{}*[{}]", term.coefficient, self.set(&term.factors, scope))
                    })
                    .collect();
                texts.sort();
                format!("sum:{ty}({})", texts.join(","))
            }
            Node::Case(arms, otherwise) => {
                let arms: Vec<String> = arms
                    .iter()
                    .map(|(when, then)| format!("{}=>{}", one(when), one(then)))
                    .collect();
                let otherwise = otherwise.as_ref().map(|expr| one(expr)).unwrap_or_default();
                format!("case:{ty}({};{otherwise})", arms.join(";"))
            }
            Node::Cast(inner) => format!("cast({}:{ty})", one(inner)),
            Node::TryCast(inner) => format!("try_cast({}:{ty})", one(inner)),
            Node::Call(name, arguments, is_volatile) => {
                let arguments = if commutes(name, arguments) {
                    self.set(arguments, scope)
                } else {
                    self.list(arguments, scope)
                };
                format!(
                    "{name:?}{}:{ty}({arguments})",
                    if *is_volatile { "!" } else { "" }
                )
            }
            Node::Exists(relation) => format!(
                "exists({})",
                self.relation(relation, &BTreeSet::new(), Some(scope)).text
            ),
            Node::InQuery(needle, relation) => format!(
                "in_query({};{})",
                one(needle),
                self.subquery(relation, scope)
            ),
            Node::Scalar(relation) => format!("scalar:{ty}({})", self.subquery(relation, scope)),
        }
    }

    fn subquery(&self, relation: &Relation, scope: &Scope) -> String {
        self.relation(relation, &(0..relation.width()).collect(), Some(scope))
            .text
    }
}

fn commutes(name: &str, arguments: &[Expr]) -> bool {
    match name {
        "+" | "*" => arguments
            .iter()
            .all(|argument| matches!(argument.ty, Type::Decimal(..))),
        "greatest" | "least" => arguments.iter().all(|argument| argument.ty.is_exact()),
        _ => false,
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
fn orders(colors: &[String]) -> Vec<Vec<usize>> {
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
