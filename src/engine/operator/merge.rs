//! Walks sorted runs of both sources unit by unit.
//! In: streams sorted by unit key. Out: complete [`Unit`]s handed to the kernel. Events of units without an assignment are skipped.

use std::ops::Range;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::batches::Batch;
use super::unit::Unit;

/// Sorted runs of one source that together hold all rows of some units.
pub struct Runs<B: Batch> {
    runs: Vec<Run<B>>,
    /// The rows of the current unit: where they lie, if all stand in one batch, or gathered.
    whole: Option<Range<usize>>,
    gathered: B::Rows,
    /// Rows read so far.
    pub rows: usize,
}

struct Run<B> {
    stream: SendableRecordBatchStream,
    batch: B,
    position: usize,
}

impl<B: Batch> Runs<B> {
    pub fn new(streams: Vec<SendableRecordBatchStream>) -> Runs<B> {
        let runs = streams
            .into_iter()
            .map(|stream| Run {
                stream,
                batch: B::default(),
                position: 0,
            })
            .collect();
        Runs {
            runs,
            whole: None,
            gathered: B::Rows::default(),
            rows: 0,
        }
    }

    /// Reads until every run has a row to show or has ended.
    pub async fn fill(
        &mut self,
        mut read: impl FnMut(&RecordBatch, &mut B) -> Result<()>,
    ) -> Result<()> {
        for run in &mut self.runs {
            while run.is_exhausted() {
                let Some(batch) = run.stream.next().await.transpose()? else {
                    break;
                };
                self.rows += batch.num_rows();
                read(&batch, &mut run.batch)?;
                run.position = 0;
            }
        }
        self.runs.retain(|run| !run.is_exhausted());
        Ok(())
    }

    /// The lowest unit that is next in any run.
    pub fn next_key(&self) -> Option<i64> {
        self.runs.iter().map(Run::key).min()
    }

    /// Skips rows of units below `key`; true when a run must be filled before going on.
    pub fn skip_below(&mut self, key: i64) -> bool {
        let mut is_short = false;
        for run in &mut self.runs {
            is_short |= run.advance(|other| other < key, |_, _| ());
        }
        is_short
    }

    /// Begins a unit.
    pub fn begin(&mut self, key: i64) {
        B::clear(&mut self.gathered);
        // Sorted runs that overlap must be put in order; one alone is lent as it lies.
        self.whole = match self.runs.as_mut_slice() {
            [run] => run.whole(key),
            _ => None,
        };
    }

    /// Takes the rows of the unit; true when a run must be filled and asked again.
    pub fn take(&mut self, key: i64) -> bool {
        let mut is_short = false;
        if self.whole.is_some() {
            return is_short;
        }
        for run in &mut self.runs {
            is_short |= run.advance(
                |other| other == key,
                |batch, range| batch.append(range, &mut self.gathered),
            );
        }
        is_short
    }

    /// Makes what was taken part of the unit.
    pub fn lend<'a>(&'a mut self, unit: &mut Unit<'a>) {
        match self.whole.take() {
            None => B::lend(&mut self.gathered, unit),
            Some(rows) => self.runs[0]
                .batch
                .lend_range(rows, &mut self.gathered, unit),
        }
    }
}

impl<B: Batch> Run<B> {
    fn is_exhausted(&self) -> bool {
        self.position >= self.batch.keys().len()
    }

    fn key(&self) -> i64 {
        self.batch.keys()[self.position]
    }

    /// The rows at the front of a unit that ends in this batch; then they are passed.
    #[inline]
    fn whole(&mut self, key: i64) -> Option<Range<usize>> {
        let rest = &self.batch.keys()[self.position..];
        let length = rest.iter().position(|other| *other != key)?;
        let start = self.position;
        self.position += length;
        Some(start..self.position)
    }

    /// Passes the rows at the front whose key fits; true when that used up the batch.
    #[inline]
    fn advance(
        &mut self,
        fits: impl Fn(i64) -> bool,
        mut pass: impl FnMut(&B, Range<usize>),
    ) -> bool {
        let keys = self.batch.keys();
        let start = self.position;
        let mut end = start;
        while end < keys.len() && fits(keys[end]) {
            end += 1;
        }
        if end > start {
            pass(&self.batch, start..end);
            self.position = end;
        }
        end == keys.len()
    }
}
