//! GrowthBook's features: the first rule that gives a value, else the default.

use serde_json::{Map, Value as Json, json};

use super::experiment::{Experiment, ExperimentResult};
use super::hashing::equal_weights;
use super::{Evaluator, eval_condition};
use crate::flags::import::javascript::is_truthy;

/// The value of a feature and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureResult {
    pub value: Json,
    pub source: Source,
    pub rule: String,
    pub experiment: Option<Map<String, Json>>,
    pub experiment_result: Option<ExperimentResult>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    UnknownFeature,
    DefaultValue,
    Force,
    Experiment,
    Prerequisite,
    CyclicPrerequisite,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownFeature => "unknownFeature",
            Self::DefaultValue => "defaultValue",
            Self::Force => "force",
            Self::Experiment => "experiment",
            Self::Prerequisite => "prerequisite",
            Self::CyclicPrerequisite => "cyclicPrerequisite",
        }
    }
}

/// What the features required by a rule say about it.
enum Parents {
    Met,
    NotMet,
    Gate,
    Circle,
}

impl Evaluator<'_> {
    /// Evaluates a feature.
    pub fn feature(&mut self, id: &str) -> FeatureResult {
        self.feature_within(id, &mut Vec::new())
    }

    /// `stack` holds the features that led here.
    pub(super) fn feature_within(&mut self, id: &str, stack: &mut Vec<String>) -> FeatureResult {
        if stack.iter().any(|feature| feature == id) {
            return FeatureResult::plain(Json::Null, Source::CyclicPrerequisite, "");
        }
        let Some(feature) = self.payload.features.get(id) else {
            return FeatureResult::plain(Json::Null, Source::UnknownFeature, "");
        };
        stack.push(id.to_owned());
        let depth = stack.len();
        let rules = feature.get("rules").and_then(Json::as_array);
        for rule in rules.into_iter().flatten().filter_map(Json::as_object) {
            let result = self.rule(id, &Experiment(rule.clone()), stack);
            stack.truncate(depth);
            if let Some(result) = result {
                return result;
            }
        }
        let default = feature.get("defaultValue").cloned().unwrap_or_default();
        FeatureResult::plain(default, Source::DefaultValue, "")
    }

    fn rule(
        &mut self,
        id: &str,
        rule: &Experiment,
        stack: &mut Vec<String>,
    ) -> Option<FeatureResult> {
        match self.parents(rule, stack) {
            Parents::Met => {}
            Parents::NotMet => return None,
            Parents::Gate => {
                return Some(FeatureResult::plain(Json::Null, Source::Prerequisite, ""));
            }
            Parents::Circle => {
                return Some(FeatureResult::plain(
                    Json::Null,
                    Source::CyclicPrerequisite,
                    "",
                ));
            }
        }
        if rule
            .0
            .get("filters")
            .is_some_and(|filters| !self.passes_filters(filters))
        {
            return None;
        }
        let name = rule.text("id").unwrap_or_default();
        if let Some(value) = rule.0.get("force") {
            let condition = rule
                .0
                .get("condition")
                .filter(|condition| is_truthy(condition));
            let is_met = condition.is_none_or(|condition| self.passes(condition))
                && self.is_rolled_out(rule, id);
            return is_met.then(|| FeatureResult::plain(value.clone(), Source::Force, name));
        }
        let experiment = self.experiment_of(id, rule)?;
        let result = self.run_within(&experiment, Some(id), stack);
        (result.is_in_experiment && !result.is_passthrough).then(|| {
            let mut experiment = experiment.0;
            if result.bandit.is_none() {
                experiment.remove("contextualBandit");
            }
            FeatureResult {
                value: result.value.clone(),
                source: Source::Experiment,
                rule: name.to_owned(),
                experiment: Some(experiment),
                experiment_result: Some(result),
            }
        })
    }

    fn parents(&mut self, rule: &Experiment, stack: &mut Vec<String>) -> Parents {
        for parent in rule.list("parentConditions") {
            let depth = stack.len();
            let result = self.feature_within(parent["id"].as_str().unwrap_or_default(), stack);
            stack.truncate(depth);
            if result.source == Source::CyclicPrerequisite {
                return Parents::Circle;
            }
            if !self.value_passes(&result.value, parent) {
                return if is_truthy(&parent["gate"]) {
                    Parents::Gate
                } else {
                    Parents::NotMet
                };
            }
        }
        Parents::Met
    }

    pub(super) fn value_passes(&self, value: &Json, parent: &Json) -> bool {
        eval_condition(
            &json!({ "value": value }),
            &parent["condition"],
            &self.payload.saved_groups,
        )
    }

    /// The experiment that a rule describes.
    fn experiment_of(&self, id: &str, rule: &Experiment) -> Option<Experiment> {
        let variations = rule
            .0
            .get("contextualVariations")
            .or_else(|| rule.0.get("variations"))?;
        let mut experiment = Map::new();
        experiment.insert("variations".into(), variations.clone());
        let key = rule.text("key").filter(|key| !key.is_empty()).unwrap_or(id);
        experiment.insert("key".into(), json!(key));
        for field in COPIED {
            if let Some(value) = rule
                .0
                .get(*field)
                .filter(|value| is_truthy(value) || KEPT.contains(field))
            {
                experiment.insert((*field).into(), value.clone());
            }
        }
        if let Some(reference) = rule.text("contextualBanditRef") {
            self.apply_bandit(&mut experiment, reference);
        }
        Some(Experiment(experiment))
    }

    /// A contextual bandit takes the weights of the first leaf that the user matches, else those of the rule.
    fn apply_bandit(&self, experiment: &mut Map<String, Json>, reference: &str) {
        let Some(bandit) = self.payload.contextual_bandits.get(reference) else {
            return;
        };
        let leaves = bandit.get("contexts").and_then(Json::as_array);
        let leaf = leaves
            .into_iter()
            .flatten()
            .find(|leaf| self.passes(&leaf["condition"]));
        let count = experiment["variations"].as_array().map_or(0, Vec::len);
        let stated = experiment.get("weights").cloned();
        let (id, weights) = match leaf {
            Some(leaf) => (leaf["leafId"].clone(), leaf["weights"].clone()),
            None => (
                json!(-1),
                stated.unwrap_or_else(|| json!(equal_weights(count))),
            ),
        };
        if leaf.is_some() {
            experiment.insert("weights".into(), weights.clone());
        }
        let mut chosen = json!({"leafId": id, "variationWeights": weights});
        if let Some(version) = bandit.get("banditVersion") {
            chosen["banditVersion"] = version.clone();
        }
        experiment.insert("contextualBandit".into(), chosen);
    }
}

/// The fields of a rule that are the experiment's.
const COPIED: &[&str] = &[
    "coverage",
    "weights",
    "hashAttribute",
    "fallbackAttribute",
    "disableStickyBucketing",
    "bucketVersion",
    "minBucketVersion",
    "namespace",
    "meta",
    "ranges",
    "name",
    "phase",
    "seed",
    "hashVersion",
    "filters",
    "condition",
];

/// Of these also zero counts.
const KEPT: &[&str] = &["coverage", "bucketVersion", "minBucketVersion"];

impl FeatureResult {
    fn plain(value: Json, source: Source, rule: &str) -> Self {
        Self {
            value,
            source,
            rule: rule.to_owned(),
            experiment: None,
            experiment_result: None,
        }
    }

    /// The result as GrowthBook's SDKs report it.
    pub fn to_json(&self) -> Json {
        let is_on = is_truthy(&self.value);
        let mut json = json!({
            "value": self.value, "on": is_on, "off": !is_on, "source": self.source.name(), "ruleId": self.rule,
        });
        if let (Some(experiment), Some(result)) = (&self.experiment, &self.experiment_result) {
            json["experiment"] = Json::Object(experiment.clone());
            json["experimentResult"] = result.to_json();
        }
        json
    }
}
