//! What came of each step.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostics::Diagnostic;
use crate::manifest::NodeId;

#[derive(Debug, Clone, Default)]
pub struct RunResults {
    pub steps: BTreeMap<NodeId, StepResult>,
    pub elapsed: Duration,
}

#[derive(Debug, Clone)]
pub struct StepResult {
    pub outcome: Outcome,
    pub elapsed: Duration,
    /// When and where it ran; nothing for what never did.
    pub began: Option<Began>,
    /// Rows of a relation, or failures of a test.
    pub rows: Option<u64>,
    /// What to tell the user: an error, a failed test.
    pub diagnostic: Option<Diagnostic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began {
    /// Since the command read the clock.
    pub after: Duration,
    /// Which of the steps that run at once, from 1.
    pub thread: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Built, or a test that passed.
    Done,
    /// Existed already under the same fingerprint.
    Reused,
    /// A test that failed with severity `warn`.
    Warned,
    Failed,
    /// Something it depends on failed.
    Skipped,
}

impl RunResults {
    pub fn has_failed(&self) -> bool {
        self.steps
            .values()
            .any(|step| matches!(step.outcome, Outcome::Failed | Outcome::Skipped))
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.steps
            .values()
            .filter(|step| step.outcome == outcome)
            .count()
    }

    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.steps
            .values()
            .filter_map(|step| step.diagnostic.clone())
            .collect()
    }
}
