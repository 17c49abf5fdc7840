//! Walks sorted runs of both sources unit by unit.
//! In: streams sorted by unit key. Out: complete [`Unit`]s handed to the kernel. Events of units without an assignment are skipped.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::batches::Batch;
use super::unit::Unit;

/// Sorted runs of one source that together hold all rows of some units.
pub struct Runs<B> {
    runs: Vec<Run<B>>,
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
        Runs { runs, rows: 0 }
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

    /// Appends the rows of a unit; true when a run must be filled and asked again.
    pub fn take(&mut self, key: i64, unit: &mut Unit) -> bool {
        let mut is_short = false;
        for run in &mut self.runs {
            is_short |= run.advance(
                |other| other == key,
                |batch, range| batch.append(range, unit),
            );
        }
        is_short
    }
}

impl<B: Batch> Run<B> {
    fn is_exhausted(&self) -> bool {
        self.position >= self.batch.keys().len()
    }

    fn key(&self) -> i64 {
        self.batch.keys()[self.position]
    }

    /// Passes the rows at the front whose key fits; true when that used up the batch.
    #[inline]
    fn advance(
        &mut self,
        fits: impl Fn(i64) -> bool,
        mut pass: impl FnMut(&B, std::ops::Range<usize>),
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
