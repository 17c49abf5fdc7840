//! The SQL surface: `select * from metric_states('<plan as JSON>')`.
//! In: a [`MetricPlan`] and the session's tables. Out: a [`MetricStatesExec`] over two scans. Clustered facts are merged as they lie;
//! any other table or view is hash-partitioned and sorted first.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Volatility, cast, create_udf,
};
use datafusion::physical_plan::ExecutionPlan;

use super::batches::unit_keys;
use super::exec::{Layout, MetricStatesExec};
use super::plan::MetricPlan;
use super::states::output_schema;

/// Makes `metric_states` and `unit_key` known to a session.
pub fn register(context: &SessionContext) {
    context.register_udtf("metric_states", Arc::new(MetricStatesFunction));
    for signature in [DataType::Utf8] {
        context.register_udf(unit_key_function(&signature));
    }
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
        let events = scan(state, &self.plan.events.table, event_columns(&self.plan)).await?;
        let assignments = scan(
            state,
            &self.plan.assignments.table,
            assignment_columns(&self.plan),
        )
        .await?;
        let operator = Arc::new(MetricStatesExec::new(
            Arc::clone(&self.plan),
            events,
            assignments,
            Layout::Hashed,
        ));
        projected(operator, projection)
    }
}

/// SQL expressions of a source, by what they are for.
struct SourceColumns<'a> {
    unit: &'a str,
    time: &'a str,
    others: Vec<&'a str>,
}

fn event_columns(plan: &MetricPlan) -> SourceColumns<'_> {
    let source = &plan.events;
    let others =
        std::iter::once(source.name.as_str()).chain(source.values.iter().map(String::as_str));
    SourceColumns {
        unit: &source.unit,
        time: &source.time,
        others: others.collect(),
    }
}

fn assignment_columns(plan: &MetricPlan) -> SourceColumns<'_> {
    let source = &plan.assignments;
    let named = [source.experiment.as_str(), source.variant.as_str()];
    let others = named
        .into_iter()
        .chain(source.segments.iter().map(String::as_str));
    SourceColumns {
        unit: &source.unit,
        time: &source.time,
        others: others.collect(),
    }
}

async fn scan(
    state: &SessionState,
    table: &str,
    columns: SourceColumns<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let reference = TableReference::parse_str(table);
    let name = reference.table().to_owned();
    let provider = state
        .schema_for_ref(reference.clone())?
        .table(&name)
        .await?;
    let Some(provider) = provider else {
        return plan_err!("table `{table}` does not exist");
    };
    let scan = LogicalPlanBuilder::scan(reference, provider_as_source(provider), None)?.build()?;
    let plan = projection(state, scan, &columns)?;
    state.create_physical_plan(&plan).await
}

/// Unit key, time in microseconds, and the other expressions under neutral names; rows without a unit or time are nobody's.
fn projection(
    state: &SessionState,
    scan: LogicalPlan,
    columns: &SourceColumns,
) -> Result<LogicalPlan> {
    let schema: Arc<DFSchema> = Arc::clone(scan.schema());
    let parse = |text: &str| state.create_logical_expr(text, &schema);
    let (unit, time) = (parse(columns.unit)?, parse(columns.time)?);
    let micros = cast(
        time.clone(),
        DataType::Timestamp(TimeUnit::Microsecond, None),
    );
    let mut selected = vec![
        unit_key_expression(&unit, &schema)?.alias("unit_key"),
        micros.alias("time"),
    ];
    for (index, text) in columns.others.iter().enumerate() {
        selected.push(parse(text)?.alias(format!("c{index}")));
    }
    LogicalPlanBuilder::from(scan)
        .filter(unit.is_not_null().and(time.is_not_null()))?
        .project(selected)?
        .build()
}

fn unit_key_expression(unit: &Expr, schema: &DFSchema) -> Result<Expr> {
    use datafusion::logical_expr::ExprSchemable;
    let data_type = unit.get_type(schema)?;
    if data_type.is_integer() {
        return Ok(cast(unit.clone(), DataType::Int64));
    }
    Ok(unit_key_function(&data_type).call(vec![unit.clone()]))
}

/// `unit_key(unit_id)`: the 64 bits by which facts are clustered.
fn unit_key_function(data_type: &DataType) -> ScalarUDF {
    let function = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        Ok(ColumnarValue::Array(
            Arc::new(unit_keys(&arrays[0])?) as ArrayRef
        ))
    };
    create_udf(
        "unit_key",
        vec![data_type.clone()],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(function),
    )
}

fn projected(
    operator: Arc<MetricStatesExec>,
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
