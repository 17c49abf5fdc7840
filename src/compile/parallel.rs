//! The same work over many items, on two threads.
//! In: items and what is done with each. Out: the results in the order of the items. For work that calculates; what waits is a task.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `work` over all items on two threads, and gives the results in the order of the items. Each takes the next one, as some take
/// a hundred times as long as others.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Option<R> + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let rest = || {
        let taken = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, work(item)))
        };
        std::iter::from_fn(taken).collect::<Vec<_>>()
    };
    let mut done = std::thread::scope(|scope| {
        // Canonical forms of deep queries recurse as deep.
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        // Without a thread to be had one does all.
        let other = thread.spawn_scoped(scope, rest);
        let mut done = rest();
        if let Ok(other) = other {
            done.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().filter_map(|(_, result)| result).collect()
}
