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
    /// The key that is next in each run, side by side: a unit has rows in some of dozens of runs.
    heads: Vec<i64>,
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
            heads: Vec::new(),
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
        self.heads.clear();
        self.heads.extend(self.runs.iter().map(Run::key));
        Ok(())
    }

    /// The lowest unit that is next in any run.
    pub fn next_key(&self) -> Option<i64> {
        self.heads.iter().copied().min()
    }

    /// Skips rows of units below `key`; true when a run must be filled before going on.
    pub fn skip_below(&mut self, key: i64) -> bool {
        let mut is_short = false;
        for (run, head) in self.runs.iter_mut().zip(&mut self.heads) {
            if *head < key {
                is_short |= run.advance((|other| other < key, |_, _| ()), head);
            }
        }
        is_short
    }

    /// Begins a unit.
    pub fn begin(&mut self, key: i64) {
        B::clear(&mut self.gathered);
        // Sorted runs that overlap must be put in order; one alone is lent as it lies.
        self.whole = match self.runs.as_mut_slice() {
            [run] => run.whole(key, &mut self.heads[0]),
            _ => None,
        };
    }

    /// Takes the rows of the unit; true when a run must be filled and asked again.
    pub fn take(&mut self, key: i64) -> bool {
        if self.whole.is_some() {
            return false;
        }
        // Run after run, each to its end: so rows of runs that follow each other in time are in order.
        for first in (0..self.runs.len()).step_by(MOST_PLACES) {
            let mut places = places_of(key, &self.heads[first..]);
            while places != 0 {
                let at = first + places.trailing_zeros() as usize;
                places &= places - 1;
                let append = |batch: &B, range| batch.append(range, &mut self.gathered);
                let run = &mut self.runs[at];
                if run.advance((|other| other == key, append), &mut self.heads[at]) {
                    return true;
                }
            }
        }
        false
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

    /// The rows at the front of a unit that ends in this batch; then they are passed, and the next key is the run's head.
    #[inline]
    fn whole(&mut self, key: i64, head: &mut i64) -> Option<Range<usize>> {
        let keys = self.batch.keys();
        let start = self.position;
        let end = start + leading(&keys[start..], |other| other == key);
        if end == keys.len() {
            return None;
        }
        self.position = end;
        *head = keys[end];
        Some(start..end)
    }

    /// Passes the rows at the front whose key fits, to the next key that is the run's head; true when that used up the batch.
    #[inline]
    fn advance(
        &mut self,
        (fits, mut pass): (impl Fn(i64) -> bool, impl FnMut(&B, Range<usize>)),
        head: &mut i64,
    ) -> bool {
        let keys = self.batch.keys();
        let start = self.position;
        let end = start + leading(&keys[start..], fits);
        if end > start {
            pass(&self.batch, start..end);
            self.position = end;
        }
        match self.batch.keys().get(end) {
            Some(next) => *head = *next,
            None => return true,
        }
        false
    }
}

/// Runs that are looked at together: a bit for each.
const MOST_PLACES: usize = u64::BITS as usize;

/// Which of the first heads are a key. All of them without a branch, as nobody can guess in which runs a unit has rows.
#[inline(always)]
fn places_of(key: i64, heads: &[i64]) -> u64 {
    let heads = heads.iter().take(MOST_PLACES).enumerate();
    heads.fold(0, |places, (at, head)| {
        places | u64::from(*head == key) << at
    })
}

/// How many keys fit; those that do stand before those that do not.
#[inline(always)]
fn leading(keys: &[i64], fits: impl Fn(i64) -> bool) -> usize {
    // Block by block, as nobody can guess where they end.
    const BLOCK: usize = 8;
    let mut leading = 0;
    while let Some(block) = keys[leading..].first_chunk::<BLOCK>() {
        let here = block
            .iter()
            .map(|key| usize::from(fits(*key)))
            .sum::<usize>();
        leading += here;
        if here < BLOCK {
            return leading;
        }
    }
    let rest = keys[leading..].iter();
    leading + rest.take_while(|key| fits(**key)).count()
}
