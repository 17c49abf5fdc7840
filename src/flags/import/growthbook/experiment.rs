//! GrowthBook's experiments: who is in, and with which variation.

use serde_json::{Map, Value as Json, json};

use super::hashing::{Range, choose_variation, get_bucket_ranges, hash, in_namespace, in_range};
use super::sticky::Remembered;
use super::{Evaluator, Source};
use crate::flags::import::javascript::{self, is_truthy};

/// An experiment as the features JSON has it.
#[derive(Clone, Debug, Default)]
pub struct Experiment(pub Map<String, Json>);

/// What an experiment gave a user.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentResult {
    pub key: String,
    pub name: Option<String>,
    pub feature: Option<String>,
    pub value: Json,
    pub variation: usize,
    pub is_in_experiment: bool,
    pub is_hash_used: bool,
    pub hash_attribute: String,
    pub hash_value: Json,
    pub bucket: Option<f64>,
    pub is_passthrough: bool,
    pub is_sticky: bool,
    /// The leaf, weights and version of a contextual bandit.
    pub bandit: Option<Json>,
}

/// Why a user is in no variation, as far as the result shows it.
enum Exclusion {
    Other,
    BlockedVersion,
}

struct Unit {
    attribute: String,
    value: Json,
}

impl Evaluator<'_> {
    /// Runs an experiment; with a feature's name when a rule of that feature runs it.
    pub fn run(&mut self, experiment: &Experiment, feature: Option<&str>) -> ExperimentResult {
        self.run_within(experiment, feature, &mut Vec::new())
    }

    pub(super) fn run_within(
        &mut self,
        experiment: &Experiment,
        feature: Option<&str>,
        stack: &mut Vec<String>,
    ) -> ExperimentResult {
        let experiment = &self.overridden(experiment);
        let chosen = self.chosen(experiment, stack);
        let result = |variation, is_hash_used, bucket, is_sticky| {
            self.result(
                experiment,
                feature,
                variation,
                is_hash_used,
                bucket,
                is_sticky,
            )
        };
        match chosen {
            Ok(Choice::Forced(variation)) => result(Some(variation), false, None, false),
            Ok(Choice::Hashed {
                variation,
                bucket,
                is_sticky,
            }) => {
                let result = result(Some(variation), true, Some(bucket), is_sticky);
                self.remember(experiment, &result);
                result
            }
            Err(Exclusion::Other) => result(None, false, None, false),
            Err(Exclusion::BlockedVersion) => result(None, false, None, true),
        }
    }

    fn overridden(&self, experiment: &Experiment) -> Experiment {
        let mut experiment = experiment.clone();
        if let Some(Json::Object(replaced)) = self.user.overrides.get(experiment.key()) {
            experiment.0.extend(replaced.clone());
        }
        experiment
    }

    /// The steps of the specification, in its order.
    fn chosen(
        &self,
        experiment: &Experiment,
        stack: &mut Vec<String>,
    ) -> Result<Choice, Exclusion> {
        if experiment.variations().len() < 2 || !self.user.is_enabled {
            return Err(Exclusion::Other);
        }
        if let Some(variation) = self.forced_by_hand(experiment) {
            return Ok(Choice::Forced(variation));
        }
        let is_draft = experiment.text("status") == Some("draft");
        if is_draft || experiment.0.get("active") == Some(&Json::Bool(false)) {
            return Err(Exclusion::Other);
        }
        let unit = self.unit(experiment).ok_or(Exclusion::Other)?;
        let remembered = self.remembered(experiment);
        if !matches!(remembered, Remembered::Variation(_))
            && !self.is_eligible(experiment, &unit, stack)
        {
            return Err(Exclusion::Other);
        }
        self.hashed(experiment, &unit, remembered)
    }

    fn hashed(
        &self,
        experiment: &Experiment,
        unit: &Unit,
        remembered: Remembered,
    ) -> Result<Choice, Exclusion> {
        let bucket = hash(
            &experiment.seed(),
            &javascript::text(&unit.value),
            experiment.hash_version(),
        )
        .ok_or(Exclusion::Other)?;
        let (variation, is_sticky) = match remembered {
            Remembered::Blocked => return Err(Exclusion::BlockedVersion),
            Remembered::Variation(variation) => (Some(variation), true),
            Remembered::Nothing => (choose_variation(bucket, &experiment.ranges()), false),
        };
        let variation = variation.ok_or(Exclusion::Other)?;
        if let Some(forced) = experiment.0.get("force") {
            return index(forced).map(Choice::Forced).ok_or(Exclusion::Other);
        }
        if self.user.is_qa || experiment.text("status") == Some("stopped") {
            return Err(Exclusion::Other);
        }
        Ok(Choice::Hashed {
            variation,
            bucket,
            is_sticky,
        })
    }

    fn forced_by_hand(&self, experiment: &Experiment) -> Option<usize> {
        let count = experiment.variations().len();
        query_override(experiment.key(), &self.user.url, count).or_else(|| {
            let forced = self.user.forced_variations.get(experiment.key())?;
            Some(index(forced).unwrap_or(usize::MAX))
        })
    }

    /// Filters or a namespace, the condition, and other features.
    fn is_eligible(&self, experiment: &Experiment, unit: &Unit, stack: &mut Vec<String>) -> bool {
        let is_inside = match (experiment.0.get("filters"), experiment.namespace()) {
            (Some(filters), _) => self.passes_filters(filters),
            (None, Some((name, range))) => {
                in_namespace(&javascript::text(&unit.value), name, range)
            }
            (None, None) => true,
        };
        let condition = experiment
            .0
            .get("condition")
            .filter(|condition| is_truthy(condition));
        is_inside
            && condition.is_none_or(|condition| self.passes(condition))
            && experiment
                .list("parentConditions")
                .iter()
                .all(|parent| self.parent_passes(parent, stack))
    }

    fn parent_passes(&self, parent: &Json, stack: &mut Vec<String>) -> bool {
        let id = parent["id"].as_str().unwrap_or_default();
        let depth = stack.len();
        let result = Evaluator::new(self.payload, self.user.clone()).feature_within(id, stack);
        stack.truncate(depth);
        result.source != Source::CyclicPrerequisite && self.value_passes(&result.value, parent)
    }

    /// Whether every filter has the user in one of its ranges.
    pub(super) fn passes_filters(&self, filters: &Json) -> bool {
        filters
            .as_array()
            .is_none_or(|filters| filters.iter().all(|filter| self.passes_filter(filter)))
    }

    fn passes_filter(&self, filter: &Json) -> bool {
        let Some(unit) = self.attribute(filter["attribute"].as_str(), None) else {
            return false;
        };
        let version = filter["hashVersion"]
            .as_f64()
            .filter(|version| *version != 0.0)
            .unwrap_or(2.0);
        let bucket = hash(
            &javascript::text(&filter["seed"]),
            &javascript::text(&unit.value),
            version,
        );
        bucket.is_some_and(|bucket| {
            ranges(&filter["ranges"])
                .iter()
                .any(|range| in_range(bucket, *range))
        })
    }

    /// The attribute that is hashed, or the one that stands in for it.
    fn attribute(&self, name: Option<&str>, fallback: Option<&str>) -> Option<Unit> {
        let names = [
            Some(name.filter(|name| !name.is_empty()).unwrap_or("id")),
            fallback,
        ];
        names.into_iter().flatten().find_map(|name| {
            let value = self
                .user
                .attributes
                .get(name)
                .filter(|value| is_truthy(value))?;
            Some(Unit {
                attribute: name.to_owned(),
                value: value.clone(),
            })
        })
    }

    fn unit(&self, experiment: &Experiment) -> Option<Unit> {
        let fallback = experiment
            .text("fallbackAttribute")
            .filter(|_| self.keeps(experiment));
        self.attribute(experiment.text("hashAttribute"), fallback)
    }

    /// Whether a rollout has the user: by range, or by coverage.
    pub(super) fn is_rolled_out(&self, rule: &Experiment, feature: &str) -> bool {
        let range = rule.0.get("range").and_then(range);
        let coverage = rule.0.get("coverage").and_then(Json::as_f64);
        if range.is_none() && coverage.is_none_or(|coverage| coverage == 0.0) {
            return coverage.is_none();
        }
        let Some(unit) = self.unit(rule) else {
            return false;
        };
        let seed = rule.seed_or(feature);
        let bucket = hash(&seed, &javascript::text(&unit.value), rule.hash_version());
        bucket.is_some_and(|bucket| match (range, coverage) {
            (Some(range), _) => in_range(bucket, range),
            (None, Some(coverage)) => bucket <= coverage,
            (None, None) => true,
        })
    }

    fn keeps(&self, experiment: &Experiment) -> bool {
        self.user.sticky.is_some()
            && !experiment
                .0
                .get("disableStickyBucketing")
                .is_some_and(is_truthy)
    }

    fn remembered(&self, experiment: &Experiment) -> Remembered {
        let Some(documents) = self.user.sticky.as_ref().filter(|_| self.keeps(experiment)) else {
            return Remembered::Nothing;
        };
        let names = ["hashAttribute", "fallbackAttribute"]
            .map(|field| experiment.text(field).unwrap_or("id"));
        let attributes: Vec<(&str, &Json)> = names
            .into_iter()
            .filter_map(|name| {
                Some((
                    name,
                    self.user
                        .attributes
                        .get(name)
                        .filter(|value| is_truthy(value))?,
                ))
            })
            .collect();
        let meta = experiment.list("meta");
        let keys: Vec<Option<&str>> = meta.iter().map(|meta| meta["key"].as_str()).collect();
        let version = |name| experiment.0.get(name).and_then(Json::as_u64).unwrap_or(0);
        documents.remembered(
            experiment.key(),
            version("bucketVersion"),
            version("minBucketVersion"),
            &attributes,
            &keys,
        )
    }

    fn remember(&mut self, experiment: &Experiment, result: &ExperimentResult) {
        if !self.keeps(experiment) {
            return;
        }
        let version = experiment
            .0
            .get("bucketVersion")
            .and_then(Json::as_u64)
            .unwrap_or(0);
        if let Some(documents) = &mut self.user.sticky {
            let attribute = (result.hash_attribute.as_str(), &result.hash_value);
            documents.remember(experiment.key(), version, attribute, &result.key);
        }
    }

    /// A variation that does not exist is the first one, outside the experiment.
    fn result(
        &self,
        experiment: &Experiment,
        feature: Option<&str>,
        variation: Option<usize>,
        is_hash_used: bool,
        bucket: Option<f64>,
        is_sticky: bool,
    ) -> ExperimentResult {
        let variations = experiment.variations();
        let valid = variation.filter(|variation| *variation < variations.len());
        let variation = valid.unwrap_or(0);
        let none = || Unit {
            attribute: experiment.text("hashAttribute").unwrap_or("id").to_owned(),
            value: json!(""),
        };
        let unit = self.unit(experiment).unwrap_or_else(none);
        let meta = experiment
            .list("meta")
            .get(variation)
            .cloned()
            .unwrap_or_default();
        let key = meta["key"]
            .as_str()
            .filter(|key| !key.is_empty())
            .map_or_else(|| variation.to_string(), str::to_owned);
        ExperimentResult {
            key,
            name: meta["name"]
                .as_str()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            feature: feature.map(str::to_owned),
            value: variations.get(variation).cloned().unwrap_or_default(),
            variation,
            is_in_experiment: valid.is_some(),
            is_hash_used,
            hash_attribute: unit.attribute,
            hash_value: unit.value,
            bucket,
            is_passthrough: is_truthy(&meta["passthrough"]),
            is_sticky,
            bandit: experiment
                .0
                .get("contextualBandit")
                .filter(|_| is_hash_used && valid.is_some())
                .cloned(),
        }
    }
}

enum Choice {
    Forced(usize),
    Hashed {
        variation: usize,
        bucket: f64,
        is_sticky: bool,
    },
}

impl Experiment {
    pub fn key(&self) -> &str {
        self.text("key").unwrap_or_default()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Json::as_str)
    }

    pub(super) fn list(&self, name: &str) -> &[Json] {
        self.0
            .get(name)
            .and_then(Json::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn variations(&self) -> &[Json] {
        self.list("variations")
    }

    fn seed(&self) -> String {
        self.seed_or(self.key())
    }

    /// A seed that is a number counts as it is written.
    fn seed_or(&self, fallback: &str) -> String {
        let stated = self
            .0
            .get("seed")
            .filter(|seed| javascript::is_truthy(seed));
        stated.map_or_else(|| fallback.to_owned(), javascript::text)
    }

    fn hash_version(&self) -> f64 {
        self.0
            .get("hashVersion")
            .and_then(Json::as_f64)
            .filter(|version| *version != 0.0)
            .unwrap_or(1.0)
    }

    fn ranges(&self) -> Vec<Range> {
        if let Some(stated) = self.0.get("ranges").filter(|stated| is_truthy(stated)) {
            return ranges(stated);
        }
        let weights: Option<Vec<f64>> = self
            .0
            .get("weights")
            .and_then(Json::as_array)
            .map(|weights| weights.iter().map(javascript::number).collect());
        let coverage = self.0.get("coverage").and_then(Json::as_f64).unwrap_or(1.0);
        get_bucket_ranges(self.variations().len(), coverage, weights.as_deref())
    }

    fn namespace(&self) -> Option<(&str, Range)> {
        match self.list("namespace") {
            [name, start, end] => Some((name.as_str()?, (start.as_f64()?, end.as_f64()?))),
            _ => None,
        }
    }
}

impl ExperimentResult {
    /// The result as GrowthBook's SDKs report it.
    pub fn to_json(&self) -> Json {
        let mut json = json!({
            "key": self.key,
            "featureId": self.feature,
            "inExperiment": self.is_in_experiment,
            "hashUsed": self.is_hash_used,
            "variationId": self.variation,
            "value": self.value,
            "hashAttribute": self.hash_attribute,
            "hashValue": self.hash_value,
            "stickyBucketUsed": self.is_sticky,
        });
        if let Some(name) = &self.name {
            json["name"] = json!(name);
        }
        if let Some(bucket) = self.bucket {
            json["bucket"] = json!(bucket);
        }
        if self.is_passthrough {
            json["passthrough"] = json!(true);
        }
        for field in ["leafId", "variationWeights", "banditVersion"] {
            if let Some(value) = self.bandit.as_ref().and_then(|bandit| bandit.get(field)) {
                json[field] = value.clone();
            }
        }
        json
    }
}

fn range(value: &Json) -> Option<Range> {
    match value.as_array()?.as_slice() {
        [start, end, ..] => Some((start.as_f64()?, end.as_f64()?)),
        _ => None,
    }
}

fn ranges(value: &Json) -> Vec<Range> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(range)
        .collect()
}

fn index(value: &Json) -> Option<usize> {
    value.as_u64().and_then(|index| usize::try_from(index).ok())
}

/// A variation chosen in the address: `?experiment=1`.
fn query_override(key: &str, url: &str, count: usize) -> Option<usize> {
    let query = url.split('?').nth(1)?.split('#').next()?;
    let value = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)?
        .1;
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|variation| *variation < count)
}
