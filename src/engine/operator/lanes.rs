//! The plan compiled for the inner loop: which event feeds which number of a unit.
//! In: a [`MetricPlan`]. Out: [`Lanes`]. A lane is one number per unit: a measure over a window.

use std::collections::HashMap;

use super::plan::{Aggregate, Maturity, Measure, MetricPlan};

pub const SECOND: i64 = 1_000_000;

/// Everything the inner loop looks up, by position.
pub struct Lanes {
    /// Code of each event name that matters.
    pub names: HashMap<String, u16>,
    pub windows: Vec<Window>,
    /// Aggregations per window and event code.
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

/// Microseconds from the first assignment, half-open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: i64,
    pub end: i64,
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
            let end = (metric.window_start + metric.window_length) * SECOND;
            let window = compiled.window(Window {
                start: metric.window_start * SECOND,
                end,
            });
            let mut lanes: Vec<u16> = metric
                .measures()
                .map(|measure| compiled.lane(measure, window))
                .collect();
            if let Some(lookback) = metric.lookback {
                let before = compiled.window(Window {
                    start: -lookback * SECOND,
                    end: 0,
                });
                lanes.extend(
                    metric
                        .measures()
                        .map(|measure| compiled.lane(measure, before)),
                );
            }
            let class = compiled.class((metric.maturity == Maturity::FullWindow).then_some(end));
            compiled.metrics.push(MetricLanes {
                lanes,
                class,
                offset: compiled.stride,
            });
            compiled.stride += metric.entries();
        }
        compiled.feeds = compiled.feeds();
        compiled
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
        let next = self.names.len() as u16;
        self.names.entry(measure.event.clone()).or_insert(next);
        let is_any = measure.aggregate == Aggregate::Any;
        self.lanes.push(Lane {
            at_least: if is_any { measure.at_least } else { 0 },
            cap: measure.cap.unwrap_or(f64::INFINITY),
        });
        self.known.push((measure.clone(), window));
        self.known.len() as u16 - 1
    }

    fn feeds(&self) -> Vec<Vec<Vec<Feed>>> {
        let mut feeds = vec![vec![Vec::new(); self.names.len()]; self.windows.len()];
        for (lane, (measure, window)) in self.known.iter().enumerate() {
            let value = measure.value.map(|value| value as u16);
            let feed = Feed {
                lane: lane as u16,
                aggregate: measure.aggregate,
                value,
            };
            feeds[*window][usize::from(self.names[&measure.event])].push(feed);
        }
        feeds
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
