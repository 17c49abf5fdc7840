//! What bulk requests were answered lately.
//! In: a key that covers everything an answer depends on. Out: what was decided, as positions in the flags' [`super::answers`]: a
//! few bytes for each flag, where the answer itself would take a hundred. Two generations bound the memory: when the young one is
//! full it becomes the old one, and what nobody asked for since is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::flags::Reason;

/// All flags for one context.
pub struct Decided {
    /// One for each part of the set.
    pub positions: Box<[u32]>,
    /// How many flags each reason decided, for the metrics.
    pub reasons: Box<[(Reason, u64)]>,
}

/// What a bulk answer depends on, besides the set it is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The ETag: definitions, instants and context.
    pub tag: u128,
    /// Position of the caller's key: assignments belong to its environment.
    pub caller: usize,
    /// Assignments are logged once a day.
    pub day: i64,
}

/// The decisions of one set.
#[derive(Default)]
pub struct Decisions(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Asked, Arc<Decided>>,
    young_bytes: usize,
    old: HashMap<Asked, Arc<Decided>>,
}

/// Bytes of one generation.
const GENERATION_BYTES: usize = 2 << 20;
/// Bytes an entry takes beside what it decided.
const ENTRY_BYTES: usize = 128;

impl Decisions {
    /// What was decided. `make` also says whether it may be remembered.
    pub fn get_or_make(
        &self,
        asked: Asked,
        make: impl FnOnce() -> (Decided, bool),
    ) -> Arc<Decided> {
        if let Some(decided) = lock(&self.0).get(asked) {
            return decided;
        }
        // Made outside the lock: two requests may make the same, none waits for the other.
        let (decided, may_be_kept) = make();
        let decided = Arc::new(decided);
        if may_be_kept {
            lock(&self.0).insert(asked, decided.clone());
        }
        decided
    }
}

impl Generations {
    fn get(&mut self, asked: Asked) -> Option<Arc<Decided>> {
        if let Some(decided) = self.young.get(&asked) {
            return Some(decided.clone());
        }
        let decided = self.old.remove(&asked)?;
        self.insert(asked, decided.clone());
        Some(decided)
    }

    fn insert(&mut self, asked: Asked, decided: Arc<Decided>) {
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += ENTRY_BYTES + size_of_val(&*decided.positions);
        self.young.insert(asked, decided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_remembered_within_bounded_memory() {
        let decisions = Decisions::default();
        let asked = |tag| Asked {
            tag,
            caller: 0,
            day: 0,
        };
        let make = |may_be_kept| {
            let positions = vec![0; (1 << 20) / size_of::<u32>()].into();
            let reasons = Box::default();
            (Decided { positions, reasons }, may_be_kept)
        };
        for tag in 0..100 {
            decisions.get_or_make(asked(tag), || make(true));
        }
        let kept = (0..100).filter(|tag| {
            let mut is_made = false;
            decisions.get_or_make(asked(*tag), || {
                is_made = true;
                make(false)
            });
            !is_made
        });
        assert!((2..=6).contains(&kept.count()));
        decisions.get_or_make(asked(99), || unreachable!("it is the newest"));
    }
}
