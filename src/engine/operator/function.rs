//! The SQL surface: `select * from metric_states('<plan as JSON>')`.
//! In: a [`MetricPlan`] and the session's tables. Out: a [`MetricStatesExec`](super::MetricStatesExec) over two scans. Clustered facts are merged as they lie;
//! any other table or view is hash-partitioned and sorted first.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::sources::{operator, unit_key_function};
use super::states::output_schema;
use crate::metrics::plan::MetricPlan;

/// Makes `metric_states` and `unit_key` known to a session.
pub fn register(context: &SessionContext) {
    context.register_udtf("metric_states", Arc::new(MetricStatesFunction));
    context.register_udf(unit_key_function(&DataType::Utf8));
}

#[derive(Debug)]
struct MetricStatesFunction;

impl TableFunctionImpl for MetricStatesFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _)] =
            args.exprs()
        else {
            return plan_err!("metric_states takes one text: the metric plan as JSON");
        };
        let plan: MetricPlan = serde_json::from_str(text).map_err(|error| {
            DataFusionError::Plan(format!("metric_states cannot read its plan: {error}"))
        })?;
        MetricStatesTable::new(plan).map(|table| Arc::new(table) as Arc<dyn TableProvider>)
    }
}

/// The rows of a plan as a table.
#[derive(Debug)]
pub struct MetricStatesTable {
    plan: Arc<MetricPlan>,
}

impl MetricStatesTable {
    pub fn new(plan: MetricPlan) -> Result<MetricStatesTable> {
        match plan.fault() {
            Some(fault) => plan_err!("{fault}"),
            None => Ok(MetricStatesTable {
                plan: Arc::new(plan),
            }),
        }
    }
}

#[async_trait]
impl TableProvider for MetricStatesTable {
    fn schema(&self) -> SchemaRef {
        output_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("metric_states needs a session with tables");
        };
        let operator = operator(state, &self.plan).await?;
        projected(operator, projection)
    }
}

fn projected(
    operator: Arc<dyn ExecutionPlan>,
    projection: Option<&Vec<usize>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    use datafusion::physical_plan::expressions::Column;
    use datafusion::physical_plan::projection::ProjectionExec;
    let Some(columns) = projection else {
        return Ok(operator);
    };
    let schema = operator.schema();
    let expressions = columns.iter().map(|index| {
        let name = schema.field(*index).name();
        (
            Arc::new(Column::new(name, *index)) as Arc<dyn datafusion::physical_plan::PhysicalExpr>,
            name.clone(),
        )
    });
    Ok(Arc::new(ProjectionExec::try_new(
        expressions.collect::<Vec<_>>(),
        operator,
    )?))
}
