//! GrowthBook's features as its SDKs evaluate them (SDK specification 0.8).
//! In: the features JSON, the attributes of a user, optionally the user's sticky buckets. Out: the value of a feature
//! and the result of the experiment that gave it. Nothing is fetched, tracked or stored.

mod condition;
mod experiment;
mod feature;
mod hashing;
mod sticky;

pub use condition::eval_condition;
pub use experiment::{Experiment, ExperimentResult};
pub use feature::{FeatureResult, Source};
pub use hashing::{choose_variation, equal_weights, get_bucket_ranges, hash, in_namespace};
pub use sticky::StickyDocuments;

use serde_json::{Map, Value as Json};

/// What a GrowthBook server sends.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub features: Map<String, Json>,
    pub saved_groups: Map<String, Json>,
    pub contextual_bandits: Map<String, Json>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct User {
    pub attributes: Map<String, Json>,
    /// Variations chosen by hand, by experiment.
    pub forced_variations: Map<String, Json>,
    /// Parts of experiments replaced by hand.
    pub overrides: Map<String, Json>,
    pub url: String,
    pub is_enabled: bool,
    pub is_qa: bool,
    /// Present when first assignments are kept.
    pub sticky: Option<StickyDocuments>,
}

/// Evaluates features and experiments for one user; sticky buckets that are given out stay in it.
#[derive(Debug)]
pub struct Evaluator<'a> {
    payload: &'a Payload,
    user: User,
}

impl Payload {
    /// Reads the body of a features endpoint.
    pub fn read(body: &Json) -> Self {
        Self {
            features: object(body, "features"),
            saved_groups: object(body, "savedGroups"),
            contextual_bandits: object(body, "contextualBandits"),
        }
    }
}

impl User {
    pub fn new(attributes: Map<String, Json>) -> Self {
        Self {
            attributes,
            forced_variations: Map::new(),
            overrides: Map::new(),
            url: String::new(),
            is_enabled: true,
            is_qa: false,
            sticky: None,
        }
    }
}

impl<'a> Evaluator<'a> {
    pub fn new(payload: &'a Payload, user: User) -> Self {
        Self { payload, user }
    }

    /// The user with the sticky buckets given out so far.
    pub fn user(&self) -> &User {
        &self.user
    }

    fn passes(&self, condition: &Json) -> bool {
        eval_condition(
            &Json::Object(self.user.attributes.clone()),
            condition,
            &self.payload.saved_groups,
        )
    }
}

/// The object under a name, empty where there is none.
fn object(parent: &Json, name: &str) -> Map<String, Json> {
    parent
        .get(name)
        .and_then(Json::as_object)
        .cloned()
        .unwrap_or_default()
}
