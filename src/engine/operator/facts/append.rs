//! Appending rows: sort, drop what is stored already, write one file per day and bucket, commit once.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Date32Array, Int32Array};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch, partition};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, Volatility, cast as cast_expression, col, create_udf, lit,
};
use datafusion::prelude::SessionContext;
use deltalake::datafile::writer::DeltaWriter;
use deltalake::kernel::{Action, Add};
use futures::StreamExt;

use super::{ClusteredFacts, UNIT_KEY, external, with_partitions};
use crate::engine::operator::sources::unit_key_function;

/// What an append has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub rows: u64,
    /// Rows that were stored already or came twice.
    pub repeated: u64,
    pub files: usize,
}

impl ClusteredFacts {
    /// Stores all rows of a query that are not stored yet, in one commit; without new rows there is no commit.
    pub async fn append(&mut self, context: &SessionContext, rows: DataFrame) -> Result<Appended> {
        let rows = self.clustered(rows)?;
        let offered = rows.clone().cache().await?;
        let total = offered.clone().count().await?;
        let fresh = self.without_stored(context, offered).await?;
        let order = [
            "day",
            "bucket",
            UNIT_KEY,
            &self.clustering.time,
            &self.clustering.id,
        ];
        let sorted = fresh.sort(
            order
                .iter()
                .map(|name| col(*name).sort(true, false))
                .collect(),
        )?;
        let (files, written) = self.write(sorted.execute_stream().await?).await?;
        let appended = Appended {
            rows: written,
            repeated: total as u64 - written,
            files: files.len(),
        };
        if !files.is_empty() {
            let operation = self.append_operation();
            self.commit(files.into_iter().map(Action::Add).collect(), operation)
                .await?;
        }
        Ok(appended)
    }

    /// The rows with unit key, day and bucket, in the stored types.
    fn clustered(&self, rows: DataFrame) -> Result<DataFrame> {
        let unit = col(self.clustering.unit.as_str());
        let data_type = unit.get_type(rows.schema())?;
        let mut columns = vec![
            unit_key_function(&data_type)
                .call(vec![unit.clone()])
                .alias(UNIT_KEY),
        ];
        for field in &self.schema.fields()[1..] {
            columns.push(
                cast_expression(col(field.name().as_str()), field.data_type().clone())
                    .alias(field.name()),
            );
        }
        let time = col(self.clustering.time.as_str());
        let rows = rows
            .filter(unit.is_not_null().and(time.clone().is_not_null()))?
            .select(columns)?;
        let day = cast_expression(time, DataType::Date32);
        let bucket = bucket_function(self.clustering.buckets).call(vec![col(UNIT_KEY)]);
        rows.with_column("day", day.clone())?
            .with_column("through", day)?
            .with_column("bucket", bucket)
    }

    /// Only rows of days that have runs are looked up, and only in those runs.
    async fn without_stored(&self, context: &SessionContext, rows: DataFrame) -> Result<DataFrame> {
        let days = distinct_days(rows.clone()).await?;
        let table = self.provider()?;
        let touched =
            table.restricted(|run| days.iter().any(|day| (run.day..=run.through).contains(day)));
        if touched.runs().is_empty() {
            return Ok(rows);
        }
        let is_touched = |day: &i32| {
            touched
                .runs()
                .iter()
                .any(|run| (run.day..=run.through).contains(day))
        };
        let literal = |day: &i32| lit(datafusion::scalar::ScalarValue::Date32(Some(*day)));
        let looked_up: Vec<_> = days
            .iter()
            .filter(|day| is_touched(day))
            .map(literal)
            .collect();
        let fresh = rows
            .clone()
            .filter(col("day").in_list(looked_up.clone(), true))?;
        let late = rows.filter(col("day").in_list(looked_up, false))?;
        let id = self.clustering.id.as_str();
        let stored = context.read_table(Arc::new(touched))?;
        let stored = stored.select(vec![
            col(UNIT_KEY).alias("stored_key"),
            col(id).alias("stored_id"),
        ])?;
        let late = late.join(
            stored,
            JoinType::LeftAnti,
            &[UNIT_KEY, id],
            &["stored_key", "stored_id"],
            None,
        )?;
        fresh.union(late)
    }

    /// Writes a stream sorted by day, bucket and sort key; a writer holds one day at a time.
    pub(super) async fn write(
        &self,
        mut stream: SendableRecordBatchStream,
    ) -> Result<(Vec<Add>, u64)> {
        let mut output = Output {
            facts: self,
            writer: None,
            day: None,
            last: None,
            files: Vec::new(),
            rows: 0,
        };
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() > 0 {
                output.add(&batch).await?;
            }
        }
        output.close().await?;
        output.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((output.files, output.rows))
    }
}

/// Files being written, one day at a time.
struct Output<'a> {
    facts: &'a ClusteredFacts,
    writer: Option<DeltaWriter>,
    day: Option<i32>,
    /// The last row so far, to see repeated ones across batches.
    last: Option<RecordBatch>,
    files: Vec<Add>,
    rows: u64,
}

impl Output<'_> {
    async fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = self.without_repeated(batch)?;
        let days = batch
            .column_by_name("day")
            .expect("a clustered batch has a day")
            .clone();
        let ranges = partition(std::slice::from_ref(&days))?.ranges();
        for range in ranges {
            let day = days.as_primitive::<Date32Type>().value(range.start);
            if self.day != Some(day) {
                self.close().await?;
                self.day = Some(day);
            }
            self.rows += range.len() as u64;
            let rows = batch.slice(range.start, range.len());
            let writer = self.writer.get_or_insert_with(|| self.facts.writer());
            writer.write(&rows).await.map_err(external)?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.files.extend(writer.close().await.map_err(external)?);
        }
        Ok(())
    }

    /// Rows equal in unit, time and id stand next to each other; the first of them stays.
    fn without_repeated(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let joined = match &self.last {
            Some(last) => concat_batches(&batch.schema(), [last, batch])?,
            None => batch.clone(),
        };
        let names = [
            UNIT_KEY,
            &self.facts.clustering.time,
            &self.facts.clustering.id,
        ];
        let keys: Vec<ArrayRef> = names
            .map(|name| {
                joined
                    .column_by_name(name)
                    .expect("a clustering column")
                    .clone()
            })
            .into();
        let mut is_first = vec![false; joined.num_rows()];
        partition(&keys)?
            .ranges()
            .into_iter()
            .for_each(|range| is_first[range.start] = true);
        if self.last.is_some() {
            is_first[0] = false;
        }
        self.last = Some(joined.slice(joined.num_rows() - 1, 1));
        Ok(filter_record_batch(&joined, &BooleanArray::from(is_first))?)
    }
}

impl ClusteredFacts {
    fn writer(&self) -> DeltaWriter {
        DeltaWriter::new(
            self.table.log_store().object_store(None),
            self.writer_config(),
        )
    }

    /// Rows of runs in the columns and types that are written, with one span and bucket for all.
    pub(super) fn respanned(
        &self,
        batch: &RecordBatch,
        span: (i32, i32),
        bucket: u16,
    ) -> Result<RecordBatch> {
        let schema = with_partitions(&self.schema);
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in self.schema.fields() {
            columns.push(cast(
                batch.column(batch.schema().index_of(field.name())?),
                field.data_type(),
            )?);
        }
        columns.push(Arc::new(Date32Array::from_value(span.0, rows)) as ArrayRef);
        columns.push(Arc::new(Date32Array::from_value(span.1, rows)));
        columns.push(Arc::new(Int32Array::from_value(i32::from(bucket), rows)));
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

async fn distinct_days(rows: DataFrame) -> Result<Vec<i32>> {
    let batches = rows.select(vec![col("day")])?.distinct()?.collect().await?;
    let mut days: Vec<i32> = Vec::new();
    for batch in &batches {
        days.extend(
            batch
                .column(0)
                .as_primitive::<Date32Type>()
                .iter()
                .flatten(),
        );
    }
    days.sort_unstable();
    Ok(days)
}

/// The bucket of a unit key; integer ids are mixed first, so that patterns in them do not show.
fn bucket_function(buckets: u16) -> datafusion::logical_expr::ScalarUDF {
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let keys = arrays[0].as_primitive::<Int64Type>();
        let buckets: Int32Array = keys.unary::<_, Int32Type>(|key| i32::from(bucket(key, buckets)));
        Ok(ColumnarValue::Array(Arc::new(buckets) as ArrayRef))
    };
    create_udf(
        "unit_bucket",
        vec![DataType::Int64],
        DataType::Int32,
        Volatility::Immutable,
        Arc::new(function),
    )
}

fn bucket(key: i64, buckets: u16) -> u16 {
    let mixed = (key as u64 ^ (key as u64 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed >> 32) % u64::from(buckets.max(1))) as u16
}
