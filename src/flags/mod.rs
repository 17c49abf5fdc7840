//! Feature flags and assignment: which unit gets which variant, and why.
//! In: checked definitions, an evaluation context, an instant. Out: a value, its reason, and the assignment with
//! everything that decided it. No file, clock, lock or log: reading definitions, serving answers and recording
//! assignments belong to other rooms.

pub mod bucketing;
pub mod changes;
pub mod context;
pub mod dimensions;
mod evaluate;
pub mod export;
pub mod import;
pub mod lock;
mod proofs;
mod resolve;
pub mod set;
pub mod spec;
pub mod sql;
pub mod targeting;
mod trace;

pub use context::{Context, ContextError, ContextJson, ReadContext, Schema};
pub use evaluate::{
    Assignment, Evaluation, EvaluationError, Evaluations, HOLDOUT_VARIANT, HoldoutPart, Reason,
    evaluate, evaluate_flag, evaluate_traced,
};
pub use lock::{Lock, LockFile};
pub use proofs::WAS_REMOVED;
pub use resolve::{FlagSource, resolve, resolve_locked};
pub use set::FlagSet;
pub use trace::{Step, Trace};
