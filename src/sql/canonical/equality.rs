//! Columns that the predicates of a block make equal to each other, or to one value.
//! In: a block. Out: its classes of equal columns; and the block with one member standing for each class. What a class lets the block
//! do without is decided in [`super::block`].

use std::collections::{BTreeMap, BTreeSet};

use super::form::{Block, ColumnRef, Comparison, Expr, Node};

/// After `WHERE a = b` and `WHERE a = 5` every reading of a, b is the same value, and none is NULL. Exact types only:
/// -0.0 = 0.0 are equal and print differently. Only predicates over inner sources hold for every row of the block.
pub(super) fn substitute_equal(block: &mut Block, heads: &mut [&mut Expr]) {
    let constants = constants(block);
    let classes = Classes::of(block);
    let replace = |column: ColumnRef| -> Option<Expr> {
        let root = classes.root(column);
        constants
            .get(&column)
            .cloned()
            .or_else(|| (root != column).then(|| classes.expr(root)))
    };
    let mut kept = vec![];
    for mut predicate in std::mem::take(&mut block.predicates) {
        let defines =
            classes.is_member_equality(&predicate) || defines_constant(&predicate).is_some();
        if !defines {
            predicate.replace_columns(&replace);
        }
        if !classes.is_member_equality(&predicate) {
            kept.push(predicate);
        }
    }
    kept.extend(classes.equalities());
    block.predicates = kept;
    block
        .optional
        .iter_mut()
        .flat_map(|optional| &mut optional.on)
        .for_each(|on| on.replace_columns(&replace));
    heads
        .iter_mut()
        .for_each(|head| head.replace_columns(&replace));
}

fn constants(block: &Block) -> BTreeMap<ColumnRef, Expr> {
    block
        .predicates
        .iter()
        .filter(|predicate| block.is_inner(predicate))
        .filter_map(defines_constant)
        .collect()
}

/// `x = 5`, `b`, `NOT b`.
fn defines_constant(predicate: &Expr) -> Option<(ColumnRef, Expr)> {
    match &predicate.node {
        Node::InSet(subject, points, false) if points.len() == 1 => {
            let literal = points.first().expect("one point").clone();
            Some((
                subject.as_column()?,
                Expr::new(Node::Literal(literal), subject.ty.clone()),
            ))
        }
        Node::Column(column) => Some((*column, Expr::truth(true))),
        Node::Not(inner) => Some((inner.as_column()?, Expr::truth(false))),
        _ => None,
    }
}

/// Columns that a block's predicates make equal.
#[derive(Default)]
pub(super) struct Classes {
    pub members: Vec<BTreeSet<ColumnRef>>,
    columns: BTreeMap<ColumnRef, Expr>,
}

impl Classes {
    pub fn of(block: &Block) -> Classes {
        let mut classes = Classes::default();
        for predicate in block
            .predicates
            .iter()
            .filter(|predicate| block.is_inner(predicate))
        {
            if let Some((left, right)) = equal_columns(predicate) {
                classes
                    .columns
                    .insert(left.as_column().expect("a column"), left.clone());
                classes
                    .columns
                    .insert(right.as_column().expect("a column"), right.clone());
                classes.join(
                    left.as_column().expect("a column"),
                    right.as_column().expect("a column"),
                );
            }
        }
        classes
    }

    fn join(&mut self, left: ColumnRef, right: ColumnRef) {
        let mut joined = BTreeSet::from([left, right]);
        self.members.retain(|class| {
            let touches = class.contains(&left) || class.contains(&right);
            if touches {
                joined.extend(class.iter().copied());
            }
            !touches
        });
        self.members.push(joined);
    }

    pub fn class(&self, column: ColumnRef) -> Option<&BTreeSet<ColumnRef>> {
        self.members.iter().find(|class| class.contains(&column))
    }

    fn root(&self, column: ColumnRef) -> ColumnRef {
        self.class(column)
            .and_then(BTreeSet::first)
            .copied()
            .unwrap_or(column)
    }

    pub fn expr(&self, column: ColumnRef) -> Expr {
        self.columns[&column].clone()
    }

    pub fn is_member_equality(&self, predicate: &Expr) -> bool {
        equal_columns(predicate).is_some_and(|(left, right)| {
            let (left, right) = (
                left.as_column().expect("a column"),
                right.as_column().expect("a column"),
            );
            self.class(left).is_some_and(|class| class.contains(&right))
        })
    }

    /// Each class as `root = member`.
    fn equalities(&self) -> Vec<Expr> {
        let of_class = |class: &BTreeSet<ColumnRef>| {
            let root = *class.first().expect("a class has members");
            class
                .iter()
                .skip(1)
                .map(move |member| (root, *member))
                .collect::<Vec<_>>()
        };
        self.members
            .iter()
            .flat_map(of_class)
            .map(|(root, member)| self.expr(root).equals(self.expr(member)))
            .collect()
    }

    /// A member of the column's class in another instance.
    pub fn elsewhere(&self, column: ColumnRef) -> Option<Expr> {
        let other = self
            .class(column)?
            .iter()
            .find(|member| member.instance != column.instance)?;
        Some(self.expr(*other))
    }
}

/// Two columns of one exact type that a predicate says are equal.
pub(super) fn equal_columns(predicate: &Expr) -> Option<(&Expr, &Expr)> {
    match &predicate.node {
        Node::Compare(Comparison::Equal, left, right)
            if left.as_column().is_some()
                && right.as_column().is_some()
                && left != right
                && left.ty == right.ty
                && left.ty.is_exact() =>
        {
            Some((left, right))
        }
        _ => None,
    }
}
