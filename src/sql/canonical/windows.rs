//! Window frames written one way, and what windows and filters over them may exchange.
//! In: frames of the engine, window calls. Out: a frame text in which the default frame and its long form are one.

use datafusion::logical_expr::{WindowFrame, WindowFrameBound};

use super::form::{Block, Comparison, Expr, Node, Relation, SortKey, WindowCall};
use super::literal::Literal;
use super::types::Type;

/// The whole partition, in whatever order.
pub(super) const WHOLE: &str = "whole";
/// The frame of an ordered window that says nothing: peers of the current row included.
pub(super) const RUNNING: &str = "range unbounded preceding .. current row";

/// The frame as text; `WHOLE` where both ends are open.
pub(super) fn frame_text(frame: &WindowFrame) -> String {
    let start = bound(&frame.start_bound);
    let end = bound(&frame.end_bound);
    if start == "unbounded preceding" && end == "unbounded following" {
        return WHOLE.into();
    }
    format!(
        "{} {start} .. {end}",
        frame.units.to_string().to_lowercase()
    )
}

fn bound(bound: &WindowFrameBound) -> String {
    let distance = |value: &datafusion::common::ScalarValue, way: &str| match value.is_null() {
        true => format!("unbounded {way}"),
        false => format!("{} {way}", super::literal::Literal::from_scalar(value)),
    };
    match bound {
        WindowFrameBound::Preceding(value) => distance(value, "preceding"),
        WindowFrameBound::CurrentRow => "current row".into(),
        WindowFrameBound::Following(value) => distance(value, "following"),
    }
}

pub(super) fn row_number(partition: Vec<Expr>, order: Vec<SortKey>) -> WindowCall {
    WindowCall {
        function: "row_number".into(),
        arguments: vec![],
        is_distinct: false,
        filter: vec![],
        partition,
        order,
        frame: RUNNING.into(),
        nulls: None,
        ty: Type::Integer {
            bits: 64,
            is_signed: false,
        },
    }
}

/// Functions that number or rank rows: a frame means nothing to them.
pub(super) fn ignores_frame(function: &str) -> bool {
    matches!(
        function,
        "row_number"
            | "rank"
            | "dense_rank"
            | "percent_rank"
            | "cume_dist"
            | "ntile"
            | "lag"
            | "lead"
    )
}

/// Normalises one call: order keys that the partition fixes say nothing, nor do repeated ones; a running frame without
/// an order has every row as a peer, so it is the whole partition.
pub(super) fn tidy(call: &mut WindowCall) {
    call.partition.retain(|expr| expr.as_literal().is_none());
    call.partition.sort();
    call.partition.dedup();
    let mut kept: Vec<SortKey> = vec![];
    for key in std::mem::take(&mut call.order) {
        let is_fixed = key.expr.as_literal().is_some() || call.partition.contains(&key.expr);
        if !is_fixed && !kept.iter().any(|earlier| earlier.expr == key.expr) {
            kept.push(key);
        }
    }
    call.order = kept;
    if ignores_frame(&call.function) {
        call.frame = WHOLE.into();
    }
    if call.order.is_empty() && call.frame == RUNNING {
        call.frame = WHOLE.into();
    }
    if call.frame == WHOLE
        && super::aggregates::is_order_free(&call.function)
        && !call.order.is_empty()
    {
        call.order.clear();
    }
}

/// Row numbers and ranks start at 1: `rn <= 1` and `rn < 2` are `rn = 1`.
pub(super) fn count_from_one(block: &mut Block) {
    for index in 0..block.predicates.len() {
        let (subject, limit, step) = match &block.predicates[index].node {
            Node::Compare(Comparison::LessOrEqual, subject, limit) => (subject, limit, 0),
            Node::Compare(Comparison::Less, subject, limit) => (subject, limit, 1),
            _ => continue,
        };
        let Some(Literal::Integer(limit)) = limit.as_literal() else {
            continue;
        };
        let limit = limit - step;
        let is_whole = subject.ty.is_integer() || matches!(subject.ty, Type::Decimal(_, 0));
        if !is_whole || !is_rank(block, subject) || limit > 1 {
            continue;
        }
        block.predicates[index] = match limit {
            1 => Expr::boolean(Node::InSet(
                subject.clone(),
                [Literal::Integer(1)].into(),
                false,
            )),
            _ => Expr::truth(false),
        };
    }
}

fn is_rank(block: &Block, subject: &Expr) -> bool {
    if let Node::Cast(inner) = &subject.node {
        return is_rank(block, inner);
    }
    let Some(column) = subject.as_column() else {
        return false;
    };
    block.sources.iter().any(|source| match &source.relation {
        Relation::Window { outputs, calls, .. } if source.instance == column.instance => {
            let call = column
                .index
                .checked_sub(outputs.len())
                .and_then(|index| calls.get(index));
            call.is_some_and(|call| {
                matches!(call.function.as_str(), "row_number" | "rank" | "dense_rank")
            })
        }
        _ => false,
    })
}
