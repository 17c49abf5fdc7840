//! From specs to a [`FlagSet`] that cannot be wrong.
//! In: the specs of all files with their places. Out: the set, and every diagnostic found on the way; with an error the
//! set is not for use. What a sound set must fulfil over all buckets is proved in [`super::proofs`].

mod contexts;
mod experiments;
mod flags;
mod layers;
mod places;
mod splits;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostics::{Checked, Code, Diagnostic};
use serde_saphyr::Spanned;

use self::places::{Place, Placed};
use super::lock::{LockFile, Part};
use super::proofs;
use super::set::FlagSet;
use super::spec::{FlagSpec, FlagsFile};

/// One file's part of the definitions.
#[derive(Clone, Debug)]
pub struct FlagSource {
    /// Path relative to the project's root.
    pub file: Arc<str>,
    pub spec: FlagsFile,
}

/// Checks names, types and soundness over all files.
pub fn resolve(sources: &[FlagSource]) -> Checked<FlagSet> {
    resolved(sources).finish(None)
}

/// The same, an error for everything that is no longer what was locked, and a warning where something is not locked.
pub fn resolve_locked(sources: &[FlagSource], lock: &LockFile) -> Checked<FlagSet> {
    resolved(sources).finish(Some(lock))
}

fn resolved(sources: &[FlagSource]) -> Resolver {
    let mut resolver = Resolver::default();
    for source in sources {
        resolver.contexts(source);
    }
    resolver.implied_context();
    resolver.names(sources);
    for source in sources {
        resolver.holdouts(source);
    }
    for source in sources {
        resolver.experiments(source);
    }
    for source in sources {
        resolver.layers(source);
    }
    for source in sources {
        resolver.flags(source);
    }
    resolver
}

/// What is known so far. Names are registered before anything refers to them; what could not be resolved is left out,
/// so indexes are only handed out for what is there.
#[derive(Default)]
struct Resolver {
    set: FlagSet,
    diagnostics: Vec<Diagnostic>,
    layer_names: HashMap<String, Place>,
    holdout_index: HashMap<String, usize>,
    holdout_names: HashMap<String, Place>,
    experiment_index: HashMap<String, usize>,
    experiment_names: HashMap<String, Place>,
    flag_names: HashMap<String, Place>,
    /// Where each experiment's layer was named, to say it when the layer has no slot for it.
    experiment_layers: HashMap<String, Placed<String>>,
    flag_places: Vec<FlagPlaces>,
    /// Numbers of conditions by their texts.
    predicates: HashMap<String, usize>,
    allocation_places: HashMap<(usize, usize), Place>,
    /// By the indexes of layer and slot.
    slot_places: HashMap<(usize, usize), Place>,
}

/// Where the parts of a flag stand, by the indexes of the set.
#[derive(Clone, Debug, Default)]
struct FlagPlaces {
    rules: Vec<Option<Place>>,
    prerequisites: Vec<Option<Place>>,
}

impl Resolver {
    /// Registers every name that others may refer to; a name twice is an error at the second place.
    fn names(&mut self, sources: &[FlagSource]) {
        for source in sources {
            let file = &source.file;
            for layer in &source.spec.layers {
                register(
                    &mut self.layer_names,
                    &mut self.diagnostics,
                    "layer",
                    file,
                    &layer.key,
                );
            }
            for holdout in &source.spec.holdouts {
                register(
                    &mut self.holdout_names,
                    &mut self.diagnostics,
                    "holdout",
                    file,
                    &holdout.key,
                );
            }
            for experiment in source
                .spec
                .experiments
                .iter()
                .filter(|one| one.is_delivered())
            {
                register(
                    &mut self.experiment_names,
                    &mut self.diagnostics,
                    "experiment",
                    file,
                    &experiment.key,
                );
            }
            for flag in &source.spec.flags {
                register(
                    &mut self.flag_names,
                    &mut self.diagnostics,
                    "flag",
                    file,
                    &flag.key,
                );
            }
        }
        self.flag_slots(sources);
        // An experiment may be measured in one file and delivered in another.
        for source in sources {
            for experiment in &source.spec.experiments {
                let name = experiment.key.value.clone();
                let place = places::place(&source.file, &experiment.key);
                self.experiment_names.entry(name).or_insert(place);
            }
        }
    }

    /// Gives every flag its index before any prerequisite refers to it.
    fn flag_slots(&mut self, sources: &[FlagSource]) {
        for (file, flag) in flag_specs(sources) {
            let is_first =
                self.flag_names.get(&flag.key.value) == Some(&places::place(file, &flag.key));
            if is_first && let Some(flag) = self.flag_shell(file, flag) {
                self.set.flags.push(flag);
                self.flag_places.push(FlagPlaces::default());
            }
        }
        self.set.index();
    }

    fn error(
        &mut self,
        code: Code,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.diagnostics.push(
            Diagnostic::error(code, message)
                .at(place.clone())
                .hint(hint),
        );
    }

    fn finish(mut self, lock: Option<&LockFile>) -> Checked<FlagSet> {
        self.check_slots();
        let mut findings = proofs::findings(&self.set);
        findings.extend(
            lock.into_iter()
                .flat_map(|lock| proofs::edits(&self.set, &lock.lock)),
        );
        for finding in findings {
            let diagnostic = self.at_place(finding, lock);
            self.diagnostics.push(diagnostic);
        }
        // What is wrong comes first: it may be what keeps the lock from being written.
        if self.diagnostics.is_empty() {
            let unlocked = lock.and_then(|lock| self.unlocked(lock));
            self.diagnostics.extend(unlocked);
        }
        Checked::with(self.set, self.diagnostics)
    }

    /// One warning for all that could still be edited unnoticed, at the first of it.
    fn unlocked(&self, lock: &LockFile) -> Option<Diagnostic> {
        let new = lock.lock.changes(&self.set).new;
        let first = *new.first()?;
        let name = first.words(&self.set);
        let message = match new.len() {
            1 => format!("{name} can still be edited unnoticed: no lock holds what it says"),
            more => format!(
                "{more} definitions, first {name}, can still be edited unnoticed: no lock holds what they say"
            ),
        };
        let hint = format!(
            "run `equipoise flag lock` and commit `{}`: from then on an edit is an error",
            lock.path
        );
        Some(
            Diagnostic::warning(Code::E0606, message)
                .at(self.place_of(first))
                .hint(hint),
        )
    }

    /// A proof speaks of indexes; here they become places.
    fn at_place(&self, finding: proofs::Finding, lock: Option<&LockFile>) -> Diagnostic {
        let place = match finding.subject {
            proofs::Subject::Allocation {
                experiment,
                allocation,
            } => self.place_of(Part::Allocation {
                experiment,
                allocation,
            }),
            proofs::Subject::Part(part) => self.place_of(part),
            proofs::Subject::Locked(ref key) => lock.and_then(|lock| lock.place(key)),
            proofs::Subject::Layer(layer) => {
                self.layer_names.get(&*self.set.layers[layer].key).cloned()
            }
            proofs::Subject::Salt(ref name) => self.place_of_salt(name),
            proofs::Subject::Rule { flag, rule } => self.flag_places[flag].rules[rule].clone(),
            proofs::Subject::Prerequisite { flag, prerequisite } => {
                self.flag_places[flag].prerequisites[prerequisite].clone()
            }
        };
        Diagnostic::error(finding.code, finding.message)
            .at(place)
            .hint(finding.hint)
    }

    fn place_of(&self, part: Part) -> Option<Place> {
        match part {
            Part::Allocation {
                experiment,
                allocation,
            } => self.allocation_places.get(&(experiment, allocation)),
            Part::Delivery { experiment } => self
                .experiment_names
                .get(&*self.set.experiments[experiment].key),
            Part::Slot { layer, slot } | Part::SlotEnd { layer, slot } => {
                self.slot_places.get(&(layer, slot))
            }
            Part::Holdout { holdout } | Part::HoldoutEnd { holdout } => {
                self.holdout_names.get(&*self.set.holdouts[holdout].key)
            }
        }
        .cloned()
    }

    fn place_of_salt(&self, owner: &proofs::SaltOwner) -> Option<Place> {
        match owner {
            proofs::SaltOwner::Layer(key) => self.layer_names.get(&**key).cloned(),
            proofs::SaltOwner::Holdout(key) => self.holdout_names.get(&**key).cloned(),
            proofs::SaltOwner::Experiment(key) => self.experiment_names.get(&**key).cloned(),
        }
    }
}

fn flag_specs(sources: &[FlagSource]) -> impl Iterator<Item = (&Arc<str>, &FlagSpec)> {
    sources
        .iter()
        .flat_map(|source| source.spec.flags.iter().map(|flag| (&source.file, flag)))
}

fn register(
    names: &mut HashMap<String, Place>,
    diagnostics: &mut Vec<Diagnostic>,
    what: &str,
    file: &Arc<str>,
    key: &Spanned<String>,
) {
    let place = places::place(file, key);
    if key.value.is_empty() {
        let message = format!("the key of a {what} is empty");
        diagnostics.push(
            Diagnostic::error(Code::E0109, message)
                .at(place)
                .hint("give it a name"),
        );
    } else if let Some(first) = names.get(&key.value) {
        let message = format!("two {what}s are named `{}`", key.value);
        let diagnostic = Diagnostic::error(Code::E0201, message)
            .at(place)
            .also(first.clone(), "the first is here");
        diagnostics.push(diagnostic.hint(format!("rename one {what}, or remove it")));
    } else {
        names.insert(key.value.clone(), place);
    }
}
