//! What can be proved about predicates without any context: that one can never be true, alone or because earlier rules
//! take everything it would match.
//! A predicate is split into the ways in which it can be true; each way limits the values of attributes. Parts that are
//! no comparison of an attribute with constants limit nothing, so what is claimed is always so, and some things that
//! are so are not found.

use std::collections::BTreeMap;

use super::Predicate;
use super::evaluate::holds;
use super::expression::{Comparison, Expression};
use crate::flags::context::{Type, Value};

/// Whether a rule can match any context at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Possible,
    /// No context makes the predicate true.
    Contradiction,
    /// Every context that makes it true matches one of the earlier predicates, whose indexes follow.
    Covered(Vec<usize>),
}

/// Proves, where it can, that a predicate never decides: `earlier` holds the predicates (none = always true) of the
/// rules before it that keep every unit they match.
pub fn reach(predicate: Option<&Predicate>, earlier: &[Option<&Predicate>]) -> Reach {
    let Some(ways) = predicate.map_or_else(
        || Some(vec![Vec::new()]),
        |known| ways(&known.expression, true),
    ) else {
        return Reach::Possible;
    };
    let possible: Vec<Limits> = ways.iter().filter_map(limits).collect();
    if possible.is_empty() {
        return Reach::Contradiction;
    }
    let covers: Option<Vec<usize>> = possible
        .iter()
        .map(|limits| covering(limits, earlier))
        .collect();
    covers.map_or(Reach::Possible, |mut covers| {
        covers.sort_unstable();
        covers.dedup();
        Reach::Covered(covers)
    })
}

/// More ways than this are not looked at.
const MOST_WAYS: usize = 256;

/// The values of a list this short are looked at one by one, so that `a IN (1, 2)` is seen inside `a = 1 OR a = 2`.
const MOST_CASES: usize = 16;

type Limits = BTreeMap<usize, Domain>;
type Way = Vec<(usize, Type, Constraint)>;

#[derive(Clone, Debug)]
enum Constraint {
    Is(Comparison, Value),
    Among(Vec<Value>),
    NotAmong(Vec<Value>),
    Null,
    NotNull,
}

/// The values that an attribute can still have.
#[derive(Clone, Debug)]
struct Domain {
    kind: Type,
    can_be_null: bool,
    only: Option<Vec<Value>>,
    bounds: Vec<(Comparison, Value)>,
}

/// The first earlier predicate that is true wherever the limits hold.
fn covering(limits: &Limits, earlier: &[Option<&Predicate>]) -> Option<usize> {
    earlier.iter().position(|predicate| {
        predicate.is_none_or(|predicate| outcomes(&predicate.expression, limits) == Outcomes::TRUE)
    })
}

fn limits(way: &Way) -> Option<Limits> {
    let mut limits = Limits::new();
    for (slot, kind, constraint) in way {
        let domain = limits.entry(*slot).or_insert_with(|| Domain::any(*kind));
        domain.apply(constraint);
        if domain.is_empty() {
            return None;
        }
    }
    Some(limits)
}

/// The ways in which an expression comes out as wanted, or nothing when there are too many.
fn ways(expression: &Expression, wanted: bool) -> Option<Vec<Way>> {
    match expression {
        Expression::And(operands) if wanted => product(operands, wanted),
        Expression::Or(operands) if !wanted => product(operands, wanted),
        Expression::And(operands) | Expression::Or(operands) => sum(operands, wanted),
        Expression::Not(operand) => ways(operand, !wanted),
        Expression::Constant {
            value: Value::Boolean(boolean),
            ..
        } => Some(if *boolean == wanted {
            vec![Vec::new()]
        } else {
            Vec::new()
        }),
        Expression::Constant {
            value: Value::Null, ..
        } => Some(Vec::new()),
        other => Some(match atom(other, wanted) {
            Some((slot, kind, Constraint::Among(values))) if values.len() <= MOST_CASES => values
                .into_iter()
                .map(|value| vec![(slot, kind, Constraint::Among(vec![value]))])
                .collect(),
            limit => vec![limit.into_iter().collect()],
        }),
    }
}

fn sum(operands: &[Expression], wanted: bool) -> Option<Vec<Way>> {
    let mut all = Vec::new();
    for operand in operands {
        all.extend(ways(operand, wanted)?);
    }
    (all.len() <= MOST_WAYS).then_some(all)
}

fn product(operands: &[Expression], wanted: bool) -> Option<Vec<Way>> {
    let mut all = vec![Vec::new()];
    for operand in operands {
        let next = ways(operand, wanted)?;
        if all.len() * next.len() > MOST_WAYS {
            return None;
        }
        all = all
            .iter()
            .flat_map(|left: &Way| next.iter().map(|right| [left.as_slice(), right].concat()))
            .collect();
    }
    Some(all)
}

/// The limit that a simple comparison puts on one attribute.
fn atom(expression: &Expression, wanted: bool) -> Option<(usize, Type, Constraint)> {
    match expression {
        Expression::Attribute {
            slot,
            kind: Type::Boolean,
            ..
        } => Some((
            *slot,
            Type::Boolean,
            Constraint::Is(Comparison::Equal, Value::Boolean(wanted)),
        )),
        Expression::Compare {
            operator,
            left,
            right,
        } => {
            let (slot, kind, operator, value) = sides(*operator, left, right)?;
            let operator = if wanted {
                operator
            } else {
                operator.opposite()
            };
            Some((slot, kind, Constraint::Is(operator, value)))
        }
        Expression::In {
            operand,
            list,
            is_negated,
        } => {
            let (slot, kind) = attribute(operand)?;
            let values = list.iter().map(constant).collect::<Option<Vec<_>>>()?;
            membership(slot, kind, values, *is_negated != wanted)
        }
        Expression::InTexts {
            operand,
            texts,
            has_null,
            is_negated,
        } => {
            let (slot, kind) = attribute(operand)?;
            let mut values: Vec<Value> = texts.iter().cloned().map(Value::Text).collect();
            values.extend(has_null.then_some(Value::Null));
            membership(slot, kind, values, *is_negated != wanted)
        }
        Expression::IsNull {
            operand,
            is_negated,
        } => {
            let (slot, kind) = attribute(operand)?;
            let is_null = *is_negated != wanted;
            Some((
                slot,
                kind,
                if is_null {
                    Constraint::Null
                } else {
                    Constraint::NotNull
                },
            ))
        }
        _ => None,
    }
}

/// `IN` with a null in the list is never false, so `NOT IN` with one is never true.
fn membership(
    slot: usize,
    kind: Type,
    values: Vec<Value>,
    is_in: bool,
) -> Option<(usize, Type, Constraint)> {
    let has_null = values.iter().any(Value::is_null);
    let values = values
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    let constraint = match (is_in, has_null) {
        (true, _) => Constraint::Among(values),
        (false, true) => Constraint::Among(Vec::new()),
        (false, false) => Constraint::NotAmong(values),
    };
    Some((slot, kind, constraint))
}

fn sides(
    operator: Comparison,
    left: &Expression,
    right: &Expression,
) -> Option<(usize, Type, Comparison, Value)> {
    if let (Some((slot, kind)), Some(value)) = (attribute(left), constant(right)) {
        return Some((slot, kind, operator, value));
    }
    let (slot, kind) = attribute(right)?;
    Some((slot, kind, operator.flipped(), constant(left)?))
}

fn attribute(expression: &Expression) -> Option<(usize, Type)> {
    match expression {
        Expression::Attribute { slot, kind, .. } => Some((*slot, *kind)),
        _ => None,
    }
}

fn constant(expression: &Expression) -> Option<Value> {
    match expression {
        Expression::Constant { value, .. } => Some(value.clone()),
        _ => None,
    }
}

impl Domain {
    fn any(kind: Type) -> Self {
        let only =
            (kind == Type::Boolean).then(|| vec![Value::Boolean(false), Value::Boolean(true)]);
        Self {
            kind,
            can_be_null: true,
            only,
            bounds: Vec::new(),
        }
    }

    fn apply(&mut self, constraint: &Constraint) {
        match constraint {
            Constraint::Null => self.only = Some(Vec::new()),
            Constraint::NotNull => self.can_be_null = false,
            Constraint::Is(operator, value) => self.bound(*operator, value),
            Constraint::Among(values) => self.among(values),
            Constraint::NotAmong(values) => {
                self.can_be_null = false;
                values
                    .iter()
                    .for_each(|value| self.bound(Comparison::NotEqual, value));
            }
        }
    }

    /// A comparison with null is never true.
    fn bound(&mut self, operator: Comparison, value: &Value) {
        self.can_be_null = false;
        if value.is_null() {
            self.only = Some(Vec::new());
        } else if operator == Comparison::Equal {
            self.among(std::slice::from_ref(value));
        } else {
            self.bounds.push((operator, value.clone()));
        }
    }

    fn among(&mut self, values: &[Value]) {
        self.can_be_null = false;
        let equal =
            |left: &Value, right: &Value| holds(Comparison::Equal, left, right) == Some(true);
        self.only = Some(match self.only.take() {
            Some(only) => only
                .into_iter()
                .filter(|kept| values.iter().any(|value| equal(kept, value)))
                .collect(),
            None => values.to_vec(),
        });
    }

    fn is_empty(&self) -> bool {
        !self.can_be_null && !self.has_value()
    }

    fn has_value(&self) -> bool {
        let fits = |value: &Value| {
            self.bounds
                .iter()
                .all(|(operator, bound)| holds(*operator, value, bound) == Some(true))
        };
        match &self.only {
            Some(only) => only.iter().any(fits),
            None => !self.bounds_exclude_all(),
        }
    }

    /// Two bounds that no value satisfies: from below and above in the wrong order, or around no whole number.
    fn bounds_exclude_all(&self) -> bool {
        let lower = |operator: &Comparison| {
            matches!(operator, Comparison::Greater | Comparison::GreaterOrEqual)
        };
        let upper =
            |operator: &Comparison| matches!(operator, Comparison::Less | Comparison::LessOrEqual);
        let lowers = self.bounds.iter().filter(|(operator, _)| lower(operator));
        lowers.into_iter().any(|(low, least)| {
            let uppers = self.bounds.iter().filter(|(operator, _)| upper(operator));
            uppers
                .into_iter()
                .any(|(high, most)| self.is_gap(*low, least, *high, most))
        })
    }

    fn is_gap(&self, low: Comparison, least: &Value, high: Comparison, most: &Value) -> bool {
        let is_reversed = holds(Comparison::Greater, least, most) == Some(true);
        let touches = holds(Comparison::Equal, least, most) == Some(true);
        let is_open = low == Comparison::Greater || high == Comparison::Less;
        let both_open = low == Comparison::Greater && high == Comparison::Less;
        let adjacent = match (self.kind, least, most) {
            (Type::Integer | Type::Timestamp, Value::Integer(least), Value::Integer(most))
            | (Type::Timestamp, Value::Timestamp(least), Value::Timestamp(most)) => {
                least.checked_add(1) == Some(*most)
            }
            _ => false,
        };
        is_reversed || (touches && is_open) || (adjacent && both_open)
    }
}

/// The set of results that are possible under the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcomes {
    is_true: bool,
    is_false: bool,
    is_unknown: bool,
}

impl Outcomes {
    const TRUE: Self = Self {
        is_true: true,
        is_false: false,
        is_unknown: false,
    };
    const ANY: Self = Self {
        is_true: true,
        is_false: true,
        is_unknown: true,
    };

    fn negated(self) -> Self {
        Self {
            is_true: self.is_false,
            is_false: self.is_true,
            ..self
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            is_true: self.is_true || other.is_true,
            is_false: self.is_false && other.is_false,
            is_unknown: (self.is_unknown && (other.is_unknown || other.is_false))
                || (other.is_unknown && self.is_false),
        }
    }
}

fn outcomes(expression: &Expression, limits: &Limits) -> Outcomes {
    match expression {
        Expression::Not(operand) => outcomes(operand, limits).negated(),
        Expression::Or(operands) => any(operands.iter().map(|operand| outcomes(operand, limits))),
        Expression::And(operands) => any(operands
            .iter()
            .map(|operand| outcomes(operand, limits).negated()))
        .negated(),
        Expression::Constant {
            value: Value::Boolean(true),
            ..
        } => Outcomes::TRUE,
        Expression::Constant {
            value: Value::Boolean(false),
            ..
        } => Outcomes::TRUE.negated(),
        other => simple_outcomes(other, limits),
    }
}

fn any(mut items: impl Iterator<Item = Outcomes>) -> Outcomes {
    let first = items.next().unwrap_or(Outcomes::ANY);
    items.fold(first, Outcomes::or)
}

/// A comparison is true, false or unknown as far as some value of the attribute makes it so.
fn simple_outcomes(expression: &Expression, limits: &Limits) -> Outcomes {
    let (Some((slot, kind, yes)), Some((_, _, no))) =
        (atom(expression, true), atom(expression, false))
    else {
        return Outcomes::ANY;
    };
    let domain = limits
        .get(&slot)
        .cloned()
        .unwrap_or_else(|| Domain::any(kind));
    let possible = |constraint: &Constraint| {
        let mut limited = domain.clone();
        limited.apply(constraint);
        !limited.is_empty()
    };
    let is_null_test = matches!(expression, Expression::IsNull { .. });
    let can_be_unknown = match expression {
        Expression::In { list, .. } => list
            .iter()
            .any(|item| constant(item).is_some_and(|value| value.is_null())),
        Expression::InTexts { has_null, .. } => *has_null,
        Expression::Compare { left, right, .. } => [left, right]
            .iter()
            .any(|side| constant(side).is_some_and(|value| value.is_null())),
        _ => false,
    };
    Outcomes {
        is_true: possible(&yes),
        is_false: possible(&no),
        is_unknown: !is_null_test && (domain.can_be_null || can_be_unknown),
    }
}
