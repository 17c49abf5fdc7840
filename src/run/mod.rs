//! From a folder to results: everything that a command does, without printing.
//! In: files and options. Out: a [`Prepared`] project, a [`RunPlan`], [`RunResults`], a published environment.
//! Printing and exit codes are the command line's business.

mod counter;
mod events;
mod execute;
mod freshness;
mod impact;
mod increment;
mod inputs;
mod job;
mod keeping;
mod meanings;
mod memory;
mod plan;
mod prepare;
mod publish;
mod receipt;
mod results;
mod revision;
mod sla;
mod testing;

pub use counter::counter_example;
pub use events::{Event, Observer};
pub use execute::execute;
pub use freshness::{FreshnessStatus, SourceAge, SourceAges, source_ages, words};
pub use impact::{Day, Estimate, Impact, Reading, impact};
pub use keeping::{Agreement, Keeping, keeping};
pub use meanings::{LOCK_FILE, Review, lock_path, meanings, read_lock, review};
pub use memory::exhausted;
pub use plan::{Action, RunPlan, Scope, Step, plan};
pub use prepare::{Place, PrepareOptions, Prepared, locate, prepare};
pub use publish::{Published, publish};
pub use receipt::{Command, Receipt, Summary, Witness};
pub use results::{Began, Outcome, RunResults, StepResult};
pub use revision::check_out;
pub use sla::late;
pub use testing::PassedTests;
