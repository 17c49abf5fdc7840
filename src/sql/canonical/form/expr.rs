//! What can be asked of an expression and done to it: its parts, the columns and instances it reads.

use std::collections::BTreeSet;

use super::{ColumnRef, Comparison, Expr, Instance, Node, Relation};
use crate::sql::canonical::literal::Literal;
use crate::sql::canonical::types::Type;

impl Expr {
    pub fn new(node: Node, ty: Type) -> Expr {
        Expr { node, ty }
    }

    pub fn column(instance: Instance, index: usize, ty: Type) -> Expr {
        Expr::new(Node::Column(ColumnRef { instance, index }), ty)
    }

    pub fn boolean(node: Node) -> Expr {
        Expr::new(node, Type::Boolean)
    }

    pub fn truth(value: bool) -> Expr {
        Expr::boolean(Node::Literal(Literal::Boolean(value)))
    }

    pub fn integer(value: i128, ty: Type) -> Expr {
        Expr::new(Node::Literal(Literal::Integer(value)), ty)
    }

    pub fn null(ty: Type) -> Expr {
        Expr::new(Node::Literal(Literal::Null), ty)
    }

    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Expr {
        Expr::boolean(Node::Not(Box::new(self)))
    }

    pub fn is_null(self) -> Expr {
        Expr::boolean(Node::IsNull(Box::new(self)))
    }

    pub fn is_not_null(self) -> Expr {
        self.is_null().not()
    }

    pub fn equals(self, other: Expr) -> Expr {
        Expr::boolean(Node::Compare(
            Comparison::Equal,
            Box::new(self),
            Box::new(other),
        ))
    }

    pub fn as_column(&self) -> Option<ColumnRef> {
        match self.node {
            Node::Column(column) => Some(column),
            _ => None,
        }
    }

    pub fn as_literal(&self) -> Option<&Literal> {
        match &self.node {
            Node::Literal(literal) => Some(literal),
            _ => None,
        }
    }

    pub fn is_truth(&self, value: bool) -> bool {
        self.as_literal() == Some(&Literal::Boolean(value))
    }

    pub fn is_null_literal(&self) -> bool {
        self.as_literal() == Some(&Literal::Null)
    }

    /// The expressions directly inside, without those of a subquery.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.node {
            Node::Column(_) | Node::Literal(_) | Node::Exists(_) | Node::Scalar(_) => vec![],
            Node::And(items) | Node::Or(items) | Node::Call(_, items, _) => items.iter().collect(),
            Node::Not(inner)
            | Node::IsNull(inner)
            | Node::IsTrue(inner)
            | Node::Cast(inner)
            | Node::TryCast(inner) => {
                vec![inner]
            }
            Node::InSet(inner, _, _) | Node::InQuery(inner, _) => vec![inner],
            Node::Compare(_, left, right) | Node::DistinctFrom(left, right) => vec![left, right],
            Node::Sum(terms) => terms.iter().flat_map(|term| &term.factors).collect(),
            Node::Case(arms, otherwise) => arms
                .iter()
                .flat_map(|(when, then)| [when, then])
                .chain(otherwise.as_deref())
                .collect(),
        }
    }

    /// The same, to be changed in place.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.node {
            Node::Column(_) | Node::Literal(_) | Node::Exists(_) | Node::Scalar(_) => vec![],
            Node::And(items) | Node::Or(items) | Node::Call(_, items, _) => {
                items.iter_mut().collect()
            }
            Node::Not(inner)
            | Node::IsNull(inner)
            | Node::IsTrue(inner)
            | Node::Cast(inner)
            | Node::TryCast(inner) => {
                vec![inner]
            }
            Node::InSet(inner, _, _) | Node::InQuery(inner, _) => vec![inner],
            Node::Compare(_, left, right) | Node::DistinctFrom(left, right) => vec![left, right],
            Node::Sum(terms) => terms
                .iter_mut()
                .flat_map(|term| &mut term.factors)
                .collect(),
            Node::Case(arms, otherwise) => arms
                .iter_mut()
                .flat_map(|(when, then)| [when, then])
                .chain(otherwise.as_deref_mut())
                .collect(),
        }
    }

    pub fn subquery(&self) -> Option<&Relation> {
        match &self.node {
            Node::Exists(relation) | Node::InQuery(_, relation) | Node::Scalar(relation) => {
                Some(relation)
            }
            _ => None,
        }
    }

    pub fn subquery_mut(&mut self) -> Option<&mut Relation> {
        match &mut self.node {
            Node::Exists(relation) | Node::InQuery(_, relation) | Node::Scalar(relation) => {
                Some(relation)
            }
            _ => None,
        }
    }

    /// Calls `visit` on every column reference, also on those inside subqueries.
    pub fn each_column(&self, visit: &mut dyn FnMut(ColumnRef)) {
        if let Node::Column(column) = self.node {
            visit(column);
        }
        for child in self.children() {
            child.each_column(visit);
        }
        if let Some(relation) = self.subquery() {
            relation.each_expr(&mut |expr| expr.each_column(visit));
        }
    }

    /// Replaces columns, also inside subqueries.
    pub fn replace_columns(&mut self, replace: &dyn Fn(ColumnRef) -> Option<Expr>) {
        if let Node::Column(column) = self.node {
            if let Some(expr) = replace(column) {
                *self = expr;
            }
            return;
        }
        for child in self.children_mut() {
            child.replace_columns(replace);
        }
        if let Some(relation) = self.subquery_mut() {
            relation.each_expr_mut(&mut |expr| expr.replace_columns(replace));
        }
    }

    /// Moves columns to other instances, also inside subqueries.
    pub fn move_columns(&mut self, to: &dyn Fn(ColumnRef) -> Option<ColumnRef>) {
        if let Node::Column(column) = &mut self.node {
            *column = to(*column).unwrap_or(*column);
        }
        for child in self.children_mut() {
            child.move_columns(to);
        }
        if let Some(relation) = self.subquery_mut() {
            relation.each_expr_mut(&mut |expr| expr.move_columns(to));
        }
    }

    pub fn reads(&self, instance: Instance) -> bool {
        let mut found = false;
        self.each_column(&mut |column| found |= column.instance == instance);
        found
    }

    /// The instances read, with those bound inside subqueries.
    pub fn instances(&self) -> BTreeSet<Instance> {
        let mut found = BTreeSet::new();
        self.each_column(&mut |column| {
            found.insert(column.instance);
        });
        found
    }

    /// True when two evaluations may differ: no rule may copy, move or drop such an expression.
    pub fn is_volatile(&self) -> bool {
        let own = matches!(self.node, Node::Call(_, _, true));
        let inside = self.subquery().is_some_and(Relation::is_volatile);
        own || inside || self.children().into_iter().any(Expr::is_volatile)
    }

    pub fn has_subquery(&self) -> bool {
        self.subquery().is_some() || self.children().into_iter().any(Expr::has_subquery)
    }
}

impl Expr {
    pub(super) fn collect_subquery_instances(&self, found: &mut Vec<Instance>) {
        if let Some(relation) = self.subquery() {
            relation.collect_instances(found);
        }
        for child in self.children() {
            child.collect_subquery_instances(found);
        }
    }

    pub(super) fn rename_instances(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
        if let Node::Column(column) = &mut self.node {
            column.instance = map
                .get(&column.instance)
                .copied()
                .unwrap_or(column.instance);
        }
        if let Some(relation) = self.subquery_mut() {
            relation.rename_instances(map);
        }
        for child in self.children_mut() {
            child.rename_instances(map);
        }
    }
}
