//! The lock of allocations: what was merged is never edited.
//! In: a checked set and the text of the lock file. Out: which allocations are new, and which no longer have the
//! content that was locked. Reading and writing the file is the caller's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::diagnostics::Span;

use super::set::{Allocation, Experiment, FlagSet, Rebucket, SplitRange};

/// Content hashes by `experiment/allocation`. As text: one line for each, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(pub BTreeMap<String, String>);

/// A lock and where each of its entries stands.
#[derive(Clone, Debug, Default)]
pub struct LockFile {
    pub path: Arc<str>,
    pub lock: Lock,
    /// From 1, by `experiment/allocation`.
    lines: BTreeMap<String, u32>,
}

/// How a set differs from the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockChanges {
    /// Allocations that are not locked yet.
    pub new: Vec<String>,
    /// Locked allocations whose content is another one.
    pub edited: Vec<String>,
    /// Locked allocations that are gone.
    pub removed: Vec<String>,
}

/// The text of a line that is no lock entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSyntaxError {
    pub line: u32,
}

impl Lock {
    /// The lock that fits a set.
    pub fn of(set: &FlagSet) -> Self {
        let entries = set.experiments.iter().flat_map(|experiment| {
            experiment
                .allocations
                .iter()
                .map(|allocation| (key(experiment, allocation), hash(experiment, allocation)))
        });
        Self(entries.collect())
    }

    /// Compares a set with what is locked.
    pub fn changes(&self, set: &FlagSet) -> LockChanges {
        let now = Self::of(set);
        let mut changes = LockChanges::default();
        for (key, hash) in &now.0 {
            match self.0.get(key) {
                None => changes.new.push(key.clone()),
                Some(locked) if locked != hash => changes.edited.push(key.clone()),
                Some(_) => {}
            }
        }
        changes.removed = self
            .0
            .keys()
            .filter(|key| !now.0.contains_key(*key))
            .cloned()
            .collect();
        changes
    }
}

impl LockFile {
    /// Reads the text of a lock file; the text of none is empty.
    ///
    /// # Errors
    /// The first line that is neither empty, a comment, nor a name with a hash.
    pub fn parse(path: Arc<str>, text: &str) -> Result<Self, LockSyntaxError> {
        let mut file = Self {
            path,
            ..Self::default()
        };
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (key, hash) = text
                .rsplit_once(' ')
                .filter(|(key, hash)| key.contains('/') && hash.starts_with("sha256:"))
                .ok_or(LockSyntaxError { line })?;
            let is_twice = file.lines.insert(key.to_owned(), line).is_some();
            if is_twice {
                return Err(LockSyntaxError { line });
            }
            file.lock.0.insert(key.to_owned(), hash.to_owned());
        }
        Ok(file)
    }

    /// Where an allocation is locked.
    pub fn place(&self, key: &str) -> Option<Span> {
        let line = *self.lines.get(key)?;
        Some(Span::new(
            self.path.clone(),
            line,
            1,
            key.chars().count() as u32,
        ))
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "# Written by `equipoise flag lock`. Allocations are append-only: add one, never edit one."
        )?;
        self.0
            .iter()
            .try_for_each(|(key, hash)| writeln!(formatter, "{key} {hash}"))
    }
}

/// The name of an allocation in the lock.
pub(super) fn key(experiment: &Experiment, allocation: &Allocation) -> String {
    format!("{}/{}", experiment.key, allocation.id)
}

/// SHA-256 of everything that decides a variant: spelling and sugar do not count, every bucket does.
fn hash(experiment: &Experiment, allocation: &Allocation) -> String {
    let joined = allocation.split.joined();
    let named =
        |range: &SplitRange| json!([range.start, range.end, experiment.variants[range.target]]);
    let ranges: Vec<_> = joined.ranges.iter().map(named).collect();
    let rebucket = match &allocation.rebucket {
        Rebucket::Forbid => None,
        Rebucket::Allow { reason } => Some(reason),
    };
    let content = json!([
        allocation.valid_from.timestamp_micros(),
        allocation.algorithm.id(),
        allocation.salt,
        allocation.split.buckets,
        ranges,
        allocation.extends,
        rebucket,
    ]);
    let digest = Sha256::digest(content.to_string());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
