//! Says what a query means before it runs.
//! In: SQL and the schemas of the relations it may read. Out: its plan and output schema, or a [`SqlError`] with the
//! place in the SQL. No row is read. What is said of a refusal is left to [`errors`], where it stands to [`places`].

mod errors;
mod places;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::beyond::{parsed, too_long};
use super::ignored::ignored;
pub use errors::{SqlError, SqlErrorKind, refused};
use errors::{not_one, plan_error, repeated_column, syntax_error};
pub(super) use places::at;
use places::{first_word, second_statement};

/// Plans queries against schemas.
#[derive(Clone)]
pub struct Analyzer {
    context: SessionContext,
}

/// A query that means something.
#[derive(Debug, Clone)]
pub struct Analyzed {
    /// As the query says it.
    pub plan: LogicalPlan,
    /// The same with every type settled.
    pub settled: LogicalPlan,
    pub schema: SchemaRef,
    /// Functions whose answer changes from call to call, such as `now`.
    pub volatile: Vec<String>,
}

impl Analyzed {
    /// Whether a row of it comes of several rows: aggregates, windows, `distinct`. What a subquery does inside is its own.
    pub fn takes_rows_together(&self) -> bool {
        self.plan
            .exists(|plan| {
                Ok(matches!(
                    plan,
                    LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(_)
                ))
            })
            .unwrap_or(false)
    }
}

impl Analyzer {
    /// `context` brings the functions; its tables are not used.
    pub fn new(context: SessionContext) -> Self {
        Self { context }
    }

    /// Makes a relation known by its schema. `relation` is `name` or `schema.name`, as SQL writes it.
    pub fn add_relation(&self, relation: &str, schema: SchemaRef) -> Result<(), DataFusionError> {
        register(&self.context, relation, Arc::new(EmptyTable::new(schema)))
    }

    pub async fn analyze(&self, sql: &str) -> Result<Analyzed, SqlError> {
        let statement = self.parse(sql)?;
        let plan = self
            .context
            .state()
            .statement_to_plan(statement)
            .await
            .map_err(|error| plan_error(sql, &error))?;
        // Types are settled by the analyzer's rules; what does not fit together is found here and not when rows flow.
        let state = self.context.state();
        let settled =
            state
                .analyzer()
                .execute_and_check(plan.clone(), state.config_options(), |_, _| {});
        let settled = settled.map_err(|error| plan_error(sql, &error))?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        repeated_column(sql, &schema)?;
        if let Some(error) = super::constants::impossible(sql, &settled) {
            return Err(error);
        }
        Ok(Analyzed {
            volatile: volatile_functions(&plan),
            schema,
            plan,
            settled,
        })
    }

    /// Names of the relations that a query reads, without its own common table expressions.
    pub fn relations(&self, sql: &str) -> Result<BTreeSet<String>, SqlError> {
        let statement = self.parse(sql)?;
        let references = self
            .context
            .state()
            .resolve_table_references(&statement)
            .map_err(|error| plan_error(sql, &error))?;
        Ok(references
            .into_iter()
            .map(|reference| reference.to_string())
            .collect())
    }

    /// The type that SQL means by `text`, or none.
    pub async fn data_type(&self, text: &str) -> Option<DataType> {
        if super::expression::surplus(&format!("cast(null as {text})")).is_some() {
            return None;
        }
        let analyzed = self
            .analyze(&format!("select cast(null as {text}) as value"))
            .await
            .ok()?;
        Some(analyzed.schema.field(0).data_type().clone())
    }

    /// One `select`, or `with ... select`.
    pub(super) fn parse(&self, sql: &str) -> Result<Statement, SqlError> {
        if let Some(long) = too_long(sql) {
            return Err(long);
        }
        let statements = parsed(&self.context, sql).map_err(|error| syntax_error(sql, &error))?;
        let count = statements.len();
        match statements.into_iter().next() {
            Some(statement @ Statement::Statement(_)) if count == 1 && is_query(&statement) => {
                let state = self.context.state_ref();
                match ignored(sql, &statement, &state.read()) {
                    Some(refused) => Err(refused),
                    None => Ok(statement),
                }
            }
            None => Err(not_one(
                "there is no query: the SQL is empty",
                "write one `select`, or remove the file",
                None,
            )),
            Some(_) if count > 1 => Err(not_one(
                "there is more than one statement",
                "keep one `select`; put the other into a file of its own",
                second_statement(sql),
            )),
            Some(_) => Err(not_one(
                "this is not a query",
                "a model is one `select`; what is made of it is said by `materialized`",
                first_word(sql),
            )),
        }
    }
}

/// Registers a table under `name` or `schema.name`; the schema is made when it does not exist yet.
pub fn register(
    context: &SessionContext,
    relation: &str,
    table: Arc<dyn TableProvider>,
) -> Result<(), DataFusionError> {
    let reference = TableReference::from(relation);
    if let Some(schema) = reference.schema() {
        let config = context.copied_config();
        let catalog = context
            .catalog(&config.options().catalog.default_catalog)
            .expect("the session has its default catalog");
        // Steps run beside each other: whoever comes second must not put an empty schema in the place of the first one's.
        static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one_at_a_time = MAKING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if catalog.schema(schema).is_none() {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
        }
    }
    context.register_table(reference, table)?;
    Ok(())
}

/// Whether two types hold the same values: the kinds of string, binary and timestamp precision do not matter.
pub fn same_type(left: &DataType, right: &DataType) -> bool {
    let family = |kind: &DataType| match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(_, zone) => DataType::Timestamp(
            datafusion::arrow::datatypes::TimeUnit::Microsecond,
            zone.clone(),
        ),
        DataType::Date64 => DataType::Date32,
        other => other.clone(),
    };
    family(left) == family(right)
}

/// Whether values are instants: of any precision, in any zone.
pub fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

/// Whether a value of this type says when something was: a timestamp, a day, or a text that is one of them.
pub fn is_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_time(values),
        DataType::Null => true,
        kind => is_day_or_timestamp(kind) || kind.is_string(),
    }
}

/// The same without texts, of which only the values tell what they are.
pub fn is_day_or_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_day_or_timestamp(values),
        DataType::Date32 | DataType::Date64 => true,
        kind => is_timestamp(kind),
    }
}

/// The zone of a timestamp, if it is another than UTC. A timestamp without a zone that is compared with it becomes one of that zone.
pub fn foreign_zone(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => {
            let is_utc = matches!(&**zone, "UTC" | "+00:00" | "Z" | "Etc/UTC");
            (!is_utc).then_some(zone)
        }
        _ => None,
    }
}

/// Whether a value of this type can be summed as a number; booleans count as 0 and 1.
pub fn is_number(kind: &DataType) -> bool {
    kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null)
}

fn is_query(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(inner) if matches!(inner.as_ref(), ast::Statement::Query(_)))
}

fn volatile_functions(plan: &LogicalPlan) -> Vec<String> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::logical_expr::{Expr, Volatility};
    let mut found = BTreeSet::new();
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|inner| {
                if let Expr::ScalarFunction(call) = inner
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found.insert(call.func.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("the visitor does not fail");
    // Stable, but only by the time zone setting, which is fixed here.
    found
        .into_iter()
        .filter(|name| is_clock_or_chance(name))
        .collect()
}

fn is_clock_or_chance(name: &str) -> bool {
    matches!(
        name,
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "random" | "uuid"
    )
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn tables_that_are_registered_at_once_all_stay() {
        for _ in 0..200 {
            let context = SessionContext::new();
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for table in 0..4 {
                    let (context, start) = (&context, &start);
                    scope.spawn(move || {
                        start.wait();
                        let empty = Arc::new(EmptyTable::new(Arc::new(Schema::empty())));
                        register(context, &format!("made.t{table}"), empty).expect("registered");
                    });
                }
            });
            let known = |table: usize| context.table_exist(format!("made.t{table}"));
            assert!((0..4).all(|table| known(table).expect("it answers")));
        }
    }
}
