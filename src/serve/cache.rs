//! Bulk answers that were given lately.
//! In: a key that covers everything an answer depends on. Out: its bytes, made at most once while they are remembered. Two
//! generations bound the memory: when the young one is full it becomes the old one, and what nobody asked for since is dropped.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::lock;

/// Answers by key.
#[derive(Default)]
pub struct Answers(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<String, Bytes>,
    young_bytes: usize,
    old: HashMap<String, Bytes>,
}

/// Bytes of one generation.
const GENERATION_BYTES: usize = 8 << 20;

impl Answers {
    /// The answer of `key`. `make` gives none when the answer must not be given again.
    pub fn get_or_make(&self, key: &str, make: impl FnOnce() -> (Bytes, bool)) -> Bytes {
        if let Some(answer) = lock(&self.0).get(key) {
            return answer;
        }
        // Made outside the lock: two requests may make the same answer, none waits for the other.
        let (answer, may_be_kept) = make();
        if may_be_kept {
            lock(&self.0).insert(key.to_string(), answer.clone());
        }
        answer
    }
}

impl Generations {
    fn get(&mut self, key: &str) -> Option<Bytes> {
        if let Some(answer) = self.young.get(key) {
            return Some(answer.clone());
        }
        let answer = self.old.remove(key)?;
        self.insert(key.to_string(), answer.clone());
        Some(answer)
    }

    fn insert(&mut self, key: String, answer: Bytes) {
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += key.len() + answer.len();
        self.young.insert(key, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_within_bounded_memory() {
        let answers = Answers::default();
        let large = Bytes::from(vec![0; 1 << 20]);
        for index in 0..100 {
            answers.get_or_make(&index.to_string(), || (large.clone(), true));
        }
        let kept = (0..100).filter(|index| {
            let mut is_made = false;
            answers.get_or_make(&index.to_string(), || {
                is_made = true;
                (Bytes::new(), false)
            });
            !is_made
        });
        assert!((8..=20).contains(&kept.count()));
        assert_eq!(
            answers
                .get_or_make("99", || unreachable!("it is the newest"))
                .len(),
            1 << 20
        );
    }
}
