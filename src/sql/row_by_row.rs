//! Whether each row of a query comes of one row of its input, so that new input rows mean new output rows and nothing else.
//! In: a plan, and what is known of the relations that it reads. Out: [`Rows`]. The query over two files together is then the query
//! over each, one after the other.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};

/// How the rows of a relation come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They are the same whatever files arrive.
    Fixed,
    /// A file brings its own, whatever else there is.
    ByFile,
    /// They depend on several rows of several files.
    Together,
}

/// What follows for the rows of a query from those of the relations that it reads.
pub fn rows_of(plan: &LogicalPlan, relation: &dyn Fn(&str) -> Rows) -> Rows {
    if asks_other_rows(plan) {
        return Rows::Together;
    }
    let of = |plan: &LogicalPlan| rows_of(plan, relation);
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            relation(&scan.table_name.to_string())
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_) => of(plan.inputs()[0]),
        // The order of a table's rows says nothing; a limit would.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => of(&sort.input),
        LogicalPlan::Union(union) => {
            let mut rows = union.inputs.iter().map(|input| of(input));
            let first = rows.next().unwrap_or(Rows::Fixed);
            match rows.all(|rows| rows == first) {
                true => first,
                // A fixed part would come again with every file.
                false => Rows::Together,
            }
        }
        LogicalPlan::Join(join) => joined(of(&join.left), join.join_type, of(&join.right)),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Rows::Fixed,
        _ => {
            let inputs = plan.inputs();
            let is_fixed = inputs.iter().all(|input| of(input) == Rows::Fixed);
            match is_fixed && !inputs.is_empty() {
                true => Rows::Fixed,
                false => Rows::Together,
            }
        }
    }
}

/// Each row of the growing side must find all it can ever find on the other side at once.
fn joined(left: Rows, kind: JoinType, right: Rows) -> Rows {
    use JoinType::{
        Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi,
    };
    match (left, kind, right) {
        (Rows::Fixed, _, Rows::Fixed) => Rows::Fixed,
        (Rows::ByFile, Inner | Left | LeftSemi | LeftAnti | LeftMark, Rows::Fixed)
        | (Rows::Fixed, Inner | Right | RightSemi | RightAnti | RightMark, Rows::ByFile) => {
            Rows::ByFile
        }
        _ => Rows::Together,
    }
}

/// A subquery looks at rows that are not at hand.
fn asks_other_rows(plan: &LogicalPlan) -> bool {
    let mut asks = false;
    let visited = plan.apply_expressions(|expression| {
        expression.apply(|inner| {
            asks |= matches!(
                inner,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            );
            Ok(TreeNodeRecursion::Continue)
        })
    });
    visited.expect("the visitor does not fail");
    asks
}
