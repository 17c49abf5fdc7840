//! `definition_rows('<rows as JSON>')`: the rows of definitions as a table of texts, `column1`, `column2`, ...
//! In: a list of rows, each a list of texts and nulls. Out: what `values` would give, without an expression per cell: ten thousand rows of
//! `values` take the planner seconds.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

pub const NAME: &str = "definition_rows";

#[derive(Debug)]
pub struct DefinitionRows;

impl TableFunctionImpl for DefinitionRows {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _)] =
            args.exprs()
        else {
            return plan_err!("{NAME} takes one text: rows as JSON");
        };
        let rows: Vec<Vec<Option<String>>> = serde_json::from_str(text).map_err(|error| {
            DataFusionError::Plan(format!("{NAME} cannot read its rows: {error}"))
        })?;
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            return plan_err!("{NAME} takes rows of one length, at least one");
        }
        let name = |column: usize| format!("column{}", column + 1);
        let fields = (0..width).map(|column| Field::new(name(column), DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let texts = |column: usize| {
            let cells = rows.iter().map(|row| row[column].as_deref());
            Arc::new(cells.collect::<StringArray>()) as ArrayRef
        };
        let columns = (0..width).map(texts).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        Ok(Arc::new(Definitions {
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
            rows: MemTable::try_new(schema, vec![vec![batch]])?,
        }))
    }
}

/// The rows, and a name for them: plans that read other rows mean something else.
struct Definitions {
    digest: String,
    rows: MemTable,
}

impl std::fmt::Debug for Definitions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{NAME} {}", self.digest)
    }
}

#[async_trait]
impl TableProvider for Definitions {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(state, projection, filters, limit).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    async fn answer(query: &str) -> String {
        let context = SessionContext::new();
        crate::sql::functions::register(&context);
        let rows = context.sql(query).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }

    #[tokio::test]
    async fn rows_are_those_of_values() {
        let casts = "cast(column1 as varchar) as name, cast(column2 as double) as share, cast(column3 as boolean) as is_on, cast(column4 as timestamp) as at";
        let values = "values ('it''s', 0.05, true, timestamp '2026-03-01 00:00:00'), (null, 1e-7, false, null)";
        let json = r#"[["it''s","0.05","true","2026-03-01 00:00:00"],[null,"1e-7","false",null]]"#;
        assert_eq!(
            answer(&format!("select {casts} from ({values})")).await,
            answer(&format!("select {casts} from definition_rows('{json}')")).await
        );
    }

    #[tokio::test]
    async fn rows_that_are_none_are_refused() {
        let context = SessionContext::new();
        crate::sql::functions::register(&context);
        for wrong in ["[]", "[[]]", r#"[["a"],["b","c"]]"#, "{}"] {
            let query = format!("select * from definition_rows('{wrong}')");
            assert!(context.sql(&query).await.is_err(), "{wrong}");
        }
    }
}
