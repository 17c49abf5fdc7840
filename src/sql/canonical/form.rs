//! The canonical form: relations, blocks and expressions without names.
//! In: nothing, these are the nouns. Out: what `bind` builds, the rules rewrite and `name` serialises.
//! Aliases, model names, column order and the spelling of operators have no place here; types are our own, so that an
//! engine release cannot move a fingerprint.

use std::collections::BTreeSet;

use super::literal::Literal;
use super::types::Type;

/// A relation instance inside one query; unique within a bound plan.
pub type Instance = u32;

/// A bag of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// A base table: source, seed or contracted model.
    Scan(Scan),
    /// Select, project, join.
    Select { block: Block, outputs: Vec<Expr> },
    /// Grouping; outputs are the keys, then the aggregates. `DISTINCT` is a group without aggregates.
    Group(Group),
    /// Outputs are `outputs`, then the window columns.
    Window {
        block: Block,
        outputs: Vec<Expr>,
        calls: Vec<WindowCall>,
    },
    /// `UNION ALL`, by position.
    Union { branches: Vec<Relation> },
    /// `ORDER BY … LIMIT`; without a fetch and a skip it is an order that somebody above may observe.
    Limit(Limit),
    /// `FULL OUTER JOIN`; outputs are the columns of both sides.
    Full {
        left: Box<Source>,
        right: Box<Source>,
        on: Vec<Expr>,
    },
    /// Literal rows.
    Values {
        rows: Vec<Vec<Expr>>,
        types: Vec<Type>,
    },
    /// Anything without rules: compared by its text, its types and its inputs.
    Opaque {
        text: String,
        types: Vec<Type>,
        inputs: Vec<Source>,
        expressions: Vec<Expr>,
    },
}

/// A base table and its columns as declared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scan {
    pub table: String,
    pub columns: Vec<(String, Type)>,
}

/// `GROUP BY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub block: Block,
    pub keys: Vec<Expr>,
    pub aggregates: Vec<Aggregate>,
    /// False for a global aggregate, which gives one row for an empty input.
    pub is_grouped: bool,
    /// `GROUPING SETS`: positions in `keys`; no rule touches such a group.
    pub sets: Option<Vec<Vec<usize>>>,
}

/// `ORDER BY … LIMIT fetch OFFSET skip`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    pub block: Block,
    pub outputs: Vec<Expr>,
    pub order: Vec<SortKey>,
    pub skip: usize,
    pub fetch: Option<usize>,
}

/// The rows of a block: the product of `sources` filtered by the predicates over them, then extended by `optional` in
/// order, then filtered by the predicates that read an optional source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub sources: Vec<Source>,
    pub optional: Vec<Optional>,
    /// A conjunction.
    pub predicates: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub instance: Instance,
    pub relation: Relation,
}

/// The right side of a left join.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Optional {
    pub source: Source,
    pub on: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregate {
    pub function: String,
    pub arguments: Vec<Expr>,
    pub is_distinct: bool,
    /// A conjunction; empty means all rows.
    pub filter: Vec<Expr>,
    pub order: Vec<SortKey>,
    /// `IGNORE NULLS` or `RESPECT NULLS`, as written.
    pub nulls: Option<String>,
    pub ty: Type,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowCall {
    pub function: String,
    pub arguments: Vec<Expr>,
    pub is_distinct: bool,
    pub filter: Vec<Expr>,
    pub partition: Vec<Expr>,
    pub order: Vec<SortKey>,
    pub frame: String,
    pub nulls: Option<String>,
    pub ty: Type,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SortKey {
    pub expr: Expr,
    pub is_descending: bool,
    pub nulls_first: bool,
}

/// A typed scalar expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expr {
    pub node: Node,
    pub ty: Type,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    Column(ColumnRef),
    Literal(Literal),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// Membership in a set of non-NULL literals; `x = 'a'` is a set of one.
    InSet(Box<Expr>, BTreeSet<Literal>, bool),
    IsNull(Box<Expr>),
    IsTrue(Box<Expr>),
    DistinctFrom(Box<Expr>, Box<Expr>),
    /// Integers only: a sum of monomials over the ring of the type's width. A monomial of coefficient 0 stays: it may be NULL.
    Sum(Vec<Monomial>),
    /// Searched CASE; no ELSE means NULL.
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Cast(Box<Expr>),
    TryCast(Box<Expr>),
    /// Everything else by name; the flag says that each evaluation may differ.
    Call(String, Vec<Expr>, bool),
    Exists(Box<Relation>),
    /// `x IN (query)` where its NULL matters.
    InQuery(Box<Expr>, Box<Relation>),
    Scalar(Box<Relation>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monomial {
    pub coefficient: i128,
    pub factors: Vec<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnRef {
    pub instance: Instance,
    pub index: usize,
}

/// `>` and `>=` are flipped when bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
}

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

impl Relation {
    pub fn width(&self) -> usize {
        self.types().len()
    }

    pub fn types(&self) -> Vec<Type> {
        let types_of =
            |exprs: &[Expr]| exprs.iter().map(|expr| expr.ty.clone()).collect::<Vec<_>>();
        match self {
            Relation::Scan(scan) => scan.columns.iter().map(|(_, ty)| ty.clone()).collect(),
            Relation::Select { outputs, .. } | Relation::Limit(Limit { outputs, .. }) => {
                types_of(outputs)
            }
            Relation::Group(group) => {
                let mut types = types_of(&group.keys);
                types.extend(
                    group
                        .aggregates
                        .iter()
                        .map(|aggregate| aggregate.ty.clone()),
                );
                types
            }
            Relation::Window { outputs, calls, .. } => {
                let mut types = types_of(outputs);
                types.extend(calls.iter().map(|call| call.ty.clone()));
                types
            }
            Relation::Union { branches } => {
                branches.first().map(Relation::types).unwrap_or_default()
            }
            Relation::Full { left, right, .. } => {
                let mut types = left.relation.types();
                types.extend(right.relation.types());
                types
            }
            Relation::Values { types, .. } | Relation::Opaque { types, .. } => types.clone(),
        }
    }

    pub fn block(&self) -> Option<&Block> {
        match self {
            Relation::Select { block, .. } | Relation::Window { block, .. } => Some(block),
            Relation::Group(group) => Some(&group.block),
            Relation::Limit(limit) => Some(&limit.block),
            _ => None,
        }
    }

    pub fn block_mut(&mut self) -> Option<&mut Block> {
        match self {
            Relation::Select { block, .. } | Relation::Window { block, .. } => Some(block),
            Relation::Group(group) => Some(&mut group.block),
            Relation::Limit(limit) => Some(&mut limit.block),
            _ => None,
        }
    }

    /// The expressions of this relation itself, without its block's and its inputs'.
    pub fn head_exprs(&self) -> Vec<&Expr> {
        match self {
            Relation::Scan(_) | Relation::Union { .. } => vec![],
            Relation::Select { outputs, .. } => outputs.iter().collect(),
            Relation::Group(group) => group
                .keys
                .iter()
                .chain(group.aggregates.iter().flat_map(Aggregate::exprs))
                .collect(),
            Relation::Window { outputs, calls, .. } => outputs
                .iter()
                .chain(calls.iter().flat_map(WindowCall::exprs))
                .collect(),
            Relation::Limit(limit) => limit
                .outputs
                .iter()
                .chain(limit.order.iter().map(|key| &key.expr))
                .collect(),
            Relation::Full { on, .. } => on.iter().collect(),
            Relation::Values { rows, .. } => rows.iter().flatten().collect(),
            Relation::Opaque { expressions, .. } => expressions.iter().collect(),
        }
    }

    pub fn head_exprs_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Relation::Scan(_) | Relation::Union { .. } => vec![],
            Relation::Select { outputs, .. } => outputs.iter_mut().collect(),
            Relation::Group(group) => group
                .keys
                .iter_mut()
                .chain(group.aggregates.iter_mut().flat_map(Aggregate::exprs_mut))
                .collect(),
            Relation::Window { outputs, calls, .. } => outputs
                .iter_mut()
                .chain(calls.iter_mut().flat_map(WindowCall::exprs_mut))
                .collect(),
            Relation::Limit(limit) => limit
                .outputs
                .iter_mut()
                .chain(limit.order.iter_mut().map(|key| &mut key.expr))
                .collect(),
            Relation::Full { on, .. } => on.iter_mut().collect(),
            Relation::Values { rows, .. } => rows.iter_mut().flatten().collect(),
            Relation::Opaque { expressions, .. } => expressions.iter_mut().collect(),
        }
    }

    /// The relations directly below.
    pub fn inputs(&self) -> Vec<&Relation> {
        match self {
            Relation::Union { branches } => branches.iter().collect(),
            Relation::Full { left, right, .. } => vec![&left.relation, &right.relation],
            Relation::Opaque { inputs, .. } => {
                inputs.iter().map(|source| &source.relation).collect()
            }
            _ => self.block().map(Block::relations).unwrap_or_default(),
        }
    }

    pub fn inputs_mut(&mut self) -> Vec<&mut Relation> {
        match self {
            Relation::Union { branches } => branches.iter_mut().collect(),
            Relation::Full { left, right, .. } => vec![&mut left.relation, &mut right.relation],
            Relation::Opaque { inputs, .. } => inputs
                .iter_mut()
                .map(|source| &mut source.relation)
                .collect(),
            _ => self
                .block_mut()
                .map(Block::relations_mut)
                .unwrap_or_default(),
        }
    }

    /// Visits the expressions of this relation and of everything below.
    pub fn each_expr(&self, visit: &mut dyn FnMut(&Expr)) {
        self.head_exprs().into_iter().for_each(&mut *visit);
        if let Some(block) = self.block() {
            block.exprs().into_iter().for_each(&mut *visit);
        }
        for input in self.inputs() {
            input.each_expr(visit);
        }
    }

    pub fn each_expr_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        self.head_exprs_mut().into_iter().for_each(&mut *visit);
        if let Some(block) = self.block_mut() {
            block.exprs_mut().into_iter().for_each(&mut *visit);
        }
        for input in self.inputs_mut() {
            input.each_expr_mut(visit);
        }
    }

    pub fn is_volatile(&self) -> bool {
        let mut found = false;
        self.each_expr(&mut |expr| found |= expr.is_volatile());
        found
    }

    /// Every instance bound anywhere inside, with those of subqueries.
    pub fn bound_instances(&self) -> Vec<Instance> {
        let mut found = vec![];
        self.collect_instances(&mut found);
        found
    }

    fn collect_instances(&self, found: &mut Vec<Instance>) {
        match self {
            Relation::Full { left, right, .. } => found.extend([left.instance, right.instance]),
            Relation::Opaque { inputs, .. } => {
                found.extend(inputs.iter().map(|source| source.instance))
            }
            _ => found.extend(self.block().map(Block::instances).unwrap_or_default()),
        }
        for input in self.inputs() {
            input.collect_instances(found);
        }
        let own = self
            .head_exprs()
            .into_iter()
            .chain(self.block().map(Block::exprs).unwrap_or_default());
        own.for_each(|expr| expr.collect_subquery_instances(found));
    }

    /// Gives every bound instance a new number, so that a shared relation can stand twice in one plan.
    pub fn renumber(&mut self, fresh: &mut dyn FnMut() -> Instance) {
        let map: std::collections::HashMap<_, _> = self
            .bound_instances()
            .into_iter()
            .map(|old| (old, fresh()))
            .collect();
        self.rename_instances(&map);
    }

    fn rename_instances(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
        self.rename_bound(map);
        self.each_expr_mut(&mut |expr| expr.rename_instances(map));
    }

    fn rename_bound(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
        let rename =
            |instance: &mut Instance| *instance = map.get(instance).copied().unwrap_or(*instance);
        match self {
            Relation::Full { left, right, .. } => {
                rename(&mut left.instance);
                rename(&mut right.instance);
            }
            Relation::Opaque { inputs, .. } => inputs
                .iter_mut()
                .for_each(|source| rename(&mut source.instance)),
            _ => {
                if let Some(block) = self.block_mut() {
                    block
                        .sources_mut()
                        .into_iter()
                        .for_each(|source| rename(&mut source.instance));
                }
            }
        }
        for input in self.inputs_mut() {
            input.rename_bound(map);
        }
    }
}

impl Expr {
    fn collect_subquery_instances(&self, found: &mut Vec<Instance>) {
        if let Some(relation) = self.subquery() {
            relation.collect_instances(found);
        }
        for child in self.children() {
            child.collect_subquery_instances(found);
        }
    }

    fn rename_instances(&mut self, map: &std::collections::HashMap<Instance, Instance>) {
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

impl Block {
    pub fn over(source: Source) -> Block {
        Block {
            sources: vec![source],
            ..Block::default()
        }
    }

    /// The expressions of the block itself: predicates and join conditions.
    pub fn exprs(&self) -> Vec<&Expr> {
        self.predicates
            .iter()
            .chain(self.optional.iter().flat_map(|optional| &optional.on))
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        self.predicates
            .iter_mut()
            .chain(
                self.optional
                    .iter_mut()
                    .flat_map(|optional| &mut optional.on),
            )
            .collect()
    }

    pub fn all_sources(&self) -> Vec<&Source> {
        self.sources
            .iter()
            .chain(self.optional.iter().map(|optional| &optional.source))
            .collect()
    }

    pub fn sources_mut(&mut self) -> Vec<&mut Source> {
        self.sources
            .iter_mut()
            .chain(
                self.optional
                    .iter_mut()
                    .map(|optional| &mut optional.source),
            )
            .collect()
    }

    pub fn relations(&self) -> Vec<&Relation> {
        self.all_sources()
            .into_iter()
            .map(|source| &source.relation)
            .collect()
    }

    pub fn relations_mut(&mut self) -> Vec<&mut Relation> {
        self.sources_mut()
            .into_iter()
            .map(|source| &mut source.relation)
            .collect()
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.all_sources()
            .into_iter()
            .map(|source| source.instance)
            .collect()
    }

    pub fn is_optional(&self, instance: Instance) -> bool {
        self.optional
            .iter()
            .any(|optional| optional.source.instance == instance)
    }

    /// True for a predicate that reads no optional source of this block: it filters before any left join.
    pub fn is_inner(&self, predicate: &Expr) -> bool {
        predicate
            .instances()
            .into_iter()
            .all(|instance| !self.is_optional(instance))
    }
}

impl Source {
    /// The source's columns as expressions.
    pub fn columns(&self) -> Vec<Expr> {
        let types = self.relation.types();
        types
            .into_iter()
            .enumerate()
            .map(|(index, ty)| Expr::column(self.instance, index, ty))
            .collect()
    }
}

impl Aggregate {
    pub fn exprs(&self) -> Vec<&Expr> {
        self.arguments
            .iter()
            .chain(&self.filter)
            .chain(self.order.iter().map(|key| &key.expr))
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        self.arguments
            .iter_mut()
            .chain(&mut self.filter)
            .chain(self.order.iter_mut().map(|key| &mut key.expr))
            .collect()
    }
}

impl WindowCall {
    pub fn exprs(&self) -> Vec<&Expr> {
        let order = self.order.iter().map(|key| &key.expr);
        self.arguments
            .iter()
            .chain(&self.filter)
            .chain(&self.partition)
            .chain(order)
            .collect()
    }

    pub fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        let order = self.order.iter_mut().map(|key| &mut key.expr);
        self.arguments
            .iter_mut()
            .chain(&mut self.filter)
            .chain(&mut self.partition)
            .chain(order)
            .collect()
    }
}
