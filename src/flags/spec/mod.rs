//! What the YAML said about flags: plain shapes with places, which may be wrong.
//! In: the text of a file, through the project's YAML reader. Out: specs for [`super::resolve()`]. Nothing is checked here
//! beyond the types of single values.

mod ordered;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

pub use ordered::Ordered;

/// Half-open ranges of buckets.
pub type Ranges = Vec<(u32, u32)>;

/// One file with flags. Every part is optional; parts of one kind are joined over all files of a project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlagsFile {
    pub version: Option<u32>,
    pub contexts: Ordered<ContextSpec>,
    pub holdouts: Vec<HoldoutSpec>,
    pub layers: Vec<LayerSpec>,
    pub flags: Vec<FlagSpec>,
    pub experiments: Vec<ExperimentSpec>,
    /// Read elsewhere.
    pub metrics: Option<IgnoredAny>,
}

/// A kind of unit and the attributes known about it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSpec {
    /// The name of the unit's identifier, for example `user_id`; the first context's is OpenFeature's targeting key.
    pub unit: Spanned<String>,
    #[serde(default)]
    pub attributes: Ordered<Spanned<String>>,
}

/// Units that see nothing new until the readout.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldoutSpec {
    pub key: Spanned<String>,
    pub unit: Spanned<String>,
    pub salt: Spanned<String>,
    #[serde(default)]
    pub algorithm: Option<Spanned<String>>,
    pub buckets: HoldoutBucketsSpec,
    #[serde(default)]
    pub active: Option<PeriodSpec>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub owner: Option<String>,
}

/// The held-out buckets, and those of the group that they are compared with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldoutBucketsSpec {
    pub holdout: Spanned<Ranges>,
    #[serde(default)]
    pub measured: Option<Spanned<Ranges>>,
}

/// A half-open period; an absent end is open.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeriodSpec {
    pub from: Option<Spanned<String>>,
    pub to: Option<Spanned<String>>,
}

/// Experiments of one layer never share a unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    pub key: Spanned<String>,
    pub unit: Spanned<String>,
    pub salt: Spanned<String>,
    #[serde(default)]
    pub algorithm: Option<Spanned<String>>,
    pub slots: Vec<SlotSpec>,
    #[serde(default)]
    pub description: Option<String>,
}

/// The buckets of a layer that belong to one experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotSpec {
    pub experiment: Spanned<String>,
    pub ranges: Spanned<Ranges>,
    #[serde(default)]
    pub active: Option<PeriodSpec>,
}

/// A flag: what it can say, and the rules that choose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagSpec {
    pub key: Spanned<String>,
    #[serde(default)]
    pub description: Option<String>,
    /// `boolean`, `string`, `integer`, `float` or `object`.
    #[serde(rename = "type")]
    pub kind: Spanned<String>,
    pub variants: Ordered<serde_json::Value>,
    /// Absent where the value in the code is the default.
    #[serde(default)]
    pub default_variant: Option<Spanned<String>>,
    /// `enabled` (the default) or `disabled`.
    #[serde(default)]
    pub state: Option<Spanned<String>>,
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub prerequisites: Vec<PrerequisiteSpec>,
    /// Variants forced on single units, for tests by hand; never an exposure.
    #[serde(default)]
    pub forced: Ordered<Vec<String>>,
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    #[serde(default)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Another flag must give this variant first.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrerequisiteSpec {
    pub flag: Spanned<String>,
    pub variant: Spanned<String>,
}

/// A rule has exactly one of `serve`, `experiment` and `rollout`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    pub id: Spanned<String>,
    #[serde(default)]
    pub when: Option<Spanned<String>>,
    #[serde(default)]
    pub active: Option<PeriodSpec>,
    #[serde(default)]
    pub serve: Option<Spanned<String>>,
    #[serde(default)]
    pub experiment: Option<Spanned<String>>,
    #[serde(default)]
    pub rollout: Option<RolloutSpec>,
    /// The experiment's variants in terms of the flag's, where their names differ.
    #[serde(default)]
    pub variants: Ordered<Spanned<String>>,
    /// What a unit gets that matches and is in no range: `default` (the default) or `next`.
    #[serde(default)]
    pub otherwise: Option<Spanned<String>>,
}

/// A split that is no experiment: it has no history and is not analysed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    #[serde(default)]
    pub unit: Option<Spanned<String>>,
    #[serde(default)]
    pub algorithm: Option<Spanned<String>>,
    pub salt: Spanned<String>,
    #[serde(default)]
    pub buckets: Option<Spanned<u32>>,
    #[serde(default)]
    pub split: Option<Ordered<Spanned<Ranges>>>,
    #[serde(default)]
    pub weights: Option<Ordered<Spanned<f64>>>,
    #[serde(default)]
    pub percent: Option<Spanned<f64>>,
}

/// The part of an experiment that delivers it; what is measured is read elsewhere, and ignored here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSpec {
    pub key: Spanned<String>,
    #[serde(default)]
    pub unit: Option<Spanned<String>>,
    #[serde(default)]
    pub layer: Option<Spanned<String>>,
    #[serde(default)]
    pub holdout: Option<Spanned<String>>,
    /// `none` (the default) or `first_assignment`.
    #[serde(default)]
    pub sticky: Option<Spanned<String>>,
    #[serde(default)]
    pub allocations: Vec<AllocationSpec>,
    #[serde(default)]
    pub hypothesis: Option<IgnoredAny>,
    #[serde(default)]
    pub description: Option<IgnoredAny>,
    #[serde(default)]
    pub owner: Option<IgnoredAny>,
    #[serde(default)]
    pub tags: Option<IgnoredAny>,
    #[serde(default)]
    pub primary_metric: Option<IgnoredAny>,
    #[serde(default)]
    pub variants: Option<IgnoredAny>,
    #[serde(default)]
    pub control: Option<IgnoredAny>,
    #[serde(default)]
    pub period: Option<IgnoredAny>,
    #[serde(default)]
    pub flag: Option<IgnoredAny>,
    #[serde(default)]
    pub algorithm: Option<IgnoredAny>,
    #[serde(default)]
    pub salt: Option<IgnoredAny>,
    #[serde(default)]
    pub assignments: Option<IgnoredAny>,
    #[serde(default)]
    pub metrics: Option<IgnoredAny>,
    #[serde(default)]
    pub alpha: Option<IgnoredAny>,
    #[serde(default)]
    pub segments: Option<IgnoredAny>,
}

impl ExperimentSpec {
    /// Whether allocations say who gets which variant; if not, something else delivers it.
    pub fn is_delivered(&self) -> bool {
        !self.allocations.is_empty()
    }
}

/// One step in the history of an experiment's split. It has `split`, or `weights` with `percent` or `ramp`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocationSpec {
    pub id: Spanned<String>,
    pub valid_from: Spanned<String>,
    #[serde(default)]
    pub algorithm: Option<Spanned<String>>,
    #[serde(default)]
    pub salt: Option<Spanned<String>>,
    #[serde(default)]
    pub buckets: Option<Spanned<u32>>,
    #[serde(default)]
    pub extends: Option<Spanned<String>>,
    /// `forbid` (the default) or `allow(reason)`.
    #[serde(default)]
    pub rebucket: Option<Spanned<String>>,
    #[serde(default)]
    pub split: Option<Ordered<Spanned<Ranges>>>,
    #[serde(default)]
    pub weights: Option<Ordered<Spanned<f64>>>,
    #[serde(default)]
    pub percent: Option<Spanned<f64>>,
    /// Percentages of one step each, the first at `valid_from`, the others `every` so long.
    #[serde(default)]
    pub ramp: Option<Spanned<Vec<f64>>>,
    #[serde(default)]
    pub every: Option<Spanned<String>>,
}
