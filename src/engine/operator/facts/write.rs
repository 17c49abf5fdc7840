//! Writing runs: one file per bucket and span of days.
//! In: rows in the order of bucket and sort key. Out: files that no commit names yet, under the days that they turned out to hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, PrimitiveArray, UInt32Array};
use datafusion::arrow::compute::{cast, max, min, partition, take_record_batch};
use datafusion::arrow::datatypes::{TimestampMicrosecondType, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use deltalake::datafile::writer::DeltaWriter;
use deltalake::kernel::Add;

use super::spans::{Span, Spans};
use super::{BUCKET, ClusteredFacts, PARTITIONS, day_of, external};
use crate::warehouse::FirstFailure;

/// Files that no commit names yet.
#[derive(Default)]
pub(super) struct Written {
    pub files: Vec<Add>,
    pub rows: u64,
}

/// The runs of one bucket at a time, a file per span.
pub(super) struct Output<'a> {
    facts: &'a ClusteredFacts,
    spans: Spans,
    bucket: u16,
    open: BTreeMap<Span, RunWriter<'a>>,
    written: Written,
}

impl<'a> Output<'a> {
    pub fn new(facts: &'a ClusteredFacts, spans: Spans) -> Output<'a> {
        Output {
            facts,
            spans,
            bucket: 0,
            open: BTreeMap::new(),
            written: Written::default(),
        }
    }

    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let buckets = batch
            .column_by_name(BUCKET)
            .expect("a clustered batch has a bucket")
            .clone();
        for range in partition(std::slice::from_ref(&buckets))?.ranges() {
            let bucket = buckets
                .as_primitive::<datafusion::arrow::datatypes::Int32Type>()
                .value(range.start) as u16;
            if bucket != self.bucket {
                self.close().await?;
                self.bucket = bucket;
            }
            let rows = batch.slice(range.start, range.len());
            self.written.rows += rows.num_rows() as u64;
            for (span, rows) in self.by_span(rows)? {
                let writer = self
                    .open
                    .entry(span)
                    .or_insert_with(|| RunWriter::new(self.facts));
                writer.write(&rows).await?;
            }
        }
        Ok(())
    }

    /// Rows by the spans of their days; their order stays.
    fn by_span(&self, rows: RecordBatch) -> Result<Vec<(Span, RecordBatch)>> {
        let times = self.facts.times(&rows)?;
        let Some((first, last)) = days_of(&times) else {
            return Ok(Vec::new());
        };
        let span = self.spans.of(first);
        if last <= span.last {
            return Ok(vec![(span, rows)]);
        }
        let mut places: BTreeMap<Span, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.values().iter().enumerate() {
            let span = self.spans.of(day_of(*time));
            places.entry(span).or_default().push(row as u32);
        }
        let rows_at = |(span, places): (Span, Vec<u32>)| {
            let places: PrimitiveArray<UInt32Type> = UInt32Array::from(places);
            Ok((span, take_record_batch(&rows, &places)?))
        };
        places.into_iter().map(rows_at).collect()
    }

    async fn close(&mut self) -> Result<()> {
        for writer in std::mem::take(&mut self.open).into_values() {
            self.written.files.extend(writer.close(self.bucket).await?);
        }
        Ok(())
    }

    pub async fn finish(mut self) -> Result<Written> {
        self.close().await?;
        Ok(self.written)
    }
}

/// One run being written.
pub(super) struct RunWriter<'a> {
    facts: &'a ClusteredFacts,
    writer: DeltaWriter,
    first_failure: FirstFailure,
    /// The first and last day so far.
    days: Option<(i64, i64)>,
}

impl<'a> RunWriter<'a> {
    pub fn new(facts: &'a ClusteredFacts) -> RunWriter<'a> {
        let first_failure = FirstFailure::in_folder(&facts.folder);
        let store = first_failure.watch(facts.table.log_store().object_store(None));
        RunWriter {
            facts,
            first_failure,
            writer: DeltaWriter::new(store, facts.writer_config()),
            days: None,
        }
    }

    /// Adds rows, which may have other columns beside and other types.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = self.facts.as_stored(rows)?;
        if let Some((first, last)) = days_of(&self.facts.times(&rows)?) {
            let (low, high) = self.days.unwrap_or((first, last));
            self.days = Some((low.min(first), high.max(last)));
        }
        self.writer.write(&rows).await.map_err(external)?;
        check(&self.first_failure)
    }

    /// The file, which the log knows by its days and bucket; none without rows.
    pub async fn close(self, bucket: u16) -> Result<Option<Add>> {
        let mut files = self.writer.close().await.map_err(external)?;
        check(&self.first_failure)?;
        let (Some(file), Some((first, last))) = (files.pop(), self.days) else {
            return Ok(None);
        };
        if !files.is_empty() {
            // The writer has no size after which it would begin another file.
            return internal_err!("a run became {} files", files.len() + 1);
        }
        let values = [date_text(first)?, date_text(last)?, bucket.to_string()];
        let named = PARTITIONS.iter().zip(values);
        Ok(Some(Add {
            partition_values: named
                .map(|(name, value)| ((*name).to_owned(), Some(value)))
                .collect(),
            ..file
        }))
    }
}

impl ClusteredFacts {
    /// Rows in the columns and types that are stored.
    fn as_stored(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let column = |field: &Arc<datafusion::arrow::datatypes::Field>| {
            let column = rows.column(rows.schema().index_of(field.name())?);
            Ok::<ArrayRef, DataFusionError>(cast(column, field.data_type())?)
        };
        let columns = self.schema.fields().iter().map(column);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn times(&self, rows: &RecordBatch) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
        let times = rows.column(rows.schema().index_of(&self.clustering.time)?);
        Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
    }
}

fn check(failure: &FirstFailure) -> Result<()> {
    let failed = failure.take();
    failed.map_err(|error| DataFusionError::External(Box::new(error)))
}

/// The first and last day of some times.
fn days_of(times: &PrimitiveArray<TimestampMicrosecondType>) -> Option<(i64, i64)> {
    Some((day_of(min(times)?), day_of(max(times)?)))
}

/// A day as partition values are written; an error for one that no calendar has, though a time can say it.
fn date_text(day: i64) -> Result<String> {
    let date = chrono::TimeDelta::try_days(day)
        .and_then(|days| chrono::NaiveDate::default().checked_add_signed(days));
    match date {
        Some(date) => Ok(date.format("%Y-%m-%d").to_string()),
        None => exec_err!(
            "a row's time is {} years away from 1970; filter such rows, or give them another time",
            day.abs() / 365
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_no_calendar_are_refused() {
        assert_eq!(date_text(-1).unwrap(), "1969-12-31");
        for micros in [i64::MIN, i64::MAX] {
            let said = date_text(day_of(micros)).unwrap_err().to_string();
            assert!(said.contains("292471 years away from 1970"), "{said}");
        }
    }
}
