//! Limits requests a second for each API key.
//! In: a key's position. Out: go on, or how many seconds to wait. Generic cell rate algorithm (ITU-T I.371): one number for each
//! key, the instant at which its allowance would be used up.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// The allowances of all keys.
pub struct Rate {
    /// Microseconds a request uses; 0 is no limit.
    interval: i64,
    started: Instant,
    used_until: Vec<AtomicI64>,
}

/// A key may use this much of the future at once, in microseconds.
const BURST: i64 = 1_000_000;

impl Rate {
    /// Allowances for `keys` keys, or for everyone together when there are none.
    pub fn new(requests_per_second: u32, keys: usize) -> Rate {
        let interval = if requests_per_second == 0 {
            0
        } else {
            1_000_000 / i64::from(requests_per_second).min(1_000_000)
        };
        Rate {
            interval,
            started: Instant::now(),
            used_until: (0..keys.max(1)).map(|_| AtomicI64::new(0)).collect(),
        }
    }

    /// Takes one request from the allowance.
    ///
    /// # Errors
    /// Seconds until there is one, rounded up.
    pub fn take(&self, key: usize) -> Result<(), u64> {
        if self.interval == 0 {
            return Ok(());
        }
        self.take_at(
            key,
            i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX),
        )
    }

    fn take_at(&self, key: usize, now: i64) -> Result<(), u64> {
        let next = |used_until: i64| {
            let after = used_until.max(now) + self.interval;
            (after - now <= BURST.max(self.interval)).then_some(after)
        };
        let taken = self.used_until[key].fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.map(|_| ()).map_err(|used_until| {
            let wait = used_until + self.interval - now - BURST;
            wait.max(1).unsigned_abs().div_ceil(1_000_000)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_burst_for_a_second_and_then_gets_its_rate() {
        let rate = Rate::new(10, 2);
        let granted = |from: i64| (0..100).filter(|_| rate.take_at(0, from).is_ok()).count();
        assert_eq!(granted(0), 10);
        assert_eq!(granted(100_000), 1);
        assert_eq!(granted(10_000_000), 10);
        assert_eq!(rate.take_at(0, 10_000_000), Err(1));
        assert_eq!(
            rate.take_at(1, 0),
            Ok(()),
            "another key has its own allowance"
        );
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let rate = Rate::new(0, 0);
        assert!((0..10_000).all(|_| rate.take(0).is_ok()));
    }
}
