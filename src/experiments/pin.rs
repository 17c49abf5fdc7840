//! The versions of metrics that experiments started with.
//! In: versions that were kept when newer ones were locked. Out: which version an experiment decides by, and which it shows beside it.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;

use super::experiment::{Experiment, Role};
use crate::metrics::{Metric, Metrics};

/// A kept version of a metric and the experiments that still count by it.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Its name carries the version, `net_revenue@1.0.0`, and its facts are kept ones.
    pub metric: Metric,
    pub experiments: BTreeSet<String>,
    /// The kept facts that it reads, by name, as SQL over sources and seeds.
    pub facts: Vec<(String, String)>,
}

/// One version of a metric that an experiment looks at.
#[derive(Debug)]
pub struct Used<'a> {
    pub metric: &'a Metric,
    pub role: Role,
    pub margin: Option<f64>,
    /// Whether the experiment decides by this version.
    pub is_decisive: bool,
}

impl Pin {
    /// Whether the experiment decides by this version of the metric.
    pub fn holds(&self, experiment: &str, metric: &str) -> bool {
        self.metric.plain_name() == metric && self.experiments.contains(experiment)
    }
}

/// How long after its end an experiment keeps its versions: its decision is made once its last day is complete.
const TIME_TO_DECIDE: i64 = 86_400;

impl Experiment {
    /// Whether it has started, and neither ended nor had a day to be decided.
    pub fn is_running(&self, now: NaiveDateTime) -> bool {
        let after = chrono::Duration::seconds(self.grace.seconds + TIME_TO_DECIDE);
        self.from <= now && self.until.is_none_or(|until| now < until + after)
    }

    /// Every version of every metric it looks at: the one it started with decides.
    pub fn used<'a>(&self, metrics: &'a Metrics, pins: &'a [Pin]) -> Vec<Used<'a>> {
        let mut all = vec![];
        for (name, role, margin) in self.metrics() {
            let pinned = pins.iter().find(|pin| pin.holds(&self.key, name));
            all.extend(pinned.map(|pin| Used {
                metric: &pin.metric,
                role,
                margin: self.margin_under(name, margin, &pin.metric),
                is_decisive: true,
            }));
            all.extend(metrics.get(name).map(|metric| Used {
                metric,
                role,
                margin,
                is_decisive: pinned.is_none(),
            }));
        }
        all
    }

    /// The margin that it says itself, or that of the metric's own version.
    fn margin_under(&self, name: &str, margin: Option<f64>, version: &Metric) -> Option<f64> {
        let guardrail = self
            .guardrails
            .iter()
            .find(|guardrail| guardrail.metric == name);
        match guardrail {
            Some(guardrail) if !guardrail.has_own_margin => version.margin,
            _ => margin,
        }
    }
}
