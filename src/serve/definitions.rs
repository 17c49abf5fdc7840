//! Where definitions come from, as the server sees it.
//! In: whatever the implementation reads. Out: a checked flag set and tracking plan, or diagnostics.

use bytes::Bytes;

use crate::events::plan::TrackingPlan;
use crate::flags::FlagSet;

/// A source of definitions that can be asked again.
pub trait Definitions: Send + Sync {
    /// A cheap mark that changes when the definitions may have changed.
    fn mark(&self) -> u64;

    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every diagnostic, rendered.
    fn load(&self) -> Result<Loaded, Vec<String>>;
}

/// Definitions without an error.
pub struct Loaded {
    pub flags: FlagSet,
    pub plan: TrackingPlan,
    /// Changes whenever any answer may change: a commit or a hash of the content.
    pub version: String,
    pub exports: Exports,
}

/// The definitions in other systems' formats, for their SDKs to poll; none when it cannot be expressed.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    /// Eppo's Universal Flag Configuration.
    pub ufc: Option<Bytes>,
    /// GrowthBook's features document.
    pub growthbook: Option<Bytes>,
}
