//! What a simple predicate says about one expression: a set of points, a range, a set left out, or only that it is there.
//! In: predicates in normal form. Out: intersection, implication and disjointness, for exact types only; floats have
//! -0.0 and NaN and take no part.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::form::{Comparison, Expr, Node};
use super::literal::Literal;
use super::types::Type;

/// The values a filter lets through; NULL never passes except where `is_null` says that nothing else does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Domain {
    pub points: Option<BTreeSet<Literal>>,
    pub outside: BTreeSet<Literal>,
    pub low: Option<(Literal, bool)>,
    pub high: Option<(Literal, bool)>,
    pub is_null: bool,
}

/// Reads a predicate as a domain of one subject.
pub(super) fn of(predicate: &Expr) -> Option<(Expr, Domain)> {
    let mut domain = Domain::default();
    let subject = match &predicate.node {
        Node::IsNull(subject) => {
            domain.is_null = true;
            (**subject).clone()
        }
        Node::Not(inner) => match &inner.node {
            Node::IsNull(subject) => (**subject).clone(),
            _ if is_truth_atom(inner) => {
                domain.points = Some(BTreeSet::from([Literal::Boolean(false)]));
                (**inner).clone()
            }
            _ => return None,
        },
        Node::InSet(subject, set, is_negated) if subject.ty.is_exact() => {
            if *is_negated {
                domain.outside = set.clone();
            } else {
                domain.points = Some(set.clone());
            }
            (**subject).clone()
        }
        Node::Compare(comparison @ (Comparison::Less | Comparison::LessOrEqual), left, right) => {
            let is_inclusive = *comparison == Comparison::LessOrEqual;
            match (left.as_literal(), right.as_literal()) {
                (Some(low), None) if right.ty.is_exact() && left.ty == right.ty => {
                    domain.low = Some((low.clone(), is_inclusive));
                    (**right).clone()
                }
                (None, Some(high)) if left.ty.is_exact() && left.ty == right.ty => {
                    domain.high = Some((high.clone(), is_inclusive));
                    (**left).clone()
                }
                _ => return None,
            }
        }
        _ if is_truth_atom(predicate) => {
            domain.points = Some(BTreeSet::from([Literal::Boolean(true)]));
            predicate.clone()
        }
        _ => return None,
    };
    Some((subject, domain))
}

/// A boolean that is a value of its own, such as a column, and not a statement about another expression.
fn is_truth_atom(expr: &Expr) -> bool {
    expr.ty == Type::Boolean && matches!(expr.node, Node::Column(_) | Node::Call(_, _, false))
}

/// The predicates that say what the domain says; `FALSE` when nothing passes.
pub(super) fn predicates(subject: &Expr, domain: &Domain) -> Vec<Expr> {
    if domain.is_empty() {
        return vec![Expr::truth(false)];
    }
    if domain.is_null {
        return vec![subject.clone().is_null()];
    }
    if let Some(points) = &domain.points {
        return vec![points_predicate(subject, points)];
    }
    let literal =
        |value: &Literal| Box::new(Expr::new(Node::Literal(value.clone()), subject.ty.clone()));
    let comparison = |is_inclusive: bool| {
        if is_inclusive {
            Comparison::LessOrEqual
        } else {
            Comparison::Less
        }
    };
    let subject_box = || Box::new(subject.clone());
    let mut found = vec![];
    if let Some((low, is_inclusive)) = &domain.low {
        found.push(Node::Compare(
            comparison(*is_inclusive),
            literal(low),
            subject_box(),
        ));
    }
    if let Some((high, is_inclusive)) = &domain.high {
        found.push(Node::Compare(
            comparison(*is_inclusive),
            subject_box(),
            literal(high),
        ));
    }
    if !domain.outside.is_empty() {
        found.push(Node::InSet(subject_box(), domain.outside.clone(), true));
    }
    let mut found: Vec<Expr> = found.into_iter().map(Expr::boolean).collect();
    if found.is_empty() {
        found.push(subject.clone().is_not_null());
    }
    found
}

fn points_predicate(subject: &Expr, points: &BTreeSet<Literal>) -> Expr {
    match points.first() {
        Some(Literal::Boolean(value)) if points.len() == 1 => match value {
            true => subject.clone(),
            false => subject.clone().not(),
        },
        Some(Literal::Boolean(_)) => subject.clone().is_not_null(),
        _ => Expr::boolean(Node::InSet(
            Box::new(subject.clone()),
            points.clone(),
            false,
        )),
    }
}

impl Domain {
    pub fn is_empty(&self) -> bool {
        let crossed = match (&self.low, &self.high) {
            (Some((low, low_in)), Some((high, high_in))) => match low.compare(high) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => !(*low_in && *high_in),
                _ => false,
            },
            _ => false,
        };
        let restricts = self.points.is_some()
            || !self.outside.is_empty()
            || self.low.is_some()
            || self.high.is_some();
        crossed
            || self.points.as_ref().is_some_and(BTreeSet::is_empty)
            || (self.is_null && restricts)
    }

    /// Says nothing but that the subject is not NULL.
    fn is_presence(&self) -> bool {
        *self == Domain::default()
    }

    pub fn accepts(&self, value: &Literal) -> bool {
        let above = self
            .low
            .as_ref()
            .is_none_or(|(low, is_inclusive)| match value.compare(low) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => *is_inclusive,
                _ => false,
            });
        let below =
            self.high
                .as_ref()
                .is_none_or(|(high, is_inclusive)| match value.compare(high) {
                    Some(Ordering::Less) => true,
                    Some(Ordering::Equal) => *is_inclusive,
                    _ => false,
                });
        let listed = self
            .points
            .as_ref()
            .is_none_or(|points| points.contains(value));
        above && below && listed && !self.outside.contains(value) && !self.is_null
    }

    pub fn intersect(&self, other: &Domain) -> Domain {
        let mut both = Domain {
            points: match (&self.points, &other.points) {
                (Some(left), Some(right)) => Some(left & right),
                (Some(points), None) | (None, Some(points)) => Some(points.clone()),
                (None, None) => None,
            },
            outside: &self.outside | &other.outside,
            low: tighter(&self.low, &other.low, Ordering::Greater),
            high: tighter(&self.high, &other.high, Ordering::Less),
            is_null: self.is_null || other.is_null,
        };
        // `x IS NULL` with any other statement about x lets nothing pass.
        if self.is_null != other.is_null {
            return Domain {
                points: Some(BTreeSet::new()),
                ..Domain::default()
            };
        }
        both.settle();
        both
    }

    /// Writes one set of values one way: points pass all other conditions, a range of one value is a point, a value left
    /// out stands inside the range.
    fn settle(&mut self) {
        if let (Some((low, true)), Some((high, true))) = (&self.low, &self.high)
            && low == high
        {
            let point = BTreeSet::from([low.clone()]);
            self.points = Some(
                self.points
                    .as_ref()
                    .map_or(point.clone(), |points| points & &point),
            );
        }
        if let Some(points) = self.points.clone() {
            self.points = Some(
                points
                    .into_iter()
                    .filter(|value| self.accepts(value))
                    .collect(),
            );
            (self.outside, self.low, self.high) = (BTreeSet::new(), None, None);
            return;
        }
        let range = Domain {
            low: self.low.clone(),
            high: self.high.clone(),
            ..Domain::default()
        };
        self.outside.retain(|value| range.accepts(value));
    }

    /// Every value that passes here passes there.
    pub fn implies(&self, other: &Domain) -> bool {
        if self.is_null || other.is_null {
            return self == other;
        }
        if other.is_presence() {
            return true;
        }
        if let Some(points) = &self.points {
            return points.iter().all(|value| other.accepts(value));
        }
        if other.points.is_some() {
            return false;
        }
        let low = other.low.is_none()
            || tighter(&self.low, &other.low, Ordering::Greater) == self.low && self.low.is_some();
        let high = other.high.is_none()
            || tighter(&self.high, &other.high, Ordering::Less) == self.high && self.high.is_some();
        low && high && other.outside.iter().all(|value| !self.accepts(value))
    }

    pub fn excludes(&self, other: &Domain) -> bool {
        self.intersect(other).is_empty()
    }
}

type Bound = Option<(Literal, bool)>;

/// The tighter of two bounds; `wanted` is how the tighter value compares with the other one.
fn tighter(left: &Bound, right: &Bound, wanted: Ordering) -> Bound {
    let (Some((left_value, left_in)), Some((right_value, right_in))) = (left, right) else {
        return left.clone().or_else(|| right.clone());
    };
    match left_value.compare(right_value) {
        Some(Ordering::Equal) => Some((left_value.clone(), *left_in && *right_in)),
        Some(order) if order == wanted => left.clone(),
        _ => right.clone(),
    }
}
