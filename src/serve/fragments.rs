//! The pieces that bulk answers are put together from.
//! In: one flag's answer, known by what decided it. Out: its number, and later the texts of many numbers in a row. An answer is
//! rendered once for a set, however many contexts get it: there are only as many as the definitions have ways to decide.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::flags::Evaluation;

/// The pieces of one flag set.
#[derive(Default)]
pub struct Fragments(RwLock<Inner>);

/// What decided: parts of the set, told apart by where they lie in memory. Only compared within one set, which does not move.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision([usize; 6]);

#[derive(Default)]
struct Inner {
    /// All texts, each followed by a comma.
    text: String,
    /// Where the text of each number ends; it starts where the one before ends.
    ends: Vec<usize>,
    numbers: HashMap<Decision, u32>,
}

impl Fragments {
    /// The number of an answer, which `write` renders when it is new.
    pub fn number(&self, decision: Decision, write: impl FnOnce(&mut String)) -> u32 {
        let known = self.read(|inner| inner.numbers.get(&decision).copied());
        known.unwrap_or_else(|| {
            let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
            // Another request may have been first; a second copy of the text would do no harm.
            let number = inner.add(write);
            inner.numbers.insert(decision, number);
            number
        })
    }

    /// The number of a text that stands for many flags.
    pub fn add(&self, write: impl FnOnce(&mut String)) -> u32 {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .add(write)
    }

    /// `before`, the texts of `numbers` with commas between them, and `after`.
    pub fn join(&self, before: &str, numbers: &[u32], after: &str) -> String {
        self.read(|inner| {
            let length: usize = numbers
                .iter()
                .map(|number| inner.text_of(*number).len())
                .sum();
            let mut joined = String::with_capacity(before.len() + length + after.len());
            joined.push_str(before);
            numbers
                .iter()
                .for_each(|number| joined.push_str(inner.text_of(*number)));
            if !numbers.is_empty() {
                joined.pop();
            }
            joined.push_str(after);
            joined
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn add(&mut self, write: impl FnOnce(&mut String)) -> u32 {
        write(&mut self.text);
        self.text.push(',');
        self.ends.push(self.text.len());
        u32::try_from(self.ends.len() - 1).expect("a set has fewer than four billion answers")
    }

    fn text_of(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }
}

impl Decision {
    /// Everything of an evaluation that its answer shows.
    pub fn of(evaluation: &Evaluation<'_>) -> Decision {
        let assignment = evaluation.assignment.as_ref();
        Decision([
            std::ptr::from_ref(evaluation.flag).addr(),
            evaluation
                .variant
                .map_or(0, |variant| std::ptr::from_ref(variant).addr()),
            evaluation.reason as usize,
            evaluation.rule.map_or(0, address),
            assignment.map_or(0, |one| one.experiment.map_or(0, address)),
            assignment.map_or(0, |one| one.allocation.map_or(0, address)),
        ])
    }

    /// A flag that cannot be decided without the identifier `unit`.
    pub fn without_unit(flag: usize, unit: &str) -> Decision {
        Decision([flag, 0, usize::MAX, address(unit), 0, 0])
    }
}

fn address(text: &str) -> usize {
    text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_rendered_once_and_joined_in_any_order() {
        let fragments = Fragments::default();
        let decision = |flag| Decision::without_unit(flag, "user_id");
        let first = fragments.number(decision(0), |out| out.push_str("one"));
        let second = fragments.number(decision(1), |out| out.push_str("two"));
        let known = fragments.number(decision(0), |_| unreachable!("it was rendered before"));
        assert_eq!(first, known);
        assert_eq!(
            fragments.join("[", &[second, first, second], "]"),
            "[two,one,two]"
        );
        assert_eq!(fragments.join("[", &[], "]"), "[]");
    }
}
