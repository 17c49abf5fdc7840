//! The memory that the steps of a session's queries share.
//! In: what each step asks for. Out: yes, or no, upon which it spills what it holds, or fails where it holds nothing.
//!
//! Half of the memory is for whoever asks first; beyond it a step that can spill gets no more than an equal part. DataFusion's own
//! fair pool knows the equal part only, and counts steps that hold nothing: a query of a hundred small aggregations was refused the first
//! batch of one of them while nearly all memory was free.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};

/// A limit in bytes, and what of it is taken.
#[derive(Debug)]
pub struct SharedMemory {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// How many steps there are that can spill.
    spillers: usize,
    /// Bytes of those.
    by_spillers: usize,
    /// Bytes of all others, which cannot be asked to give back.
    by_others: usize,
}

impl SharedMemory {
    pub fn of(limit: usize) -> Self {
        Self {
            limit,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn by_kind(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        match consumer.can_spill() {
            true => &mut self.by_spillers,
            false => &mut self.by_others,
        }
    }

    /// How much more a step may take that has so much.
    fn available(&self, limit: usize, can_spill: bool, own: usize) -> usize {
        let free = limit.saturating_sub(self.by_spillers + self.by_others);
        if !can_spill {
            return free;
        }
        let for_spillers = limit.saturating_sub(self.by_others);
        let equal_part = for_spillers / self.spillers.max(1);
        let nobodys = (for_spillers / 2).saturating_sub(self.by_spillers);
        free.min(nobodys.max(equal_part.saturating_sub(own)))
    }
}

impl MemoryPool for SharedMemory {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.taken().spillers += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.taken().spillers -= usize::from(consumer.can_spill());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.taken().by_kind(reservation.consumer()) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.taken().by_kind(reservation.consumer()) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (consumer, own) = (reservation.consumer(), reservation.size());
        let mut taken = self.taken();
        let available = taken.available(self.limit, consumer.can_spill(), own);
        if additional > available {
            return Err(resources_datafusion_err!(
                "Failed to allocate additional {} for {} with {} already allocated, {} remain available of {}",
                human_readable_size(additional),
                consumer.name(),
                human_readable_size(own),
                human_readable_size(available),
                human_readable_size(self.limit)
            ));
        }
        *taken.by_kind(consumer) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let taken = self.taken();
        taken.by_spillers + taken.by_others
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shared({})", human_readable_size(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn step(pool: &Arc<dyn MemoryPool>, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new("step")
            .with_can_spill(can_spill)
            .register(pool)
    }

    #[test]
    fn half_is_for_the_first_and_the_rest_is_shared_equally() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::of(100));
        let steps: Vec<MemoryReservation> = (0..10).map(|_| step(&pool, true)).collect();
        assert!(steps[0].try_grow(50).is_ok(), "half of all");
        assert!(steps[0].try_grow(1).is_err());
        assert!(steps[1].try_grow(11).is_err());
        assert!(steps[1].try_grow(10).is_ok(), "an equal part");
        assert!(steps[1].try_grow(1).is_err());
        let other = step(&pool, false);
        assert!(other.try_grow(41).is_err());
        assert!(other.try_grow(40).is_ok(), "all that is left");
        assert!(steps[2].try_grow(1).is_err(), "nothing is left");
        steps[0].free();
        drop(other);
        drop(steps);
        assert_eq!(pool.reserved(), 0);
    }
}
