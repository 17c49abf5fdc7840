//! Which rows a worker gets next, opened before it comes to them.
//! In: the children of the operator, and which of their partitions belong together as units of work. Out: the streams of one unit of work
//! after the other. What is done with their rows is decided by the operator.
//!
//! A worker that waits for the first rows of many files does nothing else, so their reading begins while the unit of work before is
//! walked. The last ones are decoded by tasks of their own: some workers have none left then, and their processors take part.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

/// Child partitions that belong together: of the events, of the assignments.
pub type Partitions = (Vec<usize>, Vec<usize>);

/// Batches of a stream that wait for the worker when a task of its own decodes them.
const BATCHES_AHEAD: usize = 2;

/// The sorted runs of one unit of work.
pub struct Opened {
    pub events: Vec<SendableRecordBatchStream>,
    pub assignments: Vec<SendableRecordBatchStream>,
}

/// All units of work, each taken once.
pub struct Work {
    events: Arc<dyn ExecutionPlan>,
    assignments: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    partitions: Vec<Partitions>,
    workers: usize,
    next: AtomicUsize,
    ahead: Vec<Mutex<Ahead>>,
}

/// How far a unit of work is.
#[derive(Default)]
enum Ahead {
    #[default]
    Closed,
    Opening(SpawnedTask<Opened>),
    Taken,
}

impl Work {
    pub fn new(
        children: [&Arc<dyn ExecutionPlan>; 2],
        context: Arc<TaskContext>,
        partitions: Vec<Partitions>,
        workers: usize,
    ) -> Work {
        let [events, assignments] = children.map(Arc::clone);
        Work {
            events,
            assignments,
            context,
            ahead: partitions.iter().map(|_| Mutex::default()).collect(),
            partitions,
            workers,
            next: AtomicUsize::new(0),
        }
    }

    /// The next unit of work, while there is one.
    pub async fn next(&self) -> Result<Option<Opened>> {
        let unit = self.next.fetch_add(1, Ordering::Relaxed);
        if unit >= self.partitions.len() {
            return Ok(None);
        }
        let opened = match self.exchange(unit, Ahead::Taken) {
            Ahead::Opening(task) => task.join_unwind().await.map_err(join_error)?,
            Ahead::Closed | Ahead::Taken => self.open(unit)?,
        };
        // When this one is done, the others have taken those between.
        self.open_ahead(unit + self.workers)?;
        Ok(Some(opened))
    }

    fn exchange(&self, unit: usize, state: Ahead) -> Ahead {
        let mut ahead = self.ahead[unit]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut ahead, state)
    }

    fn open_ahead(&self, unit: usize) -> Result<()> {
        let Some(ahead) = self.ahead.get(unit) else {
            return Ok(());
        };
        let mut ahead = ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*ahead, Ahead::Closed) {
            *ahead = Ahead::Opening(SpawnedTask::spawn(primed(self.open(unit)?)));
        }
        Ok(())
    }

    fn open(&self, unit: usize) -> Result<Opened> {
        let is_last = unit + self.workers >= self.partitions.len();
        let open = |child: &Arc<dyn ExecutionPlan>, partitions: &[usize]| {
            let opened = partitions.iter().map(|partition| {
                let stream = child.execute(*partition, Arc::clone(&self.context))?;
                Ok(match is_last && self.workers < self.partitions.len() {
                    true => spawn_buffered(stream, BATCHES_AHEAD),
                    false => stream,
                })
            });
            opened.collect::<Result<Vec<_>>>()
        };
        let (events, assignments) = &self.partitions[unit];
        Ok(Opened {
            events: open(&self.events, events)?,
            assignments: open(&self.assignments, assignments)?,
        })
    }
}

fn join_error(error: tokio::task::JoinError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The same streams, each with its first batch at hand.
async fn primed(opened: Opened) -> Opened {
    Opened {
        events: with_first(opened.events).await,
        assignments: with_first(opened.assignments).await,
    }
}

async fn with_first(streams: Vec<SendableRecordBatchStream>) -> Vec<SendableRecordBatchStream> {
    let mut primed = Vec::with_capacity(streams.len());
    for stream in streams {
        let schema = stream.schema();
        let mut stream = Box::pin(stream.peekable());
        stream.as_mut().peek().await;
        let stream = RecordBatchStreamAdapter::new(schema, stream);
        primed.push(Box::pin(stream) as SendableRecordBatchStream);
    }
    primed
}
