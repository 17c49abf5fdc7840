//! From a folder to results: everything that a command does, without printing.
//! In: files and options. Out: a [`Prepared`] project, a [`RunPlan`], [`RunResults`], a published environment.
//! Printing and exit codes are the command line's business.

mod events;
mod execute;
mod inputs;
mod memory;
mod plan;
mod prepare;
mod publish;
mod results;
mod testing;

pub use events::{Event, Observer};
pub use execute::execute;
pub use plan::{Action, RunPlan, Scope, Step, plan};
pub use prepare::{PrepareOptions, Prepared, prepare};
pub use publish::{Published, publish};
pub use results::{Outcome, RunResults, StepResult};
pub use testing::PassedTests;
