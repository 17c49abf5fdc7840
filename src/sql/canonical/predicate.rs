//! Boolean expressions in one form: the smallest conjunction of clauses.
//! In: AND, OR, NOT over atoms. Out: clauses, each a set of literals, with negation pushed to the atoms.
//!
//! Proof: SQL's three values with AND = min, OR = max, NOT = reversal are a Kleene algebra: De Morgan, distribution,
//! absorption and idempotence hold, so the clause form is equal for TRUE, FALSE and NULL alike. What only holds where
//! NULL and FALSE are the same (a WHERE, ON, HAVING, FILTER or WHEN) is marked [`Mode::Filter`]: implication between
//! clauses, dropping what is never TRUE, `x IN (query)` as EXISTS.

use std::collections::BTreeSet;

use super::context::{Context, Form, rejects_null};
use super::domain;
use super::form::{Comparison, Expr, Node, Relation};
use super::literal::Literal;
use super::scalar;

/// Whether NULL is told apart from FALSE by whoever reads the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Value,
    Filter,
}

type Clause = BTreeSet<Expr>;

/// Above this many clauses a disjunction stays as one clause: sound, only less is recognised.
const LIMIT: usize = 64;
/// CASE conditions inside filters are opened up to this many arms.
const ARMS: usize = 4;

/// The conjunction of `predicates` as clauses, where only TRUE passes.
pub(super) fn filter(predicates: Vec<Expr>, context: &Context) -> Vec<Expr> {
    let whole = Expr::boolean(Node::And(predicates));
    let mut clauses = clauses(
        negation_normal(whole, false, Mode::Filter, context),
        Mode::Filter,
        context,
    );
    for _ in 0..8 {
        let before = clauses.clone();
        let possible = propagate(absorb(clauses, Mode::Filter, context), context);
        clauses = merge_units(possible, context);
        if clauses == before {
            break;
        }
    }
    clauses.into_iter().map(clause_expr).collect()
}

/// A filter as one expression: TRUE when nothing is left to ask.
pub(super) fn filter_expr(predicate: Expr, context: &Context) -> Expr {
    context.once(Form::Filter, predicate, |predicate| {
        conjunction(filter(vec![predicate], context))
    })
}

/// A boolean whose NULL matters.
pub(super) fn value(expr: Expr, context: &Context) -> Expr {
    context.once(Form::Value, expr, |expr| valued(expr, context))
}

fn valued(expr: Expr, context: &Context) -> Expr {
    let clauses = clauses(
        negation_normal(expr, false, Mode::Value, context),
        Mode::Value,
        context,
    );
    conjunction(
        absorb(clauses, Mode::Value, context)
            .into_iter()
            .map(clause_expr)
            .collect(),
    )
}

pub(super) fn conjunction(mut items: Vec<Expr>) -> Expr {
    match items.len() {
        0 => Expr::truth(true),
        1 => items.remove(0),
        _ => Expr::boolean(Node::And(items)),
    }
}

/// Pushes NOT down to the atoms and simplifies those.
pub(super) fn negation_normal(expr: Expr, negate: bool, mode: Mode, context: &Context) -> Expr {
    let each = |items: Vec<Expr>| {
        items
            .into_iter()
            .map(|item| negation_normal(item, negate, mode, context))
            .collect()
    };
    match expr.node {
        Node::And(items) if negate => Expr::boolean(Node::Or(each(items))),
        Node::And(items) => Expr::boolean(Node::And(each(items))),
        Node::Or(items) if negate => Expr::boolean(Node::And(each(items))),
        Node::Or(items) => Expr::boolean(Node::Or(each(items))),
        Node::Not(inner) => negation_normal(*inner, !negate, mode, context),
        _ => atom(expr, negate, mode, context),
    }
}

fn atom(expr: Expr, negate: bool, mode: Mode, context: &Context) -> Expr {
    let expr = scalar::simplify_atom(expr, context);
    if matches!(expr.node, Node::And(_) | Node::Or(_) | Node::Not(_)) {
        return negation_normal(expr, negate, mode, context);
    }
    let expr = if negate { negated(expr) } else { expr };
    let expr = if negate {
        scalar::simplify_atom_or_not(expr, context)
    } else {
        expr
    };
    match mode {
        Mode::Value => expr,
        Mode::Filter => filter_atom(expr, context),
    }
}

/// NOT of an atom: comparisons turn round, which is exact for NULL operands and for the total order of floats.
fn negated(expr: Expr) -> Expr {
    match expr.node {
        Node::Literal(Literal::Boolean(value)) => Expr::truth(!value),
        Node::Literal(Literal::Null) => expr,
        Node::Compare(Comparison::Equal, left, right) => {
            Expr::boolean(Node::Compare(Comparison::NotEqual, left, right))
        }
        Node::Compare(Comparison::NotEqual, left, right) => {
            Expr::boolean(Node::Compare(Comparison::Equal, left, right))
        }
        Node::Compare(Comparison::Less, left, right) => {
            Expr::boolean(Node::Compare(Comparison::LessOrEqual, right, left))
        }
        Node::Compare(Comparison::LessOrEqual, left, right) => {
            Expr::boolean(Node::Compare(Comparison::Less, right, left))
        }
        Node::InSet(subject, set, is_negated) => {
            Expr::boolean(Node::InSet(subject, set, !is_negated))
        }
        _ => expr.not(),
    }
}

/// What an atom asks for where only TRUE passes.
fn filter_atom(expr: Expr, context: &Context) -> Expr {
    let again = |expr: Expr| negation_normal(expr, false, Mode::Filter, context);
    match &expr.node {
        Node::Literal(Literal::Null) => Expr::truth(false),
        Node::IsTrue(inner) => again((**inner).clone()),
        Node::DistinctFrom(left, right) => {
            distinct_filter(left, right, context).map_or(expr, again)
        }
        Node::Case(arms, otherwise) => {
            case_filter(arms, otherwise.as_deref(), &|value| value.clone(), context)
                .map_or(expr, again)
        }
        // `x = x` and `x <= x` ask only that x is there, `x < x` and `x <> x` are never TRUE; in the engine's total order
        // of floats NaN = NaN, so this holds for them too.
        Node::Compare(Comparison::Equal | Comparison::LessOrEqual, left, right)
            if left == right && !left.is_volatile() =>
        {
            again(left.as_ref().clone().is_not_null())
        }
        Node::Compare(_, left, right) if left == right && !left.is_volatile() => Expr::truth(false),
        Node::Compare(comparison, left, right) => {
            compared_case(*comparison, left, right, context).map_or(expr, again)
        }
        Node::InSet(subject, set, is_negated) => match &subject.node {
            Node::Case(arms, otherwise) if settles(arms, otherwise.as_deref()) => {
                let test = |value: &Expr| {
                    Expr::boolean(Node::InSet(
                        Box::new(value.clone()),
                        set.clone(),
                        *is_negated,
                    ))
                };
                case_filter(arms, otherwise.as_deref(), &test, context).map_or(expr, again)
            }
            _ => expr,
        },
        Node::IsNull(subject) => null_case(subject, true, context).map_or(expr, again),
        Node::InQuery(needle, relation) => exists_equal(needle, relation).map_or(expr, again),
        Node::Not(inner) => match &inner.node {
            Node::IsTrue(tested) => again(Expr::boolean(Node::Or(vec![
                (**tested).clone().not(),
                (**tested).clone().is_null(),
            ]))),
            Node::DistinctFrom(left, right)
                if context.is_not_null(left) || context.is_not_null(right) =>
            {
                again((**left).clone().equals((**right).clone()))
            }
            Node::IsNull(subject) => null_case(subject, false, context).map_or(expr, again),
            Node::Case(arms, otherwise) => {
                let test = |value: &Expr| value.clone().not();
                case_filter(arms, otherwise.as_deref(), &test, context).map_or(expr, again)
            }
            Node::InQuery(needle, relation) => {
                not_in_not_null(needle, relation, context).map_or(expr, again)
            }
            _ => expr,
        },
        _ => expr,
    }
}

/// `a IS DISTINCT FROM b` with b never NULL: `a <> b OR a IS NULL`.
fn distinct_filter(left: &Expr, right: &Expr, context: &Context) -> Option<Expr> {
    let (nullable, _) = match (context.is_not_null(left), context.is_not_null(right)) {
        (_, true) => (left, right),
        (true, _) => (right, left),
        _ => return None,
    };
    let differs = Expr::boolean(Node::Compare(
        Comparison::NotEqual,
        Box::new(left.clone()),
        Box::new(right.clone()),
    ));
    Some(Expr::boolean(Node::Or(vec![
        differs,
        nullable.clone().is_null(),
    ])))
}

/// The rows for which `test` of a CASE is TRUE: some arm is the first whose condition is TRUE, and its value passes.
/// Opened only when at most one value is not a literal, so that values are not repeated; conditions are, which is what the
/// budget is for.
fn case_filter(
    arms: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    test: &dyn Fn(&Expr) -> Expr,
    context: &Context,
) -> Option<Expr> {
    if !settles(arms, otherwise) {
        return None;
    }
    let mut earlier: Vec<Expr> = vec![];
    let mut ways = vec![];
    for (when, then) in arms {
        let first = [earlier.clone(), vec![when.clone(), test(then)]].concat();
        ways.push(Expr::boolean(Node::And(first)));
        earlier.push(not_true(when));
    }
    if let Some(otherwise) = otherwise {
        earlier.push(test(otherwise));
        ways.push(Expr::boolean(Node::And(earlier)));
    }
    affordable(Expr::boolean(Node::Or(ways)), context)
}

/// An opened CASE, if the budget has steps for each of its nodes.
fn affordable(opened: Expr, context: &Context) -> Option<Expr> {
    context.takes(size(&opened)).then_some(opened)
}

fn size(expr: &Expr) -> usize {
    1 + expr.children().into_iter().map(size).sum::<usize>()
}

fn settles(arms: &[(Expr, Expr)], otherwise: Option<&Expr>) -> bool {
    let values = arms.iter().map(|(_, then)| then).chain(otherwise);
    arms.len() <= ARMS && values.filter(|value| value.as_literal().is_none()).count() <= 1
}

/// The condition is FALSE or NULL.
fn not_true(condition: &Expr) -> Expr {
    Expr::boolean(Node::Or(vec![
        condition.clone().not(),
        condition.clone().is_null(),
    ]))
}

/// A comparison of a CASE with a literal moves into the CASE.
fn compared_case(
    comparison: Comparison,
    left: &Expr,
    right: &Expr,
    context: &Context,
) -> Option<Expr> {
    let compare = |left: &Expr, right: &Expr| {
        Expr::boolean(Node::Compare(
            comparison,
            Box::new(left.clone()),
            Box::new(right.clone()),
        ))
    };
    match (&left.node, &right.node) {
        (Node::Case(arms, otherwise), Node::Literal(_)) => {
            let test = |value: &Expr| compare(value, right);
            case_filter(arms, otherwise.as_deref(), &test, context)
        }
        (Node::Literal(_), Node::Case(arms, otherwise)) => {
            let test = |value: &Expr| compare(left, value);
            case_filter(arms, otherwise.as_deref(), &test, context)
        }
        _ => None,
    }
}

/// `CASE … IS NULL` and `IS NOT NULL`: the first arm that is TRUE decides; IS NULL itself is never NULL.
fn null_case(subject: &Expr, wants_null: bool, context: &Context) -> Option<Expr> {
    let Node::Case(arms, otherwise) = &subject.node else {
        return None;
    };
    if arms.len() > ARMS {
        return None;
    }
    let test = |value: &Expr| match wants_null {
        true => value.clone().is_null(),
        false => value.clone().is_not_null(),
    };
    let mut earlier: Vec<Expr> = vec![];
    let mut ways = vec![];
    for (when, then) in arms {
        ways.push(Expr::boolean(Node::And(
            [earlier.clone(), vec![when.clone(), test(then)]].concat(),
        )));
        earlier.push(not_true(when));
    }
    let last = otherwise.as_deref().map_or(Expr::truth(wants_null), test);
    earlier.push(last);
    ways.push(Expr::boolean(Node::And(earlier)));
    affordable(Expr::boolean(Node::Or(ways)), context)
}

/// `x IN (query)` is TRUE exactly when some row of the query equals x; FALSE and NULL are one here.
fn exists_equal(needle: &Expr, relation: &Relation) -> Option<Expr> {
    let Relation::Select { block, outputs } = relation else {
        return None;
    };
    let [output] = outputs.as_slice() else {
        return None;
    };
    if output.is_volatile() || needle.is_volatile() {
        return None;
    }
    let mut block = block.clone();
    block.predicates.push(needle.clone().equals(output.clone()));
    Some(Expr::boolean(Node::Exists(Box::new(Relation::Select {
        block,
        outputs: vec![],
    }))))
}

/// `x NOT IN (query)` is `NOT EXISTS (… = x)` only when neither side can be NULL: one NULL row empties the result.
fn not_in_not_null(needle: &Expr, relation: &Relation, context: &Context) -> Option<Expr> {
    let Relation::Select { outputs, .. } = relation else {
        return None;
    };
    let are_never_null =
        outputs.iter().all(|output| context.is_not_null(output)) && context.is_not_null(needle);
    are_never_null
        .then(|| exists_equal(needle, relation).map(Expr::not))
        .flatten()
}

fn clauses(expr: Expr, mode: Mode, context: &Context) -> Vec<Clause> {
    match expr.node {
        Node::And(items) => {
            let all = items
                .into_iter()
                .flat_map(|item| clauses(item, mode, context))
                .collect();
            tidy(all, mode, context)
        }
        Node::Or(items) => disjunction(items, mode, context),
        _ if expr.is_truth(true) => vec![],
        _ if expr.is_truth(false) => vec![Clause::new()],
        _ => vec![Clause::from([expr])],
    }
}

/// OR over AND: every choice of one clause per item, `(a AND b) OR (a AND c)` becomes `a AND (b OR c)`.
fn disjunction(items: Vec<Expr>, mode: Mode, context: &Context) -> Vec<Clause> {
    let mut product = vec![Clause::new()];
    let mut opaque = Clause::new();
    for item in flatten_or(items) {
        let item_clauses = clauses(item, mode, context);
        let choices = product.len() * item_clauses.len();
        let literals = |clauses: &[Clause]| clauses.iter().map(Clause::len).sum::<usize>();
        let steps =
            product.len() * literals(&item_clauses) + item_clauses.len() * literals(&product);
        if choices > LIMIT || choices > 1 && !context.takes(steps) {
            opaque.insert(conjunction(
                item_clauses.into_iter().map(clause_expr).collect(),
            ));
            continue;
        }
        let joined = product
            .iter()
            .flat_map(|left| item_clauses.iter().map(move |right| left | right))
            .collect();
        product = tidy(joined, mode, context);
    }
    product
        .into_iter()
        .map(|clause| &clause | &opaque)
        .collect()
}

fn flatten_or(items: Vec<Expr>) -> Vec<Expr> {
    items
        .into_iter()
        .flat_map(|item| match item.node {
            Node::Or(inner) => flatten_or(inner),
            _ => vec![item],
        })
        .collect()
}

fn tidy(clauses: Vec<Clause>, mode: Mode, context: &Context) -> Vec<Clause> {
    let merged = clauses
        .into_iter()
        .map(|clause| merge_sets(clause, mode, context))
        .collect();
    absorb(merged, mode, context)
}

/// `x = a OR x = b` is `x IN (a, b)`, exactly; a clause with TRUE is TRUE; FALSE adds nothing to a clause.
fn merge_sets(clause: Clause, mode: Mode, context: &Context) -> Clause {
    if clause.iter().any(|literal| literal.is_truth(true)) {
        return Clause::from([Expr::truth(true)]);
    }
    let mut merged: Vec<Expr> = vec![];
    for literal in clause {
        if literal.is_truth(false) {
            continue;
        }
        let found = merged
            .iter_mut()
            .find_map(|earlier| union_points(earlier, &literal).map(|both| *earlier = both));
        if found.is_none() {
            merged.push(literal);
        }
    }
    if mode == Mode::Filter && context.takes(merged.len() * merged.len()) {
        drop_implied_literals(&mut merged);
    }
    merged.into_iter().collect()
}

fn union_points(left: &Expr, right: &Expr) -> Option<Expr> {
    match (&left.node, &right.node) {
        (Node::InSet(subject, points, false), Node::InSet(other, more, false))
            if subject == other =>
        {
            Some(Expr::boolean(Node::InSet(
                subject.clone(),
                points | more,
                false,
            )))
        }
        _ => None,
    }
}

/// In a filter, `p OR q` is q when p implies q. `x IS NULL OR x IS NOT NULL` is TRUE.
fn drop_implied_literals(literals: &mut Vec<Expr>) {
    let mut index = 0;
    while index < literals.len() {
        let is_implied = (0..literals.len())
            .any(|other| other != index && implies(&literals[index], &literals[other]));
        if is_implied {
            literals.remove(index);
        } else {
            index += 1;
        }
    }
    let covers = |subject: &Expr| literals.contains(&subject.clone().is_not_null());
    if literals
        .iter()
        .any(|literal| matches!(&literal.node, Node::IsNull(subject) if covers(subject)))
    {
        *literals = vec![Expr::truth(true)];
    }
}

/// Drops clauses that another clause already demands.
fn absorb(clauses: Vec<Clause>, mode: Mode, context: &Context) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = clauses
        .into_iter()
        .filter(|clause| !clause.iter().any(|literal| literal.is_truth(true)))
        .collect();
    clauses.sort();
    clauses.dedup();
    if clauses.iter().any(Clause::is_empty) {
        return vec![Clause::new()];
    }
    let mut index = 0;
    while index < clauses.len() {
        let is_demanded = (0..clauses.len()).any(|other| {
            let (strong, weak) = (&clauses[other], &clauses[index]);
            other != index
                && context.takes(strong.len() * weak.len())
                && clause_implies(strong, weak, mode)
        });
        if is_demanded {
            clauses.remove(index);
        } else {
            index += 1;
        }
    }
    clauses
}

fn clause_implies(strong: &Clause, weak: &Clause, mode: Mode) -> bool {
    strong.iter().all(|literal| {
        weak.contains(literal)
            || (mode == Mode::Filter && weak.iter().any(|other| implies(literal, other)))
    })
}

/// Whenever `strong` is TRUE, `weak` is TRUE.
pub(super) fn implies(strong: &Expr, weak: &Expr) -> bool {
    if strong == weak {
        return true;
    }
    if let Node::Not(inner) = &weak.node
        && let Node::IsNull(subject) = &inner.node
        && rejects_null(strong, subject)
    {
        return true;
    }
    match (domain::of(strong), domain::of(weak)) {
        (Some((left, strong)), Some((right, weak))) => left == right && strong.implies(&weak),
        _ => false,
    }
}

/// The two are never TRUE together.
pub(super) fn excludes(left: &Expr, right: &Expr) -> bool {
    let is_negation = |literal: &Expr, other: &Expr| matches!(&literal.node, Node::Not(inner) if **inner == *other);
    let null_and_needed = |literal: &Expr, other: &Expr| matches!(&literal.node, Node::IsNull(subject) if rejects_null(other, subject));
    if is_negation(left, right)
        || is_negation(right, left)
        || null_and_needed(left, right)
        || null_and_needed(right, left)
    {
        return true;
    }
    match (domain::of(left), domain::of(right)) {
        (Some((left, one)), Some((right, other))) => left == right && one.excludes(&other),
        _ => false,
    }
}

/// A literal that a clause of one literal rules out can never make its own clause TRUE.
fn propagate(clauses: Vec<Clause>, context: &Context) -> Vec<Clause> {
    let units: Vec<Expr> = clauses
        .iter()
        .filter(|clause| clause.len() == 1)
        .flatten()
        .cloned()
        .collect();
    let literals: usize = clauses.iter().map(Clause::len).sum();
    if !context.takes(units.len() * literals) {
        return clauses;
    }
    let is_possible = |literal: &Expr| {
        !units
            .iter()
            .any(|unit| unit != literal && excludes(unit, literal))
    };
    clauses
        .into_iter()
        .map(|clause| clause.into_iter().filter(&is_possible).collect())
        .collect()
}

/// Clauses of one literal about one expression become their intersection.
fn merge_units(clauses: Vec<Clause>, context: &Context) -> Vec<Clause> {
    let mut subjects: Vec<(Expr, domain::Domain)> = vec![];
    let mut rest = vec![];
    for clause in clauses {
        let known = match clause.len() {
            1 => clause.first().and_then(domain::of),
            _ => None,
        };
        match known {
            None => rest.push(clause),
            Some((subject, domain)) => {
                match subjects.iter_mut().find(|(earlier, _)| *earlier == subject) {
                    Some((_, earlier)) => *earlier = earlier.intersect(&domain),
                    None => subjects.push((subject, domain)),
                }
            }
        }
    }
    for (subject, domain) in subjects {
        rest.extend(
            domain::predicates(&subject, &domain)
                .into_iter()
                .map(|literal| match literal.is_truth(false) {
                    true => Clause::new(),
                    false => Clause::from([literal]),
                }),
        );
    }
    absorb(rest, Mode::Filter, context)
}

fn clause_expr(clause: Clause) -> Expr {
    let mut literals: Vec<Expr> = clause.into_iter().collect();
    match literals.len() {
        0 => Expr::truth(false),
        1 => literals.remove(0),
        _ => Expr::boolean(Node::Or(literals)),
    }
}
