//! Appending rows: sort, drop what is stored already, write one file per bucket and span of days, commit once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, PrimitiveArray,
};
use datafusion::arrow::compute::{
    and, concat_batches, filter_record_batch, is_not_null, partition, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::OwnedRow;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarUDF, Volatility, cast as cast_expression, create_udf, ident,
};
use datafusion::prelude::SessionContext;
use deltalake::kernel::Action;
use futures::StreamExt;

use super::maintain::without_leftovers;
use super::spans::{Spans, newest, rows_by_day};
use super::values::Values;
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
    /// Rows that had the unit, time and id of another row, and other values; one of the two stays, see [`super::values`].
    pub differing: u64,
    /// Stored rows that gave way to such a row.
    pub replaced: u64,
    /// Rows without unit, time or id: nobody's, of no day, or not to be told from others, they are left out.
    pub incomplete: u64,
    pub files: usize,
    /// Runs that were opened to see which rows were stored already.
    pub runs_opened: usize,
}

impl ClusteredFacts {
    /// Stores all rows of a query that are not stored yet, in one commit; without new rows there is no commit. All rows are held
    /// nowhere but in the sort, which spills. Of rows with one unit, time and id that differ, the one of [`super::values`] stays, even
    /// where another is stored.
    pub async fn append(&mut self, context: &SessionContext, rows: DataFrame) -> Result<Appended> {
        let writing = self.write_new(context, rows);
        let (actions, appended) = without_leftovers(&self.folder, writing).await?;
        if !actions.is_empty() {
            let operation = self.append_operation();
            self.commit(actions, operation).await?;
        }
        Ok(appended)
    }

    /// Writes files that no commit names yet; with the runs that they replace.
    async fn write_new(
        &self,
        context: &SessionContext,
        rows: DataFrame,
    ) -> Result<(Vec<Action>, Appended)> {
        let runs = self.runs();
        let days = Days::of(&runs);
        let rows = self.clustered(rows, &days)?;
        let mut stream = self.sorted(rows)?.execute_stream().await?;
        let mut arrived = Arrived::new(self, context, runs)?;
        let mut newest = None;
        while let Some(batch) = stream.next().await {
            // A sort gives its first row when it has seen the last: the newest day is known.
            let newest = *newest.get_or_insert_with(|| days.newest());
            arrived.add(&batch?, newest).await?;
        }
        let (written, displaced, mut appended) = arrived.finish().await?;
        appended.rows = written.rows;
        appended.files = written.files.len();
        let mut actions: Vec<Action> = written.files.into_iter().map(Action::Add).collect();
        for (run, gone) in displaced {
            appended.replaced += gone.len() as u64;
            actions.extend(self.without_rows(context, &run, &gone).await?);
        }
        Ok((actions, appended))
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

    /// The rows in the stored types, with unit key and bucket; their days are noted as they pass.
    fn clustered(&self, rows: DataFrame, days: &Days) -> Result<DataFrame> {
        let unit = ident(self.clustering.unit.as_str());
        // The key is that of the id as it is read again.
        let data_type = self.schema.field_with_name(&self.clustering.unit)?;
        let data_type = data_type.data_type().clone();
        let key = unit_key_function(&data_type)
            .call(vec![cast_expression(unit.clone(), data_type.clone())]);
        let mut columns = vec![key.alias(UNIT_KEY)];
        for field in &self.schema.fields()[1..] {
            let column = ident(field.name().as_str());
            let column = cast_expression(column, field.data_type().clone());
            let column = match *field.name() == self.clustering.time {
                true => days.function().call(vec![column]),
                false => column,
            };
            columns.push(column.alias(field.name()));
        }
        let bucket = bucket_function(self.clustering.buckets).call(vec![ident(UNIT_KEY)]);
        rows.select(columns)?.with_column(BUCKET, bucket)
    }
}

/// Sorted rows on their way into files.
struct Arrived<'a> {
    facts: &'a ClusteredFacts,
    context: &'a SessionContext,
    /// Where rows may be stored already.
    runs: Vec<RunFile>,
    values: Values,
    /// The row that stays of those with the last key so far: the next batch may bring more of them.
    last: Option<RecordBatch>,
    chunk: Vec<RecordBatch>,
    output: Option<Output<'a>>,
    displaced: Displaced,
    appended: Appended,
}

/// Stored rows that give way, by the path of their run.
pub(super) type Displaced = BTreeMap<String, HashSet<OwnedRow>>;

impl<'a> Arrived<'a> {
    fn new(
        facts: &'a ClusteredFacts,
        context: &'a SessionContext,
        runs: Vec<RunFile>,
    ) -> Result<Self> {
        Ok(Arrived {
            facts,
            context,
            runs,
            values: Values::of(facts)?,
            last: None,
            chunk: Vec::new(),
            output: None,
            displaced: Displaced::new(),
            appended: Appended::default(),
        })
    }

    async fn add(&mut self, batch: &RecordBatch, newest: i64) -> Result<()> {
        let complete = self.complete(batch)?;
        self.appended.incomplete += (batch.num_rows() - complete.num_rows()) as u64;
        if complete.num_rows() == 0 {
            return Ok(());
        }
        let unique = self.without_repeated(&complete)?;
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
        let found = self
            .facts
            .without_stored(self.context, &self.runs, &self.values, chunk)
            .await?;
        self.appended.runs_opened += found.opened;
        self.appended.repeated += (offered - rows(&found.unknown)) as u64;
        self.appended.differing += found.differing;
        for (run, gone) in found.displaced {
            self.displaced.entry(run).or_default().extend(gone);
        }
        if let Some(output) = &mut self.output {
            for batch in &found.unknown {
                output.write(batch).await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(Written, Displaced, Appended)> {
        self.chunk.extend(self.last.take());
        self.store().await?;
        let written = match self.output {
            Some(output) => output.finish().await?,
            None => Written::default(),
        };
        Ok((written, self.displaced, self.appended))
    }

    /// The rows that have unit, time and id.
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let clustering = &self.facts.clustering;
        let required = [&clustering.unit, &clustering.time, &clustering.id].map(|name| {
            let column = batch.column_by_name(name);
            column.expect("a clustering column")
        });
        if required.iter().all(|column| column.null_count() == 0) {
            return Ok(batch.clone());
        }
        let mut is_complete = BooleanArray::from(vec![true; batch.num_rows()]);
        for column in required {
            is_complete = and(&is_complete, &is_not_null(column)?)?;
        }
        Ok(filter_record_batch(batch, &is_complete)?)
    }

    /// Rows equal in unit, time and id stand next to each other; one of them stays. That of the last key waits for the next batch.
    fn without_repeated(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let joined = match &self.last {
            Some(last) => concat_batches(&batch.schema(), [last, batch])?,
            None => batch.clone(),
        };
        let clustering = &self.facts.clustering;
        let keys: Vec<ArrayRef> = [UNIT_KEY, &clustering.time, &clustering.id]
            .map(|name| {
                let column = joined.column_by_name(name);
                column.expect("a clustering column").clone()
            })
            .into();
        let ranges = partition(&keys)?.ranges();
        let (places, differing) = self.values.first_of_each(&joined, &ranges)?;
        self.appended.repeated += (joined.num_rows() - places.len()) as u64;
        self.appended.differing += differing;
        let rows = match places.len() == joined.num_rows() {
            true => joined,
            false => take_record_batch(&joined, &places)?,
        };
        let others = rows.num_rows() - 1;
        self.last = Some(rows.slice(others, 1));
        Ok(rows.slice(0, others))
    }
}

/// How many rows of each day a table has, with the rows that come.
#[derive(Clone)]
struct Days(Arc<Mutex<BTreeMap<i64, u64>>>);

impl Days {
    fn of(runs: &[RunFile]) -> Days {
        Days(Arc::new(Mutex::new(rows_by_day(runs.iter()))))
    }

    fn newest(&self) -> i64 {
        newest(&self.known()).unwrap_or(i64::MIN)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<i64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity on times, which notes their days.
    fn function(&self) -> ScalarUDF {
        let days = self.clone();
        let note = move |arguments: &[ColumnarValue]| {
            let times = arguments[0].to_array(1)?;
            let own = counted(times.as_primitive::<TimestampMicrosecondType>());
            let mut known = days.known();
            for (day, rows) in own {
                *known.entry(day).or_default() += rows;
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

/// How many times are of each day.
fn counted(times: &PrimitiveArray<TimestampMicrosecondType>) -> HashMap<i64, u64> {
    let mut days = HashMap::new();
    // Neighbours are mostly of one day.
    let mut last = (i64::MIN, 0);
    for time in times.iter().flatten() {
        let day = day_of(time);
        if day != last.0 {
            *days.entry(last.0).or_default() += last.1;
            last = (day, 0);
        }
        last.1 += 1;
    }
    *days.entry(last.0).or_default() += last.1;
    days.retain(|_, rows| *rows > 0);
    days
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
