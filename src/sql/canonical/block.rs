//! Rules on the sources and predicates of one block.
//! In: a block in which selects have melted, and the expressions that read it. Out: fewer and plainer joins.
//! `heads` are the expressions of the relation the block belongs to: whatever leaves the block, they must not miss.

use std::collections::{BTreeMap, BTreeSet};

use super::context::{Assumptions, Context, rejects_null};
use super::equality::{Classes, equal_columns};
use super::form::{Block, ColumnRef, Comparison, Expr, Instance, Node, Optional, Relation, Source};
use super::rules::Rules;
use super::{keys, predicate, scalar};

/// A filter that cannot be TRUE when the optional side is all NULL makes the left join an inner join.
pub(super) fn strengthen_left_joins(block: &mut Block) {
    let mut index = 0;
    while index < block.optional.len() {
        let instance = block.optional[index].source.instance;
        if block
            .predicates
            .iter()
            .any(|predicate| fails_on_null(predicate, instance))
        {
            let Optional { source, on } = block.optional.remove(index);
            block.sources.push(source);
            block.predicates.extend(on);
            index = 0;
        } else {
            index += 1;
        }
    }
}

fn fails_on_null(predicate: &Expr, instance: Instance) -> bool {
    if !predicate.reads(instance) || predicate.has_subquery() || predicate.is_volatile() {
        return false;
    }
    let nulled = with_nulls(predicate, &|column| column.instance == instance);
    let used = std::cell::RefCell::default();
    let left = predicate::filter(vec![nulled], &Context::new(&|_| None, &used));
    left.iter().any(|clause| clause.is_truth(false))
}

/// The expression with some columns NULL.
fn with_nulls(expr: &Expr, is_null: &dyn Fn(ColumnRef) -> bool) -> Expr {
    let mut expr = expr.clone();
    nullify(&mut expr, is_null);
    expr
}

fn nullify(expr: &mut Expr, is_null: &dyn Fn(ColumnRef) -> bool) {
    match expr.as_column() {
        Some(column) if is_null(column) => *expr = Expr::null(expr.ty.clone()),
        _ => expr
            .children_mut()
            .into_iter()
            .for_each(|child| nullify(child, is_null)),
    }
}

/// A condition of ON that reads only the optional side filters that side before the join.
pub(super) fn move_on_down(block: &mut Block) {
    for Optional { source, on } in &mut block.optional {
        let instance = source.instance;
        let Relation::Select {
            block: inner,
            outputs,
        } = &mut source.relation
        else {
            continue;
        };
        let is_own = |expr: &Expr| {
            !expr.has_subquery()
                && !expr.is_volatile()
                && expr.instances() == BTreeSet::from([instance])
        };
        let (own, rest): (Vec<Expr>, Vec<Expr>) = std::mem::take(on).into_iter().partition(is_own);
        *on = rest;
        for mut predicate in own {
            predicate.replace_columns(&|column| {
                (column.instance == instance).then(|| outputs[column.index].clone())
            });
            inner.predicates.push(predicate);
        }
    }
}

/// An output of the optional side that is NULL when its columns are can as well be computed above the join, from the
/// columns: both are NULL where nothing matched.
pub(super) fn pull_strict_outputs(block: &mut Block, heads: &mut [&mut Expr]) {
    for index in 0..block.optional.len() {
        let instance = block.optional[index].source.instance;
        let Relation::Select { outputs, .. } = &mut block.optional[index].source.relation else {
            continue;
        };
        let mut pulled: BTreeMap<usize, Expr> = BTreeMap::new();
        for position in 0..outputs.len() {
            if is_pullable(&outputs[position]) {
                let mut above = outputs[position].clone();
                lift_columns(&mut above, instance, outputs);
                pulled.insert(position, above);
            }
        }
        if pulled.is_empty() {
            continue;
        }
        let replace = |column: ColumnRef| {
            (column.instance == instance)
                .then(|| pulled.get(&column.index).cloned())
                .flatten()
        };
        let own = block
            .exprs_mut()
            .into_iter()
            .chain(heads.iter_mut().map(|head| &mut **head));
        own.for_each(|expr| expr.replace_columns(&replace));
    }
}

fn is_pullable(output: &Expr) -> bool {
    if output.as_column().is_some()
        || output.as_literal().is_some()
        || output.has_subquery()
        || output.is_volatile()
    {
        return false;
    }
    let used = std::cell::RefCell::default();
    let nulled = scalar::simplify(
        with_nulls(output, &|_| true),
        &Context::new(&|_| None, &used),
    );
    nulled.is_null_literal() && output.instances().iter().next().is_some()
}

fn lift_columns(expr: &mut Expr, instance: Instance, outputs: &mut Vec<Expr>) {
    if expr.as_column().is_some() {
        let index = outputs
            .iter()
            .position(|output| output == expr)
            .unwrap_or_else(|| {
                outputs.push(expr.clone());
                outputs.len() - 1
            });
        *expr = Expr::column(instance, index, expr.ty.clone());
        return;
    }
    expr.children_mut()
        .into_iter()
        .for_each(|child| lift_columns(child, instance, outputs));
}

/// `a LEFT JOIN b ON … WHERE b.k IS NULL` with b.k never NULL in a match is `WHERE NOT EXISTS`: a row of a stays, once,
/// exactly when nothing matches; every column of b is NULL in what stays.
pub(super) fn anti_join(rules: &Rules, block: &mut Block, heads: &mut [&mut Expr]) {
    let Some((position, assumptions)) = (0..block.optional.len()).find_map(|position| {
        let assumptions = anti_test(rules, block, position)?;
        Some((position, assumptions))
    }) else {
        return;
    };
    rules.note(assumptions);
    let Optional { source, on } = block.optional.remove(position);
    let instance = source.instance;
    let Relation::Select {
        block: mut inner,
        outputs,
    } = source.relation
    else {
        unreachable!("anti_test() has seen a select")
    };
    for mut condition in on {
        condition.replace_columns(&|column| {
            (column.instance == instance).then(|| outputs[column.index].clone())
        });
        inner.predicates.push(condition);
    }
    let own = block
        .exprs_mut()
        .into_iter()
        .chain(heads.iter_mut().map(|head| &mut **head));
    own.for_each(|expr| nullify_deep(expr, instance));
    let exists = Expr::boolean(Node::Exists(Box::new(Relation::Select {
        block: inner,
        outputs: vec![],
    })));
    block.predicates.push(exists.not());
}

fn nullify_deep(expr: &mut Expr, instance: Instance) {
    nullify(expr, &|column| column.instance == instance);
    let null = |column: ColumnRef| {
        (column.instance == instance).then(|| Expr::null(super::types::Type::Null))
    };
    expr.replace_columns(&null);
}

fn anti_test(rules: &Rules, block: &Block, position: usize) -> Option<Assumptions> {
    let Optional { source, on } = &block.optional[position];
    if !matches!(source.relation, Relation::Select { .. }) || source.relation.is_volatile() {
        return None;
    }
    block.predicates.iter().find_map(|predicate| {
        let Node::IsNull(subject) = &predicate.node else {
            return None;
        };
        let column = subject
            .as_column()
            .filter(|column| column.instance == source.instance)?;
        if on.iter().any(|condition| rejects_null(condition, subject)) {
            return Some(Assumptions::new());
        }
        keys::not_null(rules.catalog, &source.relation, column.index)
    })
}

/// A left join whose columns nobody reads only repeats rows; it repeats none when it joins by equality with a key of its
/// RIGHT side (a key of the left side says nothing: each left row may match many).
pub(super) fn drop_optional(
    rules: &Rules,
    block: &mut Block,
    heads: &[&mut Expr],
    ignores_repeats: bool,
) {
    let mut position = 0;
    while position < block.optional.len() {
        let Optional { source, on } = &block.optional[position];
        let is_read = heads.iter().any(|head| head.reads(source.instance))
            || block
                .predicates
                .iter()
                .any(|predicate| predicate.reads(source.instance))
            || block.optional.iter().enumerate().any(|(other, optional)| {
                other != position && optional.on.iter().any(|on| on.reads(source.instance))
            });
        let assumptions = match (is_read, ignores_repeats) {
            (true, _) => None,
            (false, true) => Some(Assumptions::new()),
            (false, false) => at_most_one(rules, source, on),
        };
        match assumptions {
            Some(assumptions) => {
                rules.note(assumptions);
                block.optional.remove(position);
                position = 0;
            }
            None => position += 1,
        }
    }
}

/// For any fixed rest of the row at most one row of the source meets the conditions.
fn at_most_one(rules: &Rules, source: &Source, conditions: &[Expr]) -> Option<Assumptions> {
    let instance = source.instance;
    let columns = keys::joined_columns(conditions, instance, &|expr| !expr.reads(instance));
    keys::unique(rules.catalog, &source.relation, &columns, &|_| true)
}

/// Two instances of one base table that agree on a key are one row: equality leaves no NULL, so the key needs none.
pub(super) fn merge_same_rows(rules: &Rules, block: &mut Block, heads: &mut [&mut Expr]) {
    while let Some((kept, gone, assumptions)) = same_rows(rules, block) {
        rules.note(assumptions);
        block.sources.retain(|source| source.instance != gone);
        let moved = |column: ColumnRef| {
            Some(ColumnRef {
                instance: kept,
                ..column
            })
            .filter(|_| column.instance == gone)
        };
        let own = block
            .exprs_mut()
            .into_iter()
            .chain(heads.iter_mut().map(|head| &mut **head));
        own.for_each(|expr| expr.move_columns(&moved));
        // What were `kept.key = gone.key` is now `key = key`: it still says that the key is not NULL.
        for predicate in &mut block.predicates {
            if let Node::Compare(Comparison::Equal, left, right) = &predicate.node
                && left == right
            {
                *predicate = left.as_ref().clone().is_not_null();
            }
        }
    }
}

fn same_rows(rules: &Rules, block: &Block) -> Option<(Instance, Instance, Assumptions)> {
    let classes = Classes::of(block);
    for (position, first) in block.sources.iter().enumerate() {
        for second in &block.sources[position + 1..] {
            let (Relation::Scan(scan), true) = (&first.relation, first.relation == second.relation)
            else {
                continue;
            };
            let agrees = |name: &String| {
                let index = scan.columns.iter().position(|(column, _)| column == name);
                let place = |instance| index.map(|index| ColumnRef { instance, index });
                let class = place(first.instance).and_then(|column| classes.class(column));
                class.is_some_and(|class| {
                    place(second.instance).is_some_and(|column| class.contains(&column))
                })
            };
            let key = rules
                .catalog
                .unique(&scan.table)
                .into_iter()
                .find(|(key, _)| key.iter().all(agrees));
            if let Some((_, assumptions)) = key {
                return Some((first.instance, second.instance, assumptions));
            }
        }
    }
    None
}

/// An inner join whose columns nobody reads asks only whether a match exists, once it cannot repeat rows. With a foreign
/// key to it that question is whether the key is there at all.
pub(super) fn drop_sources(
    rules: &Rules,
    block: &mut Block,
    heads: &mut [&mut Expr],
    ignores_repeats: bool,
) {
    let mut candidates: Vec<(String, Instance)> = block
        .sources
        .iter()
        .map(|source| (rank(&source.relation), source.instance))
        .collect();
    candidates.sort();
    for (_, instance) in candidates {
        if block.sources.len() > 1 {
            drop_source(rules, block, heads, instance, ignores_repeats);
        }
    }
}

/// Tries base tables by name first, so that the outcome does not hang on the order of the joins.
fn rank(relation: &Relation) -> String {
    match relation {
        Relation::Scan(scan) => format!("0 {}", scan.table),
        _ => "1".into(),
    }
}

fn drop_source(
    rules: &Rules,
    block: &mut Block,
    heads: &mut [&mut Expr],
    instance: Instance,
    ignores_repeats: bool,
) {
    let classes = Classes::of(block);
    let elsewhere = |column: ColumnRef| {
        (column.instance == instance)
            .then(|| classes.elsewhere(column))
            .flatten()
    };
    let is_still_read = |expr: &Expr| {
        let mut copy = expr.clone();
        copy.replace_columns(&elsewhere);
        copy.reads(instance)
    };
    let on_reads = block
        .optional
        .iter()
        .flat_map(|optional| &optional.on)
        .any(is_still_read);
    if on_reads || heads.iter().any(|head| is_still_read(head)) {
        return;
    }
    let (tests, mut rest) = tests_of(block, &classes, instance, &elsewhere);
    let position = block
        .sources
        .iter()
        .position(|source| source.instance == instance)
        .expect("a source of the block");
    let source = &block.sources[position];
    if source.relation.is_volatile()
        || tests
            .iter()
            .any(|test| test.is_volatile() || !block.is_inner(test))
    {
        return;
    }
    let assumptions = match ignores_repeats {
        true => Some(Assumptions::new()),
        false => at_most_one(rules, source, &tests),
    };
    let Some(assumptions) = assumptions else {
        return;
    };
    rules.note(assumptions);
    let source = block.sources.remove(position);
    rest.push(match referenced(rules, block, &source, &tests) {
        Some(present) => present,
        None => {
            let inner = Block {
                sources: vec![source],
                optional: vec![],
                predicates: tests,
            };
            Expr::boolean(Node::Exists(Box::new(Relation::Select {
                block: inner,
                outputs: vec![],
            })))
        }
    });
    block.predicates = rest;
    block
        .optional
        .iter_mut()
        .flat_map(|optional| &mut optional.on)
        .for_each(|on| on.replace_columns(&elsewhere));
    heads
        .iter_mut()
        .for_each(|head| head.replace_columns(&elsewhere));
}

/// The block's predicates, those about `instance` apart; equalities among the others no longer go through it.
fn tests_of(
    block: &Block,
    classes: &Classes,
    instance: Instance,
    elsewhere: &dyn Fn(ColumnRef) -> Option<Expr>,
) -> (Vec<Expr>, Vec<Expr>) {
    let (mut tests, mut rest) = (vec![], vec![]);
    for predicate in &block.predicates {
        if classes.is_member_equality(predicate) {
            continue;
        }
        let mut predicate = predicate.clone();
        predicate.replace_columns(elsewhere);
        match predicate.reads(instance) {
            true => tests.push(predicate),
            false => rest.push(predicate),
        }
    }
    for class in &classes.members {
        let (own, others): (Vec<ColumnRef>, Vec<ColumnRef>) =
            class.iter().partition(|column| column.instance == instance);
        let root = others.first().or(own.first()).expect("a class has members");
        let equality = |member: &ColumnRef| classes.expr(*root).equals(classes.expr(*member));
        tests.extend(own.iter().filter(|member| *member != root).map(equality));
        rest.extend(others.iter().skip(1).map(equality));
    }
    (tests, rest)
}

/// `x.fk = t.pk` with a declared foreign key: a match exists exactly when x.fk is not NULL.
fn referenced(rules: &Rules, block: &Block, source: &Source, tests: &[Expr]) -> Option<Expr> {
    let [test] = tests else { return None };
    let (left, right) = equal_columns(test)?;
    let (own, other) = match left.as_column()?.instance == source.instance {
        true => (left, right),
        false => (right, left),
    };
    let (Relation::Scan(target), column) = (&source.relation, other.as_column()?) else {
        return None;
    };
    let origin = block
        .sources
        .iter()
        .find(|origin| origin.instance == column.instance)?;
    let Relation::Scan(origin) = &origin.relation else {
        return None;
    };
    let assumptions = rules.catalog.foreign_key(
        &origin.table,
        &origin.columns[column.index].0,
        &target.table,
        &target.columns[own.as_column()?.index].0,
    )?;
    rules.note(assumptions);
    Some(other.clone().is_not_null())
}
