//! The text of expressions and calls, under the names of the scope around them.

use std::collections::BTreeSet;

use super::{Namer, Scope, pair, sorted};
use crate::sql::canonical::form::{
    Aggregate, Comparison, Expr, Node, Relation, SortKey, WindowCall,
};
use crate::sql::canonical::types::Type;

impl Namer<'_> {
    pub(super) fn sorted_columns(
        &self,
        prefix: &str,
        exprs: &[Expr],
        scope: &Scope,
    ) -> (String, Vec<String>) {
        sorted(
            prefix,
            exprs.iter().map(|expr| self.expr(expr, scope)).collect(),
        )
    }

    pub(super) fn aggregate(&self, call: &Aggregate, scope: &Scope) -> String {
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

    pub(super) fn window_call(&self, call: &WindowCall, scope: &Scope) -> String {
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

    pub(super) fn order(&self, keys: &[SortKey], scope: &Scope) -> String {
        let key = |key: &SortKey| {
            let direction = if key.is_descending { "desc" } else { "asc" };
            let nulls = if key.nulls_first { "first" } else { "last" };
            format!("{} {direction} nulls {nulls}", self.expr(&key.expr, scope))
        };
        keys.iter().map(key).collect::<Vec<_>>().join(",")
    }

    pub(super) fn list(&self, exprs: &[Expr], scope: &Scope) -> String {
        exprs
            .iter()
            .map(|expr| self.expr(expr, scope))
            .collect::<Vec<_>>()
            .join(",")
    }

    pub(super) fn set(&self, exprs: &[Expr], scope: &Scope) -> String {
        let mut texts: Vec<String> = exprs.iter().map(|expr| self.expr(expr, scope)).collect();
        texts.sort();
        texts.join(",")
    }

    pub(super) fn expr(&self, expr: &Expr, scope: &Scope) -> String {
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

    pub(super) fn subquery(&self, relation: &Relation, scope: &Scope) -> String {
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
