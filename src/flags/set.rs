//! The nouns that cannot be wrong: a [`FlagSet`] and what it holds. Names are indexes here, splits are sorted, instants
//! are read. Only [`super::resolve()`] makes them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::bucketing::{Algorithm, Bucket};
use super::context::Schema;
use super::targeting::Predicate;

/// Everything needed to evaluate flags, at one version of the definitions.
#[derive(Clone, Debug, Default)]
pub struct FlagSet {
    pub schema: Schema,
    pub flags: Vec<Flag>,
    pub experiments: Vec<Experiment>,
    pub layers: Vec<Layer>,
    pub holdouts: Vec<Holdout>,
    /// How many different conditions the rules have.
    pub predicates: usize,
    /// First assignments of the experiments that keep them.
    pub pins: Arc<Pins>,
    pub(super) flag_index: HashMap<Box<str>, usize>,
}

/// What a flag's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Boolean,
    Text,
    Integer,
    Float,
    Object,
}

#[derive(Clone, Debug)]
pub struct Flag {
    pub key: Box<str>,
    pub description: Option<Box<str>>,
    pub owner: Option<Box<str>>,
    pub kind: ValueType,
    pub variants: Vec<Variant>,
    /// Index of the default variant; none where the value in the code is the default.
    pub default: Option<usize>,
    pub is_enabled: bool,
    pub prerequisites: Vec<Prerequisite>,
    /// Units with a variant of their own, by identifier.
    pub forced: HashMap<Box<str>, usize>,
    pub rules: Vec<Rule>,
    pub metadata: serde_json::Map<String, Json>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub key: Box<str>,
    pub value: Json,
}

/// Another flag (an index) that must give one variant (an index of its variants).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prerequisite {
    pub flag: usize,
    pub variant: usize,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: Box<str>,
    pub when: Option<Predicate>,
    pub active: Period,
    pub outcome: Outcome,
    /// A unit that matches and is in no range looks at the next rule instead of getting the default.
    pub falls_through: bool,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Index of the variant.
    Serve(usize),
    Experiment {
        experiment: usize,
        /// The flag's variant for each variant of the experiment.
        variants: Vec<usize>,
    },
    Rollout(Rollout),
}

/// A split without history.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Index of the kind of unit.
    pub unit: usize,
    pub algorithm: Algorithm,
    pub salt: Box<str>,
    pub split: Split,
}

#[derive(Clone, Debug)]
pub struct Experiment {
    pub key: Box<str>,
    pub unit: usize,
    pub layer: Option<usize>,
    pub holdout: Option<usize>,
    pub is_sticky: bool,
    pub variants: Vec<Box<str>>,
    /// By `valid_from`, earliest first; never empty.
    pub allocations: Vec<Allocation>,
}

/// One step in the history of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    pub id: Box<str>,
    pub valid_from: DateTime<Utc>,
    pub algorithm: Algorithm,
    pub salt: Box<str>,
    /// Over the variants of the experiment.
    pub split: Split,
    pub extends: Option<Box<str>>,
    pub rebucket: Rebucket,
    /// Counts the allowed rebucketings so far: assignments of one phase may be analysed together.
    pub phase: u32,
}

/// Whether units may move between variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebucket {
    Forbid,
    Allow { reason: Box<str> },
}

/// Half-open ranges of buckets, each with the index of what it stands for; sorted, not overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub buckets: u32,
    pub ranges: Vec<SplitRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SplitRange {
    pub start: u32,
    pub end: u32,
    pub target: usize,
}

#[derive(Clone, Debug)]
pub struct Layer {
    pub key: Box<str>,
    pub unit: usize,
    pub algorithm: Algorithm,
    pub salt: Box<str>,
    pub slots: Vec<Slot>,
}

/// The part of a layer that one experiment has for a while.
#[derive(Clone, Debug)]
pub struct Slot {
    pub experiment: usize,
    /// Sorted, not overlapping.
    pub ranges: Vec<(u32, u32)>,
    pub active: Period,
}

#[derive(Clone, Debug)]
pub struct Holdout {
    pub key: Box<str>,
    pub unit: usize,
    pub algorithm: Algorithm,
    pub salt: Box<str>,
    pub split: Split,
    pub active: Period,
}

/// A half-open period of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
}

/// The first assignments of sticky experiments, as the assignment log has them: by experiment, then by unit.
#[derive(Clone, Debug, Default)]
pub struct Pins(pub HashMap<Box<str>, HashMap<Box<str>, Pin>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub variant: Box<str>,
    pub allocation: Box<str>,
}

/// The targets of a holdout's split.
pub const HELD_OUT: usize = 0;
pub const MEASURED: usize = 1;

impl FlagSet {
    pub fn flag(&self, key: &str) -> Option<&Flag> {
        self.position(key).map(|index| &self.flags[index])
    }

    /// The index of a flag.
    pub fn position(&self, key: &str) -> Option<usize> {
        self.flag_index.get(key).copied()
    }

    /// The same definitions with newer first assignments.
    pub fn with_pins(&self, pins: Arc<Pins>) -> Self {
        Self {
            pins,
            ..self.clone()
        }
    }

    pub(super) fn index(&mut self) {
        self.flag_index = self
            .flags
            .iter()
            .enumerate()
            .map(|(index, flag)| (flag.key.clone(), index))
            .collect();
    }
}

impl Flag {
    pub fn variant(&self, key: &str) -> Option<usize> {
        self.variants
            .iter()
            .position(|variant| &*variant.key == key)
    }

    pub fn default_variant(&self) -> Option<&Variant> {
        self.default.map(|default| &self.variants[default])
    }
}

impl Experiment {
    /// The allocation in force; none before the first.
    pub fn allocation(&self, now: DateTime<Utc>) -> Option<&Allocation> {
        let started = self
            .allocations
            .partition_point(|allocation| allocation.valid_from <= now);
        started.checked_sub(1).map(|last| &self.allocations[last])
    }

    pub fn allocation_by_id(&self, id: &str) -> Option<&Allocation> {
        self.allocations
            .iter()
            .find(|allocation| &*allocation.id == id)
    }
}

impl Split {
    /// What the bucket stands for, if anything.
    pub fn target(&self, bucket: u32) -> Option<usize> {
        let after = self.ranges.partition_point(|range| range.start <= bucket);
        let range = self.ranges[..after].last()?;
        (bucket < range.end).then_some(range.target)
    }

    /// The same split with ranges that touch and stand for the same thing made one.
    pub fn joined(&self) -> Self {
        let mut ranges: Vec<SplitRange> = Vec::new();
        for range in &self.ranges {
            match ranges.last_mut() {
                Some(last) if last.end == range.start && last.target == range.target => {
                    last.end = range.end
                }
                _ => ranges.push(*range),
            }
        }
        Self {
            buckets: self.buckets,
            ranges,
        }
    }

    /// How many buckets each target has.
    pub fn counts(&self, targets: usize) -> Vec<u32> {
        let mut counts = vec![0; targets];
        for range in &self.ranges {
            counts[range.target] += range.end - range.start;
        }
        counts
    }
}

/// A split with the names of its variants, as tables have it: `control:0-500,1000-3000;blue:500-750`. Names may hold
/// anything but `:` at their end, since the last one divides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedSplit {
    names: Vec<Box<str>>,
    split: Split,
}

impl NamedSplit {
    /// The split of an allocation with the names of its experiment's variants.
    pub fn of(experiment: &Experiment, allocation: &Allocation) -> Self {
        Self {
            names: experiment.variants.clone(),
            split: allocation.split.joined(),
        }
    }

    /// Reads the text of a split; the number of buckets is the caller's.
    pub fn parse(text: &str) -> Option<Self> {
        let mut named = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, ranges) = part.rsplit_once(':')?;
            let target = named.names.len();
            named.names.push(name.into());
            for range in ranges.split(',').filter(|range| !range.is_empty()) {
                let (start, end) = range.split_once('-')?;
                named.split.ranges.push(SplitRange {
                    start: start.parse().ok()?,
                    end: end.parse().ok()?,
                    target,
                });
            }
        }
        named.split.ranges.sort_unstable();
        Some(named)
    }

    /// The variant of a bucket.
    pub fn variant(&self, bucket: u32) -> Option<&str> {
        self.split.target(bucket).map(|target| &*self.names[target])
    }
}

impl fmt::Display for NamedSplit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (target, name) in self.names.iter().enumerate() {
            let own = self
                .split
                .ranges
                .iter()
                .filter(|range| range.target == target);
            let ranges: Vec<String> = own
                .map(|range| format!("{}-{}", range.start, range.end))
                .collect();
            write!(
                formatter,
                "{}{name}:{}",
                if target > 0 { ";" } else { "" },
                ranges.join(",")
            )?;
        }
        Ok(())
    }
}

impl Layer {
    /// True when the experiment has the bucket at that instant.
    pub fn admits(&self, experiment: usize, bucket: Bucket, now: DateTime<Utc>) -> bool {
        self.slots.iter().any(|slot| {
            slot.experiment == experiment
                && slot.active.contains(now)
                && slot
                    .ranges
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&bucket.index))
        })
    }
}

impl Period {
    pub fn contains(&self, instant: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |to: Option<DateTime<Utc>>, from: Option<DateTime<Utc>>| {
            to.zip(from).is_some_and(|(to, from)| to <= from)
        };
        !before(self.to, other.from) && !before(other.to, self.from)
    }
}

impl Pins {
    pub fn get(&self, experiment: &str, unit: &str) -> Option<&Pin> {
        self.0.get(experiment)?.get(unit)
    }
}

impl ValueType {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" | "bool" => Self::Boolean,
            "string" => Self::Text,
            "integer" | "int" => Self::Integer,
            "float" | "number" => Self::Float,
            "object" | "json" => Self::Object,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Object => "object",
        }
    }

    /// True when a JSON value is of this type; any JSON may be an object's value.
    pub fn accepts(self, value: &Json) -> bool {
        match self {
            Self::Boolean => value.is_boolean(),
            Self::Text => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Float => value.is_number(),
            Self::Object => value.is_object() || value.is_array(),
        }
    }
}
