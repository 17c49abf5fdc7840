//! The newest version of something that is asked for by every request and replaced now and then.
//! In: versions. Out: the newest, without a lock and without counting who uses it, as long as it is the one that the asking thread
//! saw before. A thread keeps what it saw last, at most one old version, until it asks again.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::served::Served;

/// A value that is replaced whole.
pub struct Current<T> {
    value: RwLock<Arc<T>>,
    number: AtomicU64,
}

/// What a thread saw last, and its number.
pub type Seen<T> = Option<(u64, Arc<T>)>;

thread_local! {
    /// The set that this thread answered from last.
    pub static SERVED: RefCell<Seen<Served>> = const { RefCell::new(None) };
}

/// Numbers of versions, each given once in this process: two servers in it must not take each other's for their own.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl<T> Current<T> {
    /// The first version.
    pub fn new(value: T) -> Current<T> {
        Current {
            value: RwLock::new(Arc::new(value)),
            number: AtomicU64::new(NUMBERS.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Puts a newer version in its place.
    pub fn replace(&self, value: Arc<T>) {
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        // After the value: whoever sees the number finds at least that value.
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.number.store(number, Ordering::Release);
    }

    /// The newest version.
    pub fn get(&self) -> Arc<T> {
        let value = self.value.read();
        value.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same through what the thread saw last.
    pub fn look<'a>(&self, seen: &'a mut Seen<T>) -> &'a T {
        let number = self.number.load(Ordering::Acquire);
        let is_newest = |seen: &(u64, Arc<T>)| seen.0 == number;
        if !seen.as_ref().is_some_and(is_newest) {
            *seen = None;
        }
        &seen.get_or_insert_with(|| (number, self.get())).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_sees_the_newest_version_of_what_it_asks_for() {
        let (one, other) = (Current::new(1), Current::new(10));
        let mut seen = None;
        assert_eq!(*one.look(&mut seen), 1);
        assert_eq!(*one.look(&mut seen), 1);
        one.replace(Arc::new(2));
        assert_eq!((*one.look(&mut seen), *one.get()), (2, 2));
        assert_eq!(*other.look(&mut seen), 10);
        assert_eq!(*one.look(&mut seen), 2);
    }

    #[test]
    fn an_old_version_is_let_go() {
        let first = Arc::new(1);
        let current = Current::new(0);
        current.replace(first.clone());
        let mut seen = None;
        current.look(&mut seen);
        current.replace(Arc::new(2));
        current.look(&mut seen);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
