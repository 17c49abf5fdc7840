//! What a metric means, written down and compared.
//! In: canonical plans, fields of metric definitions, the lock of last time. Out: five hashes per metric, `metrics.lock`,
//! and a [`Drift`] that says in words what changed, where, how grave it is and who must agree. No query runs here, except
//! that [`witness`] asks a caller to run two of them on rows that it invents.

mod class;
mod definition;
mod drift;
mod lints;
mod lock;
mod meaning;
pub mod witness;

pub use class::{Approval, Bump, Class};
pub use definition::{Fields, Part, flatten, part_of};
pub use drift::{Change, Drift, Place, compare};
pub use lints::{
    Duplicate, NearDuplicate, Rederivation, differences, duplicates, near_duplicates, rederivations,
};
pub use lock::{Lock, LockError, Locked};
pub use meaning::{Hashes, Meaning, ModelFacts, ModelWords, Plan};
