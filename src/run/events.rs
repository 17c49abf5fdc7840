//! What happens while a plan runs, for whoever shows it.

use super::plan::Step;
use super::results::StepResult;

pub enum Event<'a> {
    Started(&'a Step),
    Finished(&'a Step, &'a StepResult),
    /// A template said something to people.
    Said(&'a str),
}

/// Hears events as they happen, from any thread.
pub trait Observer: Send + Sync {
    fn notice(&self, event: &Event<'_>);
}
