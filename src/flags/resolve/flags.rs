//! Flags: variants, prerequisites, forced units and rules.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::places::place;
use super::splits::grown;
use super::{FlagSource, Resolver};
use crate::diagnostics::{Code, Diagnostic, did_you_mean};
use crate::flags::set::{Flag, Outcome, Prerequisite, Rollout, Rule, Split, ValueType, Variant};
use crate::flags::spec::{FlagSpec, Ordered, PrerequisiteSpec, RolloutSpec, RuleSpec};
use crate::flags::targeting::Predicate;

impl Resolver {
    /// A flag without rules and prerequisites, which may refer to flags that come later.
    pub fn flag_shell(&mut self, file: &Arc<str>, spec: &FlagSpec) -> Option<Flag> {
        let Some(kind) = ValueType::parse(&spec.kind.value) else {
            let message = format!(
                "unknown type `{}` of the flag `{}`",
                spec.kind.value, spec.key.value
            );
            let hint = "write boolean, string, integer, float or object";
            self.error(Code::E0106, &place(file, &spec.kind), message, hint);
            return None;
        };
        let variants = self.variants(file, kind, &spec.variants);
        let default = self.default_variant(file, spec, &variants)?;
        Some(Flag {
            key: spec.key.value.as_str().into(),
            description: spec.description.as_deref().map(Box::from),
            owner: spec.owner.as_deref().map(Box::from),
            kind,
            is_enabled: self.is_enabled(file, spec.state.as_ref()),
            forced: self.forced(file, spec, &variants),
            variants,
            default,
            prerequisites: Vec::new(),
            rules: Vec::new(),
            metadata: self.metadata(file, spec),
        })
    }

    /// No default variant is the value in the code; nothing at all is an unknown name.
    fn default_variant(
        &mut self,
        file: &Arc<str>,
        spec: &FlagSpec,
        variants: &[Variant],
    ) -> Option<Option<usize>> {
        let Some(name) = &spec.default_variant else {
            return Some(None);
        };
        let found = variants
            .iter()
            .position(|variant| *variant.key == *name.value);
        if found.is_none() {
            let hint = did_you_mean(&name.value, spec.variants.keys());
            let message = format!(
                "the default variant `{}` is not among the variants",
                name.value
            );
            self.error(Code::E0207, &place(file, name), message, hint);
        }
        found.map(Some)
    }

    pub fn flags(&mut self, source: &FlagSource) {
        for spec in &source.spec.flags {
            if self.flag_names.get(&spec.key.value) != Some(&place(&source.file, &spec.key)) {
                continue;
            }
            let Some(index) = self
                .set
                .flags
                .iter()
                .position(|flag| *flag.key == *spec.key.value)
            else {
                continue;
            };
            self.prerequisites(&source.file, index, spec);
            self.rules(&source.file, index, spec);
        }
    }

    fn variants(
        &mut self,
        file: &Arc<str>,
        kind: ValueType,
        spec: &Ordered<serde_json::Value>,
    ) -> Vec<Variant> {
        let mut variants: Vec<Variant> = Vec::new();
        for (key, value) in spec.iter() {
            if variants.iter().any(|variant| *variant.key == *key.value) {
                let message = format!("two variants are named `{}`", key.value);
                self.error(
                    Code::E0201,
                    &place(file, key),
                    message,
                    "give every variant its own name",
                );
            } else if !kind.accepts(value) {
                let message = format!(
                    "the value of `{}` is no {}: {value}",
                    key.value,
                    kind.name()
                );
                self.error(
                    Code::E0104,
                    &place(file, key),
                    message,
                    "all variants have the type of the flag",
                );
            }
            variants.push(Variant {
                key: key.value.as_str().into(),
                value: value.clone(),
            });
        }
        variants
    }

    fn is_enabled(&mut self, file: &Arc<str>, spec: Option<&Spanned<String>>) -> bool {
        match spec.map(|state| (state, state.value.to_ascii_lowercase())) {
            None => true,
            Some((_, state)) if state == "enabled" => true,
            Some((_, state)) if state == "disabled" => false,
            Some((spec, _)) => {
                let message = format!("`state` cannot be `{}`", spec.value);
                self.error(
                    Code::E0106,
                    &place(file, spec),
                    message,
                    "write `enabled` or `disabled`",
                );
                false
            }
        }
    }

    fn forced(
        &mut self,
        file: &Arc<str>,
        spec: &FlagSpec,
        variants: &[Variant],
    ) -> HashMap<Box<str>, usize> {
        let mut forced = HashMap::new();
        for (name, units) in spec.forced.iter() {
            let Some(variant) = variants
                .iter()
                .position(|variant| *variant.key == *name.value)
            else {
                let hint = did_you_mean(&name.value, spec.variants.keys());
                self.error(
                    Code::E0207,
                    &place(file, name),
                    format!("unknown variant `{}`", name.value),
                    hint,
                );
                continue;
            };
            for unit in units {
                if forced
                    .insert(Box::from(unit.as_str()), variant)
                    .is_some_and(|other| other != variant)
                {
                    let message = format!("the unit `{unit}` is forced to two variants");
                    self.error(
                        Code::E0606,
                        &place(file, name),
                        message,
                        "force every unit once",
                    );
                }
            }
        }
        forced
    }

    fn metadata(
        &mut self,
        file: &Arc<str>,
        spec: &FlagSpec,
    ) -> serde_json::Map<String, serde_json::Value> {
        let metadata = spec.metadata.clone().unwrap_or_default();
        for (name, value) in &metadata {
            if value.is_object() || value.is_array() || value.is_null() {
                let message = format!("the metadata `{name}` is no boolean, number or string");
                self.error(
                    Code::E0104,
                    &place(file, &spec.key),
                    message,
                    "OpenFeature's metadata is flat",
                );
            }
        }
        metadata
    }

    fn prerequisites(&mut self, file: &Arc<str>, index: usize, spec: &FlagSpec) {
        for wanted in &spec.prerequisites {
            if let Some(prerequisite) = self.prerequisite(file, wanted) {
                self.set.flags[index].prerequisites.push(prerequisite);
                self.flag_places[index]
                    .prerequisites
                    .push(Some(place(file, &wanted.flag)));
            }
        }
    }

    fn prerequisite(&mut self, file: &Arc<str>, spec: &PrerequisiteSpec) -> Option<Prerequisite> {
        let Some(flag) = self
            .set
            .flags
            .iter()
            .position(|flag| *flag.key == *spec.flag.value)
        else {
            if !self.flag_names.contains_key(&spec.flag.value) {
                let hint =
                    did_you_mean(&spec.flag.value, self.flag_names.keys().map(String::as_str));
                self.error(
                    Code::E0207,
                    &place(file, &spec.flag),
                    format!("unknown flag `{}`", spec.flag.value),
                    hint,
                );
            }
            return None;
        };
        let found = self.set.flags[flag].variant(&spec.variant.value);
        if found.is_none() {
            let known: Vec<Box<str>> = self.set.flags[flag]
                .variants
                .iter()
                .map(|variant| variant.key.clone())
                .collect();
            let hint = did_you_mean(&spec.variant.value, known.iter().map(AsRef::as_ref));
            let message = format!(
                "`{}` has no variant `{}`",
                spec.flag.value, spec.variant.value
            );
            self.error(Code::E0207, &place(file, &spec.variant), message, hint);
        }
        found.map(|variant| Prerequisite { flag, variant })
    }

    fn rules(&mut self, file: &Arc<str>, index: usize, spec: &FlagSpec) {
        let mut ids: Vec<&str> = Vec::new();
        for rule in &spec.rules {
            let at = place(file, &rule.id);
            if ids.contains(&rule.id.value.as_str()) {
                let message = format!(
                    "two rules of `{}` are named `{}`",
                    spec.key.value, rule.id.value
                );
                self.error(
                    Code::E0201,
                    &at,
                    message,
                    "give every rule of a flag its own id",
                );
            }
            ids.push(&rule.id.value);
            if let Some(resolved) = self.rule(file, index, rule) {
                self.set.flags[index].rules.push(resolved);
                self.flag_places[index].rules.push(Some(at));
            }
        }
    }

    fn rule(&mut self, file: &Arc<str>, flag: usize, spec: &RuleSpec) -> Option<Rule> {
        let when = spec.when.as_ref().map(|when| self.predicate(file, when));
        let active = self.period(file, spec.active.as_ref());
        let falls_through = self.falls_through(file, spec);
        let outcome = self.outcome(file, flag, spec)?;
        let when = match when {
            Some(None) => return None,
            Some(when) => when,
            None => None,
        };
        Some(Rule {
            id: spec.id.value.as_str().into(),
            when,
            active,
            outcome,
            falls_through,
        })
    }

    fn predicate(&mut self, file: &Arc<str>, when: &Spanned<String>) -> Option<Predicate> {
        match Predicate::compile(&when.value, &self.set.schema) {
            Ok(predicate) => {
                let next = self.predicates.len();
                let number = self.predicates.entry(when.value.clone());
                let number = *number.or_insert(next);
                self.set.predicates = self.predicates.len();
                Some(predicate.numbered(number))
            }
            Err(error) => {
                let diagnostic =
                    Diagnostic::error(Code::E0408, error.message).at(place(file, when));
                self.diagnostics.push(match error.hint {
                    Some(hint) => diagnostic.hint(hint),
                    None => diagnostic,
                });
                None
            }
        }
    }

    fn falls_through(&mut self, file: &Arc<str>, spec: &RuleSpec) -> bool {
        match spec
            .otherwise
            .as_ref()
            .map(|otherwise| (otherwise, otherwise.value.as_str()))
        {
            None | Some((_, "default")) => false,
            Some((_, "next")) => true,
            Some((otherwise, other)) => {
                let message = format!("`otherwise` cannot be `{other}`");
                self.error(
                    Code::E0106,
                    &place(file, otherwise),
                    message,
                    "write `default` or `next`",
                );
                false
            }
        }
    }

    fn outcome(&mut self, file: &Arc<str>, flag: usize, spec: &RuleSpec) -> Option<Outcome> {
        match (&spec.serve, &spec.experiment, &spec.rollout) {
            (Some(variant), None, None) => {
                self.flag_variant(file, flag, variant).map(Outcome::Serve)
            }
            (None, Some(experiment), None) => self.experiment_outcome(file, flag, spec, experiment),
            (None, None, Some(rollout)) => self.rollout(file, flag, rollout).map(Outcome::Rollout),
            _ => {
                let message = format!("the rule `{}` does not do exactly one thing", spec.id.value);
                let hint = "give it one of `serve`, `experiment` and `rollout`";
                self.error(Code::E0606, &place(file, &spec.id), message, hint);
                None
            }
        }
    }

    fn flag_variant(
        &mut self,
        file: &Arc<str>,
        flag: usize,
        name: &Spanned<String>,
    ) -> Option<usize> {
        let found = self.set.flags[flag].variant(&name.value);
        if found.is_none() {
            let known: Vec<Box<str>> = self.set.flags[flag]
                .variants
                .iter()
                .map(|variant| variant.key.clone())
                .collect();
            let hint = did_you_mean(&name.value, known.iter().map(AsRef::as_ref));
            let message = format!(
                "`{}` has no variant `{}`",
                self.set.flags[flag].key, name.value
            );
            self.error(Code::E0207, &place(file, name), message, hint);
        }
        found
    }

    /// The flag needs a variant for each variant of the experiment: of the same name, or as the rule says.
    fn experiment_outcome(
        &mut self,
        file: &Arc<str>,
        flag: usize,
        spec: &RuleSpec,
        name: &Spanned<String>,
    ) -> Option<Outcome> {
        let Some(experiment) = self.experiment_index.get(&name.value).copied() else {
            let (message, hint) = if self.experiment_names.contains_key(&name.value) {
                let hint = "give it `allocations`, or take the rule away".to_owned();
                (
                    format!(
                        "the experiment `{}` has no allocation to deliver",
                        name.value
                    ),
                    hint,
                )
            } else {
                let hint = did_you_mean(
                    &name.value,
                    self.experiment_names.keys().map(String::as_str),
                );
                (format!("unknown experiment `{}`", name.value), hint)
            };
            self.error(Code::E0207, &place(file, name), message, hint);
            return None;
        };
        let wanted = self.set.experiments[experiment].variants.clone();
        let variants: Option<Vec<usize>> = wanted
            .iter()
            .map(|variant| {
                let mapped = spec.variants.get(variant).cloned();
                let own = mapped.unwrap_or_else(|| {
                    Spanned::new(variant.to_string(), name.referenced, name.defined)
                });
                self.flag_variant(file, flag, &own)
            })
            .collect();
        variants.map(|variants| Outcome::Experiment {
            experiment,
            variants,
        })
    }

    fn rollout(&mut self, file: &Arc<str>, flag: usize, spec: &RolloutSpec) -> Option<Rollout> {
        let unit = spec
            .unit
            .as_ref()
            .map_or(Some(0), |unit| self.unit(file, unit))?;
        let algorithm = self.algorithm(file, spec.algorithm.as_ref());
        let buckets = self.buckets(file, algorithm, spec.buckets.as_ref());
        let variants = self.set.flags[flag].variants.clone();
        let names: Vec<&str> = variants.iter().map(|variant| &*variant.key).collect();
        let split = match (&spec.split, &spec.weights) {
            (Some(split), None) if spec.percent.is_none() => {
                self.written_split(file, buckets, split, &names)
            }
            (None, Some(weights)) => {
                let percent = spec.percent.as_ref().map_or(100.0, |percent| percent.value);
                let fraction = self.percentage(&place(file, &spec.salt), percent)?;
                let shares = self.shares(file, weights, &names)?;
                grown(
                    &Split {
                        buckets,
                        ranges: Vec::new(),
                    },
                    fraction,
                    &shares,
                )
            }
            _ => {
                let message = "the rollout says in no single way how to split";
                self.error(
                    Code::E0606,
                    &place(file, &spec.salt),
                    message,
                    "give it `split`, or `weights` and `percent`",
                );
                return None;
            }
        };
        Some(Rollout {
            unit,
            algorithm,
            salt: spec.salt.value.as_str().into(),
            split,
        })
    }
}
