//! What waits for the next commit.
//! In: batches from any thread. Out: one [`Group`] for the writer, and when it should take it.
//! Disk and ids are left to the writer.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Batch, Entry, LogConfig, Outcome};

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
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
    pub tickets: Vec<Ticket>,
}

/// The entries `from..to` of a group belong to one waiting sender.
pub struct Ticket {
    pub from: usize,
    pub to: usize,
    pub sender: Sender,
}

impl Queue {
    /// Whether `batch` may wait too. A batch larger than the limit may, alone.
    pub fn has_room(&self, batch: &Batch, limit: usize) -> bool {
        self.group.bytes.is_empty() || self.group.bytes.len() + batch.bytes.len() <= limit
    }

    /// Adds a batch; true when the writer must be woken for it.
    pub fn push(&mut self, batch: &Batch, sender: Option<Sender>, config: &LogConfig) -> bool {
        let (offset, from) = (self.group.bytes.len(), self.group.entries.len());
        self.group.bytes.extend_from_slice(&batch.bytes);
        let shifted = batch.entries.iter().map(|entry| Entry {
            end: entry.end + offset,
            ..*entry
        });
        self.group.entries.extend(shifted);
        let to = self.group.entries.len();
        let window = if sender.is_some() {
            config.window
        } else {
            config.lazy_window
        };
        self.group
            .tickets
            .extend(sender.map(|sender| Ticket { from, to, sender }));
        let is_full = from < config.group && to >= config.group;
        self.hurry(Instant::now() + window) || is_full || self.are_all_back()
    }

    /// Whether the writer should commit at `now`.
    pub fn is_due(&self, now: Instant, group: usize) -> bool {
        self.group.entries.len() >= group
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
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEPT_BYTES / size_of::<Entry>());
        self.tickets.clear();
    }

    /// Keeps the records for which `is_new` says so; `outcomes` gets one bit per entry.
    pub fn retain<E>(
        &mut self,
        outcomes: &mut Vec<bool>,
        mut is_new: impl FnMut(u128) -> Result<bool, E>,
    ) -> Result<(), E> {
        outcomes.clear();
        let (mut start, mut kept) = (0, 0);
        for entry in &self.entries {
            let keep = is_new(entry.fingerprint)?;
            outcomes.push(keep);
            if keep {
                // Without duplicates nothing is moved.
                if kept != start {
                    self.bytes.copy_within(start..entry.end, kept);
                }
                kept += entry.end - start;
            }
            start = entry.end;
        }
        self.bytes.truncate(kept);
        Ok(())
    }
}
