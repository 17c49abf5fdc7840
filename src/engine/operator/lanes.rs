//! The plan compiled for the inner loop: which event feeds which number of a unit.
//! In: a [`MetricPlan`]. Out: [`Lanes`]. A lane is one number per unit: a measure over a window.

use std::collections::HashMap;

use crate::metrics::plan::{Aggregate, Maturity, Measure, MetricPlan, MetricStates};

pub const SECOND: i64 = 1_000_000;

/// Everything the inner loop looks up, by position.
pub struct Lanes {
    /// Code of each event name that matters.
    pub names: HashMap<String, u16>,
    pub windows: Vec<Window>,
    /// Aggregations per window and event code; the last code stands for every other event.
    pub feeds: Vec<Vec<Vec<Feed>>>,
    pub lanes: Vec<Lane>,
    pub metrics: Vec<MetricLanes>,
    /// Distinct window ends that a unit must reach to count; `None` counts always.
    pub classes: Vec<Option<i64>>,
    /// Entries of one cell: sums and products of all metrics.
    pub stride: usize,
    /// Measure and window of each lane.
    known: Vec<(Measure, usize)>,
}

/// Half-open, in microseconds from its anchor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub anchor: Anchor,
    pub start: i64,
    /// Without it, to the end of what is measured.
    pub end: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The unit's first assignment; ends with what the experiment measures.
    Assignment,
    /// The unit's first assignment, looking back.
    BeforeAssignment,
    /// The experiment's start, looking back.
    BeforePeriod,
}

/// One event feeds one lane.
#[derive(Clone, Copy)]
pub struct Feed {
    pub lane: u16,
    pub aggregate: Aggregate,
    pub value: Option<u16>,
}

/// What is done to a lane once all its events are in.
#[derive(Clone, Copy)]
pub struct Lane {
    /// Count that makes [`Aggregate::Any`] true; 0 for other aggregates.
    pub at_least: u32,
    /// What the aggregation starts from; a lane that stays there is 0.
    pub initial: f64,
    pub cap: f64,
}

pub struct MetricLanes {
    pub lanes: Vec<u16>,
    pub class: usize,
    /// Where its sums start in a cell; products follow.
    pub offset: usize,
}

impl Lanes {
    pub fn new(plan: &MetricPlan) -> Lanes {
        let mut compiled = Lanes {
            names: HashMap::new(),
            windows: Vec::new(),
            feeds: Vec::new(),
            lanes: Vec::new(),
            metrics: Vec::new(),
            classes: Vec::new(),
            stride: 0,
            known: Vec::new(),
        };
        for metric in &plan.metrics {
            compiled.add(metric);
        }
        compiled.feeds = compiled.feeds();
        compiled
    }

    fn add(&mut self, metric: &MetricStates) {
        let start = metric.window_start * SECOND;
        let end = metric.window_length.map(|length| start + length * SECOND);
        let window = self.window(Window {
            anchor: Anchor::Assignment,
            start,
            end,
        });
        let mut lanes: Vec<u16> = metric
            .measures()
            .map(|measure| self.lane(measure, window))
            .collect();
        if let Some(lookback) = metric.lookback {
            let anchor = if metric.lookback_before_period {
                Anchor::BeforePeriod
            } else {
                Anchor::BeforeAssignment
            };
            let before = self.window(Window {
                anchor,
                start: -lookback * SECOND,
                end: Some(0),
            });
            lanes.extend(metric.measures().map(|measure| self.lane(measure, before)));
        }
        let class = self.class(end.filter(|_| metric.maturity == Maturity::FullWindow));
        self.metrics.push(MetricLanes {
            lanes,
            class,
            offset: self.stride,
        });
        self.stride += metric.entries();
    }

    fn window(&mut self, window: Window) -> usize {
        position_or_push(&mut self.windows, window)
    }

    fn class(&mut self, end: Option<i64>) -> usize {
        position_or_push(&mut self.classes, end)
    }

    /// The lane of a measure over a window; metrics that need the same number share it.
    fn lane(&mut self, measure: &Measure, window: usize) -> u16 {
        if let Some(known) = self
            .known
            .iter()
            .position(|(other, at)| other == measure && *at == window)
        {
            return known as u16;
        }
        if let Some(event) = &measure.event {
            let next = self.names.len() as u16;
            self.names.entry(event.clone()).or_insert(next);
        }
        self.lanes.push(Lane {
            at_least: if measure.aggregate == Aggregate::Any {
                measure.at_least
            } else {
                0
            },
            initial: match measure.aggregate {
                Aggregate::Max => f64::NEG_INFINITY,
                Aggregate::Min => f64::INFINITY,
                _ => 0.0,
            },
            cap: measure.cap.unwrap_or(f64::INFINITY),
        });
        self.known.push((measure.clone(), window));
        self.known.len() as u16 - 1
    }

    fn feeds(&self) -> Vec<Vec<Vec<Feed>>> {
        let mut feeds = vec![vec![Vec::new(); self.names.len() + 1]; self.windows.len()];
        for (lane, (measure, window)) in self.known.iter().enumerate() {
            let value = measure.value.map(|value| value as u16);
            let feed = Feed {
                lane: lane as u16,
                aggregate: measure.aggregate,
                value,
            };
            match &measure.event {
                Some(event) => feeds[*window][usize::from(self.names[event])].push(feed),
                None => feeds[*window].iter_mut().for_each(|feeds| feeds.push(feed)),
            }
        }
        feeds
    }

    /// The code of an event's name; names that no measure asks for share one.
    pub fn code(&self, name: &str) -> u16 {
        self.names
            .get(name)
            .copied()
            .unwrap_or(self.names.len() as u16)
    }
}

fn position_or_push<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items
        .iter()
        .position(|known| *known == item)
        .unwrap_or_else(|| {
            items.push(item);
            items.len() - 1
        })
}
