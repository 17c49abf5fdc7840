//! Aggregates in one form.
//! In: aggregate calls over a block. Out: expressions over fewer kinds of calls: `COUNT(x)` is a filtered `COUNT(*)`,
//! a CASE argument is a FILTER, `SUM` of constants is a multiple of a count.
//!
//! Every rule keeps the difference between an empty group of rows and rows that are all NULL: `SUM` of nothing is NULL,
//! `COUNT` of nothing is 0. What only holds for a group that cannot be empty asks for `is_grouped` and no FILTER.

use super::context::{Context, is_null_with};
use super::form::{Aggregate, Expr, Instance, Monomial, Node};
use super::predicate;
use super::scalar;
use super::types::Type;

/// The aggregates found so far for one group and where they stand among its outputs.
pub(super) struct Calls {
    pub instance: Instance,
    pub offset: usize,
    pub found: Vec<Aggregate>,
}

impl Calls {
    /// The output of a call; equal calls are one.
    fn column(&mut self, call: Aggregate) -> Expr {
        let ty = call.ty.clone();
        let index = self
            .found
            .iter()
            .position(|earlier| *earlier == call)
            .unwrap_or_else(|| {
                self.found.push(call);
                self.found.len() - 1
            });
        Expr::column(self.instance, self.offset + index, ty)
    }
}

/// Rewrites one call into an expression over `calls`.
pub(super) fn lower(
    mut call: Aggregate,
    is_grouped: bool,
    rows: &[Expr],
    context: &Context,
    calls: &mut Calls,
) -> Expr {
    for argument in &mut call.arguments {
        *argument = scalar::simplify(argument.clone(), context);
    }
    call.filter = predicate::filter(call.filter, context);
    if is_order_free(&call.function) {
        call.order.clear();
    }
    if matches!(
        call.function.as_str(),
        "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or"
    ) {
        call.is_distinct = false;
    }
    move_case_to_filter(&mut call, context);
    match call.function.as_str() {
        "count" => count(call, rows, context, calls),
        "sum" if call.ty == Type::BIGINT && !call.is_distinct => {
            sum(call, is_grouped, rows, context, calls)
        }
        _ => {
            tidy_filter(&mut call, rows);
            calls.column(call)
        }
    }
}

/// `AGG(CASE WHEN p THEN x END)` is `AGG(x) FILTER (WHERE p)` for aggregates that skip NULL: the rows outside p give NULL.
fn move_case_to_filter(call: &mut Aggregate, context: &Context) {
    if !skips_null(&call.function) || call.nulls.is_some() {
        return;
    }
    while let Some(Expr {
        node: Node::Case(arms, None),
        ..
    }) = call.arguments.first()
        && let [(when, then)] = arms.as_slice()
    {
        let (when, then) = (when.clone(), then.clone());
        call.filter.push(when);
        call.arguments[0] = then;
    }
    call.filter = predicate::filter(std::mem::take(&mut call.filter), context);
}

/// `COUNT(x)` is `COUNT(*) FILTER (WHERE x IS NOT NULL)`; with `x` never NULL it is `COUNT(*)`.
fn count(mut call: Aggregate, rows: &[Expr], context: &Context, calls: &mut Calls) -> Expr {
    if call.arguments.iter().any(Expr::is_null_literal) {
        return Expr::integer(0, call.ty);
    }
    if !call.is_distinct {
        let present = call.arguments.drain(..).map(Expr::is_not_null);
        call.filter.extend(present);
        call.filter = predicate::filter(std::mem::take(&mut call.filter), context);
    }
    tidy_filter(&mut call, rows);
    calls.column(call)
}

/// Sums of whole numbers wrap like `+`, so ring identities hold for them as in [`super::polynomial`].
fn sum(
    mut call: Aggregate,
    is_grouped: bool,
    rows: &[Expr],
    context: &Context,
    calls: &mut Calls,
) -> Expr {
    tidy_filter(&mut call, rows);
    let is_never_empty = is_grouped && call.filter.is_empty();
    if let Some(expr) = constant_or_zero(&call, is_never_empty, rows, context, calls) {
        return expr;
    }
    let [
        Expr {
            node: Node::Sum(terms),
            ty,
        },
    ] = call.arguments.as_slice()
    else {
        return calls.column(call);
    };
    if *ty != call.ty {
        return calls.column(call);
    }
    let (terms, ty) = (terms.clone(), ty.clone());
    if let [
        Monomial {
            coefficient,
            factors,
        },
    ] = terms.as_slice()
        && *coefficient != 1
        && !factors.is_empty()
    {
        let inner = Aggregate {
            arguments: vec![product(factors, &ty)],
            ..call
        };
        let column = sum(inner, is_grouped, rows, context, calls);
        return scaled(*coefficient, column, &ty);
    }
    split_sum(call, &terms, &ty, is_grouped, rows, context, calls)
}

/// `SUM(a + b)` is `SUM(a) + SUM(b)` only when neither is ever NULL: otherwise one NULL takes the row's other value with it.
fn split_sum(
    call: Aggregate,
    terms: &[Monomial],
    ty: &Type,
    is_grouped: bool,
    rows: &[Expr],
    context: &Context,
    calls: &mut Calls,
) -> Expr {
    let has_variable = terms.iter().any(|term| !term.factors.is_empty());
    let is_splittable = terms.len() > 1
        && has_variable
        && terms
            .iter()
            .flat_map(|term| &term.factors)
            .all(|factor| context.is_not_null(factor));
    if !is_splittable {
        return calls.column(call);
    }
    let mut parts = vec![];
    for term in terms {
        let part = match term.factors.as_slice() {
            [] => calls.column(count_of(&call)),
            factors => {
                let inner = Aggregate {
                    arguments: vec![product(factors, ty)],
                    ..call.clone()
                };
                sum(inner, is_grouped, rows, context, calls)
            }
        };
        parts.push(Monomial {
            coefficient: term.coefficient,
            factors: vec![part],
        });
    }
    Expr::new(Node::Sum(parts), ty.clone())
}

/// In a group that has rows: `SUM(k)` is `k * COUNT(*)`, `SUM(CASE WHEN p THEN k ELSE 0 END)` is
/// `k * COUNT(*) FILTER (WHERE p)`, and with x never NULL `SUM(CASE WHEN p THEN x ELSE 0 END)` is
/// `COALESCE(SUM(x) FILTER (WHERE p), 0)`. Without GROUP BY the left sides are NULL over no rows: not equal.
fn constant_or_zero(
    call: &Aggregate,
    is_never_empty: bool,
    rows: &[Expr],
    context: &Context,
    calls: &mut Calls,
) -> Option<Expr> {
    if !is_never_empty {
        return None;
    }
    let [argument] = call.arguments.as_slice() else {
        return None;
    };
    if let Some(value) = argument
        .as_literal()
        .and_then(|literal| literal.as_integer())
    {
        return Some(scaled(value, calls.column(count_of(call)), &call.ty));
    }
    let Node::Case(arms, Some(otherwise)) = &argument.node else {
        return None;
    };
    let [(when, then)] = arms.as_slice() else {
        return None;
    };
    let (when, then) = match (
        otherwise
            .as_literal()
            .and_then(|literal| literal.as_integer()),
        then.as_literal(),
    ) {
        (Some(0), _) => (when.clone(), then.clone()),
        (_, Some(literal)) if literal.as_integer() == Some(0) && context.is_not_null(when) => (
            scalar::negated_condition(when.clone(), context),
            (**otherwise).clone(),
        ),
        _ => return None,
    };
    let filtered = Aggregate {
        filter: predicate::filter(vec![when], context),
        arguments: vec![then.clone()],
        ..call.clone()
    };
    if let Some(value) = then.as_literal().and_then(|literal| literal.as_integer()) {
        let mut count = count_of(&filtered);
        tidy_filter(&mut count, rows);
        return Some(scaled(value, calls.column(count), &call.ty));
    }
    if !context.is_not_null(&then) {
        return None;
    }
    let total = sum(filtered, true, rows, context, calls);
    let arm = (total.clone().is_null(), Expr::integer(0, call.ty.clone()));
    Some(Expr::new(
        Node::Case(vec![arm], Some(Box::new(total))),
        call.ty.clone(),
    ))
}

fn count_of(call: &Aggregate) -> Aggregate {
    Aggregate {
        function: "count".into(),
        arguments: vec![],
        ty: Type::BIGINT,
        ..call.clone()
    }
}

fn product(factors: &[Expr], ty: &Type) -> Expr {
    match factors {
        [only] => only.clone(),
        factors => Expr::new(
            Node::Sum(vec![Monomial {
                coefficient: 1,
                factors: factors.to_vec(),
            }]),
            ty.clone(),
        ),
    }
}

fn scaled(coefficient: i128, expr: Expr, ty: &Type) -> Expr {
    match coefficient {
        1 => expr,
        _ => Expr::new(
            Node::Sum(vec![Monomial {
                coefficient,
                factors: vec![expr],
            }]),
            ty.clone(),
        ),
    }
}

/// Drops from a FILTER what the block's rows meet anyway, and `x IS NOT NULL` under an aggregate that skips the rows
/// where x is NULL by itself.
fn tidy_filter(call: &mut Aggregate, rows: &[Expr]) {
    let skips = skips_null(&call.function) && call.nulls.is_none();
    let argument = call.arguments.first().cloned();
    call.filter.retain(|clause| {
        let is_met = rows.iter().any(|row| predicate::implies(row, clause));
        let is_skipped = skips
            && matches!(&clause.node, Node::Not(inner) if matches!(&inner.node, Node::IsNull(subject)
                if argument.as_ref().is_some_and(|argument| is_null_with(argument, subject))));
        !is_met && !is_skipped
    });
}

/// Aggregates that leave NULL arguments out.
pub(super) fn skips_null(function: &str) -> bool {
    matches!(
        function,
        "sum"
            | "count"
            | "min"
            | "max"
            | "avg"
            | "median"
            | "stddev"
            | "stddev_pop"
            | "var"
            | "var_pop"
            | "bool_and"
            | "bool_or"
            | "bit_and"
            | "bit_or"
            | "bit_xor"
            | "approx_distinct"
            | "approx_median"
            | "approx_percentile_cont"
            | "percentile_cont"
    )
}

/// Aggregates whose value does not depend on the order of rows.
pub(super) fn is_order_free(function: &str) -> bool {
    // The percentile functions carry their column as an order: it is an argument, not an order of rows.
    let has_argument_order = matches!(function, "approx_percentile_cont" | "percentile_cont");
    !has_argument_order
        && (skips_null(function)
            || function.starts_with("regr_")
            || matches!(
                function,
                "corr" | "covar_samp" | "covar_pop" | "grouping_id"
            ))
}

/// True when the value depends on the order in which rows arrive.
pub(super) fn reads_order(call: &Aggregate) -> bool {
    let has_argument_order = matches!(
        call.function.as_str(),
        "approx_percentile_cont" | "percentile_cont"
    );
    !is_order_free(&call.function) && !has_argument_order && call.order.is_empty()
}

/// True when repeated rows change nothing.
pub(super) fn ignores_repeats(call: &Aggregate) -> bool {
    let of_a_set = matches!(
        call.function.as_str(),
        "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or"
    );
    of_a_set || (call.is_distinct && matches!(call.function.as_str(), "count" | "sum" | "avg"))
}
