//! The canonical form: relations, blocks and expressions without names.
//! In: nothing, these are the nouns. Out: what `bind` builds, the rules rewrite and `name` serialises.
//! Aliases, model names, column order and the spelling of operators have no place here; types are our own, so that an
//! engine release cannot move a fingerprint.

mod block;
mod expr;
mod relation;

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
