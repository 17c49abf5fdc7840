//! Events of several tables as one stream.
//! In: the rows of each table, with the columns that the operator asks of one: unit key, time, name, values, codes. Out: rows with the
//! values of all tables, then their codes, NULL where they are another table's; so nothing later knows that there are several.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};

/// The rows of one table.
pub struct Part {
    pub rows: LogicalPlan,
    /// How many of the last columns are codes.
    pub codes: usize,
}

/// Unit key, time and name.
const COMMON: usize = 3;

/// All rows.
pub fn united(parts: Vec<Part>) -> Result<LogicalPlan> {
    let mut parts = aligned(parts)?.into_iter();
    let first = parts.next().expect("a plan has a table of events");
    parts
        .try_fold(LogicalPlanBuilder::from(first), LogicalPlanBuilder::union)?
        .build()
}

/// The rows of each table with the columns of all.
pub fn aligned(mut parts: Vec<Part>) -> Result<Vec<LogicalPlan>> {
    if parts.len() == 1 {
        return Ok(parts.drain(..).map(|part| part.rows).collect());
    }
    let columns = columns(&parts);
    let aligned = |(at, part): (usize, &Part)| {
        let selected = selected(at, part, &columns);
        LogicalPlanBuilder::from(part.rows.clone())
            .project(selected)?
            .build()
    };
    parts.iter().enumerate().map(aligned).collect()
}

/// A column of the union: whose it is, which one there, and its type.
struct Owned {
    part: usize,
    at: usize,
    data_type: DataType,
}

/// All values, then all codes.
fn columns(parts: &[Part]) -> Vec<Owned> {
    let (mut values, mut codes) = (Vec::new(), Vec::new());
    for (part, rows) in parts.iter().enumerate() {
        let fields = rows.rows.schema().fields();
        let first_code = fields.len() - rows.codes;
        for (at, field) in fields.iter().enumerate().skip(COMMON) {
            let owned = Owned {
                part,
                at,
                data_type: field.data_type().clone(),
            };
            match at < first_code {
                true => values.push(owned),
                false => codes.push(owned),
            }
        }
    }
    values.extend(codes);
    values
}

fn selected(part: usize, rows: &Part, columns: &[Owned]) -> Vec<Expr> {
    let column = |at: usize| Expr::Column(Column::from(rows.rows.schema().qualified_field(at)));
    let mut selected = vec![
        column(0).alias("unit_key"),
        column(1).alias("time"),
        cast(column(2), DataType::Utf8).alias("name"),
    ];
    for (index, owned) in columns.iter().enumerate() {
        let value = match owned.part == part {
            true => column(owned.at),
            false => cast(lit(ScalarValue::Null), owned.data_type.clone()),
        };
        selected.push(value.alias(format!("c{index}")));
    }
    selected
}
