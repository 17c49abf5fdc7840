//! What the flags of a set have answered, each answer rendered once however many contexts get it: there are only as many as the
//! definitions have ways to decide.
//! In: an evaluation. Out: the text of its answer and, where a split decided, what its assignment event always says. Logging it is
//! left to [`super::assignments`].

use std::sync::OnceLock;

use super::assignments::EventParts;
use crate::flags::Evaluation;

/// The answers of one flag. The list grows at its end only, so that nobody who looks takes a lock.
#[derive(Default)]
pub struct Answers {
    first: Place,
}

/// An answer that is ready to be sent.
pub struct Rendered {
    pub text: Box<str>,
    /// Present when a split or a forced unit decided.
    pub event: Option<EventParts>,
}

/// What decided: parts of the set, told apart by where they lie in memory. Only compared within one flag of one set, which does
/// not move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Decision([usize; 9]);

type Place = OnceLock<Box<Link>>;

struct Link {
    decision: Decision,
    rendered: Rendered,
    next: Place,
}

impl Answers {
    /// The position of an answer, and the answer, which `render` makes when it is new.
    pub fn find(&self, decision: Decision, render: impl FnOnce() -> Rendered) -> (u32, &Rendered) {
        let (mut place, mut position, mut render) = (&self.first, 0, Some(render));
        loop {
            let link = place.get_or_init(|| {
                let render = render.take().expect("what was rendered is found at once");
                Box::new(Link {
                    decision,
                    rendered: render(),
                    next: Place::new(),
                })
            });
            if link.decision == decision {
                return (position, &link.rendered);
            }
            (place, position) = (&link.next, position + 1);
        }
    }

    /// The answer at a position that [`find`](Self::find) gave.
    pub fn at(&self, position: u32) -> &Rendered {
        let mut place = &self.first;
        for _ in 0..position {
            place = &place.get().expect("the position was given").next;
        }
        &place.get().expect("the position was given").rendered
    }
}

impl Drop for Answers {
    /// Link by link: a long list must not take a deep stack.
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

impl Decision {
    /// Everything of an evaluation that its answer or its event shows, but unit, buckets and time.
    pub fn of(evaluation: &Evaluation<'_>) -> Decision {
        let assignment = evaluation.assignment.as_ref();
        let of = |part: Option<&str>| part.map_or(0, address);
        Decision([
            evaluation
                .variant
                .map_or(0, |variant| std::ptr::from_ref(variant).addr()),
            evaluation.reason as usize,
            of(evaluation.rule),
            of(assignment.and_then(|one| one.experiment)),
            of(assignment.and_then(|one| one.allocation)),
            of(assignment.and_then(|one| one.salt)),
            of(assignment.and_then(|one| one.variant)),
            of(assignment.map(|one| one.unit_type)),
            of(assignment.and_then(|one| one.holdout).map(|one| one.key)),
        ])
    }

    /// The flag cannot be decided without the identifier `unit`.
    pub fn without_unit(unit: &str) -> Decision {
        Decision([0, usize::MAX, address(unit), 0, 0, 0, 0, 0, 0])
    }
}

fn address(text: &str) -> usize {
    text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_rendered_once_and_keeps_its_position() {
        let answers = Answers::default();
        let (user, device) = ("user_id", "device_id");
        let render = |text: &str| Rendered {
            text: text.into(),
            event: None,
        };
        let first = answers.find(Decision::without_unit(user), || render("one"));
        let second = answers.find(Decision::without_unit(device), || render("two"));
        assert_eq!((first.0, second.0), (0, 1));
        let known = answers.find(Decision::without_unit(user), || {
            unreachable!("it was rendered before")
        });
        assert_eq!((known.0, &*known.1.text), (0, "one"));
        assert_eq!(&*answers.at(1).text, "two");
    }

    #[test]
    fn threads_that_come_together_find_one_answer_each() {
        let answers = Answers::default();
        let names: Vec<String> = (0..50).map(|index| format!("unit {index}")).collect();
        let find_all = || {
            for name in &names {
                let (position, found) = answers.find(Decision::without_unit(name), || Rendered {
                    text: name.as_str().into(),
                    event: None,
                });
                assert_eq!(*found.text, **name);
                assert_eq!(*answers.at(position).text, **name);
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|_| {
                scope.spawn(find_all);
            });
        });
        let mut texts: Vec<&str> = (0..50)
            .map(|position| &*answers.at(position).text)
            .collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 50);
    }
}
