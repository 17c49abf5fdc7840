//! The tracking plan: which metric events exist, with which properties, of which types, and whose they are.
//! In: the text of `events/*.yml`. Out: a [`TrackingPlan`] that checks events, or every problem of the files.
//! Finding and watching the files is left to the caller.
//!
//! ```yaml
//! events:
//!   - name: payment_visit
//!     description: A visit of the payment page.
//!     owner: team-checkout
//!     properties:
//!       is_success: {type: boolean, required: true}
//!       method: {type: string, one_of: [card, transfer]}
//!     other_properties: quarantine        # default: keep
//! ```

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::event::{self, Event, Field};
use super::schema::Table;
use super::time;

/// The planned events by name. An empty plan, that is no file, allows everything.
#[derive(Debug, Default)]
pub struct TrackingPlan {
    events: HashMap<String, PlannedEvent>,
}

impl TrackingPlan {
    /// Reads the files, each given as (path, text).
    ///
    /// # Errors
    /// Every problem found: not YAML, wrong shape, an event declared twice.
    pub fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TrackingPlan, Vec<PlanProblem>> {
        let (mut plan, mut problems) = (TrackingPlan::default(), Vec::new());
        for (path, text) in files {
            match serde_saphyr::from_str::<PlanSpec>(text) {
                Ok(spec) => spec
                    .events
                    .into_iter()
                    .for_each(|event| problems.extend(plan.add(path, event))),
                Err(error) => {
                    problems.push(PlanProblem::new(path, error.location(), error.to_string()))
                }
            }
        }
        if problems.is_empty() {
            Ok(plan)
        } else {
            Err(problems)
        }
    }

    /// Adds every way in which a metric event violates the plan to `violations`.
    pub fn check(&self, event: &Event<'_>, violations: &mut Vec<String>) {
        if self.events.is_empty() || event.table != Table::Metric {
            return;
        }
        let Some(name) = event.text("event_name") else {
            return;
        };
        match self.events.get(name.as_ref()) {
            Some(planned) => planned.check(event, violations),
            None => violations.push(format!("the tracking plan has no event `{name}`")),
        }
    }

    /// Number of planned events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn add(&mut self, path: &str, spec: EventSpec) -> Option<PlanProblem> {
        let EventSpec {
            name,
            owner,
            properties,
            other_properties,
            ..
        } = spec;
        let problem = |why: String| Some(PlanProblem::new(path, Some(name.referenced), why));
        if owner.trim().is_empty() {
            return problem(format!("the event `{}` has no owner", name.value));
        }
        if self.events.contains_key(&name.value) {
            return problem(format!("the event `{}` is declared twice", name.value));
        }
        let keeps_others = other_properties == OtherProperties::Keep;
        self.events.insert(
            name.value,
            PlannedEvent {
                properties: properties.into_iter().collect(),
                keeps_others,
            },
        );
        None
    }
}

/// What is wrong with a file of the plan, and where. Lines and columns from 1, 0 when unknown.
#[derive(Debug, PartialEq, Eq)]
pub struct PlanProblem {
    pub path: String,
    pub line: u64,
    pub column: u64,
    pub message: String,
}

impl PlanProblem {
    fn new(path: &str, location: Option<Location>, message: String) -> PlanProblem {
        let (line, column) =
            location.map_or((0, 0), |location| (location.line(), location.column()));
        PlanProblem {
            path: path.to_string(),
            line,
            column,
            message,
        }
    }
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}:{}:{}: {}",
            self.path, self.line, self.column, self.message
        )
    }
}

#[derive(Debug)]
struct PlannedEvent {
    properties: Vec<(String, PropertySpec)>,
    keeps_others: bool,
}

impl PlannedEvent {
    fn check(&self, event: &Event<'_>, violations: &mut Vec<String>) {
        let fields = event.properties();
        for (name, property) in &self.properties {
            violations.extend(property.violation(name, event.property(name, &fields)));
        }
        if !self.keeps_others {
            let others = fields
                .iter()
                .chain(&event.rest)
                .filter(|(name, _)| !self.plans(name));
            violations.extend(
                others.map(|(name, _): &Field<'_>| format!("the property `{name}` is not planned")),
            );
        }
    }

    fn plans(&self, name: &str) -> bool {
        self.properties.iter().any(|(planned, _)| planned == name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanSpec {
    events: Vec<EventSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventSpec {
    name: Spanned<String>,
    owner: String,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read so that a description is allowed; people read it in the file"
    )]
    description: String,
    #[serde(default)]
    properties: std::collections::BTreeMap<String, PropertySpec>,
    #[serde(default)]
    other_properties: OtherProperties,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertySpec {
    #[serde(rename = "type")]
    kind: PropertyType,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    one_of: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read so that a description is allowed; people read it in the file"
    )]
    description: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PropertyType {
    String,
    Number,
    Integer,
    Boolean,
    Timestamp,
    Object,
    Array,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum OtherProperties {
    #[default]
    Keep,
    Quarantine,
}

impl PropertySpec {
    fn violation(&self, name: &str, value: Option<&str>) -> Option<String> {
        let Some(raw) = value.filter(|raw| *raw != "null") else {
            return self
                .required
                .then(|| format!("the property `{name}` is missing"));
        };
        let (is_right, wanted) = self.kind.accepts(raw);
        if !is_right {
            return Some(format!("the property `{name}` is not {wanted}"));
        }
        if !self.one_of.is_empty()
            && event::text(raw).is_none_or(|text| !self.one_of.iter().any(|one| *one == text))
        {
            return Some(format!(
                "the property `{name}` is not one of {}",
                self.one_of.join(", ")
            ));
        }
        self.is_out_of_range(raw)
            .then(|| format!("the property `{name}` is out of range"))
    }

    fn is_out_of_range(&self, raw: &str) -> bool {
        let number = event::float(raw);
        let is_below = self
            .min
            .zip(number)
            .is_some_and(|(min, number)| number < min);
        is_below
            || self
                .max
                .zip(number)
                .is_some_and(|(max, number)| number > max)
    }
}

impl PropertyType {
    fn accepts(self, raw: &str) -> (bool, &'static str) {
        match self {
            PropertyType::String => (raw.starts_with('"'), "a string"),
            PropertyType::Number => (event::float(raw).is_some(), "a number"),
            PropertyType::Integer => (event::integer(raw).is_some(), "an integer"),
            PropertyType::Boolean => (event::boolean(raw).is_some(), "true or false"),
            PropertyType::Timestamp => (time::parse_json(raw).is_some(), "a time"),
            PropertyType::Object => (raw.starts_with('{'), "an object"),
            PropertyType::Array => (raw.starts_with('['), "an array"),
        }
    }
}
