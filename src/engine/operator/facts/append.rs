//! Appending rows: sort, drop what is stored already, write one file per bucket and span of days, commit once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, max, partition};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, ScalarUDF, Volatility, cast as cast_expression, create_udf, ident,
};
use datafusion::prelude::SessionContext;
use deltalake::kernel::Action;
use futures::StreamExt;

use super::spans::Spans;
use super::write::{Output, Written};
use super::{BUCKET, ClusteredFacts, RunFile, TIME_TYPE, UNIT_KEY, day_of};
use crate::engine::operator::sources::unit_key_function;

/// So many rows are held to look up which of them are stored; a day of most tables, and a bounded part of any history.
const CHUNK_ROWS: usize = 1 << 20;

/// What an append has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    pub rows: u64,
    /// Rows that were stored already or came twice.
    pub repeated: u64,
    pub files: usize,
    /// Runs that were opened to see which rows were stored already.
    pub runs_opened: usize,
}

impl ClusteredFacts {
    /// Stores all rows of a query that are not stored yet, in one commit; without new rows there is no commit. All rows are held
    /// nowhere but in the sort, which spills.
    pub async fn append(&mut self, context: &SessionContext, rows: DataFrame) -> Result<Appended> {
        let runs = self.runs()?;
        let newest = Newest::from(runs.iter().map(|run| run.through.into()).max());
        let rows = self.clustered(rows, &newest)?;
        let mut stream = self.sorted(rows)?.execute_stream().await?;
        let mut arrived = Arrived::new(self, context, runs);
        while let Some(batch) = stream.next().await {
            // A sort gives its first row when it has seen the last: the newest day is known.
            arrived.add(&batch?, newest.day()).await?;
        }
        let (written, mut appended) = arrived.finish().await?;
        appended.rows = written.rows;
        appended.files = written.files.len();
        if !written.files.is_empty() {
            let operation = self.append_operation();
            let files = written.files.into_iter().map(Action::Add);
            self.commit(files.collect(), operation).await?;
        }
        Ok(appended)
    }

    fn sorted(&self, rows: DataFrame) -> Result<DataFrame> {
        let (time, id) = (&self.clustering.time, &self.clustering.id);
        let order = [BUCKET, UNIT_KEY, time, id];
        rows.sort(
            order
                .iter()
                .map(|name| ident(*name).sort(true, false))
                .collect(),
        )
    }

    /// The rows in the stored types, with unit key and bucket; their last day is noted as they pass.
    fn clustered(&self, rows: DataFrame, newest: &Newest) -> Result<DataFrame> {
        let unit = ident(self.clustering.unit.as_str());
        let time = ident(self.clustering.time.as_str());
        let data_type = unit.get_type(rows.schema())?;
        let mut columns = vec![
            unit_key_function(&data_type)
                .call(vec![unit.clone()])
                .alias(UNIT_KEY),
        ];
        for field in &self.schema.fields()[1..] {
            let column = ident(field.name().as_str());
            let column = cast_expression(column, field.data_type().clone());
            let column = match *field.name() == self.clustering.time {
                true => newest.function().call(vec![column]),
                false => column,
            };
            columns.push(column.alias(field.name()));
        }
        let bucket = bucket_function(self.clustering.buckets).call(vec![ident(UNIT_KEY)]);
        rows.filter(unit.is_not_null().and(time.is_not_null()))?
            .select(columns)?
            .with_column(BUCKET, bucket)
    }
}

/// Sorted rows on their way into files.
struct Arrived<'a> {
    facts: &'a ClusteredFacts,
    context: &'a SessionContext,
    /// Where rows may be stored already.
    runs: Vec<RunFile>,
    /// The last row so far, to see repeated ones across batches.
    last: Option<RecordBatch>,
    chunk: Vec<RecordBatch>,
    output: Option<Output<'a>>,
    appended: Appended,
}

impl<'a> Arrived<'a> {
    fn new(facts: &'a ClusteredFacts, context: &'a SessionContext, runs: Vec<RunFile>) -> Self {
        Arrived {
            facts,
            context,
            runs,
            last: None,
            chunk: Vec::new(),
            output: None,
            appended: Appended::default(),
        }
    }

    async fn add(&mut self, batch: &RecordBatch, newest: i64) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let unique = self.without_repeated(batch)?;
        self.appended.repeated += (batch.num_rows() - unique.num_rows()) as u64;
        let spans = Spans {
            newest,
            is_first: self.runs.is_empty(),
        };
        self.output
            .get_or_insert_with(|| Output::new(self.facts, spans));
        self.chunk.push(unique);
        let held: usize = self.chunk.iter().map(RecordBatch::num_rows).sum();
        match self.runs.is_empty() || held >= CHUNK_ROWS {
            true => self.store().await,
            false => Ok(()),
        }
    }

    /// Writes the rows at hand that are not stored yet.
    async fn store(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        let rows =
            |batches: &[RecordBatch]| -> usize { batches.iter().map(RecordBatch::num_rows).sum() };
        let offered = rows(&chunk);
        let (unknown, opened) = self
            .facts
            .without_stored(self.context, &self.runs, chunk)
            .await?;
        self.appended.runs_opened += opened;
        self.appended.repeated += (offered - rows(&unknown)) as u64;
        if let Some(output) = &mut self.output {
            for batch in &unknown {
                output.write(batch).await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(Written, Appended)> {
        self.store().await?;
        let written = match self.output {
            Some(output) => output.finish().await?,
            None => Written::default(),
        };
        Ok((written, self.appended))
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

/// The last day that a table reaches to, with the rows that come.
#[derive(Clone)]
struct Newest(Arc<AtomicI64>);

impl Newest {
    fn from(day: Option<i64>) -> Newest {
        Newest(Arc::new(AtomicI64::new(day.unwrap_or(i64::MIN))))
    }

    fn day(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// The identity on times, which notes the last day.
    fn function(&self) -> ScalarUDF {
        let newest = Arc::clone(&self.0);
        let note = move |arguments: &[ColumnarValue]| {
            let times = arguments[0].to_array(1)?;
            if let Some(last) = max(times.as_primitive::<TimestampMicrosecondType>()) {
                newest.fetch_max(day_of(last), Ordering::SeqCst);
            }
            Ok(arguments[0].clone())
        };
        create_udf(
            "noted_time",
            vec![TIME_TYPE],
            TIME_TYPE,
            Volatility::Volatile,
            Arc::new(note),
        )
    }
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
