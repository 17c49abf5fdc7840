//! The memory that the steps of a session's queries share.
//! In: what each step asks for. Out: yes, or no, upon which it spills what it holds, or fails where it holds nothing.
//!
//! Each step that can spill is sure of an equal part of one half of the memory; the other half is for whoever asks first. DataFusion's own fair
//! pool knows the equal part only, and counts steps that hold nothing: a query of a hundred small aggregations was refused the first
//! batch of one of them while nearly all memory was free.

use std::collections::HashMap;
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
    /// Bytes of each step that can spill, by its number.
    by_spillers: HashMap<usize, usize>,
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
    fn by(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        match consumer.can_spill() {
            true => self.by_spillers.entry(consumer.id()).or_default(),
            false => &mut self.by_others,
        }
    }

    fn all(&self) -> usize {
        self.by_spillers.values().sum::<usize>() + self.by_others
    }

    /// How much more a step may take.
    fn available(&self, limit: usize, consumer: &MemoryConsumer) -> usize {
        if !consumer.can_spill() {
            return limit.saturating_sub(self.all());
        }
        let for_spillers = limit.saturating_sub(self.by_others);
        let for_the_first = for_spillers / 2;
        let sure = (for_spillers - for_the_first) / self.by_spillers.len().max(1);
        let others = self.by_spillers.iter();
        let others = others.filter(|(id, _)| **id != consumer.id());
        let beyond: usize = others.map(|(_, taken)| taken.saturating_sub(sure)).sum();
        let own = self.by_spillers.get(&consumer.id()).copied();
        (sure + for_the_first.saturating_sub(beyond)).saturating_sub(own.unwrap_or(0))
    }
}

impl MemoryPool for SharedMemory {
    fn name(&self) -> &str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.taken().by(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.taken().by_spillers.remove(&consumer.id());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.taken().by(reservation.consumer()) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.taken().by(reservation.consumer()) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (consumer, own) = (reservation.consumer(), reservation.size());
        let mut taken = self.taken();
        let available = taken.available(self.limit, consumer);
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
        *taken.by(consumer) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.taken().all()
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
    fn half_is_for_the_first_and_each_is_sure_of_a_part_of_the_rest() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::of(100));
        let steps: Vec<MemoryReservation> = (0..10).map(|_| step(&pool, true)).collect();
        assert!(steps[0].try_grow(55).is_ok(), "half of all, and its part");
        assert!(steps[0].try_grow(1).is_err());
        for step in &steps[1..] {
            assert!(step.try_grow(6).is_err());
            assert!(step.try_grow(5).is_ok(), "whatever the others took");
        }
        assert_eq!(pool.reserved(), 100);
        let other = step(&pool, false);
        assert!(other.try_grow(1).is_err());
        steps[0].free();
        assert!(other.try_grow(55).is_ok(), "all that is left");
        assert!(steps[1].try_grow(1).is_err(), "nothing is left");
        drop(other);
        assert!(steps[1].try_grow(50).is_ok());
        drop(steps);
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn one_step_may_have_all() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SharedMemory::of(100));
        assert!(step(&pool, true).try_grow(100).is_ok());
    }
}
