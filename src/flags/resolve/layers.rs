//! Layers and holdouts: who shares units with whom, and who is kept out of everything.

use std::sync::Arc;

use super::places::place;
use super::{FlagSource, Resolver};
use crate::diagnostics::{Code, did_you_mean};
use crate::flags::bucketing::Algorithm;
use crate::flags::set::{HELD_OUT, Holdout, Layer, MEASURED, Slot, Split};
use crate::flags::spec::{HoldoutSpec, LayerSpec, SlotSpec};

impl Resolver {
    pub fn holdouts(&mut self, source: &FlagSource) {
        for spec in &source.spec.holdouts {
            if self.holdout_names.get(&spec.key.value) == Some(&place(&source.file, &spec.key)) {
                self.one_holdout(&source.file, spec);
            }
        }
    }

    fn one_holdout(&mut self, file: &Arc<str>, spec: &HoldoutSpec) {
        let Some(unit) = self.unit(file, &spec.unit) else {
            return;
        };
        let algorithm = self.algorithm(file, spec.algorithm.as_ref());
        let mut split = Split {
            buckets: algorithm.buckets(),
            ranges: Vec::new(),
        };
        let held_out = &spec.buckets.holdout;
        self.add_ranges(
            &mut split,
            &place(file, held_out),
            &held_out.value,
            HELD_OUT,
        );
        if let Some(measured) = &spec.buckets.measured {
            self.add_ranges(
                &mut split,
                &place(file, measured),
                &measured.value,
                MEASURED,
            );
        }
        let active = self.period(file, spec.active.as_ref());
        self.holdout_index
            .insert(spec.key.value.clone(), self.set.holdouts.len());
        self.set.holdouts.push(Holdout {
            key: spec.key.value.as_str().into(),
            unit,
            algorithm,
            salt: spec.salt.value.as_str().into(),
            split,
            active,
        });
    }

    pub fn layers(&mut self, source: &FlagSource) {
        for spec in &source.spec.layers {
            if self.layer_names.get(&spec.key.value) == Some(&place(&source.file, &spec.key)) {
                self.layer(&source.file, spec);
            }
        }
    }

    fn layer(&mut self, file: &Arc<str>, spec: &LayerSpec) {
        let Some(unit) = self.unit(file, &spec.unit) else {
            return;
        };
        let algorithm = self.algorithm(file, spec.algorithm.as_ref());
        let index = self.set.layers.len();
        let mut slots = Vec::new();
        for slot in &spec.slots {
            if let Some(resolved) = self.slot(file, spec, slot, unit, algorithm) {
                let at = place(file, &slot.experiment);
                self.slot_places.insert((index, slots.len()), at);
                slots.push(resolved);
            }
        }
        self.set.layers.push(Layer {
            key: spec.key.value.as_str().into(),
            unit,
            algorithm,
            salt: spec.salt.value.as_str().into(),
            slots,
        });
    }

    fn slot(
        &mut self,
        file: &Arc<str>,
        layer: &LayerSpec,
        spec: &SlotSpec,
        unit: usize,
        algorithm: Algorithm,
    ) -> Option<Slot> {
        let name = &spec.experiment;
        let active = self.period(file, spec.active.as_ref());
        let Some(experiment) = self.experiment_index.get(&name.value).copied() else {
            if !self.experiment_names.contains_key(&name.value) {
                let hint = did_you_mean(
                    &name.value,
                    self.experiment_names.keys().map(String::as_str),
                );
                self.error(
                    Code::E0207,
                    &place(file, name),
                    format!("unknown experiment `{}`", name.value),
                    hint,
                );
            }
            // An experiment that is only analysed may reserve its part of a layer; nothing is delivered for it.
            return None;
        };
        self.check_layer_of(file, layer, spec, experiment, unit);
        self.set.experiments[experiment].layer = Some(self.set.layers.len());
        let mut split = Split {
            buckets: algorithm.buckets(),
            ranges: Vec::new(),
        };
        self.add_ranges(
            &mut split,
            &place(file, &spec.ranges),
            &spec.ranges.value,
            0,
        );
        let ranges = split
            .ranges
            .iter()
            .map(|range| (range.start, range.end))
            .collect();
        Some(Slot {
            experiment,
            ranges,
            active,
        })
    }

    fn check_layer_of(
        &mut self,
        file: &Arc<str>,
        layer: &LayerSpec,
        slot: &SlotSpec,
        experiment: usize,
        unit: usize,
    ) {
        let (name, at) = (&slot.experiment.value, place(file, &slot.experiment));
        let stated = self
            .experiment_layers
            .get(name)
            .map(|layer| layer.value.clone());
        if stated.as_deref() != Some(layer.key.value.as_str()) {
            let said = stated.map_or_else(
                || "names no layer".to_owned(),
                |stated| format!("names `{stated}`"),
            );
            let message = format!(
                "the layer `{}` has a slot for `{name}`, which {said}",
                layer.key.value
            );
            self.error(
                Code::E0604,
                &at,
                message,
                format!("write `layer: {}` in the experiment", layer.key.value),
            );
        }
        if self.set.experiments[experiment].unit != unit {
            let message = format!(
                "the layer `{}` splits another unit than `{name}` assigns",
                layer.key.value
            );
            self.error(
                Code::E0604,
                &at,
                message,
                "units of a layer and of its experiments must be the same",
            );
        }
    }

    /// Every experiment that names a layer needs a slot in it.
    pub fn check_slots(&mut self) {
        let mut names: Vec<&String> = self.experiment_layers.keys().collect();
        names.sort_unstable();
        let mut missing = Vec::new();
        for name in names {
            let layer = &self.experiment_layers[name];
            let has_slot = self.experiment_index.get(name).is_none_or(|index| {
                self.set.layers.iter().any(|known| {
                    *known.key == *layer.value
                        && known.slots.iter().any(|slot| slot.experiment == *index)
                })
            });
            if !self.layer_names.contains_key(&layer.value) {
                let hint = did_you_mean(&layer.value, self.layer_names.keys().map(String::as_str));
                missing.push((
                    Code::E0207,
                    layer.place.clone(),
                    format!("unknown layer `{}`", layer.value),
                    hint,
                ));
            } else if !has_slot {
                let message = format!("the layer `{}` has no slot for `{name}`", layer.value);
                let hint =
                    format!("add `{{experiment: {name}, ranges: [[..., ...]]}}` to its slots");
                missing.push((Code::E0604, layer.place.clone(), message, hint));
            }
        }
        for (code, place, message, hint) in missing {
            self.error(code, &place, message, hint);
        }
    }
}
