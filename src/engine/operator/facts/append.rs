//! Appending rows: sort, drop what is stored already, write one file per day and bucket, commit once.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Date32Array, Int32Array};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch, max, min, partition};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int32Type, Int64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::JoinType;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, Volatility, cast as cast_expression, create_udf, ident, lit,
};
use datafusion::prelude::SessionContext;
use deltalake::ObjectStore;
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
        let written = self
            .write(self.sorted(fresh)?.execute_stream().await?)
            .await?;
        let repeated = total as u64 - written.rows;
        self.commit_added(written.files, written.rows, repeated)
            .await
    }

    /// The first rows of an empty table: one run per bucket over all their days, in one commit. The rows are held nowhere but in
    /// the sort, which spills.
    pub async fn load(&mut self, rows: DataFrame) -> Result<Appended> {
        let any_day = lit(datafusion::scalar::ScalarValue::Date32(Some(0)));
        let rows = self
            .clustered(rows)?
            .with_column("day", any_day.clone())?
            .with_column("through", any_day)?;
        let written = self
            .write(self.sorted(rows)?.execute_stream().await?)
            .await?;
        // Which days they are is known only now; the files themselves do not say.
        let span = written.span.unwrap_or_default();
        let mut files = Vec::with_capacity(written.files.len());
        for file in written.files {
            files.push(self.spanned(file, span).await?);
        }
        self.commit_added(files, written.rows, written.repeated)
            .await
    }

    /// A written file under the days that it turned out to hold.
    async fn spanned(&self, file: Add, span: (i32, i32)) -> Result<Add> {
        let (mut path, mut partition_values) = (file.path.clone(), file.partition_values.clone());
        for (name, day) in [("day", span.0), ("through", span.1)] {
            let (before, after) = (date_text(0), date_text(day));
            path = path.replace(&format!("{name}={before}/"), &format!("{name}={after}/"));
            partition_values.insert(name.to_owned(), Some(after));
        }
        let store = self.table.log_store().object_store(None);
        let (from, to) = (file.path.as_str().into(), path.as_str().into());
        store.rename_opts(&from, &to, Default::default()).await?;
        Ok(Add {
            path,
            partition_values,
            ..file
        })
    }

    fn sorted(&self, rows: DataFrame) -> Result<DataFrame> {
        let (time, id) = (&self.clustering.time, &self.clustering.id);
        let order = ["day", "bucket", UNIT_KEY, time, id];
        rows.sort(
            order
                .iter()
                .map(|name| ident(*name).sort(true, false))
                .collect(),
        )
    }

    async fn commit_added(
        &mut self,
        files: Vec<Add>,
        rows: u64,
        repeated: u64,
    ) -> Result<Appended> {
        let appended = Appended {
            rows,
            repeated,
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
        let unit = ident(self.clustering.unit.as_str());
        let data_type = unit.get_type(rows.schema())?;
        let mut columns = vec![
            unit_key_function(&data_type)
                .call(vec![unit.clone()])
                .alias(UNIT_KEY),
        ];
        for field in &self.schema.fields()[1..] {
            columns.push(
                cast_expression(ident(field.name().as_str()), field.data_type().clone())
                    .alias(field.name()),
            );
        }
        let time = ident(self.clustering.time.as_str());
        let rows = rows
            .filter(unit.is_not_null().and(time.clone().is_not_null()))?
            .select(columns)?;
        let day = cast_expression(time, DataType::Date32);
        let bucket = bucket_function(self.clustering.buckets).call(vec![ident(UNIT_KEY)]);
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
            .filter(ident("day").in_list(looked_up.clone(), true))?;
        let late = rows.filter(ident("day").in_list(looked_up, false))?;
        let id = self.clustering.id.as_str();
        // Late rows are few: the ids of all other units need not be read.
        let units = unit_keys_of(late.clone()).await?;
        let stored = context.read_table(Arc::new(touched))?;
        let stored = stored.filter(units_function(units).call(vec![ident(UNIT_KEY)]))?;
        let stored = stored.select(vec![
            ident(UNIT_KEY).alias("stored_key"),
            ident(id).alias("stored_id"),
        ])?;
        let same = [
            ident(UNIT_KEY).eq(ident("stored_key")),
            ident(id).eq(ident("stored_id")),
        ];
        let late = late.join_on(stored, JoinType::LeftAnti, same)?;
        fresh.union(late)
    }

    /// Writes a stream sorted by day, bucket and sort key; a writer holds one day at a time.
    pub(super) async fn write(&self, mut stream: SendableRecordBatchStream) -> Result<Written> {
        let mut output = Output {
            facts: self,
            writer: None,
            day: None,
            last: None,
            written: Written::default(),
        };
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() > 0 {
                output.add(&batch).await?;
            }
        }
        output.close().await?;
        let mut written = output.written;
        written.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(written)
    }
}

/// Files being written, one day at a time.
struct Output<'a> {
    facts: &'a ClusteredFacts,
    writer: Option<DeltaWriter>,
    day: Option<i32>,
    /// The last row so far, to see repeated ones across batches.
    last: Option<RecordBatch>,
    written: Written,
}

/// Files that no commit names yet.
#[derive(Default)]
pub(super) struct Written {
    pub files: Vec<Add>,
    pub rows: u64,
    /// Rows that came twice and were written once.
    pub repeated: u64,
    /// The first and last day of the rows' times.
    pub span: Option<(i32, i32)>,
}

impl Output<'_> {
    async fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let offered = batch.num_rows();
        let batch = self.without_repeated(batch)?;
        self.written.repeated += (offered - batch.num_rows()) as u64;
        self.see_times(&batch)?;
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
            self.written.rows += range.len() as u64;
            let rows = batch.slice(range.start, range.len());
            let writer = self.writer.get_or_insert_with(|| self.facts.writer());
            writer.write(&rows).await.map_err(external)?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.written
                .files
                .extend(writer.close().await.map_err(external)?);
        }
        Ok(())
    }

    fn see_times(&mut self, batch: &RecordBatch) -> Result<()> {
        let times = batch
            .column_by_name(&self.facts.clustering.time)
            .expect("a clustering column");
        let days = cast(times, &DataType::Date32)?;
        let days = days.as_primitive::<Date32Type>();
        if let (Some(low), Some(high)) = (min(days), max(days)) {
            let (first, last) = self.written.span.unwrap_or((low, high));
            self.written.span = Some((first.min(low), last.max(high)));
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

/// A day as partition values are written.
fn date_text(day: i32) -> String {
    let date = chrono::NaiveDate::default() + chrono::Duration::days(i64::from(day));
    date.format("%Y-%m-%d").to_string()
}

async fn distinct_days(rows: DataFrame) -> Result<Vec<i32>> {
    let batches = rows
        .select(vec![ident("day")])?
        .distinct()?
        .collect()
        .await?;
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

async fn unit_keys_of(rows: DataFrame) -> Result<Vec<i64>> {
    let rows = rows.select(vec![ident(UNIT_KEY)])?.distinct()?;
    let mut keys: Vec<i64> = Vec::new();
    for batch in rows.collect().await? {
        keys.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    keys.sort_unstable();
    Ok(keys)
}

/// Whether a unit key is one of some, which are sorted; rows of a unit stand together, so that most need no search.
fn units_function(units: Vec<i64>) -> datafusion::logical_expr::ScalarUDF {
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let mut last: Option<(i64, bool)> = None;
        let mut is_one = |key: i64| match last {
            Some((known, answer)) if known == key => answer,
            _ => {
                let answer = units.binary_search(&key).is_ok();
                last = Some((key, answer));
                answer
            }
        };
        let keys = arrays[0].as_primitive::<Int64Type>();
        let found: BooleanArray = keys.iter().map(|key| key.map(&mut is_one)).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    };
    create_udf(
        "is_late_unit",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(function),
    )
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
