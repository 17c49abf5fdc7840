//! What waits for the next commit.
//! In: batches from any thread. Out: one [`Group`] for the writer, and when it should take it.
//! Disk and ids are left to the writer.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Batch, LogConfig, Outcome};

pub type Sender = oneshot::Sender<Result<Outcome, String>>;

/// The waiting records, and requests to the writer.
#[derive(Default)]
pub struct Queue {
    group: Group,
    /// When the writer should commit; none while nothing waits.
    pub deadline: Option<Instant>,
    /// How many senders waited for the last commit. Senders that send one request after the other come back together: when as
    /// many wait again, waiting on would only cost time.
    expected: usize,
    pub seal_requested: bool,
    pub is_closing: bool,
}

/// Records that are committed together. Tickets say whose they are.
#[derive(Default)]
pub struct Group {
    pub batch: Batch,
    pub tickets: Vec<Ticket>,
}

/// The entries `from..to` of a group belong to one waiting sender.
pub struct Ticket {
    pub from: usize,
    pub to: usize,
    pub sender: Sender,
}

impl Queue {
    /// Whether `bytes` more may wait too. More than the limit may, alone.
    pub fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.group.batch.is_empty() || self.group.batch.bytes.len() + bytes <= limit
    }

    /// Takes the records that `add` adds; true when the writer must be woken for them.
    pub fn push(
        &mut self,
        add: impl FnOnce(&mut Batch),
        sender: Option<Sender>,
        config: &LogConfig,
    ) -> bool {
        let from = self.group.batch.len();
        add(&mut self.group.batch);
        let to = self.group.batch.len();
        let is_full = from < config.group && to >= config.group;
        let is_sooner = match sender {
            Some(sender) => {
                self.group.tickets.push(Ticket { from, to, sender });
                self.hurry(Instant::now() + config.window)
            }
            // Nobody waits, so an earlier deadline is as good, and the clock need not be asked.
            None => self.deadline.is_none() && self.hurry(Instant::now() + config.lazy_window),
        };
        is_sooner || is_full || self.are_all_back()
    }

    /// Whether the writer should commit at `now`.
    pub fn is_due(&self, now: Instant, group: usize) -> bool {
        self.group.batch.len() >= group
            || self.are_all_back()
            || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Takes everything that waits, leaving the memory of `spare` behind.
    pub fn take(&mut self, mut spare: Group) -> Group {
        spare.clear();
        self.deadline = None;
        if !self.group.tickets.is_empty() {
            self.expected = self.group.tickets.len();
        }
        std::mem::replace(&mut self.group, spare)
    }

    fn are_all_back(&self) -> bool {
        let waiting = self.group.tickets.len();
        waiting > 0 && waiting >= self.expected
    }

    fn hurry(&mut self, deadline: Instant) -> bool {
        let is_sooner = self.deadline.is_none_or(|current| deadline < current);
        if is_sooner {
            self.deadline = Some(deadline);
        }
        is_sooner
    }
}

/// Memory a group keeps between commits; what a burst needed beyond it is given back.
const KEPT_BYTES: usize = 1 << 20;

impl Group {
    fn clear(&mut self) {
        self.batch.clear();
        self.batch.shrink_to(KEPT_BYTES);
        self.tickets.clear();
    }

    /// Keeps the records for which `is_new` says so; `outcomes` gets one bit per entry.
    pub fn retain<E>(
        &mut self,
        outcomes: &mut Vec<bool>,
        mut is_new: impl FnMut(u128) -> Result<bool, E>,
    ) -> Result<(), E> {
        outcomes.clear();
        let Batch { bytes, entries } = &mut self.batch;
        let (mut start, mut kept) = (0, 0);
        for entry in entries.iter() {
            let keep = is_new(entry.fingerprint)?;
            outcomes.push(keep);
            if keep {
                // Without duplicates nothing is moved.
                if kept != start {
                    bytes.copy_within(start..entry.end, kept);
                }
                kept += entry.end - start;
            }
            start = entry.end;
        }
        bytes.truncate(kept);
        Ok(())
    }
}
